"""The search over prompts, and what is made ready for large files: it must find what was found without it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.records.index import hash_body
from batchrun.viewer import blocks, columns, index_file, quiet_hours
from batchrun.viewer.columns import Numbers, numbers_of
from batchrun.viewer.index import Index
from tests.html.made import make_job
from tests.viewer.serving import index_of, requests_of, serving
from tests.viewer.test_index import lines_of, read_all
from tests.viewer.test_rows import encoded

ROWS = 60


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_job(tmp_path, ROWS)


def found(results: Path, words: str) -> list[int]:
    index = read_all(index_of(results))
    try:
        return sorted(lines_of(index, q=words))
    finally:
        index.close()


def rewrite(results: Path, line: int, **fields: str) -> None:
    """Change a request, and have its record say that this was sent."""
    requests = results.with_name("requests.jsonl")
    lines = requests.read_bytes().splitlines()
    request = json.loads(lines[line - 1])
    before = hash_body(encoded(request["body"]))
    request["body"] |= fields
    lines[line - 1] = encoded(request)
    requests.write_bytes(b"".join(one + b"\n" for one in lines))
    after = hash_body(encoded(request["body"]))
    results.write_bytes(results.read_bytes().replace(before.encode(), after.encode()))


def test_words_of_prompts_are_found(results: Path) -> None:
    rewrite(results, 7, input="a Zebra crosses")
    assert found(results, "zebra") == [7]
    assert found(results, "second") == [line for line in range(1, ROWS + 1) if line != 7]
    assert found(results, "sort") == list(range(1, ROWS + 1)), "what all prompts have in common"
    assert found(results, "zebra reason") == [7], "one word in the prompt, one in the answer"
    assert found(results, "prompt delivery zebra") == []


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("退款", [7]),
        ("退", [7]),
        ("处", [7]),
        ("款尽", [7]),
        ("尽快退款", []),
        ("荷物", [8]),
        ("荷物 ください", [8]),
        ("メール", [8]),
        ("メル", []),
        ("3月", [8]),
        ("退款*", [7]),
        ("共同", list(range(1, ROWS + 1))),
    ],
)
def test_chinese_and_japanese_words_are_found_inside_a_sentence(results: Path, words: str, lines: list[int]) -> None:
    for line in range(1, ROWS + 1):
        text = {7: "我要退款尽快处", 8: "3月の荷物をメールで知らせてください。"}.get(line, "another")
        rewrite(results, line, input=text, instructions="大家共同的说明")
    assert found(results, words) == lines


def test_a_request_that_was_changed_since_is_not_searched(results: Path) -> None:
    assert found(results, "prompt 7") == [7]
    requests = results.with_name("requests.jsonl")
    requests.write_bytes(requests.read_bytes().replace(b"the prompt of row 7\\", b"the zebra of row 7\\"))
    assert found(results, "zebra") == []
    assert found(results, "prompt 7") == [], "the index was made anew"
    assert found(results, "prompt 8") == [8]


def test_many_different_instructions_are_all_searched(tmp_path: Path) -> None:
    """More than a facet has codes for."""
    results = make_job(tmp_path, 300)
    for line in range(1, 301):
        rewrite(results, line, instructions=f"rule{line} holds")
    assert [found(results, f"rule{line}") for line in (1, 254, 255, 300)] == [[1], [254], [255], [300]]
    assert found(results, "holds") == list(range(1, 301))


def test_prompts_of_a_compressed_file_are_searched_and_shown(results: Path) -> None:
    requests = results.with_name("requests.jsonl")
    requests.write_bytes(gzip.compress(requests.read_bytes()))
    with serving(results) as viewer:
        assert viewer.rows("q=prompt+7")["total"] == 1
        number = viewer.rows("q=prompt+7")["rows"][0]["number"]
        assert "the prompt of row 7" in viewer.ask(f"/rows/{number}").text


def test_requests_are_read_by_their_lines(results: Path) -> None:
    requests = requests_of(results)
    assert requests is not None
    path = results.with_name("requests.jsonl")
    ids = [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]
    for line in (ROWS, 1, 30):
        request = requests.request(line)
        assert request is not None
        assert request.custom_id == ids[line - 1]
    assert [requests.request(line) for line in (0, ROWS + 1)] == [None, None]
    requests.close()


VIEWS: tuple[dict[str, str], ...] = (
    *({"q": words} for words in ("reason", "prompt", "sort", "row", "reason 7", "prompt 7", "bill*", "nothing")),
    *({"sort": order} for order in ("cost", "-cost", "latency", "-attempts", "line", "-line", "output_tokens")),
    {"q": "reason", "sort": "-latency", "status": "ok"},
    {"cost.from": "0.0005", "sort": "cost"},
)


@pytest.fixture
def quiet(results: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index for which a file of 60 rows is large."""
    monkeypatch.setattr(quiet_hours, "LEAST_ROWS", 10)
    monkeypatch.setattr(blocks, "SAMPLE_EVERY", 1)
    monkeypatch.setattr(quiet_hours, "_STEP_ROWS", 7)
    index = read_all(index_of(results))
    yield index
    index.close()


def tidied(index: Index) -> Index:
    while index.tidy():
        pass
    return index


def test_what_is_made_ready_finds_what_was_found_without_it(results: Path, quiet: Index) -> None:
    before = [lines_of(quiet, **view) for view in VIEWS]
    quiet.close()
    index = tidied(read_all(index_of(results)))
    assert index.file.known("common").keys() >= {'"reason"', '"prompt"', '"row"'}
    assert set(index.file.known("ordering").values()) == {ROWS}
    assert [lines_of(index, **view) for view in VIEWS] == before
    index.close()
    again = index_of(results)
    assert again.file.known("common")['"reason"'] == ROWS, "it is kept"
    assert [lines_of(again, **view) for view in VIEWS] == before
    assert not again.quiet_hours.tidy(again.columns), "and nothing is made twice"
    again.close()


def test_a_short_beginning_that_every_row_has_is_not_asked_of_the_table_of_words(
    results: Path, monkeypatch: pytest.MonkeyPatch, quiet: Index
) -> None:
    before = [lines_of(quiet, q=words) for words in ("r*", "ro*", "7*", "bi*")]
    assert len(before[0]) == ROWS > len(before[2]) > 0
    quiet.close()
    index = tidied(read_all(index_of(results)))
    asked = list[str]()
    between = index_file.IndexFile.words_between

    def noted(self: index_file.IndexFile, query: str, start: int, end: int) -> int:
        asked.append(query)
        return between(self, query, start, end)

    monkeypatch.setattr(index_file.IndexFile, "words_between", noted)
    assert [lines_of(index, q=words) for words in ("r*", "ro*", "7*", "bi*")] == before
    assert asked == ['"7"*', '"bi"*']
    index.close()


def test_rows_that_come_later_are_found_as_well(tmp_path: Path, results: Path, quiet: Index) -> None:
    quiet.close()
    whole = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join(whole[:40]))
    index = tidied(read_all(index_of(results)))
    with results.open("ab") as file:
        file.writelines(whole[40:])
    read_all(index)
    fresh = index_of(results)  # the first one has the file: this one is temporary
    expected = [lines_of(read_all(fresh), **view) for view in VIEWS]
    fresh.close()
    assert [lines_of(index, **view) for view in VIEWS] == expected
    assert [lines_of(tidied(index), **view) for view in VIEWS] == expected
    assert index.file.known("common")['"reason"'] == ROWS, "a third has come to it"
    index.close()


def test_few_rows_need_nothing_made_ready(results: Path) -> None:
    index = tidied(read_all(index_of(results)))
    assert index.file.known("common") == index.file.known("ordering") == {}
    index.close()


@given(st.lists(st.none() | st.integers(0, 5) | st.integers(0, 2**40), max_size=80), st.integers(0, 80))
def test_all_ways_to_an_order_lead_to_the_same(values: list[int | None], known: int) -> None:
    numbers = Numbers("n", "i")
    numbers.values += numbers_of("i", values[:known])
    before = numbers.order()
    numbers.values += numbers_of("i", values[known:])
    order = numbers.order(before)
    assert order == numbers.order() == numbers.order_by_parts()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_PART", 3)
        assert order == numbers.order_by_parts(), "many rows that have one number"
    counts = [min(value, 2**31 - 1) if value is not None else None for value in (values[row] for row in order)]
    there = [count for count in counts if count is not None]
    assert counts == sorted(there) + [None] * (len(values) - len(there))
    falling = list(numbers.falling(order))
    assert falling == [*order[: len(there)][::-1], *order[len(there) :]]
