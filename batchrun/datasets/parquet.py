"""Tables in Parquet, read batch by batch. Values are what they are; nulls are null. Needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from batchrun.datasets.delimited import check_header
from batchrun.datasets.row import Row
from batchrun.datasets.row_problems import RowProblems
from batchrun.errors import UsageError
from batchrun.requests.by_offset import by_offset

_ROWS_AT_ONCE = 1024


class ParquetTable:
    """The rows of a Parquet file. `schema` is its own: of Arrow, with the types of the columns.

    Raises `UsageError` if pyarrow is not installed, `InputError` for what is no Parquet.
    """

    def __init__(self, file: IO[bytes], problems: RowProblems) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UsageError(
                "Parquet needs pyarrow; pip install 'batchrun[parquet]', or save the table as CSV"
            ) from None
        self._arrow = pyarrow
        self._file = file
        self._problems = problems
        try:
            self.schema: Any = self._opened().schema_arrow
        except pyarrow.ArrowException as error:
            problems.stop(1, None, f"it cannot be read as Parquet ({error}); is the file complete?")
        self.columns: list[str] = self.schema.names
        check_header(self.columns, 1, problems)

    def _opened(self) -> Any:
        return self._arrow.parquet.ParquetFile(by_offset(self._file))

    def rows(self) -> Iterator[Row]:
        """Each row; its line is its number."""
        number = 0
        try:
            for batch in self._opened().iter_batches(_ROWS_AT_ONCE):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(number, number, cells)
        except self._arrow.ArrowException as error:
            self._problems.stop(number + 1, number + 1, f"it cannot be read ({error}); is the file complete?")
