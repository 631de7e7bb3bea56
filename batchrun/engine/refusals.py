"""Refusals that may not be the line's fault: they are held back until a success follows. Pure.

1. A fresh job, in which nothing has ever succeeded, that is refused 20 times alike stops: what is wrong is in every
   line. Their records are not written, so that the lines stay undone.
2. In a job that has succeeded before, 20 refusals alike without a success between them may come from a deploy behind
   a proxy: the control decides. If it is answered, the refusals are recorded, and more of that kind for a minute.
3. A web page instead of JSON stops a fresh job only while nothing has looked like the API.
4. A dead key, an empty account and the like stop a job. Once it has succeeded, it must be said twice without an answer
   to what was sent after the first time; words about money by two lines.
"""

from __future__ import annotations

import math
from collections import Counter
from enum import Enum, auto

import msgspec

from batchrun.engine.attribution import ALIKE, VOUCHED_S
from batchrun.engine.case import Case
from batchrun.records.outcome import Failure
from batchrun.transport.words import tells_of_money

PAGES = 3


class Alike(Enum):
    """What refusals that are alike ask for."""

    NOTHING = auto()
    STOP = auto()
    CONTROL = auto()


class Held(msgspec.Struct, frozen=True):
    """A refused line whose record waits."""

    case: Case
    failure: Failure
    at: float


class Refusals:
    """Holds refused lines back. `has_succeeded` is whether anything has, in any run of the result file.

    `stops_fresh` is False if the user has switched the stop of a fresh job off: then a fresh job holds nothing back.
    """

    def __init__(self, *, has_succeeded: bool, stops_fresh: bool) -> None:
        self.has_succeeded = has_succeeded
        self.held: list[Held] = []
        self._stops_fresh = stops_fresh
        self._alike: Counter[tuple[int | None, str]] = Counter()
        self._vouched_until = -math.inf
        self._pages = 0
        self._looked_like_api = False
        self.barred_at = math.inf
        """When it was first said that no line can get past, if nothing that was sent later was answered."""
        self._barred: list[int] = []

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has ever succeeded."""
        return not self.has_succeeded

    def refused(self, case: Case, failure: Failure, now: float) -> Alike:
        """Hold a refusal back, and say what it asks for."""
        self.held.append(Held(case, failure, now))
        kind = failure.status_for_rules, failure.code
        self._alike[kind] += 1
        if self._alike[kind] < ALIKE or now < self._vouched_until:
            return Alike.NOTHING
        if self.is_fresh:
            return Alike.STOP if self._stops_fresh else Alike.NOTHING
        return Alike.CONTROL

    def released(self, sent_at: float, now: float) -> list[Held]:
        """The refusals that a success, sent at `sent_at`, or the user's word speaks against."""
        if not self.held:
            return self.held
        free = now < self._vouched_until or (self.is_fresh and not self._stops_fresh)
        released = [one for one in self.held if free or one.at < sent_at]
        self.held = [] if len(released) == len(self.held) else [one for one in self.held if one.at >= sent_at]
        self._alike = Counter((one.failure.status_for_rules, one.failure.code) for one in self.held)
        return released

    def vouch(self, now: float) -> None:
        """The control was answered: the refusals are the lines' own, and so are those of the next minute."""
        self._vouched_until = now + VOUCHED_S

    def take_all(self) -> list[Held]:
        """All that is held back: no further line will say more, or they are sent again after an outage."""
        held, self.held = self.held, []
        self._alike.clear()
        return held

    def looked(self, failure: Failure) -> None:
        """Note whether a failure looked like the API's own."""
        self._looked_like_api = self._looked_like_api or failure.looks_like_api

    def stops_fresh(self, failure: Failure, *, is_last: bool) -> bool:
        """Whether a failure that points to a wrong address or key stops a fresh job. `is_last`: no line is left."""
        if not self.may_stop_fresh:
            return False
        if failure.looks_like_api or failure.status is None:
            return True
        self._pages += 1
        return not self._looked_like_api and (is_last or self._pages >= PAGES)

    @property
    def may_stop_fresh(self) -> bool:
        """Whether this is a fresh job that may be stopped for what is in every line."""
        return self.is_fresh and self._stops_fresh

    def is_final(self, line_number: int, failure: Failure, now: float) -> bool:
        """Whether a failure that no line can get past stops the job; see the module's rule 4."""
        self.bar(line_number, now)
        is_of_money = failure.status_for_rules != 402 and tells_of_money(failure)
        times = len(set(self._barred)) if is_of_money else len(self._barred)
        return self.is_fresh or times > 1

    def bar(self, line_number: int, now: float) -> None:
        """A line was told so."""
        self.barred_at = min(self.barred_at, now)
        self._barred.append(line_number)

    def unbar(self) -> None:
        """A line that was sent later got past."""
        self.barred_at = math.inf
        self._barred.clear()

    def is_outage_sign(self, failure: Failure) -> bool:
        """Whether a 4xx comes from a proxy whose backend is away: no JSON, in a job that has succeeded."""
        status = failure.status_for_rules or 0
        is_odd = 400 <= status < 500 and status not in (401, 402, 407, 413, 414, 429)
        return self.has_succeeded and is_odd and not failure.looks_like_api
