"""The events of the run log, written and read by type, and what a later run learns from them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import msgspec

from batchrun.records.attempt import BilledTwice, InFlight
from batchrun.records.money import NOTHING, total_usd
from batchrun.results.files import lock


class Sent(msgspec.Struct, tag_field="event", tag="sent", gc=False):
    """The event of an attempt that is about to be sent: what a later run looks at where nothing became of it."""

    line: int
    attempt: int
    model: str
    body_bytes: int
    max_output_tokens: int | None = None
    upper_usd: Decimal | None = None
    t: float = 0.0


encode_lines = msgspec.json.Encoder().encode_lines


class _Event(msgspec.Struct, frozen=True):
    """The facts of an event that a later run looks at."""

    event: str = ""
    pid: int = 0
    started: str = ""
    possibly_billed_twice: BilledTwice | None = None
    line: int = 0
    numbers: tuple[int, ...] = ()
    model: str = ""
    body_bytes: int = 0
    max_output_tokens: int | None = None
    upper_usd: Decimal | None = None
    unbilled_usd: Decimal = NOTHING
    limited_s: dict[str, float] | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


class LastRun:
    """How the run before ended: `sent` holds the attempts, by line, that have no end; a record is one, see `settle`.

    `billed_before` is what earlier runs left in flight, `unbilled_usd` what all runs may have spent on no bill, in
    USD. `limited_s` are seconds by what held it back. `pid` is the process that had the log last.
    """

    def __init__(self, events: Iterable[bytes] = ()) -> None:
        self.started, self.pid, self.stopped = "", 0, True
        self.sent: dict[int, InFlight] = {}
        self.billed_before = BilledTwice()
        self.unbilled_usd = NOTHING
        self.limited_s: dict[str, float] | None = None
        for raw in events:
            try:
                self._add(_decode_event(raw))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # half an event, or none: it says nothing

    def _add(self, event: _Event) -> None:
        match event.event:
            case "open":
                self.pid = event.pid
            case "start":
                self.started, self.pid, self.stopped = event.started, event.pid, False
                self.billed_before = event.possibly_billed_twice or BilledTwice()
                self.unbilled_usd = NOTHING  # of what came before, the event holds the sum
                self.sent.clear()
                self.limited_s = None
            case "sent":
                attempt = InFlight(event.model, event.body_bytes, event.max_output_tokens, event.upper_usd)
                self.sent[event.line] = attempt
            case "ended":
                self.sent.pop(event.line, None)
            case "stop":
                self.stopped = True
        for line in event.numbers:
            self.sent.pop(line, None)
        if event.limited_s is not None:
            self.limited_s = event.limited_s
        if event.unbilled_usd:
            self.unbilled_usd = total_usd((self.unbilled_usd, event.unbilled_usd))

    def settle(self, started: str, line: int) -> None:
        """A record of that run and line is in the result file, even if the log does not say so."""
        if started == self.started:
            self.sent.pop(line, None)

    @classmethod
    def read(cls, path: Path) -> LastRun | None:
        """The last run by the log at `path`; None where there is no log, `sent` empty while the run goes on."""
        try:
            with path.open("rb") as file:
                last, is_over = cls(file), lock(file)
        except OSError:
            return None
        if not is_over:
            last.sent.clear()
        return last
