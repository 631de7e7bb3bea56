"""The options of a job on a cluster, and its run: the driver under signals."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.cli.closing import show_report
from batchrun.cli.types import WholeNumber
from batchrun.cli.verb import Option, OptionGroup
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from batchrun.cli.run import RunOptions
    from batchrun.cluster.driver import Driver
    from batchrun.cluster.options import Ray
    from batchrun.job.job import Job


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """The Ray cluster of a job, None for a job in this process; and into how many shards it is cut."""

    ray: str | None
    shards: int | None

    def ray_cluster(self) -> Ray | None:
        """The cluster, if one is named. Raises `UsageError`."""
        if self.ray is None:
            if self.shards is not None:
                raise UsageError("--shards does nothing without --ray; pass --ray, too")
            return None
        from batchrun.cluster.options import Ray

        return Ray(self.ray, self.shards)


CLUSTER = OptionGroup(
    "Cluster",
    "cluster",
    ClusterOptions,
    (
        Option(
            ["--ray"],
            metavar="ADDRESS|auto|local",
            help="Run on a Ray cluster, in shards; -o is a directory. local starts one on this machine.",
        ),
        Option(
            ["--shards"],
            type=WholeNumber(1),
            metavar="N",
            default_note="4 a processor, of 1 MB at least",
            help="Into how many shards the requests are cut.",
        ),
    ),
)


def run_on_cluster(job: Job, options: RunOptions, ray: Ray) -> int:
    """Run a job on a cluster, or what is left of it, and show its report; returns the exit code."""
    from batchrun.cli.progress import Progress
    from batchrun.cli.signals import leaving_on_signal
    from batchrun.cluster.driver import Driver

    if options.pilot.pilot is not None:
        raise UsageError(
            "--pilot does not work with --ray: "
            "it is a run of its own; use -n 100, look at the report, and run the same command without it"
        )
    screen = options.screen
    progress = Progress(quiet=screen.quiet, verbose=screen.verbose)
    try:
        with contextlib.ExitStack() as files:
            with leaving_on_signal():
                driver = Driver(job, ray, progress, files)
                if driver.done:
                    progress.notice(f"resuming: {driver.done:,} of {driver.plan.lines:,} done")
            with _stopping_on_signal(driver):
                driver.send()
            progress.close()
            summary = driver.summary()
            show_report(summary, options)
            return summary.exit_code
    finally:
        progress.close()


@contextlib.contextmanager
def _stopping_on_signal(driver: Driver) -> Iterator[None]:
    """The first signal stops the shards in order, the second at once."""
    from batchrun.cli.signals import KILLS, obeyed_signals

    def stop(number: int, _: object) -> None:
        driver.stop(f"interrupted ({signal.Signals(number).name})", 128 + number)

    before = {number: signal.signal(number, stop) for number in obeyed_signals(signal.SIGINT, *KILLS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
