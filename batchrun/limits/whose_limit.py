"""Whose limit the refusals of several models tell of: one model's own, or that of the whole key. Pure.

1. A limit of the key refuses each model by its share of what is being sent. A model's own limit refuses that one, far
   more often than that.
2. Only who is refused counts, not how many are: refusals come in clumps, whatever the limit is.
3. Each refusal changes the odds. A model that is surely refused for itself has a limit of its own; where the shares
   tell best who is refused, it is the key's. Either may turn out to be wrong, and is then replaced by the other.
"""

from __future__ import annotations

import math


class _Model:
    """What is known of a model: how much of it was `sent` of late, and the log `odds` of a limit of its own."""

    __slots__ = ("odds", "refused", "sent")

    def __init__(self) -> None:
        self.sent = self.odds = 0.0
        self.refused = 0


class WhoseLimit:
    """Counts the requests of models that share their limits. `is_the_keys`: refusals are those of the whole key."""

    TIMES = 10.0  # its share of the requests: so much of the refusals a model gets that has a limit of its own
    # The log odds from which on that is believed (chance: once in 3,000 refusals), and where the key's was believed.
    SURE, BEYOND_DOUBT = 8.0, 12.0
    # The log odds of the key's limit against any other rule of who is refused, from which on it is believed: so much
    # for each model, since more models may have limits of their own, and the most.
    KEYS, MOST_KEYS = 0.5, 2.0
    UNKNOWN = 0.5  # a refusal of each model that is supposed before the first one (Krichevsky and Trofimov)
    RECENT = 40.0  # requests, in which shares are measured: those of held models change within a tenth of a second
    LEAST = 3  # refusals in a row that hit one model alone
    LEAST_SHARE = 0.001  # of the requests: one that was sent long ago is refused only now

    def __init__(self) -> None:
        self.is_the_keys = False
        self._models: dict[str, _Model] = {}
        self._weight, self._sent = 1.0, 0.0  # of the next request, which is larger each time, and of all
        self._refused, self._key_odds = 0, 0.0
        self._last, self._in_a_row = "", 0

    def sent(self, model: str) -> None:
        """A request goes out."""
        one = self._models.get(model)
        if one is None:
            one = self._models[model] = _Model()
        one.sent += self._weight
        self._sent += self._weight
        self._weight *= 1 + 1 / self.RECENT
        if self._weight > 1e100:  # far from overflow
            self._scale_down()

    def refused(self, model: str) -> None:
        """A request was throttled."""
        self._in_a_row = self._in_a_row + 1 if model == self._last else 1
        self._last = model
        one, models = self._models[model], self._models.values()
        usual = (one.refused + self.UNKNOWN) / (self._refused + self.UNKNOWN * len(models))
        self._key_odds = min(self.MOST_KEYS, self._key_odds + math.log(self._share(one) / usual))
        one.refused += 1
        self._refused += 1
        for other in models:
            other.odds = max(0.0, other.odds - math.log(1 + (self.TIMES - 1) * self._share(other)))
        one.odds += math.log(self.TIMES)
        is_known = len(models) > 1 and self._key_odds >= min(self.KEYS * len(models), self.MOST_KEYS)
        if is_known and not self.is_the_keys:
            self.is_the_keys = True
            for other in models:
                other.odds = 0.0  # the key's limit explains all refusals until now

    def own(self) -> list[str]:
        """The models that have a limit of their own, beyond doubt."""
        sure = self.BEYOND_DOUBT if self.is_the_keys else self.SURE
        return [model for model, one in self._models.items() if one.odds >= sure]

    def hits_only(self, model: str) -> bool:
        """Whether enough refusals have hit this model one after the other, and none another one."""
        return self._last == model and self._in_a_row >= self.LEAST

    def set_apart(self, model: str) -> None:
        """Count a model no longer. Where one other is left, its limit is the key's, for all that can be known."""
        one = self._models.pop(model)
        self._sent = sum(other.sent for other in self._models.values())
        self._refused -= one.refused
        self._key_odds = min(0.0, self._key_odds)
        self.is_the_keys = len(self._models) == 1

    def _share(self, one: _Model) -> float:
        """Its share of the requests that were sent of late."""
        return max(self.LEAST_SHARE, one.sent / self._sent) if self._sent else 1.0

    def _scale_down(self) -> None:
        for one in self._models.values():
            one.sent /= self._weight
        self._sent /= self._weight
        self._weight = 1.0
