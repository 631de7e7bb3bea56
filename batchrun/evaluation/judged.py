"""Scores the answers of a result file by the verdicts of a judge, and the judge by those of people."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchrun.datasets.lookup import RecordFile
from batchrun.datasets.tables import Source, Table, open_table
from batchrun.errors import UsageError
from batchrun.evaluation.asked import Asked, ids_of_requests
from batchrun.evaluation.fields import DAMAGED
from batchrun.evaluation.figures import VERSION, Accuracy, Evaluation, FieldFigures, Judge, People
from batchrun.evaluation.gold import NO_CELL, REPEAT, Column, Gold, group_column, ids_of
from batchrun.evaluation.judge_requests import why_unanswered
from batchrun.evaluation.judge_verdicts import JudgeFile, Said
from batchrun.evaluation.repeats import Seen, repeats
from batchrun.evaluation.rows_file import RowSink
from batchrun.evaluation.summary import accuracies, effective_of, groups
from batchrun.evaluation.tally import Judged, Place, RowTally
from batchrun.evaluation.verdict import Counts, Unanswered, Verdict
from batchrun.evaluation.warnings import FEW_ROWS, damaged
from batchrun.records.index import hash64
from batchrun.records.words import counted
from batchrun.stats.confusion import SEED
from batchrun.stats.corrected import Rate, corrected_share, product
from batchrun.stats.proportions import CONFIDENCE, UNDEFINED, wilson

_VERDICTS = {Said.PASS: Verdict.RIGHT, Said.FAIL: Verdict.WRONG}


@dataclass(frozen=True, slots=True)
class JudgeQuestion:
    """What is asked of a judge's verdicts.

    `judge`: the result file of the judge. `passing`: `FIELD=VALUE`, where its verdict is a pass. `gold`: a table of the
    same rows, for what follows: `people`, its column with the verdicts of people; `by` and `cluster`, columns that
    group rows, and that hold what belongs together. `key`: its column of ids. `policy`: what unanswered rows count as.
    """

    judge: Path
    passing: str
    gold: Source | None = None
    key: str | None = None
    people: str | None = None
    by: str | None = None
    cluster: str | None = None
    policy: Unanswered = Unanswered.WRONG


def evaluate_judged(results: Path, question: JudgeQuestion, sinks: Sequence[RowSink] = ()) -> Evaluation:
    """The figures of a result file by the verdicts of a judge. `sinks` get every row.

    Raises `UsageError` where nothing was answered, or no verdict can be read, or a file or an option cannot serve;
    `InputError` for rows of the table that cannot be used; `ResultFileError` for records of another version.
    """
    if question.gold is None and (question.people or question.by or question.cluster or question.key):
        raise UsageError("--judge-gold, --by, --cluster and --key name columns of a table; pass --gold FILE, too")
    try:
        with contextlib.ExitStack() as files:
            file = files.enter_context(RecordFile(results))
            table = files.enter_context(open_table(question.gold)) if question.gold is not None else None
            work = _Judging(file, table, question)
            for sink in sinks:
                sink.begin([work.judge.mark.field])
            for place, judged in work.rows():
                for sink in sinks:
                    sink.take(place, judged.verdict, [judged])
            for place in work.not_asked() if sinks else ():
                for sink in sinks:
                    sink.take(place, Verdict.NOT_ASKED, [Judged(Verdict.NOT_ASKED)])
            return work.evaluation()
    except OSError as error:
        raise UsageError(f"cannot read {error.filename or results}: {error.strerror}") from error


class _Judging:
    """One result file, its judge, and the table of its rows if there is one."""

    def __init__(self, file: RecordFile, table: Table | None, question: JudgeQuestion) -> None:
        self._file, self._question = file, question
        self._asked = Asked.of(file.path)
        self._reader = self._asked.reader()
        self.judge = JudgeFile(question.judge, question.passing, file.path)
        self._rows = _Rows(table, question, self._asked, self.judge)
        self._seen = Seen(1)
        self._tally = RowTally()
        self._unanswered, self._unscored = Counter[str](), Counter[str]()
        self._people = Counter[tuple[bool, Said]]()
        self._records = self._total = self._duplicates = 0

    def rows(self) -> Iterator[tuple[Place, Judged]]:
        """Every record with its verdict, counted: the first one of each id, or else one that is damaged."""
        for result in self._file.results():
            if self.judge.is_second(result.custom_id):
                self._duplicates += 1
                continue
            self._total = max(self._total, result.run.total_lines)
            yield self._counted(result.custom_id, why_unanswered(result, self._reader))
        for custom_id in self._file.damaged_ids.values():
            if not self.judge.is_second(custom_id):
                yield self._counted(custom_id, DAMAGED)

    def _counted(self, custom_id: str, why: str) -> tuple[Place, Judged]:
        """An answer with its verdict, counted. `why`: why there is no answer; "" where there is one."""
        self._records += 1
        place = self._rows.place(custom_id)
        if place.row is not None and place.row >= 0:
            self._seen.add(custom_id, place.row, place.repeat)  # refuses what is alone and a repeat
        judged = self._judged(place, why)
        said = judged.vote if place.repeat else None
        self._tally.add(judged.verdict, said, place)
        return place, judged

    def _judged(self, place: Place, why: str) -> Judged:
        if why:
            self._unanswered[why] += 1
            return Judged(Verdict.UNANSWERED, why)
        said = self.judge.said(place.custom_id)
        if (person := self._rows.person(place)) is not None:
            self._people[person, said if said in _VERDICTS else Said.NONE] += 1
        if said not in _VERDICTS:
            self._unscored[said.in_words] += 1
            return Judged(Verdict.UNSCORED, said.in_words)
        return Judged(_VERDICTS[said], "", (None, said.name.lower()))

    @property
    def _requests_without_record(self) -> int:
        return max(0, self._total - self._records)

    def not_asked(self) -> Iterator[Place]:
        """The requests that have no record, after `rows`; without an id where the request file cannot tell it."""
        if not self._requests_without_record:
            return
        left = [custom_id for custom_id in ids_of_requests(self._file.path) if not self.judge.is_second(custom_id)]
        for custom_id in left[: self._requests_without_record]:
            yield self._rows.place(custom_id)
        for _ in range(self._requests_without_record - len(left)):
            yield Place("", None)

    def evaluation(self) -> Evaluation:
        """The figures; after `rows`."""
        tally, question, mark = self._tally, self._question, self.judge.mark
        tally.count(Verdict.NOT_ASKED, None, self._requests_without_record)
        counts = Counts.of(tally.verdicts)
        self._refuse_nothing(counts)
        both = accuracies(tally)
        people = self._figures_of_people(counts, both) if question.people is not None else None
        field = FieldFigures(
            column="",
            scorer=f"the judge says {mark.text}",
            counts=counts,
            unanswered=dict(self._unanswered.most_common()),
            accuracy=both.of(question.policy),
            accuracies=both,
            repeats=repeats(tally.tries.values(), question.policy),
            groups=groups(tally, question.policy),
        )
        return Evaluation(
            v=VERSION,
            results=str(self._file.path),
            gold="" if question.gold is None else question.gold.name,
            policy=question.policy,
            confidence=CONFIDENCE,
            seed=SEED,
            counts=counts,
            accuracy=field.accuracy,
            accuracies=both,
            fields={mark.field: field},
            judge=Judge(str(self.judge.path), mark.text, dict(self._unscored.most_common()), people),
            repeats=field.repeats,
            groups=field.groups,
            duplicates=self._duplicates,
            damaged_lines=self._file.damaged,
            warnings=[*self.judge.warnings, *damaged(self._file), *self._warnings(counts, people)],
        )

    def _figures_of_people(self, counts: Counts, both: Accuracy) -> People:
        """How the judge does where people have judged as well, and what that makes of its verdicts."""
        found = self._people
        passed = Rate(found[True, Said.PASS], found[True, Said.PASS] + found[True, Said.FAIL])
        failed = Rate(found[False, Said.FAIL], found[False, Said.PASS] + found[False, Said.FAIL])
        unreadable = found[True, Said.NONE] + found[False, Said.NONE]
        effective = effective_of(self._tally, with_unanswered=False)
        corrected = corrected_share(Rate(counts.right, counts.answered), passed, failed, effective)
        answered = wilson(counts.answered, counts.asked, effective_of(self._tally, with_unanswered=True))
        everyone = sum(found.values())
        return People(
            column=self._question.people or "",
            passed=int(passed.rows),
            failed=int(failed.rows),
            unreadable=unreadable,
            true_positive_rate=wilson(passed.hits, passed.rows),
            true_negative_rate=wilson(failed.hits, failed.rows),
            accuracy=wilson(sum(count for (is_pass, _), count in found.items() if is_pass), everyone),
            corrected=Accuracy(product(answered, corrected) if both.asked != both.answered else corrected, corrected),
        )

    def _warnings(self, counts: Counts, people: People | None) -> Iterator[str]:
        if counts.unscored:
            yield f"{counted(counts.unscored, 'answer')} without a verdict that can be read: no figure speaks of them"
        if counts.not_asked:
            yield f"{counted(counts.not_asked, 'request')} without a record yet: no figure speaks of them"
        if people is None:
            yield "nobody has judged the judge: pass --judge-gold COLUMN with verdicts of people on some rows"
            return
        if people.corrected.answered == UNDEFINED:
            yield _why_not_corrected(people)
        for name, rows in (("passed", people.passed), ("failed", people.failed)):
            if 0 < rows < FEW_ROWS:
                yield f"people {name} only {counted(rows, 'row')}: the judge's rate there, and the correction, are weak"

    def _refuse_nothing(self, counts: Counts) -> None:
        """No figure is made where there is nothing to make it of."""
        if not self._records:
            raise UsageError(f"nothing was answered: {self._file.path} has no answer (no records); there is no figure")
        if not counts.answered:
            unanswered, unscored = _listed(self._unanswered), _listed(self._unscored)
            what = "nothing was scored" if self._unscored else "nothing was answered"
            raise UsageError(
                f"{what}: of {counted(self._records, 'record')}, {counts.unanswered:,} unanswered{unanswered} and "
                f"{counts.unscored:,} without a verdict that can be read{unscored}; there is no figure"
            )


def _listed(whys: Counter[str]) -> str:
    return f" ({', '.join(f'{count:,} {why}' for why, count in whys.most_common())})" if whys else ""


def _why_not_corrected(people: People) -> str:
    if not people.passed or not people.failed:
        kind = "passed" if not people.passed else "failed"
        return f"people {kind} no row that the judge has judged, so the accuracy cannot be corrected; judge more rows"
    return (
        "on the rows of people the judge is no better than chance, so its verdicts cannot be corrected; do not use it"
    )


class _Rows:
    """Where each record belongs, by the table of rows; without one, only repeats belong together."""

    def __init__(self, table: Table | None, question: JudgeQuestion, asked: Asked, judge: JudgeFile) -> None:
        self._is_repeated = asked.prepared is not None and asked.prepared.repeat > 1
        self._gold: Gold | None = None
        self._people = self._by = self._cluster = None
        if table is not None:
            people = question.people
            self._people = _column(table, "--judge-gold", people, Column(people or "", judge.mark.read_people))
            self._by = _column(table, "--by", question.by, group_column(question.by or ""))
            self._cluster = _column(table, "--cluster", question.cluster, group_column(question.cluster or ""))
            columns = [column for column in (self._people, self._by, self._cluster) if column is not None]
            self._gold = Gold(table, ids_of(table, question.key, asked), columns, expected=len(judge))

    def place(self, custom_id: str) -> Place:
        """Where a record belongs."""
        row, repeat = None, 0
        if self._gold is not None:
            row, repeat = self._gold.find(custom_id)
        if row is None and self._is_repeated and (found := REPEAT.fullmatch(custom_id)):
            row, repeat = -hash64(found[1]), int(found[2])  # no row of the table, but one row all the same
        group = None if self._by is None else (self._by.at(row) or "" if row is not None and row >= 0 else "")
        return Place(custom_id, row, repeat, group, self._cluster_of(custom_id, row, repeat))

    def _cluster_of(self, custom_id: str, row: int | None, repeat: int) -> object:
        if self._cluster is None:
            return row if repeat else None
        code = self._cluster.codes[row] if row is not None and row >= 0 else NO_CELL
        return ("alone", custom_id if row is None else row) if code == NO_CELL else code

    def person(self, place: Place) -> bool | None:
        """What a person said of this very answer; None where nobody did. What is said of a row is said of no repeat."""
        if self._people is None or place.row is None or place.repeat:
            return None
        verdict: bool | None = self._people.at(place.row)
        return verdict


def _column(table: Table, option: str, name: str | None, column: Column) -> Column | None:
    if name is None:
        return None
    if name not in table.columns:
        raise UsageError(f"{option} {name}: {table.name} has no such column; it has {', '.join(table.columns)}")
    return column
