"""The rows by HTTP: facets, ranges, search, order, pages; one row; what is exported; texts that mean harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from batchrun.datasets.tables import Source
from batchrun.errors import StopError, UsageError
from batchrun.evaluation.evaluate import Question, evaluate, scoring
from batchrun.records.index import hash_body
from batchrun.viewer.columns import OTHERS, Columns
from batchrun.viewer.gold import Judge
from batchrun.viewer.shown import Rows
from batchrun.viewer.view import View
from tests.html.made import HOSTILE, SHOWN, TOPICS, make_job, write_gold
from tests.viewer.serving import Served, serving

ROWS = 120


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_job(tmp_path_factory.mktemp("job"), ROWS)


@pytest.fixture(scope="module")
def records(job: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in job.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def served(job: Path) -> Iterator[Served]:
    with serving(job) as viewer:
        yield viewer


@pytest.mark.smoke
def test_all_rows_stand_in_the_order_of_the_file_page_by_page(served: Served, records: list[dict[str, object]]) -> None:
    found = [one for page in range(1, 4) for one in served.ids(f"page={page}")]
    assert found == [record["custom_id"] for record in records]
    assert served.ids("page=4") == []
    assert served.ids("sort=-&size=500") == found[::-1]


def test_a_row_has_its_fields_and_what_it_cost(served: Served) -> None:
    row = served.rows("line.from=7&line.to=7")["rows"][0]
    assert row["custom_id"] == "row-0007"
    assert row["fields"] == {"topic": TOPICS[3], "urgent": "false", "reason": "the reason of row 7"}
    assert (row["status"], row["attempts"], row["error"]) == ("ok", 1, "")
    assert row["cost_usd"] == pytest.approx((row["input_tokens"] * 2 + row["output_tokens"] * 8) / 1e6)


def test_facets_count_what_all_other_choices_leave(served: Served) -> None:
    everything = served.rows()
    assert everything["facets"]["status"] == {"ok": ROWS * 9 // 10, "failed": ROWS // 10}
    assert sum(everything["facets"]["field.topic"].values()) == ROWS * 9 // 10
    assert everything["facets"]["error"] == {"http_503": ROWS // 20, "invalid_request_error": ROWS // 20}
    assert [sum(everything["facets"][name].values()) for name in ("model", "endpoint")] == [ROWS, ROWS]
    assert served.rows("error=http_503")["total"] == ROWS // 20
    topic = TOPICS[0]
    chosen = served.rows(f"field.topic={topic}&size=500")
    assert chosen["total"] == everything["facets"]["field.topic"][topic] == len(chosen["rows"])
    assert {row["fields"]["topic"] for row in chosen["rows"]} == {topic}
    assert chosen["facets"]["field.topic"] == everything["facets"]["field.topic"], "another may be chosen as well"
    assert chosen["facets"]["status"] == {"ok": chosen["total"]}
    both = served.rows(f"field.topic={topic}&field.topic={TOPICS[1]}")
    assert both["total"] == chosen["total"] + everything["facets"]["field.topic"][TOPICS[1]]
    assert served.rows(f"field.topic={topic}&status=failed")["total"] == 0


def test_rows_are_sorted_by_numbers_and_those_without_come_last(served: Served) -> None:
    rows = served.rows("sort=cost&size=500")["rows"]
    costs = [row["cost_usd"] for row in rows]
    priced = [cost for cost in costs if cost is not None]
    assert priced == sorted(priced)
    assert costs == priced + [None] * (ROWS // 10)
    falling = [row["cost_usd"] for row in served.rows("sort=-cost&size=500")["rows"]]
    assert falling == priced[::-1] + [None] * (ROWS // 10)
    page = served.rows("sort=line&status=failed&size=3&page=2")
    assert [row["line"] for row in page["rows"]] == [40, 50, 60]


def test_ranges_include_their_ends(served: Served) -> None:
    lines = sorted(row["line"] for row in served.rows("line.from=10&line.to=12&size=500")["rows"])
    assert lines == [10, 11, 12]
    assert served.rows("attempts.from=2")["total"] == ROWS // 10
    assert served.rows("cost.from=0")["total"] == ROWS * 9 // 10, "a row without a cost is in no range"


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("reason", 108),
        ("REASON", 108),
        ("reason 7", 1),
        ("row-0007", 1),
        ("http_503", 6),
        ("bill*", None),
        ('"reason" OR (', 0),
        ("NOT nothing*", 0),
        ("--", ROWS),
    ],
)
def test_words_are_found_in_ids_answers_and_errors(served: Served, words: str, count: int | None) -> None:
    expected = served.rows("field.topic=billing")["total"] if count is None else count
    assert served.rows(f"q={quote(words)}")["total"] == expected


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=x",
        "page=99999999999999999999",
        "page=0000000000019999999999999",
        "size=501",
        "sort=reason",
        "nothing=1",
        "cost.from=x",
        "cost.to=nan",
    ],
)
def test_what_cannot_be_looked_for_is_said(served: Served, query: str) -> None:
    name = query.split("=")[0].split(".")[0]
    for path in ("/rows.json", "/rows.jsonl", "/rows/1"):
        answer = served.ask(f"{path}?{query}")
        assert answer.status == 400
        assert name in answer.text
    page = served.ask(f"/rows?field.topic=billing&{query}")
    said = page.text[page.text.index('<p class="failed" role="alert">') :].partition("</p>")[0]
    assert page.status == 200
    assert name in said
    assert said.endswith("These rows are shown without that.")
    assert f"{served.rows('field.topic=billing')['total']} rows of {ROWS}" in page.text


def test_a_value_that_no_filter_knows_is_said_and_not_taken_for_one_of_no_row() -> None:
    columns = Columns([])
    columns.facets["model"].known.of([f"m{number}" for number in range(300)])
    for known in ("m0", "m253", OTHERS):
        assert View.of([("model", known)], columns).facets == {"model": (known,)}
    with pytest.raises(UsageError, match="model: 'm254' is none of the first 254 values"):
        View.of([("model", "m254")], columns)
    assert View.of([("error", "m254")], columns).facets, "it has few values: no row has that one"


@pytest.mark.parametrize("path", ["/rows/000000000000999999", "/rows/120", f"/rows/{'9' * 5000}", "/rows/0?place=-1"])
def test_a_row_that_is_not_there_is_not_found(served: Served, path: str) -> None:
    assert served.ask(path).status == 404


def test_where_the_file_became_shorter_meanwhile_its_rows_are_said_to_be_gone(served: Served) -> None:
    """Between the question and the answer the index may be made anew."""
    rows = Rows(served.index)
    for ask in (rows.whole, rows.label_at, rows.is_of_second, lambda number: rows.page([number])):
        with pytest.raises(StopError, match=r"has no row 121 any more; load the page again"):
            ask(ROWS)


def test_a_file_that_cannot_be_read_is_said_in_words(tmp_path: Path) -> None:
    job = make_job(tmp_path, 12)
    with serving(job) as viewer:
        job.rename(job.with_name("elsewhere"))
        answer = viewer.ask("/rows.json")
    assert (answer.status, answer.json) == (500, {"message": f"cannot read {job}: No such file or directory"})


def test_the_page_of_a_row_has_its_prompt_and_its_answer(served: Served) -> None:
    number = served.rows("line.from=7&line.to=7")["rows"][0]["number"]
    page = served.ask(f"/rows/{number}?status=ok").text
    for shown in ("row-0007", "the prompt of row 7", "Sort it.", "the reason of row 7", "gateway.example"):
        assert shown in page, shown
    assert 'href="/rows?status=ok#row-' in page, "the way back"
    assert served.ask(f"/rows/{ROWS}").status == 404
    assert served.ask("/rows/-1").status == 404


def test_these_rows_are_exported_as_they_stand_in_the_file(served: Served, job: Path) -> None:
    assert served.ask("/rows.jsonl").body == job.read_bytes()
    failed = [json.loads(line) for line in served.ask("/rows.jsonl?status=failed&sort=line&page=2").body.splitlines()]
    assert [record["run"]["line"] for record in failed] == list(range(10, ROWS + 1, 10)), "of all pages, in order"


def test_what_means_harm_is_shown_as_text(tmp_path: Path) -> None:
    with serving(make_job(tmp_path, 60, hostile=True)) as viewer:
        for path in ("/rows?size=500", *(f"/rows/{number}" for number in range(0, 60, 7))):
            page = viewer.ask(path).text
            assert "<script>alert" not in page
            assert "<img" not in page
            assert "\u202e" not in page
        assert viewer.rows(f"field.topic={quote(HOSTILE)}")["total"] > 0
        assert "&lt;script&gt;" in viewer.ask(f"/rows?field.topic={quote(HOSTILE)}").text
        assert SHOWN != HOSTILE


PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def with_pictures(results: Path, addresses: list[str]) -> Path:
    """The same job, whose first request has pictures."""
    requests = results.with_name("requests.jsonl")
    first, *rest = requests.read_bytes().splitlines(keepends=True)
    line = json.loads(first)
    old = hash_body(encoded(line["body"]))
    parts = [{"type": "input_image", "image_url": address} for address in addresses]
    line["body"]["input"] = [{"role": "user", "content": parts}]
    new = hash_body(encoded(line["body"]))
    requests.write_bytes(b"".join([encoded(line) + b"\n", *rest]))
    assert old.encode() in results.read_bytes()
    results.write_bytes(results.read_bytes().replace(old.encode(), new.encode()))
    return results


def test_pictures_are_shown_from_the_request_and_never_fetched(tmp_path: Path) -> None:
    harmful = ["https://evil.example/a.png", "data:text/html,<script>1</script>", "data:image/svg+xml;base64,AA=="]
    with serving(with_pictures(make_job(tmp_path, 2), [PIXEL, *harmful])) as viewer:
        number = viewer.rows("line.to=1")["rows"][0]["number"]
        page = viewer.ask(f"/rows/{number}").text
        assert page.count("<img") == 1
        assert f'src="{PIXEL}"' in page
        assert "<code>https://evil.example/a.png</code>" in page


def test_rows_are_held_against_gold(tmp_path: Path) -> None:
    results, gold = make_job(tmp_path, ROWS), write_gold(tmp_path, ROWS)
    question = Question(Source(str(gold)), key="id")
    with scoring(results, question) as work, serving(results, judge=Judge(work, "gold")) as viewer:
        counts = viewer.rows()["facets"]["verdict"]
        found = evaluate(results, question).counts
        assert counts == {"right": found.right, "wrong": found.wrong, "unanswered": found.unanswered}
        wrong = viewer.rows("verdict=wrong&size=500")["rows"]
        assert len(wrong) == found.wrong > 0
        for row in wrong:
            assert row["fields"]["topic"] != TOPICS[row["line"] % 4]
        page = viewer.ask(f"/rows/{wrong[0]['number']}").text
        assert f'gold says: <span dir="auto">{TOPICS[wrong[0]["line"] % 4]}</span>' in page
        assert "against gold" in viewer.ask("/rows").text
