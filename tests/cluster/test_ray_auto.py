"""Four shards on real Ray nodes find out together what a gateway allows, which does not say it (`-c auto`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.simulator.options import GatewayOptions
from tests.cluster.raylets import Bench, Nodes, Slowdown, assert_used
from tests.support import GatewayThread

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

WARM_UP_S, MEASURED_S = 8.0, 12.0
SHORT_S, LONG_S = 0.2, 0.5  # until an answer: the longer, the less a slow machine leaves empty between two of them
MANY = 60_000  # lines: more than are sent


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes(workers=2) as nodes:
        yield nodes


class Looked:
    """What a gateway saw of four shards. `in_flight`: on average, no more than `most` counted; `answered_per_s`: both
    without the first seconds; `refusals`: 429s for each answer, from the first request on. `slower`: how many times
    slower other programs made the machine."""

    def __init__(self, folder: Path, nodes: Nodes, most: int, latency_s: float, **gateway: Any) -> None:
        options = GatewayOptions(latency_median_s=latency_s, send_retry_after=False, **gateway)
        with GatewayThread(options) as served:
            job = Bench(folder, served, nodes, MANY, "-c", "auto", "--shards", "4")
            ledger = served.ledger
            with Slowdown() as slowdown, job.start() as run:
                job.sent(1)
                time.sleep(WARM_UP_S)
                answered, began, looks = ledger.statuses["200"], time.monotonic(), list[int]()
                while time.monotonic() < began + MEASURED_S:
                    looks.append(min(most, ledger.in_flight))
                    time.sleep(0.01)
                self.answered_per_s = (ledger.statuses["200"] - answered) / (time.monotonic() - began)
                assert run.process.poll() is None, run.screen
                self.slower = slowdown.times()
            self.in_flight = sum(looks) / len(looks)
            self.refusals = ledger.statuses.get("429", 0) / ledger.statuses["200"]
            self.most = ledger.peak_in_flight


def test_so_many_at_once(tmp_path: Path, nodes: Nodes) -> None:
    looked = Looked(tmp_path, nodes, 40, LONG_S, capacity=40)
    assert_used(looked.in_flight / 40, 0.92, looked.slower)
    assert looked.refusals <= 0.01


def test_so_many_a_second(tmp_path: Path, nodes: Nodes) -> None:
    looked = Looked(tmp_path, nodes, MANY, SHORT_S, rpm=9000, burst_s=0.1)
    assert_used(looked.answered_per_s / 150, 0.92, looked.slower)
    assert looked.refusals <= 0.01


def test_a_queue_is_filled_and_no_longer_than_it_helps(tmp_path: Path, nodes: Nodes) -> None:
    looked = Looked(tmp_path, nodes, 40, LONG_S, capacity=40, queue=True)
    assert_used(looked.in_flight / 40, 0.92, looked.slower)
    assert looked.refusals == 0


def test_nothing_limits_them(tmp_path: Path, nodes: Nodes) -> None:
    looked = Looked(tmp_path, nodes, MANY, SHORT_S)
    assert looked.refusals == 0
    assert looked.most > 2 * 40, "four shards go on beyond what the gateways above allow"
