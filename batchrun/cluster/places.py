"""Requests in flight, shared over shards by what they want. Pure.

1. Each shard gets what it wants, or, where all want more, the same as the others.
2. What cannot be divided goes round: with 40 places for 256 shards, each has one for a while.
3. A shard has what it may still hold, or has in flight, until it reports less: only what is given back is granted anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from batchrun.cluster.minute import fair_level


class Seat:
    """What one shard has of the places: `granted` by its last lease, `most` that it may still hold by any of them.

    `in_flight` is what it last told, `usual` what it uses at most, `demand` what it wants, `target` its fair share, and
    `charged` what of the places is not free because of it.
    """

    __slots__ = ("charged", "demand", "granted", "in_flight", "most", "target", "usual")

    def __init__(self) -> None:
        self.in_flight = self.most = self.granted = self.charged = self.target = 0
        self.demand = math.inf
        self.usual = 0.0


class Places:
    """So many requests may be in flight, over all shards."""

    TURN_S = 600.0  # in which what cannot be divided goes round once: each time that it moves, some of it is unused
    KEEP = 0.98  # of what it used before, by the beat: a pause does not mean that it wants less
    MORE, LEAST = 1.25, 1  # of what a shard uses, which it may have where it does not use all

    def __init__(self, total: int) -> None:
        self.total = total
        self.charged = 0

    def leave(self, seat: Seat) -> None:
        """It may have nothing in flight any more."""
        self.charged -= seat.charged
        seat.charged = seat.most = seat.in_flight = 0

    def hear(self, seat: Seat, in_flight: int, peak: int, left: int, held: int | None) -> None:
        """A shard tells what is in flight; it may have `held` at once by its lease, None if nobody knows."""
        if held is not None:
            seat.most = held
        seat.in_flight = in_flight
        self._charge(seat)
        is_hungry = peak >= seat.most
        seat.usual = max(peak, self.KEEP * seat.usual)
        seat.demand = min(left, math.inf if is_hungry else self.MORE * seat.usual + self.LEAST)

    def grant(self, seat: Seat, *, is_paused: bool = False) -> int:
        """What a shard may have in flight from now on."""
        free = max(self.total - self.charged + seat.charged, seat.charged)  # what it has may stay where all have less
        slots = seat.granted = 0 if is_paused else min(seat.target, free)
        if slots > seat.most:
            seat.most = slots
            self._charge(seat)
        return slots

    def share(self, seats: Sequence[Seat], now: float) -> None:
        """Find out the fair share of each."""
        level = fair_level(self.total, [seat.demand for seat in seats])
        if level == math.inf:
            for seat in seats:
                seat.target = math.ceil(seat.demand)
            return
        wanting = sum(seat.demand > level for seat in seats)
        turn, rank = now / self.TURN_S, 0
        for seat in seats:
            if seat.demand <= level:
                seat.target = math.ceil(seat.demand)
                continue
            seat.target = int(min(seat.demand, math.floor(level + (rank / wanting + turn) % 1.0)))
            rank += 1

    def _charge(self, seat: Seat) -> None:
        charged = max(seat.in_flight, seat.most)
        self.charged += charged - seat.charged
        seat.charged = charged
