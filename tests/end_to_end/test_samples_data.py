"""The sample jobs as data: well formed, reproducible from their scripts, and scored by what eval has."""

import base64
import csv
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from batchrun.datasets.short_form import parse_short_form
from batchrun.evaluation.scorers import scorer_of

Json = dict[str, Any]

SAMPLES = Path(__file__).parents[2] / "samples"
LABELLING = SAMPLES / "labelling"
EVALUATION = SAMPLES / "evaluation"
JOBS = ["evaluation", "mixed"]

# Every body field the gateway documents; mixed/ uses each at least once.
BODY_FIELDS = {
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "conversation",
    "reasoning",
    "text",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_output_tokens",
    "max_tool_calls",
    "stream",
    "stream_options",
    "metadata",
    "store",
    "truncation",
    "prompt",
}


def load(path: Path) -> list[Json]:
    data = path.read_bytes()
    assert data.endswith(b"\n")
    assert b"\r" not in data
    return [json.loads(line) for line in data.decode("utf-8").split("\n")[:-1]]


def bodies(job: str) -> list[Json]:
    return [line.get("body", line) for line in load(SAMPLES / job / "requests.jsonl")]


def run(script: Path, *args: Path) -> str:
    command = [sys.executable, "-X", "utf8", str(script), *map(str, args)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- every job


@pytest.mark.parametrize("job", JOBS)
def test_request_lines_are_batch_lines_or_bare_bodies(job: str) -> None:
    lines = load(SAMPLES / job / "requests.jsonl")
    batch = [line for line in lines if "body" in line]
    for line in batch:
        assert line.keys() == {"custom_id", "method", "url", "body"}
        assert (line["method"], line["url"]) == ("POST", "/v1/responses")
        assert isinstance(line["custom_id"], str)
    for line in lines:
        body = line.get("body", line)
        assert isinstance(body["model"], str)
        assert body["input"]
    assert len({line["custom_id"] for line in batch}) == len(batch)
    assert job == "mixed" or len(batch) == len(lines)


def test_requests_are_what_the_script_makes(tmp_path: Path) -> None:
    run(EVALUATION / "make_requests.py", EVALUATION / "references.jsonl", tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (EVALUATION / "requests.jsonl").read_bytes()


def test_readme_names_every_job_and_its_size() -> None:
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for job in JOBS:
        assert f"batchrun run samples/{job}/requests.jsonl -o results-{job}.jsonl --simulate" in readme
    assert f"{len(messages())} customer messages" in readme
    assert f"{len(load(EVALUATION / 'references.jsonl'))} questions" in readme


# -- labelling


def messages() -> list[dict[str, str]]:
    with (LABELLING / "messages.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table, strict=True))


def test_gold_labels_are_labels_the_schema_allows() -> None:
    fields = parse_short_form((LABELLING / "schema.txt").read_text(encoding="utf-8"))["properties"]
    gold = messages()
    assert list(gold[0]) == ["custom_id", "message", *fields]
    for field in ("topic", "sentiment"):
        assert {item[field] for item in gold} == set(fields[field]["enum"])
    assert {item["urgent"] for item in gold} == {"true", "false"}


def test_messages_are_many_and_all_different() -> None:
    texts = [item["message"] for item in messages()]
    assert len(texts) >= 240
    assert len({" ".join(text.casefold().split()) for text in texts}) == len(texts)
    assert sum(any("\u4e00" <= char <= "\u9fff" for char in text) for text in texts) >= 15
    assert sum("\n" in text for text in texts) >= 3


def test_the_prompt_explains_every_label() -> None:
    prompt = (LABELLING / "prompt.txt").read_text(encoding="utf-8")
    for field in ("topic", "sentiment"):
        assert all(f"- {label}: " in prompt for label in {item[field] for item in messages()})


# -- evaluation


def right_answers(item: Json) -> list[str]:
    """All answers to a question that are right; gold has a single one as it is."""
    return item["answer"] if isinstance(item["answer"], list) else [item["answer"]]


def test_references_are_complete_and_different() -> None:
    references = load(EVALUATION / "references.jsonl")
    assert len(references) >= 40
    assert len({item["custom_id"] for item in references}) == len(references)
    assert len({json.dumps([item["ask"], item.get("before")]) for item in references}) == len(references)
    for item in references:
        assert item["style"] in ("word", "sentence", "number")
        assert right_answers(item)
        assert all(isinstance(answer, str) and answer for answer in right_answers(item))


def test_evaluation_requests_have_roles_and_parts() -> None:
    seen = set()
    for body in bodies("evaluation"):
        roles = [item["role"] for item in body["input"]]
        assert roles[0] == "developer"
        assert roles[-1] == "user"
        for item in body["input"][1:]:
            expected = {"assistant": {"output_text"}, "user": {"input_text", "input_image"}}[item["role"]]
            kinds = {part["type"] for part in item["content"]}
            assert kinds <= expected
            seen |= kinds
        seen.add(len(body["input"][-1]["content"]))
    assert seen >= {"input_text", "input_image", "output_text", 1, 2, 5}


def test_pictures_are_whole_pngs() -> None:
    pictures = 0
    for body in bodies("evaluation"):
        for part in body["input"][-1]["content"]:
            if part["type"] != "input_image":
                continue
            pictures += 1
            kind, data = part["image_url"].split(",")
            assert kind == "data:image/png;base64"
            png = base64.b64decode(data, validate=True)
            assert png.startswith(b"\x89PNG\r\n\x1a\n")
            chunks, at = {}, 8
            while at < len(png):
                (size,) = struct.unpack_from(">I", png, at)
                name, body_ = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
                assert struct.unpack_from(">I", png, at + 8 + size) == (zlib.crc32(name + body_),)
                chunks[name] = body_
                at += size + 12
            assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
            width, height = struct.unpack_from(">II", chunks[b"IHDR"])
            assert len(zlib.decompress(chunks[b"IDAT"])) == (width // 2 + 1) * height
    assert pictures >= 8


@pytest.mark.parametrize("place", [0, -1])
def test_every_right_answer_is_right_for_the_scorer_that_the_sample_uses(place: int) -> None:
    """Alone, and in a sentence; the answers to the other questions are not."""
    scorer, references = scorer_of("includes"), load(EVALUATION / "references.jsonl")
    for item in references:
        told = right_answers(item)
        gold = list(map(scorer.read_gold, told))
        for text in (told[place], f"It is: {told[place].upper()}."):
            answer = scorer.read_answer(text)
            assert any(scorer.is_right(one, answer) for one in gold), (item["custom_id"], text)
        assert not any(scorer.is_right(one, scorer.read_answer("no idea")) for one in gold)


# -- mixed


def test_mixed_uses_every_documented_body_field() -> None:
    used = set().union(*bodies("mixed"))
    assert used >= BODY_FIELDS
    assert used - BODY_FIELDS == {"temperature", "top_p", "service_tier", "safety_identifier", "x_trace"}


def test_mixed_keeps_the_rules_between_fields() -> None:
    for body in bodies("mixed"):
        assert not {"previous_response_id", "conversation"} <= body.keys()
        assert "stream_options" not in body or body["stream"] is True
        assert "tool_choice" not in body or body["tools"]
        assert body.get("max_output_tokens", 16) >= 16


def test_mixed_has_both_shapes_streams_and_equal_lines() -> None:
    lines = load(SAMPLES / "mixed" / "requests.jsonl")
    bare = [line for line in lines if "body" not in line]
    assert len(lines) >= 20
    assert len(bare) >= 6
    assert len({json.dumps(line, sort_keys=True) for line in bare}) == len(bare) - 1
    assert sum(body.get("stream") is True for body in bodies("mixed")) >= 3
    raw = (SAMPLES / "mixed" / "requests.jsonl").read_text(encoding="utf-8")
    for written in (
        '"temperature":1.0',
        '"top_p":1e0',
        "123456789012345678901234567890",
        "\\ud83c\\udf7a",
        "\\/",
    ):
        assert written in raw
