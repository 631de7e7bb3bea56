"""Figures of pairs of numbers, each with how often it occurs: errors and rank correlation. Pure arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

NumberPair = tuple[float, float]


def mean_absolute_error(pairs: Mapping[NumberPair, int]) -> float | None:
    """How far the answers lie from gold on average; None without any."""
    total = sum(pairs.values())
    return math.fsum(count * abs(gold - answer) for (gold, answer), count in pairs.items()) / total if total else None


def rank_correlation(pairs: Mapping[NumberPair, int]) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None where one side has a single value."""
    total = sum(pairs.values())
    gold, answers = Counter[float](), Counter[float]()
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


def _ranks(counts: Counter[float]) -> dict[float, float]:
    """The rank of each value: the mean of the ranks of all that equal it."""
    ranks, before = {}, 0
    for value in sorted(counts):
        ranks[value] = before + (counts[value] + 1) / 2
        before += counts[value]
    return ranks


def _spread(counts: Counter[float], ranks: dict[float, float], middle: float) -> float:
    return math.fsum(count * (ranks[value] - middle) ** 2 for value, count in counts.items())
