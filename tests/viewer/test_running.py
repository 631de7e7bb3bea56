"""The run that writes the file, on the page: how far it is, paused and resumed, other limits; as `tune` does it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.evaluation.asked import Asked
from batchrun.results.paths import ResultPaths
from batchrun.simulator.options import GatewayOptions
from batchrun.viewer.pages import Pages
from batchrun.viewer.shown import Rows
from batchrun.viewer.view import View
from tests.html.made import make_job
from tests.support import GatewayThread, RunProcess, events, has_records, until, write_requests
from tests.viewer.serving import Served, index_of, serving

LINES = 3000


@pytest.fixture
def gateway() -> Iterator[GatewayThread]:
    with GatewayThread(GatewayOptions(latency_median_s=0.1)) as thread:
        yield thread


def run_of(viewer: Served) -> Any:
    return viewer.ask("/state.json").json["run"]


@pytest.mark.smoke
def test_a_run_is_shown_paused_resumed_and_given_other_limits(tmp_path: Path, gateway: GatewayThread) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", LINES), tmp_path / "results.jsonl"
    with RunProcess(gateway.base_url, requests, results, "-c", "2") as run:
        until(lambda: has_records(results, 4))
        with serving(results) as viewer:
            until(lambda: run_of(viewer)["state"])
            state = run_of(viewer)["state"]
            assert (state["total"], state["limits"]["concurrency"]) == (LINES, "2")
            assert 0 < state["done"] < LINES
            page = viewer.ask("/rows").text
            assert f'<progress max="{LINES}"' in page
            assert "in flight, limited by" in page

            told = viewer.change("/run", concurrency="30", rpm="60000")
            assert told.status == 200, told.text
            assert told.json["state"]["limits"] == {"concurrency": "30", "rpm": "60000", "tpm": "", "max_cost": ""}
            until(lambda: gateway.ledger.peak_in_flight == 30)

            assert viewer.change("/run", paused=True).json["state"]["is_paused"]
            until(lambda: gateway.ledger.in_flight == 0)
            sent = gateway.ledger.requests
            assert "Resume" in viewer.ask("/rows").text
            assert not viewer.change("/run", paused=False, rpm="off").json["state"]["is_paused"]
            until(lambda: gateway.ledger.requests > sent)
            assert run_of(viewer)["state"]["limits"]["rpm"] == ""

            run.kill()
            until(lambda: run_of(viewer) == {"state": None, "why": ""})
            until(lambda: f"of {LINES:,} lines have a record" in viewer.ask("/rows").text)
            assert "no run is writing" in viewer.change("/run", paused=True).json["message"]
    stood = [event for event in events(results) if event["event"] == "tuned"]
    assert any(event.get("paused") for event in stood), "as tune writes it down"
    assert not ResultPaths.of(results).tune.exists()


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"concurrency": "many"}, 200, "many"),
        ({"rpm": "-4"}, 200, "--rpm"),
        ({"max_cost": "5"}, 200, "began without --max-cost"),
        ({"concurrency": "9 --max-cost=1"}, 200, "concurrency"),
        ({"speed": "9"}, 400, "no change of limits"),
        ({"paused": "yes"}, 400, "no change of limits"),
    ],
)
def test_what_is_refused_is_said_in_the_words_of_tune(
    tmp_path: Path, gateway: GatewayThread, change: dict[str, Any], status: int, words: str
) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", LINES), tmp_path / "results.jsonl"
    with RunProcess(gateway.base_url, requests, results, "-c", "2") as run, serving_once_there(results) as viewer:
        answer = viewer.change("/run", **change)
        assert answer.status == status, "only what no page sends is an error of HTTP"
        assert words in answer.json["message"]
        assert viewer.change("/run").json["state"]["limits"]["concurrency"] == "2", "nothing was changed"
        run.kill()


def serving_once_there(results: Path) -> Any:
    until(lambda: has_records(results, 1))
    return serving(results)


def test_without_a_run_nothing_is_asked_or_changed(tmp_path: Path) -> None:
    results = make_job(tmp_path, 20)
    log = Path(f"{results}.log").read_bytes()
    with serving(results) as viewer:
        assert run_of(viewer) == {"state": None, "why": ""}
        page = viewer.ask("/rows").text
        assert "data-paused" not in page
        assert "have a record" not in page
        answer = viewer.change("/run", paused=True)
        assert "no run is writing" in answer.json["message"]
    assert Path(f"{results}.log").read_bytes() == log


def test_a_job_that_was_stopped_says_what_is_left(tmp_path: Path) -> None:
    results = make_job(tmp_path, 20)
    lines = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join(lines[:15]))
    with serving(results) as viewer:
        assert "15 of 20 lines have a record, and no run is writing more." in viewer.ask("/rows").text


def test_what_is_left_is_said_while_the_file_grows(tmp_path: Path) -> None:
    results = make_job(tmp_path, 20)
    lines = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join(lines[:15]))
    index = index_of(results)
    pages = Pages(Rows(index), "token", "batchrun view")
    assert "is not known" not in pages.table(index, View()).decode()
    first = pages.table(index, View()).decode()
    assert "The file is being read: 0%." in first
    assert "have a record" not in first
    while index.read_on():
        pass
    assert "15 of 20 lines have a record" in pages.table(index, View()).decode()
    with results.open("ab") as file:
        file.write(lines[15])
    assert not index.progress.is_done
    grown = pages.table(index, View()).decode()
    assert "15 of 20 lines have a record" in grown, "a page that lost it now would get it back at once"
    assert "The file is being read" not in grown
    index.close()


def test_a_file_without_its_log_says_why_it_has_no_fields(tmp_path: Path) -> None:
    results = make_job(tmp_path, 20)
    moved = (tmp_path / "elsewhere.jsonl").absolute()
    results.rename(moved)
    index = index_of(moved)
    page = Pages(Rows(index), "token", f"batchrun view {moved}").table(index, View()).decode()
    assert f"The request file of {moved} is not known" in page
    assert f"type: batchrun view {moved} --requests FILE" in page
    assert Asked.of(moved).schema is None
    assert Asked.of(moved, tmp_path / "requests.jsonl").schema is not None, "then there are fields"
    index.close()
