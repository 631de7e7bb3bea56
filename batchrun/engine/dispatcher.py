"""Which line is sent next, and what is done where none can be: read from the source, wait, probe, control, last try.

A line that cannot go now waits in `waiting.py`, so a worker never holds one. `attribution.py` judges it when it is due.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from batchrun.engine.attribution import Case, Chances, Peers, Standing
from batchrun.engine.source import LineSource
from batchrun.engine.waiting import WaitingRoom
from batchrun.limits.in_flight import InFlightBytes
from batchrun.records.request import RequestLine


class Step(Enum):
    """What lines that are stuck ask for."""

    PROBE = auto()  # the next probe of an outage is due
    EVIDENCE = auto()  # no peer is left to speak
    LAST_TRY = auto()  # a line may be sent alone


@dataclass(frozen=True, slots=True)
class Next:
    """A line and its peers: to be sent, or, `at_fault`, to be recorded with its last failure."""

    case: Case
    peers: Peers
    at_fault: bool = False


class Dispatcher:
    """Gives out the lines of `source`, one to each worker that asks.

    `kinds`: how many pairs of path and model the request file has. `capacity()`: how many waiting lines may be in
    memory. `held` counts the bytes of the lines. `has_earlier`: a line has succeeded in an earlier run.
    """

    def __init__(
        self,
        source: LineSource,
        chances: Chances,
        kinds: int,
        clock: Callable[[], float],
        capacity: Callable[[], int],
        held: InFlightBytes,
        *,
        has_earlier: bool,
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
        self._all: dict[tuple[str, str], Peers] = {}
        self._released: deque[Next] = deque()
        self._was_throttled = False  # the last line that waited: an unread one follows it, so that others can speak

    # ------------------------------------------------------------------------------------ for the workers

    def has_ready(self) -> bool:
        """Whether a line that waited may be sent now."""
        return bool(self._released) or self.room.next_due <= self._clock()

    def has_unread(self) -> bool:
        """Whether a line may be read from the source now."""
        return self._may_read() and (not self.is_read or self._has_later())

    @property
    def is_done(self) -> bool:
        """Whether no line is left."""
        return self.is_read and not self.room and not self._released

    async def next(self) -> Next | None:
        """A line that may be sent; None if there is none for the moment."""
        while True:
            now = self._clock()
            if self._released:
                return self._released.popleft()
            others_pass = self._was_throttled and self.has_unread()
            while not others_pass and (due := self.room.take(now)) is not None:
                if (following := self._judged(*due, now)) is not None:
                    self._was_throttled = following.case.throttles > 0
                    return following
            self._was_throttled = False
            if not self._may_read() or (self.is_read and not self._read_later()):
                return None
            line = await self._source.next()
            if line is None:
                self.is_read = True
                continue
            self._bytes.add(len(line.body))
            peers = self.peers_of(line)
            case = self.room.back(line.line_number)
            if case is None:
                case = Case(line.line_number, line)
                peers.left += 1
                if peers.breaker.open_since is None:
                    return Next(case, peers)
            case.line = line
            if case.due > now:
                self.room.put(case, peers)
            elif (following := self._judged(case, peers, now)) is not None:
                return following

    def peers_of(self, line: RequestLine) -> Peers:
        """The peers of a line."""
        peers = self._all.get((line.url, line.model))
        if peers is None:
            peers = self._all[line.url, line.model] = Peers(self._chances, line.url, line.model)
            peers.may_find_control = self._has_earlier
        return peers

    def set_aside(self, case: Case, peers: Peers, due: float) -> None:
        """Let a line wait; if memory is full, keep its number only."""
        case.due = due
        if self.room.size > self._capacity():
            self._put_off(case, peers)
        else:
            self.room.put(case, peers)

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

    def next_at(self, now: float, *, has_slot: bool) -> float:
        """When the next line is due, if there is a slot for it, or the next step."""
        steps = [at for peers in self._all.values() for _, at in self._step(peers, now)]
        return min(self.room.next_due if has_slot else math.inf, min(steps, default=math.inf))

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
        self._released.append(Next(case, peers))
        return True

    def stuck(self, peers: Peers) -> list[Case]:
        """All lines of these peers that are parked, taken out."""
        return list(self.room.unpark(peers))

    def is_last(self, peers: Peers) -> bool:
        """Whether these peers alone have lines left."""
        return self.remaining() == [peers]

    def remaining(self) -> list[Peers]:
        """The peers that have lines left, as far as the source was read."""
        return [peers for peers in self._all.values() if peers.left or self.room.has_later(peers)]

    @property
    def is_stuck(self) -> bool:
        """Whether nothing but probes can be sent."""
        remaining = self.remaining()
        return bool(remaining) and all(peers.breaker.is_open for peers in remaining)

    @property
    def can_read_no_more(self) -> bool:
        """Whether the source has ended, or no line of it could go."""
        return self.is_read or not self._may_read()

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
        elif self.is_read and not self.room.has_later(peers) and not peers.in_flight:
            parked, last_tries = peers in self.room.parked, peers in self.room.last_tries
            if peers.left == self.room.stuck(peers) and parked:
                yield Step.EVIDENCE, peers.control_due()
            elif peers.left == self.room.stuck(peers) and last_tries:
                yield Step.LAST_TRY, peers.alone_at(now)

    def _judged(self, case: Case, peers: Peers, now: float) -> Next | None:
        """Judge a line that is due: it is sent or recorded, or parked (None)."""
        standing = peers.standing(case, now)
        if standing is Standing.AT_FAULT and case.last is not None:
            return Next(case, peers, at_fault=True)
        if standing in (Standing.AGAIN, Standing.AT_FAULT) and peers.breaker.may_pass(now):
            return Next(case, peers)
        if self.room.size > self._capacity() and self.room.stuck(peers):
            self._put_off(case, peers)
        else:
            self.room.park(case, peers, last_try=standing is Standing.LAST_TRY)
        return None

    def _put_off(self, case: Case, peers: Peers) -> None:
        """Keep only the number of a line."""
        assert case.line is not None, "it is in memory"
        self._bytes.remove(len(case.line.body))
        self.room.put_off(case, peers)

    def _may_read(self) -> bool:
        """Whether there is room for another line, or another kind of line may pass those that wait."""
        if self._bytes.is_full:
            return False
        if self.room.size < self._capacity():
            return True
        closed = sum(not peers.breaker.is_open for peers in self._all.values())
        return closed > 0 or len(self._all) < self._kinds

    def _has_later(self) -> bool:
        """Whether lines that were kept as numbers may be read again now."""
        if self.room.size > self._capacity() // 2:
            return False
        return any(self.room.has_later(peers) and not peers.breaker.is_open for peers in self._all.values())

    def _read_later(self) -> bool:
        """Begin to read lines again that were kept as numbers; False if there is none."""
        if not self._has_later():
            return False
        self._source.again(self.room.take_later())
        self.is_read = False
        return True
