"""The pacer: requests go evenly, whatever the timers do."""

from __future__ import annotations

from batchrun.limits.rate import Pacer


def test_the_pacer_is_even_and_catches_up_by_ten_milliseconds() -> None:
    pacer = Pacer(0.0)
    sent, now = 0, 0.0
    while now < 10.0:
        if pacer.next_at <= now:
            pacer.take(150.0, now)
            sent += 1
        now += 0.001
    assert 1490 <= sent <= 1502
    assert pacer.next_at <= 60.0
    burst = 0
    while pacer.next_at <= 60.0:
        pacer.take(150.0, 60.0)
        burst += 1
    assert burst <= 3, "an idle minute is no credit"
