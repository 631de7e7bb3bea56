"""Holds the answers of a result file against a table of gold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from batchrun.datasets.lookup import RecordFile
from batchrun.datasets.tables import Source, Table
from batchrun.errors import UsageError
from batchrun.evaluation.asked import Asked, IdColumn, IdOfCells
from batchrun.evaluation.fields import ANSWER, Answer, Field, choose_fields
from batchrun.evaluation.figures import VERSION, Evaluation, Reviewed
from batchrun.evaluation.gold import CUSTOM_ID, NO_CELL, Column, Gold, gold_column, group_column, ids_of
from batchrun.evaluation.repeats import Seen, repeats
from batchrun.evaluation.reviewed import Sample, of_sample, open_gold
from batchrun.evaluation.rows_file import RowSink
from batchrun.evaluation.scorers import EXACT, Scorer, shown
from batchrun.evaluation.seen import SeenFields
from batchrun.evaluation.summary import accuracies, field_figures, groups
from batchrun.evaluation.tally import FieldTally, Judged, Place, RowTally
from batchrun.evaluation.verdict import Counts, Unanswered, Verdict, of_all_fields
from batchrun.evaluation.warnings import copied, damaged, not_allowed, not_scored, warnings_for, without_place
from batchrun.records.answer import Result
from batchrun.records.words import counted
from batchrun.stats.confusion import SEED
from batchrun.stats.proportions import CONFIDENCE

_NOTHING: Mapping[str, Scorer] = MappingProxyType({})
_CLUSTER = "; --cluster COLUMN takes rows together that have one value"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a result file.

    `gold`: the table with the right answers. `key`: its column of ids; None: `custom_id`. `columns`: the column of
    gold for a field, where the two have other names. `scorers`: by field. `by`, `cluster`: columns of gold that group
    rows, and that hold what belongs together. `ordinal`: fields whose labels have the order of their enum.
    `policy`: what rows without an answer count as. `seed`: of the resampled intervals.
    """

    gold: Source
    key: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    by: str | None = None
    cluster: str | None = None
    ordinal: Sequence[str] = ()
    policy: Unanswered = Unanswered.WRONG
    seed: int = SEED


class JudgedRow(msgspec.Struct, frozen=True, gc=False):
    """One record of the result file: where it belongs, the verdict on all its fields together and on each.

    `result` None: it is damaged. `offset`: where it begins in the file.
    """

    place: Place
    verdict: Verdict
    fields: list[Judged]
    result: Result | None
    offset: int


@dataclass(frozen=True, slots=True)
class _Known:
    """Gold that was read, for which fields and by which rule for ids: its rows, its column for each field,
    and those that group rows and hold them together.
    """

    fields: Sequence[Field]
    rule: tuple[object, ...]
    rows: Gold
    columns: list[Column]
    by: Column | None
    cluster: Column | None


class Scoring:
    """One result file and its gold, opened: `rows` judges record after record, `evaluation` sums up.

    `like`: another file that is held against the same gold, which is not read again where both look for the same.
    `sample`: how the rows of gold were drawn, where they are those of a review. `keep_ids`: rows without a record are
    given with their ids. `known`: how fields are scored that are null in all answers, which do not tell.

    Raises `UsageError`, `InputError` or `ResultFileError` where one of the two cannot serve.
    """

    def __init__(
        self,
        results: RecordFile,
        table: Table,
        question: Question,
        like: Scoring | None = None,
        sample: Sample | None = None,
        *,
        keep_ids: bool = False,
        known: Mapping[str, Scorer] = _NOTHING,
    ) -> None:
        self._results, self._question, self._table, self._sample = results, question, table, sample
        self._asked = asked = Asked.of(results.path)
        self._reader = asked.reader()
        wanted = {*table.columns, *question.columns, *question.scorers}
        seen = SeenFields(() if asked.is_closed else results.results(), wanted)
        self.without_value = seen.without_value()
        fields = self._fields(seen, known)
        self._orders = _orders(question.ordinal, fields, asked)
        ids = ids_of(table, question.key, asked)
        used = {*(one.column for one in fields), ids.name, CUSTOM_ID, question.by, question.cluster}
        self.unscored = [name for name in table.columns if name not in used] if seen.objects else []
        self._known = gold = self._known_of(fields, ids, like, keep_ids=keep_ids)
        self.gold, self._by, self._cluster = gold.rows, gold.by, gold.cluster
        self.tallies = [FieldTally(one, column) for one, column in zip(fields, gold.columns, strict=True)]
        self.rows_tally = RowTally()
        self._seen = Seen(1 if asked.prepared is None else asked.prepared.repeat)
        self.duplicates = self._repeats_not_asked = 0
        self._copied = 0

    def _fields(self, seen: SeenFields, known: Mapping[str, Scorer]) -> list[Field]:
        """The fields that the schema or any answer names and gold has a column for, and those that were told."""
        question, schema = self._question, self._asked.scorers()
        scorers = {ANSWER: seen.answer_scorer} | seen.scorers()
        scorers |= {name: known[name] for name in self.without_value if name in known}
        scorers |= dict.fromkeys([name for name in schema if name not in scorers or name == ANSWER], EXACT)
        scorers |= {name: scorer for name, scorer in schema.items() if scorer is not None}
        is_text = seen.has_texts and not seen.are_objects and not schema
        names = [*([ANSWER] if is_text else []), *dict.fromkeys([*schema, *seen.names])]
        table = self._table
        try:
            return choose_fields(scorers, table.columns, question.columns, question.scorers, table.name, names)
        except UsageError:
            self._refuse_unanswered()  # then the answers have no fields at all, which says more
            raise

    def _known_of(
        self, fields: Sequence[Field], ids: IdColumn | IdOfCells, like: Scoring | None, *, keep_ids: bool
    ) -> _Known:
        if like is not None and (like._known.fields, like._known.rule) == (fields, ids.rule):
            return like._known
        columns = [gold_column(one.column, one.scorer) for one in fields]
        by, cluster = self._group(self._question.by, "--by"), self._group(self._question.cluster, "--cluster")
        extra = [column for column in (by, cluster) if column is not None]
        gold = Gold(self._table, ids, [*columns, *extra], keep_ids=keep_ids)
        return _Known(fields, ids.rule, gold, columns, by, cluster)

    @property
    def policy(self) -> Unanswered:
        """What unanswered rows count as."""
        return self._question.policy

    @property
    def damaged_lines(self) -> int:
        """How many lines of the file are no records; after `rows`."""
        return self._results.damaged

    @property
    def is_weighted(self) -> bool:
        """Whether rows of gold stand for different numbers of rows."""
        return self._sample is not None and not self._sample.is_even

    def of_answers(self) -> list[str]:
        """What must be known of the answers of this file beside others; after `rows`."""
        return [*damaged(self._results), *copied(self._copied)]

    def not_allowed(self) -> Iterator[str]:
        """A warning for each field whose gold no answer can be."""
        return not_allowed(self.tallies, self._asked)

    def not_scored(self, columns: Sequence[str]) -> Iterator[str]:
        """A warning where columns of gold, which no answer names, may be fields all the same."""
        return not_scored(columns, self._asked, self._table.name, self._results.path)

    def keep(self, names: Container[str]) -> None:
        """Judge these fields only; before `rows`."""
        self.tallies = [tally for tally in self.tallies if tally.field.name in names]

    def _refuse_unanswered(self) -> None:
        """Raise `UsageError` where no record of the file is an answer."""
        outcomes = Counter(result.outcome for result in self._results.results())
        if not outcomes["succeeded"]:
            whys = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common()) or "no records"
            raise UsageError(f"nothing was answered: {self._results.path} has no answer ({whys}); there is no figure")

    def _group(self, name: str | None, option: str) -> Column | None:
        if name is None:
            return None
        if name not in self._table.columns:
            raise UsageError(
                f"{option} {name}: {self._table.name} has no such column; it has {', '.join(self._table.columns)}"
            )
        return group_column(name)

    def rows(self, read: Callable[[Sequence[Result]], None] | None = None) -> Iterator[JudgedRow]:
        """Every record, judged and counted; the first one of each id. `read` gets all of them, many at a time."""
        for results, offsets in self._results.batches():
            if read is not None:
                read(results)
            found = self.gold.find_all([result.custom_id for result in results])
            for result, offset, (row, repeat) in zip(results, offsets, found, strict=True):
                if not self._seen.add(result.custom_id, row, repeat):
                    self.duplicates += 1
                    continue
                source = result.run.source
                self._copied += source is not None and source.kind == "copied" and row is not None
                yield self._judged(result.custom_id, result, offset, row, repeat)
        for offset, custom_id in self._results.damaged_ids.items():
            row, repeat = self.gold.find(custom_id)
            if self._seen.add(custom_id, row, repeat):  # it was asked, and has no other record
                yield self._judged(custom_id, None, offset, row, repeat)

    def _judged(self, custom_id: str, result: Result | None, offset: int, row: int | None, repeat: int) -> JudgedRow:
        """A record, judged and counted."""
        place = self._place(custom_id, row, repeat)
        answer, judged = Answer(result, self._reader), list[Judged]()
        for tally in self.tallies:
            one = tally.judge(answer, row)
            tally.take(one, place)
            judged.append(one)
        verdict = judged[0].verdict if len(judged) == 1 else of_all_fields([one.verdict for one in judged])
        said = repr([one.vote for one in judged]) if repeat and verdict is not Verdict.UNANSWERED else None
        self.rows_tally.add(verdict, said, place)
        return JudgedRow(place, verdict, judged, result, offset)

    def said_at(self, offset: int, row: int, field: int) -> str | None:
        """What the record at an offset answered to a row, in one field, as a text; None where it did not."""
        if offset in self._results.damaged_ids:
            return None
        return self.tallies[field].judge(Answer(self._results.at(offset), self._reader), row).said

    def group_of(self, row: int) -> str:
        """The value of the column `by` in a row of gold; "" where it has none."""
        return "" if self._by is None else self._by.at(row) or ""

    def gold_text(self, row: int, field: int) -> str:
        """What gold says in one field of a row."""
        right = self.tallies[field].column.at(row)
        return " | ".join(shown(one) for one in right or ())

    def id_at(self, offset: int) -> str:
        """The id of the record at an offset."""
        damaged = self._results.damaged_ids.get(offset)
        return self._results.at(offset).custom_id if damaged is None else damaged

    def _place(self, custom_id: str, row: int | None, repeat: int) -> Place:
        if row is None:
            return Place(custom_id, None)
        group = None if self._by is None else self.group_of(row)
        cluster: Any = row if repeat else None
        if self._cluster is not None:
            cluster = self._cluster.codes[row]
            cluster = ("alone", row) if cluster == NO_CELL else cluster
        weight = None if self._sample is None else self._sample.weights[row]
        return Place(custom_id, row, repeat, group, cluster, weight)

    def count_not_asked(self) -> Iterator[Place]:
        """Count the rows of gold, and their repeats, that no record answers, and give each; after `rows`."""
        for row, repeat in self._seen.missing(len(self.gold)):
            has_gold = [tally.column.codes[row] != NO_CELL for tally in self.tallies]
            group = None if self._by is None else self.group_of(row)
            for tally, has in zip(self.tallies, has_gold, strict=True):
                if has:
                    tally.count(Verdict.NOT_ASKED, group)
            if any(has_gold):
                self.rows_tally.count(Verdict.NOT_ASKED, group)
                self._repeats_not_asked += bool(repeat)
                yield Place(self.gold.id_of(row, repeat), row, repeat)

    def not_asked(self, place: Place) -> list[Judged]:
        """What stands in each field for a row of gold that was not asked."""
        gold = [None if place.row is None else tally.column.at(place.row) for tally in self.tallies]
        return [
            Judged(Verdict.UNSCORED)
            if right is None
            else Judged(Verdict.NOT_ASKED, "", (next(iter(right), None), None))
            for right in gold
        ]

    def evaluation(self) -> Evaluation:
        """The figures; after `rows` and `count_not_asked`. Raises `UsageError` where nothing was answered or scored."""
        question, tally = self._question, self.rows_tally
        counts = Counts.of(tally.verdicts)
        self._refuse_nothing(counts)
        both = accuracies(tally)
        fields = {
            one.field.name: field_figures(one, question.policy, self._orders.get(one.field.name), question.seed)
            for one in self.tallies
        }
        return Evaluation(
            v=VERSION,
            results=str(self._results.path),
            gold=self._table.name,
            policy=question.policy,
            confidence=CONFIDENCE,
            seed=question.seed,
            counts=counts,
            accuracy=both.of(question.policy),
            accuracies=both,
            fields=fields,
            repeats=repeats(tally.tries.values(), question.policy),
            groups=groups(tally, question.policy),
            duplicates=self.duplicates,
            damaged_lines=self.damaged_lines,
            reviewed=None if self._sample is None else Reviewed(self._sample.drawn, weighted=not self._sample.is_even),
            warnings=[
                *warnings_for(self.tallies, fields, counts, question.policy, self._repeats_not_asked),
                *damaged(self._results),
                *without_place(self._orders, fields),
                *copied(self._copied if self._cluster is None else 0, _CLUSTER),
                *self.not_allowed(),
                *self.not_scored(self.unscored),
                *([] if self._sample is None else of_sample(self._sample)),
            ],
        )

    def _refuse_nothing(self, counts: Counts) -> None:
        """No figure is made where there is nothing to make it of."""
        if not self.rows_tally.records:
            self._refuse_unanswered()
        if not counts.asked:
            is_empty = not any(tally.column.values for tally in self.tallies)
            hint = "every cell of gold is empty" if is_empty else "look at --key"
            raise UsageError(
                f"nothing was scored: no record of {self._results.path} has gold in {self._table.name} "
                f"({counted(counts.unscored, 'record')} without gold, {counted(counts.not_asked, 'row')} of gold not "
                f"asked); {hint}"
            )
        self.refuse_no_answer(counts)

    def refuse_no_answer(self, counts: Counts) -> None:
        """Raise `UsageError` where rows were asked, and no field of any was answered."""
        if not counts.asked or any(Counts.of(tally.verdicts).answered for tally in self.tallies):
            return
        whys = [f"{count:,} {why}" for tally in self.tallies for why, count in tally.why.most_common()]
        raise UsageError(
            f"nothing was answered: {counted(counts.unanswered, 'row')} with gold, none with an answer that "
            f"can be read in {self._results.path} ({', '.join(dict.fromkeys(whys))}); there is no figure"
        )


def _orders(told: Sequence[str], fields: Sequence[Field], asked: Asked) -> dict[str, list[Any]]:
    """The labels of ordinal fields in their order, as their scorer reads them. Raises `UsageError` for other fields."""
    scorers, orders = {one.name: one.scorer for one in fields}, dict[str, list[Any]]()
    for name in told:
        labels = asked.order(name)
        if name not in scorers:
            raise UsageError(f"--ordinal {name}: no such field is scored; the fields are {', '.join(scorers)}")
        try:
            orders[name] = list(map(scorers[name].read_gold, labels))
        except ValueError as error:
            raise UsageError(f"--ordinal {name}: a label of its enum cannot be read: {error}") from None
    return orders


@contextmanager
def scoring(
    results: Path,
    question: Question,
    like: Scoring | None = None,
    *,
    keep_ids: bool = False,
    known: Mapping[str, Scorer] = _NOTHING,
) -> Iterator[Scoring]:
    """A result file and its gold, opened. Raises as `Scoring` does, and `UsageError` for a file that is not there."""
    try:
        with RecordFile(results) as file, open_gold(question.gold) as (table, sample):
            yield Scoring(file, table, question, like, sample, keep_ids=keep_ids, known=known)
    except OSError as error:
        raise UsageError(f"cannot read {error.filename or results}: {error.strerror}") from error


def evaluate(results: Path, question: Question, sinks: Sequence[RowSink] = ()) -> Evaluation:
    """The figures of a result file against gold. `sinks` get every row.

    Raises `UsageError` where nothing was answered, or scored, or a file or an option cannot serve; `InputError` for
    rows of gold that cannot be used; `ResultFileError` for records of another version.
    """
    with scoring(results, question, keep_ids=bool(sinks)) as work:
        for sink in sinks:
            sink.begin([tally.field.name for tally in work.tallies])
        for judged in work.rows():
            for sink in sinks:
                sink.take(judged.place, judged.verdict, judged.fields)
        for place in work.count_not_asked():
            fields = work.not_asked(place) if sinks else []
            for sink in sinks:
                sink.take(place, Verdict.NOT_ASKED, fields)
        return work.evaluation()
