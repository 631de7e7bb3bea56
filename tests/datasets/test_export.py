"""`batchrun export`: the answers of a result file as a table, in the order of the requests."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batchrun.cli.export_options import EXTRAS
from batchrun.cli.main import cli
from batchrun.datasets.extras import Extra
from batchrun.errors import InputError, ResultFileError, UsageError
from tests.datasets.answers import GOOD, answer, failure, name_requests, request
from tests.support import MODEL, write_prices


class Bench:
    """A request file of six lines, and results of four of them, in another order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests, self.results = folder / "requests.jsonl", folder / "results.jsonl"
        self.out = folder / "out.csv"
        self.requests.write_bytes(b"".join(request(f"r-{number}") for number in range(1, 7)))
        records = [
            answer("r-4", {"topic": "other"}, 4),
            answer("r-1", GOOD, 1),
            failure("r-3", 3),
            answer("r-2", f"```\n{json.dumps(GOOD)}\n```", 2),
        ]
        self.results.write_bytes(b"".join(records))
        name_requests(self.results, self.requests)

    def export(self, *options: str) -> Result:
        return CliRunner().invoke(cli, ["export", str(self.results), "-o", str(self.out), *options])

    def rows(self) -> list[dict[str, str]]:
        with self.out.open(newline="", encoding="utf-8") as lines:
            return list(csv.DictReader(lines, strict=True))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_every_request_has_a_row_in_its_place(bench: Bench) -> None:
    done = bench.export()
    assert (done.exit_code, done.exception.__class__) == (1, SystemExit)
    assert done.stdout == f"2 ok, 1 invalid, 1 failed, 2 missing: {bench.out}\n"
    assert "1 of the answers stood in a code fence" in done.stderr
    rows = bench.rows()
    assert list(rows[0]) == [
        *("id", "line", "topic", "urgent", "tags", "span.start", "span.share", "text", "_status", "_error"),
    ]
    assert [(row["id"], row["line"], row["_status"]) for row in rows] == [
        ("r-1", "1", "ok"),
        ("r-2", "2", "ok"),
        ("r-3", "3", "failed"),
        ("r-4", "4", "invalid"),
        ("r-5", "5", "missing"),
        ("r-6", "6", "missing"),
    ]
    assert list(rows[0].values())[2:7] == ["billing", "true", '["a","b"]', "3", "0.5"]
    assert rows[1]["text"].startswith("```")
    assert list(rows[3].values())[2:8] == ["", "", "", "", "", '{"topic": "other"}']
    assert rows[2]["_error"] == "http_503: it is busy"


def test_all_that_was_asked_for_is_ok_and_the_exit_code_is_0(bench: Bench) -> None:
    bench.results.write_bytes(b"".join(answer(f"r-{number}", GOOD, number) for number in range(6, 0, -1)))
    done = bench.export()
    assert (done.exit_code, done.stdout) == (0, f"6 ok: {bench.out}\n")


def test_more_columns_are_added_in_the_order_in_which_they_are_asked_for(bench: Bench) -> None:
    prices = write_prices(bench.folder)
    done = bench.export("--with", "raw,id,cost,tokens,latency,model,attempts", "--prices", str(prices))
    assert done.exit_code == 1
    first, _, failed, *_, missing = bench.rows()
    added = list(first)[list(first).index("_error") + 1 :]
    assert added == [
        *("_raw", "_id", "_cost_usd", "_input_tokens", "_output_tokens", "_latency_s", "_model", "_attempts"),
    ]
    assert json.loads(first["_raw"])["object"] == "response"
    assert [first[name] for name in added[1:]] == ["r-1", "0.00018", "10", "20", "0.5", MODEL, "1"]
    assert [failed[name] for name in added] == ["", "r-3", "", "", "", "0.5", "", "1"]
    assert [missing[name] for name in added] == ["", "r-6", "", "", "", "", "", ""]


def test_the_words_of_with_are_those_of_the_code(bench: Bench) -> None:
    assert tuple(Extra) == EXTRAS
    done = bench.export("--with", "cost,price")
    assert done.exit_code == 2
    assert "'price' is none of cost, tokens, latency, model, attempts, id, raw" in done.stderr


def test_a_model_without_a_price_has_no_cost(bench: Bench) -> None:
    bench.results.write_bytes(answer("r-1", GOOD, model="no-such-model", requested_model="no-such-model"))
    bench.export("--with", "cost")
    assert bench.rows()[0]["_cost_usd"] == ""


def test_a_prefix_is_put_before_every_new_name_and_a_clash_names_it(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"line": {"type": "integer"}}}
    bench.requests.write_bytes(request("r-1", schema))
    bench.results.write_bytes(answer("r-1", {"line": 7}))
    done = bench.export()
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == ('two columns would be named "line"; write --prefix NAME_ to name the new ones apart')
    assert not bench.out.exists()
    assert bench.export("--prefix", "llm_").exit_code == 0
    assert bench.rows() == [
        {"id": "r-1", "line": "1", "llm_line": "7", "llm_text": '{"line": 7}', "llm__status": "ok", "llm__error": ""}
    ]


def test_requests_with_several_schemas_make_the_columns_of_all_of_them(bench: Bench) -> None:
    schemas = [{"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"type": "integer"}, "b": {}}}, None]
    bench.requests.write_bytes(b"".join(request(f"r-{number}", schema) for number, schema in enumerate(schemas, 1)))
    said = [{"a": "x"}, {"a": 1, "b": [2]}, "free text"]
    bench.results.write_bytes(b"".join(answer(f"r-{number}", text, number) for number, text in enumerate(said, 1)))
    assert bench.export().exit_code == 0
    assert [(row["a"], row["b"], row["text"]) for row in bench.rows()] == [
        ("x", "", '{"a": "x"}'),
        ("1", "[2]", '{"a": 1, "b": [2]}'),
        ("", "", "free text"),
    ]


def test_without_the_request_file_each_record_has_a_row_in_the_order_of_the_lines(bench: Bench) -> None:
    bench.requests.unlink()
    done = bench.export()
    assert "the request file is not known" in done.stderr
    assert done.stdout.startswith("3 ok, 1 failed")  # without a schema, any text is an answer
    assert [(row["id"], row["line"]) for row in bench.rows()] == [(f"r-{line}", str(line)) for line in range(1, 5)]


def test_a_request_file_can_be_named_and_need_not_name_its_model(bench: Bench) -> None:
    moved = bench.folder / "moved.jsonl"
    moved.write_bytes(b"".join(request(f"r-{number}", model=None) for number in range(4, 0, -1)))
    bench.requests.unlink()
    bench.export("--requests", str(moved))
    assert [row["id"] for row in bench.rows()] == ["r-4", "r-3", "r-2", "r-1"]
    done = bench.export("--requests", str(bench.folder / "none.jsonl"))
    assert isinstance(done.exception, UsageError)
    assert "there is no such file" in str(done.exception)


def test_a_name_in_the_log_is_looked_for_beside_the_results(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_requests(bench.results, Path("data/requests.jsonl"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert bench.export().exit_code == 1
    assert len(bench.rows()) == 6


def test_of_two_files_of_that_name_the_one_counts_that_is_as_long_as_it_was(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    name_requests(bench.results, bench.requests)
    log = bench.results.with_name("results.jsonl.log")
    log.write_text(log.read_text().replace(str(bench.requests), "requests.jsonl"))
    (here / "requests.jsonl").write_bytes(request("another"))
    bench.export()
    assert [row["id"] for row in bench.rows()] == [f"r-{number}" for number in range(1, 7)]
    with bench.requests.open("ab") as file:
        file.write(request("r-7"))
    bench.export()
    assert [row["id"] for row in bench.rows()] == ["another"]


def test_records_of_no_request_and_damaged_lines_are_left_out_and_counted(bench: Bench) -> None:
    with bench.results.open("ab") as file:
        file.write(answer("r-9", GOOD, 9) + b"damaged\n")
    done = bench.export()
    assert f"1 record of no request in {bench.requests} left out" in done.stderr
    assert f"1 damaged line of {bench.results} left out" in done.stderr
    assert len(bench.rows()) == 6


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_any_order_of_the_results_makes_the_same_table(bench: Bench, ending: str) -> None:
    bench.out = bench.out.with_suffix(ending)
    bench.export()
    expected, records = bench.out.read_bytes(), bench.results.read_bytes().splitlines(keepends=True)
    for seed in range(5):
        random.Random(seed).shuffle(records)
        bench.results.write_bytes(b"".join(records))
        bench.export()
        assert bench.out.read_bytes() == expected


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("results.jsonl", "the result file"),
        ("requests.jsonl", "the request file"),
        ("results.jsonl.report.json", "does not tell its format"),
    ],
)
def test_nothing_of_the_job_is_overwritten(bench: Bench, name: str, what: str) -> None:
    before = {path: path.read_bytes() for path in bench.folder.iterdir()}
    bench.out = bench.folder / name
    done = bench.export()
    assert isinstance(done.exception, UsageError)
    assert what in str(done.exception)
    assert {path: path.read_bytes() for path in bench.folder.iterdir()} == before


def test_files_that_cannot_be_read_leave_no_table(bench: Bench) -> None:
    bench.requests.write_text("not a request\n")
    assert isinstance(bench.export().exception, InputError)
    bench.requests.write_bytes(request("r-1"))
    bench.results.write_bytes(answer("r-1", GOOD).replace(b'"v":1', b'"v":2'))
    assert isinstance(bench.export().exception, ResultFileError)
    assert not bench.out.exists()
