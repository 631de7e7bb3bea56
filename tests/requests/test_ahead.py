"""Another process prescans a large file: what is found is what this process would find, whatever ends the other."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import StopError
from batchrun.records.request import Overrides
from batchrun.requests import ahead, reader
from batchrun.requests.ahead import Ahead
from batchrun.requests.batches import Batch, batches
from batchrun.requests.reader import RequestFile
from batchrun.requests.survey import Survey
from tests.support import write_requests

LINES = 3000
LARGE = 1 << 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Some batches in a few groups, with blank lines and lines that a prescan leaves to the check."""
    path = write_requests(tmp_path / "requests.jsonl", LINES, instructions="x" * 1000)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[5:5] = [b"\n", b" \r\n"]
    lines[700] = lines[700].replace(b'"r-699"', '"Grüße"'.encode())
    lines[900] = b'{"model":"m","input":"bare"}\n'
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(lines).rstrip(b"\n"))
    return path


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any file is large, on two cores."""
    monkeypatch.setattr(ahead, "LEAST_BYTES", 1)
    monkeypatch.setattr(ahead, "_cores", lambda: 2)


Known = tuple[int, list[str], list[str], list[int]]
Expected = tuple[tuple[Survey, list[int]], list[Known]]


class Seen:
    """Notes what is prescanned, and how much of it by another process.

    All lines are known in some batches, 1 in 10 in others.
    """

    def __init__(self, then: Callable[[], None] = lambda: None, knows: str = "some") -> None:
        self.found: list[Known] = []
        self.by_other = 0
        self._then, self._knows = then, knows

    def known(self, batch: Batch) -> list[str]:
        ids, hashes, sizes = batch.prescan()
        self.found.append((batch.first, ids, hashes, list(sizes)))
        self.by_other += batch.prescanned is not None
        self._then()
        if self._knows == "nothing":
            return [""] * len(ids)
        is_all_known = batch.first % 2
        return [custom_id if is_all_known or custom_id.endswith("0") else "" for custom_id in ids]


def checked(path: Path, record_bytes: int, seen: Seen) -> tuple[Survey, list[int]]:
    """The survey of a file, and the lines to be sent once some are known."""
    with RequestFile(str(path)) as file:
        file.prescan_ahead(record_bytes)
        survey = file.check(None, seen.known)
        return survey, [line.line_number for line in file.requests()]


@pytest.fixture
def expected(path: Path) -> Expected:
    """What one process finds."""
    alone = Seen()
    found = checked(path, 0, alone)
    assert alone.by_other == 0
    return found, alone.found


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch, two: None) -> list[Ahead]:
    """The processes that are started."""
    found: list[Ahead] = []
    start = Ahead.__init__

    def noted(self: Ahead, *args: Any) -> None:
        start(self, *args)
        found.append(self)

    monkeypatch.setattr(Ahead, "__init__", noted)
    return found


def assert_gone(processes: list[Ahead]) -> None:
    (process,) = processes
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_it_finds_what_one_process_finds(path: Path, expected: Expected, processes: list[Ahead]) -> None:
    seen = Seen()
    assert (checked(path, LARGE, seen), seen.found) == expected
    assert seen.by_other == len(seen.found) > 16, "all of it, in more than one group"
    assert_gone(processes)


def test_it_is_killed_before_it_says_a_word(path: Path, expected: Expected, processes: list[Ahead]) -> None:
    seen = Seen()
    with RequestFile(str(path)) as file:
        file.prescan_ahead(LARGE)
        os.kill(processes[0].pid, 9)
        assert (file.check(None, seen.known), seen.found) == (expected[0][0], expected[1])
        assert [line.line_number for line in file.requests()] == expected[0][1]
    assert_gone(processes)


def test_it_is_killed_halfway(path: Path, expected: Expected, processes: list[Ahead]) -> None:
    def kill() -> None:
        process = processes[0]._process
        assert process.stdout is not None
        process.kill()
        if not process.stdout.closed:
            process.stdout.read()  # what it has said by now is not heard

    seen = Seen(kill)
    assert (checked(path, LARGE, seen), seen.found) == expected
    assert 0 < seen.by_other <= 16, "what it had said before"
    assert_gone(processes)


@pytest.mark.parametrize("program", ["", "/nowhere/python", "/bin/false"])
def test_it_cannot_be_started(
    path: Path, expected: Expected, two: None, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    seen = Seen()
    assert (checked(path, LARGE, seen), seen.found) == expected
    assert seen.by_other == 0


def test_one_that_says_nothing_is_ended(
    path: Path, expected: Expected, processes: list[Ahead], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_SERVE", "import signal; signal.pause()")
    monkeypatch.setattr(ahead, "_QUIET_S", 0.01)
    seen = Seen()
    assert (checked(path, LARGE, seen), seen.found) == expected
    assert seen.by_other == 0
    assert_gone(processes)


def test_half_of_what_it_found_is_nothing(
    path: Path, expected: Expected, processes: list[Ahead], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk was full."""
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: read(file, size, offset)[:-1])
    seen = Seen()
    assert (checked(path, LARGE, seen), seen.found) == expected
    assert seen.by_other == 0
    assert_gone(processes)


def test_where_nothing_is_known_it_is_of_no_use(
    path: Path, processes: list[Ahead], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MOST_UNKNOWN", 3)
    seen = Seen(knows="nothing")
    assert checked(path, LARGE, seen)[0].lines == LINES
    assert seen.by_other == 3
    assert_gone(processes)


def test_it_ends_with_the_file(path: Path, processes: list[Ahead]) -> None:
    """As where Ctrl-C comes while the records are read."""
    with RequestFile(str(path)) as file:
        file.prescan_ahead(LARGE)
    assert_gone(processes)


def test_it_ends_where_nobody_listens_any_more(path: Path) -> None:
    """The other process was killed."""
    ours, theirs = os.pipe()
    os.close(ours)
    with path.open("rb") as file, tempfile.TemporaryFile() as found:
        descriptors = file.fileno(), found.fileno()
        numbers = map(str, (*descriptors, 0, 0, path.stat().st_size))
        command = [sys.executable, "-c", ahead._SERVE, *numbers]
        ended = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, pass_fds=descriptors, check=False)
        os.close(theirs)
        assert b"BrokenPipeError" in ended.stderr
        lines = batches(file, 0, 0, path.stat().st_size)
        first = ahead._encode([ahead._prescanned(batch) for batch in islice(lines, ahead._GROUP)])
        found.seek(0)
        assert found.read() == first


def test_it_gets_no_secret(path: Path, processes: list[Ahead], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with RequestFile(str(path)) as file:
        file.prescan_ahead(LARGE)
        told = Path(f"/proc/{processes[0].pid}/environ").read_bytes()
        assert told.startswith(b"PYTHONPATH=")
        assert told.count(b"\0") == 1


def test_a_file_that_changes_meanwhile_is_refused(path: Path, two: None) -> None:
    text = path.read_bytes()

    def change() -> None:
        path.write_bytes(text.replace(b"}\n", b"} "))

    seen = Seen(change)
    with pytest.raises(StopError, match=r":[0-9]+ changed while running"):
        checked(path, LARGE, seen)


@pytest.mark.parametrize("why", ["one core", "few records", "few requests", "another body"])
def test_where_it_does_not_pay_there_is_none(
    path: Path, processes: list[Ahead], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "one core":
        monkeypatch.setattr(ahead, "_cores", lambda: 1)
    if why == "few requests":
        monkeypatch.setattr(ahead, "LEAST_BYTES", path.stat().st_size + 1)
    overrides = Overrides(stream=True) if why == "another body" else Overrides()
    with RequestFile(str(path), overrides) as file:
        file.prescan_ahead(0 if why == "few records" else LARGE)
    assert processes == []


def test_it_counts_the_cores_that_this_process_may_use() -> None:
    assert ahead._cores() == len(os.sched_getaffinity(0))
