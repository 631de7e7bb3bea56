"""Ray, as far as a job needs it: the one module that imports it, and only once a job runs on a cluster.

1. A shard is a plain task, which Ray starts anew where its machine dies (`max_retries=-1`). It is no actor: of an actor
   whose machine is frozen Ray starts a second copy beside the living one.
2. Nothing that is secret is the argument of a task or of an actor: Ray keeps those, and shows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from batchrun.cluster.desk import Desk, Held, Seen
from batchrun.cluster.options import Ray
from batchrun.cluster.secrets import Secrets
from batchrun.cluster.shard import End, Order, Task, Told, run_shard
from batchrun.errors import StopError, UsageError

T = TypeVar("T")
PATIENCE_S = 2.0  # for an answer of the coordinator, before it is asked again
AWAY_S = 0.5
_LOCAL_MEMORY = 128 << 20  # bytes of Ray's store of objects, of which a job needs little
_LOCAL = {
    # Without this Ray writes the address of the host in place of 127.0.0.1, and may wait for it for minutes.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
_ALWAYS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def _ray() -> Any:
    """Ray itself. Raises `UsageError` if it is not installed."""
    for name, value in _ALWAYS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UsageError("--ray needs Ray, which is not installed: pip install 'batchrun[ray]'") from None
    return ray


class RayLink:
    """The way of a shard to the coordinator. A call without an answer is given up and made again."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk

    async def begin(self, number: int) -> tuple[Order, tuple[Secrets, ...]]:
        """Ask whether the shard may begin, and for the secrets of the job."""
        while True:
            with contextlib.suppress(TimeoutError, _ray().exceptions.RayError):
                async with asyncio.timeout(10 * PATIENCE_S):
                    order, secrets = await self._desk.begin.remote(number)
                    return order, secrets
            await asyncio.sleep(AWAY_S)

    async def tell(self, told: Told) -> Order:
        """Tell how the shard goes; where nobody answers, it goes on as it did."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                order: Order = await self._desk.tell.remote(told)
                return order
        except (TimeoutError, _ray().exceptions.RayError):
            return Order()


def _run_shard(task: Task, desk: Any) -> End:
    """What a worker runs."""
    return run_shard(task, RayLink(desk))


class RayCluster:
    """A cluster that this process is connected to, until `close`. Raises `UsageError` if there is none."""

    def __init__(self, options: Ray) -> None:
        ray = self._ray = _ray()
        how: dict[str, Any] = {"address": options.address}
        if options.address == "local":
            os.environ.update({name: value for name, value in _LOCAL.items() if name not in os.environ})
            how |= {
                "include_dashboard": False,
                "object_store_memory": _LOCAL_MEMORY,
                "_node_ip_address": "127.0.0.1",
                "num_cpus": max(1, os.cpu_count() or 1),
            }
        try:
            ray.init(**how, log_to_driver=False, configure_logging=True, logging_level=logging.CRITICAL)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"--ray {options.address}: there is no Ray cluster ({first})") from error
        self._desk: Any = None
        self._run_shard = ray.remote(max_retries=-1, num_cpus=1)(_run_shard)

    @property
    def workers(self) -> int:
        """How many shards may run at the same time, as the cluster is now."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def close(self) -> None:
        """Leave the cluster; end it if it was started here."""
        self._ray.shutdown()

    def each(self, function: Callable[..., T], arguments: Sequence[tuple[object, ...]]) -> list[T]:
        """Call a function once for each tuple of arguments, side by side."""
        remote = self._ray.remote(max_retries=-1, num_cpus=1)(function)
        found: list[T] = self._ray.get([remote.remote(*one) for one in arguments])
        return found

    # ------------------------------------------------------------------------------------ the coordinator

    def open_desk(self) -> None:
        """Start the coordinator."""
        actor = self._ray.remote(max_restarts=-1, max_task_retries=0, num_cpus=0, max_concurrency=1000)(Desk)
        self._desk = actor.remote()

    def hold(self, held: Held) -> bool:
        """Tell the coordinator what only the driver knows; False if it is away, so that it has to be told again."""
        return self._ask(self._desk.hold, held) is not None

    def look(self, known: Sequence[int]) -> Seen | None:
        """What the coordinator has heard; None while it is away. `known`: shards that are known to have begun."""
        seen: Seen | None = self._ask(self._desk.look, known)
        return seen

    def _ask(self, method: Any, *arguments: object) -> Any:
        with contextlib.suppress(self._ray.exceptions.RayError):
            return self._ray.get(method.remote(*arguments), timeout=PATIENCE_S)
        return None

    # -------------------------------------------------------------------------------------------- shards

    def start(self, task: Task) -> object:
        """Start a shard; what `ended` names once it has ended."""
        return self._run_shard.remote(task, self._desk)

    def ended(self, running: Sequence[object], wait_s: float) -> list[object]:
        """Those that have ended, after `wait_s` seconds at the most."""
        if not running:
            return []
        done, left = self._ray.wait(list(running), num_returns=1, timeout=wait_s)
        if done and left:
            more, _ = self._ray.wait(left, num_returns=len(left), timeout=0)
            done += more
        return list(done)

    def result(self, running: object) -> End:
        """How a shard has ended. Raises `StopError` for a bug in it, or where Ray gives it up."""
        try:
            end: End = self._ray.get(running)
        except self._ray.exceptions.RayError as error:
            last = [line for line in str(error).splitlines() if line.strip()][-1:]
            raise StopError(f"a worker has failed: {''.join(last) or type(error).__name__}") from error
        return end
