"""The command line by exit code and exact message: usage, files, keys, prices, the screen, the next command."""

import contextlib
import json
import os
import pty
import re
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from batchrun.cli import main as cli
from batchrun.version import __version__

BATCHRUN = [sys.executable, "-m", "batchrun"]
FAST = ("--simulate", "--simulate-latency", "0")
ALL_DONE = "batchrun: nothing to send: all 3 lines have their result\n"


@dataclass
class Done:
    """A command that has ended."""

    code: object
    out: str
    err: str


class Command:
    """`batchrun` in this process: `main()` as the entry point calls it, in a directory of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str | Path, stdin: str = "") -> Done:
        self._monkeypatch.setattr(sys, "argv", ["batchrun", *map(str, words)])
        with tempfile.TemporaryFile("w+") as typed:
            typed.write(stdin)
            typed.seek(0)
            self._monkeypatch.setattr(sys, "stdin", typed)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        out, err = self._capsys.readouterr()
        return Done(ended.value.code, out, err)


@pytest.fixture
def batchrun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Command]:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return Command(monkeypatch, capsys)


def write_requests(path: Path, count: int = 3, **fields: object) -> Path:
    bodies = ({"model": "gpt-4.1", "input": f"question {i}", **fields} for i in range(count))
    lines = [json.dumps({"custom_id": f"r-{i}", "body": body}) for i, body in enumerate(bodies)]
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    return Path(write_requests(tmp_path / "requests.jsonl").name)


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


# ----------------------------------------------------------------------------------------- no command, help


def test_the_version_is_printed(batchrun: Command) -> None:
    assert batchrun("--version") == Done(0, f"batchrun, version {__version__}\n", "")


def test_without_arguments_the_help_is_shown_and_the_exit_code_is_2(batchrun: Command) -> None:
    done = batchrun()
    assert done.code == 2
    assert done.err.startswith("Usage: batchrun [OPTIONS] COMMAND [ARGS]...\n")
    assert "batchrun run requests.jsonl -o results.jsonl" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "No such command 'rnu'."),
        (["run"], "Missing argument 'REQUESTS'."),
        (["run", "requests.jsonl"], "Missing option '-o' / '--output'."),
        (["run", "requests.jsonl", "-o", "r", "--bogus"], "No such option '--bogus'."),
        (["run", "requests.jsonl", "-o", "r", "-c", "x"], "'x' is neither a number, nor auto"),
        (["run", "requests.jsonl", "-o", "r", "--changed", "maybe"], "'maybe' is not one of"),
        (["report", "absent.jsonl"], "File 'absent.jsonl' does not exist."),
        (["gateway", "--fault-rate", "2"], "is not in the range 0<=x<=1."),
    ],
)
def test_a_usage_error_names_what_is_wrong_and_exits_with_2(batchrun: Command, words: list[str], message: str) -> None:
    done = batchrun(*words)
    assert done.code == 2
    assert message.split("'")[-1] in done.err
    assert re.search(r"^Error: ", done.err, re.MULTILINE)
    assert done.err.startswith("Usage: batchrun")
    assert all(word in done.err for word in re.findall(r"'([^']+)'", message))


@pytest.mark.parametrize(
    ("words", "missing"),
    [(["--max-line-cost", "0.1"], "--max-cost"), (["--max-errors-on", "refused"], "--max-errors")],
)
def test_an_option_that_says_something_of_one_that_is_not_there_is_refused(
    batchrun: Command, words: list[str], missing: str
) -> None:
    done = batchrun("run", "requests.jsonl", "-o", "results.jsonl", *words)
    assert done.code == 2
    assert done.err.startswith(f"batchrun: {words[0]} says ")
    assert done.err.endswith(f"give {missing}, too\n")


def test_help_is_there_at_once() -> None:
    """≤ 0.15 s of processor time: what is heavy is imported by the command that needs it (best of five)."""
    script = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
    script += "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    command = [sys.executable, "-c", script, *BATCHRUN, "--help"]
    tries = (float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(5))
    assert any(used_s <= 0.15 for used_s in tries)


def test_help_imports_nothing_heavy() -> None:
    script = "import sys, batchrun, batchrun.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiohttp", "tqdm", "tenacity", "genai_prices", "uvloop", "orjson", "msgspec"} & set(loaded)


# -------------------------------------------------------------------------------- refused before it costs


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        ([], {}, "no address: set OPENAI_BASE_URL or pass --base-url https://…/v1 (or try --simulate)"),
        (["--base-url", "gateway.example/v1"], {}, "the base URL must look like https://gateway.example/v1"),
        (
            ["--base-url", "https://me:secret@gateway.example"],
            {},
            "the base URL of gateway.example must not hold a user, password, query or fragment",
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


def test_a_missing_request_file_is_named(batchrun: Command) -> None:
    expected = "batchrun: cannot read absent.jsonl: No such file or directory\n"
    assert batchrun("run", "absent.jsonl", "-o", "r.jsonl", *FAST) == Done(2, "", expected)
    assert batchrun("validate", "absent.jsonl") == Done(2, "", expected)


def test_the_first_20_problems_are_printed_and_the_rest_counted(batchrun: Command, tmp_path: Path) -> None:
    Path("bad.jsonl").write_text('{"model": "m"}\n' + "nonsense\n" * 22 + '{"input": "?"}\n')
    for words in (["run", "bad.jsonl", "-o", "r.jsonl", *FAST], ["validate", "bad.jsonl"]):
        done = batchrun(*words)
        assert (done.code, done.out) == (2, "")
        lines = done.err.splitlines()
        assert len(lines) == 21
        assert lines[0].startswith("bad.jsonl:2: not JSON (")
        assert lines[0].endswith("; write one JSON object a line")
        assert lines[-1] == "… and 3 more problems"
    assert not Path("r.jsonl").exists()


def test_a_file_that_is_not_batchruns_is_left_alone(batchrun: Command, requests: Path) -> None:
    Path("notes.txt").write_text('{"my": "notes"}\n')
    done = batchrun("run", requests, "-o", "notes.txt", *FAST)
    assert done.code == 2
    assert "notes.txt contains no batchrun results; choose another -o (or --overwrite to discard it)" in done.err
    assert batchrun("report", "notes.txt") == Done(2, "", "batchrun: notes.txt contains no batchrun results\n")
    assert Path("notes.txt").read_text() == '{"my": "notes"}\n'


def test_results_are_never_written_over_the_requests(batchrun: Command, requests: Path) -> None:
    expected = "batchrun: requests.jsonl holds the requests; choose another file for the results (-o)\n"
    assert batchrun("run", requests, "-o", requests, *FAST) == Done(2, "", expected)
    assert len(records(requests)) == 3


# ---------------------------------------------------------------------------------------------- validate


def test_validate_sums_up(batchrun: Command) -> None:
    lines = [
        {"custom_id": "a", "body": {"model": "gpt-4.1", "input": "hi", "stream": True}},
        {"model": "gpt-4.1", "input": "hi"},
        {"custom_id": "b", "url": "/v1/embeddings", "body": {"model": "text-embedding-3-small", "input": "hi"}},
    ]
    Path("requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    size = sum(len(json.dumps(line.get("body", line))) for line in lines)
    expected = (
        "requests.jsonl: 3 lines, all fit to send\n"
        "models: gpt-4.1 2, text-embedding-3-small 1\n"
        "endpoints: /v1/responses 2, /v1/embeddings 1\n"
        "streamed: 1\n"
        f"bodies: {size} bytes, roughly {size // 4} input tokens\n"
    )
    assert batchrun("validate", "requests.jsonl") == Done(0, expected, "")


def test_validate_reads_standard_input_and_knows_the_overrides(batchrun: Command) -> None:
    done = batchrun("validate", "-", "--model", "gpt-4.1", "--no-stream", stdin='{"input": "hi", "stream": true}\n')
    assert done.code == 0
    assert done.out.startswith("standard input: 1 lines, all fit to send\nmodels: gpt-4.1 1\n")
    assert "streamed: 0\n" in done.out
    refused = batchrun("validate", "-", stdin='{"input": "hi"}\n')
    expected = 'no "model"; write "model": "gpt-4.1" into the body, or pass --model NAME'
    assert refused == Done(2, "", f"standard input:1: {expected}\n")


def test_an_empty_file_is_no_job(batchrun: Command) -> None:
    expected = "standard input: no requests in it; write one JSON object a line\n"
    assert batchrun("validate", "-", stdin="\n \n") == Done(2, "", expected)


# --------------------------------------------------------------------------------------------------- run


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
    assert done.err.startswith("batchrun: going on: 3 of 5 lines have their result\n")
    assert len(records(Path("r.jsonl"))) == 5


def test_the_report_goes_where_it_is_wanted(batchrun: Command, requests: Path) -> None:
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST, "--report", "bill.json").code == 0
    assert json.loads(Path("bill.json").read_bytes())["lines"]["total"] == 3
    assert not Path("r.jsonl.report.json").exists()


def test_failed_lines_exit_with_1_and_the_next_command_sends_them_again(batchrun: Command, requests: Path) -> None:
    words = ["run", str(requests), "-o", "r.jsonl", *FAST, "--simulate-script", "convert; ok !"]
    done = batchrun(*words)
    assert done.code == 1
    assert "failed:      1 × convert_request_failed  e.g. 'r-" in done.err
    command = "next: batchrun run requests.jsonl -o r.jsonl --simulate --simulate-latency 0 "
    assert done.err.endswith(command + "--simulate-script 'convert; ok !' --retry-errors\n")
    assert batchrun(*words).err.startswith(ALL_DONE)
    again = batchrun(*words[:-2], "--retry-errors")
    assert again.code == 0
    assert again.err.startswith(
        "batchrun: 1 records were removed; their lines are sent again\nbatchrun: going on: 2 of 3 lines have their result\n"
    )


def test_a_refused_key_stops_the_job_with_3_and_leaves_every_line_to_do(batchrun: Command, requests: Path) -> None:
    done = batchrun("run", requests, "-o", "r.jsonl", *FAST, "--simulate-script", "badkey*", "-c", "1")
    assert done.code == 3
    assert "note: 3 still to do\n" in done.err
    assert re.search(
        r"^stopped: the gateway refuses the key \(HTTP 401 invalid_api_key: .*\); set a good one$", done.err, re.M
    )
    assert "--retry-errors" not in done.err.splitlines()[-1]
    assert done.err.splitlines()[-1].startswith("next: batchrun run requests.jsonl -o r.jsonl")
    assert Path("r.jsonl").read_bytes() == b""


def test_the_next_command_neither_starts_over_nor_shows_the_proxys_password(
    batchrun: Command, requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", str(requests), "-o", "r.jsonl", *FAST, "--simulate-script", "badkey*", "--overwrite"]
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


def test_a_reader_that_goes_away_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "requests.jsonl", 1)
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [*BATCHRUN, "validate", str(requests)]
    with os.fdopen(write_end, "wb") as nobody:
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


# ------------------------------------------------------------------------------------------- a terminal


class Terminal:
    """A command on a pseudo-terminal of a given width. Closed, it kills what still runs."""

    def __init__(self, *words: str | Path, cwd: Path, columns: int = 80) -> None:
        self._fd, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        self._process = subprocess.Popen(
            [*BATCHRUN, *map(str, words)], stdin=slave, stdout=slave, stderr=slave, cwd=cwd, start_new_session=True
        )
        os.close(slave)
        self.screen = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def read_until(self, text: str, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.screen:
            assert time.monotonic() < deadline, self.screen
            if not self._read():
                raise AssertionError(self.screen)

    def exit_code(self) -> int:
        while self._read():
            pass
        return self._process.wait(timeout=20)

    def _read(self) -> bool:
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            if piece := os.read(self._fd, 65536):
                self.screen += piece.decode()
                return True
        return False


def test_overwrite_asks_first_on_a_terminal(batchrun: Command, requests: Path, tmp_path: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    before = Path("r.jsonl").read_bytes()
    words = ("run", requests, "-o", "r.jsonl", *FAST, "--overwrite")
    for answer, code, changed in (("n\n", 2, False), ("\x04", 130, False), ("y\n", 0, True)):
        with Terminal(*words, cwd=tmp_path) as terminal:
            terminal.read_until("r.jsonl holds results; lose them and start over? [y/N]: ")
            terminal.type(answer)
            assert terminal.exit_code() == code
            assert ("batchrun: nothing was changed" in terminal.screen) is (code == 2)
        assert (Path("r.jsonl").read_bytes() != before) is changed


def test_a_terminal_shows_a_bar_and_then_the_bill(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "requests.jsonl", 6)
    words = ("run", requests, "-o", "r.jsonl", "--simulate", "--simulate-latency", "0.4", "-c", "2")
    with Terminal(*words, cwd=tmp_path) as terminal:
        assert terminal.exit_code() == 0
    assert re.search(r"\r[1-5]/6 +\d+%\|.*\| [\d.]+/s, ETA 00:0\d, \$0\.\d+ of ~\$0\.\d+, 2 in flight", terminal.screen)
    final = terminal.screen.index("6/6 100%|")
    assert terminal.screen.index("model    lines  ok") > final


# ----------------------------------------------------------------------------------- report and gateway


def test_report_makes_the_same_bill_from_the_file_alone(batchrun: Command, requests: Path) -> None:
    printed = batchrun("run", requests, "-o", "r.jsonl", *FAST).err
    written = Path("r.jsonl.report.json").read_text()
    assert batchrun("report", "r.jsonl") == Done(0, printed, "")
    assert batchrun("report", "r.jsonl", "--json") == Done(0, written, "")


def test_report_takes_the_users_prices(batchrun: Command, requests: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    Path("prices.json").write_text('{"gpt-4.1*": {"input": 1000000, "output": 0}}')
    made = json.loads(batchrun("report", "r.jsonl", "--prices", "prices.json", "--json").out)
    assert made["cost"]["total_usd"] == made["usage"]["input_tokens"]
    assert made["cost"]["price_source"] == "prices.json"


def test_report_counts_damaged_lines_beside_the_bill(batchrun: Command, requests: Path) -> None:
    printed = batchrun("run", requests, "-o", "r.jsonl", *FAST).err
    with Path("r.jsonl").open("ab") as results:
        results.write(b'\0\0\0\n{"id":"batch_req_')
    expected = "batchrun: 2 damaged lines in r.jsonl are not counted\n"
    assert batchrun("report", "r.jsonl") == Done(0, printed, expected)


def test_the_gateway_says_where_it_listens_and_a_taken_port_is_a_usage_error(batchrun: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = batchrun("gateway", "--port", str(port))
    why = "Address already in use; choose another --port (0 takes a free one)"
    assert done == Done(2, "", f"batchrun: cannot listen on port {port}: {why}\n")


def test_the_gateway_serves_until_it_is_interrupted() -> None:
    command = [*BATCHRUN, "gateway", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert re.fullmatch(r"listening: http://127\.0\.0\.1:\d+/v1\n", process.stdout.readline())
        process.terminate()
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--script", "429 oops"], "fault script: unknown word 'oops'"),
        (["--api-key-env", "ABSENT_KEY"], "--api-key-env ABSENT_KEY: there is no such variable"),
        (["--latency", "2", "--latency-p99", "1"], "latencies are not negative, and the p99 is not below the median"),
    ],
)
def test_a_gateway_that_cannot_be_is_refused(batchrun: Command, words: list[str], message: str) -> None:
    assert batchrun("gateway", *words) == Done(2, "", f"batchrun: {message}\n")
