"""Every row with its verdict, as a table, and as JUnit XML for CI; each file is there whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol
from xml.sax.saxutils import quoteattr

from batchrun.datasets.fields import Column
from batchrun.datasets.requests_of import find_requests
from batchrun.datasets.tables import Source
from batchrun.datasets.writers import TableWriter, check_ending, writing
from batchrun.errors import UsageError
from batchrun.evaluation.figures import Evaluation
from batchrun.evaluation.scorers import shown
from batchrun.evaluation.tally import Judged, Place
from batchrun.evaluation.verdict import Verdict
from batchrun.records.words import printable
from batchrun.results.files import writing_whole
from batchrun.results.paths import ResultPaths, are_one

_NOT_XML = dict.fromkeys([0xFFFE, 0xFFFF], "?")


class RowSink(Protocol):
    """Takes the rows of an evaluation one by one. A row that was not asked has no answers."""

    def begin(self, fields: Sequence[str]) -> None:
        """The names of the fields, before the first row."""

    def take(self, place: Place, verdict: Verdict, fields: Sequence[Judged]) -> None:
        """One row, with the verdict on it and on each field."""


def refuse_overwriting(outputs: Sequence[Path], results: Sequence[Path], gold: Source | None) -> None:
    """Raise `UsageError` if a file would be written over one that is read, that belongs to results, or over another.

    `results`: all result files that are read, also that of a judge and those to stand against.
    """
    for number, output in enumerate(outputs):
        use = next(filter(None, (_use_of(output, path) for path in results)), None)
        if use is None and gold is not None and gold.path != "-" and are_one(output, Path(gold.path)):
            use = "the table with the right answers"
        if use is None and any(are_one(output, other) for other in outputs[:number]):
            use = "named for two outputs"
        if use is not None:
            raise UsageError(f"{output} is {use}; choose another file")


def _use_of(output: Path, results: Path) -> str | None:
    """What a path is to a result file, in words; None where it has nothing to do with it."""
    if (use := ResultPaths.of(results).use_of(output)) is not None:
        return use
    requests = find_requests(results, None)
    return "the request file" if requests is not None and are_one(output, requests) else None


class RowTable:
    """A table of all rows: custom_id, the row of gold (from 1), the verdict; by field verdict, gold, answer and why.

    Raises `UsageError` for another ending, or if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        check_ending(path)
        self._path = path
        self._files = ExitStack()
        self._table: TableWriter | None = None

    def __enter__(self) -> RowTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

    def begin(self, fields: Sequence[str]) -> None:
        """Open the file."""
        names = ["custom_id", "row", "verdict"]
        names += [f"{field}_{part}" for field in fields for part in ("verdict", "gold", "answer", "why")]
        self._table = self._files.enter_context(writing(self._path, [Column(name) for name in names], ()))

    def take(self, place: Place, verdict: Verdict, fields: Sequence[Judged]) -> None:
        """Write one row."""
        assert self._table is not None, "begin comes first"
        row = "" if place.row is None or place.row < 0 else str(place.row + 1)  # below 0: repeats, of no row of gold
        cells: list[object] = [place.custom_id, row, verdict.value]
        for judged in fields:
            gold, answer = judged.pair
            cells += [judged.verdict.value, shown(gold), shown(answer), judged.why]
        self._table.write(cells, ())


class JUnit:
    """A test case for each row and each threshold: wrong and missed fail, unanswered is an error, the rest is skipped.

    The rows wait in a temporary file until `write`, as their counts stand before them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the block)
        self._names: Sequence[str] = ()
        self._kinds = Counter[str]()

    def __enter__(self) -> JUnit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()

    def begin(self, fields: Sequence[str]) -> None:
        """Remember the names of the fields."""
        self._names = fields

    def take(self, place: Place, verdict: Verdict, fields: Sequence[Judged]) -> None:
        """One row is one case."""
        told = "; ".join(_told(field, judged) for field, judged in zip(self._names, fields, strict=False))
        kinds = {Verdict.RIGHT: "", Verdict.WRONG: "failure", Verdict.UNANSWERED: "error"}
        kind = kinds.get(verdict, "skipped")
        self._kinds[kind] += 1
        inner = f"<{kind} message={_quoted(told or verdict.value)}/>" if kind else ""
        name = _quoted(place.custom_id)
        self._rows.write(f"<testcase classname={_quoted('rows')} name={name}>{inner}</testcase>\n".encode())

    def write(self, found: Evaluation) -> None:
        """Write the file. Raises `UsageError` if it cannot be written."""
        missed = sum(not gate.passed for gate in found.gates)
        kinds = self._kinds
        head = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n'
            f'<testsuite name="thresholds" tests="{len(found.gates)}" failures="{missed}" errors="0" skipped="0">\n'
        )
        for gate in found.gates:
            inner = "" if gate.passed else f"<failure message={_quoted(gate.words)}/>"
            head += f"<testcase classname={_quoted('thresholds')} name={_quoted(gate.gate)}>{inner}</testcase>\n"
        head += (
            f'</testsuite>\n<testsuite name="rows" tests="{kinds.total()}" failures="{kinds["failure"]}" '
            f'errors="{kinds["error"]}" skipped="{kinds["skipped"]}">\n'
        )
        try:
            with writing_whole(self._path) as file:
                file.write(head.encode())
                self._rows.seek(0)
                shutil.copyfileobj(self._rows, file)
                file.write(b"</testsuite>\n</testsuites>\n")
        except OSError as error:
            raise UsageError(f"cannot write {self._path}: {error.strerror or error}") from error


def _told(field: str, judged: Judged) -> str:
    gold, answer = judged.pair
    parts = [
        f"{field}: {judged.verdict.value.replace('_', ' ')}",
        *([f"gold is {shown(gold)}"] if gold is not None else []),
        *([judged.why] if judged.why else []),
        *([f"answered {shown(answer)}"] if answer is not None else []),
    ]
    return ", ".join(parts)


def _quoted(text: str) -> str:
    """A text as an attribute, with nothing in it that XML does not allow."""
    return quoteattr(printable(text).translate(_NOT_XML))
