"""The sample jobs as data: well formed, reproducible from their scripts, and scored as promised."""

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


def result(custom_id: str, *texts: str, refusal: str = "", status: str = "completed") -> Json:
    content = [{"type": "output_text", "text": text} for text in texts]
    if refusal:
        content.append({"type": "refusal", "refusal": refusal})
    output = [{"type": "reasoning", "summary": []}, {"type": "message", "content": content}]
    body = {"id": "resp_1", "object": "response", "status": status, "output": output}
    return {
        "id": "batch_req_1",
        "custom_id": custom_id,
        "run": {"line": 1},
        "response": {"status_code": 200, "request_id": "req_1", "body": body},
        "error": None,
    }


def failure(custom_id: str, response: Json | None) -> Json:
    error = {"code": "server_error", "message": "no luck"}
    return {"id": "batch_req_2", "custom_id": custom_id, "run": {}, "response": response, "error": error}


def write(path: Path, records: list[Json], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in records) + tail, encoding="utf-8")
    return path


def table(text: str) -> dict[str, list[str]]:
    """Return the lines of a score before the lists of errors, by their first words."""
    rows = [line.split("  ") for line in text.split("\n\nmost ")[0].split("\n\nwrong ")[0].splitlines() if line]
    return {row[0].strip(): " ".join(row[1:]).split() for row in rows}


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


def test_score_without_arguments_says_how_to_call_it() -> None:
    done = subprocess.run([sys.executable, str(EVALUATION / "score.py")], capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    assert "python score.py results-" in done.stderr


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


def test_references_are_complete_and_different() -> None:
    references = load(EVALUATION / "references.jsonl")
    assert len(references) >= 40
    assert len({item["custom_id"] for item in references}) == len(references)
    assert len({json.dumps([item["ask"], item.get("before")]) for item in references}) == len(references)
    for item in references:
        assert item["match"] in ("exact", "contains", "number")
        assert item["answers"]
        assert all(isinstance(answer, str) and answer for answer in item["answers"])


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


def test_evaluation_score_of_a_perfect_file(tmp_path: Path) -> None:
    references = load(EVALUATION / "references.jsonl")
    perfect = [result(item["custom_id"], item["answers"][-1]) for item in references]
    text = run(EVALUATION / "score.py", write(tmp_path / "results.jsonl", perfect))
    count = str(len(references))
    assert table(text)["all"] == [count, count, "100.0%"]
    assert table(text)["answered"] == [count]
    assert "wrong answers" not in text


def test_evaluation_score_counts_each_outcome(tmp_path: Path) -> None:
    references = [
        {"custom_id": str(n), "category": "a" if n < 6 else "b", "match": "exact", "answers": ["Yes"]}
        for n in range(10)
    ]
    records = [
        *(result(str(n), "yes.") for n in range(4)),
        result("4", "n", "o"),
        result("5", refusal="No comment."),
        result("6", "Yes", status="incomplete"),
        failure("7", None),
        failure("8", {"status_code": 429, "request_id": None, "body": "slow down"}),
    ]
    results = write(tmp_path / "results.jsonl", records, tail='{"custom_id": "9", "resp')
    text = run(EVALUATION / "score.py", results, write(tmp_path / "references.jsonl", references))
    assert table(text) == {
        "category": ["right", "of", "accuracy"],
        "a": ["4", "6", "66.7%"],
        "b": ["0", "1", "0.0%"],
        "all": ["4", "7", "57.1%"],
        "answered": ["5"],
        "refused": ["1"],
        "incomplete": ["1"],
        "failed": ["2"],
        "missing": ["1"],
    }
    assert "4: 'Yes' wanted, answered 'no'\n" in text


@pytest.mark.parametrize(
    ("match", "answer", "text", "right"),
    [
        ("exact", "Reykjavík", " reykjavik. ", True),
        ("exact", "heart", "The heart", True),
        ("exact", "12:25", "12:25", True),
        ("exact", "12:25", "12:52", False),
        ("exact", "Au", "Gold is Au", False),
        ("exact", "\u4e1c\u4eac", "\u4e1c\u4eac\u3002", True),
        ("contains", "Danube", "That is the Danube.", True),
        ("contains", "Danube", "Danubes", False),
        ("contains", "CO2", "They take up CO\u2082.", True),
        ("contains", "top right", "The top-right corner", True),
        ("number", "86400", "86,400", True),
        ("number", "8", "48 / 6 = 8.", True),
        ("number", "8", "8.0", True),
        ("number", "-7", "\u22127", True),
        ("number", "3", "10-3", True),
        ("number", "3", "three", False),
        ("number", "45", "-45", False),
    ],
)
def test_evaluation_compares_answers(tmp_path: Path, match: str, answer: str, text: str, right: bool) -> None:
    item = {"custom_id": "q", "category": "a", "match": match, "answers": ["something else 1", answer]}
    if match == "number":
        item["answers"] = ["123456", answer]
    results = write(tmp_path / "results.jsonl", [result("q", text)])
    score = table(run(EVALUATION / "score.py", results, write(tmp_path / "references.jsonl", [item])))
    assert score["all"] == [str(int(right)), "1", "100.0%" if right else "0.0%"]


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
