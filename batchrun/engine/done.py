"""What the writer is given: a line that is done, and what every record says about its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from batchrun.records.outcome import Failure, Reply
from batchrun.records.request import RequestLine
from batchrun.records.result import Try


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What every record says about its run: its start (UTC), the lines of the request file, the host of the gateway.

    `hosts`: those of several endpoints, by name.
    """

    started: str
    lines: int
    gateway: str
    hosts: Mapping[str, str] = field(default_factory=dict)


class Done(msgspec.Struct, gc=False):
    """A line with its outcome, the attempts and throttles that it took, and the bytes that both hold in memory.

    `tries`: earlier answers to the line, which missed its schema.
    `endpoint` names where the outcome comes from, if there are several.
    """

    line: RequestLine
    outcome: Reply | Failure
    attempts: int
    throttles: int
    held_bytes: int = 0
    tries: tuple[Try, ...] = ()
    endpoint: str | None = None
