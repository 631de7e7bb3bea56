"""The lines that wait without a worker: for their lane, in a backoff, in an outage, in doubt, or for a last try.

A few are kept in memory. All others are kept as numbers, by their peers, and are read again when those can go: so any
number of lines that cannot go leaves slots and memory as they are.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator

from batchrun.engine.attribution import Case, Peers
from batchrun.records.index import LineSet


class WaitingRoom:
    """Holds cases. `size` counts those in memory."""

    def __init__(self) -> None:
        self.size = 0
        self.ready: dict[Peers, deque[Case]] = {}  # until their lane has room
        self.parked: dict[Peers, deque[Case]] = {}  # until their peers, the control or a probe say more
        self.last_tries: dict[Peers, deque[Case]] = {}
        self._due: list[tuple[float, int, Case, Peers]] = []
        self.later: dict[Peers, LineSet] = {}  # kept as numbers
        self._kept: dict[int, Case] = {}  # what has become of the lines that are kept as numbers
        self._order = 0

    def __bool__(self) -> bool:
        return bool(self.size or self.later)

    # ---------------------------------------------------------------------------------------- in memory

    def put(self, case: Case, peers: Peers) -> None:
        """Let a line wait until it is due."""
        self._order += 1
        self.size += 1
        heapq.heappush(self._due, (case.due, self._order, case, peers))

    def make_ready(self, case: Case, peers: Peers) -> None:
        """Let a line wait until its lane has room."""
        self.size += 1
        self.ready.setdefault(peers, deque()).append(case)

    def take_ready(self, peers: Peers) -> Case:
        """The first line of these peers that waits for room; the other peers are then before them."""
        cases = self.ready.pop(peers)
        case = cases.popleft()
        if cases:
            self.ready[peers] = cases
        self.size -= 1
        return case

    @property
    def next_due(self) -> float:
        """When the next line is due."""
        return self._due[0][0] if self._due else math.inf

    def take(self, now: float) -> tuple[Case, Peers] | None:
        """The next line that is due."""
        if not self._due or self._due[0][0] > now:
            return None
        _, _, case, peers = heapq.heappop(self._due)
        self.size -= 1
        return case, peers

    def end_waits(self, now: float, most_throttles: int) -> None:
        """Lines that were throttled no more often than that are due: the wait that was asked for is not needed."""
        for case in (*(case for _, _, case, _ in self._due), *self._kept.values()):
            if 0 < case.throttles <= most_throttles:
                case.due = min(case.due, now)
        self._due = [(case.due, order, case, peers) for _, order, case, peers in self._due]
        heapq.heapify(self._due)

    def park(self, case: Case, peers: Peers, *, last_try: bool = False) -> None:
        """Let a line wait until something speaks for or against it."""
        self.size += 1
        (self.last_tries if last_try else self.parked).setdefault(peers, deque()).append(case)

    def unpark(self, peers: Peers, *, last_try: bool = False) -> Iterator[Case]:
        """Take out the lines that are parked, one after the other."""
        place = self.last_tries if last_try else self.parked
        for case in place.pop(peers, ()):
            self.size -= 1
            yield case

    def unpark_one(self, peers: Peers, *, last_try: bool = False, newest: bool = False) -> Case:
        """Take out the line that was parked first, or last."""
        place = self.last_tries if last_try else self.parked
        case = place[peers].pop() if newest else place[peers].popleft()
        if not place[peers]:
            del place[peers]
        self.size -= 1
        return case

    def stuck(self, peers: Peers) -> int:
        """How many lines of these peers are parked or wait for a last try."""
        return len(self.parked.get(peers, ())) + len(self.last_tries.get(peers, ()))

    # --------------------------------------------------------------------------------------- as numbers

    def put_off(self, case: Case, peers: Peers) -> None:
        """Keep only the number of a line."""
        self.later.setdefault(peers, LineSet()).add(case.number)
        if case.attempts:
            case.line = case.last = None
            self._kept[case.number] = case
        else:
            peers.left -= 1  # it comes back as if it had never been read

    def back(self, number: int) -> Case | None:
        """What has become of a line that is read again; None if nothing has."""
        return self._kept.pop(number, None)

    def take_later(self, peers: Peers) -> LineSet:
        """The numbers of these peers, which are read again now."""
        return self.later.pop(peers)

    def undone(self, peers: Peers) -> int:
        """How many lines of these peers wait, in memory or as numbers."""
        due = sum(other is peers for _, _, _, other in self._due)
        return due + len(self.ready.get(peers, ())) + self.stuck(peers) + len(self.later.get(peers, ()))
