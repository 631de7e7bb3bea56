"""How often a line is sent, and how long it waits in between.

`transport.failures.classify` decides which failures are transient, and `attribution.py` whose fault they are.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from batchrun import checks
from batchrun.engine.attribution import Chances

USUAL_ATTEMPTS = 6
MOST_ASKED_S = 120.0  # of a throttle's `Retry-After`: limits are per minute


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a line is sent, and how long it waits in between: full jitter, a random part of a doubling limit.

    `max_attempts`: the most attempts of one line, including the first; 1 means no retry. None is 6, and more where
    other lines fail by chance, too. Throttles and outages do not count.
    `first_wait_s`: the longest first wait in seconds; this limit doubles with each attempt.
    `max_wait_s`: the seconds at which the limit stops growing. A `Retry-After` may ask for a longer wait, up to 5 times
    as long.
    """

    max_attempts: int | None = None
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a number or a time that is none."""
        checks.settle(
            self,
            max_attempts=None
            if self.max_attempts is None
            else checks.count("RetryPolicy.max_attempts", self.max_attempts),
            first_wait_s=checks.seconds("RetryPolicy.first_wait_s", self.first_wait_s, above=False),
            max_wait_s=checks.seconds("RetryPolicy.max_wait_s", self.max_wait_s, above=False),
        )

    @property
    def chances(self) -> Chances:
        """How often a line is tried."""
        return Chances(self.max_attempts or USUAL_ATTEMPTS, self.max_attempts)

    def wait_s(self, attempt: int, asked_s: float | None) -> float:
        """Seconds to wait after failed attempt number `attempt`, and no less than the gateway asked for."""
        most_s = min(self.first_wait_s * 2.0 ** min(attempt - 1, 60), self.max_wait_s)
        return max(random.uniform(0, most_s), min(asked_s or 0.0, 5 * self.max_wait_s))

    def throttle_wait_s(self, throttle: int, asked_s: float | None) -> float:
        """Seconds that a line waits after it was throttled for the `throttle`-th time, while others pass it."""
        most_s = min(self.first_wait_s * 2.0 ** min(throttle - 1, 60), self.max_wait_s, 8.0)
        return max(random.uniform(0, most_s), min(asked_s or 0.0, MOST_ASKED_S))
