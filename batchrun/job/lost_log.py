"""What earlier runs may have cost if their run log is gone: the worst case, since nobody knows what they sent.

1. A run is without a log if there are records of it and the log has no start of it.
2. As many lines without a record as may be in flight at a time may have been: those that cost the most.
3. Each attempt of a recorded line but the one with its answer may have been billed.
"""

from __future__ import annotations

import heapq
import sys
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from batchrun.billing.exposure import bound
from batchrun.billing.tally import Tally
from batchrun.records.attempt import BilledTwice, InFlight
from batchrun.records.index import LineSet
from batchrun.records.money import NOTHING, total_usd, usd
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead
from batchrun.records.words import counted
from batchrun.requests.reader import RequestFile


class LostRuns:
    """Collects the attempts of records whose runs have no log; `logged` are the starts that the log knows."""

    def __init__(self, logged: Set[str]) -> None:
        self.logged = logged
        self._attempts: Counter[int] = Counter()
        self.starts: set[str] = set()

    def add(self, heads: Sequence[ResultHead]) -> None:
        """Look at records."""
        runs = [head.run for head in heads]
        self.starts.update({run.started for run in runs} - self.logged)
        if (
            [run.attempts for run in runs].count(1) == len(runs)
            and not any([run.throttles for run in runs])  # noqa: C419 - a list is twice as fast
            and [run.usage for run in runs].count(None) == 0
        ):
            return  # as nearly always: the one attempt of each has the answer
        for run in runs:
            if run.source is not None:
                continue  # nothing was sent for it
            is_settled = run.usage is not None or (run.outcome == "failed" and not run.retryable)
            if (attempts := run.attempts - run.throttles - is_settled) and run.started not in self.logged:
                self._attempts[run.line] += attempts

    def attempts_of(self, line: int) -> int:
        """How many attempts of a recorded line may be on no bill."""
        return self._attempts.get(line, 0)

    @property
    def first_line(self) -> int:
        """The number of the first line that has such attempts."""
        return min(self._attempts, default=sys.maxsize)


@dataclass(frozen=True, slots=True)
class _Settled:
    """The numbers of the lines that can have cost nothing beyond their records."""

    done: LineSet
    lost: LostRuns

    def __contains__(self, number: object) -> bool:
        return number in self.done and not self.lost.attempts_of(cast("int", number))


@dataclass(frozen=True, slots=True)
class WorstCase:
    """`billed_twice`: lines that may have been in flight. `unbilled_usd`: further attempts, in US dollars."""

    billed_twice: BilledTwice
    unbilled_usd: Decimal

    def in_words(self, log: str) -> str:
        """A notice about the missing log."""
        lines = counted(self.billed_twice.lines, "line")
        words = f"WARNING: {log} of earlier runs is gone; at worst {lines} without a record were in flight"
        if self.billed_twice.lines:
            words += f" and {self.billed_twice.in_words()}"
        if self.unbilled_usd:
            words += f"; earlier attempts may have cost up to ${usd(self.unbilled_usd)}"
        return words


def worst_case(
    requests: RequestFile,
    done: LineSet,
    lost: LostRuns,
    most_in_flight: int,
    upper: Callable[[RequestLine], Decimal | None],
    tally: Tally,
) -> WorstCase:
    """The most that the runs without a log may have cost beyond their records; `upper` is the most for one attempt."""
    unbilled: list[Decimal] = []
    dearest: list[tuple[Decimal, int, InFlight]] = []
    for line in requests.requests(_Settled(done, lost), min(done.first_gap(), lost.first_line)):
        if line.line_number in done:
            unbilled.append((upper(line) or NOTHING) * lost.attempts_of(line.line_number))
            continue
        upper_usd = upper(line)
        attempt = InFlight(line.model, len(line.body), line.max_output_tokens, upper_usd)
        entry = (upper_usd or NOTHING, line.line_number, attempt)
        if len(dearest) < most_in_flight:
            heapq.heappush(dearest, entry)
        else:
            heapq.heappushpop(dearest, entry)
    in_flight = [attempt for _, _, attempt in dearest]
    return WorstCase(bound(in_flight, tally.book, tally.longest_answer), total_usd(unbilled))
