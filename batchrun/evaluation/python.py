"""`batchrun.evaluate`, `batchrun.judge` and `batchrun.compare`: the commands of these names from Python, typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, overload

from batchrun import checks
from batchrun.billing.pricing import PriceBook
from batchrun.datasets.recipe import Recipe
from batchrun.datasets.schema import Schema
from batchrun.datasets.tables import Source
from batchrun.errors import UsageError
from batchrun.evaluation import compare as comparing
from batchrun.evaluation import evaluate as evaluating
from batchrun.evaluation.agreement import Agreements, agree
from batchrun.evaluation.asked import results_in
from batchrun.evaluation.compare import Comparison
from batchrun.evaluation.defaults import SHOWN_FLIPS
from batchrun.evaluation.evaluate import Question
from batchrun.evaluation.figures import Evaluation
from batchrun.evaluation.gold import CUSTOM_ID
from batchrun.evaluation.judge_requests import Answers, ToJudge, make_requests
from batchrun.evaluation.judged import JudgeQuestion, evaluate_judged
from batchrun.evaluation.scorers import Scorer, of_function, scorer_of
from batchrun.evaluation.verdict import Unanswered
from batchrun.stats.confusion import SEED

Scoring = str | Callable[[Any, Any], bool | None]
_Path = str | PathLike[str]


def evaluate(
    results: _Path,
    gold: _Path | None = None,
    *,
    judge: _Path | None = None,
    passing: str | None = None,
    judge_gold: str | None = None,
    key: str | None = None,
    columns: Mapping[str, str] | None = None,
    scorers: Mapping[str, Scoring] | None = None,
    by: str | None = None,
    cluster: str | None = None,
    ordinal: Iterable[str] = (),
    unanswered: str = "wrong",
    seed: int = SEED,
) -> Evaluation:
    """The figures of `batchrun eval`: a result file held against a table of right answers, or judged by a model.

    `judge`: the result file of a judge, whose verdicts score in place of gold; `passing`: `FIELD=VALUE`, where they
    pass; `judge_gold`: the column of gold that has verdicts of people.
    `key`, `by`, `cluster`: columns of gold. `columns`: the column of gold for a field. `scorers`: for a field, the
    name of a scorer or a function of gold and answer that gives True, False or None. `ordinal`: fields whose labels
    have an order. `unanswered`: "wrong" or "exclude". `seed`: of the resampled intervals.

    Raises `UsageError` where nothing was answered or scored, or a file or a value cannot serve; `InputError` for rows
    of gold that cannot be used; `ResultFileError` for records of another version.
    """
    path = results_in(checks.path("results", results))
    table = None if gold is None else Source(str(checks.path("gold", gold)))
    if judge is not None:
        if passing is None or columns or scorers or _several("ordinal", ordinal, '["level"]'):
            raise UsageError("judge needs passing='FIELD=VALUE', and takes neither columns nor scorers nor ordinal")
        verdicts = results_in(checks.path("judge", judge))
        passing = checks.text("passing", passing, '"FIELD=VALUE", such as "verdict=pass"')
        told = JudgeQuestion(verdicts, passing, table, key, judge_gold, by, cluster, _policy(unanswered))
        return evaluate_judged(path, told)
    if table is None or passing is not None or judge_gold is not None:
        raise UsageError(
            "gold is missing (the table, also where results is the folder of a job), or judge, which passing and "
            "judge_gold belong to"
        )
    question = Question(
        gold=table,
        key=key,
        columns=_columns(columns),
        scorers=_scorers(scorers),
        by=by,
        cluster=cluster,
        ordinal=_several("ordinal", ordinal, '["level"]'),
        policy=_policy(unanswered),
        seed=checks.count("seed", seed, least=0),
    )
    return evaluating.evaluate(path, question)


def judge(
    data: _Path,
    results: _Path,
    output: _Path,
    *,
    prompt: str,
    schema: str,
    gold: str | None = None,
    key: str | None = None,
    instructions: str | None = None,
    model: str | None = None,
    where: str | None = None,
    limit: int | None = None,
) -> ToJudge:
    """The requests of `batchrun judge`, written to `output`: they ask a model how good each answer in `results` is.

    `data`: the table of the rows. `prompt`, `instructions`: templates, which have its columns, `answer`, `parsed` and
    `gold`. `schema`: of the verdict, in short form or as JSON. `gold`, `key`: columns of the table. `where`, `limit`:
    which rows are taken.

    Raises `UsageError`, and `InputError` for rows that cannot be used; then nothing is written.
    """
    recipe = Recipe(
        prompt=checks.text("prompt", prompt, "a template, such as 'Is {{ answer | tojson }} right?'"),
        instructions=instructions,
        schema=Schema.parse(checks.text("schema", schema, "a schema, such as 'verdict enum(pass|fail), why str'")),
        model=model,
        where=where,
        limit=None if limit is None else checks.count("limit", limit),
        id_column=CUSTOM_ID,
    )
    answers = Answers(Source(str(checks.path("data", data))), results_in(checks.path("results", results)), key, gold)
    return make_requests(answers, recipe, checks.path("output", output))


@overload
def compare(results: Iterable[_Path], gold: None = None, *, prices: _Path | None = None) -> Agreements: ...


@overload
def compare(
    results: Iterable[_Path],
    gold: _Path,
    *,
    key: str | None = None,
    columns: Mapping[str, str] | None = None,
    scorers: Mapping[str, Scoring] | None = None,
    by: str | None = None,
    unanswered: str = "wrong",
    flips: int = SHOWN_FLIPS,
    prices: _Path | None = None,
) -> Comparison: ...


def compare(
    results: Iterable[_Path],
    gold: _Path | None = None,
    *,
    key: str | None = None,
    columns: Mapping[str, str] | None = None,
    scorers: Mapping[str, Scoring] | None = None,
    by: str | None = None,
    unanswered: str = "wrong",
    flips: int = SHOWN_FLIPS,
    prices: _Path | None = None,
) -> Comparison | Agreements:
    """The figures of `batchrun compare`: two result files or more, row by row. The values are those of `evaluate`.

    Without gold, how far they agree, also where the folder of a job has gold. `flips`: how many rows, of each pair and
    field, that one has right and the other has not. `prices`: a price file. Raises as `evaluate` does, and
    `UsageError` where two files have no row in common, and for values that need gold and have none.
    """
    paths = [
        results_in(checks.path("results", path)) for path in _several("results", results, '["old.jsonl", "new.jsonl"]')
    ]
    if len(paths) < 2:
        raise UsageError("compare needs two result files or more")
    book = PriceBook.load(None if prices is None else Path(checks.path("prices", prices)))
    if gold is None:
        told = {"key": key, "columns": columns, "scorers": scorers, "by": by}
        if useless := [name for name, value in told.items() if value]:
            raise UsageError(f"{useless[0]} needs gold")
        return agree(paths, book)
    question = Question(
        gold=Source(str(checks.path("gold", gold))),
        key=key,
        columns=_columns(columns),
        scorers=_scorers(scorers),
        by=by,
        policy=_policy(unanswered),
    )
    return comparing.compare(paths, question, book, checks.count("flips", flips, least=0))


def _scorers(told: Mapping[str, Scoring] | None) -> dict[str, Scorer]:
    return {name: _scorer(name, one) for name, one in _by_field("scorers", told, '{"topic": "casefold"}').items()}


def _scorer(name: str, told: Scoring) -> Scorer:
    if callable(told):
        return of_function(getattr(told, "__name__", "function"), told)
    return scorer_of(checks.text(f"scorers[{name!r}]", told, 'a function, or the name of a scorer, such as "casefold"'))


def _by_field(name: str, told: Any, example: str) -> Mapping[str, Any]:
    """A mapping, None being an empty one. Raises `UsageError` for anything else."""
    if told is not None and not isinstance(told, Mapping):
        raise checks.refused(name, told, f"a mapping of fields, such as {example}")
    return told or {}


def _columns(told: Mapping[str, str] | None) -> dict[str, str]:
    found = _by_field("columns", told, '{"topic": "right_topic"}')
    return {name: checks.text(f"columns[{name!r}]", one, "the name of a column") for name, one in found.items()}


def _several(name: str, told: Any, example: str) -> list[Any]:
    """Several values; a text is one, and its letters are not meant. Raises `UsageError` for anything else."""
    if isinstance(told, (str, bytes, PathLike)) or not isinstance(told, Iterable):
        raise checks.refused(name, told, f"a list, such as {example}")
    return list(told)


def _policy(unanswered: str) -> Unanswered:
    if unanswered not in ("wrong", "exclude"):
        raise checks.refused("unanswered", unanswered, '"wrong" or "exclude"')
    return Unanswered(unanswered)
