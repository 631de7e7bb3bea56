"""The sending of a job on a cluster: starts its shards, keeps the coordinator in the know, shows how all of them go.

1. All shards are given to Ray at once, which runs as many as there is room for, and starts anew those whose worker
   dies. A shard whose lock another worker still has is started again here.
2. Where one shard stops for a reason that concerns all, all stop.
3. The coordinator keeps nothing. Whenever another one answers, it is told again what only the driver knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from batchrun.billing.exposure import bound
from batchrun.cluster.desk import Heard, Held, Seen
from batchrun.cluster.progress import Board
from batchrun.cluster.ray_cluster import RayCluster
from batchrun.cluster.secrets import Secrets
from batchrun.cluster.shard import Busy, NotBegun, Order, Refused, ShardEnd, Task
from batchrun.cluster.share import lifetime_s
from batchrun.cluster.tuning import Limited
from batchrun.engine.observer import Observer
from batchrun.errors import BatchrunError, StopError
from batchrun.records.money import total_usd

LOOK_EVERY_S = 0.25
BUSY_S = 1.0  # until a shard that another worker still has is started again
GIVE_UP_BUSY_S = 300.0
LEAVE_AT_ONCE_S = 10.0
LISTEN_EVERY_S = 1.0
MINUTE_S = 61.0


@dataclass(frozen=True, slots=True)
class Before:
    """What is known of shards that earlier runs began: which may still hold a lease, or have spent nobody knows what
    (`known`); what the files of the others say (`heard`); for how many seconds no run log was written to."""

    known: frozenset[int]
    heard: Mapping[int, Heard]
    quiet_s: float


class Sending:
    """Sends what is left of a job. `ends`: how its shards ended, by number. `order`: why it stops, if it does.

    `read(number)`: what the files of a shard say, and whether a worker has it.
    """

    def __init__(
        self,
        cluster: RayCluster,
        tasks: Sequence[Task],
        secrets: tuple[Secrets, ...],
        limited: Limited,
        board: Board,
        observer: Observer,
        before: Before,
        read: Callable[[int], tuple[Heard, bool]],
    ) -> None:
        self.ends: dict[int, ShardEnd] = {}
        self.order = Order()
        self._cluster, self._tasks, self._secrets = cluster, tasks, secrets
        self._limited, self._board, self._observer, self._before = limited, board, observer, before
        self._read, self._listen_at, self._unheard_at = read, 0.0, 0.0
        self._running: dict[object, int] = {}
        self._waiting: dict[int, float] = {}  # until when, by number
        self._moved_at = time.monotonic()
        self._begun = set(before.known)
        self._heard = dict(before.heard)
        self._ended_at: dict[int, float] = {}
        self._epoch = time.time_ns() // 1_000_000  # greater than that of an earlier driver
        self._held: Held | None = None
        self._incarnation = ""
        self._leave_at: float | None = None

    def stop(self, why: str, exit_code: int) -> None:
        """Stop all shards: what is in flight may finish within the grace time. Once more, they stop at once."""
        if not self.order.stop:
            self.order = Order(why, exit_code)
            self._observer.notice(f"stopping: {why}")
        elif not self.order.at_once:
            self.order = replace(self.order, at_once=True)
            self._leave_at = time.monotonic() + LEAVE_AT_ONCE_S

    def run(self, beside: Callable[[], None]) -> None:
        """Run all shards to their ends. `beside` is called a few times a second."""
        self._cluster.open_desk()
        for task in self._tasks:
            if task.job.limit != 0:
                self._start(task.number)
        known: list[int] = []
        while self._running or self._waiting:
            if self._leave_at is not None and time.monotonic() > self._leave_at:
                return
            self._collect()
            self._start_again()
            if (seen := self._cluster.look(known)) is not None:
                known = seen.begun
                self._take_note(seen)
            beside()

    def _start(self, number: int) -> None:
        self._running[self._cluster.start(self._tasks[number])] = number

    def _collect(self) -> None:
        """Take note of the shards that have ended; wait for one for a moment."""
        if not self._running:
            time.sleep(LOOK_EVERY_S)
        for one in self._cluster.ended(list(self._running), LOOK_EVERY_S):
            number = self._running.pop(one)
            try:
                end = self._cluster.result(one)
            except BatchrunError as error:
                end = Refused(number, str(error), error.exit_code)
            if isinstance(end, Busy):
                self._waiting[number] = time.monotonic() + BUSY_S
                self._board.busy(number)
                continue
            self._moved_at = time.monotonic()
            self._ended(number, end)

    def _ended(self, number: int, end: ShardEnd | Refused | NotBegun) -> None:
        self._begun.discard(number)
        if isinstance(end, ShardEnd):
            self.ends[number] = end
            self._board.set_end(number, end)
            self._ended_at[number] = time.monotonic()
            self._heard[number] = Heard(spent_usd(end), (), self._ended_at[number])
            if end.ended.stopped is not None and not self.order.stop:
                self.stop(end.ended.stopped.why, end.ended.stopped.exit_code)
        elif isinstance(end, Refused) and not self.order.stop:
            self.stop(end.why, end.exit_code)

    def _start_again(self) -> None:
        """Start the shards again whose lock another worker had; give up where nothing moves."""
        now = time.monotonic()
        for number in [number for number, at in self._waiting.items() if at <= now or self.order.stop]:
            del self._waiting[number]
            if not self.order.stop:
                self._start(number)
        if self._waiting and not self._running and now - self._moved_at > GIVE_UP_BUSY_S:
            numbers = ", ".join(map(str, list(self._waiting)[:3]))
            why = f"another process has shard {numbers} and does not end; end it, and run the same command again"
            self.stop(why, StopError.exit_code)

    def _take_note(self, seen: Seen) -> None:
        """Show what the coordinator has heard, and tell it what has changed."""
        self._begun.update(number for number in seen.begun if number not in self.ends)
        if seen.incarnation != self._incarnation:
            self._incarnation, self._held, self._epoch = seen.incarnation, None, self._epoch + 1
            self._listen_anew()
        self._listen(seen.unheard)
        held = self._now_held()
        if held != self._held and self._cluster.hold(held):
            self._held = held
        for number, text, is_detail in seen.notices:
            if self._board.is_new(text):
                tell = self._observer.detail if is_detail else self._observer.notice
                tell(f"shard {number}: {text}")
        self._observer.tick(self._board.status(seen.statuses, is_stopping=bool(self.order.stop)))

    def _listen_anew(self) -> None:
        """Another coordinator begins: it does not know what shards sent that ended within the last minute."""
        now = time.monotonic()
        for number in [number for number, at in self._ended_at.items() if now - at < MINUTE_S]:
            self._heard[number] = self._heard[number]._replace(recent=self._read(number)[0].recent, at=now)
        # From then on the leases of an earlier one have run out: the log of a shard that is silent is final.
        self._unheard_at = now + 2 * lifetime_s(len(self._begun))

    def _listen(self, unheard: Sequence[int]) -> None:
        """Read what shards have spent that nobody runs now: a worker that died may wait for room for a long time."""
        now = time.monotonic()
        if not unheard or now < self._listen_at:
            return
        for number in unheard:
            heard, is_running = self._read(number)
            if not is_running or now > self._unheard_at:
                self._heard[number] = heard
        self._listen_at = time.monotonic() + LISTEN_EVERY_S

    def _now_held(self) -> Held:
        is_first = self._epoch_is_first
        return Held(
            self._secrets,
            self.order,
            self._limited.promised,
            self._limited.is_paused,
            self._epoch,
            frozenset(self._begun) if self._held is None else self._held.known,
            self._before.quiet_s if is_first else 0.0,
            dict(self._heard),
            time.monotonic(),
        )

    @property
    def _epoch_is_first(self) -> bool:
        """Whether no shard of this run can have a lease yet."""
        return self._begun <= self._before.known and not self.ends


def spent_usd(end: ShardEnd) -> Decimal:
    """What a shard has spent at worst, in US dollars."""
    tally, ended, earlier = end.tally, end.ended, end.earlier
    lost = bound(ended.unanswered, tally.book, tally.longest_answer, tally.books)
    billed = (earlier.billed_twice.upper_usd, earlier.unbilled_usd, ended.unbilled_usd, lost.upper_usd)
    return total_usd((tally.cost_usd(), *billed))
