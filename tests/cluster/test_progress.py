"""The bar of a job on a cluster: one status of all its shards."""

from __future__ import annotations

from decimal import Decimal

from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.cluster.progress import Board
from batchrun.cluster.shard import ShardEnd
from batchrun.engine.observer import Status
from batchrun.job.prepare import Earlier
from batchrun.job.run import Ended
from batchrun.records.attempt import BilledTwice
from batchrun.records.money import NOTHING
from batchrun.requests.survey import Survey


def test_the_bar_says_what_limits_most_shards_that_there_is_none_and_the_end() -> None:
    board = Board(30, lambda: 0.0)
    assert board.last.limited_by == "shards", "none has begun"
    shards = {1: shard(10, "gateway_speed"), 2: shard(10, "gateway_speed"), 3: shard(9, "shards")}
    assert board.status(shards, is_stopping=False).limited_by == "gateway_speed"
    board.busy(1)
    board.busy(2)
    assert board.status({3: shard(9, "concurrency_limit")}, is_stopping=False).limited_by == "concurrency_limit"
    board.busy(3)
    assert board.status({}, is_stopping=False).limited_by == "shards", "one line is left, and nobody has it"
    assert board.status({}, is_stopping=True).limited_by == "stopping"
    board.status({3: shard(10, "shards")}, is_stopping=False)
    board.busy(3)
    assert board.status({}, is_stopping=False).limited_by == "tail_of_the_run", "a job that is done is not stopping"


def test_what_a_shard_told_before_its_end_changes_nothing_when_it_is_heard_of_after_that() -> None:
    """The bar of a job that was done stood at fewer lines than all, with requests in flight."""
    board = Board(10, lambda: 0.0)
    board.status({1: shard(4, "concurrency_limit")}, is_stopping=False)
    tally = Tally(PriceBook.load(None))
    board.set_end(1, ShardEnd(1, 10, 0, 10, Survey(), tally, Earlier(BilledTwice(), NOTHING, None, {}), Ended(10)))
    last = board.status({1: shard(7, "concurrency_limit")}, is_stopping=False)
    assert (last.done, last.recorded_now, last.limited_by) == (10, 10, "tail_of_the_run")


def shard(done: int, limited_by: str) -> Status:
    return Status(10, done, 0, 0, 0, limited_by, Decimal(0), Decimal(0), done, 0, 1.0)
