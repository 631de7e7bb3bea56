"""The review: what is drawn and how likely, what a decision does, and that it is kept before anybody is told so."""

from __future__ import annotations

import errno
import html
import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchrun.datasets.corrections import CorrectionsFile, read_corrections
from batchrun.errors import UsageError
from batchrun.results.paths import ResultPaths
from batchrun.viewer.review import Queue, Review, ReviewOptions, draw, queue_of
from batchrun.viewer.shown import Rows
from tests.html.made import TOPICS, make_job
from tests.support import until
from tests.viewer.serving import Served, index_of, serving

ROWS = 120


def drawn(results: Path, options: ReviewOptions) -> Queue:
    with closing(index_of(results)) as index:
        while index.read_on():
            pass
        paths = ResultPaths.of(results)
        return queue_of(paths.review, options, lambda: draw(index, options, Rows(index).id_at))


def review_of(
    results: Path, size: int = 10, *, is_blind: bool = False, random_share: float = 1.0, table: str = "DATA"
) -> Review:
    options = ReviewOptions(size, random_share, is_blind, table)
    return Review(drawn(results, options), CorrectionsFile(ResultPaths.of(results).corrections), options)


def decide(viewer: Served, place: int, **change: Any) -> str:
    answer = post(viewer, place, **change)
    assert "next" in answer.json, answer.text
    return str(answer.json["next"])


def post(viewer: Served, place: int, **change: Any) -> Any:
    return viewer.change(f"/review/{place}", **change)


def written(results: Path) -> list[dict[str, Any]]:
    path = ResultPaths.of(results).corrections
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_job(tmp_path, ROWS)


def test_each_stratum_is_drawn_with_its_probability(results: Path) -> None:
    """A tenth of the rows have no label: those are doubtful."""
    queue = drawn(results, ReviewOptions(16, 0.5))
    assert Counter((row.drawn, row.probability) for row in queue.rows) == {
        ("doubtful", 8 / (ROWS / 10)): 8,
        ("random", 8 / (ROWS * 9 / 10)): 8,
    }
    assert all((row.line % 10 == 0) == (row.drawn == "doubtful") for row in queue.rows)
    assert len({row.id for row in queue.rows}) == 16


@pytest.mark.parametrize(("size", "share", "doubtful"), [(100, 0.5, 12), (10, 1.0, 0), (10, 0.0, 10), (500, 0.5, 12)])
def test_where_one_stratum_is_too_small_the_other_gives_more(
    results: Path, size: int, share: float, doubtful: int
) -> None:
    queue = drawn(results, ReviewOptions(size, share))
    counts = Counter(row.drawn for row in queue.rows)
    assert counts["doubtful"] == doubtful
    assert counts.total() == min(size, ROWS)
    assert sum(1 / row.probability for row in queue.rows if row.drawn == "random") == pytest.approx(
        ROWS * 9 / 10 if counts["random"] else 0
    )


def test_a_queue_is_drawn_once_and_another_is_refused(results: Path) -> None:
    first = drawn(results, ReviewOptions(10, 0.5))
    with results.open("ab") as file:
        file.write(results.read_bytes().splitlines(keepends=True)[0].replace(b'"row-', b'"new-'))
    assert drawn(results, ReviewOptions(10, 0.5)) == first
    with pytest.raises(UsageError, match=r"--review 10 --mix random=0\.5"):
        drawn(results, ReviewOptions(11, 0.5))


def test_rows_that_came_after_the_drawing_are_said_to_be_left_out(results: Path) -> None:
    review, paths = review_of(results), ResultPaths.of(results)
    with closing(review.file), serving(results, review) as viewer:
        assert f">Drawn from {ROWS} rows.<" in viewer.ask("/review/0").text
        with results.open("ab") as file:
            file.write(results.read_bytes().splitlines(keepends=True)[0].replace(b'"row-', b'"new-'))
        until(lambda: len(viewer.index.columns) == ROWS + 1)
        page = html.unescape(viewer.ask("/review/0").text)
        assert f"Drawn from {ROWS} rows. 1 came later" in page
        assert f"move {paths.review} and {paths.corrections} elsewhere" in page


def test_a_decision_is_written_with_how_its_row_was_drawn(results: Path) -> None:
    review = review_of(results)
    row = review.queue.rows[0]
    label = TOPICS[(row.line if row.line % 5 else row.line + 1) % 4]
    with closing(review.file), serving(results, review) as viewer:
        assert viewer.ask("/review").headers["Location"] == "/review/0"
        other = TOPICS[0] if label != TOPICS[0] else TOPICS[1]
        assert decide(viewer, 0, action="set", field="topic", value=other) == "/review/0"
        found = written(results)
        assert found[0].pop("when").endswith("Z")
        probability = 10 / (ROWS * 9 / 10)
        how = {"drawn": "random", "probability": probability}
        assert found == [{"v": 1, "id": row.id, "field": "topic", "from": label, "to": other, **how}]
        assert decide(viewer, 0, action="accept") == "/review/1"
        urgent, reason = written(results)[1:]
        assert (urgent["field"], urgent["from"], urgent["to"]) == ("urgent", row.line % 4 == 0, row.line % 4 == 0)
        assert (reason["field"], reason["from"]) == ("reason", reason["to"])
    assert read_corrections(ResultPaths.of(results).corrections).values(row.id)["topic"] == other


def answer_anew(results: Path, row: str, serving: Served) -> None:
    """Another run answers a row anew, with another reason."""
    lines = results.read_bytes().splitlines(keepends=True)
    place = next(place for place, line in enumerate(lines) if f'"{row}"'.encode() in line)
    lines[place] = lines[place].replace(b"the reason of row", b"another reason of row")
    fresh, before = results.with_name("fresh"), serving.index.generation
    fresh.write_bytes(b"".join(lines))
    fresh.replace(results)
    until(lambda: serving.index.generation > before and serving.index.progress.is_done)


@pytest.mark.parametrize(
    "change",
    [
        {"action": "accept"},
        {"action": "set", "field": "topic", "value": "praise"},
        {"action": "edit", "field": "reason", "text": "so"},
        {"action": "wrong", "field": "reason"},
    ],
)
def test_an_answer_that_was_not_shown_is_not_decided_on(results: Path, change: dict[str, Any]) -> None:
    review = review_of(results)
    with closing(review.file), serving(results, review) as viewer:
        seen = shown_label(viewer.ask("/review/0").text)
        answer_anew(results, review.queue.rows[0].id, viewer)
        assert "another answer now than was shown" in post(viewer, 0, **change, seen=seen).json["message"]
        assert written(results) == []
        page = viewer.ask("/review/0").text
        assert "another reason of row" in page
        decide(viewer, 0, **change, seen=shown_label(page))
        assert written(results)


def shown_label(page: str) -> str:
    """What names the label of a page."""
    return page.partition('data-seen="')[2].partition('"')[0]


def test_undo_skip_wrong_note_and_edit(results: Path) -> None:
    review = review_of(results)
    with closing(review.file), serving(results, review) as viewer:
        first, second = review.queue.rows[:2]
        assert decide(viewer, 0, action="accept") == "/review/1"
        assert decide(viewer, 1, action="undo") == "/review/0"
        assert review.file.decisions.of(first.id) == {}
        assert len(written(results)) == 6, "nothing is taken out of the file"
        assert decide(viewer, 0, action="skip") == "/review/1"
        assert decide(viewer, 1, action="wrong", field="topic") == "/review/1"
        assert decide(viewer, 1, action="note", field="topic", text="two topics") == "/review/1"
        assert decide(viewer, 1, action="edit", field="urgent", text="true") == "/review/1"
        assert decide(viewer, 1, action="edit", field="reason", text="true") == "/review/2"
        known = read_corrections(ResultPaths.of(results).corrections).of(second.id)
        assert (known["topic"].is_wrong, known["topic"].note, known["topic"].to) == (True, "two topics", None)
        assert (known["urgent"].to, known["reason"].to) == (True, "true")


def test_undo_takes_back_one_decision_and_then_the_one_before(results: Path) -> None:
    review = review_of(results)
    with closing(review.file), serving(results, review) as viewer:
        first, second = (row.id for row in review.queue.rows[:2])
        decide(viewer, 0, action="set", field="topic", value="praise")
        decide(viewer, 0, action="set", field="topic", value="billing")
        decide(viewer, 0, action="accept")
        decide(viewer, 1, action="wrong", field="topic")
        decide(viewer, 1, action="note", field="topic", text="why")
        left = [
            {first: {"topic", "urgent", "reason"}, second: {"topic"}},
            {first: {"topic", "urgent", "reason"}},
            {first: {"topic"}},
            {first: {"topic"}},
            {},
        ]
        for place, expected in zip((1, 1, 0, 0, 0), left, strict=True):
            assert decide(viewer, 4, action="undo") == f"/review/{place}"
            known = read_corrections(ResultPaths.of(results).corrections)
            assert {row: set(fields) for row, fields in known.by_row.items()} == expected
            if len(expected) == 2:
                assert known.of(second)["topic"].note == ""
        assert "nothing to take back" in post(viewer, 0, action="undo").json["message"]


def test_the_page_names_the_command_that_takes_the_decisions(results: Path) -> None:
    options = ReviewOptions(5, 1.0, table="my data.csv", prefix="llm_")
    paths = ResultPaths.of(results)
    review = Review(drawn(results, options), CorrectionsFile(paths.corrections), options)
    with closing(review.file), serving(results, review) as viewer:
        assert "batchrun join" not in viewer.ask("/review/0").text
        decide(viewer, 0, action="accept")
        page = html.unescape(viewer.ask("/review/1").text)
    command = f"batchrun join 'my data.csv' {results} -o corrected.csv --prefix llm_ --corrections {paths.corrections}"
    assert command in page
    assert "add --prefix" not in page


def test_without_a_table_it_is_said_what_the_command_needs(results: Path) -> None:
    review = review_of(results)
    with closing(review.file), serving(results, review) as viewer:
        decide(viewer, 0, action="accept")
        page = viewer.ask("/review/1").text
    assert "batchrun join DATA" in page
    assert "Where it has a column that is named as a field, add --prefix new_" in page


def test_the_page_says_what_was_decided_last_where_its_own_row_has_no_decision(results: Path) -> None:
    review = review_of(results)
    with closing(review.file), serving(results, review) as viewer:
        assert "data-last" not in viewer.ask("/review/0").text
        decide(viewer, 0, action="set", field="urgent", value=True)
        decide(viewer, 1, action="set", field="topic", value="praise")
        assert 'data-last-place="0" data-last-field="urgent"' in viewer.ask("/review/0").text
        assert 'data-last-place="1" data-last-field="topic"' in viewer.ask("/review/2").text


def test_a_long_text_is_kept_whole_and_one_that_is_too_long_is_refused(results: Path) -> None:
    review = review_of(results)
    text = "why " * 100_000
    with closing(review.file), serving(results, review) as viewer:
        decide(viewer, 0, action="set", field="topic", value="praise")
        decide(viewer, 0, action="note", field="topic", text=text)
        assert review.file.decisions.of(review.queue.rows[0].id)["topic"].note == text
        answer = post(viewer, 0, action="note", field="topic", text=text * 3)
        assert (answer.status, answer.json["message"]) == (413, "A change has 1,048,576 bytes at most.")


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"action": "edit", "field": "urgent", "text": "maybe"}, 200, "is no boolean"),
        ({"action": "set", "field": "topic", "value": "none of them"}, 200, "would not fit its schema"),
        ({"action": "set", "field": "nothing", "value": 1}, 400, "there is no field"),
        ({"action": "note", "field": "topic", "text": "x"}, 200, "Decide on topic first"),
        ({"action": "burn", "field": "topic"}, 400, "nothing that can be done"),
        ({}, 400, "no decision"),
    ],
)
def test_what_is_no_decision_is_refused_in_words_and_not_kept(
    results: Path, change: dict[str, Any], status: int, words: str
) -> None:
    review = review_of(results)
    with closing(review.file), serving(results, review) as viewer:
        answer = post(viewer, 0, **change)
        assert answer.status == status, "only what no page sends is an error of HTTP"
        assert words in answer.json["message"]
        assert written(results) == []


def test_a_row_without_a_label_can_be_corrected_and_not_accepted(results: Path) -> None:
    review = review_of(results, random_share=0.0)
    with closing(review.file), serving(results, review) as viewer:
        assert "no label to accept" in post(viewer, 0, action="accept").json["message"]
        decide(viewer, 0, action="set", field="topic", value="praise")
    one = written(results)[0]
    assert "from" not in one
    assert (one["to"], one["drawn"]) == ("praise", "doubtful")


def test_blind_hides_the_label_until_all_is_decided(results: Path) -> None:
    review = review_of(results, is_blind=True)
    reason = f"the reason of row {review.queue.rows[0].line}"
    with closing(review.file), serving(results, review) as viewer:
        assert reason not in viewer.ask("/review/0").text
        assert "hidden" in post(viewer, 0, action="accept").json["message"]
        for field, text in (("topic", "praise"), ("urgent", "true"), ("reason", "mine")):
            assert reason not in viewer.ask("/review/0").text
            assert decide(viewer, 0, action="edit", field=field, text=text) == "/review/0"
        assert reason in viewer.ask("/review/0").text
        assert decide(viewer, 0, action="accept") == "/review/1"


def test_a_torn_decision_is_left_out_and_the_next_one_stands_apart(results: Path) -> None:
    path = ResultPaths.of(results).corrections
    review = review_of(results)
    with closing(review.file), serving(results, review) as viewer:
        decide(viewer, 0, action="accept")
    path.write_bytes(path.read_bytes()[:-20])
    again = review_of(results)
    with closing(again.file), serving(results, again) as viewer:
        assert again.file.decisions.damaged == 1
        decide(viewer, 1, action="accept")
    assert set(read_corrections(path).by_row) == {row.id for row in again.queue.rows[:2]}


@pytest.mark.parametrize("is_replaced", [True, False])
def test_where_the_file_of_decisions_was_replaced_or_removed_nothing_is_said_to_be_kept(
    results: Path, is_replaced: bool
) -> None:
    review, path = review_of(results), ResultPaths.of(results).corrections
    with closing(review.file), serving(results, review) as viewer:
        decide(viewer, 0, action="accept")
        before = path.read_bytes()
        path.unlink()
        if is_replaced:
            path.write_bytes(before)  # as editors and copies do
        assert (
            "removed or replaced by another program; the decision is not kept" in post(viewer, 1, action="accept").text
        )
        assert (path.read_bytes() if is_replaced else before) == before
    again = review_of(results)
    with closing(again.file), serving(results, again) as viewer:
        decide(viewer, 1, action="accept")
    kept = {row.id for row in review.queue.rows[0 if is_replaced else 1 : 2]}
    assert set(read_corrections(path).by_row) == kept


def test_a_line_that_an_editor_left_without_its_end_stays_apart_from_the_next_decision(results: Path) -> None:
    review, path = review_of(results), ResultPaths.of(results).corrections
    with closing(review.file), serving(results, review) as viewer:
        decide(viewer, 0, action="accept")
        os.truncate(path, path.stat().st_size - 1)
        decide(viewer, 1, action="accept")
    known = read_corrections(path)
    assert [len(known.of(row.id)) for row in review.queue.rows[:2]] == [3, 3]
    assert not known.damaged


def test_a_second_person_is_refused(results: Path) -> None:
    with closing(review_of(results).file), pytest.raises(UsageError, match="open in another viewer"):
        review_of(results)


class Disk:
    """Stands before `os.fsync`: each call is noted, with what the file has then, and may be held up."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.synced = path, list[bytes]()
        self.may_go_on, self.is_waiting = threading.Event(), threading.Event()
        self.error: OSError | None = None
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, descriptor: int) -> None:
        if not self.path.exists() or not os.path.samestat(os.fstat(descriptor), self.path.stat()):
            return self._fsync(descriptor)
        self.is_waiting.set()
        assert self.may_go_on.wait(20)
        if self.error is not None:
            raise self.error
        self._fsync(descriptor)
        self.synced.append(self.path.read_bytes())
        return None


def test_a_decision_is_on_the_disk_before_the_page_says_so(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    review = review_of(results)
    with closing(review.file), serving(results, review) as viewer, ThreadPoolExecutor(1) as browser:
        disk = Disk(ResultPaths.of(results).corrections, monkeypatch)
        told = browser.submit(post, viewer, 0, action="accept")
        assert disk.is_waiting.wait(20)
        assert len(written(results)) == 3, "all fields are written"
        assert viewer.ask("/review/0").status == 200, "and the server has answered others since"
        assert not told.done(), "nothing is said before the disk has it"
        disk.may_go_on.set()
        assert told.result(20).status == 200
        assert disk.synced == [disk.path.read_bytes()]


def test_what_the_disk_does_not_take_is_not_kept(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    review = review_of(results)
    with closing(review.file), serving(results, review) as viewer:
        disk = Disk(ResultPaths.of(results).corrections, monkeypatch)
        disk.error = OSError(errno.EIO, "Input/output error")
        disk.may_go_on.set()
        answer = post(viewer, 0, action="accept")
        assert (answer.status, answer.json["message"][-24:]) == (500, "the decision is not kept")
        assert written(results) == []
        disk.error = None
        assert post(viewer, 0, action="accept").status == 200
        assert len(written(results)) == 3
