"""Shards of a job without a cluster: cut, run one after the other in this process, and merged."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from batchrun import GatewayOptions, Job, Limits, Overrides
from batchrun.cluster.coordinator import Coordinator, Promised
from batchrun.cluster.plan import Plan, read_plan, write_plan
from batchrun.cluster.planning import Input, in_turn, make_plan
from batchrun.cluster.secrets import Secrets, without_secrets
from batchrun.cluster.shard import End, Order, ShardEnd, Task, Told, run_shard
from batchrun.requests.part import Part
from batchrun.results.parts import shard_path
from batchrun.transport.endpoint import Endpoint

GO_ON, AS_IT_IS, MANY_AT_ONCE = Order(), Overrides(), Limits(50)


class Here:
    """A link to a coordinator in this process, which shares `limits`; it keeps what it was told."""

    def __init__(self, secrets: tuple[Secrets, ...] = (), order: Order = GO_ON, limits: Limits = MANY_AT_ONCE) -> None:
        self.secrets, self.order = secrets, order
        self.told: list[Told] = []
        self.coordinator = Coordinator(Promised(limits), time.monotonic())

    async def begin(self, number: int) -> tuple[Order, tuple[Secrets, ...]]:
        return self.order, self.secrets

    async def tell(self, told: Told) -> Order:
        self.told.append(told)
        lease = None if told.report is None else self.coordinator.beat(told.report, time.monotonic())
        return replace(self.order, lease=lease)


def mixed_requests(path: Path, count: int) -> Path:
    """A request file of all shapes: own ids, bare bodies, equal bare bodies, blank lines, long ones."""
    lines = []
    for number in range(1, count + 1):
        body = {"model": "gpt-4.1", "input": f"question {number}", "max_output_tokens": 5000}
        if number % 5 == 0:
            lines.append(json.dumps(body | {"input": f"the same {number % 3}"}))
        elif number % 7 == 0:
            lines.append(json.dumps(body | {"input": "x" * (number * 13 % 400)}))
        elif number % 11 == 0:
            lines.append("")
        else:
            lines.append(json.dumps({"custom_id": f"r-{number}", "body": body}))
    path.write_text("\n".join(lines) + "\n")
    return path


def planned(requests: Path, directory: Path, shards: int, overrides: Overrides = AS_IT_IS) -> Plan:
    """The plan of a directory, which is made if it has none."""
    directory.mkdir(exist_ok=True)
    if (plan := read_plan(directory)) is None:
        plan, _ = make_plan(Input(requests, requests.name, overrides), directory, shards, in_turn)
        write_plan(directory, plan)
    return plan


def job_of(requests: Path, results: Path, **changes: object) -> Job:
    fields = {"simulate": GatewayOptions(), "endpoint": Endpoint("http://127.0.0.1")} | changes
    return Job(str(requests), results, **fields)  # type: ignore[arg-type]


def run_shards(
    job: Job,
    plan: Plan,
    numbers: Sequence[int] | None = None,
    link: Here | None = None,
    parts: Sequence[Part] | None = None,
) -> list[End]:
    """Run shards of a job, whose results are a directory. `parts`: their lines, where more is told of them."""
    directory, requests = job.results, Path(str(job.requests))
    assert directory is not None
    bare, secrets = without_secrets(job)
    ends = []
    for number in numbers if numbers is not None else range(len(plan.shards)):
        task = Task(
            number,
            replace(bare, results=shard_path(directory, number)),
            plan.part(number) if parts is None else parts[number],
            requests.stat().st_mtime_ns,
        )
        ends.append(run_shard(task, link or Here(secrets)))
    return ends


def whole(end: End) -> ShardEnd:
    """An end that is no refusal."""
    assert isinstance(end, ShardEnd), end
    return end
