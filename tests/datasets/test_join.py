"""`batchrun join`: a table comes back row for row and cell for cell, with the labels that a result file has for it."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrun.cli.main import cli
from batchrun.datasets.cells import cell_text
from batchrun.datasets.tables import Source, open_table
from batchrun.errors import InputError, UsageError
from tests.datasets.answers import GOOD, SCHEMA, answer, failure, message, name_requests
from tests.datasets.test_typed_tables import xlsx

TABLE = [
    ["name", "text"],
    ["001", "a plain text"],
    ["1e5", 'with "quotes", commas\nand a line break'],
    ["", " blanks around "],
    ["x", "a plain text"],  # equal to the first, in the column that is used
    ["NULL", "{{ 7*7 }} ```json"],
]
LABELS = ["topic", "urgent", "tags", "span.start", "span.share", "_status", "_error"]


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def read_csv(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines, delimiter=delimiter, strict=True))


class Bench:
    """A table that was prepared, and room for its results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.requests, self.results = (
            folder / "data.csv",
            folder / "requests.jsonl",
            folder / "results.jsonl",
        )
        self.out = folder / "out.csv"
        (folder / "schema.json").write_text(json.dumps(SCHEMA))

    def prepare(self, *options: str, prompt: str = "About: {{ text }}", schema: bool = True) -> list[str]:
        """Prepare the table; the ids of its requests."""
        given = ["-s", f"@{self.folder / 'schema.json'}"] if schema else []
        words = ["prepare", str(self.data), "-p", prompt, *given, "--model", "gpt-4.1", "-o", str(self.requests)]
        done = CliRunner().invoke(cli, [*words, *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        name_requests(self.results, self.requests)
        return [json.loads(line)["custom_id"] for line in self.requests.read_bytes().splitlines()]

    def join(self, *options: str) -> Result:
        return CliRunner().invoke(cli, ["join", str(self.data), str(self.results), "-o", str(self.out), *options])

    def rows(self) -> list[dict[str, str]]:
        header, *rows = read_csv(self.out)
        return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    write_csv(made.data, TABLE)
    return made


def test_every_row_comes_back_with_its_label(bench: Bench) -> None:
    ids = bench.prepare()
    records = [
        answer(ids[4], "no JSON", 5),
        failure(ids[2], 3),
        answer(ids[0], GOOD, 1),
        answer(ids[3], GOOD | {"topic": "other"}, 4),
    ]
    bench.results.write_bytes(b"".join(records))
    done = bench.join()
    assert (done.exit_code, done.stdout) == (1, f"2 ok, 1 invalid, 1 failed, 1 missing: {bench.out}\n")
    joined = read_csv(bench.out)
    assert joined[0] == [*TABLE[0], *LABELS]
    assert [row[:2] for row in joined[1:]] == TABLE[1:]
    assert [row["_status"] for row in bench.rows()] == ["ok", "missing", "failed", "ok", "invalid"]
    assert [row["topic"] for row in bench.rows()] == ["billing", "", "", "other", ""]
    assert joined[1][2:] == ["billing", "true", '["a","b"]', "3", "0.5", "ok", ""]


def test_a_table_whose_rows_are_all_ok_ends_with_0(bench: Bench) -> None:
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in bench.prepare()))
    assert (bench.join().exit_code, len(bench.rows())) == (0, 5)


def test_without_a_schema_the_column_is_called_answer(bench: Bench) -> None:
    ids = bench.prepare(schema=False)
    bench.results.write_bytes(b"".join(answer(custom_id, f"to {custom_id}") for custom_id in ids))
    assert bench.join().exit_code == 0
    assert [row["answer"] for row in bench.rows()] == [f"to {custom_id}" for custom_id in ids]


def test_rows_that_were_sorted_inserted_or_widened_keep_their_answers(bench: Bench) -> None:
    ids = bench.prepare()
    bench.results.write_bytes(b"".join(answer(ids[row], GOOD | {"span": {"start": row}}) for row in range(5)))
    moved = [
        ["new", *TABLE[0]],
        *(["+", *row] for row in (TABLE[5], ["y", "a new text"], TABLE[3], TABLE[1], TABLE[2])),
    ]
    write_csv(bench.data, moved)
    done = bench.join()
    assert done.exit_code == 1
    assert [row["span.start"] for row in bench.rows()] == ["4", "", "2", "0", "1"]
    assert "was changed since it was prepared" in done.stderr
    assert f"1 record of no row of {bench.data} left out" in done.stderr


def test_rows_are_found_by_a_column_of_ids(bench: Bench) -> None:
    write_csv(bench.data, [["id", "text"], ["b-1", "x"], ["007", "x"], ["ü", "y"]])
    ids = bench.prepare("--id", "id")
    assert ids == ["b-1", "007", "ü"]
    bench.results.write_bytes(b"".join(answer(name, GOOD | {"span": {"start": len(name)}}) for name in reversed(ids)))
    assert bench.join().exit_code == 0
    assert [row["span.start"] for row in bench.rows()] == ["3", "3", "1"]
    write_csv(bench.data, [["id", "text"], ["007", "x"], ["007", "y"]])
    done = bench.join()
    assert isinstance(done.exception, InputError)
    assert f'{bench.data}:3 (row 2): the id "007" is that of an earlier row, too' in str(done.exception)


def test_only_the_rows_that_were_taken_can_have_labels(bench: Bench) -> None:
    ids = bench.prepare("--where", "name != '001'", "-n", "3")
    assert len(ids) == 3
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in ids))
    bench.join()
    assert [row["_status"] for row in bench.rows()] == ["missing", "ok", "ok", "ok", "missing"]


def test_a_row_beyond_the_limit_does_not_take_the_answer_of_an_equal_one(bench: Bench) -> None:
    ids = bench.prepare("-n", "1")
    bench.results.write_bytes(answer(ids[0], GOOD))
    bench.join()
    assert [row["_status"] for row in bench.rows()] == ["ok", *["missing"] * 4]
    write_csv(bench.data, [TABLE[0], TABLE[2], TABLE[1]])
    bench.join()
    assert [row["_status"] for row in bench.rows()] == ["missing", "ok"]


def test_more_columns_a_prefix_and_a_clash(bench: Bench) -> None:
    write_csv(bench.data, [["text", "topic"], ["x", "old"]])
    ids = bench.prepare()
    bench.results.write_bytes(answer(ids[0], GOOD))
    done = bench.join()
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == 'two columns would be named "topic"; write --prefix NAME_ to name the new ones apart'
    assert bench.join("--prefix", "llm_", "--with", "id,tokens").exit_code == 0
    (row,) = bench.rows()
    assert (row["topic"], row["llm_topic"], row["llm__status"]) == ("old", "billing", "ok")
    assert (row["llm__id"], row["llm__input_tokens"], row["llm__output_tokens"]) == (ids[0], "10", "20")


def test_the_rows_that_are_not_ok_are_written_as_a_table_that_can_be_prepared(bench: Bench) -> None:
    ids = bench.prepare()
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in ids[:3]))
    failures = bench.folder / "again.csv"
    bench.join("--failures", str(failures))
    assert read_csv(failures) == [TABLE[0], TABLE[4], TABLE[5]]
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in ids))
    bench.join("--failures", str(failures))
    assert read_csv(failures) == [TABLE[0]]


def test_repeats_are_folded_and_not_without_being_asked(bench: Bench) -> None:
    ids = bench.prepare("--repeat", "3")
    assert [custom_id.rpartition("#")[2] for custom_id in ids[:3]] == ["1", "2", "3"]
    topics = ["billing", "other", "billing", *["billing", "other"], "", *["other"] * 3, *["delivery"] * 3]
    records = [
        answer(custom_id, {"topic": topic, "urgent": True}) for custom_id, topic in zip(ids, topics, strict=False)
    ]
    bench.results.write_bytes(b"".join(reversed(records)))
    done = bench.join()
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "each row was asked 3 times; fold the answers with --votes"
    done = bench.join("--votes", "--with", "tokens,id")
    assert done.stdout == f"3 ok, 1 tie, 1 missing: {bench.out}\n"
    first, second, third, fourth, last = bench.rows()
    assert (first["topic"], first["topic_share"][:6], json.loads(first["topic_all"])) == (
        *("billing", "0.6666"),
        ["billing", "other", "billing"],
    )
    assert (second["topic"], second["urgent"], second["_status"]) == ("", "true", "tie")
    assert second["_error"].startswith("1 of 3 answers are not ok; invalid: topic: ")
    assert (third["topic"], third["topic_share"], third["_status"]) == ("other", "1.0", "ok")
    assert (fourth["text"], fourth["topic"], json.loads(fourth["_id"])) == (first["text"], "delivery", ids[9:12])
    assert (last["topic_all"], last["_status"]) == ("[null,null,null]", "missing")
    assert (first["_input_tokens"], json.loads(first["_id"])) == ("30", ids[:3])


def test_votes_of_rows_that_were_asked_once_are_those_answers(bench: Bench) -> None:
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in bench.prepare()))
    assert bench.join("--votes").exit_code == 0
    assert {(row["topic"], row["topic_share"], row["topic_all"]) for row in bench.rows()} == {
        ("billing", "1.0", '["billing"]')
    }


def test_rows_of_json_go_out_as_they_are_written(bench: Bench) -> None:
    bench.data = bench.folder / "data.jsonl"
    lines = [
        '{"text": "a", "n": 1.10, "deep": {"b":  [1e5]}}',
        '{ "text": "\\u00fc", "none": null, "big": 12345678901234567890123 }',
    ]
    bench.data.write_text("\n".join(lines) + "\n")
    ids = bench.prepare("--missing", "empty")
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in ids))
    bench.out = bench.folder / "out.jsonl"
    assert bench.join().exit_code == 0
    joined = bench.out.read_text().splitlines()
    assert [line.startswith(source.rstrip("} ")) for line, source in zip(joined, lines, strict=True)] == [True, True]
    assert json.loads(joined[0])["span.share"] == 0.5
    bench.out = bench.folder / "out.csv"
    bench.join()
    header, first, second = read_csv(bench.out)
    assert header[:5] == ["text", "n", "deep", "none", "big"]
    assert first[:5] == ["a", "1.10", '{"b":  [1e5]}', "", ""]
    assert second[:5] == ["ü", "", "", "", "12345678901234567890123"]


def test_a_table_of_text_may_become_any_other(bench: Bench) -> None:
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in bench.prepare()))
    for ending in (".tsv", ".jsonl", ".parquet"):
        bench.out = bench.folder / f"out{ending}"
        assert bench.join().exit_code == 0
    assert [row[:2] for row in read_csv(bench.folder / "out.tsv", "\t")] == TABLE
    lines = [json.loads(line) for line in (bench.folder / "out.jsonl").read_text().splitlines()]
    assert [[line["name"], line["text"]] for line in lines] == TABLE[1:]
    assert lines[0]["urgent"] is True
    table = pyarrow.parquet.read_table(bench.folder / "out.parquet").to_pylist()
    assert [[row["name"], row["text"]] for row in table] == TABLE[1:]
    assert (table[0]["urgent"], table[0]["span.start"]) == (True, 3)


def test_how_the_table_was_read_need_not_be_said_again(bench: Bench) -> None:
    bench.data = bench.folder / "data.txt"
    bench.data.write_bytes("name;text\nü;grün\n".encode("cp1252"))
    ids = bench.prepare("--format", "csv", "--delimiter", ";", "--encoding", "cp1252")
    bench.results.write_bytes(answer(ids[0], GOOD))
    assert bench.join().exit_code == 0
    assert read_csv(bench.out)[1][:2] == ["ü", "grün"]


def test_injection_through_cells_stays_text(bench: Bench) -> None:
    ids = bench.prepare()
    hostile = GOOD | {"tags": ["{{ 7*7 }}", '"],["', "=1+1"]}
    bench.results.write_bytes(b"".join(answer(custom_id, hostile) for custom_id in ids))
    bench.join()
    assert bench.rows()[4]["text"] == "{{ 7*7 }} ```json"
    assert json.loads(bench.rows()[4]["tags"]) == hostile["tags"]


def test_every_way_in_which_there_is_no_label_has_its_status(bench: Bench) -> None:
    ids = bench.prepare()
    records = [
        answer(ids[0], "", outcome="refused", output=[message("I cannot.", "refusal")]),
        answer(ids[1], '{"topic": "b', outcome="incomplete", error=("incomplete_max_output_tokens", "it stops early")),
        answer(ids[2], "", outcome="empty", error=("empty_output", "it is empty")),
        failure(ids[3]),
    ]
    bench.results.write_bytes(b"".join(records))
    done = bench.join()
    assert done.stdout == f"0 ok, 1 refused, 1 incomplete, 1 empty, 1 failed, 1 missing: {bench.out}\n"
    assert [(row["_status"], row["topic"], row["_error"]) for row in bench.rows()] == [
        ("refused", "", "I cannot."),
        ("incomplete", "", "incomplete_max_output_tokens: it stops early"),
        ("empty", "", "empty_output: it is empty"),
        ("failed", "", "http_503: it is busy"),
        ("missing", "", ""),
    ]


def test_files_that_do_not_go_together_are_refused_with_a_way_out(bench: Bench) -> None:
    bench.results.write_bytes(answer("r-1", GOOD))
    assert "name it with --requests FILE" in str(bench.join().exception)
    bench.prepare()
    prepared = bench.folder / "requests.jsonl.prepared.json"
    kept = prepared.read_bytes()
    prepared.unlink()
    assert f"{prepared} is not there" in str(bench.join().exception)
    prepared.write_bytes(kept)
    write_csv(bench.data, [["name", "texts"], ["a", "b"]])
    assert str(bench.join().exception) == f'{bench.data} has no column "text", which the requests were made of'
    assert not bench.out.exists()


@pytest.mark.parametrize("name", ["data.csv", "results.jsonl", "requests.jsonl"])
def test_nothing_that_is_read_is_overwritten(bench: Bench, name: str) -> None:
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in bench.prepare()))
    before = {path: path.read_bytes() for path in bench.folder.iterdir()}
    done = bench.join("--failures", str(bench.folder / name))
    assert isinstance(done.exception, UsageError)
    bench.out = bench.folder / name
    assert isinstance(bench.join().exception, UsageError)
    bench.out = bench.folder / "same.csv"
    assert isinstance(bench.join("--failures", str(bench.out)).exception, UsageError)
    assert {path: path.read_bytes() for path in bench.folder.iterdir()} == before


def test_a_table_that_cannot_be_read_to_its_end_leaves_no_table(bench: Bench) -> None:
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in bench.prepare()))
    with bench.data.open("a") as file:
        file.write("ragged\n")
    done = bench.join()
    assert isinstance(done.exception, InputError)
    assert "(row 6)" in str(done.exception)
    assert not list(bench.folder.glob("*.tmp")) + list(bench.folder.glob(".*.tmp"))
    assert not bench.out.exists()


def test_a_table_in_parquet_keeps_its_types_in_parquet_and_its_values_elsewhere(bench: Bench) -> None:
    columns = {
        "text": pyarrow.array(["a", None]),
        "small": pyarrow.array([7, None], pyarrow.int8()),
        "at": pyarrow.array([datetime(2026, 1, 2, 3, 4, 5), None], pyarrow.timestamp("us")),
        "exact": pyarrow.array([Decimal("1.10"), None], pyarrow.decimal128(9, 2)),
        "many": pyarrow.array([[1, None], []], pyarrow.list_(pyarrow.int64())),
        "deep": pyarrow.array([{"x": 0.5}, None], pyarrow.struct([("x", pyarrow.float32())])),
        "bytes": pyarrow.array([b"\xff\x00", None]),
        "odd": pyarrow.array([float("nan"), 1e300]),
    }
    bench.data = bench.folder / "data.parquet"
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table, bench.data)
    ids = bench.prepare()
    bench.results.write_bytes(answer(ids[1], GOOD))
    bench.out = bench.folder / "out.parquet"
    failures = bench.folder / "again.parquet"
    assert bench.join("--failures", str(failures)).exit_code == 1
    joined = pyarrow.parquet.read_table(bench.out)
    assert joined.column("_status").to_pylist() == ["missing", "ok"]
    assert joined.select(list(columns)).schema.equals(table.schema)
    assert str(joined.select(list(columns)).to_pylist()) == str(table.to_pylist())
    assert pyarrow.parquet.read_table(failures).schema.equals(table.schema)
    bench.out = bench.folder / "out.csv"
    bench.join()
    assert read_csv(bench.out)[1][: len(columns)] == [
        *("a", "7", "2026-01-02T03:04:05", "1.10", "[1,null]", '{"x":0.5}', "/wA=", "nan"),
    ]


def test_a_sheet_of_a_workbook_is_joined_as_text(bench: Bench) -> None:
    book = xlsx(bench.folder / "data.xlsx", first=[["x"], ["y"]], texts=[["name", "text"], ["001", "a"], ["b", "c"]])
    bench.data = Path(f"{book}#texts")
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in bench.prepare()))
    assert bench.join().exit_code == 0
    assert [row[:2] for row in read_csv(bench.out)] == [["name", "text"], ["001", "a"], ["b", "c"]]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bom.csv", "\ufefftext\r\na\r\n\r\nb\r\n".encode()),
        ("utf16.csv", "text\nа\nб\n".encode("utf-16")),
        ("semicolons.csv", b"text;n\na;1\nb;2\n"),
        ("tabs.tsv", b'text\tn\n"a\tb"\t1\nc\t2\n'),
        ("right_to_left.csv", "text\nשלום\nمرحبا\n".encode()),
        ("long.csv", b"text\n" + b"x" * 200_000 + b"\n" + b"y" * 200_000 + b"\n"),
        ("json.csv", b'text\n"{""a"": [1, 2]}"\n"line\r\nbreak"\n'),
        ("array.json", b'[{"text": "a"},\n {"text":\n "b"}]'),
        ("nested.jsonl", b'{"text": ["a", {"b": 1.10}]}\n{"text": null}\n'),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_odd_tables_come_back_cell_for_cell(bench: Bench, name: str, data: bytes, ending: str) -> None:
    """As the reader of tables reads them: what goes in, and what comes out."""
    bench.data, bench.out = bench.folder / name, bench.folder / f"out{ending}"
    bench.data.write_bytes(data)
    given = ["--delimiter", ";"] if name == "semicolons.csv" else []
    ids = bench.prepare(*given)
    bench.results.write_bytes(b"".join(answer(custom_id, GOOD) for custom_id in reversed(ids)))
    assert bench.join().exit_code == 0
    with open_table(Source(str(bench.data), None, None, given[-1] if given else None)) as table:
        rows = [[cell_text(row.cells[name]) for name in table.columns] for row in table.rows()]
    with open_table(Source(str(bench.out))) as joined:
        found = [[cell_text(row.cells[name]) for name in table.columns] for row in joined.rows()]
    assert len(ids) == len(rows) == 2
    assert [[cell.replace(" ", "") for cell in row] for row in found] == [
        [cell.replace(" ", "") for cell in row] for row in rows
    ]


# ------------------------------------------------------------------------------------------ whatever comes

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TABLES = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8).filter(
    lambda rows: any("".join(row).strip() for row in rows)
)
WHATEVER = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@WHATEVER
@given(rows=TABLES)
def test_a_table_without_results_comes_back_with_missing(bench: Bench, rows: list[tuple[str, str]]) -> None:
    table = [["name", "text"], *map(list, rows)]
    write_csv(bench.data, table)
    bench.prepare()
    bench.results.write_bytes(b"")
    assert bench.join().exit_code == 1
    assert read_csv(bench.out) == [
        [*table[0], *LABELS],
        *([*row, "", "", "", "", "", "missing", ""] for row in table[1:]),
    ]


@WHATEVER
@given(rows=TABLES, chance=st.randoms(use_true_random=False))
def test_any_order_of_the_results_gives_the_same_table(
    bench: Bench, rows: list[tuple[str, str]], chance: random.Random
) -> None:
    """And each row gets the answer to its own request, equal rows included."""
    write_csv(bench.data, [["name", "text"], *map(list, rows)])
    ids = bench.prepare()
    records = [answer(custom_id, GOOD | {"span": {"start": row}}) for row, custom_id in enumerate(ids)]
    tables = []
    for _ in range(2):
        bench.results.write_bytes(b"".join(records))
        assert bench.join().exit_code == 0
        tables.append(bench.out.read_bytes())
        chance.shuffle(records)
    assert tables[0] == tables[1]
    assert [row["span.start"] for row in bench.rows()] == [str(row) for row in range(len(rows))]


@WHATEVER
@given(objects=st.lists(st.dictionaries(CELLS.filter(str.strip), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
), max_size=4), min_size=1, max_size=5))  # fmt: skip
def test_rows_of_json_without_results_come_back_as_they_are(bench: Bench, objects: list[dict[str, Any]]) -> None:
    rows = [{"text": "x", **one} for one in objects]
    bench.data, bench.out = bench.folder / "data.jsonl", bench.folder / "out.jsonl"
    bench.data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if {"_status", "_error", "answer"} & {name for row in rows for name in row}:
        return
    bench.prepare("--missing", "empty", prompt="static", schema=False)
    bench.results.write_bytes(b"")
    bench.join()
    joined = bench.out.read_text("utf-8").split("\n")[:-1]
    added = ',"answer":null,"_status":"missing","_error":null}'
    assert joined == [json.dumps(row)[:-1] + added for row in rows]
