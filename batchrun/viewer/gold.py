"""Right answers beside the rows: the verdict on each record, as `eval` would give it, and what gold says."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.evaluation.evaluate import Scoring
from batchrun.evaluation.fields import Answer
from batchrun.evaluation.verdict import Verdict, of_all_fields
from batchrun.records.answer import Result


@dataclass(frozen=True, slots=True)
class GoldField:
    """One field of a record against gold: the verdict, and what gold says."""

    name: str
    verdict: Verdict
    gold: str


class Judge:
    """Holds records against gold, one by one. `key`: names the gold and how it is read."""

    def __init__(self, scoring: Scoring, key: str) -> None:
        self._scoring, self.key = scoring, key

    def verdict(self, result: Result) -> Verdict:
        """The verdict on all fields of a record together."""
        row, _ = self._scoring.gold.find(result.custom_id)
        answer = Answer(result)
        return of_all_fields([tally.judge(answer, row).verdict for tally in self._scoring.tallies])

    def fields(self, result: Result) -> list[GoldField]:
        """Each field of a record; none where gold does not have its row."""
        row, _ = self._scoring.gold.find(result.custom_id)
        if row is None:
            return []
        answer = Answer(result)
        return [
            GoldField(tally.field.name, tally.judge(answer, row).verdict, self._scoring.gold_text(row, place))
            for place, tally in enumerate(self._scoring.tallies)
        ]
