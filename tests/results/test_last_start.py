"""The last run of a log is found whatever pieces the log is read in."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.results import last_run
from batchrun.results.events import Open, Sent, Start, Stop, encode_events
from batchrun.results.last_run import last_start


def start(name: str) -> Start:
    return Start(t=0.0, started=name, requests="requests.jsonl", lines=3)


@pytest.mark.parametrize("size", [1, 2, 7, 50, 64, 1000, 1 << 20])
def test_it_is_found_in_pieces_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(last_run, "_PIECE_BYTES", size)
    log = tmp_path / "log"
    told = Sent(t=1.0, line=1, attempt=1, model='an "event":"start" that is none', body_bytes=1)
    events = [Open(pid=1), start("first"), told, Stop(t=2.0), Open(pid=2), start("second"), told, told]
    log.write_bytes(encode_events(events))
    assert last_start(log) == start("second")
    log.write_bytes(log.read_bytes() + encode_events([start("third")])[:-1])
    assert last_start(log) == start("third"), "its newline is not there yet"
    log.write_bytes(log.read_bytes()[:-5])
    assert last_start(log) == start("second"), "a torn one is none"


def test_without_one_there_is_none(tmp_path: Path) -> None:
    assert last_start(tmp_path / "nothing") is None
    (tmp_path / "log").write_bytes(b"")
    assert last_start(tmp_path / "log") is None
