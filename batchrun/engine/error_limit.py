"""`--max-errors N|RATE`: stops a job in which too many lines go wrong. Pure.

1. A number is how many lines of this run may go wrong; one more stops the run.
2. A rate is the share of the last 1,000 lines, so that a job that goes wrong late stops as soon as one that goes wrong
   from its start. It is not judged before 100 lines are done.
3. Errors of earlier runs do not count: this run may be the one that corrects them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import get_args

from batchrun import checks
from batchrun.engine.attribution import ALIKE
from batchrun.errors import UsageError
from batchrun.records.outcome import MISMATCH, ErrorKind
from batchrun.records.result import RunInfo
from batchrun.records.words import counted
from batchrun.stats.window import Window

KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
DEFAULT_KINDS: tuple[ErrorKind, ...] = ("failed", "incomplete", "empty", "invalid")
JUDGED_FROM = 100
WINDOW = 1000


@dataclass(frozen=True, slots=True)
class MaxErrors:
    """How many lines may go wrong before a job stops. Make it with `MaxErrors.parse("20")` or `MaxErrors.parse("5%")`.

    `count`: lines of this run that may go wrong; one more stops the job. None if `rate` is the limit.
    `rate`: the share of the last 1,000 lines that may go wrong, between 0 and 1, judged from 100 lines on. None if
    `count` is the limit. A share of 1.0 is never exceeded: it is `MaxErrors.parse("off")`.
    `kinds`: what counts as an error: outcomes of records, and `schema_mismatch`.
    """

    count: int | None = None
    rate: float | None = None
    kinds: frozenset[str] = frozenset(DEFAULT_KINDS)

    def __post_init__(self) -> None:
        """Raise `UsageError` unless one limit is given, and the kinds are known."""
        if (self.count is None) is (self.rate is None):
            raise UsageError('MaxErrors takes count or rate, one of them; or write MaxErrors.parse("5%")')
        if self.count is not None:
            checks.settle(self, count=checks.count("MaxErrors.count", self.count, least=0))
        elif not isinstance(self.rate, float) or not 0 < self.rate <= 1:
            raise checks.refused("MaxErrors.rate", self.rate, "a share between 0 and 1, such as 0.05")
        kinds = frozenset([self.kinds] if isinstance(self.kinds, str) else self.kinds)
        if unknown := sorted(map(str, kinds - set(KINDS))):
            raise UsageError(f"unknown kind of error {unknown[0]!r}; choose from {', '.join(KINDS)}")
        if not kinds:
            raise UsageError(f"MaxErrors.kinds is empty; choose from {', '.join(KINDS)}")
        checks.settle(self, kinds=kinds)

    @classmethod
    def of(cls, value: object) -> MaxErrors:
        """A limit from a number of lines (20), a share (0.05), or a text such as `"5%"`. Raises `UsageError`."""
        if isinstance(value, MaxErrors):
            return value
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return cls.parse(str(value))
        raise checks.refused("max_errors", value, 'a number of lines (20), or a share of them ("5%" or 0.05)')

    @classmethod
    def parse(cls, text: str, kinds: Collection[str] = DEFAULT_KINDS) -> MaxErrors:
        """Read a limit such as `20`, `5%`, `0.05` or `off`; `kinds` are the kinds that count.

        Raises `UsageError` if the text is not such a number, or a kind is unknown.
        """
        chosen = frozenset([kinds] if isinstance(kinds, str) else kinds)
        if text == "off":
            return cls(rate=1.0, kinds=chosen)
        if text.isascii() and text.isdecimal():
            return cls(count=int(text), kinds=chosen)
        try:
            rate = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            rate = -1.0
        if not 0 < rate < 1:
            choices = "a number of lines (20) or a share of them (5% or 0.05), or off"
            raise UsageError(f"--max-errors {text}: write {choices}")
        return cls(rate=rate, kinds=chosen)


def stops_fresh_job(limit: MaxErrors | None) -> bool:
    """Whether a job in which nothing has ever succeeded stops after 20 refusals alike: not if the user allows them.

    A smaller number of the user's own stops the job before.
    """
    if limit is None:
        return True
    return limit.count >= ALIKE if limit.count is not None else limit.rate != 1.0


class ErrorLimit:
    """Counts the lines of one run as they are recorded. `lines`: how many, `errors` how many of them went wrong.

    An answer with a schema mismatch is recorded as a success, because it is whole and paid for; only here it counts
    as an error.
    """

    def __init__(self, limit: MaxErrors) -> None:
        self._limit = limit
        self._first_mismatch = ""
        self._errors: Counter[str] = Counter()
        self._lines = 0
        self._last = Window(WINDOW)

    def add(self, run: RunInfo) -> bool:
        """Count one line by its record; True if the limit is exceeded."""
        is_mismatch = run.schema_error is not None and run.outcome == "succeeded"
        kind = MISMATCH if is_mismatch else run.outcome
        if run.schema_error is not None and not self._first_mismatch:
            self._first_mismatch = f"line {run.line}: {run.schema_error}"
        is_error = kind in self._limit.kinds
        if run.outcome == "invalid" and not is_error and MISMATCH in self._limit.kinds:
            kind, is_error = MISMATCH, True
        if is_error:
            self._errors[kind] += 1
        self._lines += 1
        self._last.add(is_error)
        return self.is_passed

    @property
    def is_passed(self) -> bool:
        """Whether more lines went wrong than the user allows."""
        if self._limit.count is not None:
            return self._errors.total() > self._limit.count
        assert self._limit.rate is not None
        judged = self._last.count
        return judged >= JUDGED_FROM and self._last.hits > self._limit.rate * judged

    @property
    def lines(self) -> int:
        """How many lines were counted."""
        return self._lines

    @property
    def errors(self) -> int:
        """How many of them went wrong."""
        return self._errors.total()

    def why_stopped(self) -> str:
        """Which limit is exceeded, and by which errors, in one line."""
        kinds = ", ".join(self._counted(kind, count) for kind, count in self._errors.most_common())
        if self._limit.count is not None:
            return (
                f"--max-errors {self._limit.count} is exceeded: {kinds} of {counted(self._lines, 'line')} of this run"
            )
        assert self._limit.rate is not None
        share = f"{self._limit.rate:.2%}".replace(".00%", "%")
        return f"--max-errors {share} is exceeded: {self._last.hits:,} of the last {self._last.count:,} lines ({kinds})"

    def _counted(self, kind: str, count: int) -> str:
        if kind != MISMATCH:
            return f"{count:,} {kind}"
        if count > 1:
            return f"{count:,} schema mismatches (e.g. {self._first_mismatch})"
        return f"1 schema mismatch ({self._first_mismatch})"


class LeasedErrorLimit(ErrorLimit):
    """The same for one shard of a job: it stops once `allowed` lines of its own went wrong, which a lease says."""

    allowed = math.inf

    @property
    def is_passed(self) -> bool:
        """Whether more lines went wrong than this shard may have."""
        return self.errors > self.allowed
