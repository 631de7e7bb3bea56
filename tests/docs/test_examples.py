"""The examples of the pages: the Python runs, the requests and results parse, the price files load."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchrun import Endpoint, Job, run
from batchrun.billing.prices import PriceFile
from batchrun.records.request import RequestLine, parse_request
from batchrun.records.result import RunInfo, parse_result
from tests.docs.pages import MANUAL, PAGES, README, ROOT, Page
from tests.evaluation.made import write_gold, write_results

RUN_FIELDS = set(RunInfo.__struct_fields__)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A simulated gateway in another process."""
    command = [sys.executable, "-m", "batchrun", "simulator", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as gateway:
        assert gateway.stdout is not None
        yield gateway.stdout.readline().removeprefix("listening: ").strip()
        gateway.terminate()


def write_labels(folder: Path) -> None:
    """Three result files and their gold: of four rows one file has three right, and one two."""
    for name, rights in (("results", 3), ("old", 3), ("new", 2)):
        said = {f"r-{at}": {"topic": "a" if at < rights else "B"} for at in range(4)}
        write_results(folder / f"{name}.jsonl", said)
    write_gold(folder / "gold.csv", ["id", "topic"], [(f"r-{at}", "a") for at in range(4)])
    write_gold(folder / "data.csv", ["id", "text"], [(f"r-{at}", f"text {at}") for at in range(4)])


def run_python(code: str, folder: Path, base_url: str) -> str:
    """What a program prints, in a directory with three requests. Warnings are errors.

    A program that reads the results finds those of these requests, one that evaluates finds labels and gold.
    """
    lines = [{"model": "gpt-4.1", "input": f"question {i}"} for i in range(3)]
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if "Results(" in code:
        run(Job(str(folder / "requests.jsonl"), folder / "results.jsonl", Endpoint(base_url, "sk-test")))
    if "evaluate(" in code:
        write_labels(folder)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=os.environ | {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "sk-test", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, r"3 of 3 succeeded, 0\.\d+ USD\n"),
        (1, r"2\n"),
        (2, r"(req-[0-9a-f]{16} \S.*\n){3}0\n"),
        (3, r"(req-[0-9a-f]{16} succeeded \S.*\n){3}"),
        (4, r"(billing|delivery|other) ok\n"),
        (5, r"0\.75 0\.\d+ 0\nnew less old: -0\.25 -0\.\d+ neither\n"),
        (6, r"0 4 0\n"),
        (7, r"(?s).*3 of 3, 0\.\d+ USD\n0\n"),
    ],
)
def test_the_python_examples_of_the_manual_run(number: int, expected: str, tmp_path: Path, base_url: str) -> None:
    assert len(MANUAL["python"].fenced("python")) == 8
    assert re.fullmatch(expected, run_python(MANUAL["python"].fenced("python")[number], tmp_path, base_url))


def test_the_python_examples_of_the_readme_run_and_read_the_answers(tmp_path: Path, base_url: str) -> None:
    read, job = README.fenced("python")
    assert re.fullmatch(r"0\.\d+ 0\n", run_python(job, tmp_path, base_url))
    answers = run_python(read, tmp_path, base_url).splitlines()
    assert len(answers) == 3
    assert all(re.fullmatch(r"req-[0-9a-f]{16} .+", answer) for answer in answers)


def objects_in(block: str) -> list[str]:
    """The objects of a block: one on each line, or one over many lines."""
    return block.splitlines() if block.startswith('{"') else [block]


def json_examples() -> list[tuple[Page, str]]:
    """Every JSON object that a page shows: in a fence, or as a line to copy."""
    fenced = [(page, text) for page in PAGES for block in page.fenced("json") for text in objects_in(block)]
    return fenced + [(page, line) for page in PAGES for line in page.lines_to_copy() if line.startswith("{")]


@pytest.mark.parametrize(("page", "text"), json_examples(), ids=lambda part: getattr(part, "name", ""))
def test_a_request_or_a_result_of_the_pages_is_one(page: Page, text: str) -> None:
    example: dict[str, Any] = json.loads(text)
    if "run" in example:
        assert list(example) == ["id", "custom_id", "run", "response", "error"]
        assert msgspec.convert(example["run"], RunInfo).attempts == 2
        assert set(example["run"]) <= RUN_FIELDS
        assert parse_result(json.dumps(example).encode()).run.outcome == "succeeded"
        return
    line = parse_request(text.encode().strip(), 1)
    assert isinstance(line, RequestLine)
    assert line.derived == ("custom_id" not in example)
    assert not line.derived or re.fullmatch(r"req-[0-9a-f]{16}", line.custom_id)


def test_the_manual_shows_both_shapes_of_a_request_and_a_result() -> None:
    assert ["custom_id" in json.loads(block) for block in MANUAL["formats"].fenced("json")] == [True, False, True]


def test_the_price_file_of_the_manual_is_one(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(MANUAL["cost"].fenced("toml")[0], encoding="utf-8")
    assert PriceFile.load(path).find(["relay/some-model"]) is not None
    as_json = re.search(r"The same as JSON: `(.*?)`", MANUAL["cost"].text)
    assert as_json is not None
    path = tmp_path / "prices.json"
    path.write_text(as_json[1], encoding="utf-8")
    assert PriceFile.load(path).find(["gpt-4.1"]) is not None
