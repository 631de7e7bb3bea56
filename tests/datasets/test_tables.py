"""Tables as they are in the world: read as they stand, or refused with the place and what to write instead."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from batchrun.datasets.row import Row
from batchrun.datasets.tables import Format, Source, open_table
from batchrun.errors import InputError, UsageError

LONG = "long text, " * 18_000  # 200 KB


def write(folder: Path, name: str, data: str | bytes) -> str:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def read(path: str, **options: Any) -> tuple[list[str], list[Row]]:
    with open_table(Source(path, **options)) as table:
        return table.columns, list(table.rows())


def cells(path: str, **options: Any) -> list[dict[str, Any]]:
    return [row.cells for row in read(path, **options)[1]]


def refused(path: str, **options: Any) -> list[str]:
    """The problems of a table, without its path."""
    with pytest.raises(InputError) as found:
        read(path, **options)
    assert found.value.exit_code == 2
    return [problem.removeprefix(f"{path}:") for problem in found.value.problems]


# ------------------------------------------------------------------------------------- tables that are read

TEXT_TABLES: dict[str, tuple[bytes, list[list[str]]]] = {
    "a plain one": (b"a,b\n1,2\n", [["1", "2"]]),
    "without a final newline": (b"a,b\n1,2", [["1", "2"]]),
    "Excel's BOM": (b"\xef\xbb\xbfa,b\r\n1,2\r\n", [["1", "2"]]),
    "UTF-16 with its BOM": ("\ufeffa,b\n\u00e9,\U0001f600\n".encode("utf-16-le"), [["\u00e9", "\U0001f600"]]),
    "big-endian UTF-16": ("\ufeffa,b\n\u00e9,2\n".encode("utf-16-be"), [["\u00e9", "2"]]),
    "line ends of old Macs": (b"a,b\r1,2\r3,4\r", [["1", "2"], ["3", "4"]]),
    "blank lines": (b"\na,b\n\n1,2\n   \n\n3,4\n\n", [["1", "2"], ["3", "4"]]),
    "empty rows": (b"a,b\n,\n1,2\n", [["", ""], ["1", "2"]]),
    "quotes and delimiters in cells": (b'a,b\n"say ""hi"", now",2\n', [['say "hi", now', "2"]]),
    "line breaks in cells": (b'a,b\n"one\r\ntwo\nthree\rfour",2\n', [["one\r\ntwo\nthree\rfour", "2"]]),
    "JSON in cells": (b'a,b\n"{""x"": [1, 2]}",2\n', [['{"x": [1, 2]}', "2"]]),
    "what others take for numbers": (b"a,b\n001,1e5\nNA,-0\nTRUE,2020-01-01\n",
                                     [["001", "1e5"], ["NA", "-0"], ["TRUE", "2020-01-01"]]),
    "blanks around cells": (b"a,b\n  1 ,\t2\n", [["  1 ", "\t2"]]),
    "cells of 200 KB": (f'a,b\n"{LONG}",2\n'.encode(), [[LONG, "2"]]),
    "from right to left": ("a,b\n\u05e9\u05dc\u05d5,\u202e2\n".encode(), [["\u05e9\u05dc\u05d5", "\u202e2"]]),
    "separators of Unicode": ("a,b\n1\u2028\x85,\x0b2\n".encode(), [["1\u2028\x85", "\x0b2"]]),
    "templates in cells": (b"a,b\n{{ 7*7 }},{% raw %}\n", [["{{ 7*7 }}", "{% raw %}"]]),
    "equal rows": (b"a,b\n1,2\n1,2\n", [["1", "2"], ["1", "2"]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXT_TABLES)
def test_a_table_of_text_is_read_as_it_stands(tmp_path: Path, kind: str) -> None:
    data, expected = TEXT_TABLES[kind]
    columns, rows = read(write(tmp_path, "data.csv", data))
    assert columns == ["a", "b"]
    assert [list(row.cells.values()) for row in rows] == expected
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))


def test_semicolons_and_tabs(tmp_path: Path) -> None:
    assert cells(write(tmp_path, "data.csv", "a;b\n1,5;2\n"), delimiter=";") == [{"a": "1,5", "b": "2"}]
    assert cells(write(tmp_path, "data.csv", "a\tb\n1,5\t2\n"), delimiter="tab") == [{"a": "1,5", "b": "2"}]
    assert cells(write(tmp_path, "data.tsv", "a\tb\n1,5\t2\n")) == [{"a": "1,5", "b": "2"}]


def test_a_table_may_have_one_column_and_its_name_the_delimiter(tmp_path: Path) -> None:
    assert cells(write(tmp_path, "data.csv", '"text, long"\nx\n')) == [{"text, long": "x"}]
    assert cells(write(tmp_path, "data.csv", '"a;b"\nx\n'), delimiter=";") == [{"a;b": "x"}]
    assert cells(write(tmp_path, "data.csv", 'a\n""\n\n" "\n')) == [{"a": ""}, {"a": " "}]


def test_a_row_knows_the_line_where_it_begins(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "data.csv", 'a,b\n1,2\n\n"x\ny",2\n3,4\n'))[1]
    assert [(row.number, row.line_number) for row in rows] == [(1, 2), (2, 4), (3, 6)]


def test_another_encoding_is_read_where_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "data.csv", "a,b\n\u20ac 5,caf\u00e9\n".encode("cp1252"))
    assert cells(path, encoding="cp1252") == [{"a": "\u20ac 5", "b": "caf\u00e9"}]
    path = write(tmp_path, "data.csv", "a,b\n\u20ac,2\n".encode("utf-16-le"))
    assert cells(path, encoding="utf-16-le") == [{"a": "\u20ac", "b": "2"}]
    assert cells(write(tmp_path, "data.csv", b"\xef\xbb\xbfa\n1\n"), encoding="utf8") == [{"a": "1"}]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("ending", [".gz", ".zst", ""])
def test_compressed_tables_are_read(tmp_path: Path, pack: Any, ending: str) -> None:
    """By their first bytes; the ending only tells the format."""
    assert cells(write(tmp_path, f"data.csv{ending}", pack(b"a\n1\n"))) == [{"a": "1"}]


def test_standard_input_needs_its_format(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"pass --format csv\|tsv\|jsonl\|json"):
        read("-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n1\n")))
    assert cells("-", format=Format.CSV) == [{"a": "1"}]


def test_rows_can_be_read_twice_and_beside_one_another(tmp_path: Path) -> None:
    with open_table(Source(write(tmp_path, "data.csv", "a\n1\n2\n"))) as table:
        assert [
            (one.cells["a"], other.cells["a"]) for one in table.rows() for other in table.rows()
        ] == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")]  # fmt: skip


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    paths = [write(tmp_path, "a.csv", b"a\n1\n"), write(tmp_path, "b.csv.gz", gzip.compress(b"a\n1\n"))]
    other = write(tmp_path, "c.csv", b"a\n2\n")
    digests = []
    for path in [*paths, other]:
        with open_table(Source(path)) as table:
            digests.append(table.digest())
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 32


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2,
                         max_size=2), min_size=1))  # fmt: skip
def test_what_python_writes_is_read_back_cell_by_cell(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    assert [list(row.cells.values()) for row in read(str(path))[1]] == rows


# ----------------------------------------------------------------------------------------------------- JSON


def test_values_of_json_are_as_they_stand_and_numbers_keep_their_text(tmp_path: Path) -> None:
    source = (
        '{"n": 1.10, "e": 1e5, "z": -0, "big": 12345678901234567890123, "l": [1, "x"], "o": {"k": null}, "t": true}'
    )
    (row,) = read(write(tmp_path, "data.jsonl", source))[1]
    assert [str(row.cells[name]) for name in ("n", "e", "z", "big")] == ["1.10", "1e5", "-0", "12345678901234567890123"]
    assert row.cells["n"] + 1 == 2.1
    assert (row.cells["l"], row.cells["o"], row.cells["t"]) == ([1, "x"], {"k": None}, True)
    assert row.source == source


def test_a_row_with_an_endless_number_has_its_columns_all_the_same(tmp_path: Path) -> None:
    columns, rows = read(write(tmp_path, "a.jsonl", '{"a": 1e400, "b": %s}\n' % ("9" * 400)))
    assert columns == ["a", "b"]
    assert [str(value) for value in rows[0].cells.values()] == ["1e400", "9" * 400]


def test_columns_of_json_are_all_keys_and_a_row_lacks_what_it_lacks(tmp_path: Path) -> None:
    columns, rows = read(write(tmp_path, "data.jsonl", '{"a": 1}\n\n{"b": 2, "a": null}\r\n'))
    assert columns == ["a", "b"]
    assert [(row.line_number, row.cells) for row in rows] == [(1, {"a": 1}), (3, {"b": 2, "a": None})]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("rows", [1, 5, 3000])
def test_an_array_is_read_element_by_element(tmp_path: Path, indent: int | None, rows: int) -> None:
    values = [{"a": number, "b": "]},{" * (number % 7), "c": {"d": [1.5]}} for number in range(rows)]
    path = write(tmp_path, "data.json", json.dumps(values, indent=indent) + "\n")
    columns, found = read(path)
    assert columns == ["a", "b", "c"]
    assert [row.cells for row in found] == values
    lines = Path(path).read_text().splitlines()
    assert all(lines[row.line_number - 1].lstrip(" [").startswith("{") for row in found)


def test_an_array_with_a_long_element_is_read(tmp_path: Path) -> None:
    values = [{"a": LONG * 3}, {"a": "x"}]
    assert cells(write(tmp_path, "data.json", json.dumps(values))) == values


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl", "data.json"])
def test_memory_does_not_grow_with_the_table(tmp_path: Path, name: str) -> None:
    def peak(rows: int) -> int:
        objects = [json.dumps({"a": f"{number} " * 100}) for number in range(rows)]
        data = {"data.csv": "\n".join(["a", *("x " * 300 for _ in range(rows))]), "data.jsonl": "\n".join(objects),
                "data.json": f"[{','.join(objects)}]"}[name]  # fmt: skip
        path = write(tmp_path, name, data)
        del objects, data
        tracemalloc.start()
        with open_table(Source(path)) as table:
            for _ in table.rows():
                pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(8000) < 1.3 * peak(2000)


# ------------------------------------------------------------------------------------ tables that are refused

CP1252 = ": if that is right, pass --encoding cp1252, or save the file as UTF-8"
NUL = "a NUL character; was the file cut off by a crash?"
UNMARKED = "is NUL, and so are others like it, as in UTF-16 without its mark; pass --encoding"
REFUSED: dict[str, tuple[str, bytes, list[str]]] = {
    "an empty file": ("csv", b"", ["1: it is empty; write a header and a row"]),
    "blank lines alone": ("csv", b"\n\n", ["1: it is empty; write a header and a row"]),
    "a header alone": ("csv", b"a,b\n", ["1: no rows; write at least one"]),
    "ragged rows": ("csv", b"a,b\n1\n1,2,3\n1,2\n", [
        "2 (row 1): 1 cell, and the header has 2; write the missing ones, if only as empty cells",
        "3 (row 2): 3 cells, and the header has 2; quote a cell that holds the delimiter or a line break"]),
    "double names": ("csv", b"a,b,a\n1,2,3\n", ['1: columns 1 and 3 are both named "a"; rename one']),
    "empty names": ("csv", b"a,,\n1,2,3\n", ["1: column 2 has no name; give it one, or take the column out",
                                             "1: column 3 has no name; give it one, or take the column out"]),
    "an unclosed quote": ("csv", b'a,b\n1,2\n"3,4\n5,6\n', [
        "3 (row 2): the quote that opens in this row is never closed; close it, or write a quote inside a cell twice"]),
    "an unclosed quote in the header": ("csv", b'a,"b\n1,2\n', [
        "1: the quote that opens in this row is never closed; close it, or write a quote inside a cell twice"]),
    "text after a quote": ("csv", b'a,b\n"1"x,2\n', [
        "2 (row 1): text after a closing quote; write a quote inside a cell twice"]),
    "cp1252": ("csv", b"a,b\n1,2\ncaf\xe9,2\n", [
        f"3: byte 12 (0xE9) is not UTF-8; in Windows-1252 it is \u00e9{CP1252}"]),
    "a byte of no encoding": ("csv", b"\xef\xbb\xbfa,b\n1,\x81\n", [
        "2: byte 10 (0x81) is not UTF-8; pass --encoding NAME, or save the file as UTF-8"]),
    "half a character at the end": ("csv", b"a,b\n1,\xe2\x82", [
        f"2: byte 7 (0xE2) is not UTF-8; in Windows-1252 it is \u00e2{CP1252}"]),
    "surrogates as bytes": ("csv", b"a,b\n1,\xed\xa0\x80\n", [
        f"2: byte 7 (0xED) is not UTF-8; in Windows-1252 it is \u00ed{CP1252}"]),
    "half a surrogate pair of UTF-16": ("csv", b"\xff\xfe" + "a\n".encode("utf-16-le") + b"\x00\xd8x\x00\n\x00", [
        "2: byte 7 (0x00) is not UTF-16; pass another --encoding, or save the file as UTF-8"]),
    "UTF-32": ("csv", "a,b\n1,2\n".encode("utf-32"), [
        "1: byte 1: the mark of UTF-32; pass --encoding utf-32, or save it as UTF-8"]),
    "NUL": ("csv", b"a,b\n1,\x002\n", [f"2 (row 1): {NUL}"]),
    "NUL twice": ("csv", b"a,b\n1,\x002\n1,2\x00\n" + 40 * b"1,2\n", [
        f"2 (row 1): {NUL}", f"3 (row 2): {NUL}"]),
    "UTF-16 without its mark": ("csv", "a,b\n\u00e9,2\n".encode("utf-16-le"), [
        f"1: byte 2 {UNMARKED} utf-16-le, or save the file as UTF-8"]),
    "big-endian UTF-16 without its mark": ("jsonl", '{"\u7f16": "\u6587"}\n'.encode("utf-16-be"), [
        f"1: byte 1 {UNMARKED} utf-16-be, or save the file as UTF-8"]),
    "Chinese UTF-16 without its mark": ("csv", "\u7f16,\u6587\n\u7f16\u6587\u7f16,\u6587\n".encode("utf-16-le"), [
        f"1: byte 4 {UNMARKED} utf-16-le, or save the file as UTF-8"]),
    "semicolons": ("csv", b"a;b\n1;2\n", ["1: one column, and its name holds ';'; pass --delimiter ';'"]),
    "tabs": ("csv", b"a\tb\n1\t2\n", ["1: one column, and its name holds tab; pass --delimiter tab"]),
    "a zip archive": ("csv", b"PK\x03\x04", ["1: a zip archive, perhaps a workbook, not csv; pass --format xlsx"]),
    "no JSON": ("jsonl", b'{"a": 1}\n{"a": \n', [
        "2 (row 2): not JSON (Expecting value at character 6); write a JSON object for each row"]),
    "no object": ("jsonl", b'[1]x\n"x"\n', ["1: an array, where each line should be an object; pass --format json"]),
    "a string on a line": ("jsonl", b'"x"\n', ["1 (row 1): not an object; write a JSON object for each row, {\u2026}"]),
    "half a surrogate pair": ("jsonl", b'{"a": "\\ud83d\\ude00"}\n{"a": "\\ud83d"}\n', [
        "2 (row 2): half of a surrogate pair (\\ud800 to \\udfff) in a string; write the whole character"]),
    "nothing but half a pair": ("jsonl", b'{"a": "\\ud83d"}\n', [
        "1 (row 1): half of a surrogate pair (\\ud800 to \\udfff) in a string; write the whole character"]),
    "NaN": ("jsonl", b'{"a": NaN}\n', ["1 (row 1): NaN is not a JSON value; write null or a number"]),
    "a key twice": ("jsonl", b'{"a": {"b": 1, "b": 2}}\n', [
        '1 (row 1): the key "b" occurs twice in an object; rename one']),
    "no lines": ("jsonl", b"\n", ["1: no rows; write at least one"]),
    "an object in place of an array": ("json", b'{"a": 1}', [
        "1: no array; write [{\u2026}, {\u2026}], or pass --format jsonl for JSON lines"]),
    "an empty array": ("json", b"[]", ["1: no rows; write at least one"]),
    "an array without an end": ("json", b'[{"a": 1},\n', ["2: the array has no end; is the file complete?"]),
    "a torn element": ("json", b'[{"a": 1},\n{"a', [
        "2: not JSON (Unterminated string starting at); is the file complete?"]),
    "no comma": ("json", b'[{"a": 1} {"a": 2}]', [
        "1: no comma after an element of the array; is the file complete?"]),
    "text after the array": ("json", b'[{"a": 1}]\n[]', ["2: text after the end of the array; take it out"]),
    "an element that is no object": ("json", b'[{"a": 1}, 2]', [
        "1 (row 2): not an object; write a JSON object for each row, {\u2026}"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_table_that_cannot_be_used_is_refused_with_the_place_and_what_to_write(tmp_path: Path, kind: str) -> None:
    ending, data, problems = REFUSED[kind]
    assert refused(write(tmp_path, f"data.{ending}", data)) == problems


def test_a_bad_byte_is_found_far_into_the_file(tmp_path: Path) -> None:
    start = b"a,b\n" + b"\xc3\xa9,2\n" * 100_000
    assert refused(write(tmp_path, "data.csv", start + b"\xff,2\n"))[0].startswith(
        f"100002: byte {len(start) + 1:,} (0xFF)"
    )


def test_twenty_problems_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError) as found:
        read(write(tmp_path, "data.csv", "a,b\n" + "1\n" * 25))
    assert len(found.value.problems) == 20
    assert found.value.count == 25
    assert str(found.value).endswith("\n\u2026 and 5 more problems")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("data.txt", {}, "its ending does not tell its format; pass --format csv|tsv|jsonl|json"),
        ("data.csv", {"encoding": "base64"}, "--encoding base64: there is no such encoding"),
        ("data.csv", {"encoding": "x-y"}, "--encoding x-y: there is no such encoding"),
        ("data.csv", {"delimiter": ";;"}, "--delimiter ;;: write one character"),
        ("data.jsonl", {"delimiter": ";"}, "--delimiter is for csv and tsv"),
        ("none/data.csv", {}, "cannot read"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path: Path, name: str, options: Any, message: str) -> None:
    path = write(tmp_path, name, "a\n1\n") if "/" not in name else str(tmp_path / name)
    with pytest.raises(UsageError) as found:
        read(path, **options)
    assert message in str(found.value)


def test_a_torn_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read(write(tmp_path, "data.csv.gz", gzip.compress(b"a\n1\n" * 1000)[:-10]))
