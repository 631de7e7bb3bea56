"""The lines that wait without a worker: for their lane, in a backoff, in an outage, in doubt, or for a last try.

A few are kept in memory. All others are kept as numbers, by their peers, and are read again when those can go: so any
number of lines that cannot go leaves slots and memory as they are.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator

from batchrun.engine.attribution import Peers
from batchrun.engine.case import Case
from batchrun.engine.routing import Queue
from batchrun.records.index import LineSet


class WaitingRoom:
    """Holds cases. `size` counts those in memory."""

    def __init__(self) -> None:
        self.size = 0
        self.ready: dict[Queue | Peers, deque[Case]] = {}  # until there is room for them, or at the peers they are for
        self.parked: dict[Queue, deque[Case]] = {}  # until their peers, the control or a probe say more
        self.last_tries: dict[Queue, deque[Case]] = {}
        self._due: list[tuple[float, int, Case]] = []
        self.later: dict[Queue, LineSet] = {}  # kept as numbers
        self._kept: dict[int, Case] = {}  # what has become of the lines that are kept as numbers
        self._order = 0

    def __bool__(self) -> bool:
        return bool(self.size or self.later)

    # ---------------------------------------------------------------------------------------- in memory

    def put(self, case: Case) -> None:
        """Let a line wait until it is due."""
        self._order += 1
        self.size += 1
        heapq.heappush(self._due, (case.due, self._order, case))

    def make_ready(self, case: Case, place: Queue | Peers) -> None:
        """Let a line wait until there is room, for any line of its queue or at these peers."""
        self.size += 1
        self.ready.setdefault(place, deque()).append(case)

    def take_ready(self, place: Queue | Peers) -> Case:
        """The first line that waits for room there; the other places are then before it."""
        cases = self.ready.pop(place)
        case = cases.popleft()
        if cases:
            self.ready[place] = cases
        self.size -= 1
        return case

    def may_go(self, place: Queue | Peers, now: float) -> bool:
        """Whether the first line that waits for room there need not wait: it could go, or nothing is open for it."""
        if not isinstance(place, Queue):
            return place.has_room(now)
        peers, has_room = place.route(self.ready[place][0], now)
        return has_room or peers is None

    def unready(self, place: Queue | Peers) -> None:
        """Those that wait for room there are due now: they are to be judged again."""
        cases = self.ready.pop(place, ())
        self.size -= len(cases)
        for case in cases:
            self.put(case)

    @property
    def next_due(self) -> float:
        """When the next line is due."""
        return self._due[0][0] if self._due else math.inf

    def take(self, now: float) -> Case | None:
        """The next line that is due."""
        if not self._due or self._due[0][0] > now:
            return None
        self.size -= 1
        return heapq.heappop(self._due)[2]

    def end_waits(self, now: float, most_throttles: int) -> None:
        """Lines that were throttled no more often than that are due: the wait that was asked for is not needed."""
        for case in (*(case for _, _, case in self._due), *self._kept.values()):
            if 0 < case.throttles <= most_throttles:
                case.due = min(case.due, now)
        self._due = [(case.due, order, case) for _, order, case in self._due]
        heapq.heapify(self._due)

    def park(self, case: Case, *, last_try: bool = False) -> None:
        """Let a line wait until something speaks for or against it."""
        self.size += 1
        (self.last_tries if last_try else self.parked).setdefault(case.queue, deque()).append(case)

    def unpark(self, queue: Queue, *, last_try: bool = False) -> Iterator[Case]:
        """Take out the lines that are parked, one after the other."""
        place = self.last_tries if last_try else self.parked
        for case in place.pop(queue, ()):
            self.size -= 1
            yield case

    def unpark_one(self, queue: Queue, *, last_try: bool = False, newest: bool = False) -> Case:
        """Take out the line that was parked first, or last."""
        place = self.last_tries if last_try else self.parked
        case = place[queue].pop() if newest else place[queue].popleft()
        if not place[queue]:
            del place[queue]
        self.size -= 1
        return case

    def stuck(self, queue: Queue) -> int:
        """How many of these lines are parked or wait for a last try."""
        return len(self.parked.get(queue, ())) + len(self.last_tries.get(queue, ()))

    # --------------------------------------------------------------------------------------- as numbers

    def put_off(self, case: Case) -> None:
        """Keep only the number of a line."""
        self.later.setdefault(case.queue, LineSet()).add(case.number)
        if case.attempts:
            case.line = case.last = None
            self._kept[case.number] = case
        else:
            case.queue.left -= 1  # it comes back as if it had never been read

    def back(self, number: int) -> Case | None:
        """What has become of a line that is read again; None if nothing has."""
        return self._kept.pop(number, None)

    def take_later(self, queue: Queue) -> LineSet:
        """The numbers of these lines, which are read again now."""
        return self.later.pop(queue)

    def undone(self, queue: Queue) -> int:
        """How many of these lines wait, in memory or as numbers."""
        due = sum(case.queue is queue for _, _, case in self._due)
        ready = sum(case.queue is queue for cases in self.ready.values() for case in cases)
        return due + ready + self.stuck(queue) + len(self.later.get(queue, ()))
