"""What earlier runs sent within the last minute, by the run log: `--rpm` and `--tpm` hold across runs. Pure.

1. A log has times in seconds since its process opened it. The event `open` says when that was, by two clocks.
2. The wall clock (`at`) may be set; that of the machine (`clock`) begins anew with each boot, and may stand still in
   sleep. Of the ages by both, the smallest possible one counts: rather a wait too long than a promise broken. If none
   is possible, because clocks were set back, the age is 0.
3. A log may have been rotated away or cut off. Then its last write, or that to the result file, is taken for the moment
   at which all that a minute may have was sent (`lost_at`, Unix time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchrun.records.outcome import FailureCode
from batchrun.results.events import Control, Ended, Event, Open, Recorded, Sent, Stop, Tried, key_of

MINUTE_S = 60.0
_SOME = 1 << 16
_REQUESTS = (Sent, Ended, Tried, Control, Recorded, Stop)


@dataclass(frozen=True, slots=True)
class Earlier:
    """A request that was sent `age_s` seconds ago, by an earlier run; it used, or may have used, so many tokens."""

    age_s: float
    tokens: float = 0.0


class RecentRequests:
    """The requests of the last minute of a log. `is_incomplete`: the log has requests of an unknown time."""

    def __init__(self) -> None:
        self.is_incomplete = False
        self.lost_at: float | None = None
        self._events: list[tuple[Open, list[Event]]] = [(Open(), [])]
        self._count = 0
        self._forget_at = _SOME

    def __len__(self) -> int:
        return self._count

    def opened(self, event: Open) -> None:
        """A process opened the log: the times of the next events are its own."""
        self._events.append((event, []))

    def note(self, events: Sequence[Event]) -> None:
        """Requests were sent, or ended, or got their records; other events say nothing here."""
        if not events:
            return
        opened, noted = self._events[-1]
        if not opened.at:  # cut off at its start, or of a version that did not keep the time
            self.is_incomplete = self.is_incomplete or any(isinstance(event, _REQUESTS) for event in events)
            return
        noted += events
        self._count += len(events)
        if self._count >= self._forget_at:
            self._forget(opened, events[-1].t)

    def _forget(self, latest: Open, t: float) -> None:
        """Forget what was over a minute old `t` seconds after the process of `latest` opened the log."""
        at, clock = latest.at + t, latest.clock + t
        earlier = [(opened, [one for one in events if _age_s(opened, one, at, clock) < MINUTE_S])
                   for opened, events in self._events[:-1]]  # fmt: skip
        recent = [event for event in self._events[-1][1] if event.t > t - MINUTE_S]
        self._events = [(opened, events) for opened, events in earlier if events] + [(latest, recent)]
        self._count = sum(len(events) for _, events in self._events)
        self._forget_at = 2 * self._count + _SOME

    def lost_age_s(self, at: float) -> float | None:
        """How long ago requests may have been sent of which the log says nothing; None if it was over a minute ago."""
        if self.lost_at is None or at - self.lost_at >= MINUTE_S:
            return None
        return max(0.0, at - self.lost_at)

    def earlier(self, at: float, clock: float, output_tokens: float, used_tokens: float) -> list[Earlier]:
        """The requests of the last minute by both clocks, oldest first.

        `output_tokens` is what an answer has on average, `used_tokens` what a line with a record has used on average.
        """
        found: dict[tuple[int, int], list[float]] = {}  # by process and line, the last one: age and tokens
        requests: list[list[float]] = []
        for opened, event in ((opened, event) for opened, events in self._events for event in events):
            age_s = _age_s(opened, event, at, clock)
            if age_s >= MINUTE_S:
                continue
            match event:
                case Sent():
                    expected = output_tokens if event.max_output_tokens is None else event.max_output_tokens
                    request = found[id(opened), key_of(event)] = [age_s, event.body_bytes / 4 + expected]
                    requests.append(request)
                case Ended():
                    ended = found.pop((id(opened), key_of(event)), None)
                    if ended is not None:
                        ended[:] = [MINUTE_S, 0.0] if event.code == FailureCode.UNSENT else [ended[0], 0.0]
                case Control():
                    answered = found.pop((id(opened), key_of(event)), None)
                    if answered is not None and event.answered.usage is not None:
                        answered[1] = event.answered.usage.total_tokens
                case Tried():
                    tried = found.pop((id(opened), event.line), None)
                    if tried is not None and event.tokens is not None:
                        tried[1] = event.tokens
                case Recorded() | Stop():
                    for line in event.numbers:
                        if (recorded := found.pop((id(opened), line), None)) is not None:
                            recorded[1] = used_tokens
        kept = [Earlier(age_s, tokens) for age_s, tokens in requests if age_s < MINUTE_S]
        return sorted(kept, key=lambda one: -one.age_s)


def _age_s(opened: Open, event: Event, at: float, clock: float) -> float:
    """How long ago that was."""
    ages = (at - opened.at - event.t, clock - opened.clock - event.t)
    return min((age_s for age_s in ages if age_s >= 0), default=0.0)
