"""Decisions of a review in the table that `join` writes, with the real commands."""

from __future__ import annotations

import csv
import html
import json
import re
import shlex
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from batchrun.cli.main import cli
from batchrun.datasets.corrections import CorrectionsFile
from batchrun.errors import UsageError
from batchrun.results.paths import ResultPaths
from batchrun.viewer.review import Review, ReviewOptions, draw, queue_of
from batchrun.viewer.shown import Rows
from batchrun.viewer.table import DataTable
from tests.viewer.serving import index_of, serving
from tests.viewer.test_review import decide, review_of

ROWS = 12
SCHEMA = "topic enum(billing|delivery|praise), urgent bool"


def call(*words: object) -> None:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    if isinstance(done.exception, UsageError):
        raise done.exception
    assert done.exit_code in (0, 1), done.output


def simulated(requests: Path, results: Path) -> None:
    """Answer requests, in a process of its own: where a browser is open, this one has an event loop already."""
    command = [sys.executable, "-m", "batchrun", "run", str(requests), "-o", str(results)]
    subprocess.run([*command, "--simulate", "--simulate-latency", "0", "-q"], check=True, timeout=60)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A table that was labelled by the simulator; its folder."""
    data = tmp_path / "data.csv"
    with data.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([f"t{number}", f"text {number}"] for number in range(ROWS))])
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    asked = ("--model", "gpt-4.1", "--prompt", "{{ text }}", "--id", "id", "--schema", SCHEMA)
    call("prepare", data, "-o", requests, *asked)
    simulated(requests, results)
    return tmp_path


def joined(job: Path, *more: object) -> dict[str, dict[str, str]]:
    out = job / "out.csv"
    call("join", job / "data.csv", job / "results.jsonl", "-o", out, *more)
    with out.open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("names", [["text"], ["topic", "text", "new__error"]])
def test_the_command_that_the_page_prints_works_where_the_table_has_such_names(
    tmp_path: Path, names: list[str]
) -> None:
    data = tmp_path / "data.csv"
    with data.open("w", newline="") as file:
        csv.writer(file).writerows([names, *([f"{name} {number}" for name in names] for number in range(ROWS))])
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    call("prepare", data, "-o", requests, "--model", "gpt-4.1", "--prompt", "{{ text }}", "--schema", SCHEMA)
    simulated(requests, results)
    table = DataTable(data, requests, lambda text: None)
    review = review_of(results, 3, table=str(data))
    with closing(review.file), serving(results, review, table=table) as viewer:
        decide(viewer, 0, action="accept")
        page = html.unescape(viewer.ask("/review/1").text)
    found = re.search(r"<code>batchrun (join .*)</code>", page)
    assert found is not None
    out = tmp_path / "corrected.csv"
    words = shlex.split(found[1])
    assert ("--prefix" in words) == ("topic" in names)
    call(*(out if word == out.name else word for word in words))
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    prefix = words[words.index("--prefix") + 1] if "topic" in names else ""
    assert {row[f"{prefix}topic"] for row in rows} <= {"billing", "delivery", "praise"}
    assert [row["text"] for row in rows] == [f"text {number}" for number in range(ROWS)]


def test_decisions_are_in_the_joined_table_and_all_else_is_as_it_was(job: Path) -> None:
    results = job / "results.jsonl"
    before = joined(job)
    options = ReviewOptions(3, 1.0)
    paths = ResultPaths.of(results)
    with closing(index_of(results)) as index:
        while index.read_on():
            pass
        queue = queue_of(paths.review, options, lambda: draw(index, options, Rows(index).id_at))
    review = Review(queue, CorrectionsFile(paths.corrections), options)
    changed, accepted, wrong = (row.id for row in queue.rows)
    other = "praise" if before[changed]["topic"] != "praise" else "billing"
    with closing(review.file), serving(results, review) as viewer:
        decide(viewer, 0, action="set", field="topic", value=other)
        decide(viewer, 0, action="accept")
        decide(viewer, 1, action="accept")
        decide(viewer, 2, action="wrong", field="topic")
    after = joined(job, "--corrections", paths.corrections)
    assert after[changed] == before[changed] | {"topic": other}
    assert after[accepted] == before[accepted]
    assert (after[wrong]["topic"], after[wrong]["urgent"], after[wrong]["_status"]) == ("", "", "invalid")
    assert "marked as wrong" in after[wrong]["_error"]
    rest = before.keys() - {changed, accepted, wrong}
    assert len(rest) == ROWS - 3
    assert all(after[row] == before[row] for row in rest)


def test_decisions_and_votes_do_not_go_together(job: Path) -> None:
    corrections = job / "corrections.jsonl"
    corrections.write_bytes(b"")
    with pytest.raises(UsageError, match="does not go with --votes"):
        joined(job, "--corrections", corrections, "--votes")


def test_the_table_is_not_written_over_the_decisions(job: Path) -> None:
    corrections = job / "corrections.csv"
    corrections.write_bytes(b"")
    with pytest.raises(UsageError, match="the file of corrections"):
        call("join", job / "data.csv", job / "results.jsonl", "-o", corrections, "--corrections", corrections)
    assert corrections.read_bytes() == b""


def requests_in(path: Path) -> dict[str, list[dict[str, str]]]:
    """What is asked of each row, by its id."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return {line["custom_id"]: line["body"]["input"] for line in lines}


def test_corrected_rows_are_examples_for_the_next_requests(job: Path) -> None:
    results, again = job / "results.jsonl", job / "again.jsonl"
    before = joined(job)
    options, paths = ReviewOptions(4, 1.0), ResultPaths.of(results)
    with closing(index_of(results)) as index:
        while index.read_on():
            pass
        queue = queue_of(paths.review, options, lambda: draw(index, options, Rows(index).id_at))
    review = Review(queue, CorrectionsFile(paths.corrections), options)
    changed = queue.rows[0].id
    other = "praise" if before[changed]["topic"] != "praise" else "billing"
    with closing(review.file), serving(results, review) as viewer:
        decide(viewer, 0, action="set", field="topic", value=other)
        decide(viewer, 1, action="accept")
        decide(viewer, 2, action="wrong", field="topic")
    asked = ("--model", "gpt-4.1", "--prompt", "Sort: {{ text }}", "--id", "id", "--schema", SCHEMA)
    call("prepare", job / "data.csv", "-o", again, *asked, "--examples", paths.corrections)
    for custom_id, messages in requests_in(again).items():
        text = f"Sort: text {custom_id.removeprefix('t')}"
        if custom_id == changed:
            assert messages == [{"role": "user", "content": text}], "a row is no example of itself"
            continue
        question, answer, own = messages
        assert question["content"] == f"Sort: text {changed.removeprefix('t')}"
        assert json.loads(answer["content"]) == {"topic": other, "urgent": before[changed]["urgent"] == "true"}
        assert own["content"] == text
    told = json.loads(Path(f"{again}.prepared.json").read_bytes())["examples"]
    assert told["data"]["name"] == str(paths.corrections)


def test_corrections_that_cannot_be_examples_are_refused(job: Path) -> None:
    line = {"v": 1, "id": "t1", "field": "topic", "from": "praise", "to": "praise", "when": "2026-01-01T00:00:00Z"}
    asked = ("--prompt", "{{ text }}", "--id", "id", "--schema", SCHEMA, "-o", job / "again.jsonl")
    for name, words in (
        ("results.jsonl.corrections.jsonl", "no row of .* was corrected"),
        ("other.jsonl", "must be RESULTS.corrections.jsonl"),
    ):
        corrections = job / name
        corrections.write_text(json.dumps(line) + "\n")
        with pytest.raises(UsageError, match=words):
            call("prepare", job / "data.csv", *asked, "--examples", corrections)
        with pytest.raises(UsageError, match="has the right answers itself"):
            call("prepare", job / "data.csv", *asked, "--examples", corrections, "--example-answer", "topic")
