"""Two result files: which rows differ and come first, and in which words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from batchrun.cli.main import cli
from batchrun.errors import UsageError
from batchrun.viewer import index as viewer_index
from batchrun.viewer.pages import Pages
from batchrun.viewer.review import ReviewOptions, draw
from batchrun.viewer.second import Compared
from batchrun.viewer.shown import Rows
from batchrun.viewer.view import View
from batchrun.viewer.word_diff import Kind, Piece, word_diff
from tests.html.made import TOPICS, make_job
from tests.support import until
from tests.viewer.serving import Served, index_of, second_of, serving
from tests.viewer.test_review import review_of

ROWS = 60
CHANGED, REASONED, NOW_FAILED, GONE, NEW = 3, 7, 9, 12, 61


def rewritten(results: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Change each record of a file, or take it out."""
    records = [change(json.loads(line)) for line in results.read_bytes().splitlines()]
    results.write_text("".join(json.dumps(one) + "\n" for one in records if one is not None))


def with_label(record: dict[str, Any], **values: Any) -> dict[str, Any]:
    part = record["response"]["body"]["output"][0]["content"][0]
    part["text"] = json.dumps(json.loads(part["text"]) | values)
    return record


def make_second(folder: Path) -> Path:
    """The same job again: one label is another, one reason, one row failed, one is gone and one is new."""
    folder.mkdir()
    results = make_job(folder, ROWS)

    def change(record: dict[str, Any]) -> dict[str, Any] | None:
        line = record["run"]["line"]
        if line == CHANGED:
            return with_label(record, topic="defect", urgent=True)
        if line == REASONED:
            return with_label(record, reason="the other reason of row 7")
        if line == NOW_FAILED:
            record["run"] |= {"outcome": "failed"}
            return record | {"error": {"code": "http_503", "message": "it broke"}}
        return None if line == GONE else record

    rewritten(results, change)
    new = json.loads(results.read_bytes().splitlines()[0])
    new["custom_id"], new["run"]["line"] = "new", NEW
    with results.open("a") as file:
        file.write(json.dumps(new) + "\n")
    return results


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("two")
    return make_job(folder, ROWS), make_second(folder / "b")


@pytest.fixture(scope="module")
def served(files: tuple[Path, Path]) -> Iterator[Served]:
    with serving(files[0], second=files[1]) as viewer:
        yield viewer


def lines(rows: Any) -> list[int]:
    return [row["line"] for row in rows]


def test_each_row_is_compared_and_those_that_differ_come_first(served: Served) -> None:
    found = served.rows("size=500")
    told = {"differs": 3, "only in A": 1, "only in B": 1, "same": ROWS - 4}
    assert found["facets"]["compared"] == told
    assert found["total"] == ROWS + 1
    rows = found["rows"]
    assert sorted(lines(rows[:3])) == [CHANGED, REASONED, NOW_FAILED]
    assert lines(rows[3:5]) == [GONE, NEW]
    assert Counter(row["compared"] for row in rows) == told
    second = served.rows("size=2&page=3")["rows"]
    assert lines(second) == lines(rows[4:6]), "pages go on where the one before ends"
    assert lines(served.rows("sort=line&size=500")["rows"]) == list(range(1, ROWS + 2)), "another order can be chosen"


def test_both_answers_are_shown_by_field(served: Served) -> None:
    row = next(row for row in served.rows("compared=differs")["rows"] if row["line"] == CHANGED)
    assert row["second"]["fields"] == row["fields"] | {"topic": "defect", "urgent": "true"}
    table = served.ask("/rows?compared=differs").text
    assert f"{TOPICS[CHANGED]} → defect" in table
    assert "ok → failed" in table
    page = served.ask(f"/rows/{row['number']}").text
    for shown in ("They differ.", f"{TOPICS[CHANGED]}</del>", "defect</ins>", f"the reason of row {CHANGED}"):
        assert shown in page, shown
    same = served.rows("compared=same&size=1")["rows"][0]["number"]
    assert "They are the same." in served.ask(f"/rows/{same}").text


def test_rows_are_filtered_by_what_became_of_them_in_the_second_file(served: Served) -> None:
    assert lines(served.rows("status=ok&status_b=failed")["rows"]) == [NOW_FAILED]
    page = served.ask("/rows?status_b=failed").text
    assert 'aria-label="status in B"' in page
    assert lines(served.rows("compared=only+in+B&status_b=ok")["rows"]) == [NEW]
    assert GONE not in lines(served.rows("status_b=ok&size=500")["rows"]), "only A has it"


def test_the_head_says_the_order_and_a_row_says_that_one_file_alone_has_it(served: Served) -> None:
    assert "Rows that differ come first" in served.ask("/rows").text
    assert "Rows that differ come first" not in served.ask("/rows?sort=-cost").text
    number = served.rows("compared=only+in+A")["rows"][0]["number"]
    assert "This row is only in A." in served.ask(f"/rows/{number}").text


def test_the_review_of_a_row_that_one_file_alone_has_says_so(files: tuple[Path, Path]) -> None:
    review = review_of(files[0], ROWS)
    place = next(place for place, row in enumerate(review.queue.rows) if row.line == GONE)
    with closing(review.file), serving(files[0], review, second=files[1]) as viewer:
        assert 'data-no-diff="This row is only in A:' in viewer.ask(f"/review/{place}").text
    review = review_of(files[0], ROWS)
    with closing(review.file), serving(files[0], review) as viewer:
        assert "this page was opened with one" in viewer.ask(f"/review/{place}").text


def test_texts_are_compared_word_by_word(served: Served) -> None:
    row = next(row for row in served.rows("compared=differs")["rows"] if row["line"] == REASONED)
    page = served.ask(f"/rows/{row['number']}").text
    assert "the <ins><span" in page
    assert "other </ins>reason of row 7" in page


def test_a_row_of_the_second_file_alone_has_its_page_and_its_record(served: Served, files: tuple[Path, Path]) -> None:
    row = served.rows("compared=only+in+B")["rows"][0]
    assert row["custom_id"] == "new"
    assert row["second"] is None
    assert "gateway.example" in served.ask(f"/rows/{row['number']}").text
    assert served.ask("/rows.jsonl?compared=only+in+B").body == files[1].read_bytes().splitlines(keepends=True)[-1]


def test_the_page_of_a_row_leads_on_within_its_view(served: Served) -> None:
    numbers = [row["number"] for row in served.rows("compared=differs")["rows"]]
    page = served.ask(f"/rows/{numbers[1]}?compared=differs&place=1").text
    for other, place in ((numbers[0], 0), (numbers[2], 2)):
        assert f'href="/rows/{other}?compared=differs&amp;place={place}"' in page
    last = served.ask(f"/rows/{numbers[2]}?compared=differs&place=2").text
    assert "Next row" not in last
    assert "Previous row" not in served.ask(f"/rows/{numbers[0]}?compared=differs&place=0").text
    back = served.ask(f"/rows/{numbers[2]}?compared=differs&size=2&place=2").text
    assert 'href="/rows?compared=differs&amp;page=2&amp;size=2#row-' in back, "to the page on which the row is"


def test_rows_that_differ_are_doubtful_and_none_of_the_second_alone_is_drawn(files: tuple[Path, Path]) -> None:
    second = second_of(files[1])
    index = index_of(files[0], second=second)
    while index.read_on():
        pass
    queue = draw(index, ReviewOptions(500, 0.5), str)
    doubtful = {row.line for row in queue.rows if row.drawn == "doubtful"}
    assert doubtful == {CHANGED, REASONED, NOW_FAILED, *range(10, ROWS + 1, 10)}
    assert (len(queue.rows), queue.of) == (ROWS, ROWS)
    index.close()


def test_the_index_of_one_file_is_left_alone(files: tuple[Path, Path]) -> None:
    index_of(files[0]).close()
    kept = Path(f"{files[0]}.index")
    before = kept.read_bytes()
    with serving(files[0], second=files[1]) as viewer:
        assert viewer.rows("compared=differs")["total"] == 3
    assert kept.read_bytes() == before


def test_a_file_is_not_compared_with_itself(files: tuple[Path, Path]) -> None:
    done = CliRunner().invoke(cli, ["view", str(files[0]), str(files[0]), "--no-open"])
    assert isinstance(done.exception, UsageError)
    assert "name another RESULTS_B" in str(done.exception)


def test_two_files_that_grow_are_compared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make_job(tmp_path, ROWS), make_second(tmp_path / "b")
    monkeypatch.setattr(viewer_index, "AGAIN_SHARE", 1.0)
    before = [file.read_bytes() for file in files]
    index = index_of(files[0], second=second_of(files[1]))
    while index.read_on():
        pass
    generation, rows = index.generation, index.progress.rows
    assert not index.read_on(), "nothing has grown"
    for place, name in ((0, "new"), (1, "newer")):  # the second file has the first of them
        with files[place].open("ab") as file:
            line = json.loads(before[0].splitlines()[0]) | {"custom_id": name}
            file.write(json.dumps(line).encode() + b"\n")
        until(lambda: index.read_on() > 0)
        assert index.progress.is_done
        assert not index.read_on()
    assert (index.generation, index.progress.rows) == (generation + 2, rows + 1)
    newest = [Rows(index).id_at(row) for row in range(rows + 1)][-1]
    assert newest == "newer"
    monkeypatch.setattr(viewer_index, "MOST_AGAIN_S", 0.0)
    assert not index.is_outdated
    with files[1].open("ab") as file:
        file.write(b"{}\n")
    assert index.is_outdated
    assert not index.read_on()
    page = Pages(Rows(index), "token", "batchrun view a b").table(index, View()).decode()
    assert "have grown since they were compared. To compare them again, type: batchrun view a b" in page
    index.close()


@pytest.mark.parametrize(
    ("first", "second", "pieces"),
    [
        ("", "", []),
        ("one", "one", [Piece(Kind.SAME, "one")]),
        ("a big dog", "a dog", [Piece(Kind.SAME, "a "), Piece(Kind.FIRST, "big "), Piece(Kind.SAME, "dog")]),
        ("no", "yes", [Piece(Kind.FIRST, "no"), Piece(Kind.SECOND, "yes")]),
        ("a a a", "a a", [Piece(Kind.SAME, "a a"), Piece(Kind.FIRST, " a")]),
    ],
)
def test_the_words_of_two_texts(first: str, second: str, pieces: list[Piece]) -> None:
    assert word_diff(first, second) == pieces


@given(st.text("ab ,\n"), st.text("ab ,\n"))
def test_the_pieces_make_both_texts(first: str, second: str) -> None:
    pieces = word_diff(first, second)
    assert "".join(piece.text for piece in pieces if piece.kind is not Kind.SECOND) == first
    assert "".join(piece.text for piece in pieces if piece.kind is not Kind.FIRST) == second


def test_long_texts_are_compared_in_little_time() -> None:
    pieces = word_diff("so " + "a b " * 20_000, "so " + "c d " * 20_000)
    assert [piece.kind for piece in pieces] == [Kind.SAME, Kind.FIRST, Kind.SECOND, Kind.SAME]


def test_the_words_for_the_facet_are_those_of_the_page() -> None:
    assert [str(one) for one in Compared] == ["differs", "only in A", "only in B", "same"]
