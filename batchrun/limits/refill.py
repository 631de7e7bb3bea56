"""What refills a bucket of unknown size, from the refusals that found it empty. Pure.

1. At a refusal the bucket is empty, whatever its size. If it never ran over since the refusal before, what was admitted
   in between, over the time in between (the pause included), is the refill: `least_per_s`.
2. It may have run over, during a pause or while little was sent: then the refill is larger, and one refusal alone fits
   many pairs of size and refill.
3. Two refusals of different kinds tell both: a burst tells the size, whatever the refill is; going slightly too fast
   for long tells the refill, whatever the size is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """What was admitted from one refusal, or from the beginning, to the next: cumulative, at so many seconds."""

    at_s: list[float]
    admitted: list[int]
    is_first: bool  # from the beginning: the bucket may have been full

    @property
    def least_per_s(self) -> float:
        """The refill is at least that: the bucket was empty at both ends."""
        if self.is_first:
            return 0.0
        return self.admitted[-1] / max(self.at_s[-1] - self.at_s[0], 0.01)

    def size(self, per_s: float) -> tuple[float, float]:
        """How large the bucket is if this refusal found it empty with such a refill; and since when it emptied."""
        end_s, total = self.at_s[-1], self.admitted[-1]
        largest, since_s = 0.0, end_s
        for at_s, admitted in zip(self.at_s, self.admitted, strict=True):
            size = total - admitted - per_s * (end_s - at_s)
            if size > largest:
                largest, since_s = size, at_s
        return largest, end_s - since_s


@dataclass(frozen=True, slots=True)
class Bucket:
    """What refusals tell of a bucket: its refill in requests a second, its size in requests."""

    per_s: float
    size: float

    def spilt_s(self, pause_s: float) -> float:
        """For how many seconds of a pause the bucket runs over, and what refills it is lost."""
        return max(0.0, pause_s - self.size / self.per_s)


class Refill:
    """Keeps what was admitted since the last refusal, and the spans before it."""

    SPANS = 3  # that count: the limit may change
    EVERY_S = 0.01  # how finely admissions are kept at first; a span that grows long is kept more coarsely
    POINTS = 256  # of a span
    LONGER = 2.0  # times as long has the one emptied as the other: less alike, two refusals tell size and refill
    STEPS = 20  # of the search: exact to a millionth
    SLOWEST_PER_S = 0.01  # where the search begins if nothing is known
    RECENT_S, SHORTEST_S = 0.5, 0.1  # in which it is measured how fast requests went

    def __init__(self, now: float) -> None:
        self._spans: deque[Span] = deque(maxlen=self.SPANS)
        self._sent = 0
        self._is_first = True  # in this span
        self._from_s, self._from_sent = now, 0  # where it began
        self._at_s, self._sums = list[float](), list[int]()  # when requests were sent, and how many before
        self._next_s, self._every_s = now, self.EVERY_S

    def restart(self, now: float) -> None:
        """Nothing was sent for a while, so the bucket may be full."""
        self._is_first = True
        self._begin(now, self._sent)

    def sent(self, now: float) -> None:
        """One is sent now."""
        if now >= self._next_s:
            self._at_s.append(now)
            self._sums.append(self._sent)
            self._next_s = now + self._every_s
            if len(self._at_s) >= self.POINTS:
                del self._at_s[1::2], self._sums[1::2]
                self._every_s *= 2
        self._sent += 1

    def refused(self, at: float, sent_since: int, *, is_new: bool) -> None:
        """The one that was sent `at` was refused; so many were sent since. `is_new` opens an episode."""
        sent = self._sent - sent_since
        if is_new:
            self._end(at, sent - 1)
        if at >= self._from_s:
            self._is_first = False
            self._from_s, self._from_sent = at, sent

    def recent_per_s(self) -> float:
        """Requests a second that were admitted just before the last refusal; 0 where that is not known."""
        if not self._spans:
            return 0.0
        last = self._spans[-1]
        index = min(bisect_left(last.at_s, last.at_s[-1] - self.RECENT_S), len(last.at_s) - 2)
        if index == 0 and not last.is_first and len(last.at_s) > 2:
            index = 1  # after the pause
        return (last.admitted[-1] - last.admitted[index]) / max(last.at_s[-1] - last.at_s[index], self.SHORTEST_S)

    def told(self) -> Bucket | None:
        """What the last refusals tell of the bucket, where they tell enough: some 5 ms of work."""
        found = None
        for other in list(self._spans)[:-1]:
            found = self._told_by(self._spans[-1], other) or found
        return found

    # ------------------------------------------------------------------------------------------ inside

    def _told_by(self, last: Span, other: Span) -> Bucket | None:
        low = last.least_per_s or self.SLOWEST_PER_S
        (last_size, last_s), (other_size, other_s) = last.size(low), other.size(low)
        is_last_slow = last_s > other_s
        slow, burst = (last, other) if is_last_slow else (other, last)
        if (last_size <= other_size) is is_last_slow or last_size == other_size:
            return Bucket(low, other_size) if is_last_slow else None  # so large a bucket did not run over
        if max(last_s, other_s) < self.LONGER * min(last_s, other_s):
            return None
        per_s = self._same_size(slow, burst, low)
        return None if per_s is None else Bucket(per_s, burst.size(per_s)[0])

    def _same_size(self, slow: Span, burst: Span, low: float) -> float | None:
        """The refill, at least `low`, with which both found a bucket of the same size."""
        high = 2 * low
        for _ in range(self.STEPS):
            if slow.size(high)[0] <= burst.size(high)[0]:
                break
            low, high = high, 2 * high
        else:
            return None
        for _ in range(self.STEPS):
            middle = (low + high) / 2
            if slow.size(middle)[0] > burst.size(middle)[0]:
                low = middle
            else:
                high = middle
        return high

    def _begin(self, at: float, sent: int) -> None:
        self._from_s, self._from_sent = at, sent
        self._at_s, self._sums = [], []
        self._next_s, self._every_s = at, self.EVERY_S

    def _end(self, at: float, sent: int) -> None:
        points = [
            (at_s, before - self._from_sent)
            for at_s, before in zip(self._at_s, self._sums, strict=True)
            if self._from_s < at_s < at
        ]
        points = [(self._from_s, 0), *points, (at, sent - self._from_sent)]
        if sent > self._from_sent and at > self._from_s:
            self._spans.append(Span([at_s for at_s, _ in points], [before for _, before in points], self._is_first))
        else:
            self._spans.clear()
        self._is_first = False
        self._begin(at, sent + 1)
