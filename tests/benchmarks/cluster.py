"""A cluster in virtual time: what holds, what is used, and what a beat costs the coordinator."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from time import perf_counter

from batchrun.cluster.coordinator import Coordinator, Promised
from batchrun.cluster.lease import Everything, Lease, Report
from batchrun.limits.options import Limits
from tests.benchmarks.shards import sharded
from tests.benchmarks.workloads import Row, Scale
from tests.cluster.virtual_auto import GATEWAYS, AutoCluster
from tests.cluster.virtual_cluster import SCENARIOS, Cluster
from tests.cluster.virtual_cluster import Row as Held

HOURS = 0.5
SHARDS, ROUNDS = 256, 60


def cluster(folder: Path, scale: Scale) -> list[Row]:
    """The limits of one job over its shards."""
    rows = [Row("cluster_beat", f"a beat of {SHARDS} shards, with -c, --rpm and --max-cost", beat_us(), "µs", 20)]
    for name, world in SCENARIOS.items():
        held = Held.of(name, world, Cluster(world).run(max(30.0, HOURS * 3600 * scale.share)))
        rows += _held(held)
    for gateway, make in GATEWAYS.items():
        if gateway.startswith("none"):
            continue
        outcome = AutoCluster(make(), 4).run(max(12.0, 120 * scale.share))
        what = f"-c auto over 4 shards, {gateway}"
        rows.append(Row("cluster_auto", f"{what}: used", outcome.used, "of the limit", 0.92, True))
        rows.append(Row("cluster_auto_429s", f"{what}: 429s", outcome.refusals, "per answer", 0.01))
    return rows + sharded(folder, scale)


def _held(held: Held) -> list[Row]:
    what = f"1,000 shards, {held.name}"
    rows = [
        Row("cluster_most", f"{what}: the most", held.most, "of the limit", 1.0),
        Row("cluster_used", f"{what}: used", held.used, "of the limit", 0.95, True),
    ]
    if not math.isnan(held.jain):  # a run too short for it has none
        rows.append(Row("cluster_jain", f"{what}: Jain's index", held.jain, "", 0.95, True))
    if held.name.startswith("--rpm"):
        rows.append(Row("cluster_second", f"{what}: the busiest second", held.second, "of its share", 1.1))
    return rows


def beat_us() -> float:
    """Microseconds that one beat costs, fair shares included: the quickest second of a minute."""
    coordinator = Coordinator(Promised(Limits(10_000, 70_000), Decimal(1000)), 0.0)
    leases = [Lease(0)] * SHARDS
    seconds = []
    for second in range(ROUNDS):
        reports = [_report(shard, second, leases[shard]) for shard in range(SHARDS)]
        began = perf_counter()
        for shard, report in enumerate(reports):
            leases[shard] = coordinator.beat(report, second + shard / SHARDS)
        seconds.append(perf_counter() - began)
    return 1e6 * min(seconds[5:]) / SHARDS


def _report(shard: int, second: int, held: Lease) -> Report:
    """A shard that has sent four requests since the last second, and has five in flight."""
    return Report(
        shard=shard,
        incarnation="a",
        beat=second + 1,
        epoch=held.epoch,
        version=held.version,
        in_flight=5,
        peak=6,
        left=100_000 - 4 * second,
        sent=4 * second,
        spent_usd=Decimal(second) / 1000,
        reserved_usd=Decimal("0.01"),
        is_usd_sure=True,
        answered=4 * second,
        everything=Everything() if not held.version else None,
    )
