"""A directory of results, as shards write it, given to each command that takes a result file: it says the same."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun import GatewayOptions, Job
from batchrun.cluster.coordinator import Promised
from batchrun.cluster.directory import open_directory
from batchrun.cluster.secrets import without_secrets
from batchrun.cluster.tuning import Limited
from batchrun.engine.observer import Status
from batchrun.limits.options import Limits
from batchrun.records.money import NOTHING
from batchrun.results.events import Start
from batchrun.results.paths import ResultPaths
from batchrun.transport.endpoint import Endpoint
from tests.cli.commands import FAST, Command
from tests.cluster.shards import Here, planned, run_shards
from tests.support import read_records
from tests.viewer.serving import serving

ROWS, SHARDS = 40, 3
FILE, DIRECTORY = "file.jsonl", "shards"


@pytest.fixture
def batchrun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return Command(monkeypatch, capsys)


@pytest.fixture
def both(batchrun: Command) -> Command:
    """`FILE` of a plain run and `DIRECTORY` of three shards, of the same `requests.jsonl`, made of `data.csv`.

    One request at a time: both have their answers in the same order."""
    Path("data.csv").write_text("id,text\n" + "".join(f"{number:03},message {number}\n" for number in range(ROWS)))
    Path("gold.csv").write_text("id,topic\n" + "".join(f"{number:03},billing\n" for number in range(ROWS)))
    made = ("prepare", "data.csv", "-p", "About: {{ text }}", "-s", "topic enum(billing|delivery|other)")
    assert batchrun(*made, "--id", "id", "--model", "gpt-4.1", "-o", "requests.jsonl").code == 0
    assert batchrun("run", "requests.jsonl", "-o", FILE, "-c", "1", *FAST).code == 0
    Path("other.jsonl").write_bytes(Path(FILE).read_bytes())
    requests, directory = Path("requests.jsonl"), Path(DIRECTORY)
    plan = planned(requests, directory, SHARDS)
    simulated = GatewayOptions(latency_median_s=0.0, latency_p99_s=0.0)
    log = open_directory(directory)
    log.write(Start(requests="requests.jsonl", lines=ROWS, pending=ROWS))
    log.close()
    job = Job(requests, directory, Endpoint("http://127.0.0.1"), simulate=simulated)
    run_shards(job, plan, link=Here(without_secrets(job)[1], limits=Limits(1)))
    return batchrun


def same(batchrun: Command, words: str, *outputs: str) -> str:
    """What a command says of the directory, which is what it says of the file; `outputs` are what it writes."""
    found = []
    for results in (FILE, DIRECTORY):
        done = batchrun(*words.replace("RESULTS", results).split())
        assert done.code == 0, done.err
        told = (done.out + done.err).replace(results, "RESULTS")
        if "--json" in words:
            told = re.sub(r'"latency_\w+": [0-9.]+', "", told)
        found.append((told, [Path(output).read_bytes() for output in outputs]))
        for output in outputs:
            Path(output).unlink()
    assert found[0] == found[1]
    return found[1][0]


@pytest.mark.parametrize(
    ("words", "outputs", "told"),
    [
        ("join data.csv RESULTS -o labelled.csv", ["labelled.csv"], f"{ROWS} ok"),
        ("export RESULTS -o answers.csv", ["answers.csv"], f"{ROWS} ok"),
        ("eval RESULTS --gold gold.csv --key id --json", [], '"topic"'),
        ("compare RESULTS other.jsonl --json", [], '"topic"'),
        ("judge data.csv RESULTS -p {{answer}} -s ok --model j -o judge.jsonl", ["judge.jsonl"], f"{ROWS}"),
        ("verify requests.jsonl RESULTS", [], f"{ROWS}"),
    ],
)
def test_a_command_says_the_same_of_the_directory(both: Command, words: str, outputs: list[str], told: str) -> None:
    assert told in same(both, words, *outputs)


def test_a_report_has_the_same_lines_and_the_same_bill(both: Command) -> None:
    one, other = (json.loads(both("report", results, "--json").out) for results in (FILE, DIRECTORY))
    assert one["lines"]["succeeded"] == ROWS
    for name in ("lines", "usage", "cost", "possibly_billed_twice", "unbilled_usd"):
        assert one[name] == other[name], name


def test_answers_are_reused_from_a_directory(both: Command) -> None:
    done = both("run", "requests.jsonl", "-o", "again.jsonl", "--reuse", DIRECTORY, *FAST)
    assert done.code == 0
    records = read_records(Path("again.jsonl"))
    assert len(records) == ROWS
    files = {record["run"]["source"]["file"] for record in records}
    assert files == {f"{DIRECTORY}/shard-{number:05}.jsonl" for number in range(SHARDS)}


def test_a_directory_is_viewed(both: Command) -> None:
    with serving(Path(DIRECTORY)) as one, serving(Path(FILE)) as other:
        assert sorted(one.ids()) == sorted(other.ids())
        assert len(one.ids()) == ROWS


# ------------------------------------------------------------------------------------------------------- tune


@pytest.fixture
def active(batchrun: Command) -> Iterator[tuple[Limited, list[str]]]:
    """The driver of `DIRECTORY`, as far as `batchrun tune` can tell: what it limits, and what it says."""
    limited, notices = Limited(Promised(Limits(40, 6000), None)), list[str]()
    status = Status(100, 10, 0, 5, 40, "maximum", NOTHING, NOTHING, 10, 0, 1.0)
    is_over = threading.Event()
    log = open_directory(Path(DIRECTORY))
    (Path(DIRECTORY) / "plan.json").write_text("{}")

    def drive() -> None:
        while not is_over.wait(0.01):
            limited.heed(ResultPaths.of(Path(DIRECTORY)).tune, log, status, notices.append)

    thread = threading.Thread(target=drive)
    thread.start()
    yield limited, notices
    is_over.set()
    thread.join()
    log.close()


def test_limits_of_a_directory_are_tuned(batchrun: Command, active: tuple[Limited, list[str]]) -> None:
    limited, notices = active
    done = batchrun("tune", DIRECTORY, "-c", "200", "--rpm", "3000", "--pause")
    assert (done.code, done.err) == (0, "")
    assert "-c 200, --rpm 3000; paused, 5 still in flight" in done.out
    assert "10/100 done (10%)" in done.out
    assert limited.promised == Promised(Limits(200, 3000), None)
    assert limited.is_paused
    assert notices == ["tuned: -c 200, --rpm 3000, paused"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--tpm 1000", "this run began without --tpm"),
        ("--max-cost 3", "this run began without --max-cost"),
        ("-c 200 --endpoint a", "limits of one endpoint cannot be changed on a cluster"),
    ],
)
def test_what_a_cluster_cannot_change_is_refused_and_changes_nothing(
    batchrun: Command, active: tuple[Limited, list[str]], words: str, told: str
) -> None:
    limited, notices = active
    done = batchrun("tune", DIRECTORY, *words.split())
    assert done.code == 2
    assert told in done.err
    assert limited.promised == Promised(Limits(40, 6000), None)
    assert notices == []
