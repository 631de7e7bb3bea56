"""Tables that are no text: Parquet and workbooks."""

from __future__ import annotations

import datetime
import gzip
import sys
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pyarrow
import pyarrow.parquet
import pytest

from batchrun.datasets.excel import cell_text
from batchrun.datasets.prepare import prepare
from batchrun.datasets.recipe import Recipe
from batchrun.datasets.row import Row
from batchrun.datasets.tables import Format, Source, open_table
from batchrun.errors import InputError, UsageError

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def xlsx(path: Path, **sheets: list[list[Any]]) -> Path:
    """A workbook, as small as the format allows. A cell that is None is not written."""
    types = '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    overrides = f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
    named = related = ""
    with zipfile.ZipFile(path, "w") as book:
        for at, (name, rows) in enumerate(sheets.items(), 1):
            overrides += f'<Override PartName="/xl/worksheets/sheet{at}.xml" ContentType="{kind}.worksheet+xml"/>'
            named += f'<sheet name={quoteattr(name)} sheetId="{at}" r:id="r{at}"/>'
            related += f'<Relationship Id="r{at}" Type="{_RELATED}/worksheet" Target="worksheets/sheet{at}.xml"/>'
            data = "".join(_row(number, cells) for number, cells in enumerate(rows, 1))
            book.writestr(
                f"xl/worksheets/sheet{at}.xml", f'<worksheet xmlns="{_MAIN}"><sheetData>{data}</sheetData></worksheet>'
            )
        book.writestr("[Content_Types].xml", f'<Types xmlns="{_PACKAGE}/content-types">{types}{overrides}</Types>')
        root = f'<Relationship Id="r" Type="{_RELATED}/officeDocument" Target="xl/workbook.xml"/>'
        book.writestr("_rels/.rels", f'<Relationships xmlns="{_PACKAGE}/relationships">{root}</Relationships>')
        book.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATED}"><sheets>{named}</sheets></workbook>'
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{_PACKAGE}/relationships">{related}</Relationships>'
        )
    return path


def _row(number: int, cells: list[Any]) -> str:
    return f'<row r="{number}">{"".join(_cell(f"{chr(65 + at)}{number}", cell) for at, cell in enumerate(cells))}</row>'


def _cell(place: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{value:d}</v></c>'
    if isinstance(value, (int, float)):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'


def parquet(path: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def read(path: Path | str, **options: Any) -> tuple[list[str], list[Row]]:
    with open_table(Source(str(path), **options)) as table:
        return table.columns, list(table.rows())


def problem(path: Path | str) -> str:
    with pytest.raises(InputError) as refused:
        read(path)
    return str(refused.value).removeprefix(str(path))


# ------------------------------------------------------------------------------------------------- workbooks


def test_cells_of_a_sheet_are_text_and_rows_have_their_numbers(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        [],
        ["text", "n"],
        ["001", 7],
        [" two\nlines ", 1.5],
        [None, None],
        [None, True],
        ["", -0.25],
    ]
    path = xlsx(tmp_path / "book.xlsx", Data=rows, Other=[["x"], ["y"]])
    columns, found = read(path)
    assert columns == ["text", "n"]
    assert [list(row.cells.values()) for row in found] == [
        ["001", "7"], [" two\nlines ", "1.5"], ["", "TRUE"], ["", "-0.25"],
    ]  # fmt: skip
    assert [(row.number, row.line_number) for row in found] == [(1, 3), (2, 4), (3, 6), (4, 7)]


def test_a_sheet_is_named_behind_the_file(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "book.xlsx", First=[["a"], ["1"]], **{"Zweites #2": [["b"], ["2"]]})
    assert read(f"{path}#Zweites #2")[0] == ["b"]
    with pytest.raises(UsageError, match='there is no sheet "Third"; the sheets are: First, Zweites #2'):
        read(f"{path}#Third")
    packed = tmp_path / "book.xlsx.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed)[0] == ["a"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (0.1, "0.1"),
        (1e20, "1e+20"),
        (True, "TRUE"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        (datetime.time(3, 4), "03:04:00"),
        ("", ""),
    ],
)
def test_a_value_of_a_workbook_as_text(value: Any, text: str) -> None:
    assert cell_text(value) == text


def test_a_workbook_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    torn = tmp_path / "torn.xlsx"
    torn.write_bytes(xlsx(tmp_path / "book.xlsx", A=[["a"], ["1"]]).read_bytes()[:200])
    assert problem(torn).startswith(":1: it cannot be read as a workbook (")
    assert problem(xlsx(tmp_path / "empty.xlsx", A=[])) == ":1: it is empty; write a header and a row"
    assert problem(xlsx(tmp_path / "header.xlsx", A=[["a"]])) == ":1: no rows; write at least one"
    told = ":2: column 2 has no name; give it one, or take the column out"
    assert problem(xlsx(tmp_path / "unnamed.xlsx", A=[[], ["a", None], ["1", "2"]])) == told


# --------------------------------------------------------------------------------------------------- Parquet


def test_values_of_parquet_are_what_they_are(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "text": ["001", None],
        "tags": [["a", "b"], []],
        "price": [Decimal("1.10"), Decimal("2.00")],
        "day": [datetime.date(2026, 1, 2), None],
        "n": [1, 2],
    }
    columns, rows = read(parquet(tmp_path / "data.parquet", **values))
    assert columns == list(values)
    assert [row.cells for row in rows] == [{name: cells[at] for name, cells in values.items()} for at in (0, 1)]
    out = tmp_path / "requests.jsonl"
    prompt = "{{ text }}|{{ tags }}|{{ price }}|{{ day }}|{{ n }}"
    prepare(Source(str(tmp_path / "data.parquet")), Recipe(prompt), out)
    assert '"input":"001|[\\"a\\",\\"b\\"]|1.10|2026-01-02|1"' in out.read_text()
    assert '"input":"|[]|2.00||2"' in out.read_text()


def test_pictures_may_be_bytes(tmp_path: Path) -> None:
    pictures = [b"\x89PNG\r\n\x1a\n1", b"\x89PNG\r\n\x1a\n2"]
    out = tmp_path / "requests.jsonl"
    table = parquet(tmp_path / "data.parquet", text=["x", "x"], picture=pictures)
    prepare(Source(str(table)), Recipe("{{ text }}", images=("picture",)), out)
    lines = out.read_text().splitlines()
    assert all("data:image/png;base64," in line for line in lines)
    assert "-2" not in lines[1][:42], "other pictures are other rows"


def test_many_rows_are_read_in_their_order(tmp_path: Path) -> None:
    rows = read(parquet(tmp_path / "data.parquet", n=list(range(5000))))[1]
    assert [(row.number, row.cells["n"]) for row in rows] == [(number + 1, number) for number in range(5000)]


def test_parquet_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "whole.parquet", a=["x"]).read_bytes()
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(whole[:-20])
    assert problem(torn).startswith(":1: it cannot be read as Parquet (")
    assert problem(parquet(tmp_path / "none.parquet", a=pyarrow.array([], pyarrow.string()))).startswith(":1: no rows")
    table = pyarrow.table([pyarrow.array(["x"]), pyarrow.array(["y"])], names=["a", "a"])
    pyarrow.parquet.write_table(table, tmp_path / "twice.parquet")
    assert problem(tmp_path / "twice.parquet") == ':1: columns 1 and 2 are both named "a"; rename one'


# ------------------------------------------------------------------------------------------------- the extras


@pytest.mark.parametrize(
    ("library", "kind", "told"),
    [
        ("pyarrow", Format.PARQUET, "Parquet needs pyarrow; pip install 'batchrun[parquet]', or save the table as CSV"),
        ("python_calamine", Format.XLSX,
         "workbooks need python-calamine; pip install 'batchrun[excel]', or save the table as CSV"),
    ],
)  # fmt: skip
def test_without_its_extra_a_table_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, kind: Format, told: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / "data"
    path.write_bytes(b"x")
    with pytest.raises(UsageError) as refused:
        read(path, format=kind)
    assert str(refused.value) == told


def test_an_encoding_is_for_text_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--encoding is for text"):
        read(parquet(tmp_path / "data.parquet", a=["x"]), encoding="utf-8")
