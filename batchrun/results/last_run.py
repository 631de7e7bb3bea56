"""What a run log says about earlier runs: what was in flight when the last one ended, and unbilled costs of all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from batchrun.records.attempt import AnsweredControl, BilledTwice, InFlight
from batchrun.records.money import NOTHING, total_usd, usd_by_endpoint
from batchrun.records.result import ResultHead
from batchrun.results.events import (
    Billed,
    Control,
    Ended,
    Event,
    Limited,
    Open,
    Recorded,
    Replaced,
    Sent,
    Start,
    Stop,
    Tried,
    Unmeasured,
    decode_event,
    decode_events,
    key_of,
)
from batchrun.results.files import NoLocksError, lock
from batchrun.results.recent import RecentRequests

_BATCH = 512  # events: decoded together, they take a third of the time


class _Limits(NamedTuple):
    """Seconds by what limited some runs, together and for each model with limits of its own."""

    limited_s: dict[str, float] | None
    by_model: dict[str, dict[str, float]]


def seconds_together(parts: Iterable[Mapping[str, float] | None]) -> dict[str, float]:
    """The sums of seconds by what limited some runs, the longest first; in hundredths, so that no order matters."""
    sums = dict[str, float]()
    for part in parts:
        for name, seconds in (part or {}).items():
            sums[name] = round(sums.get(name, 0.0) + seconds, 2)
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def by_model_together(parts: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The same for each model, by name."""
    models = sorted({model for part in parts for model in part})
    return {model: seconds_together([part.get(model) for part in parts]) for model in models}


class LastRun:
    """How the last run ended.

    `starts` names all runs that the log knows or accounts for, `started` the last one. `lines`: how many lines that one
    was to do, with those that had a record before; 0 if the log does not say. `stopped` tells whether its end
    was orderly, `pid` is the process that had the log last.
    `sent`: the attempts, by `key_of`, that have neither an end nor a record; see `settle`.
    `billed_before`: what earlier runs left in flight. `unbilled_usd`: what all runs may have spent without a bill, in
    US dollars. `unbilled_by_endpoint`: what of both was spent at one of several endpoints, as far as that is known.
    `controls`: the control requests of all runs that were answered. `limited_s`: the seconds of all runs by
    what limited them, None if no run says so, and `limited_s_by_model` those of models with limits of their own.
    `recent`: what was sent of late. `options`: the options of the last run that change bodies,
    None if the log does not say. `records`: how many records the result file should have, and `records_usd` what those
    cost, in US dollars.
    """

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        self.started, self.lines, self.pid, self.stopped = "", 0, 0, True
        self.starts: set[str] = set()
        self.sent: dict[int, Sent] = {}
        self.billed_before = BilledTwice()
        self.unbilled_usd = NOTHING
        self.unbilled_by_endpoint: dict[str, Decimal] = {}
        self.controls: list[AnsweredControl] = []
        self._limited = (_Limits(None, {}), _Limits(None, {}))  # of the runs before the last one, and of that one
        self.recent = RecentRequests()
        self.options: dict[str, str] | None = None
        self.records, self.records_usd = 0, NOTHING
        left = iter(lines)
        while batch := list(islice(left, _BATCH)):
            self._add_all(decode_events(batch))

    @property
    def limited_s(self) -> dict[str, float] | None:
        """The seconds of all runs by what limited them, the longest first; None if no run says so."""
        return seconds_together([one.limited_s for one in self._limited]) or None

    @property
    def limited_s_by_model(self) -> dict[str, dict[str, float]]:
        """The same for each model with limits of its own."""
        return by_model_together([one.by_model for one in self._limited])

    @property
    def in_flight(self) -> list[InFlight]:
        """The attempts that have neither an end nor a record."""
        return [
            InFlight(one.model, one.body_bytes, one.max_output_tokens, one.upper_usd, one.endpoint)
            for one in self.sent.values()
        ]

    def _add_all(self, events: Sequence[Event]) -> None:
        sent, noted = self.sent, 0
        for at, event in enumerate(events):
            if type(event) is Sent and not event.control:  # as nearly always
                sent[event.line] = event
                continue
            if type(event) is Open:
                self.recent.note(events[noted:at])
                noted = at + 1
            self._add(event)
        self.recent.note(events[noted:])

    def _add(self, event: Event) -> None:
        match event:
            case Sent():
                self.sent[key_of(event)] = event
            case Recorded():
                self._recorded(event)
            case Ended():
                self._drop((key_of(event),))
            case Control():
                self._drop((key_of(event),))
                self.controls.append(event.answered)
            case Tried():
                self._drop((event.line,))
            case Open():
                self.pid = event.pid
                self.recent.opened(event)
            case Start():
                self._begin(event)
            case Limited():
                self._limit(event)
            case Stop():
                self.stopped = True
                self._recorded(event)
                self._limit(event)
            case Replaced():
                self.records -= event.lines
                self.records_usd = total_usd((self.records_usd, -event.unbilled_usd))
            case _:
                pass
        if isinstance(event, (Ended, Unmeasured, Billed, Replaced)) and event.unbilled_usd:
            self._unbilled(event)

    def _unbilled(self, event: Ended | Unmeasured | Billed | Replaced) -> None:
        self.unbilled_usd = total_usd((self.unbilled_usd, event.unbilled_usd))
        if isinstance(event, Replaced):
            more = event.unbilled_by_endpoint
        else:
            more = {} if event.endpoint is None else {event.endpoint: event.unbilled_usd}
        if more:
            self.unbilled_by_endpoint = usd_by_endpoint(self.unbilled_by_endpoint, more)

    def _begin(self, start: Start) -> None:
        """A new run begins: its first event has the sums over all earlier runs."""
        self.started, self.lines, self.pid, self.stopped = start.started, start.lines, start.pid, False
        self.starts.update((start.started, *start.without_log))
        self.billed_before = start.possibly_billed_twice or BilledTwice()
        self.unbilled_usd = start.unbilled_usd
        self.unbilled_by_endpoint = start.unbilled_by_endpoint
        self.controls = start.controls
        self.options = start.options
        self.records, self.records_usd = start.records, start.records_usd
        self.sent.clear()
        self._limited = (_Limits(start.limited_s, start.limited_s_by_model), _Limits(None, {}))

    def _limit(self, event: Limited | Stop) -> None:
        """Each event has the sums since the start of its run."""
        before, last = self._limited
        self._limited = before, _Limits(event.limited_s or last.limited_s, event.limited_s_by_model or last.by_model)

    def _recorded(self, event: Recorded | Stop) -> None:
        self._drop(event.numbers)
        self.records += len(event.numbers)
        self.records_usd = event.records_usd or self.records_usd

    def gone(self, records: int, records_usd: Decimal) -> tuple[int, Decimal]:
        """How many records the result file has lost if it has `records`, which cost `records_usd`; what the lost cost.

        Records that no run removed: somebody has deleted the file, or some of its lines.
        """
        lost = self.records - records
        if lost <= 0:
            return 0, NOTHING
        return lost, max(NOTHING, total_usd((self.records_usd, -records_usd)))

    def _drop(self, keys: Iterable[int]) -> None:
        drop = self.sent.pop
        for key in keys:
            drop(key, None)

    def settle(self, started: str, line: int) -> None:
        """Note that the result file has a record of that run and line, even if the log does not say so."""
        if started == self.started:
            self.sent.pop(line, None)

    def settle_try(self, head: ResultHead) -> None:
        """Note that `RESULTS.tries` has this answer, even if the log does not say so."""
        run = head.run
        sent = self.sent.get(run.line) if run.started == self.started else None
        if sent is not None and sent.ask <= len(run.all_tries):
            del self.sent[run.line]

    @classmethod
    def read(cls, path: Path) -> LastRun | None:
        """The last run in the log at `path`; None if there is no log. `sent` is empty while the run is active."""
        try:
            with path.open("rb") as file:
                last, is_over = cls(file), _is_over(file)
        except OSError:
            return None
        if not is_over:
            last.sent.clear()
        return last


_CONTROL_OR_START = (b'{"event":"control"', b'{"event":"start"')


def read_controls(path: Path) -> list[AnsweredControl]:
    """The answered control requests of all runs in the log at `path`, without reading what else it says."""
    try:
        with path.open("rb") as file:
            return LastRun(raw for raw in file if raw.startswith(_CONTROL_OR_START)).controls
    except OSError:
        return []


def _is_over(log: IO[bytes]) -> bool:
    """Whether no process has the lock; on a disk without locks nobody can tell, and nothing is left out."""
    try:
        return lock(log)
    except NoLocksError:
        return True


def last_start(log: Path) -> Start | None:
    """The event with which the last run in the log at `log` began to send; None if there is none."""
    last, torn = None, b""
    with contextlib.suppress(OSError), log.open("rb", buffering=0) as events:
        while piece := events.read(_PIECE_BYTES):
            whole, newline, torn = (torn + piece).rpartition(b"\n")
            last = _last_start_in(whole + newline) or last
    return _last_start_in(torn) or last


def _last_start_in(lines: bytes) -> Start | None:
    """The last such event in some lines. Most lines are other events: these are passed over, not looked at."""
    at = len(lines)
    while (at := lines.rfind(_START, 0, at)) >= 0:
        begin, end = lines.rfind(b"\n", 0, at) + 1, lines.find(b"\n", at)
        raw = lines[begin:] if end < 0 else lines[begin:end]
        if at - begin < _FOREMOST and isinstance(event := decode_event(raw), Start):
            return event
    return None


_PIECE_BYTES, _FOREMOST = 1 << 20, 64
_START = b'"event":"start"'
