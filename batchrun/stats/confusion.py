"""Figures of a confusion table: how often which gold label got which answer. Pure arithmetic.

A cell is (gold, answer), both numbers of labels from 0 on; the answer `UNANSWERED` is a miss of its class and nobody's
false alarm in precision, recall and F1, a category of its own in kappa and in Matthews' correlation, and missing data
in alpha. Sources: Cohen 1960 (kappa); Gorodkin 2004 (Matthews' correlation of several classes); Krippendorff 2011
(alpha); Rubin 1981 (Bayesian bootstrap).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from batchrun.stats.proportions import CONFIDENCE, UNDEFINED, Interval

UNANSWERED = -1
DRAWS, LEAST_DRAWS = 2000, 200
MOST_WEIGHTS = 2_000_000
"""Drawn in all, so that very many cells take seconds and not minutes."""
SEED = 14
PRIOR = 0.5
"""Spread over all cells of the labels seen: so many rows' worth of doubt, so that all right is not [1, 1]."""

Cell = tuple[int, int]


class Sums:
    """The sums of a table that its figures need. A weight is a count, or a draw around one."""

    __slots__ = ("answered", "cells", "gold", "hits", "labels", "missing", "total", "weights")

    def __init__(self, cells: Sequence[Cell], weights: Sequence[float], labels: int) -> None:
        self.cells, self.weights, self.labels = cells, weights, labels
        self.gold, self.answered, self.hits = [0.0] * labels, [0.0] * labels, [0.0] * labels
        self.missing = 0.0  # unanswered
        for (gold, answer), weight in zip(cells, weights, strict=True):
            self.gold[gold] += weight
            if answer == UNANSWERED:
                self.missing += weight
            else:
                self.answered[answer] += weight
                if answer == gold:
                    self.hits[gold] += weight
        self.total = math.fsum(self.gold)


def f1_of(sums: Sums, label: int) -> float | None:
    """F1 of one class; None where it is neither in gold nor answered."""
    seen = sums.gold[label] + sums.answered[label]
    return 2 * sums.hits[label] / seen if seen else None


def f1_macro(sums: Sums) -> float | None:
    """The mean of the classes' F1."""
    return _mean([f1 for label in range(sums.labels) if (f1 := f1_of(sums, label)) is not None])


def f1_micro(sums: Sums) -> float | None:
    """F1 of all classes' rows together."""
    seen = 2 * sums.total - sums.missing
    return 2 * math.fsum(sums.hits) / seen if seen else None


def f1_weighted(sums: Sums) -> float | None:
    """The mean of the classes' F1, each as often as gold has it."""
    if not sums.total:
        return None
    return math.fsum(sums.gold[label] * (f1_of(sums, label) or 0.0) for label in range(sums.labels)) / sums.total


def balanced_accuracy(sums: Sums) -> float | None:
    """The mean of the recall of the classes that gold has."""
    return _mean([hits / gold for hits, gold in zip(sums.hits, sums.gold, strict=True) if gold])


def kappa(sums: Sums) -> float | None:
    """Cohen's kappa; None where one label is all there is."""
    by_chance = math.fsum(map(float.__mul__, sums.gold, sums.answered))
    square = sums.total**2
    if square - by_chance <= 1e-12 * square:
        return None
    return (sums.total * math.fsum(sums.hits) - by_chance) / (square - by_chance)


def mcc(sums: Sums) -> float | None:
    """Matthews' correlation coefficient; None where gold, or the answers, are of one label only."""
    square = sums.total**2
    gold = square - math.fsum(value**2 for value in sums.gold)
    answered = square - math.fsum(value**2 for value in sums.answered) - sums.missing**2
    if min(gold, answered) <= 1e-12 * square:
        return None
    by_chance = math.fsum(map(float.__mul__, sums.gold, sums.answered))
    return (sums.total * math.fsum(sums.hits) - by_chance) / math.sqrt(gold * answered)


def alpha_nominal(sums: Sums) -> float | None:
    """Krippendorff's alpha of two coders, gold and the answers, with labels without an order."""
    pairs, seen = _coded(sums)
    total = math.fsum(seen)
    observed = math.fsum(weight for (gold, answer), weight in pairs if gold != answer)
    return _alpha(observed, (total**2 - math.fsum(value**2 for value in seen)) / 2, total)


def alpha_ordinal(sums: Sums) -> float | None:
    """Krippendorff's alpha of two coders, with labels in the order of their numbers.

    Two labels are as far apart as there are values between their middles, squared.
    """
    pairs, seen = _coded(sums)
    middles, total = list[float](), 0.0
    for value in seen:
        middles.append(total + value / 2)
        total += value
    observed = math.fsum(weight * (middles[gold] - middles[answer]) ** 2 for (gold, answer), weight in pairs)
    # the sum over all pairs of labels, by their spread: the mean of the middles is half of the total
    expected = total * math.fsum(value * (middle - total / 2) ** 2 for value, middle in zip(seen, middles, strict=True))
    return _alpha(observed, expected, total)


def _coded(sums: Sums) -> tuple[list[tuple[Cell, float]], list[float]]:
    """The cells that both coders have a value in, and how often each label was given by the two."""
    pairs = [(cell, weight) for cell, weight in zip(sums.cells, sums.weights, strict=True) if cell[1] != UNANSWERED]
    seen = [0.0] * sums.labels
    for (gold, answer), weight in pairs:
        seen[gold] += weight
        seen[answer] += weight
    return pairs, seen


def _alpha(observed: float, expected: float, total: float) -> float | None:
    if expected <= 1e-12 * total**2:
        return None
    values = max(total, 2.0)  # a draw may weigh less than the one row that every table has, and agree more than fully
    return 1 - (1 - 1 / values) * total * observed / expected


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


Figure = Callable[[Sums], float | None]


class Resampled(msgspec.Struct, frozen=True):
    """Figures with their intervals, in the order of the figures that were asked for."""

    intervals: list[Interval]
    seed: int


def resample(
    cells: Mapping[Cell, int],
    labels: int,
    figures: Sequence[Figure],
    *,
    effective: float | None = None,
    seed: int = SEED,
    draws: int | None = None,
) -> Resampled:
    """Each figure with its 95% interval, by a Bayesian bootstrap over the cells: it takes no longer for more rows.

    `effective`: as many independent rows the rows are worth, where they come in clusters. The cells that nobody has
    hit share one small weight, which in each draw goes to one of them. `draws`: None: `DRAWS`, or
    fewer where there are very many cells.
    """
    places = sorted(cells)  # the records may come in any order, and the draws are the same
    counts = [cells[cell] for cell in places]
    total = sum(counts)
    values = [figure(Sums(places, list(map(float, counts)), labels)) for figure in figures]
    if not total:
        return Resampled([UNDEFINED] * len(figures), seed)
    scale = 1.0 if effective is None else effective / total
    every = [(gold, answer) for gold in range(labels) for answer in range(labels)]
    empty = [cell for cell in every if cell not in cells]
    prior = PRIOR / len(every)
    shapes = [count * scale + prior for count in counts]
    found: list[list[float]] = [[] for _ in figures]
    rng = random.Random(seed)
    gamma = rng.gammavariate
    for _ in range(max(LEAST_DRAWS, min(DRAWS, MOST_WEIGHTS // len(cells))) if draws is None else draws):
        weights = [gamma(shape, 1.0) for shape in shapes]
        drawn = places
        if empty:
            drawn = [*places, empty[rng.randrange(len(empty))]]
            weights.append(gamma(prior * len(empty), 1.0))
        sums = Sums(drawn, _rescaled(weights, total), labels)
        for kept, figure in zip(found, figures, strict=True):
            if (value := figure(sums)) is not None:
                kept.append(value)
    return Resampled([_interval(value, kept) for value, kept in zip(values, found, strict=True)], seed)


def _rescaled(weights: Sequence[float], total: float) -> list[float]:
    """The weights of a draw, which sum to as many rows as there are."""
    factor = total / math.fsum(weights)
    return [weight * factor for weight in weights]


def _interval(value: float | None, draws: list[float]) -> Interval:
    if value is None or not draws:
        return UNDEFINED
    draws.sort()
    tail = (1 - CONFIDENCE) / 2
    lower, upper = quantile(draws, tail), quantile(draws, 1 - tail)
    if lower == upper:  # as where there is one label alone: the cells leave nothing to chance, but the rows do
        return Interval(value, None, None)
    return Interval(value, min(value, lower), max(value, upper))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, between two of them in proportion."""
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
