"""`batchrun run`: what it refuses, what it writes and prints, the next command, the terminal."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import ALL_DONE, BATCHRUN, FAST, Command, Done, Terminal, records, write_requests


@pytest.mark.parametrize(
    ("words", "missing"),
    [(["--max-line-cost", "0.1"], "--max-cost"), (["--max-errors-on", "refused"], "--max-errors")],
)
def test_an_option_that_does_nothing_without_another_one_is_refused(
    batchrun: Command, words: list[str], missing: str
) -> None:
    done = batchrun("run", "requests.jsonl", "-o", "results.jsonl", *words)
    assert done.code == 2
    assert done.err == f"batchrun: {words[0]} does nothing without {missing}; pass {missing}, too\n"


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        (
            [],
            {"OPENAI_BASE_URL": ""},
            "OPENAI_BASE_URL is empty; set it to https://…/v1, or unset it to use the official API",
        ),
        (["--base-url", "gateway.example/v1"], {}, "the base URL must look like https://gateway.example/v1"),
        (
            ["--base-url", "https://me:secret@gateway.example"],
            {},
            "the base URL of gateway.example must not hold a user, password or fragment",
        ),
        (
            [],
            {"OPENAI_BASE_URL": "http://gateway.example"},
            "http:// would send the key to gateway.example in the clear; use https://, or --insecure-http if you must",
        ),
        (
            ["--base-url", "https://gateway.example"],
            {},
            "no key: set OPENAI_API_KEY, or name another variable (--api-key-env) or a file (--api-key-file)",
        ),
        (
            ["--base-url", "https://gateway.example", "--api-key-env", "OTHER_KEY"],
            {"OPENAI_API_KEY": "sk-canary"},
            "no key: set OTHER_KEY, or name another variable (--api-key-env) or a file (--api-key-file)",
        ),
        (["--base-url", "https://gateway.example"], {"OPENAI_API_KEY": " "}, "the key in $OPENAI_API_KEY is empty"),
        (
            ["--base-url", "https://gateway.example"],
            {"OPENAI_API_KEY": "sk-canary\nsk-canary"},
            "the key in $OPENAI_API_KEY holds a line break, a space or a non-ASCII character; set it again",
        ),
        (
            ["--base-url", "https://gateway.example", "--api-key-file", "absent"],
            {},
            "cannot read the key from absent: No such file or directory",
        ),
        (
            ["--base-url", "https://gateway.example", "--proxy", "socks5://me:secret@host"],
            {},
            "the proxy must look like http://proxy.example:3128",
        ),
        (
            ["--simulate", "--set", "temperature"],
            {},
            "--set temperature: write FIELD=JSON, e.g. temperature=0 or user='\"me\"'",
        ),
        (
            ["--simulate", "--set", "user=me"],
            {},
            "--set user=me: write FIELD=JSON, e.g. temperature=0 or user='\"me\"'",
        ),
        (["--simulate", "--set", "=1"], {}, "--set =1: write FIELD=JSON, e.g. temperature=0 or user='\"me\"'"),
        (
            ["--simulate", "--prices", "absent.toml"],
            {},
            "absent.toml: cannot read the price file: No such file or directory",
        ),
        (["--simulate", "--simulate-script", "429 oops"], {}, "fault script: unknown word 'oops'"),
        (["--simulate", "--report", "absent/r.json"], {}, "cannot write absent/r.json: there is no such directory"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    batchrun: Command,
    requests: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    environment: dict[str, str],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert batchrun("run", requests, "-o", "r.jsonl", *words) == Done(2, "", f"batchrun: {message}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"]


def test_bad_prices_name_the_file_the_entry_and_the_remedy(batchrun: Command, requests: Path) -> None:
    Path("prices.toml").write_text('["gpt-4.1"]\ninput = "2"\noutput = 8.0\n')
    expected = "batchrun: prices.toml: 'gpt-4.1': input must be a number without quotes, such as 2.00; it is '2'\n"
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST, "--prices", "prices.toml") == Done(2, "", expected)
    assert not Path("r.jsonl").exists()


def test_a_key_goes_to_a_private_address_in_the_clear_with_a_warning(
    batchrun: Command, requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://10.255.255.1:9")
    done = batchrun("run", requests, "-o", "r.jsonl")
    assert done.err.startswith("batchrun: warning: the key goes to 10.255.255.1 in the clear (http)\n")


def test_a_file_that_is_not_batchruns_is_left_alone(batchrun: Command, requests: Path) -> None:
    Path("notes.txt").write_text('{"my": "notes"}\n')
    done = batchrun("run", requests, "-o", "notes.txt", *FAST)
    assert done.code == 2
    assert "notes.txt contains no batchrun results; choose another -o (or --overwrite to discard it)" in done.err
    assert batchrun("report", "notes.txt") == Done(2, "", "batchrun: notes.txt contains no batchrun results\n")
    assert Path("notes.txt").read_text() == '{"my": "notes"}\n'


def test_results_are_never_written_over_the_requests(batchrun: Command, requests: Path) -> None:
    expected = "batchrun: requests.jsonl is the request file; choose another file for the results (-o)\n"
    assert batchrun("run", requests, "-o", requests, *FAST) == Done(2, "", expected)
    assert len(records(requests)) == 3


@pytest.mark.smoke
def test_a_run_writes_records_a_log_and_a_report_and_prints_the_bill(batchrun: Command, requests: Path) -> None:
    done = batchrun("run", requests, "-o", "r.jsonl", *FAST)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("model    lines  ok  failed  input")
    assert "next:" not in done.err
    assert sorted(record["custom_id"] for record in records(Path("r.jsonl"))) == ["r-0", "r-1", "r-2"]
    assert json.loads(Path("r.jsonl.report.json").read_bytes())["lines"]["succeeded"] == 3
    assert [event["event"] for event in records(Path("r.jsonl.log"))][-1] == "stop"


def test_a_finished_file_run_again_sends_nothing_and_says_so(batchrun: Command, requests: Path) -> None:
    first = batchrun("run", requests, "-o", "r.jsonl", *FAST)
    before = Path("r.jsonl").read_bytes()
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST) == Done(0, "", ALL_DONE + first.err)
    assert Path("r.jsonl").read_bytes() == before


def test_more_work_is_taken_up_with_a_word(batchrun: Command, requests: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    write_requests(requests, 5)
    done = batchrun("run", requests, "-o", "r.jsonl", *FAST)
    assert done.code == 0
    assert done.err.startswith("batchrun: resuming: 3 of 5 done\n")
    assert len(records(Path("r.jsonl"))) == 5


def test_the_report_goes_where_it_is_wanted(batchrun: Command, requests: Path) -> None:
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST, "--report", "bill.json").code == 0
    assert json.loads(Path("bill.json").read_bytes())["lines"]["total"] == 3
    assert not Path("r.jsonl.report.json").exists()


@pytest.mark.smoke
def test_failed_lines_exit_with_1_and_are_sent_again_when_asked_for(batchrun: Command, requests: Path) -> None:
    words = ["run", str(requests), "-o", "r.jsonl", *FAST, "--simulate-script", "convert; ok !"]
    done = batchrun(*words)
    assert done.code == 1
    assert "failed:      1 × convert_request_failed  e.g. 'r-" in done.err
    assert batchrun(*words).err.startswith(ALL_DONE)
    again = batchrun(*words[:-2], "--retry-errors")
    assert again.code == 0
    assert again.err.startswith("batchrun: 1 record removed; sending again: 1 line\nbatchrun: resuming: 2 of 3 done\n")


def test_a_refused_key_stops_the_job_with_3_and_leaves_every_line_to_do(batchrun: Command, requests: Path) -> None:
    done = batchrun("run", requests, "-o", "r.jsonl", *FAST, "--simulate-script", "badkey*", "-c", "1")
    assert done.code == 3
    assert "note: 3 still to do\n" in done.err
    assert re.search(
        r"^stopped: the gateway refuses the key \(HTTP 401 invalid_api_key: .*\); check your API key$", done.err, re.M
    )
    assert "--retry-errors" not in done.err.splitlines()[-1]
    assert done.err.splitlines()[-1].startswith("next: batchrun run requests.jsonl -o r.jsonl")
    assert Path("r.jsonl").read_bytes() == b""


def test_the_next_command_neither_starts_over_nor_shows_the_proxys_password(
    batchrun: Command, requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    nowhere = ("--base-url", "http://127.0.0.1:9", "--max-outage", "0.1")
    words = ["run", str(requests), "-o", "r.jsonl", *nowhere, "--overwrite"]
    for proxy in (["--proxy", "http://me:secret@127.0.0.1:9"], ["--proxy=http://me:secret@127.0.0.1:9"]):
        done = batchrun(*words, *proxy)
        last = done.err.splitlines()[-1]
        assert last.startswith("next: batchrun run requests.jsonl -o r.jsonl")
        assert "--overwrite" not in last
        assert "secret" not in done.err
        assert "secret" not in Path("r.jsonl.report.json").read_text()


def test_an_edited_line_is_refused_with_the_two_ways_out(batchrun: Command, requests: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    write_requests(requests, 3, max_output_tokens=64)
    done = batchrun("run", requests, "-o", "r.jsonl", *FAST)
    assert done.code == 2
    assert done.err == (
        "batchrun: requests.jsonl:1: 'r-0' was edited after its answer\n"
        "requests.jsonl:2: 'r-1' was edited after its answer\n"
        "requests.jsonl:3: 'r-2' was edited after its answer\n"
        "--changed resend sends such lines again, --changed keep keeps the answers to the old text\n"
    )
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST, "--changed", "keep").err.startswith(ALL_DONE)
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST, "--changed", "resend").code == 0
    assert {record["run"]["total_lines"] for record in records(Path("r.jsonl"))} == {3}
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST).err.startswith(ALL_DONE)


@pytest.mark.smoke
def test_requests_come_from_standard_input(batchrun: Command) -> None:
    done = batchrun("run", "-", "-o", "r.jsonl", *FAST, stdin='{"model": "gpt-4.1", "input": "hi"}\n')
    assert done.code == 0
    assert len(records(Path("r.jsonl"))) == 1


def test_results_go_to_standard_output_and_all_else_to_standard_error(batchrun: Command, requests: Path) -> None:
    done = batchrun("run", requests, "-o", "-", *FAST)
    assert done.code == 0
    assert sorted(json.loads(line)["custom_id"] for line in done.out.splitlines()) == ["r-0", "r-1", "r-2"]
    assert done.err.startswith("model ")
    assert [path.name for path in Path().iterdir()] == ["requests.jsonl"]


def test_no_next_command_where_nothing_can_be_resumed(batchrun: Command, requests: Path) -> None:
    done = batchrun("run", requests, "-o", "-", *FAST, "--simulate-script", "badkey*")
    assert done.code == 3
    assert "next:" not in done.err


def test_quiet_prints_nothing_but_why_it_stopped(batchrun: Command, requests: Path) -> None:
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST, "-q") == Done(0, "", "")
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST, "-q") == Done(0, "", "")
    done = batchrun("run", requests, "-o", "s.jsonl", *FAST, "-q", "--simulate-script", "badkey*", "-c", "1")
    assert done.code == 3
    assert done.err.startswith("batchrun: stopped: the gateway refuses the key (HTTP 401 ")
    assert len(done.err.splitlines()) == 1


def test_verbose_prints_a_line_for_every_failed_attempt(batchrun: Command) -> None:
    requests = write_requests(Path("requests.jsonl"), 1)
    words = ("run", requests, *FAST, "--simulate-script", "convert")
    line = "batchrun: line 1, attempt 1: HTTP 500 convert_request_failed: not implemented\n"
    assert line not in batchrun(*words, "-o", "quiet.jsonl").err
    assert batchrun(*words, "-o", "loud.jsonl", "-v").err.startswith(line)


def test_overwrite_starts_over(batchrun: Command, requests: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    started = records(Path("r.jsonl"))[0]["run"]["started"]
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST, "--overwrite").code == 0
    assert len(records(Path("r.jsonl"))) == 3
    assert records(Path("r.jsonl"))[0]["run"]["started"] > started


def test_a_script_ends_with_the_exit_code_of_main(tmp_path: Path) -> None:
    """The real process, not `main` called: nothing between `sys.exit` and the shell changes the code."""
    requests = write_requests(tmp_path / "requests.jsonl", 2)
    words = ["run", str(requests), "-o", str(tmp_path / "r.jsonl"), *FAST, "--simulate-script", "convert; ok"]
    done = subprocess.run([*BATCHRUN, *words], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_overwrite_asks_first_on_a_terminal(batchrun: Command, requests: Path, tmp_path: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    before = Path("r.jsonl").read_bytes()
    words = ("run", requests, "-o", "r.jsonl", *FAST, "--overwrite")
    for answer, code, changed in (("n\n", 2, False), ("\x04", 130, False), ("y\n", 0, True)):
        with Terminal(*words, cwd=tmp_path) as terminal:
            terminal.read_until("r.jsonl holds results; discard them and start over? [y/N]: ")
            terminal.type(answer)
            assert terminal.exit_code() == code
            assert ("batchrun: nothing was changed" in terminal.screen) is (code == 2)
        assert (Path("r.jsonl").read_bytes() != before) is changed


@pytest.mark.smoke
def test_a_terminal_shows_a_bar_and_then_the_bill(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "requests.jsonl", 6)
    words = ("run", requests, "-o", "r.jsonl", "--simulate", "--simulate-latency", "0.4", "-c", "2")
    with Terminal(*words, cwd=tmp_path) as terminal:
        assert terminal.exit_code() == 0
    assert re.search(r"\r[1-5]/6 +\d+%\|.*\| [\d.]+/s, ETA 00:0\d, \$0\.\d+ of ~\$0\.\d+, 2 in flight", terminal.screen)
    final = terminal.screen.index("6/6 100%|")
    assert terminal.screen.index("model    lines  ok") > final


@pytest.mark.parametrize(
    ("report", "what"),
    [
        ("r.jsonl", "the result file"),
        ("./r.jsonl", "the result file"),
        ("r.jsonl.log", "the run log"),
        ("r.jsonl.quarantine", "the quarantine file"),
        ("r.jsonl.rescue", "the rescue file"),
        ("r.jsonl.tune", "the tuning request"),
        ("requests.jsonl", "the request file"),
    ],
)
def test_a_report_never_takes_the_place_of_a_file_of_the_job(
    batchrun: Command, requests: Path, report: str, what: str
) -> None:
    """Paid answers were once overwritten by their own report."""
    before = requests.read_bytes()
    done = batchrun("run", requests, "-o", "r.jsonl", "--report", report, *FAST)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"--report {Path(report)} is {what}" in done.err
    assert (requests.read_bytes(), Path("r.jsonl").exists()) == (before, False)


def test_a_pilot_keeps_to_the_sample(batchrun: Command, tmp_path: Path) -> None:
    write_requests(tmp_path / "thirty.jsonl", 30)
    done = batchrun("run", "thirty.jsonl", "-o", "r.jsonl", "--pilot", "20", "--sample", "10", "--yes", *FAST)
    assert done.code == 0
    assert len(records(Path("r.jsonl"))) == 10


def test_a_pilot_that_ends_there_leaves_its_report(batchrun: Command, tmp_path: Path) -> None:
    write_requests(tmp_path / "thirty.jsonl", 30)
    done = batchrun("run", "thirty.jsonl", "-o", "r.jsonl", "--pilot", "10", *FAST)
    assert done.code == 3
    assert json.loads(Path("r.jsonl.report.json").read_bytes())["lines"]["succeeded"] == 10
    assert "attempts for these records: 10, " in done.err


def test_a_quiet_pilot_says_nothing(batchrun: Command, tmp_path: Path) -> None:
    write_requests(tmp_path / "thirty.jsonl", 30)
    done = batchrun("run", "thirty.jsonl", "-o", "r.jsonl", "--pilot", "10", "--yes", "-q", *FAST)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_what_is_reused_and_copied_is_told_and_the_bill_leaves_it_out(batchrun: Command) -> None:
    """`--reuse`, `--reuse-batch` and `--dedup` from the command line, with `next` and `estimate` beside them."""
    bodies = [{"model": "gpt-4.1", "input": f"question {number % 4}"} for number in range(8)]
    lines = [json.dumps({"custom_id": f"r-{number}", "body": body}) + "\n" for number, body in enumerate(bodies)]
    Path("old.jsonl").write_text("".join(lines[:2]))
    Path("new.jsonl").write_text("".join(lines))
    batchrun("run", "old.jsonl", "-o", "answers.jsonl", *FAST)
    done = batchrun("run", "new.jsonl", "-o", "results.jsonl", "--dedup", "--reuse", "answers.jsonl", *FAST)
    assert done.code == 0
    assert "2 to send, 2 reused from other results, 4 copied from equal lines" in done.err
    assert "4 copied from equal lines, 2 reused from other results (not sent, not in the bill: $" in done.err
    assert "8 lines, 8 records, 8 succeeded" in batchrun("verify", "new.jsonl", "results.jsonl").out
    assert "4 lines, 0 done, 4 to do" in batchrun("estimate", "new.jsonl", "--dedup").out
    refused = batchrun("run", "new.jsonl", "-o", "results.jsonl", "--reuse", "results.jsonl", *FAST)
    assert refused.code == 2
    assert "a file to reuse" in refused.err
