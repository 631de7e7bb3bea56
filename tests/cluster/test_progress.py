"""The bar of a job on a cluster: one status of all its shards."""

from __future__ import annotations

from decimal import Decimal

from batchrun.cluster.progress import Board
from batchrun.engine.observer import Status


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


def shard(done: int, limited_by: str) -> Status:
    return Status(10, done, 0, 0, 0, limited_by, Decimal(0), Decimal(0), done, 0, 1.0)
