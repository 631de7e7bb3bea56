"""The run that writes the file, as the page shows it: how far it is, what limits it, its bill; and changes of limits.

Whoever serves the page brings what asks the run (`Run`): the same requests as those of `batchrun tune`. A run writes
each of them down in its log, so it is asked every two seconds, and only while somebody looks.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Protocol

import msgspec

from batchrun.errors import BatchrunError, StopError, UsageError
from batchrun.viewer.guard import Refused

ASK_EVERY_S = 2.0


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits as the options of `batchrun tune` are written; "" leaves one as it is. `paused`: None leaves it so."""

    concurrency: str = ""
    rpm: str = ""
    tpm: str = ""
    max_cost: str = ""
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class RunState:
    """What a run says of itself. `lines`: how far it is and what limits it, in words.

    `limits`: those it keeps to, by the names of `Change`; "" where there is none.
    """

    done: int
    total: int
    is_paused: bool
    lines: tuple[str, ...]
    limits: dict[str, str]


class Run(Protocol):
    """What asks the run that writes the file."""

    def is_there(self) -> bool:
        """Whether a run writes the file now."""

    def tune(self, change: Change) -> RunState:
        """Change its limits, or nothing, and return its state.

        Raises `UsageError` where no run is there or it refuses, `StopError` where it does not answer in time.
        """


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the run now. `state` None: it has not answered, and `why` says so; both empty: there is none."""

    state: RunState | None = None
    why: str = ""


NO_RUN = Seen()

_decode_change = msgspec.json.Decoder(Change).decode


class RunWatch:
    """Keeps the last state of a run, and asks anew where that is wanted."""

    def __init__(self, run: Run | None) -> None:
        self._run = run
        self.seen = NO_RUN
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._turn = asyncio.Lock()

    def look(self) -> Seen:
        """What is known; the run is asked again in the background where that is old."""
        loop = asyncio.get_running_loop()
        is_due = loop.time() - self._asked_at >= ASK_EVERY_S
        if self._run is not None and is_due and (self._asking is None or self._asking.done()):
            self._asked_at = loop.time()
            self._asking = asyncio.ensure_future(self._ask(self._run))
        return self.seen

    async def close(self) -> None:
        """Wait for the answer that is still to come."""
        if self._asking is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking

    async def change(self, body: bytes) -> Seen:
        """Change limits as a page asks for it. Raises `UsageError` or `StopError` where they are not changed.

        Raises `Refused` for what no page asks.
        """
        try:
            change = _decode_change(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400, f"this is no change of limits ({error})") from None
        if self._run is None:
            raise UsageError("No run is asked here.")
        async with self._turn:
            self.seen = Seen(await asyncio.to_thread(self._run.tune, change))
        return self.seen

    async def _ask(self, run: Run) -> None:
        async with self._turn:
            self.seen = await asyncio.to_thread(_state_of, run, self.seen)


def _state_of(run: Run, before: Seen) -> Seen:
    if not run.is_there():
        return NO_RUN
    try:
        return Seen(run.tune(Change()))
    except StopError:  # another request is before this one, or it does not send yet
        preparing = Seen(why="A run writes this file, and does not tell its state yet: it is still preparing.")
        return preparing if before.state is None else before
    except BatchrunError as error:
        return Seen(why=f"A run writes this file; its state cannot be asked: {error}") if run.is_there() else NO_RUN
