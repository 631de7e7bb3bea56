"""What a page shows of the records: each counted as `eval`, `join` and the bill count it; rows drawn by their ids."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from batchrun.billing.line_cost import LineCosts
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import cost_of
from batchrun.evaluation.asked import Asked
from batchrun.report.survey import MOST_LABELS, Survey, survey
from batchrun.requests.selection import rank
from tests.datasets.answers import GOOD, SCHEMA, answer, failure, message
from tests.support import near, record, write_prices

ASKED = Asked(schema=SCHEMA)


def found_in(tmp_path: Path, *records: bytes, asked: Asked = ASKED) -> Survey:
    results = tmp_path / "results.jsonl"
    results.write_bytes(b"".join(records))
    return survey(results, PriceBook.load(write_prices(tmp_path)), asked)


def shares(found: Survey, name: str) -> dict[str, int]:
    return next({one.label: one.rows for one in field.shares} for field in found.fields if field.column.name == name)


def test_only_answers_that_fit_their_schema_have_labels(tmp_path: Path) -> None:
    found = found_in(
        tmp_path,
        answer("a", GOOD),
        answer("b", GOOD | {"topic": "other", "urgent": False}),
        answer("c", GOOD | {"topic": "not in the enum"}),
        answer("d", "no JSON"),
        answer("e", GOOD, outcome="incomplete", error=("incomplete_max_output_tokens", "cut")),
        failure("f"),
    )
    assert found.statuses == Counter(ok=2, invalid=2, incomplete=1, failed=1)
    assert shares(found, "topic") == {"billing": 1, "other": 1, "delivery": 0}, "a label that nobody has is one, too"
    assert shares(found, "urgent") == {"true": 1, "false": 1}
    (topic,) = [field for field in found.fields if field.column.name == "topic"]
    assert topic.shares[0].share.value == near(0.5)
    assert topic.shares[0].share.lower == near(0.0945, abs=1e-3), "Wilson's of 1 in 2"


def test_a_row_may_have_several_labels_and_each_counts_once(tmp_path: Path) -> None:
    found = found_in(
        tmp_path, *(answer(f"r-{i}", GOOD | {"tags": ["a", "b", "a"][: i % 4]}, line=i) for i in range(12))
    )
    assert shares(found, "tags") == {"a": 9, "b": 6}
    (tags,) = [field for field in found.fields if field.column.name == "tags"]
    assert (tags.is_list, tags.rows) == (True, 12)
    assert {tags.in_row(label) for label in found.labels} == {"", "a", "a, b", "a, b, a"}


def test_an_answer_in_an_odd_shape_is_read_as_join_reads_it(tmp_path: Path) -> None:
    said = json.dumps(GOOD)
    call = {"type": "function_call", "name": "label", "arguments": said}
    found = found_in(
        tmp_path,
        answer("a", "", output=[call]),
        answer("b", "", output=[message("thinking"), message(said)]),
        answer("c", f"```json\n{said}\n```"),
        answer("d", "", output=[message("no", kind="refusal")], outcome="refused"),
        answer("e", "", output=[]),
    )
    assert found.statuses == Counter(ok=3, refused=1, invalid=1)


def test_texts_are_no_labels_unless_they_are_few_short_and_return(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in ("why", "kind", "long")}}
    rows = [
        answer(f"r-{i}", {"why": f"because {i}", "kind": f"kind {i % 3}", "long": "x" * 100}, line=i) for i in range(60)
    ]
    assert [field.column.name for field in found_in(tmp_path, *rows, asked=Asked(schema=schema)).fields] == ["kind"]
    assert MOST_LABELS < 60


def test_numbers_stand_in_their_order(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"score": {"type": "integer"}, "share": {"type": "number"}}}
    rows = [answer(f"r-{i}", {"score": 10 - i % 10, "share": i / 7}, line=i) for i in range(100)]
    found = found_in(tmp_path, *rows, asked=Asked(schema=schema))
    assert list(shares(found, "score")) == [str(score) for score in range(1, 11)]
    assert [field.column.name for field in found.fields] == ["score"], "the other has too many values"


def test_true_and_one_are_two_labels(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"seen": {"enum": [True, 1, None]}}}
    rows = [answer("a", {"seen": True}), answer("b", {"seen": 1}), answer("c", {"seen": None})]
    assert shares(found_in(tmp_path, *rows, asked=Asked(schema=schema)), "seen") == {"true": 1, "1": 1, "null": 1}


@pytest.mark.parametrize("asked", [ASKED, Asked()])
def test_damaged_lines_are_left_out(tmp_path: Path, asked: Asked) -> None:
    found = found_in(tmp_path, b"nonsense\n", answer("a", GOOD), b"\xff\xfe\n", record("b")[:40] + b"\n", asked=asked)
    assert [row.custom_id for row in found.rows] == ["a"]
    assert len(found.input_tokens) == 1


@pytest.mark.parametrize("asked", [ASKED, Asked()])
def test_the_rows_are_those_of_the_lowest_ranks_in_whatever_order(tmp_path: Path, asked: Asked) -> None:
    rows = [(f"r-{i}", answer(f"r-{i}", GOOD, line=i)) for i in range(1, 300)]
    lowest = sorted((custom_id for custom_id, _ in rows), key=rank)[:20]
    for seed in (1, 2):
        random.Random(seed).shuffle(rows)
        found = found_in(tmp_path, *(raw for _, raw in rows), asked=asked)
        assert {row.custom_id for row in found.rows} == set(lowest)
        assert [row.run.line for row in found.rows] == sorted(row.run.line for row in found.rows)


def test_the_cost_of_a_line_is_that_of_the_bill(tmp_path: Path) -> None:
    found = found_in(tmp_path, *(answer(f"r-{i}", GOOD, line=i) for i in range(20)))
    book = PriceBook.load(tmp_path / "prices.json")
    for row in found.rows:
        exact = cost_of(row.run, book)
        assert exact is not None
        assert LineCosts(book).usd(row.run) == pytest.approx(float(exact))
    assert found.cost_usd.quantile(0.5) == near((10 * 2 + 20 * 8) / 1e6, rel=0.01)
    assert found.output_tokens.quantile(0.5) == near(20, rel=0.01)
