"""Figures of pairs of numbers, each with how often it occurs: errors and rank correlation. Pure arithmetic.

Intervals are by a Bayesian bootstrap over the pairs (Rubin 1981).
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping

from batchrun.stats.confusion import SEED, quantile
from batchrun.stats.proportions import CONFIDENCE, Interval

NumberPair = tuple[float, float]
NumberFigure = Callable[[Mapping[NumberPair, float]], float | None]
_DRAWS, _LEAST_DRAWS, _MOST_WEIGHTS, _MOST_PAIRS = 2000, 200, 400_000, 5000


def with_interval(
    figure: NumberFigure, pairs: Mapping[NumberPair, int], *, effective: float | None = None, seed: int = SEED
) -> Interval:
    """A figure with its 95% interval; without bounds where there are very many pairs, or all draws are alike.

    `effective`: as many independent rows the rows are worth, where they come in clusters.
    """
    value = figure(pairs)
    if value is None or len(pairs) > _MOST_PAIRS:
        return Interval(value, None, None)
    pairs = dict(sorted(pairs.items()))  # in any order of the records, the draws are the same
    total = sum(pairs.values())
    scale = 1.0 if effective is None else effective / total
    gamma, drawn = random.Random(seed).gammavariate, list[float]()
    for _ in range(max(_LEAST_DRAWS, min(_DRAWS, _MOST_WEIGHTS // len(pairs)))):
        weights = {pair: gamma(count * scale, 1.0) for pair, count in pairs.items()}
        factor = total / math.fsum(weights.values())
        one = figure({pair: weight * factor for pair, weight in weights.items()})
        if one is not None:
            drawn.append(one)
    if not drawn:
        return Interval(value, None, None)
    drawn.sort()
    lower, upper = quantile(drawn, (1 - CONFIDENCE) / 2), quantile(drawn, (1 + CONFIDENCE) / 2)
    if upper - lower < 1e-12:  # a single pair, or no error at all: the draws know nothing of what they have not seen
        return Interval(value, None, None)
    return Interval(value, min(value, lower), max(value, upper))


def mean_absolute_error(pairs: Mapping[NumberPair, float]) -> float | None:
    """How far the answers lie from gold on average; None without any, and where the sum is beyond all numbers."""
    if not (total := sum(pairs.values())):
        return None
    try:
        error = math.fsum(count * abs(gold - answer) for (gold, answer), count in pairs.items()) / total
    except OverflowError:
        return None
    return error if math.isfinite(error) else None


def rank_correlation(pairs: Mapping[NumberPair, float]) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None where one side has a single value."""
    total = sum(pairs.values())
    gold, answers = defaultdict[float, float](float), defaultdict[float, float](float)
    for (one, other), count in pairs.items():
        gold[one] += count
        answers[other] += count
    of_gold, of_answers = _ranks(gold), _ranks(answers)
    middle = (total + 1) / 2
    covariance = math.fsum(
        count * (of_gold[one] - middle) * (of_answers[other] - middle) for (one, other), count in pairs.items()
    )
    spread = math.sqrt(_spread(gold, of_gold, middle) * _spread(answers, of_answers, middle))
    return covariance / spread if spread else None


def _ranks(counts: Mapping[float, float]) -> dict[float, float]:
    """The rank of each value: the mean of the ranks of all that equal it."""
    ranks, before = dict[float, float](), 0.0
    for value in sorted(counts):
        ranks[value] = before + (counts[value] + 1) / 2
        before += counts[value]
    return ranks


def _spread(counts: Mapping[float, float], ranks: Mapping[float, float], middle: float) -> float:
    return math.fsum(count * (ranks[value] - middle) ** 2 for value, count in counts.items())
