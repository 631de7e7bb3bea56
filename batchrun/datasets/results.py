"""`batchrun.Results`: the results of a file, one after the other, in the order of the file or of the requests."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Literal

from batchrun import checks
from batchrun.datasets.lookup import RecordFile, in_line_order
from batchrun.errors import UsageError
from batchrun.records.answer import Result
from batchrun.results.parts import is_directory_of_results

Order = Literal["file", "requests"]


class Results:
    """The results of a result file, read as they are asked for: `for result in Results("results.jsonl")`.

    `path`: the result file, or a directory of results. `order`: `"file"`, in which the requests finished; or
    `"requests"`, by the line of the request file, which keeps 16 bytes a record in memory. Damaged lines are left out.
    It may be read again and again, and while a run goes on.

    Raises `UsageError` for another order, or if there is no such file. Reading raises `UsageError` if no line of the
    file is a record, `ResultFileError` if records have another version.
    """

    def __init__(self, path: str | PathLike[str], order: Order = "file") -> None:
        self.path: Path = checks.path("path", path)
        if order not in ("file", "requests"):
            raise checks.refused("order", order, '"file" or "requests"')
        if not self.path.is_file() and not is_directory_of_results(self.path):
            raise UsageError(f"there is no file {self.path}")
        self.order = order

    def __iter__(self) -> Iterator[Result]:
        """Every result, from the beginning."""
        try:
            with RecordFile(self.path) as file:
                if self.order == "file":
                    yield from file.results()
                else:
                    yield from map(file.at, in_line_order(file))
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror}") from error
