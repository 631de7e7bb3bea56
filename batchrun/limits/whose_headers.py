"""Whose limits the headers of answers tell of: one model's own, or those of the whole key. Pure.

1. A key's limits are the same numbers on the answers of all models, and each request takes of the same.
2. So they are a model's own where the answers of another model tell other numbers, or none.
3. With the same numbers, what is left tells: it falls with a model's own requests alone, or with those of all.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.records.outcome import RateHeaders

Limits = tuple[float | None, float | None]


@dataclass(slots=True)
class _Reading:
    """What was left at one answer: when, and how many answers there were before it, its model's own and of all."""

    at: float
    left: float
    own: int
    of_all: int


class _Model:
    """What one model's answers say: the same `limits` so many times, or none so often."""

    __slots__ = ("anchor", "answers", "limits", "same", "votes", "without")

    def __init__(self) -> None:
        self.limits: Limits | None = None
        self.same = self.without = self.answers = self.votes = 0
        self.anchor: _Reading | None = None

    @property
    def is_known(self) -> bool:
        return self.same >= WhoseHeaders.ENOUGH or (self.limits is None and self.without >= WhoseHeaders.ENOUGH)


class WhoseHeaders:
    """Reads the headers of all answers of models that share their limits, where there are several models."""

    ENOUGH = 3  # answers that say the same
    SPAN = 6  # requests, by which own limits and shared ones differ in two readings that are compared
    SURE, UNSURE = 3, -1  # votes for limits of its own, and the least

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._answers: dict[Limits, int] = {}  # with these limits

    def read(self, model: str, headers: RateHeaders | None, now: float) -> None:
        """An answer came, with headers or without."""
        one = self._models.get(model)
        if one is None:
            one = self._models[model] = _Model()
        if headers is None:
            one.without += 1
            return
        limits = headers.limit_requests, headers.limit_tokens
        one.same = one.same + 1 if limits == one.limits else 1
        if one.limits != limits:
            one.limits, one.anchor, one.votes = limits, None, 0
        one.answers += 1
        self._answers[limits] = self._answers.get(limits, 0) + 1
        if headers.remaining_requests is not None and headers.limit_requests:
            reading = _Reading(now, headers.remaining_requests, one.answers, self._answers[limits])
            self._compare(one, reading, headers.limit_requests / 60)

    def is_own(self, model: str) -> bool:
        """Whether this model's headers tell of limits that no other model shares."""
        one = self._models[model]
        if one.limits is None or one.same < self.ENOUGH:
            return False
        if one.votes >= self.SURE:
            return True
        others = [other for other in self._models.values() if other is not one and other.is_known]
        return bool(others) and all(other.limits != one.limits for other in others)

    def set_apart(self, model: str) -> None:
        """It has limits of its own from now on, and is read no more."""
        self._models.pop(model, None)

    def _compare(self, one: _Model, reading: _Reading, refill_per_s: float) -> None:
        """Vote by what was taken between two readings: as much as the model's own requests, or as those of all."""
        anchor = one.anchor
        if anchor is None:
            one.anchor = reading
            return
        own = reading.own - anchor.own
        others = reading.of_all - anchor.of_all - own
        refilled = refill_per_s * (reading.at - anchor.at)  # at most: a fixed window is not refilled
        apart = others - refilled  # at least that lies between what is taken of an own limit and of a shared one
        if apart < self.SPAN:
            if refilled > others:
                one.anchor = reading
            return
        one.anchor = reading
        taken = anchor.left - reading.left
        if taken > own + apart / 2:
            one.votes = max(self.UNSURE, one.votes - 1)
        elif taken >= own - refilled - 1:
            one.votes = min(self.SURE, one.votes + 1)
