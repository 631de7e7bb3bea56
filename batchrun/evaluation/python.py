"""`batchrun.evaluate` and `batchrun.compare`: the figures of the commands, from Python, typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from batchrun import checks
from batchrun.billing.pricing import PriceBook
from batchrun.datasets.tables import Source
from batchrun.errors import UsageError
from batchrun.evaluation import compare as comparing
from batchrun.evaluation import evaluate as evaluating
from batchrun.evaluation.asked import results_in
from batchrun.evaluation.compare import Comparison
from batchrun.evaluation.evaluate import Question
from batchrun.evaluation.figures import Evaluation
from batchrun.evaluation.scorers import Kind, Scorer, scorer_of
from batchrun.evaluation.verdict import Unanswered
from batchrun.stats.confusion import SEED

Scoring = str | Callable[[Any, Any], bool | None]
_Path = str | PathLike[str]


def evaluate(
    results: _Path,
    gold: _Path,
    *,
    key: str | None = None,
    columns: Mapping[str, str] | None = None,
    scorers: Mapping[str, Scoring] | None = None,
    by: str | None = None,
    cluster: str | None = None,
    ordinal: Iterable[str] = (),
    unanswered: str = "wrong",
    seed: int = SEED,
) -> Evaluation:
    """The figures of `batchrun eval`: a result file held against a table of right answers.

    `key`, `by`, `cluster`: columns of gold. `columns`: the column of gold for a field. `scorers`: for a field, the
    name of a scorer or a function of gold and answer that gives True, False or None. `ordinal`: fields whose labels
    have an order. `unanswered`: "wrong" or "exclude". `seed`: of the resampled intervals.

    Raises `UsageError` where nothing was answered or scored, or a file or a value cannot serve; `InputError` for rows
    of gold that cannot be used; `ResultFileError` for records of another version.
    """
    question = Question(
        gold=Source(str(checks.path("gold", gold))),
        key=key,
        columns=dict(columns or {}),
        scorers={name: _scorer(told) for name, told in (scorers or {}).items()},
        by=by,
        cluster=cluster,
        ordinal=tuple(ordinal),
        policy=_policy(unanswered),
        seed=checks.count("seed", seed, least=0),
    )
    return evaluating.evaluate(results_in(checks.path("results", results)), question)


def compare(
    results: Iterable[_Path],
    gold: _Path,
    *,
    key: str | None = None,
    columns: Mapping[str, str] | None = None,
    scorers: Mapping[str, Scoring] | None = None,
    by: str | None = None,
    unanswered: str = "wrong",
    prices: _Path | None = None,
) -> Comparison:
    """The figures of `batchrun compare`: two result files or more, row by row. The values are those of `evaluate`.

    `prices`: a price file. Raises as `evaluate` does, and `UsageError` where two files have no row in common.
    """
    paths = [results_in(checks.path("results", path)) for path in results]
    if len(paths) < 2:
        raise UsageError("compare needs two result files or more")
    question = Question(
        gold=Source(str(checks.path("gold", gold))),
        key=key,
        columns=dict(columns or {}),
        scorers={name: _scorer(told) for name, told in (scorers or {}).items()},
        by=by,
        policy=_policy(unanswered),
    )
    book = PriceBook.load(None if prices is None else Path(checks.path("prices", prices)))
    return comparing.compare(paths, question, book)


def _scorer(told: Scoring) -> Scorer:
    if callable(told):
        return Scorer(getattr(told, "__name__", "function"), Kind.OTHER, _same, _same, told, takes_many=False)
    return scorer_of(told)


def _same(value: Any) -> Any:
    return value


def _policy(unanswered: str) -> Unanswered:
    if unanswered not in ("wrong", "exclude"):
        raise checks.refused("unanswered", unanswered, '"wrong" or "exclude"')
    return Unanswered(unanswered)
