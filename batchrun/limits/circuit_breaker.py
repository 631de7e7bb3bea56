"""The outage gate: whether the gateway is gone, and when to look whether it is back. Pure; `now` is passed in.

1. It shuts at the first outage sign, so that what is sent into an outage is what was in flight; then one probe
   at a time finds out, and a probe is a real line.
2. It is an outage, and costs no line an attempt, once three lines have failed with nothing answered in between,
   or one connection could not be made.
3. Any answer opens it; in an outage only one to a request that was sent no earlier than those that failed.
   An older one may have been under way since better times: it brings the next probe nearer.
4. Two failures say nothing of a gateway that can be reached: those of a model that alone has never answered, and
   those of a line that has failed before, if the gateway has answered others since.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Verdict(Enum):
    """What became of a shut gate, for a line whose attempt failed."""

    OUTAGE = auto()  # the gateway was gone: the attempt does not count
    LINE = auto()  # it was the line's own failure


@dataclass(frozen=True, slots=True)
class OutageSignal:
    """A failed attempt that may mean an outage. `connected` is False where no connection could be made.

    `failed_in` is the gate's episode in which the line first failed, None where this is the first time.
    """

    line_number: int
    model: str
    why: str
    connected: bool = True
    failed_in: int | None = None


class CircuitBreaker:
    """Shut while the gateway seems to be gone. `episode` counts how often it has opened again."""

    OUTAGE_LINES = 3
    FIRST_PROBE_S, PROBE_S, MAX_PROBE_S = 0.1, 1.0, 25.0  # so that 30 s after an outage the job is back

    def __init__(self) -> None:
        self.shut_since: float | None = None
        self.is_outage = False
        self.next_probe = float("-inf")
        self.episode = 0
        self.why = ""
        self._delay_s = self.FIRST_PROBE_S
        self._last_failed_sent_at = float("-inf")
        self._failed_lines: set[int] = set()
        self._good_models: set[str] = set()

    @property
    def is_shut(self) -> bool:
        """Whether only probes may pass."""
        return self.shut_since is not None

    def failed(self, sign: OutageSignal, sent_at: float, now: float, *, is_probe: bool) -> bool:
        """Count an outage sign; False where it says nothing about the gateway."""
        if is_probe:
            self._delay_s = min(2 * self._delay_s, self.MAX_PROBE_S)
            self.next_probe = now + self._delay_s
        if sign.connected and self._is_its_own_fault(sign):
            return False
        if self.shut_since is None:
            self.shut_since, self._delay_s = now, self.FIRST_PROBE_S
            self.next_probe = now + self._delay_s
        self.why = sign.why
        self._last_failed_sent_at = max(self._last_failed_sent_at, sent_at)
        self._failed_lines.add(sign.line_number)
        if not self.is_outage and (not sign.connected or len(self._failed_lines) >= self.OUTAGE_LINES):
            self.is_outage = True
            self._delay_s = self.PROBE_S
            self.next_probe = max(self.next_probe, now + self._delay_s)
        return True

    def answered(self, sent_at: float, now: float, model: str | None = None) -> None:
        """The gateway spoke, to a request sent at `sent_at`. `model` where it gave a whole answer."""
        if model is not None:
            self._good_models.add(model)
        if self.shut_since is None:
            return
        if self.is_outage and sent_at < self._last_failed_sent_at:
            self._delay_s = self.PROBE_S
            self.next_probe = min(self.next_probe, now + self._delay_s)
            return
        self.shut_since, self.is_outage = None, False
        self.episode += 1
        self._last_failed_sent_at = float("-inf")
        self._failed_lines.clear()

    def _is_its_own_fault(self, sign: OutageSignal) -> bool:
        is_odd = bool(self._good_models) and sign.model not in self._good_models
        return is_odd or sign.failed_in not in (None, self.episode)
