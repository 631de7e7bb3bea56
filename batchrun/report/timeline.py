"""A job over time, from its run log: records a second, requests in flight, and what limited it.

1. Time is that of the runs, one after another; the time between two runs is left out, and so are runs whose results
   were discarded (`--overwrite`).
2. Memory does not grow with the log: time is cut into at most `MOST_STRETCHES`, which double when they do not suffice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import msgspec

MOST_STRETCHES = 200
LEAST_STRETCH_S = 0.25  # as often as a run looks what limits it
_BATCH = 2048


@dataclass(slots=True)
class Stretch:
    """What happened in a stretch of time.

    `start_s`: from the start of the first run. `observed_s`: how much of it some run was going on. `records`: how many
    were written. `in_flight_s`: request-seconds in flight. `slots`: how many requests the run would have allowed in
    flight at its end, None where the log does not say. `limited_s`: seconds by what limited the run.
    """

    start_s: float
    observed_s: float = 0.0
    records: int = 0
    in_flight_s: float = 0.0
    slots: int | None = None
    limited_s: dict[str, float] = field(default_factory=dict)

    @property
    def records_per_s(self) -> float:
        """Records a second."""
        return self.records / self.observed_s if self.observed_s else 0.0

    @property
    def in_flight(self) -> float:
        """Requests in flight, on average."""
        return self.in_flight_s / self.observed_s if self.observed_s else 0.0

    def take(self, later: Stretch) -> None:
        """Add the stretch that comes after this one."""
        self.observed_s += later.observed_s
        self.records += later.records
        self.in_flight_s += later.in_flight_s
        self.slots = later.slots if later.slots is not None else self.slots
        for limit, seconds in later.limited_s.items():
            self.limited_s[limit] = self.limited_s.get(limit, 0.0) + seconds


@dataclass(frozen=True, slots=True)
class Timeline:
    """All stretches, each of `stretch_s` seconds, and when each run but the first began.

    `limited_s`: seconds by what limited the runs, the longest first. It is exact; the stretches follow the log, which
    says what limits a run once a second at most.
    """

    stretches: list[Stretch]
    stretch_s: float
    later_runs_s: list[float]
    limited_s: dict[str, float]

    @property
    def seconds(self) -> float:
        """How long all runs took together."""
        return sum(stretch.observed_s for stretch in self.stretches)


def read_timeline(log: Path) -> Timeline | None:
    """The timeline of a run log; None without a log, or where no run has sent anything."""
    try:
        with log.open("rb") as lines:
            return timeline_of(lines)
    except OSError:
        return None


def timeline_of(lines: Iterable[bytes]) -> Timeline | None:
    """The timeline of the lines of a run log; see `read_timeline`."""
    clock = _Clock()
    for event in _events(lines):
        clock.take(event)
    return clock.timeline()


class _Event(msgspec.Struct, gc=False):
    """What matters here of the events that `results.events` describes."""

    event: str
    t: float = 0.0
    line: int = 0
    control: bool = False
    numbers: list[int] = []
    slots: int = 0
    limited_by: str = ""
    limited_s: dict[str, float] | None = None


_decoder = msgspec.json.Decoder(_Event)


def _events(lines: Iterable[bytes]) -> Iterator[_Event]:
    left = iter(lines)
    while batch := list(islice(left, _BATCH)):
        try:
            yield from _decoder.decode_lines(b"".join(batch))
        except (msgspec.DecodeError, UnicodeDecodeError):  # a torn line among them
            for raw in batch:
                try:
                    yield _decoder.decode(raw)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue


_UNKNOWN = ""  # what limits a run before its log says so


class _Clock:
    """Adds up events. `_now` is the time of all runs so far, `_started` the log's own time at the start of this run."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._stretches: list[Stretch] = []
        self._width = LEAST_STRETCH_S
        self._now, self._started = 0.0, 0.0
        self._base = 0.0  # the time of all runs before this one
        self._is_running = False
        self._in_flight: set[int] = set()
        self._slots: int | None = None
        self._limit = _UNKNOWN
        self._later_runs: list[float] = []
        self._told: dict[int, dict[str, float]] = {}  # by the number of the run: its own sums

    def timeline(self) -> Timeline | None:
        """What was added up."""
        self._name_unknown("slow_start")
        found = self._stretches
        if len(found) > 1 and found[-1].observed_s < self._width / 2:
            found[-2].take(found.pop())  # else a record in a millisecond is a thousand a second
        return Timeline(found, self._width, self._later_runs, self._limited_s()) if found and self._now else None

    def _limited_s(self) -> dict[str, float]:
        """The runs' own sums, or where they have none those of the stretches."""
        whole = Stretch(0.0)
        for seconds in self._told.values():
            whole.take(Stretch(0.0, limited_s=seconds))
        for stretch in self._stretches if not self._told else ():
            whole.take(stretch)
        return dict(sorted(whole.limited_s.items(), key=lambda item: -item[1]))

    def take(self, event: _Event) -> None:
        """Add an event."""
        kind = event.event
        if kind == "start":
            self._begin(event)
            return
        if kind == "open" or not self._is_running:
            self._is_running = False
            return
        self._advance(self._base + max(0.0, event.t - self._started))
        key = -event.line if event.control or kind == "control" else event.line
        if kind == "sent":
            self._in_flight.add(key)
        elif kind in ("ended", "control"):
            self._in_flight.discard(key)
        elif kind in ("recorded", "stop"):
            self._in_flight.difference_update(event.numbers)
            self._at(self._now).records += len(event.numbers)
        if event.limited_s:
            self._told[len(self._later_runs)] = event.limited_s
        if kind == "limits":
            self._name_unknown(event.limited_by)
            self._limit, self._slots = event.limited_by, event.slots
        elif kind == "stop":
            if event.limited_s:
                self._name_unknown(max(event.limited_s, key=event.limited_s.__getitem__))
            self._is_running = False

    def _begin(self, start: _Event) -> None:
        if self._told and not start.limited_s:  # it has the sums of all runs before it whose results are there
            self._forget()
        self._name_unknown("slow_start")
        self._base, self._started, self._is_running = self._now, start.t, True
        self._in_flight.clear()
        self._slots, self._limit = None, _UNKNOWN
        if self._now:
            self._later_runs.append(self._now)

    def _advance(self, now: float) -> None:
        """Let the time pass until `now`, with what is in flight."""
        while now > self._now:
            stretch = self._at(self._now)
            until = min(now, stretch.start_s + self._width)
            passed = until - self._now
            if passed <= 0:  # what rounding leaves
                break
            stretch.observed_s += passed
            stretch.in_flight_s += passed * len(self._in_flight)
            stretch.limited_s[self._limit] = stretch.limited_s.get(self._limit, 0.0) + passed
            stretch.slots = self._slots
            self._now = until

    def _at(self, now: float) -> Stretch:
        """The stretch that a time belongs to; those before it, if there are none yet."""
        while now >= self._width * MOST_STRETCHES:
            self._double()
        while now >= self._width * len(self._stretches):
            self._stretches.append(Stretch(self._width * len(self._stretches)))
        return self._stretches[int(now / self._width)]

    def _double(self) -> None:
        """Make one stretch of each two."""
        halves = iter(self._stretches)
        self._stretches = []
        for first in halves:
            if (second := next(halves, None)) is not None:
                first.take(second)
            self._stretches.append(first)
        self._width *= 2

    def _name_unknown(self, limit: str) -> None:
        """The log says what limited the run since its start."""
        if self._limit != _UNKNOWN:
            return
        for stretch in self._stretches:
            if (seconds := stretch.limited_s.pop(_UNKNOWN, None)) is not None:
                stretch.limited_s[limit] = stretch.limited_s.get(limit, 0.0) + seconds
