"""`batchrun simulator`: a simulated gateway for clients on this machine."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli import console
from batchrun.cli.gateway import key_in
from batchrun.cli.options import RESULTS
from batchrun.cli.types import FiniteRange, WholeNumber
from batchrun.cli.verb import Option, OptionGroup, Verb
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from batchrun.simulator.options import GatewayOptions


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """Where the simulated gateway listens, and how it behaves."""

    port: int
    latency_s: float
    latency_p99_s: float | None
    rpm: int | None
    tpm: int | None
    capacity: int | None
    queue: bool
    script: str
    fault_rate: float
    mismatch_rate: float
    answers: Path | None
    accuracy: float
    requests: Path | None
    api_key_env: str | None
    seed: int

    def gateway(self) -> GatewayOptions:
        """The gateway. Raises `UsageError`."""
        from batchrun.simulator.options import GatewayOptions

        keys = {key_in(self.api_key_env)} if self.api_key_env else None
        try:
            return GatewayOptions(
                port=self.port,
                latency_median_s=self.latency_s,
                latency_p99_s=self.latency_p99_s,
                rpm=self.rpm,
                tpm=self.tpm,
                capacity=self.capacity,
                queue=self.queue,
                script=self.script,
                fault_rate=self.fault_rate,
                mismatch_rate=self.mismatch_rate,
                answers=self.answers,
                accuracy=self.accuracy,
                requests=self.requests,
                api_keys=keys,
                seed=self.seed,
                keep_rows=False,
            )
        except ValueError as error:
            raise UsageError(str(error)) from None


SIMULATOR = OptionGroup(
    "Gateway",
    "options",
    SimulatorOptions,
    (
        Option(
            ["--port"],
            type=WholeNumber(0, 65535),
            default=8080,
            metavar="N",
            help="Port on 127.0.0.1; 0 takes a free one.",
        ),
        Option(
            ["--latency", "latency_s"], type=FiniteRange(0), default=0.0, metavar="S", help="Median latency in seconds."
        ),
        Option(
            ["--latency-p99", "latency_p99_s"],
            type=FiniteRange(0),
            metavar="S",
            default_note="the median",
            help="99th percentile of the latency, in seconds.",
        ),
        Option(["--rpm"], type=WholeNumber(1), metavar="N", help="Requests per minute; the official 429 beyond that."),
        Option(["--tpm"], type=WholeNumber(1), metavar="N", help="Tokens per minute; the official 429 beyond that."),
        Option(["--capacity"], type=WholeNumber(1), metavar="N", help="Requests at once; a 429 beyond that."),
        Option(["--queue"], is_flag=True, help="Let requests beyond the capacity wait instead."),
        Option(["--script"], default="", metavar="WORDS", help='Faults, such as "429 429 ok; reset ok; stall".'),
        Option(
            ["--fault-rate"],
            type=FiniteRange(0, 1),
            default=0.0,
            metavar="SHARE",
            help="Share of attempts that fail, from 0 to 1.",
        ),
        Option(
            ["--mismatch-rate"],
            type=FiniteRange(0, 1),
            default=0.0,
            metavar="SHARE",
            help="Share of requests, 0 to 1, whose answer does not fit its schema; asked again, it does.",
        ),
        Option(
            ["--answers"],
            type=RESULTS,
            metavar="FILE",
            default_note="answers are invented",
            help="JSONL or CSV file with the right answers, by custom_id or by input.",
        ),
        Option(
            ["--accuracy"],
            type=FiniteRange(0, 1),
            default=1.0,
            metavar="SHARE",
            help="Share of requests that get the right answer of --answers, from 0 to 1.",
        ),
        Option(
            ["--requests"],
            type=RESULTS,
            metavar="FILE",
            help="Request file that tells the inputs of answers by custom_id.",
        ),
        Option(
            ["--api-key-env"],
            metavar="NAME",
            default_note="any key is accepted",
            help="Accept only the key in this environment variable.",
        ),
        Option(["--seed"], type=int, default=0, metavar="N", help="Changes every random value."),
    ),
)


@click.command("simulator", cls=Verb, groups=(SIMULATOR,))
def command(options: SimulatorOptions) -> None:
    """Serve a simulated gateway on 127.0.0.1 until it is interrupted.

    \b
    Example:
      batchrun simulator --port 8080 --latency 0.5 --rpm 600
    """
    from batchrun.simulator.app import serve_until_stopped

    try:
        asyncio.run(serve_until_stopped(options.gateway(), lambda url: console.print_out(f"listening: {url}\n")))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise UsageError(
            f"cannot listen on port {options.port}: {why}; choose another --port (0 takes a free one)"
        ) from None
