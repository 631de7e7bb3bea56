"""Which line is sent next, and what is done where none can be: read from the source, wait, probe, control, last try.

A line that cannot go now waits in `waiting.py`, so a worker never holds one. `attribution.py` judges it when it is due.
A lane without room (`limits/lanes.py`) holds up no other: its lines wait, and the source is read on. Where there are
several endpoints, `routing.py` says which of them a line goes to.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from batchrun.engine.attribution import Peers
from batchrun.engine.case import Case, Standing
from batchrun.engine.queues import Queues
from batchrun.engine.reask import Reask
from batchrun.engine.routing import Due, Queue, Step
from batchrun.engine.source import LineSource
from batchrun.engine.waiting import WaitingRoom
from batchrun.limits.endpoint_limits import EndpointLimits
from batchrun.limits.in_flight import InFlightBytes
from batchrun.records.request import RequestLine
from batchrun.transport.yielding import yield_to_loop

READ_AT_ONCE = 256  # lines of lanes without room, before others get a turn


class Next(msgspec.Struct, frozen=True, gc=False):
    """A line and its peers: to be sent by `limits`, or, where these are None, to be recorded with its last failure."""

    case: Case
    peers: Peers
    limits: EndpointLimits | None


class Dispatcher:
    """Gives out the lines of `source`, one to each worker that asks.

    `capacity()`: how many waiting lines may be in memory. `held` counts the bytes of the lines. `reask` knows what
    earlier runs got for lines that are to be asked again; such a line stays in memory. Each line that `next` gives for
    sending is ended by `ended`.
    """

    def __init__(
        self,
        source: LineSource,
        queues: Queues,
        clock: Callable[[], float],
        capacity: Callable[[], int],
        held: InFlightBytes,
        reask: Reask | None = None,
    ) -> None:
        self.room = WaitingRoom()
        self.is_read = False  # to its end
        self._source = source
        self.queues = queues
        self._clock = clock
        self._capacity = capacity
        self._bytes = held
        self._reask = reask
        self.gateways, self._only, self._shares = queues.gateways, queues.only, queues.gateways[0].shares
        self._released: deque[tuple[Case, Peers]] = deque()
        self._roomy: Queue | None = None  # had room when it was last looked for: others are looked at only after it
        self._again: dict[Queue, LineSource] = {}  # of lines that were kept as numbers
        self._again_left: dict[Queue, int] = {}  # of them
        self._was_throttled = False  # the last line that waited: an unread one follows it, so that others can speak

    # ------------------------------------------------------------------------------------ for the workers

    @property
    def is_full(self) -> bool:
        """Whether no worker would find a line, because those that there are have as many as the job may send."""
        return self._only is None and not (self._shares.has_room or self._released or self.room.ready)

    def places(self) -> int:
        """How many workers would find a line now, at the most; one starts the next where that is not known."""
        now = self._clock()
        if self._can_read(now):
            return sum(
                limits.controller.slots - limits.taken
                for gateway in self.gateways
                for limits in gateway.limiter.lanes.limits
                if limits.has_room
            )
        has_due = self.room.next_due <= now and self._has_any_room(now)
        return int(has_due or bool(self._released) or any(self.room.may_go(place, now) for place in self.room.ready))

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
            if self.room.size and (waited := self._waited(now)) is not None:
                return waited
            if not self._may_read(now):
                return None
            again = self._readable_again(now) if self._again or self.room.later else None
            if self.is_read and again is None:
                return None
            self._was_throttled = False
            if again is not None:
                line = await self._read_again(again)
            else:
                line = await self._source.next()
                self.is_read = line is None
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
            if self._only is None:
                one.peers.gateway.ended(one.peers, one.case)

    def set_aside(self, case: Case, due: float) -> None:
        """Let a line wait; if memory is full, keep its number only."""
        case.due = due
        if self.room.size > self._capacity() and case.asked is None:
            self._put_off(case)
        else:
            self.room.put(case)

    def wait_for_room(self, case: Case, place: Queue | Peers | None = None) -> None:
        """Let a line wait until there is room for it, at these peers or for any line of its queue."""
        if self._is_crowded and case.asked is None:
            self._put_off(case)
        else:
            self.room.make_ready(case, place or case.queue)

    def back(self, case: Case) -> None:
        """Take back a line that was not sent, because the breaker opened meanwhile."""
        self.room.park(case)

    def news(self, peers: Peers) -> None:
        """Something was found out: judge the lines again that are parked, or wait for a model that there is not."""
        for queue in [queue for queue in self.room.parked if peers in queue.routes]:
            for case in self.room.unpark(queue):
                self.room.put(case)
        for queue in [queue for queue in self.queues if peers in queue.routes and queue.missing is not None]:
            self.room.unready(queue)

    # -------------------------------------------------------------------------------- for lines that are stuck

    def __iter__(self) -> Iterator[Peers]:
        return iter(self.queues.peers.values())

    def steps(self, now: float) -> list[Due]:
        """What may be done now for lines that are stuck."""
        return [due for queue in self.queues for due in self._steps(queue, now) if due.at <= now]

    def next_at(self, now: float) -> float:
        """When the next line is due, if there is room for it, or a lane that is held, or the next step."""
        times = [due.at for queue in self.queues for due in self._steps(queue, now)]
        for gateway in self.gateways:
            times += [lane.held_until for lane in gateway.limiter.lanes if lane.held_until > now]
            if self._only is None:
                times += gateway.pauses(now)
        if self._only is None:
            times += [at for queue in self.left() for at in queue.probe_times(now)]
        if self._has_any_room(now):
            times.append(self.room.next_due)
        return min(times, default=math.inf)

    def all_closed(self) -> dict[Queue, int]:
        """The queues that have lines left, and how many, if these can go nowhere in this run; else none."""
        if self._released or not self.can_read_no_more or self.remaining():
            return {}
        return {queue: self.room.undone(queue) + self._again_left.get(queue, 0) for queue in self.left()}

    def left(self) -> list[Queue]:
        """The queues that have lines left, as far as the source was read."""
        return [queue for queue in self.queues if queue.left or self._has_unread(queue)]

    def release(self, due: Due) -> bool:
        """Send one line that is stuck, as a probe or for its last try; False if there is none.

        Every other probe is the line that was parked last: one that has failed before, where each line fails at first,
        and another one where a line always fails.
        """
        last_try = due.step is Step.LAST_TRY
        if due.step is Step.PROBE and any(peers.speaks_for(due.peers) for _, peers in self._released):
            return False  # lines of another queue find it out
        if due.queue not in (self.room.last_tries if last_try else self.room.parked):
            return False
        newest = not last_try and due.peers.breaker.failed_probes % 2 == 1
        case = self.room.unpark_one(due.queue, last_try=last_try, newest=newest)
        case.is_last_try = last_try
        self._released.append((case, due.peers))
        return True

    def stuck(self, queue: Queue) -> list[Case]:
        """All of these lines that are parked, taken out."""
        return list(self.room.unpark(queue))

    def is_last(self, queue: Queue) -> bool:
        """Whether these lines alone are left."""
        return self.remaining() == [queue]

    def remaining(self) -> list[Queue]:
        """Those that can go somewhere."""
        return [queue for queue in self.left() if not queue.is_closed]

    def note_last_model(self) -> None:
        """Once all lines that are left ask for one model, there is nothing any more to tell its limits from."""
        models = {queue.model for queue in self.remaining() if queue.missing is None} if self.is_read else set()
        if len(models) == 1:
            for gateway in self.gateways:
                (gateway.limiter.lanes.last_model,) = models

    @property
    def are_all_stuck(self) -> bool:
        """Whether all lines that are left wait for what a probe, a control or a last try says."""
        return self.can_read_no_more and all(
            queue.left == self.room.stuck(queue) and not queue.in_flight for queue in self.remaining()
        )

    @property
    def is_stuck(self) -> bool:
        """Whether nothing but probes can be sent."""
        remaining = self.remaining()
        return bool(remaining) and all(queue.is_away for queue in remaining)

    @property
    def can_read_no_more(self) -> bool:
        """Whether the source has ended, or no line of it could go."""
        return self.is_read or not self._may_read(self._clock())

    # ------------------------------------------------------------------------------------------ inside

    def has_lower_tier(self, peers: Peers) -> bool:
        """Whether lines for these peers go elsewhere, because an endpoint of a lower tier is open."""
        tier = peers.gateway.tier
        return any(
            other.is_open and other.gateway.tier < tier
            for queue in self.queues
            if peers in queue.routes
            for other in queue.routes
        )

    def _steps(self, queue: Queue, now: float) -> Iterator[Due]:
        """The next steps for these lines, and when."""
        if not queue.left or self._released:
            return
        is_parked = queue in self.room.parked
        if queue.is_away:
            for peers in queue.routes:
                if is_parked:
                    yield Due(Step.PROBE, queue, peers, peers.probe_at)
                elif peers.has_control and peers.breaker.is_open:
                    yield Due(Step.PROBE, queue, peers, max(peers.probe_at, peers.control_due()))
        elif self.is_read and not self._has_unread(queue) and not queue.in_flight:
            if queue.left != self.room.stuck(queue):
                return
            peers = queue.spokesman(self.room.parked[queue][0] if is_parked else None)
            if is_parked:
                yield Due(Step.EVIDENCE, queue, peers, peers.control_due())
            elif queue in self.room.last_tries:
                yield Due(Step.LAST_TRY, queue, peers, max(one.alone_at(now) for one in queue.routes))

    def _waited(self, now: float) -> Next | None:
        """A line that has waited and may go now."""
        if self._was_throttled and self._may_read(now) and not self.is_read:
            return None
        while (due := self.room.take(now)) is not None:
            if (following := self._judged(due, now)) is not None:
                self._was_throttled = following.case.throttles > 0
                return following
        place = next((place for place in self.room.ready if self.room.may_go(place, now)), None)
        return None if place is None else self._judged(self.room.take_ready(place), now)

    async def _read_again(self, queue: Queue) -> RequestLine | None:
        """The next line of those that were kept as numbers. None where there are no more."""
        source = self._again.get(queue)
        if source is None:
            numbers = self.room.take_later(queue)
            source = self._again[queue] = self._source.again(numbers)
            self._again_left[queue] = len(numbers)
        line = await source.next()
        self._again_left[queue] -= line is not None
        if line is None and self._again.get(queue) is source:
            del self._again[queue]
        return line

    def _taken_up(self, line: RequestLine, now: float) -> Next | None:
        """A line that was just read: it is sent, or waits (None)."""
        self._bytes.add(len(line.body))
        case = self.room.back(line.line_number)
        if case is None:
            case = Case(line.line_number, line, self.queues.of(line))
            case.queue.left += 1
            if self._reask is not None and self._reask.take_up(case, self._bytes):
                return Next(case, case.queue.routes[0], None)
        case.line = line
        if case.due > now:
            self.room.put(case)
            return None
        return self._judged(case, now)

    def _given(self, case: Case, peers: Peers) -> Next:
        """A line for a worker."""
        peers.lane.taken += 1
        peers.lane.limits.taken += 1
        if self._only is None:
            case.go(peers)
            peers.gateway.given(peers, case)
        return Next(case, peers, peers.lane.limits)

    def _judged(self, case: Case, now: float) -> Next | None:
        """Judge a line that is due: it is sent or recorded, or waits (None)."""
        queue = case.queue
        if (missing := queue.missing) is not None:
            case.last = missing
            return Next(case, queue.routes[-1], None)
        standing = queue.standing(case, now) if case.attempts else Standing.AGAIN
        if standing is Standing.AT_FAULT and case.last is not None:
            return Next(case, case.peers or queue.routes[0], None)
        if standing in (Standing.AGAIN, Standing.AT_FAULT):
            peers, has_room = queue.route(case, now)
            if peers is not None and has_room:
                return self._given(case, peers)
            if peers is not None:
                return self._waiting_or_elsewhere(case, peers, now)
        if self.room.size > self._capacity() and self.room.stuck(queue) and case.asked is None:
            self._put_off(case)
        else:
            self.room.park(case, last_try=standing is Standing.LAST_TRY)
        return None

    def _waiting_or_elsewhere(self, case: Case, peers: Peers, now: float) -> Next | None:
        """Let a line wait, one that was sent or moved for room at just these peers; send it where it cannot wait."""
        if self._only is None and self._is_crowded and (other := case.queue.any_room(case, now)) is not None:
            return self._given(case, other)
        is_bound = self._only is None and (case.peers is not None or case.queue.home not in (None, peers.gateway))
        self.wait_for_room(case, peers if is_bound else None)
        return None

    def _put_off(self, case: Case) -> None:
        """Keep only the number of a line."""
        assert case.line is not None, "it is in memory"
        self._bytes.remove(len(case.line.body))
        self.room.put_off(case)

    @property
    def _is_crowded(self) -> bool:
        """Whether no further line may wait in memory."""
        return self.room.size > self._capacity() or self._bytes.is_full

    def _has_any_room(self, now: float) -> bool:
        return any(queue.has_room(now) or queue.missing is not None for queue in self.queues)

    def _can_read(self, now: float) -> bool:
        """Whether there is an unread line, or one that is kept as a number, and a lane with room for it."""
        return self._may_read(now) and (not self.is_read or self._readable_again(now) is not None)

    def _may_read(self, now: float) -> bool:
        """Whether there is room for a line that is read now."""
        if self._bytes.is_full or (self._only is None and not self._shares.has_room):
            return False
        if self._roomy is not None and self._roomy.may_go(now):
            return True
        for queue in self.queues:
            if queue.has_room(now) and (not queue.is_away or self.room.size < self._capacity()):
                self._roomy = queue
                return True
        return self.queues.has_room_for_others(now) or self._reads_what_is_not_sent()

    def _reads_what_is_not_sent(self) -> bool:
        """Whether lines are read although none can go: those of a missing model are recorded, others are counted."""
        if any(queue.missing is not None for queue in (*self._again, *self.room.later)):
            return True
        can_none_go = all(queue.missing is not None or queue.is_spent for queue in self.queues)
        return not self.is_read and can_none_go and bool(self.queues.all)

    def _has_unread(self, queue: Queue) -> bool:
        """Whether some of these lines are kept as numbers."""
        return queue in self._again or queue in self.room.later

    def _readable_again(self, now: float) -> Queue | None:
        """A queue that may go, of which lines are kept as numbers."""
        for queue in (*self._again, *self.room.later):
            if queue.missing is not None or (queue.may_go(now, may_probe=False) and queue not in self.room.ready):
                return queue
        return None
