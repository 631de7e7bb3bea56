"""Corrected rows as examples: the rows of the table that a person corrected in a review, each with its right answer.

The file of corrections stands beside the results that were reviewed. These tell how the requests were made of the
table, so that its rows are found by their ids, and what was answered in the fields that nobody decided on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from batchrun.datasets.corrections import corrected, read_corrections
from batchrun.datasets.fields import columns_of
from batchrun.datasets.ids_of_rows import RowIds
from batchrun.datasets.labels import LabelReader
from batchrun.datasets.lookup import RecordFile, RecordsById
from batchrun.datasets.prepared import Prepared, prepared_path, read_prepared
from batchrun.datasets.requests_of import find_requests
from batchrun.datasets.row import Row
from batchrun.datasets.tables import Table
from batchrun.errors import UsageError

_ENDING = ".corrections.jsonl"


class CorrectedRows:
    """Rows of a table with a further column, `answer`: a reader for `Table.read_by`.

    Raises `UsageError` where the results are not there, or were not made of such a table, or nothing was corrected.
    """

    def __init__(self, table: Table, corrections: Path) -> None:
        self._table, self._path = table, corrections
        self._results = corrections.with_name(corrections.name.removesuffix(_ENDING))
        if not corrections.name.endswith(_ENDING) or not self._results.is_file():
            raise UsageError(
                f"--examples {corrections}: the results that were reviewed are not beside it; it must be "
                f"RESULTS{_ENDING}, beside RESULTS"
            )
        self._decisions = read_corrections(corrections)
        self._prepared = self._read_prepared()
        self._ids = RowIds(table, self._prepared, lambda text: None)
        self.answer = "answer"
        while self.answer in table.columns:
            self.answer += "_"
        self.columns = [*table.columns, self.answer]

    def _read_prepared(self) -> Prepared:
        requests = find_requests(self._results, None)
        prepared = None if requests is None else read_prepared(requests)
        if prepared is None:
            where = "the request file" if requests is None else prepared_path(requests)
            raise UsageError(
                f"--examples {self._path}: {where} of its results is not there, which tells the ids of rows"
            )
        return prepared

    def rows(self) -> Iterator[Row]:
        """The rows that were corrected, in the order of the table."""
        schema = (self._prepared.format or {}).get("schema")
        encoded = None if schema is None else orjson.dumps(schema)
        reader, fields, count = LabelReader(encoded, lambda text: None), columns_of(encoded), 0
        with RecordFile(self._results) as file:
            records = RecordsById(file)
            for row in self._table.rows():
                for custom_id in self._ids.of(row, records.occurrence):
                    if not self._is_corrected(custom_id):
                        continue
                    label = corrected(reader.read(records.find(custom_id)), self._decisions.of(custom_id), fields)
                    if label.is_ok:
                        count += 1
                        cells: dict[str, Any] = {**row.cells, self.answer: label.value}
                        yield row._replace(cells=cells)
        if not count:
            raise UsageError(f"--examples {self._path}: no row of {self._table.name} was corrected in it")

    def _is_corrected(self, custom_id: str) -> bool:
        return any(one.to != one.from_ and not one.is_wrong for one in self._decisions.of(custom_id).values())
