"""How far all shards are, as one status. Pure but for the clock."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal

from batchrun.billing.tally import Tally
from batchrun.cluster.shard import ShardEnd
from batchrun.engine.observer import Status
from batchrun.job.eta import Eta
from batchrun.limits.limited_by import LimitedBy
from batchrun.records.money import NOTHING, total_usd

MOST_TOLD = 1000


class Board:
    """The shards of a job, of which `lines` will have a record in the end. `last`: the latest status."""

    def __init__(self, lines: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.lines = lines
        self._clock, self._start = clock, clock()
        self._done: dict[int, int] = {}
        self._before: dict[int, int] = {}
        self._failed: dict[int, int] = {}
        self._cost: dict[int, Decimal] = {}
        self._recorded: dict[int, int] = {}
        self._tokens: dict[int, int] = {}
        self._live: dict[int, Status] = {}
        self._ended = set[int]()
        self._told: set[str] = set()
        self._eta = Eta()
        self.last = self.status({}, is_stopping=False)

    def set_earlier(self, number: int, tally: Tally) -> None:
        """A shard has records of earlier runs."""
        self._done[number], self._failed[number] = tally.recorded, tally.failed
        self._cost[number] = tally.cost_usd()

    def set_end(self, number: int, end: ShardEnd) -> None:
        """A shard has ended."""
        self._live.pop(number, None)
        self._ended.add(number)
        self._done[number], self._failed[number] = end.done + end.ended.recorded, end.tally.failed
        self._cost[number], self._recorded[number] = end.tally.cost_usd(), end.ended.recorded

    def busy(self, number: int) -> None:
        """Another worker has a shard."""
        self._live.pop(number, None)

    def is_new(self, text: str) -> bool:
        """Whether a line for the screen was not told yet; after the first thousand, none is."""
        if text in self._told or len(self._told) >= MOST_TOLD:
            return False
        self._told.add(text)
        return True

    def status(self, told: Mapping[int, Status], *, is_stopping: bool) -> Status:
        """The status of the job, after what shards have told since the last call."""
        for number, one in told.items():
            if number in self._ended:  # told before it ended, and heard of after that
                continue
            self._live[number] = one
            self._done[number], self._failed[number] = one.done, one.failed
            self._cost[number], self._recorded[number] = one.cost_usd, one.recorded_now
            self._tokens[number] = one.tokens_now
        recorded, done, cost_usd = (
            sum(self._recorded.values()),
            sum(self._done.values()),
            total_usd(self._cost.values()),
        )
        elapsed_s, limited_by = self._clock() - self._start, self._limited_by(is_stopping=is_stopping)
        self._eta.note(recorded, elapsed_s, limited_by)
        left = self.lines - done
        self.last = Status(
            total=self.lines,
            done=done,
            failed=sum(self._failed.values()),
            in_flight=sum(one.in_flight for one in self._live.values()),
            slots=sum(one.slots for one in self._live.values()),
            limited_by=limited_by.value,
            cost_usd=cost_usd,
            projected_usd=cost_usd + (cost_usd * left / done if done else NOTHING),
            recorded_now=recorded,
            tokens_now=sum(self._tokens.values()),
            elapsed_s=elapsed_s,
            eta_s=self._eta.left_s(left, limited_by),
        )
        return self.last

    def _limited_by(self, *, is_stopping: bool) -> LimitedBy:
        """What limits most of the shards; between two of them, that there is none."""
        if is_stopping:
            return LimitedBy.STOPPING
        found = Counter(one.limited_by for one in self._live.values()).most_common(1)
        if found:
            return LimitedBy(found[0][0])
        return LimitedBy.TAIL if sum(self._done.values()) >= self.lines else LimitedBy.SHARDS
