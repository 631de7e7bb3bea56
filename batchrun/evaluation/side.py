"""One of the result files that are compared: a verdict for each row of gold, and what its answers cost."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import msgspec

from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.errors import UsageError
from batchrun.evaluation.evaluate import Scoring
from batchrun.evaluation.tally import RowTally
from batchrun.evaluation.verdict import Counts, Unanswered, Verdict
from batchrun.records.answer import Result
from batchrun.records.result import ResultHead
from batchrun.results.paths import are_one

ABSENT, RIGHT, WRONG, UNANSWERED, UNSCORED = range(5)
_CODES = {
    Verdict.NOT_ASKED: ABSENT,
    Verdict.RIGHT: RIGHT,
    Verdict.WRONG: WRONG,
    Verdict.UNANSWERED: UNANSWERED,
    Verdict.UNSCORED: UNSCORED,
}
NOWHERE = (1 << 64) - 1


class Spent(msgspec.Struct, frozen=True):
    """What all `records` of a file came to, as in its report: US dollars, tokens, seconds.

    Those of an id that had one were paid for, too. `cost_usd` leaves out the `unpriced_lines` and the answers of
    `lines_without_usage`. `latency_p50_s`, `latency_p95_s`: None where nothing was measured.
    """

    records: int
    cost_usd: float
    unpriced_lines: int
    lines_without_usage: int
    input_tokens: int
    output_tokens: int
    latency_p50_s: float | None
    latency_p95_s: float | None


def refuse_one_twice(results: Sequence[Path]) -> None:
    """Raise `UsageError` where two names are of one file, which differs from itself in nothing."""
    for one, other in combinations(results, 2):
        if are_one(one, other):
            raise UsageError(f"{one} and {other} are one file, and a file is not compared with itself; name another")


class Example(NamedTuple):
    """One record: where it begins in the file, and its verdicts, by field; under "" that on all fields."""

    offset: int
    verdicts: dict[str, int]


class Spending:
    """Adds up what results came to."""

    def __init__(self, book: PriceBook) -> None:
        self._tally = Tally(book)

    def add(self, results: Sequence[Result]) -> None:
        """Add some; many at once are faster."""
        self._tally.add([ResultHead(result.custom_id, result.run, result.error) for result in results])

    def total(self) -> Spent:
        """The sums of all that were added."""
        total = self._tally.total()
        latency = total.latency.summary()
        return Spent(
            records=self._tally.recorded,
            cost_usd=float(total.bill.cost_usd),
            unpriced_lines=total.bill.unpriced_lines,
            lines_without_usage=total.bill.lines_without_usage,
            input_tokens=total.bill.usage.input_tokens,
            output_tokens=total.bill.usage.output_tokens,
            latency_p50_s=latency.p50,
            latency_p95_s=latency.p95,
        )


class Side:
    """A result file, read once. `verdicts`: by field, a code for each row of gold; under "" that of all fields.

    Several repeats of a row have the verdict of their majority vote.
    """

    def __init__(self, path: Path, scoring: Scoring, book: PriceBook) -> None:
        self.path, self.scoring = path, scoring
        rows, names = len(scoring.gold), [tally.field.name for tally in scoring.tallies]
        self.verdicts = {name: bytearray(rows) for name in ("", *names)}
        self.offsets = array("Q", [NOWHERE]) * rows
        self._repeats: dict[int, list[Example]] = {}
        self._read(names, Spending(book))

    def _read(self, names: list[str], spending: Spending) -> None:
        offsets, of_all = self.offsets, self.verdicts[""]
        of_fields = [self.verdicts[name] for name in names]
        for judged in self.scoring.rows(spending.add):
            row = judged.place.row
            if row is None:
                continue
            offsets[row] = judged.offset
            of_all[row] = _CODES[judged.verdict]
            for codes, one in zip(of_fields, judged.fields, strict=True):
                codes[row] = _CODES[one.verdict]
            if judged.place.repeat:
                self._repeats.setdefault(row, []).append(self._as_read(row))
        for _ in self.scoring.count_not_asked():
            pass
        self._settle_repeats("", self.scoring.rows_tally)
        for name, field in zip(names, self.scoring.tallies, strict=True):
            self._settle_repeats(name, field)
        self.spent = spending.total()
        self.counts = {"": Counts.of(self.scoring.rows_tally.verdicts)} | {
            name: Counts.of(field.verdicts) for name, field in zip(names, self.scoring.tallies, strict=True)
        }

    def _settle_repeats(self, name: str, tally: RowTally) -> None:
        policy = self.scoring.policy
        for row, tries in tally.tries.items():
            lost = WRONG if tries.unanswered < tries.asked else UNANSWERED
            self.verdicts[name][row] = RIGHT if tries.of(policy).is_majority_right else lost

    def example(self, row: int, name: str) -> Example:
        """The record that shows the verdict on a row; of repeats the last one that had this verdict."""
        repeats = self._repeats.get(row)
        if repeats is None:
            return self._as_read(row)
        verdict = self.verdicts[name][row]
        # Where as many are right as have no answer, the vote is a tie and the row wrong, though no repeat of it is.
        nearest = {code: place for place, code in enumerate((RIGHT, UNSCORED, UNANSWERED, WRONG))} | {verdict: 4}
        return max(repeats, key=lambda one: (nearest[one.verdicts[name]], one.offset))

    def _as_read(self, row: int) -> Example:
        return Example(self.offsets[row], {field: codes[row] for field, codes in self.verdicts.items()})

    def said(self, example: Example, row: int, field: int) -> str | None:
        """What a record answered about a row, in one field."""
        return self.scoring.said_at(example.offset, row, field)


def counts_as(policy: Unanswered) -> frozenset[int]:
    """The codes of rows that are compared."""
    return frozenset({RIGHT, WRONG, UNANSWERED} if policy is Unanswered.WRONG else {RIGHT, WRONG})
