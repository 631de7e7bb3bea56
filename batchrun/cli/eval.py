"""`batchrun eval`: how right the answers of a result file are, held against gold."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.cli import console
from batchrun.cli.eval_options import GATES, SCORING, GateOptions, ScoringOptions
from batchrun.cli.options import OUTPUT, RESULTS, OutputOptions
from batchrun.cli.verb import Verb


@click.command("eval", cls=Verb, groups=(SCORING, GATES, OUTPUT))
@click.argument("results", type=RESULTS)
def command(results: Path, scoring: ScoringOptions, gates: GateOptions, output: OutputOptions) -> None:
    """Hold the answers in RESULTS against a table of right answers. Nothing is sent.

    A row without an answer counts as wrong, and is shown as unanswered. Every figure comes with its 95% interval.

    \b
    Example:
      batchrun eval results.jsonl --gold gold.csv --key id
    """
    from batchrun.evaluation.evaluate import evaluate
    from batchrun.evaluation.gates import check, missed
    from batchrun.evaluation.text import render

    thresholds = gates.parsed()
    console.say_rescue(results)
    found = evaluate(results, scoring.question())
    found = check(found, thresholds, gates.least_row_share)
    console.print_out(found.to_json() if output.as_json else render(found))
    if error := missed(found.gates):
        raise error
