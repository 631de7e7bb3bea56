"""`--max-errors N|RATE`: stops a job that goes wrong, before the whole file has. Pure.

A number is how many lines of this run may go wrong: one more stops it. A rate is judged by the last 1,000 lines, so
that a job which goes wrong late is stopped as soon as one that did from its start, and not before 100 lines are
done. What earlier runs left in the file does not count: they may have been what was mended.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, get_args

from batchrun.errors import UsageError
from batchrun.records.outcome import Outcome
from batchrun.records.request import RequestLine
from batchrun.validation.schema import MismatchCheck

ErrorKind = Literal["failed", "refused", "incomplete", "schema_mismatch"]
KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
JUDGED_FROM = 100
WINDOW = 1000


@dataclass(frozen=True, slots=True)
class MaxErrors:
    """How much may go wrong before a job stops. Make it with `MaxErrors.parse("20")` or `MaxErrors.parse("5%")`.

    `count`: lines of this run that may go wrong; one more stops the job. None where a share is the limit.
    `rate`: the share of the last 1,000 lines that may go wrong, between 0 and 1, judged from 100 lines on; or None.
    `kinds`: what counts: `failed`, `refused`, `incomplete`, `schema_mismatch`.
    """

    count: int | None = None
    rate: float | None = None
    kinds: frozenset[str] = frozenset({"failed", "incomplete"})

    @classmethod
    def parse(cls, text: str, kinds: Collection[str] = ("failed", "incomplete")) -> MaxErrors:
        """The limit that `20`, `5%` or `0.05` means, and the kinds that count.

        Raises `UsageError` where the text is no such number, or a kind is unknown.
        """
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise UsageError(f"no kind of error is called {unknown[0]!r}; there are {', '.join(KINDS)}")
        chosen = frozenset(kinds)
        if text.isascii() and text.isdecimal():
            return cls(count=int(text), kinds=chosen)
        try:
            rate = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            rate = -1.0
        if not 0 < rate < 1:
            raise UsageError(f"--max-errors {text}: write a number of lines (20) or a share of them (5% or 0.05)")
        return cls(rate=rate, kinds=chosen)


class ErrorLimit:
    """Counts the lines of one run, as they are recorded.

    A misfit is a success for its record, and an error here alone: it is looked for where the user counts misfits,
    and then `notice` is told of schemas that cannot be checked. Raises `UsageError` where they cannot be at all.
    """

    def __init__(self, limit: MaxErrors, notice: Callable[[str], None]) -> None:
        self._limit = limit
        self._mismatches = MismatchCheck(notice) if "schema_mismatch" in limit.kinds else None
        self._first_mismatch = ""
        self._errors: Counter[str] = Counter()
        self._lines = 0
        self._last: deque[bool] = deque(maxlen=WINDOW)
        self._last_errors = 0

    def add(self, line: RequestLine, outcome: Outcome, answer: bytes | None) -> bool:
        """Count one line with what became of it and the body of its answer; True where the limit is passed."""
        kind = "schema_mismatch" if outcome == "succeeded" and self._is_mismatch(line, answer) else outcome
        is_error = kind in self._limit.kinds
        if is_error:
            self._errors[kind] += 1
        self._lines += 1
        if len(self._last) == WINDOW:
            self._last_errors -= self._last[0]
        self._last.append(is_error)
        self._last_errors += is_error
        return self.is_passed

    def _is_mismatch(self, line: RequestLine, answer: bytes | None) -> bool:
        why = self._mismatches.why(line, answer) if self._mismatches is not None and answer is not None else None
        if why is not None and not self._first_mismatch:
            self._first_mismatch = f"line {line.line_number}: {why}"
        return why is not None

    @property
    def is_passed(self) -> bool:
        """Whether more lines went wrong than the user allows."""
        if self._limit.count is not None:
            return self._errors.total() > self._limit.count
        assert self._limit.rate is not None
        judged = len(self._last)
        return judged >= JUDGED_FROM and self._last_errors > self._limit.rate * judged

    def why_stopped(self) -> str:
        """What went wrong, in one line."""
        kinds = ", ".join(self._counted(kind, count) for kind, count in self._errors.most_common())
        if self._limit.count is not None:
            return f"--max-errors {self._limit.count} is passed: {kinds} of {self._lines:,} lines of this run"
        share = f"{self._limit.rate:.2%}".replace(".00%", "%")
        return f"--max-errors {share} is passed: {self._last_errors:,} of the last {len(self._last):,} lines ({kinds})"

    def _counted(self, kind: str, count: int) -> str:
        if kind != "schema_mismatch":
            return f"{count:,} {kind}"
        return f"{count:,} misfits (e.g. {self._first_mismatch})" if count > 1 else f"1 misfit ({self._first_mismatch})"
