"""The limits that the user sets: requests in flight, requests and tokens a minute, seconds without any answer."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun import checks
from batchrun.errors import UsageError
from batchrun.limits import quotas

AUTO_MOST = 2000
IN_FLIGHT_BYTES = 512 << 20
LONGEST_OUTAGE_S = 1800.0


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Requests in flight: batchrun finds the number between two bounds; if both are equal, it is fixed.

    `least`: the number that is always allowed, from 1.
    `most`: the number that is never exceeded, up to 10,000.
    """

    least: int = 1
    most: int = AUTO_MOST

    def __post_init__(self) -> None:
        """Raise `UsageError` for bounds that are none."""
        checks.settle(
            self,
            least=checks.count("Concurrency.least", self.least, most=10_000),
            most=checks.count("Concurrency.most", self.most, most=10_000),
        )
        if self.least > self.most:
            raise UsageError(f"Concurrency({self.least}, {self.most}): write the smaller number first")

    @classmethod
    def of(cls, value: object) -> Concurrency:
        """Bounds from a number, a pair such as `(4, 200)`, or a text such as `"64"`. Raises `UsageError`."""
        if isinstance(value, Concurrency):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        expected = 'a whole number from 1 to 10000, a pair such as (4, 200), "4-200" or "auto"'
        pair = value if isinstance(value, (tuple, list)) else (value, value)
        if len(pair) != 2:
            raise checks.refused("Limits.concurrency", value, expected)
        try:
            return cls(*pair)
        except UsageError:
            raise checks.refused("Limits.concurrency", value, expected) from None

    @classmethod
    def parse(cls, text: str) -> Concurrency:
        """Read bounds such as `64`, `auto` or `4-200`. Raises `UsageError` if the text is none of these."""
        if text == "auto":
            return cls()
        least, dash, most = text.partition("-")
        numbers = [least, most] if dash else [least]
        if not all(number.isascii() and number.isdecimal() for number in numbers):
            raise UsageError(f"{text!r} is neither a number, nor auto, nor MIN-MAX such as 4-200")
        low, high = int(numbers[0]), int(numbers[-1])
        if not 1 <= low <= high <= 10_000:
            raise UsageError(f"{text}: write a number from 1 to 10000, or MIN-MAX with the smaller number first")
        return cls(low, high)

    def at_most(self, allowed: int) -> Concurrency:
        """The same bounds, lowered to at most this number."""
        return Concurrency(min(self.least, allowed), min(self.most, allowed))

    def __str__(self) -> str:
        if self == Concurrency():
            return "auto"
        return str(self.most) if self.least == self.most else f"{self.least}-{self.most}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that the user sets for a job.

    `concurrency`: requests in flight: a number from 1 to 10,000, or the bounds within which batchrun finds it: a
    `Concurrency`, a pair such as `(4, 200)`, or a text as for `-c`.
    `requests_per_minute`: the most requests in any 60 seconds, plus one more; None is no limit.
    `tokens_per_minute`: the most tokens in any 60 seconds, plus those of one more request; None is no limit.
    `max_outage_s`: seconds without any answer after which the job stops; None is 30 minutes, and 2 minutes for a host
    that has never answered.
    `max_in_flight_bytes`: the most bytes of bodies and answers that are in memory; one line more may be.

    Raises `UsageError` for a value that is none of these.
    """

    concurrency: int | str | tuple[int, int] | Concurrency = Concurrency()
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_outage_s: float | None = None
    max_in_flight_bytes: int = IN_FLIGHT_BYTES

    @property
    def longest_outage_s(self) -> float:
        """The seconds without any answer after which the job stops."""
        return LONGEST_OUTAGE_S if self.max_outage_s is None else self.max_outage_s

    def __post_init__(self) -> None:
        """Raise `UsageError` for a limit that is none: with 0 requests in flight, a job would never end."""
        bounds = Concurrency.of(self.concurrency)
        checks.settle(
            self,
            concurrency=bounds.most if bounds.least == bounds.most else bounds,
            requests_per_minute=_rate("requests_per_minute", self.requests_per_minute),
            tokens_per_minute=_rate("tokens_per_minute", self.tokens_per_minute),
            max_outage_s=None
            if self.max_outage_s is None
            else checks.seconds("Limits.max_outage_s", self.max_outage_s),
        )

    @property
    def bounds(self) -> Concurrency:
        """The requests in flight, as bounds."""
        return Concurrency.of(self.concurrency)


def _rate(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    expected = f"None, or a number a minute from {quotas.LEAST_PER_MINUTE:g} on, such as 3000"
    return checks.number(f"Limits.{name}", value, expected, least=quotas.LEAST_PER_MINUTE)
