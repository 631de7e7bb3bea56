"""What a run log says about the requests of the last minute, by clocks that may be set, stand still or begin anew."""

from __future__ import annotations

import pytest

from batchrun.results.events import Ended, Limited, Open, Recorded, Sent, Start
from batchrun.results.recent import RecentRequests
from tests.support import near

OPENED = Open(pid=1, at=1_000_000.0, clock=5000.0)


def sent(t: float, line: int = 1, max_output_tokens: int | None = 100) -> Sent:
    return Sent(line, 1, "m", 400, max_output_tokens, t=t)


def recent(*events: Sent | Ended | Recorded, opened: Open = OPENED) -> RecentRequests:
    found = RecentRequests()
    found.opened(opened)
    found.note(events)
    return found


def ages(found: RecentRequests, at: float, clock: float) -> list[float]:
    return [one.age_s for one in found.earlier(at, clock, 0, 0)]


def test_what_is_over_a_minute_old_does_not_count() -> None:
    found = recent(sent(0.0), sent(10.0, 2), sent(30.0, 3))
    assert ages(found, OPENED.at + 75, OPENED.clock + 75) == [45.0]


@pytest.mark.parametrize(
    ("at_s", "clock_s", "age_s"),
    [
        (20, 20, 20),
        (-3600, 20, 20),  # the wall clock was set back
        (7200, 20, 20),  # it was set forward
        (20, -4000, 20),  # the machine was booted
        (20, 3000, 20),  # it was booted, and has run for longer than before
        (3600, 20, 20),  # it slept, and its own clock stood still
        (-3600, -4000, 0),  # booted and set back: nothing is known
    ],
)
def test_the_smallest_possible_age_counts(at_s: float, clock_s: float, age_s: float) -> None:
    found = recent(sent(0.0))
    assert ages(found, OPENED.at + at_s, OPENED.clock + clock_s) == [near(age_s)]


def test_what_was_not_sent_or_failed_used_no_tokens() -> None:
    found = recent(
        sent(0, 1), sent(1, 2), sent(2, 3), sent(3, 4, None), sent(4, 5),
        Ended(1, "unsent", t=5), Ended(2, "http_500", 500, t=5), Recorded([3], t=6), sent(7, 2),
    )  # fmt: skip
    requests = found.earlier(OPENED.at + 10, OPENED.clock + 10, 30, 25)
    assert [(one.age_s, one.tokens) for one in requests] == [(9, 0), (8, 25), (7, 130), (6, 200), (3, 200)]


def test_each_process_has_its_own_times() -> None:
    found = recent(sent(2.0))
    found.opened(Open(pid=2, at=OPENED.at + 30, clock=OPENED.clock + 30))
    found.note([sent(2.0)])
    assert ages(found, OPENED.at + 40, OPENED.clock + 40) == [38, 8]


def test_a_long_log_takes_the_memory_of_a_minute() -> None:
    found = recent()
    for number in range(300_000):
        found.note([sent(number / 100, number)])
    assert len(found) < 80_000
    assert len(ages(found, OPENED.at + 3000, OPENED.clock + 3000)) == near(6000, abs=2)


def test_a_log_without_its_start_is_incomplete() -> None:
    found = RecentRequests()
    found.note([sent(1.0)])
    assert found.is_incomplete
    found.lost_at = 500.0
    assert [found.lost_age_s(at) for at in (490.0, 530.0, 560.0)] == [0.0, 30.0, None]


def test_events_that_say_nothing_of_requests_do_not_make_a_log_incomplete() -> None:
    found = RecentRequests()
    found.note([Limited(t=1.0), Start(t=2.0)])
    assert not found.is_incomplete
