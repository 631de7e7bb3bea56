"""`batchrun view`, as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
from click.testing import CliRunner

from batchrun.cli import view
from batchrun.cli.eval_options import ScoringOptions
from batchrun.cli.main import cli
from batchrun.cli.table_options import DataOptions
from batchrun.errors import UsageError
from batchrun.labelling.job_file import JobFile
from batchrun.results.files import open_locked
from batchrun.results.paths import ResultPaths
from batchrun.viewer.gold import Judge
from batchrun.viewer.guard import Guard
from tests.html.made import make_job
from tests.viewer.test_corrected_join import call, simulated


def viewed(*words: object) -> tuple[str, str, str]:
    """The address of `batchrun view`, its first page, and what it said until it was interrupted."""
    command = [sys.executable, "-m", "batchrun", "view", *map(str, words), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.removeprefix("page: ").strip()
        assert address.startswith("http://127.0.0.1:"), line
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        with opener.open(address, timeout=20) as page:
            assert page.url.endswith("/rows"), "the token is not in the address any more"
            shown = page.read().decode()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 0
    return address, shown, told


@pytest.mark.smoke
def test_view_serves_the_rows_until_it_is_interrupted(tmp_path: Path) -> None:
    results = make_job(tmp_path, 20)
    address, shown, told = viewed(results)
    assert "results.jsonl" in shown
    assert f'content="batchrun view {results} --no-open"' in shown, "what to type once it has ended"
    token = address.partition("token=")[2]
    assert token not in told
    assert all(token.encode() not in path.read_bytes() for path in tmp_path.iterdir()), "it is in no file"


@pytest.mark.parametrize("opens", [True, False])
def test_the_address_is_printed_and_opened_by_one_that_works_once(
    opens: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, guard = list[str](), Guard(1234)

    def open_browser(address: str) -> bool:
        opened.append(address)
        return opens

    monkeypatch.setattr("webbrowser.open", open_browser)
    view._tell(guard, view.ViewOptions(None, None, 0, True, None, None, False))
    assert opened == [], "--no-open"
    view._tell(guard, view.ViewOptions(None, None, 0, False, None, None, False))
    out, err = capsys.readouterr()
    assert out == f"page: {guard.address}\n" * 2
    assert ("no browser could be opened" in err) is not opens
    (address,) = opened
    assert guard.token not in address
    guard.admit(address.partition("token=")[2])


def test_view_says_what_it_cannot_show(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "batchrun", "view", str(tmp_path / "nothing.jsonl"), "--no-open"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "nothing.jsonl" in done.stderr


@pytest.mark.parametrize("is_first", [True, False])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, is_first: bool) -> None:
    pipe, results = tmp_path / "pipe", make_job(tmp_path, 5)
    os.mkfifo(pipe)
    files = (pipe, results) if is_first else (results, pipe)
    done = CliRunner().invoke(cli, ["view", *map(str, files), "--no-open"])
    assert isinstance(done.exception, UsageError)
    assert f"{pipe} is not a regular file" in str(done.exception)


@pytest.mark.parametrize("text", ["custom_id,text\nm1,hello\n", '{"custom_id": "r", "body": {}}\n'])
def test_a_file_without_results_is_refused(tmp_path: Path, text: str) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(text)
    done = CliRunner().invoke(cli, ["view", str(other), "--no-open"])
    assert isinstance(done.exception, UsageError)
    said = f"{other} contains no batchrun results; "
    assert str(done.exception) == f"{said}name the result file of batchrun run, or the folder of batchrun label"
    folder = tmp_path / "other.jsonl.job"
    folder.mkdir()
    done = CliRunner().invoke(cli, ["view", str(other), "--no-open"])
    assert str(done.exception) == f"{said}to look at its job, type: batchrun view {folder}"


def test_a_job_is_held_against_its_own_gold_and_shown_without_where_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = tmp_path / "out.csv.job", tmp_path / "data.csv"
    folder.mkdir()
    data.write_text("id,text,right\n" + "".join(f"r{number},text {number},a\n" for number in range(4)))
    requests, results = folder / "requests.jsonl", folder / "results.jsonl"
    asked = ("-p", "{{ text }}", "--id", "id", "--model", "gpt-4.1", "-s", "topic enum(a|b)")
    call("prepare", data, "-o", requests, *asked)
    simulated(requests, results)

    def judge(told: Path) -> Judge | None:
        with ExitStack() as files:
            scoring = ScoringOptions(None, None, (), (), None, "wrong")
            return view._judge(told, results, scoring, DataOptions(None, None, None), files)

    assert judge(folder) is None, "it has no gold"
    assert view.JobTable.of(folder) == view.JobTable()
    options = ("--yes", "--prefix=llm_")
    JobFile("data.csv", "0f", options, (), str(tmp_path), {}, {"topic": "right"}).write(folder / "job.toml")
    assert view.JobTable.of(folder) == view.JobTable(data, "llm_")
    assert judge(results) is None, "the file alone is not the job"
    assert judge(folder) is not None
    shown = viewed(folder)[1]
    assert "against gold" in shown
    assert ">right</th>" in shown, "the table of the job is there"
    data.unlink()
    assert view.JobTable.of(folder) == view.JobTable(None, "llm_")
    assert judge(folder) is None
    assert "shown without the right answers of the job" in capsys.readouterr().err


def test_a_review_is_not_drawn_while_a_run_has_still_to_write_rows(tmp_path: Path) -> None:
    results = make_job(tmp_path, 20)
    paths = ResultPaths.of(results)
    log = open_locked(paths.log)  # as a run has it
    assert log is not None
    with log:
        done = CliRunner().invoke(cli, ["view", str(results), "--review", "5", "--no-open"])
    assert isinstance(done.exception, UsageError)
    assert "start it once the run has ended" in str(done.exception)
    assert not paths.review.exists()
