"""Which line is sent next, and what is done where none can be: read from the source, wait, probe, control, last try.

A line that cannot go now waits in `waiting.py`, so a worker never holds one. `attribution.py` judges it when it is due.
A lane without room (`limits/lanes.py`) holds up no other: its lines wait, and the source is read on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum, auto

import msgspec

from batchrun.engine.attribution import Case, Chances, Peers, Standing
from batchrun.engine.reask import Reask
from batchrun.engine.source import LineSource
from batchrun.engine.waiting import WaitingRoom
from batchrun.limits.endpoint_limits import EndpointLimits
from batchrun.limits.in_flight import InFlightBytes
from batchrun.limits.lanes import Lanes
from batchrun.records.request import RequestLine
from batchrun.transport.yielding import yield_to_loop

READ_AT_ONCE = 256  # lines of lanes without room, before others get a turn


class Step(Enum):
    """What lines that are stuck ask for."""

    PROBE = auto()  # the next probe of an outage is due
    EVIDENCE = auto()  # no peer is left to speak
    LAST_TRY = auto()  # a line may be sent alone


class Next(msgspec.Struct, frozen=True, gc=False):
    """A line and its peers: to be sent by `limits`, or, where these are None, to be recorded with its last failure."""

    case: Case
    peers: Peers
    limits: EndpointLimits | None


class Dispatcher:
    """Gives out the lines of `source`, one to each worker that asks.

    `kinds`: how many pairs of path and model the request file has. `capacity()`: how many waiting lines may be in
    memory. `held` counts the bytes of the lines. `has_earlier`: a line has succeeded in an earlier run. `reask` knows
    what earlier runs got for lines that are to be asked again; such a line stays in memory. Each line that `next` gives
    for sending is ended by `ended`.
    """

    def __init__(
        self,
        source: LineSource,
        chances: Chances,
        kinds: int,
        clock: Callable[[], float],
        capacity: Callable[[], int],
        held: InFlightBytes,
        lanes: Lanes,
        *,
        has_earlier: bool,
        reask: Reask | None = None,
    ) -> None:
        self.room = WaitingRoom()
        self.is_read = False  # to its end
        self._source = source
        self._chances = chances
        self._kinds = kinds
        self._clock = clock
        self._capacity = capacity
        self._bytes = held
        self._has_earlier = has_earlier
        self._lanes = lanes
        self._reask = reask
        self._all: dict[tuple[str, str], Peers] = {}
        self._released: deque[tuple[Case, Peers]] = deque()
        self._again: dict[Peers, LineSource] = {}  # of lines that were kept as numbers
        self._was_throttled = False  # the last line that waited: an unread one follows it, so that others can speak

    # ------------------------------------------------------------------------------------ for the workers

    def places(self) -> int:
        """How many workers would find a line now, at the most; one starts the next where that is not known."""
        now = self._clock()
        if self._can_read(now):
            return sum(limits.controller.slots - limits.taken for limits in self._lanes.limits if limits.has_room)
        has_due = self.room.next_due <= now and self._has_any_room(now)
        return int(has_due or bool(self._released) or any(peers.lane.has_room(now) for peers in self.room.ready))

    @property
    def is_done(self) -> bool:
        """Whether no line is left."""
        return self.is_read and not self.room and not self._released and not self._again

    async def next(self) -> Next | None:
        """A line that may be sent; None if there is none for the moment."""
        passed = 0
        while True:
            now = self._clock()
            if self._released:
                return self._given(*self._released.popleft())
            if (waited := self._waited(now)) is not None:
                return waited
            if not self._can_read(now):
                return None
            line = await self._read(now)
            if line is None:
                continue
            if (fresh := self._taken_up(line, now)) is not None:
                return fresh
            passed += 1
            if passed % READ_AT_ONCE == 0:
                await yield_to_loop()

    def ended(self, one: Next) -> None:
        """The worker is done with a line: another one may have its place."""
        if one.limits is not None:
            one.limits.taken -= 1
            one.peers.lane.taken -= 1

    def peers_of(self, line: RequestLine) -> Peers:
        """The peers of a line."""
        peers = self._all.get((line.url, line.model))
        if peers is None:
            peers = self._all[line.url, line.model] = Peers(
                self._chances, line.url, line.model, self._lanes.of(line.model)
            )
            peers.may_find_control = self._has_earlier
        return peers

    def set_aside(self, case: Case, peers: Peers, due: float) -> None:
        """Let a line wait; if memory is full, keep its number only."""
        case.due = due
        if self.room.size > self._capacity() and case.asked is None:
            self._put_off(case, peers)
        else:
            self.room.put(case, peers)

    def wait_for_room(self, case: Case, peers: Peers) -> None:
        """Let a line wait until its lane has room."""
        if self._is_crowded and case.asked is None:
            self._put_off(case, peers)
        else:
            self.room.make_ready(case, peers)

    def back(self, case: Case, peers: Peers) -> None:
        """Take back a line that was not sent, because the breaker opened meanwhile."""
        self.room.park(case, peers)

    def news(self, peers: Peers) -> None:
        """Something was found out: judge the lines again that are parked."""
        if peers in self.room.parked:
            for case in self.room.unpark(peers):
                self.room.put(case, peers)

    # -------------------------------------------------------------------------------- for lines that are stuck

    def __iter__(self) -> Iterator[Peers]:
        return iter(self._all.values())

    def steps(self, now: float) -> list[tuple[Step, Peers]]:
        """What may be done now for lines that are stuck."""
        return [(step, peers) for peers in self._all.values() for step, at in self._step(peers, now) if at <= now]

    def next_at(self, now: float) -> float:
        """When the next line is due, if there is room for it, or a lane that is held, or the next step."""
        times = [at for peers in self._all.values() for _, at in self._step(peers, now)]
        times += [lane.held_until for lane in self._lanes if lane.held_until > now]
        if self._has_any_room(now):
            times.append(self.room.next_due)
        return min(times, default=math.inf)

    def all_closed(self) -> dict[Peers, int]:
        """The peers that have lines left, and how many, if all of these are in closed lanes; else none."""
        if self._released or not self.can_read_no_more or self.remaining():
            return {}
        return {peers: self.room.undone(peers) for peers in self._left()}

    def _left(self) -> list[Peers]:
        return [peers for peers in self._all.values() if peers.left or self._has_unread(peers)]

    def release(self, peers: Peers, *, last_try: bool = False) -> bool:
        """Send one line that is stuck, as a probe or for its last try; False if there is none.

        Every other probe is the line that was parked last: one that has failed before, where each line fails at first,
        and another one where a line always fails.
        """
        place = self.room.last_tries if last_try else self.room.parked
        if peers not in place:
            return False
        newest = not last_try and peers.breaker.failed_probes % 2 == 1
        case = self.room.unpark_one(peers, last_try=last_try, newest=newest)
        case.is_last_try = last_try
        self._released.append((case, peers))
        return True

    def stuck(self, peers: Peers) -> list[Case]:
        """All lines of these peers that are parked, taken out."""
        return list(self.room.unpark(peers))

    def is_last(self, peers: Peers) -> bool:
        """Whether these peers alone have lines left."""
        return self.remaining() == [peers]

    def remaining(self) -> list[Peers]:
        """The peers that have lines left, as far as the source was read, and whose lane is not closed."""
        return [peers for peers in self._left() if not peers.lane.is_closed]

    @property
    def is_stuck(self) -> bool:
        """Whether nothing but probes can be sent."""
        remaining = self.remaining()
        return bool(remaining) and all(peers.breaker.is_open for peers in remaining)

    @property
    def can_read_no_more(self) -> bool:
        """Whether the source has ended, or no line of it could go."""
        return self.is_read or not self._may_read(self._clock())

    # ------------------------------------------------------------------------------------------ inside

    def _step(self, peers: Peers, now: float) -> Iterator[tuple[Step, float]]:
        """The next step for these peers, and when."""
        if not peers.left or self._released:
            return
        if peers.breaker.is_open:
            if peers in self.room.parked:
                yield Step.PROBE, peers.breaker.next_probe_at
            elif peers.has_control:
                yield Step.PROBE, max(peers.breaker.next_probe_at, peers.control_due())
        elif self.is_read and not self._has_unread(peers) and not peers.in_flight:
            parked, last_tries = peers in self.room.parked, peers in self.room.last_tries
            if peers.left == self.room.stuck(peers) and parked:
                yield Step.EVIDENCE, peers.control_due()
            elif peers.left == self.room.stuck(peers) and last_tries:
                yield Step.LAST_TRY, peers.alone_at(now)

    def _waited(self, now: float) -> Next | None:
        """A line that has waited and may go now."""
        if self._was_throttled and self._may_read(now) and not self.is_read:
            self._was_throttled = False
            return None
        while (due := self.room.take(now)) is not None:
            if (following := self._judged(*due, now)) is not None:
                self._was_throttled = following.case.throttles > 0
                return following
        for peers in self.room.ready:
            if peers.lane.has_room(now):
                return self._judged(self.room.take_ready(peers), peers, now)
        return None

    async def _read(self, now: float) -> RequestLine | None:
        """The next line: one that was kept as a number, or an unread one. None where a source has ended."""
        peers = self._readable_again(now)
        if peers is None:
            if self.is_read:
                return None
            line = await self._source.next()
            self.is_read = line is None
            return line
        source = self._again.get(peers)
        if source is None:
            source = self._again[peers] = self._source.again(self.room.take_later(peers))
        line = await source.next()
        if line is None:
            self._again.pop(peers, None)
        return line

    def _taken_up(self, line: RequestLine, now: float) -> Next | None:
        """A line that was just read: it is sent, or waits (None)."""
        self._bytes.add(len(line.body))
        peers = self.peers_of(line)
        case = self.room.back(line.line_number)
        if case is None:
            case = Case(line.line_number, line)
            peers.left += 1
            if self._reask is not None and self._reask.take_up(case, self._bytes):
                return Next(case, peers, None)
        case.line = line
        if case.due > now:
            self.room.put(case, peers)
            return None
        return self._judged(case, peers, now)

    def _given(self, case: Case, peers: Peers) -> Next:
        """A line for a worker."""
        peers.lane.taken += 1
        peers.lane.limits.taken += 1
        return Next(case, peers, peers.lane.limits)

    def _judged(self, case: Case, peers: Peers, now: float) -> Next | None:
        """Judge a line that is due: it is sent or recorded, or waits (None)."""
        if peers.missing is not None:
            case.last = peers.missing
            return Next(case, peers, None)
        standing = peers.standing(case, now) if case.attempts else Standing.AGAIN
        if standing is Standing.AT_FAULT and case.last is not None:
            return Next(case, peers, None)
        if standing in (Standing.AGAIN, Standing.AT_FAULT) and peers.breaker.may_pass(now):
            if peers.lane.has_room(now):
                return self._given(case, peers)
            self.wait_for_room(case, peers)
        elif self.room.size > self._capacity() and self.room.stuck(peers) and case.asked is None:
            self._put_off(case, peers)
        else:
            self.room.park(case, peers, last_try=standing is Standing.LAST_TRY)
        return None

    def _put_off(self, case: Case, peers: Peers) -> None:
        """Keep only the number of a line."""
        assert case.line is not None, "it is in memory"
        self._bytes.remove(len(case.line.body))
        self.room.put_off(case, peers)

    @property
    def _is_crowded(self) -> bool:
        """Whether no further line may wait in memory."""
        return self.room.size > self._capacity() or self._bytes.is_full

    def _has_any_room(self, now: float) -> bool:
        return any(lane.has_room(now) for lane in self._lanes)

    def _can_read(self, now: float) -> bool:
        """Whether there is an unread line, or one that is kept as a number, and a lane with room for it."""
        return self._may_read(now) and (not self.is_read or self._readable_again(now) is not None)

    def _may_read(self, now: float) -> bool:
        """Whether there is a lane with room for a line that is read now."""
        if self._bytes.is_full:
            return False
        for peers in self._all.values():
            if peers.lane.has_room(now) and (not peers.breaker.is_open or self.room.size < self._capacity()):
                return True
        return len(self._all) < self._kinds and self._lanes.shared.has_room

    def _has_unread(self, peers: Peers) -> bool:
        """Whether lines of these peers are kept as numbers."""
        return peers in self._again or peers in self.room.later

    def _readable_again(self, now: float) -> Peers | None:
        """Peers that may go, of which lines are kept as numbers."""
        if not self._again and not self.room.later:
            return None
        for peers in (*self._again, *self.room.later):
            if peers.lane.has_room(now) and not peers.breaker.is_open and peers not in self.room.ready:
                return peers
        return None
