"""How often the intervals hold the truth: `python -m tests.docs coverage` writes the table of the manual.

Tables are drawn from known rates again and again. An interval of 95 % should hold the true figure in 95 % of them.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from batchrun.stats.confusion import Cell, Figure, Sums, f1_macro, kappa, resample
from batchrun.stats.corrected import Rate, corrected_share
from batchrun.stats.proportions import wilson

TRIALS = 2000
DRAWS = 500  # of one interval: the ends are off by little, and the whole takes minutes
RATES, SIZES = (0.5, 0.9, 0.99, 1.0), (30, 100, 1000)
SEED = 5


@dataclass(frozen=True, slots=True)
class Case:
    """A model of `classes` classes, the last a quarter as frequent as the first, that is right in `accuracy`."""

    classes: int
    accuracy: float
    rows: int

    @property
    def rates(self) -> dict[Cell, float]:
        """How likely each cell is."""
        weights = [1 - 0.75 * label / (self.classes - 1) for label in range(self.classes)]
        off = (1 - self.accuracy) / (self.classes - 1)
        labels = range(self.classes)
        return {
            (gold, answer): weights[gold] / sum(weights) * (self.accuracy if gold == answer else off)
            for gold in labels
            for answer in labels
        }


CASES = [Case(3, 0.8, 300), Case(3, 0.8, 1000), Case(5, 0.9, 300), Case(5, 0.9, 1000)]


def holds(hits: int, rows: int, rate: float) -> bool:
    """Whether Wilson's interval after so many hits holds the rate."""
    found = wilson(hits, rows)
    assert found.lower is not None
    assert found.upper is not None
    return found.lower <= rate <= found.upper


def exact_coverage(rate: float, rows: int) -> float:
    """In how many of all samples Wilson's interval holds the rate: summed over the binomial distribution."""
    if rate == 1:
        return float(holds(rows, rows, rate))
    log = [math.log(rate), math.log(1 - rate)]
    return math.fsum(
        math.exp(
            math.lgamma(rows + 1)
            - math.lgamma(hits + 1)
            - math.lgamma(rows - hits + 1)
            + hits * log[0]
            + (rows - hits) * log[1]
        )
        for hits in range(rows + 1)
        if holds(hits, rows, rate)
    )


def drawn_coverage(rate: float, rows: int) -> float:
    """The same in `TRIALS` samples."""
    rng = random.Random(SEED)
    hits = (sum(rng.random() < rate for _ in range(rows)) for _ in range(TRIALS))
    return sum(holds(one, rows, rate) for one in hits) / TRIALS


def resampled_coverage(case: Case, trials: int = TRIALS) -> dict[str, float]:
    """In how many samples the intervals of kappa and macro F1 hold the truth."""
    figures: dict[str, Figure] = {"kappa": kappa, "macro F1": f1_macro}
    cells, rates = list(case.rates), list(case.rates.values())
    truth = {name: figure(Sums(cells, rates, case.classes)) for name, figure in figures.items()}
    rng, held = random.Random(SEED), Counter[str]()
    for trial in range(trials):
        table = Counter(rng.choices(cells, rates, k=case.rows))
        found = resample(table, case.classes, list(figures.values()), seed=trial, draws=DRAWS).intervals
        for name, interval in zip(figures, found, strict=True):
            true = truth[name]
            assert true is not None
            assert interval.lower is not None
            assert interval.upper is not None
            held[name] += interval.lower <= true <= interval.upper
    return {name: held[name] / trials for name in figures}


@dataclass(frozen=True, slots=True)
class JudgeCase:
    """Answers of which the share `accuracy` passes, a judge that errs, and people who judge `labelled` of them."""

    accuracy: float
    true_positive_rate: float
    true_negative_rate: float
    rows: int
    labelled: int

    def __str__(self) -> str:
        rates = f"{self.true_positive_rate:g} and {self.true_negative_rate:g}"
        return f"true rate {self.accuracy:g}, rates of the judge {rates}, {self.labelled} rows of people"


JUDGE_CASES = [
    JudgeCase(0.8, 0.95, 0.9, 200, 40),
    JudgeCase(0.8, 0.95, 0.9, 1000, 200),
    JudgeCase(0.5, 0.8, 0.8, 200, 40),
    JudgeCase(0.5, 0.8, 0.8, 1000, 200),
    JudgeCase(0.95, 0.9, 0.8, 1000, 40),
    JudgeCase(0.8, 0.65, 0.6, 1000, 100),
]


def corrected_coverage(case: JudgeCase, trials: int = TRIALS) -> tuple[float, float]:
    """In how many samples the corrected accuracy holds the truth, and in how many it is not defined."""
    rng, held, undefined = random.Random(SEED), 0, 0
    for _ in range(trials):
        true = [rng.random() < case.accuracy for _ in range(case.rows)]
        said = [rng.random() < (case.true_positive_rate if passes else 1 - case.true_negative_rate) for passes in true]
        found = Counter(zip(true[: case.labelled], said, strict=False))
        positives = Rate(found[True, True], found[True, True] + found[True, False])
        negatives = Rate(found[False, False], found[False, True] + found[False, False])
        interval = corrected_share(Rate(sum(said), case.rows), positives, negatives)
        if interval.lower is None or interval.upper is None:
            undefined += 1
        else:
            held += interval.lower <= case.accuracy <= interval.upper
    return held / (trials - undefined), undefined / trials


def quick_rows() -> Iterator[str]:
    """The rows of the table of the manual that take seconds."""
    for rate in RATES:
        for rows in SIZES:
            yield f"| accuracy (Wilson) | true rate {rate:g} | {rows:,} | {drawn_coverage(rate, rows):.1%} |"
    for case in JUDGE_CASES:
        held, undefined = corrected_coverage(case)
        without = f", {undefined:.1%} undefined" if undefined else ""
        yield f"| accuracy, corrected for a judge | {case} | {case.rows:,} | {held:.1%}{without} |"


def resampled_rows(case: Case, shares: Mapping[str, float]) -> Iterator[str]:
    """The rows of one case, which take minutes."""
    for name, share in shares.items():
        of = f"{case.classes} classes, accuracy {case.accuracy:g}"
        yield f"| {name} (resampled) | {of} | {case.rows:,} | {share:.1%} |"


def table() -> Iterator[str]:
    """The table of the manual, line by line."""
    yield "| figure | of | rows | holds the truth in |"
    yield "|---|---|---|---|"
    yield from quick_rows()
    for case in CASES:
        yield from resampled_rows(case, resampled_coverage(case))
