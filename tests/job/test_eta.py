"""The guess of the time that is left: by the pace of late, and standing still while nothing is sent."""

from __future__ import annotations

import pytest

from batchrun.job.eta import Eta
from batchrun.limits.limited_by import LimitedBy

SENDING = LimitedBy.MAXIMUM


def played(*phases: tuple[int, float, LimitedBy]) -> Eta:
    """Phases of a run: seconds, lines a second, what limits it; noted four times a second."""
    eta, at_s, recorded = Eta(), 0.0, 0.0
    for seconds, per_s, limited_by in phases:
        for _ in range(4 * seconds):
            at_s, recorded = at_s + 0.25, recorded + per_s / 4
            eta.note(int(recorded), at_s, limited_by)
    return eta


def test_before_the_first_line_nothing_is_guessed() -> None:
    assert Eta().left_s(100, SENDING) is None
    assert played((20, 0, SENDING)).left_s(100, SENDING) is None


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    assert played((60, 10, SENDING), (60, 1, SENDING)).left_s(100, SENDING) == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("standing", [LimitedBy.OUTAGE, LimitedBy.PAUSED])
def test_in_an_outage_and_a_pause_it_stands_still(standing: LimitedBy) -> None:
    before = played((60, 10, SENDING)).left_s(500, SENDING)
    assert before == pytest.approx(50, rel=0.05)
    assert played((60, 10, SENDING), (1800, 0, standing)).left_s(500, standing) == before
    again = played((60, 10, SENDING), (1800, 0, standing), (10, 10, SENDING)).left_s(500, SENDING)
    assert again == pytest.approx(50, rel=0.05)


def test_a_long_pause_for_a_rate_limit_makes_it_longer_and_not_endless() -> None:
    left_s = played((60, 10, SENDING), (60, 0, LimitedBy.THROTTLED)).left_s(500, LimitedBy.THROTTLED)
    assert left_s == pytest.approx(100, rel=0.05), "five lines a second, over the whole run"


def test_lines_of_a_model_that_is_away_are_not_said_to_be_done_at_once() -> None:
    """The other models have no line left: 30 lines at 10 a second would be done in 3 seconds, again and again."""
    phase = (60, 10, SENDING)
    assert played(phase, (2, 0, LimitedBy.TAIL)).left_s(30, LimitedBy.TAIL) == pytest.approx(3, rel=0.1)
    for held_s in (5, 29, 31, 600):
        for limited_by in (LimitedBy.TAIL, LimitedBy.THROTTLED, LimitedBy.CAPACITY):
            assert played(phase, (held_s, 0, limited_by)).left_s(30, limited_by) is None
    again = played(phase, (600, 0, LimitedBy.THROTTLED), (40, 10, SENDING))
    assert again.left_s(30, SENDING) == pytest.approx(3, rel=0.1)


def test_a_run_that_stops_does_not_guess_when_it_is_done() -> None:
    assert played((60, 10, SENDING), (20, 0.1, LimitedBy.STOPPING)).left_s(500, LimitedBy.STOPPING) is None


def test_nothing_left_takes_no_guess() -> None:
    assert played((60, 10, SENDING)).left_s(0, SENDING) is None
