"""What holds for all commands: usage errors, bad request files, the version, the help of `batchrun` itself."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from batchrun.version import __version__
from tests.cli.commands import BATCHRUN, FAST, Command, Done, write_requests


@pytest.mark.smoke
def test_the_version_is_printed(batchrun: Command) -> None:
    assert batchrun("--version") == Done(0, f"batchrun, version {__version__}\n", "")


@pytest.mark.smoke
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
        (["simulator", "--fault-rate", "2"], "'2' is not a number, 0 to 1"),
    ],
)
@pytest.mark.smoke
def test_a_usage_error_names_what_is_wrong_and_exits_with_2(batchrun: Command, words: list[str], message: str) -> None:
    done = batchrun(*words)
    assert done.code == 2
    assert message.split("'")[-1] in done.err
    assert re.search(r"^Error: ", done.err, re.MULTILINE)
    assert done.err.startswith("Usage: batchrun")
    assert all(word in done.err for word in re.findall(r"'([^']+)'", message))


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


def test_a_reader_that_goes_away_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "requests.jsonl", 1)
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [*BATCHRUN, "validate", str(requests)]
    with os.fdopen(write_end, "wb") as nobody:
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
