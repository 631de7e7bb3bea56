"""Tables are written whole or not at all, and every value comes back from them as it was."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from batchrun.datasets.fields import Column, Kind
from batchrun.datasets.writers import ENDINGS, writing
from batchrun.errors import UsageError

GIVEN = [Column("text")]
NEW = [Column("n", Kind.INTEGER), Column("x", Kind.NUMBER), Column("ok", Kind.BOOLEAN), Column("any", Kind.JSON)]
ROWS: list[tuple[str, list[Any]]] = [
    ("plain", [1, 0.25, True, ["a", {"b": None}]]),
    ('quotes ", commas and\r\nlines\n', [None, None, None, None]),
    (" 001 ", [2**60, Decimal("0.000000123456789"), False, Raw(b'{"a": 1.10}')]),
    ("", [-3, 1e300, True, "ü\u2028"]),
]


def write(path: Path, rows: Iterable[tuple[str, list[Any]]] = ROWS) -> Path:
    with writing(path, GIVEN, NEW) as table:
        for text, values in rows:
            table.write([text], values)
    return path


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_cells_of_text_come_back_as_they_were(tmp_path: Path, ending: str, delimiter: str) -> None:
    with write(tmp_path / f"out{ending}").open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines, delimiter=delimiter, strict=True)
    assert header == ["text", "n", "x", "ok", "any"]
    assert [row[0] for row in rows] == [text for text, _ in ROWS]
    assert rows[0][1:] == ["1", "0.25", "true", '["a",{"b":null}]']
    assert rows[1][1:] == [""] * 4
    assert rows[2][1:] == [str(2**60), "0.000000123456789", "false", '{"a": 1.10}']
    assert rows[3][1:] == ["-3", "1e300", "true", "ü\u2028"]


def test_values_come_back_from_json_lines_with_their_types(tmp_path: Path) -> None:
    lines = write(tmp_path / "out.jsonl").read_text("utf-8").split("\n")
    assert lines.pop() == ""
    assert [json.loads(line)["text"] for line in lines] == [text for text, _ in ROWS]
    assert json.loads(lines[0]) == {"text": "plain", "n": 1, "x": 0.25, "ok": True, "any": ["a", {"b": None}]}
    assert '"any":{"a": 1.10}' in lines[2]
    assert '"x":1.23456789E-7' in lines[2] or '"x":0.000000123456789' in lines[2]


def test_a_row_of_json_goes_out_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with writing(path, GIVEN, NEW[:1]) as table:
        table.write([None], [1], '{ "b": 1.10, "text":\n"\\u00fc" }')
        table.write([None], [2], "{}")
    assert path.read_text() == '{ "b": 1.10, "text": "\\u00fc","n":1}\n{"n":2}\n'


def test_values_come_back_from_parquet_with_their_types(tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(write(tmp_path / "out.parquet"))
    assert [str(field.type) for field in table.schema] == ["string", "int64", "double", "bool", "string"]
    rows = table.to_pylist()
    assert [row["text"] for row in rows] == [text for text, _ in ROWS]
    assert rows[0] == {"text": "plain", "n": 1, "x": 0.25, "ok": True, "any": '["a",{"b":null}]'}
    assert rows[1] == {"text": ROWS[1][0]} | dict.fromkeys(["n", "x", "ok", "any"])


def test_parquet_holds_more_rows_than_one_group_and_none(tmp_path: Path) -> None:
    many = [(str(number), [number, None, None, None]) for number in range(25_000)]
    table = pyarrow.parquet.read_table(write(tmp_path / "many.parquet", many))
    assert table.column("n").to_pylist() == list(range(25_000))
    assert pyarrow.parquet.read_table(write(tmp_path / "none.parquet", [])).num_rows == 0


@pytest.mark.parametrize("value", [2**70, "three", 1.5e400])
def test_a_value_that_a_column_of_parquet_cannot_hold_is_refused_by_the_name_of_the_column(
    tmp_path: Path, value: Any
) -> None:
    with pytest.raises(UsageError, match=r"column n has a value that int64 of Parquet cannot hold; write \.jsonl"):
        write(tmp_path / "out.parquet", [("", [value, None, None, None])])
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.text(), min_size=1))
def test_any_text_comes_back_from_every_format(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("any")
    for ending in ENDINGS:
        write(folder / f"out{ending}", [(text, [None] * 4) for text in texts])
    for ending, delimiter in ((".csv", ","), (".tsv", "\t")):
        with (folder / f"out{ending}").open(newline="", encoding="utf-8") as lines:
            assert [row[0] for row in csv.reader(lines, delimiter=delimiter, strict=True)][1:] == texts
    assert [json.loads(line)["text"] for line in (folder / "out.jsonl").read_bytes().splitlines()] == texts
    assert pyarrow.parquet.read_table(folder / "out.parquet").column("text").to_pylist() == texts


@pytest.mark.parametrize("ending", ENDINGS)
def test_half_a_surrogate_pair_is_written_as_an_escape(tmp_path: Path, ending: str) -> None:
    assert b"\\ud800" in write(tmp_path / f"out{ending}", [("\ud800", [None] * 4)]).read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    path.write_text("old")
    numbers = (1 // (1 - number) for number in range(2))  # the second one cannot be made
    with pytest.raises(ZeroDivisionError):
        write(path, (("x", [number, 1.0, True, None]) for number in numbers))
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [(path.name, "old")]


def test_other_endings_and_folders_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"its ending does not tell its format; write one of \.csv, \.tsv, "):
        write(tmp_path / "out.xls")
    with pytest.raises(UsageError, match=r"cannot write .*No such file or directory"):
        write(tmp_path / "none" / "out.csv")
