"""The limits that the user sets: requests in flight, requests and tokens a minute, seconds without any answer."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.errors import UsageError

AUTO_MOST = 2000


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Requests in flight: batchrun finds the number between two bounds; if both are equal, it is fixed.

    `least`: the number that is always allowed, from 1.
    `most`: the number that is never exceeded, up to 10,000.
    """

    least: int = 1
    most: int = AUTO_MOST

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

    `concurrency`: requests in flight: a number from 1 to 10,000, or the bounds within which batchrun finds it.
    `requests_per_minute`: the most requests in any 60 seconds, plus one more; None is no limit.
    `tokens_per_minute`: the most tokens in any 60 seconds, plus those of one more request; None is no limit.
    `max_outage_s`: seconds without any answer after which the job stops.
    """

    concurrency: int | Concurrency = Concurrency()
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_outage_s: float = 1800.0

    @property
    def bounds(self) -> Concurrency:
        """The requests in flight, as bounds."""
        number = self.concurrency
        return number if isinstance(number, Concurrency) else Concurrency(number, number)
