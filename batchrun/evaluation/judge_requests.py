"""Requests to a judge: `prepare` over the rows of a table, each with the answer that a result file has for it.

1. An answer is a value of its row, as every cell is: what stands in it is never a template, and never a verdict.
2. The id of a request is that of the answer that it is about. Only answers that fit their schema are judged: others are
   counted.
3. Beside the requests stands the hash of the result file, so that no verdict counts for an answer that came later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from batchrun.datasets.ids_of_rows import as_prepared
from batchrun.datasets.labels import LabelReader
from batchrun.datasets.lookup import RecordFile, RecordsById
from batchrun.datasets.prepare import Summary, prepare_table
from batchrun.datasets.prepared import JudgedFile
from batchrun.datasets.recipe import Recipe
from batchrun.datasets.row import Row
from batchrun.datasets.tables import Source, Table, open_table
from batchrun.errors import UsageError
from batchrun.evaluation.asked import Asked, IdColumn, IdOfCells
from batchrun.evaluation.fields import Answer
from batchrun.evaluation.gold import CUSTOM_ID, REPEAT, ids_of
from batchrun.records.answer import Result, json_text_of
from batchrun.records.words import counted
from batchrun.results.parts import open_results
from batchrun.results.paths import ResultPaths

ANSWER, PARSED, GOLD = "answer", "parsed", "gold"
_PIECE = 1 << 20
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers that are to be judged. `source`: the table of their rows; `results`: the file that has them.

    `key`: the column of the table with the custom_id of each request; None: `custom_id`, or as it was prepared.
    `gold`: the column with the right answers, which the template names `gold`; None: there is none.
    """

    source: Source
    results: Path
    key: str | None = None
    gold: str | None = None


@dataclass(frozen=True, slots=True)
class ToJudge:
    """What was written.

    `summary`: the requests. `unanswered`: rows that were asked and have no answer; `not_asked`: rows without a record.
    `without_row`: ids with a record of which the table has no row; None where not all of it was read.
    `damaged_lines`: of the result file. `hidden`: columns of the table whose names the answer takes.
    """

    summary: Summary
    unanswered: int
    not_asked: int
    without_row: int | None
    damaged_lines: int
    hidden: tuple[str, ...]


def why_unanswered(result: Result, reader: LabelReader | None) -> str:
    """Why a result has no answer that could be judged; "" where it has one.

    `reader`: checks it against its schema, as `join` does; None where there is none.
    """
    return Answer(result, reader).why or ("" if answer_of(result).strip() else "empty")


def answer_of(result: Result) -> str:
    """The text of an answer as it came; of one that only calls a tool, the arguments."""
    return result.text or json_text_of(result.body) or ""


def hash_of_file(path: Path) -> str:
    """The hash of the content of a file, as 32 hex digits (BLAKE2b, 128 bits). Raises `OSError`."""
    found = blake2b(digest_size=16)
    with open_results(path) as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()


def make_requests(answers: Answers, recipe: Recipe, output: Path) -> ToJudge:
    """Write a request to the judge for each answer, and how they were made beside them.

    Variables of the templates are the columns, `answer`, `parsed` (its JSON, null where it is none) and `gold`.

    Raises `UsageError`, and `InputError` with the first problems of the rows; then nothing is written.
    """
    results = answers.results
    if (use := ResultPaths.of(results).use_of(output)) is not None:
        raise UsageError(f"{output} is {use}; choose another file for the requests (-o)")
    asked = Asked.of(results)
    try:
        source = answers.source if asked.prepared is None else as_prepared(answers.source, asked.prepared)
        with open_table(source) as table, RecordFile(results) as file:
            judged = JudgedFile(results.name, hash_of_file(results))
            ids = ids_of(table, answers.key, asked)
            if answers.gold is not None and answers.gold not in table.columns:
                columns = ", ".join(table.columns)
                raise UsageError(f"--gold {answers.gold}: {table.name} has no such column; it has {columns}")
            repeats = range(1, (_most_repeats(file) if asked.prepared is None else asked.prepared.repeat) + 1)
            records = RecordsById(file)
            rows = _AnsweredRows(table, ids, records, repeats, answers.gold, asked.reader())
            summary = prepare_table(table.read_by(rows), recipe, output, judged)
    except OSError as error:
        raise UsageError(f"cannot read {error.filename or results}: {error.strerror}") from error
    own = (*rows.names, answers.gold)
    summary = replace(summary, unused=tuple(name for name in summary.unused if name not in own))
    return ToJudge(summary, rows.unanswered, rows.not_asked, rows.without_row, file.damaged, rows.hidden)


def _most_repeats(file: RecordFile) -> int:
    """How often a row was asked at most, as the ids of the records have it; 1 where there are no repeats."""
    found = (re.fullmatch(REPEAT, head.custom_id) for head, _ in file.places())
    return max((int(repeat[2]) for repeat in found if repeat), default=1)


class _AnsweredRows:
    """The rows of a table, each once for every answer to it. It counts the others."""

    def __init__(
        self,
        table: Table,
        ids: IdColumn | IdOfCells,
        records: RecordsById,
        repeats: Iterable[int],
        gold: str | None,
        reader: LabelReader | None,
    ) -> None:
        self.names = names = [CUSTOM_ID, ANSWER, PARSED, *([GOLD] if gold is not None else [])]
        self.hidden = tuple(name for name in table.columns if name in names and name not in (CUSTOM_ID, gold))
        self.columns = [*(name for name in table.columns if name not in names), *names]
        self._table, self._ids, self._records = table, ids, records
        self._repeats: Sequence[int] = tuple(repeats)
        self._gold, self._reader = gold, reader
        self._damaged = {custom_id for custom_id in records.damaged_ids if records.offset(custom_id) is None}
        self.unanswered = self.not_asked = 0
        self.without_row: int | None = None

    def rows(self) -> Iterator[Row]:
        """A row for each answer, in the order of the table."""
        self.unanswered = self.not_asked = found = 0  # it is read again where ids are not unique
        is_any, self.without_row = False, None
        for row in self._table.rows():
            try:
                results = self._results(self._ids.of(row))
            except ValueError as error:
                self._table.problems.add(row.line_number, row.number, str(error))
                continue
            self.not_asked += not results
            found += len(results)
            for result in results:
                if result is None:
                    self.unanswered += 1
                    continue
                if why_unanswered(result, self._reader):
                    self.unanswered += 1
                    continue
                told = {CUSTOM_ID: result.custom_id, ANSWER: answer_of(result), PARSED: result.parsed}
                if self._gold is not None:
                    told[GOLD] = row.cells.get(self._gold)
                is_any = True
                yield row._replace(cells={**row.cells, **told})
        self._table.problems.raise_any()
        self.without_row = len(self._records) + len(self._damaged) - found
        if not is_any:
            why = f"{counted(self.unanswered, 'row')} unanswered, {self.not_asked:,} not asked"
            key = f"; {counted(self.without_row, 'record')} of other rows, look at --key" if self.without_row else ""
            raise UsageError(f"there is no answer to judge: {self._table.name} has {why}{key}")

    def _results(self, custom_id: str) -> list[Result | None]:
        """The records of a row; None for one that is damaged."""
        ids = [custom_id, *(f"{custom_id}#{repeat}" for repeat in self._repeats)]
        return [result for result in map(self._find, ids) if result is not _ABSENT]

    def _find(self, custom_id: str) -> Any:
        if (result := self._records.find(custom_id)) is not None:
            return result
        return None if custom_id in self._damaged else _ABSENT
