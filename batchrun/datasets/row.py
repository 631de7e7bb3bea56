"""One row of a table."""

from __future__ import annotations

from typing import Any, NamedTuple


class Row(NamedTuple):
    """`number` counts rows from 1; `line_number` is the line, from 1, where it begins (a row of a workbook, a row of
    Parquet).

    `cells`: by column; text in tables of text, and in JSON and Parquet what the value is. A row of JSON has no cell
    for a key that it lacks.
    `source`: the JSON object as it is written; "" where the table is none of JSON.
    """

    number: int
    line_number: int
    cells: dict[str, Any]
    source: str = ""
