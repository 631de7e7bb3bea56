"""What four shards report, and what the one controller makes of it."""

from __future__ import annotations

from batchrun.cluster.finder import Finder, Sendings
from batchrun.cluster.lease import Ended, Report
from batchrun.limits.follower import Follower
from batchrun.limits.options import Concurrency

BEGINNING = 8  # in flight at first


class Shards:
    """Shards that report to one finder. Times are seconds from the beginning; each report is heard at once."""

    def __init__(self, count: int) -> None:
        self.finder = Finder(Concurrency(1, 1000), 0.0)
        self.sendings = [Sendings() for _ in range(count)]
        self.sent = [0] * count
        self.in_flight = [0] * count
        self.versions = [0] * count
        self.beats = 0

    def lease(self, shard: int) -> None:
        """A lease by what is known now, which rules at once."""
        self.versions[shard] += 1
        self.finder.granted(self.sendings[shard], self.versions[shard])

    def tell(self, shard: int, now: float, sends: tuple[float, ...] = (), ended: tuple[Ended, ...] = ()) -> None:
        """A report: when requests were sent since the last one, and what ended, with the times at which that was."""
        self.beats += 1
        self.in_flight[shard] += len(sends) - len(ended)
        report = Report(
            shard,
            "a",
            self.beats,
            in_flight=self.in_flight[shard],
            first_send=self.sent[shard] + 1,
            sends=tuple((now - at, self.versions[shard]) for at in sends),
            ended=tuple(Ended(one.number, now - one.ended_s, one.outcome) for one in ended),
        )
        self.sent[shard] += len(sends)
        self.finder.hear(self.sendings[shard], report, now)

    def later(self, now: float) -> None:
        """Nothing more happens until then."""
        for shard in range(len(self.sendings)):
            self.tell(shard, now)


def in_flight(count: int) -> Shards:
    """Two shards with so many in flight together, all sent at the beginning."""
    shards = Shards(2)
    shards.lease(0)
    shards.lease(1)
    shards.tell(0, 0.1, sends=(0.05,) * (count - 1))
    shards.tell(1, 0.1, sends=(0.06,))
    shards.later(0.3)
    return shards


def ceiling(shards: Shards) -> int | None:
    return shards.finder.controller.concurrency.ceiling


def test_a_request_takes_the_place_of_one_that_ended_at_the_same_moment() -> None:
    shards = in_flight(7)
    shards.tell(1, 0.4, sends=(0.36,), ended=(Ended(1, 0.36, "a"),))
    shards.tell(1, 0.5, ended=(Ended(2, 0.46, "t"),))
    shards.later(0.8)
    assert ceiling(shards) == 7


def test_what_is_refused_at_the_moment_at_which_it_is_sent_was_sent_before_that() -> None:
    shards = in_flight(7)
    shards.tell(1, 0.4, sends=(0.36, 0.36), ended=(Ended(2, 0.36, "t"), Ended(3, 0.36, "t")))
    shards.later(0.8)
    assert (ceiling(shards), shards.finder.slots) == (8, 7), "one cut, not two"


def test_one_that_was_refused_counts_as_the_last_of_those_that_were_sent_at_about_that_time() -> None:
    shards = in_flight(6)
    shards.tell(0, 0.4, sends=(0.362,))
    shards.tell(1, 0.4, sends=(0.36,), ended=(Ended(2, 0.361, "t"),))
    shards.later(0.8)
    assert ceiling(shards) == 8, "6 were in flight before these two, and one of the two was too much"


def test_what_is_refused_under_a_lease_from_before_a_cut_was_known_does_not_cut_again() -> None:
    shards = in_flight(8)
    shards.tell(0, 0.4, ended=(Ended(1, 0.36, "t"),))
    shards.lease(1)  # granted after the refusal, and by nothing that it has changed
    shards.tell(1, 0.5, sends=(0.42,))
    shards.later(0.6)
    slots = shards.finder.slots
    assert slots < BEGINNING
    shards.tell(1, 0.7, ended=(Ended(2, 0.62, "t"),))
    shards.later(0.9)
    assert shards.finder.slots == slots


def test_a_shard_that_is_throttled_sends_nothing_until_the_others_have_told_what_they_did() -> None:
    shards = in_flight(8)
    for number, now in enumerate((0.4, 0.6), 1):
        shards.tell(0, now, ended=(Ended(number, now - 0.02, "t"),))
        assert shards.finder.pause_s(shards.sendings[0], now) == Follower.PAUSE_S
        assert shards.finder.pause_s(shards.sendings[1], now) <= 0.1
        shards.later(now + 0.15)
        assert shards.finder.pause_s(shards.sendings[0], now + 0.15) < 0.2
