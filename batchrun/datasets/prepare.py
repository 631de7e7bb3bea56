"""`prepare`: a request for each row of a table, written whole or not at all, in one pass over the table.

1. What can be known before the first row is refused before it: a name that no column has, bad syntax, a bad schema.
2. Every row is tried, and the problems of all of them are told together. If there is one, nothing is written.
3. Only hashes of ids grow with the table, and those go to a temporary file: see `Repeats`.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import orjson

from batchrun.datasets.bodies import Bodies
from batchrun.datasets.corrected_rows import CorrectedRows
from batchrun.datasets.examples import read_examples
from batchrun.datasets.prepared import VERSION, Data, JudgedFile, Prepared, PreparedExamples, prepared_path
from batchrun.datasets.recipe import Recipe
from batchrun.datasets.row import Row
from batchrun.datasets.row_ids import RowKeys, given_id, numbered, with_repeats
from batchrun.datasets.tables import Source, Table, open_table
from batchrun.datasets.template import FAILURES, Templates
from batchrun.errors import UsageError
from batchrun.records.index import Hashes, HashTable, Repeats, hash64
from batchrun.records.request import MAX_LINE_BYTES, Overrides, RequestLineError, read_request
from batchrun.records.words import counted
from batchrun.requests.overrides import check_overrides
from batchrun.results.files import drafting, replace_whole, writing_whole
from batchrun.results.paths import are_one

_BUFFER = 1 << 17
_IDS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written: `size_bytes` of requests.

    `unused`: columns that nothing uses. `skipped`: rows that `where` left out. `left_out`: how often an example was
    left out because it was equal to its row. `other_sheets`: of a workbook, not read because none was named.
    """

    prepared: Prepared
    unused: tuple[str, ...]
    skipped: int
    left_out: int
    size_bytes: int
    other_sheets: tuple[str, ...] = ()


def prepare(source: Source, recipe: Recipe, output: Path) -> Summary:
    """Write the requests for a table to `output`, and how they were made beside them.

    Raises `UsageError`, and `InputError` with the first problems of the rows; then nothing is written.
    """
    with open_table(source) as table:
        return prepare_table(table, recipe, output)


def prepare_table(table: Table, recipe: Recipe, output: Path, judged: JudgedFile | None = None) -> Summary:
    """The same for a table that is open. `judged`: the result file whose answers are among its cells."""
    output = Path(os.path.realpath(output))
    _refuse_overwriting(output, table.source, recipe)
    work = _Work(table, recipe, judged)
    try:
        return _written(work, output)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror or error}") from error


def used_columns(source: Source, recipe: Recipe) -> list[str]:
    """The columns that the requests for a table would use, in its order. Nothing is written.

    Raises `UsageError` and `InputError` for what can be known before the first row.
    """
    with open_table(source) as table:
        return _Work(table, recipe).used


def _written(work: _Work, output: Path) -> Summary:
    """Write the requests as a draft, which takes its place where no two rows are equal."""
    with drafting(output, "draft") as (draft, file):
        repeated = work.write(file)
        file.close()
        if repeated:
            with draft.open("rb", _BUFFER) as lines, writing_whole(output) as whole:
                whole.writelines(numbered(lines, work.repeat, repeated))
        else:
            draft.replace(output)
        made = work.summary(output.stat().st_size)
        replace_whole(prepared_path(output), made.prepared.to_json())
    return made


def _refuse_overwriting(output: Path, source: Source, recipe: Recipe) -> None:
    if output.name == "-" and not output.exists():
        raise UsageError("-o -: name a file; how the requests were made stands beside it")
    read = [source, *([recipe.examples.source] if recipe.examples is not None else [])]
    for table in read:
        if table.path != "-" and any(are_one(path, Path(table.file)) for path in (output, prepared_path(output))):
            raise UsageError(f"{table.path} is read; choose another file for the requests (-o)")


class _Work:
    """One pass over a table. Raises `UsageError` for what can be known before the first row."""

    def __init__(self, table: Table, recipe: Recipe, judged: JudgedFile | None = None) -> None:
        self._table = table
        self._recipe = recipe
        self._judged = judged
        check_overrides(Overrides(recipe.model, recipe.fields))
        self.repeat = recipe.repeat
        templates = Templates(table.columns)
        self._bodies = Bodies(recipe, templates)
        self._holds = templates.condition("--where", recipe.where) if recipe.where is not None else None
        if recipe.id_column is not None:
            templates.check("--id", recipe.id_column)
        self.used = templates.used
        self._keys = RowKeys(self.used)
        self._examples = self._read_examples()
        self._rows = self._skipped = 0

    def _read_examples(self) -> PreparedExamples | None:
        examples = self._recipe.examples
        if examples is None:
            return None
        with open_table(examples.source) as table:
            given, answer = _data(table), examples.answer
            if answer is None:
                corrected = CorrectedRows(self._table, Path(examples.source.file))
                table, answer = self._table.read_by(corrected), corrected.answer
            self._bodies.show_first(read_examples(table, answer, self._recipe.schema, self._bodies, self.used))
            return PreparedExamples(given, examples.answer or "")

    def write(self, file: IO[bytes]) -> Hashes:
        """Write the requests of all rows; the `hash64` of ids that several rows have, which are still to be numbered.

        Raises `InputError` if there are problems.
        """
        problems, ids, hashes = self._table.problems, Repeats(), list[int]()
        for row in self._taken():
            try:
                custom_id, lines = self._requests(row)
            except FAILURES as error:
                problems.add(row.line_number, row.number, str(error))
                continue
            file.writelines(lines)
            hashes.append(hash64(custom_id))
            if len(hashes) == _IDS_AT_ONCE:
                ids.add(hashes)
                hashes = []
        problems.raise_any()
        if not self._rows:
            raise UsageError(f"--where {self._recipe.where}: no row meets it ({counted(self._skipped, 'row')} read)")
        ids.add(hashes)
        repeated = ids.found()
        if repeated and self._recipe.id_column is not None:
            self._name_twins(repeated)
        return repeated

    def _taken(self) -> Iterator[Row]:
        """The rows that `where` and `limit` leave, every cell that is needed in its place."""
        columns, problems, limit = self._table.columns, self._table.problems, self._recipe.limit
        needed = {*self.used, *([self._recipe.id_column] if self._recipe.id_column is not None else [])}
        for row in self._table.rows():
            if len(row.cells) < len(columns):
                if self._recipe.missing_is_empty:
                    row = row._replace(cells={name: row.cells.get(name) for name in columns})
                elif lacking := [name for name in columns if name in needed and name not in row.cells]:
                    told = f'it has no "{lacking[0]}"; write it, if only as null, or pass --missing empty'
                    problems.add(row.line_number, row.number, told)
                    continue
            if self._holds is not None and not self._is_wanted(row):
                continue
            self._rows += 1
            yield row
            if self._rows == limit:
                return

    def _is_wanted(self, row: Row) -> bool:
        assert self._holds is not None
        try:
            is_wanted = self._holds(row.number, row.cells)
        except FAILURES as error:
            self._table.problems.add(row.line_number, row.number, f"--where: {error}")
            return False
        self._skipped += not is_wanted
        return is_wanted

    def _requests(self, row: Row) -> tuple[str, list[bytes]]:
        """The id of a row, and its lines."""
        key = self._keys.key(row.cells)
        custom_id = self._keys.custom_id(key) if self._recipe.id_column is None else self._given_id(row.cells)
        body = self._bodies.body(row.number, row.cells, key, self._table.folder)
        lines = [
            b'{"custom_id":%s,"method":"POST","url":"/v1/responses","body":%s}\n' % (orjson.dumps(one), body)
            for one in with_repeats(custom_id, self._recipe.repeat)
        ]
        if self._rows == 1:
            _check(lines[0])
        if len(lines[0]) > MAX_LINE_BYTES:
            raise ValueError(f"its request is longer than {MAX_LINE_BYTES:,} bytes; make it shorter")
        return custom_id, lines

    def _given_id(self, cells: dict[str, Any]) -> str:
        column = self._recipe.id_column or ""
        return given_id(column, cells[column])

    def _name_twins(self, repeated: Container[int]) -> None:
        """Raise `InputError` that names both rows of each id that occurs twice."""
        first, self._rows, self._skipped = HashTable(), 0, 0
        problems = self._table.problems
        for row in self._taken():
            custom_id = self._given_id(row.cells)
            key = hash64(custom_id)
            if key not in repeated:
                continue
            if (number := first.get(key)) is None:
                first.set(key, row.number)
            else:
                told = f'the id "{custom_id}" is that of row {number:,}, too; ids must be unique (--id)'
                problems.add(row.line_number, row.number, told)
        problems.raise_any()

    def summary(self, size_bytes: int) -> Summary:
        """What was written."""
        recipe, table = self._recipe, self._table
        made = Prepared(
            v=VERSION,
            data=_data(table),
            columns=self.used,
            rows=self._rows,
            requests=self._rows * recipe.repeat,
            prompt=recipe.prompt,
            id_column=recipe.id_column,
            instructions=recipe.instructions,
            developer=recipe.developer,
            format=recipe.schema.format if recipe.schema is not None else None,
            model=recipe.model,
            set={name: msgspec.Raw(value) for name, value in recipe.fields.items()},
            examples=self._examples,
            images=list(recipe.images),
            where=recipe.where,
            limit=recipe.limit,
            repeat=recipe.repeat,
            missing_is_empty=recipe.missing_is_empty,
            judged=self._judged,
        )
        unused = tuple(name for name in table.columns if name not in self.used and name != recipe.id_column)
        return Summary(made, unused, self._skipped, self._bodies.left_out, size_bytes, table.other_sheets)


def _data(table: Table) -> Data:
    source = table.source
    return Data(source.path, table.format, table.digest(), source.encoding, source.delimiter)


def _check(line: bytes) -> None:
    """Raise `UsageError` if `run` would refuse such a line: what `--set` says may be nothing that can be sent."""
    try:
        read_request(line.rstrip(b"\n"), Overrides("any"))
    except RequestLineError as problem:
        raise UsageError(f"the requests could not be run: {problem}") from None
