"""The samples as jobs: every command of samples/README.md and README.md that names one is run as it stands."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"^ {4}((?:batchrun|python) .*samples/.*)$", re.MULTILINE)


def commands(page: str) -> list[str]:
    return COMMAND.findall((ROOT / page).read_text(encoding="utf-8"))


JOBS = [
    command for command in commands("samples/README.md") if command.startswith(("batchrun run ", "batchrun label "))
]
FIGURES = [command for command in commands("samples/README.md") if command not in JOBS]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the samples in it, as a clone has them."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "samples", folder / "samples", ignore=shutil.ignore_patterns("results*", "__pycache__"))
    return folder


def do(command: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a page with this interpreter, in that directory, without a key."""
    words = shlex.split(command)
    start = [sys.executable, "-m", "batchrun"] if words[0] == "batchrun" else [sys.executable]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    environment |= {"PYTHONUTF8": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*start, *words[1:], *more],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_the_pages_name_a_command_for_every_sample() -> None:
    samples = sorted(
        path.name for path in (ROOT / "samples").iterdir() if path.is_dir() and path.name != "cluster"
    )  # manifests
    assert sorted({command.split("samples/")[1].split("/")[0] for command in JOBS}) == samples
    pages = [*commands("README.md"), *commands("batchrun/docs/guide.md")]
    assert set(JOBS) | set(FIGURES) <= set(pages)


LABEL = next(command for command in JOBS if command.startswith("batchrun label "))


@pytest.mark.smoke
def test_one_command_labels_the_table_of_the_sample_and_shows_labels_bill_and_agreement(clone: Path) -> None:
    done = do(LABEL, clone, "--simulate-latency", "0.01", "--yes")
    assert (done.returncode, done.stdout) == (0, "292 ok: labelled.csv\n"), done.stderr
    for shown in ("\nfirst prompt:\n  You label messages", "\n  topic: ", "\nmodel ", "\nall fields  0.9"):
        assert shown in done.stderr
    with (clone / "labelled.csv").open(encoding="utf-8", newline="") as labelled:
        rows = list(csv.DictReader(labelled))
    with (clone / "samples/labelling/messages.csv").open(encoding="utf-8", newline="") as given:
        messages = list(csv.DictReader(given))
    assert [{name: row[name] for name in messages[0]} for row in rows] == messages
    right = sum(all(row[f"llm_{name}"] == row[name] for name in ("topic", "sentiment", "urgent")) for row in rows)
    assert 0.85 <= right / len(rows) <= 0.95
    assert do(f"{LABEL} --yes", clone).stdout == done.stdout
    figures = do("batchrun eval labelled.csv.job --json", clone)
    assert json.loads(figures.stdout)["counts"]["right"] == right
    shutil.copytree(clone / "labelled.csv.job", clone / "other.csv.job")
    held = do("batchrun eval labelled.csv.job --fail-if-worse other.csv.job", clone)
    assert (held.returncode, "no loss is shown" in held.stdout) == (0, True), held.stderr
    both = do("batchrun compare labelled.csv.job other.csv.job", clone)
    assert both.stdout.startswith("compared with "), "the folder knows its gold"
    assert both.stdout.count("These rows do not show a difference") == 4


@pytest.mark.parametrize("command", [command for command in JOBS if command != LABEL])
@pytest.mark.smoke
def test_the_command_of_a_sample_answers_every_line_and_prints_the_bill(clone: Path, command: str) -> None:
    words = shlex.split(command)
    done = do(command, clone, "--simulate-latency", "0.01")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.startswith("model ")
    requests = (clone / words[2]).read_bytes().splitlines()
    records = [json.loads(line) for line in (clone / words[4]).read_bytes().splitlines()]
    assert len(records) == len(requests) == len({record["custom_id"] for record in records})
    assert all(record["error"] is None for record in records)
    check = do(f"batchrun verify {words[2]} {words[4]}", clone)
    assert check.returncode == 0, check.stdout


@pytest.fixture(scope="module")
def two_models(clone: Path) -> Path:
    """The clone with the results of the two simulated models of the sample, of which nine and six tenths are right."""
    for command in JOBS:
        if "samples/evaluation" in command:
            assert do(command, clone, "--simulate-latency", "0").returncode == 0
    return clone


def test_one_gate_of_the_sample_passes_and_one_fails(two_models: Path) -> None:
    passing, failing = (command for command in FIGURES if command.startswith("batchrun eval "))
    done = do(passing, two_models, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["counts"]["not_asked"] == found["counts"]["unscored"] == 0
    assert found["accuracy"]["lower"] <= 0.9 <= found["accuracy"]["upper"]
    assert set(found["groups"]) == {"arithmetic", "code", "geography", "image", "reading", "science", "turns"}
    assert [gate["passed"] for gate in found["gates"]] == [True]
    done = do(failing, two_models)
    assert done.returncode == 4
    assert "MISSED: the lower end of accuracy is" in done.stdout


def test_comparing_the_two_models_of_the_sample_finds_their_true_difference(two_models: Path) -> None:
    (command,) = (command for command in FIGURES if command.startswith("batchrun compare "))
    done = do(command, two_models, "--json")
    assert done.returncode == 0, done.stderr
    (pair,) = json.loads(done.stdout)["fields"]["answer"]
    assert pair["difference"]["lower"] <= 0.3 <= pair["difference"]["upper"]
    assert (pair["second"], pair["winner"]) == ("results-evaluation.jsonl", "second")
    assert pair["rows"] == 65
