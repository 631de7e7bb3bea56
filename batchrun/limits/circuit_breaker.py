"""The circuit breaker: whether what is behind the gateway seems to be down, and when to probe it again. Pure.

1. It opens where requests of several lines fail one after the other *in the order of sending*. A request that is still
   in flight breaks the row, so fast failures beside slow answers open nothing; refusals (4xx, 429) are passed over.
2. While it is open, probes find out whether the gateway is back: one at a time, and another beside one that hangs. A
   probe is a real line, or the control.
3. The first probe follows at once. If it fails as well it is an outage, and costs no line an attempt.
4. Only a success closes it: that of a request that was sent after the first of the row that opened it. An older one
   may have been accepted before the outage. Its answer only brings the next probe nearer.
"""

from __future__ import annotations

import math

CONTROL = 0  # the number of a probe that is no line: those of requests begin with 1


class CircuitBreaker:
    """Open while the gateway seems to be gone. `max_probe_s`: the most seconds from one probe to the next."""

    # Seconds to the next probe. The first failures may be a hiccup, or chance, so look at once, and double them. With
    # the most, the job is back 30 s after the end of an outage. An answer from better times begins with one second.
    FIRST_PROBE_S, PROBE_S, MAX_PROBE_S = 0.1, 1.0, 25.0
    QUICK_PROBES = 7  # may all fail by chance where every other request does; until then they follow each other quickly
    REMEMBERED = 4096  # failures, by their number

    def __init__(self, max_probe_s: float = MAX_PROBE_S) -> None:
        self._max_probe_s = max_probe_s
        self.open_since: float | None = None
        self.is_outage = False
        self.next_probe_at = -math.inf
        self.probe: int | None = None
        self.failed_probes = 0
        self.by_chance = self.QUICK_PROBES
        self.why = ""
        self._delay_s = self.FIRST_PROBE_S
        self._row_began = math.inf  # the number of the first request in the row that opened it
        self._failed: dict[int, int] = {}  # the lines that failed, by the number of the request
        self._refused: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether only a probe may pass."""
        return self.open_since is not None

    def may_pass(self, now: float) -> bool:
        """Whether a request may be sent; while the breaker is open it is the probe."""
        return self.open_since is None or now >= self.next_probe_at

    def begin_probe(self, number: int, now: float) -> None:
        """A probe is sent."""
        self.probe = number
        self.next_probe_at = now + self._max_probe_s

    def failed(self, number: int, line: int, now: float, why: str, needed: int) -> bool:
        """Count the failure of request `number`, in the order of sending; True if it begins an outage.

        The breaker opens if `needed` lines have failed in a row.
        """
        self.why = why
        if self.open_since is not None:
            return self._probe_failed(now) if number == self.probe else False
        if len(self._failed) > self.REMEMBERED:
            self._failed.clear()
        self._failed[number] = line
        row = self._row(number)
        if len({self._failed[other] for other in row}) >= needed:
            self.open(now, why)
            self._row_began = min(row)
        return False

    def open(self, now: float, why: str) -> None:
        """Let only probes pass, the first one at once."""
        if self.open_since is None:
            self.open_since, self.why, self._delay_s = now, why, self.FIRST_PROBE_S
            self.next_probe_at = now + self._delay_s

    def probe_failed(self, number: int | None, now: float, why: str) -> None:
        """A probe did not get an answer. Without a number there was none: the gateway is known to be gone."""
        self.why = why
        if number is None or number == self.probe or not self.is_outage:
            self._probe_failed(now)

    def refused(self, number: int, now: float) -> None:
        """A 4xx or a throttle: it says nothing. A probe that ends so is followed by the next one."""
        if number == self.probe:
            self._put_off(now)
        elif self._failed:
            self._refused.add(number)

    def abandoned(self, number: int, now: float) -> None:
        """A request was given up or not sent."""
        if number == self.probe:
            self.probe, self.next_probe_at = None, min(self.next_probe_at, now + self._delay_s)

    def succeeded(self, number: int, sent_at: float, now: float) -> bool:
        """Request `number`, sent at `sent_at`, succeeded; True if that closes the breaker. Call it only while open."""
        assert self.open_since is not None, "it is open"
        if number > self._row_began or sent_at >= self.open_since:
            self.close()
            return True
        self._delay_s = self.PROBE_S
        self.next_probe_at = min(self.next_probe_at, now + self._delay_s)
        return False

    def hurry(self, now: float) -> None:
        """The gateway is said to be back: probe it now."""
        if self.open_since is not None and self.probe is None:
            self._delay_s = self.PROBE_S
            self.next_probe_at = min(self.next_probe_at, now)

    def close(self) -> None:
        """Let everything pass."""
        self.open_since, self.is_outage, self.probe, self.failed_probes = None, False, None, 0
        self._row_began = math.inf
        self._failed.clear()
        self._refused.clear()

    def _probe_failed(self, now: float) -> bool:
        begins = not self.is_outage
        self.failed_probes += 1
        if begins:
            self.is_outage = True
        self._put_off(now)
        return begins

    def _put_off(self, now: float) -> None:
        self.probe = None
        most_s = self._max_probe_s if self.failed_probes >= self.by_chance else self.PROBE_S
        self._delay_s = min(2 * self._delay_s, most_s)
        self.next_probe_at = now + self._delay_s

    def _row(self, number: int) -> list[int]:
        """The requests that failed one after the other around this one, refusals passed over."""
        row = [number]
        for step in (-1, 1):
            other = number + step
            while other in self._failed or other in self._refused:
                if other in self._failed:
                    row.append(other)
                other += step
        return row
