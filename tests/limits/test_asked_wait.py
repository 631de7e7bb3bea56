"""Whether a wait that a gateway asks for is needed: answers during it contradict it, refusals confirm it."""

from __future__ import annotations

from batchrun.limits.asked_wait import AskedWait
from batchrun.limits.controller import Controller, Sent


class Desk:
    """One `AskedWait`, and the requests of a run."""

    def __init__(self) -> None:
        self.wait = AskedWait()
        self.number = 0

    def sent(self, at: float) -> Sent:
        self.number += 1
        sent = Sent(at, 1, self.number)
        self.wait.sent(sent)
        return sent

    def refused(self, at: float, asked_s: float = 60.0) -> None:
        self.wait.throttled(self.sent(at), asked_s, at)


def test_an_answer_during_a_long_wait_lets_one_request_try_and_its_answer_ends_the_wait_and_those_to_come() -> None:
    desk = Desk()
    before = desk.sent(0)
    desk.refused(0)
    assert desk.wait.followed_s(60.0, 0) == 60.0
    assert not desk.wait.may_try
    assert not desk.wait.answered(before, 1)
    assert desk.wait.may_try
    trial = desk.sent(1)
    assert not desk.wait.may_try, "one request, and no more"
    assert desk.wait.answered(trial, 2)
    assert desk.wait.followed_s(60.0, 3) is None
    assert desk.wait.followed_s(1.0, 3) == 1.0, "a short wait says nothing wrong"
    assert desk.wait.followed_s(60.0, 3 + AskedWait.IGNORED_S) == 60.0, "nothing is kept for good"


def test_a_wait_that_is_nearly_over_or_short_is_not_tried() -> None:
    for asked_s, answered_at in ((60.0, 31.0), (Controller.SHORT_ASKED_S, 0.1)):
        desk = Desk()
        before = desk.sent(0)
        desk.refused(0, asked_s)
        desk.wait.answered(before, answered_at)
        assert not desk.wait.may_try


def test_a_refused_trial_keeps_the_wait_and_the_next_one_comes_after_twice_as_many_waits() -> None:
    desk, tried = Desk(), list[int]()
    for number in range(1, 31):
        begin = 100.0 * number
        before = desk.sent(begin)
        desk.refused(begin)
        desk.wait.answered(before, begin + 1)
        if desk.wait.may_try:
            tried.append(number)
            desk.refused(begin + 1)
            assert desk.wait.followed_s(60.0, begin + 1) == 60.0
    assert tried == [1, 3, 7, 15]


def test_a_trial_that_fails_otherwise_says_nothing_and_is_made_again() -> None:
    desk = Desk()
    first, second = desk.sent(0), desk.sent(0)
    desk.refused(0)
    desk.wait.answered(first, 1)
    desk.wait.abandoned(desk.sent(1))
    assert not desk.wait.answered(second, 2)
    assert desk.wait.may_try
