"""Tables in memory, of each kind that `batchrun.label` takes: read as rows, and given back with further columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from batchrun import checks
from batchrun.errors import UsageError

Row = Mapping[str, Any]
Columns = Mapping[str, list[Any]]
KINDS = "a list of dicts, or a pandas or polars DataFrame"


@dataclass(frozen=True, slots=True)
class Frame:
    """A table. `rows()`: its rows from the first; `extended(columns)`: a copy that has these columns, too.

    `columns`: the names of those that it has; of dicts, those of all of them.
    """

    columns: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]
    extended: Callable[[Columns], Any]

    def lines(self) -> Iterator[bytes]:
        """Each row as a line of JSON. Raises `UsageError` for a value that JSON does not have."""
        for number, row in enumerate(self.rows(), 1):
            try:
                yield orjson.dumps(dict(row), _plain, orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
            except TypeError as error:  # orjson's errors are of this kind
                raise UsageError(f"data, row {number}: {error}; write it as text or as a number") from None


def frame_of(data: Any) -> Frame:
    """The table that was given. Raises `UsageError` for anything else, no rows, or a column whose name is no text."""
    library = type(data).__module__.partition(".")[0]
    if isinstance(data, list) and all(isinstance(row, Mapping) for row in data):
        names = tuple(dict.fromkeys(name for row in data for name in row))
        frame = Frame(names, lambda: iter(data), lambda columns: _beside(data, columns))
    elif library == "pandas" and hasattr(data, "itertuples"):
        frame = Frame(tuple(data.columns), lambda: _pandas_rows(data), lambda columns: _to_pandas(data, columns))
    elif library == "polars" and hasattr(data, "iter_rows"):
        rows = lambda: data.iter_rows(named=True)  # noqa: E731
        frame = Frame(tuple(data.columns), rows, lambda columns: _to_polars(data, columns))
    else:
        raise checks.refused("data", data, KINDS)
    for name in frame.columns:
        checks.text("the name of a column", name, "a text")
    if len(set(frame.columns)) < len(frame.columns):
        raise UsageError("two columns of data have one name; rename one")
    if not len(data):
        raise UsageError("data has no rows; give at least one")
    return frame


def _plain(value: Any) -> Any:
    """A value that orjson does not know: a time as ISO text; what is not equal to itself, such as NaT, as null."""
    is_missing = value != value
    if not isinstance(is_missing, bool) or is_missing:
        return None  # pandas' NA says neither true nor false
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _beside(rows: list[Row], columns: Columns) -> list[dict[str, Any]]:
    return [
        {**row, **dict(zip(columns, values, strict=True))}
        for row, values in zip(rows, zip(*columns.values(), strict=True), strict=True)
    ]


def _pandas_rows(data: Any) -> Iterator[Row]:
    names = list(data.columns)
    return (dict(zip(names, row, strict=True)) for row in data.itertuples(index=False, name=None))


def _to_pandas(data: Any, columns: Columns) -> Any:
    """A column in which a value is missing keeps Python's values: else its whole numbers would become floats."""
    import pandas

    series = {
        name: pandas.Series(values, index=data.index, dtype=object if None in values else None)
        for name, values in columns.items()
    }
    return data.assign(**series)


def _to_polars(data: Any, columns: Columns) -> Any:
    import polars

    series = []
    for name, values in columns.items():
        kind = polars.String if all(value is None for value in values) else None
        series.append(polars.Series(name, values, kind, strict=False))
    return data.with_columns(series)
