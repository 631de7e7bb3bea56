"""Spurious throttles, told apart from the refusals of a limit: `spurious.py` alone."""

from __future__ import annotations

from batchrun.limits.spurious import SpuriousThrottles


class Run:
    """Requests one after the other, twenty milliseconds apart unless slower, answered or refused a little later."""

    def __init__(self) -> None:
        self.throttles = SpuriousThrottles()
        self.now = 0.0
        self.number = 0
        self.admitted = 0
        self.limits: list[float] = []

    def send(self, *, refused: bool = False, pause_s: float = 0.02) -> bool:
        """Send one; whether its refusal is spurious."""
        self.now += pause_s
        self.number += 1
        self.throttles.sent(self.now)
        if refused:
            return self.throttles.refused(self.now, self.number, self.admitted, self.now)
        self.admitted += 1
        if (limit_per_s := self.throttles.answered(self.now, self.now)) is not None:
            self.limits.append(limit_per_s)
        return False

    def refuse_every(self, nth: int, count: int) -> list[bool]:
        """So many refusals, each after `nth - 1` answers."""
        spurious = []
        for _ in range(count):
            for _ in range(nth - 1):
                self.send()
            spurious.append(self.send(refused=True))
        return spurious

    def suspect(self, nth: int) -> None:
        """Three suspicious refusals."""
        for _ in range(SpuriousThrottles.SUSPICIOUS):
            self.refuse_every(nth, 1)
            self.throttles.suspect(self.admitted, self.now)

    def settle(self) -> None:
        """Until the trial counts."""
        assert self.throttles.trial is not None
        while self.now < self.throttles.trial.sample.since:
            self.send()

    def judge(self, nth: int) -> bool:
        """Refused every `nth` time for as long as a trial takes; whether they were found to be spurious."""
        for _ in range(3 * SpuriousThrottles.MANY):
            self.refuse_every(nth, 1)
            if self.throttles.has_judged(self.now):
                return True
        return False


def test_a_trial_goes_slower_than_what_passed_and_by_the_share_refused() -> None:
    run = Run()
    run.suspect(100)
    assert run.throttles.trial is not None
    assert 0.87 <= run.throttles.trial.slower <= 0.9
    assert 0.85 * 49.5 <= run.throttles.trial.pace_per_s <= 0.9 * 49.5


def test_two_refusals_are_no_suspicion() -> None:
    run = Run()
    for _ in range(2):
        run.refuse_every(100, 1)
        run.throttles.suspect(run.admitted, run.now)
    assert run.throttles.trial is None


def test_what_passed_in_less_than_two_seconds_may_be_a_buckets_store() -> None:
    run = Run()
    run.suspect(20)
    assert run.throttles.trial is None
    run.suspect(20)
    assert run.throttles.trial is not None


def test_refusals_too_rare_to_do_harm_are_no_suspicion() -> None:
    run = Run()
    for _ in range(20):
        run.refuse_every(1000, 1)
        run.throttles.suspect(run.admitted, run.now)
    assert run.throttles.trial is None


def test_nothing_is_spurious_before_a_trial() -> None:
    assert Run().refuse_every(100, 20) == [False] * 20


def test_refused_as_often_as_before_they_are_spurious_and_sent_again() -> None:
    run = Run()
    run.suspect(60)
    run.settle()
    assert run.judge(50)
    assert run.throttles.trial is None
    assert all(run.refuse_every(50, 9))  # fewer than it takes for another look


def test_refused_no_longer_they_came_from_a_limit() -> None:
    run = Run()
    run.suspect(60)
    run.settle()
    for _ in range(1000):
        run.send()
    assert run.throttles.trial is None
    assert len(run.limits) == 1
    assert 45 <= run.limits[0] <= 55
    assert run.refuse_every(50, 3) == [False] * 3


def test_a_limit_explains_refusals_at_its_pace_and_no_others() -> None:
    run = Run()
    run.suspect(60)
    run.settle()
    for _ in range(1000):
        run.send()
    run.suspect(60)
    assert run.throttles.trial is None
    for _ in range(SpuriousThrottles.SUSPICIOUS):  # half as fast: worn down
        for _ in range(49):
            run.send(pause_s=0.04)
        run.send(refused=True)
        run.throttles.suspect(run.admitted, run.now)
    assert run.throttles.trial is not None


def test_a_limit_that_refuses_ever_more_in_a_trial_is_not_spurious() -> None:
    run = Run()
    run.suspect(60)
    run.settle()
    assert not run.judge(2)
    assert run.throttles.trial is None


def test_one_refusal_in_a_trial_makes_it_longer() -> None:
    lengths = []
    for refused in (0, 1):
        run = Run()
        run.suspect(60)
        run.settle()
        run.refuse_every(2, refused)
        length = 0
        while run.throttles.trial is not None:
            run.send()
            length += 1
        lengths.append(length)
    assert lengths[1] >= 1.5 * lengths[0]


def test_nothing_but_refusals_are_a_limit_even_where_some_are_spurious() -> None:
    run = Run()
    run.suspect(60)
    run.settle()
    assert run.judge(50)
    assert False in run.refuse_every(1, 15)


def test_a_burst_is_sent_before_any_of_it_is_refused() -> None:
    """Forty in two thousand are as usual, even when all two thousand had been sent before the first came back."""
    run = Run()
    run.suspect(60)
    run.settle()
    assert run.judge(50)
    run.throttles._is_rough = False
    first = run.number
    for _ in range(2000):
        run.number += 1
        run.throttles.sent(run.now)
    assert all(run.throttles.refused(run.now, first + 50 * nth, run.admitted, run.now + 1) for nth in range(40))


def test_answers_that_take_a_minute_do_not_make_a_share() -> None:
    """Refusals are back at once: of those done nearly all are refused, of those sent one in fifty."""
    run = Run()
    for number in range(1, 151):
        run.now += 0.02
        run.throttles.sent(run.now)
        if number % 50 == 0:
            run.throttles.refused(run.now, number, run.admitted, run.now)
            run.throttles.suspect(run.admitted, run.now)
        else:
            run.admitted += 1
    assert run.throttles.trial is not None
    assert run.throttles.trial.before.share < 0.03


def test_few_refusals_in_a_trial_are_looked_at_again() -> None:
    run = Run()
    run.suspect(200)
    run.settle()
    assert run.judge(200)
    run.refuse_every(200, SpuriousThrottles.MANY + 2)
    assert run.throttles.trial is not None


def test_spurious_throttles_are_looked_for_again_after_ten_minutes() -> None:
    run = Run()
    run.suspect(60)
    run.settle()
    assert run.judge(50)
    run.throttles._is_rough = False
    run.refuse_every(50, 30)
    assert run.throttles.trial is None
    run.now += SpuriousThrottles.BELIEVED_S
    run.refuse_every(50, 30)
    assert run.throttles.trial is not None


def test_with_no_channel_spent_any_more_nothing_is_spurious() -> None:
    run = Run()
    run.suspect(60)
    run.settle()
    assert run.judge(50)
    run.now += SpuriousThrottles.BELIEVED_S
    while run.throttles.trial is None:
        run.refuse_every(50, 1)
    run.settle()
    for _ in range(1000):
        run.send()
    assert run.throttles.trial is None
    assert run.refuse_every(50, 3) == [False] * 3
