"""`batchrun report`."""

from __future__ import annotations

import html
import json
import subprocess
from pathlib import Path

import pytest

from batchrun.results.events import Start, encode_events
from batchrun.results.files import open_locked
from tests.cli.commands import FAST, Command, Done


@pytest.mark.smoke
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
    expected = "batchrun: skipped 2 damaged lines in r.jsonl\n"
    assert batchrun("report", "r.jsonl") == Done(0, printed, expected)


@pytest.mark.parametrize("name", ["r.jsonl", "-o my answers.jsonl", "it's.jsonl"])
@pytest.mark.parametrize("script", ["", "400; ok; ok"])
def test_the_command_that_shows_an_answer_works_as_printed(
    batchrun: Command, requests: Path, name: str, script: str
) -> None:
    done = batchrun("run", requests, f"--output={name}", *FAST, "-c", "1", "--simulate-script", script)
    line = next(line for line in done.err.splitlines() if line.startswith("answers: "))
    where, command = line.removeprefix("answers: ").split("; look at one: ")
    assert where == name
    shown = subprocess.run(command, shell=True, capture_output=True, encoding="utf-8", check=True)
    record = json.loads(shown.stdout)
    assert (record["error"], record["response"]["status_code"]) == (None, 200)
    assert len(shown.stdout.splitlines()) > 10, "for people to read"
    assert line in batchrun("report", "--", name).out.splitlines()


def test_without_an_answer_there_is_nothing_to_look_at(batchrun: Command, requests: Path) -> None:
    assert "answers:" not in batchrun("run", requests, "-o", "r.jsonl", *FAST, "--simulate-script", "400").err
    assert "answers:" not in batchrun("run", requests, "-o", "-", *FAST).err


# ------------------------------------------------------------------------------------------------ as a page


def test_a_page_is_written_beside_what_is_printed(batchrun: Command, requests: Path) -> None:
    printed = batchrun("run", requests, "-o", "r.jsonl", *FAST).err
    assert batchrun("report", "r.jsonl", "--html", "r.html") == Done(0, printed, "page: r.html\n")
    page = Path("r.html").read_text()
    assert "All 3 lines succeeded" in page
    assert "question 1" not in page
    assert batchrun("report", "r.jsonl", "--html", "r.html", "--with-text").code == 0, "a page may be replaced"
    assert "question 1" in Path("r.html").read_text()


def test_a_run_writes_its_page_with_the_words_that_it_prints(batchrun: Command, requests: Path) -> None:
    words = ("run", requests, "-o", "r.jsonl", "--html", "r.html", *FAST, "-c", "1", "--simulate-script", "400; ok; ok")
    done = batchrun(*words)
    assert done.code == 1
    page, lines = html.unescape(Path("r.html").read_text()), done.err.splitlines()
    assert lines[-1] == "page: r.html"
    told = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}
    assert told["next"] in page
    assert told["first"][1:] in page, "but for its capital"
    assert batchrun("report", "r.jsonl", "--html", "again.html").code == 0
    assert told["next"] in html.unescape(Path("again.html").read_text()), "from the report that the run left"


def test_a_run_goes_on_to_its_exit_code_where_the_page_cannot_be_made(
    batchrun: Command, requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".html":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("batchrun.results.files.replace_whole", full)
    done = batchrun("run", requests, "-o", "r.jsonl", "--html", "r.html", *FAST)
    assert done.code == 0
    assert done.err.splitlines()[-1] == (
        "batchrun: no page: cannot write r.html: No space left on device; "
        "`batchrun report r.jsonl --html FILE` makes it"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--html", "nowhere/r.html"), "cannot write nowhere/r.html: there is no such directory"),
        (("--html", "r.jsonl"), "--html r.jsonl is the result file; choose another --html FILE"),
        (("--html", "r.jsonl.log"), "--html r.jsonl.log is the run log; choose another --html FILE"),
        (("--html", "r.jsonl.report.json"), "--html r.jsonl.report.json is the report; choose another --html FILE"),
        (("--html", "requests.jsonl"), "requests.jsonl exists and is not a page of batchrun's; choose another --html"),
        (("--html", "."), "cannot write .: it is not a regular file"),
        (("--with-text",), "--with-text does nothing without --html; pass --html FILE, too"),
        (("--gold", "requests.jsonl"), "--gold is shown on the page; pass --html FILE, too, or use batchrun eval"),
        (("--html", "r.html", "--key", "id"), "--key needs --gold FILE"),
        (("--html", "r.html", "--gold", "none.csv"), "none.csv"),
    ],
)
def test_what_a_page_must_not_replace_and_options_that_do_nothing(
    batchrun: Command, requests: Path, words: tuple[str, ...], expected: str
) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    done = batchrun("report", "r.jsonl", *words)
    assert done.code == 2
    assert expected in done.err
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


def test_a_run_refuses_such_a_page_before_it_sends_anything(batchrun: Command, requests: Path) -> None:
    for words in (("-o", "r.jsonl", "--html", str(requests)), ("-o", "-", "--html", "r.html")):
        done = batchrun("run", requests, *words, *FAST)
        assert (done.code, done.out) == (2, "")
        assert "--html" in done.err
    assert not Path("r.jsonl").exists()


def test_gold_is_on_the_page(batchrun: Command, requests: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    Path("gold.csv").write_text("custom_id,answer\nr-0,x\nr-1,y\n")
    assert batchrun("report", "r.jsonl", "--html", "r.html", "--gold", "gold.csv").code == 0
    page = Path("r.html").read_text()
    assert "Right and wrong" in page
    assert "accuracy of the answered" in page


def test_the_page_has_no_secret(batchrun: Command, requests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where a gateway says it: the key is taken out of the record before."""
    canary = "sk-canary-0123456789abcdef"
    monkeypatch.setenv("OPENAI_API_KEY", canary)
    batchrun("run", requests, "-o", "r.jsonl", "--html", "r.html", "--with-text", *FAST)
    assert canary not in Path("r.html").read_text()


@pytest.mark.parametrize("name", ["r.jsonl", "-o my answers.jsonl"])
def test_of_a_running_job_it_says_so_and_what_shows_how_far_it_is(batchrun: Command, requests: Path, name: str) -> None:
    batchrun("run", requests, "--output", name, "--limit", "2", *FAST)
    log = open_locked(Path(f"{name}.log"))
    assert log is not None
    with log:
        printed = batchrun("report", "--html", "r.html", "--", name).out
    running = "the job was running when this was made; do not start it again while it runs"
    shows = "batchrun tune r.jsonl" if name == "r.jsonl" else "batchrun tune './-o my answers.jsonl'"
    assert printed.splitlines()[-2:] == [f"running: {running}", f"next: {shows}"]
    page = html.unescape(Path("r.html").read_text())
    assert f"; {running}." in page
    assert f"<pre>{shows}</pre>" in page
    assert "run the same command again" not in page


def test_of_no_record_it_says_how_many_lines_are_to_do_as_far_as_it_is_known(batchrun: Command) -> None:
    Path("r.jsonl").touch()
    told = "no run log says how many lines are to do"
    assert f"note: there are no records, and {told}\n" in batchrun("report", "r.jsonl", "--html", "r.html").out
    assert f"There are no records; {told}: run the command that makes these results." in Path("r.html").read_text()
    Path("r.jsonl.log").write_bytes(encode_events([Start(t=0.1, started="2026-01-02T03:04:05.678Z", lines=292)]))
    assert "note: 292 still to do\n" in batchrun("report", "r.jsonl", "--html", "r.html").out
    said = "0 of 292 lines succeeded, 292 are still to do; the bill is $0.00; run the same command again: it sends"
    assert said in Path("r.html").read_text()
