"""The events of the run log: one tagged union of structs, encoded and decoded by type.

1. `t` is in seconds since the process opened the log; the log sets it.
2. `unbilled_usd` is in US dollars: money that may have been spent and is on no bill. `endpoint`, or
   `unbilled_by_endpoint`, says at which of several endpoints.
3. No event contains a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import ClassVar

import msgspec

from batchrun.records.attempt import AnsweredControl, BilledTwice
from batchrun.records.money import NOTHING


class _Timed(msgspec.Struct, tag_field="event", omit_defaults=True, kw_only=True, gc=False):
    t: float = -1.0


class Open(_Timed, tag="open"):
    """A process has taken the lock. `at` is the time by the wall clock (Unix), `clock` that by the machine's own."""

    pid: int = 0
    at: float = 0.0
    clock: float = 0.0


class Start(_Timed, tag="start", kw_only=True):
    """Sending begins. The event has the sums over all earlier runs, so that a reader needs the last run only.

    `without_log` names, by their starts, runs that have records but no events in this log; the sums have their worst
    case. `controls`: the control requests that earlier runs sent and that were answered. `records`: how many records
    the result file has, and `records_usd` what they cost. `limited_s`, `limited_s_by_model`: as in `Limited`, of all
    earlier runs. `options`: the options that change bodies, by name.
    `unbilled_by_endpoint`: what of `possibly_billed_twice` and `unbilled_usd` was spent at one of several endpoints,
    as far as that is known. `endpoints`: the base URLs of several endpoints, by name.
    """

    version: str = ""
    pid: int = 0
    started: str = ""
    requests: str = ""
    input_bytes: int | None = None
    lines: int = 0
    pending: int = 0
    possibly_billed_twice: BilledTwice | None = None
    unbilled_usd: Decimal = NOTHING
    unbilled_by_endpoint: dict[str, Decimal] = {}
    without_log: list[str] = []
    controls: list[AnsweredControl] = []
    records: int = 0
    records_usd: Decimal = NOTHING
    limited_s: dict[str, float] | None = None
    limited_s_by_model: dict[str, dict[str, float]] = {}
    options: dict[str, str] | None = None
    max_cost_usd: Decimal | None = None
    base_url: str = ""
    endpoints: dict[str, str] = {}
    concurrency: str = ""
    rpm: float | None = None
    tpm: float | None = None


class Sent(_Timed, tag="sent"):
    """An attempt is about to be sent. A later run reads this event if the attempt has neither an end nor a record.

    `upper_usd` is the most that it can cost, in US dollars; None if no budget reserves an amount. `control`: it is a
    control request, whose line has its record already. `ask`: how often the line is asked with it, from 1; more than
    once where its answers miss their schema. `endpoint` names where it goes,
    if there are several.
    """

    line: int
    attempt: int
    model: str
    body_bytes: int
    max_output_tokens: int | None = None
    upper_usd: Decimal | None = None
    control: bool = False
    ask: int = 1
    endpoint: str | None = None


class Ended(_Timed, tag="ended"):
    """An attempt failed, or was not sent after all (`unsent`). A failed attempt may still have cost something."""

    line: int
    code: str = ""
    status: int | None = None
    unbilled_usd: Decimal = NOTHING
    control: bool = False
    endpoint: str | None = None


class Tried(_Timed, tag="tried"):
    """An answer of so many tokens that misses its schema is in `RESULTS.tries`, and its line is asked again."""

    line: int
    ask: int
    tokens: int | None = None


class Recorded(_Timed, tag="recorded"):
    """The lines whose records were written since the last such event.

    `records_usd`: what all records of the file cost so far, in US dollars.
    """

    numbers: list[int]
    records_usd: Decimal = NOTHING


class Unmeasured(_Timed, tag="unmeasured"):
    """An answer without a usage came."""

    line: int
    unbilled_usd: Decimal = NOTHING
    endpoint: str | None = None


class Billed(_Timed, tag="billed"):
    """The recorded failure has a usage: this event takes back the amount of its `ended` event."""

    line: int
    unbilled_usd: Decimal = NOTHING
    endpoint: str | None = None


class Control(_Timed, tag="control"):
    """A request that had succeeded before was sent again, to find out whether the gateway is there; it was answered.

    It is billed and has no record.
    """

    control: ClassVar[bool] = True

    line: int
    path: str
    answered: AnsweredControl


class Replaced(_Timed, tag="replaced"):
    """Records are about to be removed, because their lines are sent again."""

    lines: int
    unbilled_usd: Decimal = NOTHING
    unbilled_by_endpoint: dict[str, Decimal] = {}


class Limited(_Timed, tag="limits", kw_only=True):
    """The limits have changed. `per_s` is the pace in requests a second.

    `limited_s` has the seconds of the run by what it was limited by, and `limited_s_by_model` the same for each model
    that has limits of its own.
    """

    slots: int = 0
    in_flight: int = 0
    per_s: float | None = None
    limited_by: str = ""
    limited_s: dict[str, float] | None = None
    limited_s_by_model: dict[str, dict[str, float]] = {}


class Tuned(_Timed, tag="tuned", kw_only=True):
    """The run has read a request of `batchrun tune`.

    The event has the limits from now on and the state of the run, as the bar shows it. `refused` says why the request
    was refused; None if it was accepted. `endpoint`: the one of several whose limits these are; None: of the whole job.
    """

    id: str = ""
    pid: int = 0
    endpoint: str | None = None
    concurrency: str = ""
    rpm: float | None = None
    tpm: float | None = None
    max_cost_usd: str | None = None
    paused: bool = False
    slots: int = 0
    in_flight: int = 0
    limited_by: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    eta_s: float | None = None
    cost_usd: Decimal = NOTHING
    projected_usd: Decimal = NOTHING
    limited_by_model: dict[str, str] = {}
    refused: str | None = None


class Outage(_Timed, tag="outage"):
    """The gateway seems to be down; or one of several endpoints, which `endpoint` names, is, or is shut (`shut`)."""

    code: str = ""
    endpoint: str | None = None


class Back(_Timed, tag="back"):
    """The gateway, or that endpoint, answers again."""

    endpoint: str | None = None


class Stop(_Timed, tag="stop", kw_only=True):
    """The orderly end of a run; a run without this event was killed. `numbers`, `records_usd`: as in `Recorded`."""

    why: str = ""
    numbers: list[int] = []
    records_usd: Decimal = NOTHING
    limited_s: dict[str, float] | None = None
    limited_s_by_model: dict[str, dict[str, float]] = {}


Event = (
    Open
    | Start
    | Sent
    | Ended
    | Tried
    | Recorded
    | Unmeasured
    | Billed
    | Control
    | Replaced
    | Limited
    | Tuned
    | Outage
    | Back
    | Stop
)


def key_of(attempt: Sent | Ended | Control) -> int:
    """Tells the attempts in flight apart: the number of the line, negative for a control request."""
    return -attempt.line if attempt.control else attempt.line


encode_events = msgspec.json.Encoder().encode_lines
_decoder = msgspec.json.Decoder(Event)


def decode_events(lines: Sequence[bytes]) -> Sequence[Event]:
    """Lines of a run log, without those that are torn, or events that this program does not know."""
    try:
        events = _decoder.decode_lines(b"".join(lines))
    except (msgspec.DecodeError, UnicodeDecodeError):
        events = []
    return events if len(events) == len(lines) else [event for raw in lines if (event := decode_event(raw)) is not None]


def decode_event(raw: bytes) -> Event | None:
    """One line of a run log; None if it is torn, or an event that this program does not know."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
