"""`batchrun judge`: from a table and the answers to its rows to requests that ask a model how good each answer is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli import console, prepare
from batchrun.cli.eval_options import RESULTS_OR_JOB
from batchrun.cli.table_options import (
    ASK,
    DATA,
    DATA_OPTIONS,
    LIMIT,
    MISSING,
    WHERE,
    AskOptions,
    DataOptions,
    RowOptions,
)
from batchrun.cli.verb import Option, OptionGroup, Verb
from batchrun.errors import UsageError
from batchrun.records.words import counted

if TYPE_CHECKING:
    from batchrun.evaluation.judge_requests import ToJudge


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Which answers are judged, and against what."""

    key: str | None
    gold: str | None
    where: str | None
    limit: int | None
    missing: str

    def rows(self, custom_id: str) -> RowOptions:
        """The choice of rows; `custom_id` is the column of ids."""
        return RowOptions(self.where, self.limit, custom_id, 1, self.missing)


JUDGE = OptionGroup(
    "Rows",
    "judge",
    JudgeOptions,
    (
        Option(
            ["--key"],
            metavar="COLUMN",
            default_note="custom_id, else as it was prepared",
            help="Column of DATA that holds the custom_id of each request.",
        ),
        Option(["--gold"], metavar="COLUMN", help="Column of DATA with the right answer: {{ gold }} in templates."),
        WHERE,
        LIMIT,
        MISSING,
    ),
)


@click.command("judge", cls=Verb, groups=(prepare.FILES, DATA_OPTIONS, JUDGE, ASK))
@click.argument("data", type=DATA)
@click.argument("results", type=RESULTS_OR_JOB)
def command(
    data: str,
    results: Path,
    files: prepare.FileOptions,
    data_options: DataOptions,
    judge: JudgeOptions,
    ask: AskOptions,
) -> None:
    """Make a request of each answer in RESULTS that asks a model how good it is. Nothing is sent.

    Templates have the columns of DATA, the answer as it came (answer), its JSON (parsed), and gold. Write
    {{ answer | tojson }} to keep what an answer says apart from the rubric. Then `batchrun run` asks the judge, and
    `batchrun eval RESULTS --judge` scores by its verdicts.

    \b
    Example:
      batchrun judge data.csv results.jsonl -p @rubric.j2 -s @verdict.txt -o judge.requests.jsonl
    """
    from batchrun.evaluation.asked import results_in
    from batchrun.evaluation.gold import CUSTOM_ID
    from batchrun.evaluation.judge_requests import Answers, make_requests

    if ask.schema is None:
        raise UsageError(
            "-s is missing: it makes verdicts that can be read, such as -s 'verdict enum(pass|fail), why str'"
        )
    recipe = ask.recipe(judge.rows(CUSTOM_ID))
    for note in prepare.notes(recipe.schema):
        console.say(f"batchrun: {note}")
    results = results_in(results)
    made = make_requests(Answers(data_options.source(data), results, judge.key, judge.gold), recipe, files.output)
    for line in (*prepare.told(made.summary, files.output), *_told(made, results), _next(made, files.output, results)):
        console.say(line)


def _next(made: ToJudge, requests: Path, results: Path) -> str:
    """What to type next."""
    fields = (made.summary.prepared.format or {}).get("schema", {}).get("properties", {})
    passing = next((f"{name}={told['enum'][0]}" for name, told in fields.items() if told.get("enum")), "FIELD=VALUE")
    verdicts = requests.with_name(f"{requests.stem.removesuffix('.requests')}.results.jsonl")
    ask = shlex.join(["batchrun", "run", str(requests), "-o", str(verdicts)])
    score = shlex.join(["batchrun", "eval", str(results), "--judge", str(verdicts), "--pass", passing])
    return f"next: {ask}; {score}"


def _told(made: ToJudge, results: Path) -> Iterator[str]:
    """What somebody should know of what is judged and what is not, a line each."""
    yield f"not judged: {counted(made.unanswered, 'row')} unanswered, {made.not_asked:,} not asked"
    if made.without_row:
        yield f"{counted(made.without_row, 'record')} in {results} without a row in the table, and so not judged"
    if made.without_row is None:
        yield f"not all rows were read (--limit), so it is not known whether each record in {results} has one"
    if made.damaged_lines:
        yield f"{counted(made.damaged_lines, 'damaged line')} in {results}: no answer was read there"
    if made.hidden:
        names = ", ".join(made.hidden)
        yield f"columns of the table that cannot be used, because the answer has their names: {names}"
    if not {"answer", "parsed"} & set(made.summary.prepared.columns):
        yield "the prompt uses neither answer nor parsed, so the judge sees no answer"
