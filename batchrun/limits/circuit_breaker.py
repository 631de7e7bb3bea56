"""The circuit breaker: whether the gateway is down, and when to probe it again. Pure; `now` is passed in.

1. It opens at the first outage signal, so that only what was in flight is sent into an outage. While it is open, one
   probe at a time finds out whether the gateway is back. A probe is a real line.
2. It is an outage, and costs no line an attempt, once three lines have failed with nothing answered in between,
   or one connection could not be made.
3. Any answer closes it. During an outage only an answer to a request that was sent no earlier than those that failed
   does: an older request may have been accepted before the outage. Its answer only brings the next probe nearer.
4. Two failures say nothing about a gateway that can be reached: those of a model that alone has never answered, and
   those of a line that has failed before, if the gateway has answered others since.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Verdict(Enum):
    """What a failed attempt meant, once the circuit breaker has found out."""

    OUTAGE = auto()  # the gateway was gone: the attempt does not count
    LINE = auto()  # it was the line's own failure


@dataclass(frozen=True, slots=True)
class OutageSignal:
    """A failed attempt that may mean an outage. `connected` is False if no connection could be made.

    `failed_in` is the breaker's episode in which the line first failed; None if this is its first failure.
    """

    line_number: int
    model: str
    why: str
    connected: bool = True
    failed_in: int | None = None


class CircuitBreaker:
    """Open while the gateway seems to be gone. `episode` counts how often it has closed again."""

    OUTAGE_LINES = 3  # one or two lines may fail for reasons of their own; three in a row hardly do
    # Seconds to the next probe. The first signal may be a hiccup, so look at once; in an outage begin with one second
    # and double it. With the most, the job is back 30 s after the end of an outage.
    FIRST_PROBE_S, PROBE_S, MAX_PROBE_S = 0.1, 1.0, 25.0

    def __init__(self) -> None:
        self.open_since: float | None = None
        self.is_outage = False
        self.next_probe_at = float("-inf")
        self.episode = 0
        self.why = ""
        self._delay_s = self.FIRST_PROBE_S
        self._last_failed_sent_at = float("-inf")
        self._failed_lines: set[int] = set()
        self._good_models: set[str] = set()

    @property
    def is_open(self) -> bool:
        """Whether only probes may pass."""
        return self.open_since is not None

    def failed(self, signal: OutageSignal, sent_at: float, now: float, *, is_probe: bool) -> bool:
        """Count an outage signal; False if it says nothing about the gateway."""
        if is_probe:
            self._delay_s = min(2 * self._delay_s, self.MAX_PROBE_S)
            self.next_probe_at = now + self._delay_s
        if signal.connected and self._is_the_lines_own(signal):
            return False
        if self.open_since is None:
            self.open_since, self._delay_s = now, self.FIRST_PROBE_S
            self.next_probe_at = now + self._delay_s
        self.why = signal.why
        self._last_failed_sent_at = max(self._last_failed_sent_at, sent_at)
        self._failed_lines.add(signal.line_number)
        if not self.is_outage and (not signal.connected or len(self._failed_lines) >= self.OUTAGE_LINES):
            self.is_outage = True
            self._delay_s = self.PROBE_S
            self.next_probe_at = max(self.next_probe_at, now + self._delay_s)
        return True

    def answered(self, sent_at: float, now: float, model: str | None = None) -> None:
        """The gateway answered a request sent at `sent_at`. `model` is given if the answer was whole."""
        if model is not None:
            self._good_models.add(model)
        if self.open_since is None:
            return
        if self.is_outage and sent_at < self._last_failed_sent_at:
            self._delay_s = self.PROBE_S
            self.next_probe_at = min(self.next_probe_at, now + self._delay_s)
            return
        self.open_since, self.is_outage = None, False
        self.episode += 1
        self._last_failed_sent_at = float("-inf")
        self._failed_lines.clear()

    def _is_the_lines_own(self, signal: OutageSignal) -> bool:
        is_odd_model = bool(self._good_models) and signal.model not in self._good_models
        return is_odd_model or signal.failed_in not in (None, self.episode)
