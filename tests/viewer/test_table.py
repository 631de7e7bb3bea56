"""The table beside the rows: each row with the cells of which its request was made, wherever that row stands now."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from batchrun.billing.pricing import PriceBook
from batchrun.errors import UsageError
from batchrun.evaluation.asked import Asked
from batchrun.viewer.facts import FactsReader
from batchrun.viewer.table import DataTable
from tests.html.made import HOSTILE, SHOWN
from tests.support import until
from tests.viewer.serving import Served, serving
from tests.viewer.test_corrected_join import call, simulated
from tests.viewer.test_review import decide, review_of

COLUMN = "<script>alert(1)</script>"
ROWS = 8


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text", COLUMN, "more"], *rows])
    return path


def row(number: int) -> list[str]:
    return [f"text {number}", f"cell {number}", HOSTILE if number == 3 else ""]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers of the simulator to a table, two rows of which are equal in what was asked."""
    folder = tmp_path_factory.mktemp("table")
    data = write_table(folder / "data.csv", [row(number) for number in range(ROWS)] + [["text 0", "the twin", ""]])
    requests, results = folder / "requests.jsonl", folder / "results.jsonl"
    call("prepare", data, "-o", requests, "-p", "{{ text }}", "--model", "gpt-4.1", "-s", "topic enum(a|b)")
    simulated(requests, results)
    return results


def table_of(results: Path, data: Path) -> DataTable:
    return DataTable(data, results.with_name("requests.jsonl"), lambda text: None)


@pytest.fixture(scope="module")
def served(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The table has been turned round since, and a row of it was taken out."""
    rows = [row(number) for number in range(ROWS) if number != 5] + [["text 0", "the twin", ""]]
    data = write_table(tmp_path_factory.mktemp("now") / "data.csv", rows[::-1])
    table = table_of(results, data)
    with serving(results, table=table) as viewer:
        until(lambda: table.is_read)
        yield viewer


def test_each_row_has_its_cells_wherever_they_stand_now(served: Served, results: Path) -> None:
    asked = [json.loads(line) for line in results.with_name("requests.jsonl").read_bytes().splitlines()]
    texts = {one["custom_id"]: one["body"]["input"] for one in asked}
    rows = served.rows("size=50")["rows"]
    assert len(rows) == ROWS + 1
    for one in rows:
        number = texts[one["custom_id"]].removeprefix("text ")
        if number == "5":
            assert "data" not in one
        elif number != "0":
            assert one["data"] == dict(zip(["text", COLUMN, "more"], row(int(number)), strict=True))
    twins = {one["data"][COLUMN] for one in rows if texts[one["custom_id"]] == "text 0"}
    assert twins == {"cell 0", "the twin"}


def test_columns_and_cells_are_shown_as_text(served: Served) -> None:
    table = served.ask("/rows").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</th>" in table
    assert "<script>alert" not in table
    assert "cell 4" in table
    number = next(one["number"] for one in served.rows()["rows"] if one.get("data", {}).get("text") == "text 3")
    page = served.ask(f"/rows/{number}").text
    assert "Row of the table" in page
    assert "<script>alert" not in page
    assert SHOWN.split("<img")[0].replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in page


def test_a_row_that_is_gone_has_none(served: Served) -> None:
    number = next(one["number"] for one in served.rows()["rows"] if "data" not in one)
    assert "The table has no row for this request" in served.ask(f"/rows/{number}").text


def test_what_is_wrong_with_the_table_is_said_and_the_rest_is_shown(results: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text(f"text,{COLUMN},more\ntext 1,cell 1,\ntext 2,too,many,cells\n")
    table = table_of(results, data)
    with serving(results, table=table) as viewer:
        until(lambda: table.is_read)
        page = viewer.ask("/rows").text
        assert "data.csv" in page.partition('id="table"')[2][:300]
        assert "cell 1" in page


def test_a_table_of_other_columns_is_refused(results: Path, tmp_path: Path) -> None:
    data = tmp_path / "other.csv"
    data.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match='no column "text"'):
        table_of(results, data)
    with pytest.raises(UsageError, match="prepare writes it"):
        DataTable(data, data, print)
    with pytest.raises(UsageError, match="--requests"):
        DataTable(data, None, print)


def test_large_tables_are_read_a_few_rows_at_a_time(results: Path, tmp_path: Path) -> None:
    data = write_table(tmp_path / "data.csv", [row(number % ROWS) for number in range(1200)])
    with closing(FactsReader(Asked.of(results), PriceBook.load(None), table=table_of(results, data))) as reader:
        assert reader.table is not None
        reader.read_ahead()
        assert not reader.table.is_read
        while reader.read_ahead():
            pass
        assert reader.table.is_read


def test_columns_that_may_hold_gold_are_hidden_from_a_blind_review_until_it_is_decided(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("id,text,topic,hint\n" + "".join(f"r{n},text {n},a,it is an A\n" for n in range(3)))
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    asked = ("-p", "{{ text }}", "--id", "id", "--model", "gpt-4.1", "-s", "topic enum(a|b)")
    call("prepare", data, "-o", requests, *asked)
    simulated(requests, results)
    table, review = DataTable(data, requests, lambda text: None), review_of(results, 2, is_blind=True)
    with closing(review.file), serving(results, review, table=table) as viewer:
        until(lambda: table.is_read)
        assert "it is an A" in viewer.ask("/rows").text
        before = viewer.ask("/review/0").text
        assert "it is an A" not in before
        assert "2 more columns, which the request does not have, are hidden" in before
        assert "<dt>text</dt>" in before
        assert decide(viewer, 0, action="set", field="topic", value="b") == "/review/0"
        assert "it is an A" in viewer.ask("/review/0").text
        heads = re.findall(r"<th scope=.col.[^>]*>(.*?)</th>", viewer.ask("/rows").text)
        names = [re.sub("<[^>]*>", "", head) for head in heads]
        assert len(names) == len(set(names)), "no two columns have one name"
        assert {"topic", "topic (table)", "id (table)", "hint"} <= set(names)
