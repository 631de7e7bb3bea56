"""A run log read as a timeline: what is in flight, how fast, limited by what; runs one after another; little memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.report.timeline import MOST_STRETCHES, Timeline, read_timeline, timeline_of
from batchrun.results.events import Ended, Event, Limited, Open, Recorded, Sent, Start, Stop, encode_events


def timeline(*events: Event, torn: bytes = b"") -> Timeline:
    found = timeline_of([*encode_events(events).splitlines(keepends=True), torn])
    assert found is not None
    return found


def sent(t: float, line: int) -> Sent:
    return Sent(t=t, line=line, attempt=1, model="m", body_bytes=1)


def test_in_flight_is_what_was_sent_and_has_neither_an_end_nor_a_record() -> None:
    found = timeline(
        Start(t=0.0),
        sent(0.0, 1),
        sent(1.0, 2),
        Ended(t=2.0, line=1, code="http_503"),
        sent(3.0, 1),
        Recorded(t=4.0, numbers=[1, 2]),
        Stop(t=5.0),
    )
    in_flight = {stretch.start_s: stretch.in_flight for stretch in found.stretches}
    assert [in_flight[at] for at in (0.5, 1.5, 2.5, 3.5, 4.5)] == pytest.approx([1, 2, 1, 2, 0])
    assert sum(stretch.records for stretch in found.stretches) == 2
    assert found.seconds == pytest.approx(5)


def test_a_failed_line_is_counted_down_once() -> None:
    """Its attempt ends, and then its record is written."""
    found = timeline(
        *(Start(t=0.0), sent(0.0, 1), sent(0.0, 2), Ended(t=1.0, line=1, code="x")),
        *(Recorded(t=1.0, numbers=[1]), Stop(t=3.0)),
    )
    assert found.stretches[-1].in_flight == pytest.approx(1)


def test_what_limits_the_run_before_the_log_says_so_is_what_it_says_first() -> None:
    found = timeline(
        *(Start(t=0.0), sent(0.0, 1), Limited(t=1.0, slots=8, limited_by="rpm")),
        *(Limited(t=3.0, slots=9, limited_by="tail_of_the_run"), Stop(t=4.0)),
    )
    assert found.limited_s == pytest.approx({"rpm": 3.0, "tail_of_the_run": 1.0})
    assert [stretch.slots for stretch in found.stretches][-1] == 9


def test_a_run_too_short_for_a_word_of_it_takes_that_of_its_end() -> None:
    found = timeline(Start(t=0.0), sent(0.0, 1), Stop(t=0.1, limited_s={"rpm": 0.02, "tail_of_the_run": 0.08}))
    assert [list(stretch.limited_s) for stretch in found.stretches] == [["tail_of_the_run"]]


def test_the_shares_are_the_runs_own_sums() -> None:
    """Those are exact; what the log says in between is said once a second at most."""
    first = {"slow_start": 1.0, "rpm": 2.0}
    found = timeline(
        *(Start(t=0.0), sent(0.0, 1), Limited(t=0.5, limited_by="slow_start", limited_s={"slow_start": 0.5})),
        *(Stop(t=3.0, limited_s=first), Start(t=0.0, limited_s=first), sent(0.0, 2)),
        Limited(t=5.0, limited_by="rpm", limited_s={"rpm": 4.0, "paused": 1.0}),
    )
    assert list(found.limited_s.items()) == [("rpm", 6.0), ("slow_start", 1.0), ("paused", 1.0)]


def test_the_time_between_runs_is_left_out_and_a_killed_run_ends_with_its_last_event() -> None:
    found = timeline(
        *(Open(t=0.0), Start(t=1.0), sent(1.0, 1), Recorded(t=3.0, numbers=[1]), sent(3.0, 2)),
        *(Open(t=0.0), Start(t=9.0), sent(9.0, 2), Recorded(t=10.0, numbers=[2]), Stop(t=11.0)),
    )
    assert found.seconds == pytest.approx(4)
    assert found.later_runs_s == pytest.approx([2.0])
    assert sum(stretch.in_flight_s for stretch in found.stretches) == pytest.approx(3), "nothing outlives its run"


def test_runs_whose_results_were_discarded_are_left_out() -> None:
    """The start of a run has the sums of those before it, unless it began with an empty file."""
    found = timeline(
        *(Start(t=0.0), sent(0.0, 1), Recorded(t=3.0, numbers=[1]), Stop(t=4.0, limited_s={"rpm": 4.0})),
        *(Start(t=9.0), sent(9.0, 1), Recorded(t=10.0, numbers=[1]), Stop(t=11.0, limited_s={"tpm": 2.0})),
        *(Start(t=0.0, limited_s={"tpm": 2.0}), sent(0.0, 2), Stop(t=1.0, limited_s={"tpm": 1.0})),
    )
    assert found.seconds == pytest.approx(3)
    assert found.later_runs_s == pytest.approx([2.0])
    assert found.limited_s == pytest.approx({"tpm": 3.0})
    assert sum(stretch.records for stretch in found.stretches) == 1


def test_a_long_log_takes_no_more_stretches() -> None:
    events = [sent(float(at), at) if at % 2 else Recorded(t=float(at), numbers=[at - 1]) for at in range(2, 5000)]
    found = timeline(Start(t=0.0), *events, Stop(t=5000.0))
    assert len(found.stretches) <= MOST_STRETCHES
    assert found.seconds == pytest.approx(5000)
    assert sum(stretch.records for stretch in found.stretches) == sum(type(event) is Recorded for event in events)


def test_torn_and_unknown_events_are_passed_over() -> None:
    found = timeline(Start(t=0.0), sent(0.0, 1), Stop(t=1.0), torn=b'{"event":"sen')
    assert found.seconds == pytest.approx(1)
    assert timeline_of([b'{"event":"future","t":3}\n', b"nonsense\n"]) is None


def test_without_a_log_there_is_none(tmp_path: Path) -> None:
    assert read_timeline(tmp_path / "results.jsonl.log") is None
