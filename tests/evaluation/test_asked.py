"""What the files beside a result file tell: the ids of rows as they were prepared, scorers and orders by the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchrun import Endpoint, GatewayOptions, Job, UsageError, run
from batchrun.datasets.tables import Source
from batchrun.evaluation.asked import Asked, results_in
from batchrun.evaluation.evaluate import Question, evaluate
from batchrun.evaluation.fields import scorer_of_schema
from batchrun.evaluation.verdict import Counts
from tests.cli.commands import FAST, Command
from tests.evaluation.made import write_gold, write_results


@pytest.fixture
def batchrun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


SHORT = "topic enum(low|mid|high), urgent bool"


def test_the_table_that_was_prepared_is_gold_without_a_key(batchrun: Command) -> None:
    """Its rows are matched by the cells that were asked, twins by their order, wherever they stand."""
    texts = ["one", "two", "one", "three", "one"]
    write_gold(Path("data.csv"), ["text", "topic"], [(text, "low") for text in texts])
    done = batchrun(
        "prepare", "data.csv", "-p", "Label: {{ text }}", "-s", SHORT, "-o", "q.jsonl", "--model", "gpt-4.1"
    )
    assert done.code == 0, done.err
    assert batchrun("run", "q.jsonl", "-o", "r.jsonl", *FAST).code == 0
    said = {line["custom_id"]: _topic(line) for line in map(json.loads, Path("r.jsonl").read_bytes().splitlines())}
    ids = [json.loads(line)["custom_id"] for line in Path("q.jsonl").read_bytes().splitlines()]
    assert len(set(ids)) == 5
    rows = [(text, said[custom_id]) for text, custom_id in zip(texts, ids, strict=True)]
    write_gold(Path("gold.csv"), ["text", "topic"], rows)
    told = json.loads(batchrun("eval", "r.jsonl", "--gold", "gold.csv", "--json").out)
    assert told["counts"] == {"not_asked": 0, "right": 5, "wrong": 0, "unanswered": 0, "unscored": 0}
    moved = [rows[3], rows[0], rows[1], ("new", "low"), rows[2], rows[4]]
    write_gold(Path("moved.csv"), ["text", "topic"], moved)
    told = json.loads(batchrun("eval", "r.jsonl", "--gold", "moved.csv", "--json").out)
    assert (told["counts"]["right"], told["counts"]["not_asked"]) == (5, 1)


def _topic(record: dict[str, Any]) -> str:
    text = record["response"]["body"]["output"][-1]["content"][0]["text"]
    return str(json.loads(text)["topic"])


def test_the_order_of_an_enum_counts_where_it_is_asked_for(batchrun: Command) -> None:
    write_gold(Path("data.csv"), ["text", "topic"], [(f"text {at}", "low" if at % 2 else "high") for at in range(30)])
    batchrun("prepare", "data.csv", "-p", "Label: {{ text }}", "-s", SHORT, "-o", "q.jsonl", "--model", "gpt-4.1")
    batchrun("run", "q.jsonl", "-o", "r.jsonl", *FAST)
    plain = json.loads(batchrun("eval", "r.jsonl", "--gold", "data.csv", "--json").out)["fields"]["topic"]
    told = json.loads(batchrun("eval", "r.jsonl", "--gold", "data.csv", "--ordinal", "topic", "--json").out)
    ordinal = told["fields"]["topic"]
    assert plain["alpha_ordinal"] is None
    assert ordinal["alpha_ordinal"]["value"] != ordinal["alpha_nominal"]["value"]
    assert list(ordinal["classes"]) == ["low", "mid", "high"]
    write_gold(Path("odd.csv"), ["text", "topic"], [("text 0", "hihg"), ("text 1", "low")])
    warned = json.loads(batchrun("eval", "r.jsonl", "--gold", "odd.csv", "--json").out)["warnings"]
    assert "topic: gold has labels that the schema of the requests does not allow: hihg" in warned
    assert not any("does not allow" in warning for warning in told["warnings"])
    done = batchrun("eval", "r.jsonl", "--gold", "data.csv", "--ordinal", "urgent")
    assert done.code == 2
    assert "--ordinal urgent: the schema of the requests has no enum for it" in done.err
    write_gold(Path("other.csv"), ["text", "urgent"], [("text 0", "true")])
    done = batchrun("eval", "r.jsonl", "--gold", "other.csv", "--ordinal", "topic")
    assert (done.code, done.out) == (2, "")
    assert "--ordinal topic: no such field is scored; the fields are urgent" in done.err


def test_a_label_that_is_not_in_the_enum_has_no_place_in_its_order(batchrun: Command) -> None:
    """It would else stand above the highest one, and the ordinal alpha would be a false figure."""
    said = {f"text {at}": ("low", "mid", "high")[at % 3] for at in range(30)}
    write_gold(Path("data.csv"), ["text", "topic"], list(said.items()))
    batchrun("prepare", "data.csv", "-p", "Label: {{ text }}", "-s", SHORT, "-o", "q.jsonl", "--model", "gpt-4.1")
    batchrun("run", "q.jsonl", "-o", "r.jsonl", *FAST)
    write_gold(Path("odd.csv"), ["text", "topic"], [*list(said.items())[1:], ("text 0", "not known")])
    words = ("eval", "r.jsonl", "--gold", "odd.csv", "--ordinal", "topic")
    told = json.loads(batchrun(*words, "--json").out)
    assert told["fields"]["topic"]["alpha_ordinal"] is None
    assert "topic: no ordinal alpha, as the order of the enum has no place for not known" in told["warnings"]
    assert batchrun(*words, "--fail-under", "topic.alpha_ordinal=-1").code == 2
    folded = [(text, label.upper()) for text, label in said.items()]
    write_gold(Path("folded.csv"), ["text", "topic"], folded)
    loose = ("eval", "r.jsonl", "--gold", "folded.csv", "--ordinal", "topic", "--score", "topic=casefold", "--json")
    topic = json.loads(batchrun(*loose).out)["fields"]["topic"]
    assert list(topic["classes"]) == ["low", "mid", "high"]
    assert topic["alpha_ordinal"]["value"] is not None


def test_the_schema_of_requests_that_were_written_by_hand_is_found_too(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"level": {"enum": ["low", "high"]}, "count": {"type": "integer"}}}
    body = {"model": "m", "input": "x", "text": {"format": {"type": "json_schema", "name": "s", "schema": schema}}}
    requests = tmp_path / "q.jsonl"
    requests.write_text(json.dumps({"custom_id": "a", "body": body}) + "\n")
    results = tmp_path / "r.jsonl"
    run(Job(str(requests), results, Endpoint("http://127.0.0.1"), simulate=GatewayOptions()))
    asked = Asked.of(results)
    assert asked.order("level") == ["low", "high"]
    assert {name: scorer and scorer.name for name, scorer in asked.scorers().items()} == {
        "level": "exact",
        "count": "number",
    }
    requests.write_bytes(b"\x1f\x8b damaged")
    assert Asked.of(results).schema is None


def test_an_answer_that_misses_its_schema_is_unanswered_in_every_field_as_in_join(batchrun: Command) -> None:
    """Also where nothing checked it when it came, and where one of its fields can be read."""
    write_gold(Path("data.csv"), ["text", "urgent"], [(f"text {at}", "true") for at in range(40)])
    batchrun("prepare", "data.csv", "-p", "Label: {{ text }}", "-s", SHORT, "-o", "q.jsonl", "--model", "gpt-4.1")
    batchrun("run", "q.jsonl", "-o", "r.jsonl", *FAST)
    lines = [json.loads(line) for line in Path("r.jsonl").read_bytes().splitlines()]
    for line in lines[:10]:
        line["response"]["body"]["output"][-1]["content"][0]["text"] = '{"topic": "none of them", "urgent": true}'
    Path("r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "30 ok, 10 invalid" in batchrun("join", "data.csv", "r.jsonl", "-o", "j.csv", "--prefix", "p_").out
    found = json.loads(batchrun("eval", "r.jsonl", "--gold", "data.csv", "--json").out)["fields"]["urgent"]
    assert found["counts"]["unanswered"] == 10
    assert found["unanswered"] == {"invalid": 10}
    write_results(Path("other.jsonl"), {line["custom_id"]: {"topic": "a", "urgent": True} for line in lines})
    agreement = json.loads(batchrun("compare", "r.jsonl", "other.jsonl", "--json").out)["fields"]["urgent"][0]
    assert (agreement["rows"], agreement["unanswered"]) == (30, 10)


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"type": "string"}, "exact"),
        ({"type": ["string", "null"]}, "exact"),
        ({"enum": [1, 2]}, "exact"),
        ({"type": "boolean"}, "exact"),
        ({"type": ["integer", "number"]}, "number"),
        ({"type": "array", "items": {}}, "set"),
        ({"type": "object"}, "json"),
        ({}, None),
        ({"type": ["string", "integer"]}, None),
    ],
)
def test_a_schema_says_how_its_field_is_scored(schema: dict[str, Any], name: str | None) -> None:
    scorer = scorer_of_schema(schema)
    assert (None if scorer is None else scorer.name) == name


def test_the_folder_of_a_job_stands_for_its_results(tmp_path: Path) -> None:
    folder = tmp_path / "labelled.csv.job"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"is a folder without results\.jsonl"):
        results_in(folder)
    write_results(folder / "results.jsonl", {"a": "yes"})
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "answer"], [("a", "yes")])
    assert evaluate(results_in(folder), Question(Source(str(gold)))).counts == Counts(right=1)
