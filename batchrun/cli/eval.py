"""`batchrun eval`: how right the answers of a result file are, held against gold."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from batchrun.cli import console
from batchrun.cli.eval_options import (
    GATES,
    GOLD_OPTIONS,
    INTERVALS,
    JUDGED,
    RESULTS_OR_JOB,
    ROW_FILES,
    SCORING,
    GateOptions,
    IntervalOptions,
    JudgedOptions,
    RowFileOptions,
    ScoringOptions,
)
from batchrun.cli.options import OUTPUT, OutputOptions
from batchrun.cli.table_options import DataOptions
from batchrun.cli.verb import Verb


@click.command("eval", cls=Verb, groups=(SCORING, GOLD_OPTIONS, INTERVALS, JUDGED, ROW_FILES, GATES, OUTPUT))
@click.argument("results", type=RESULTS_OR_JOB)
def command(
    results: Path,
    scoring: ScoringOptions,
    data_options: DataOptions,
    intervals: IntervalOptions,
    judged: JudgedOptions,
    output_files: RowFileOptions,
    gates: GateOptions,
    output: OutputOptions,
) -> None:
    """Hold the answers in RESULTS against a table of right answers, or the verdicts of a judge. Nothing is sent.

    A row without an answer counts as wrong, and is shown as unanswered. Every figure comes with its 95% interval.

    \b
    Example:
      batchrun eval results.jsonl --gold gold.csv --key id
    """
    from batchrun.evaluation.asked import results_in
    from batchrun.evaluation.evaluate import evaluate
    from batchrun.evaluation.gates import against, check, missed
    from batchrun.evaluation.judged import JudgeQuestion, evaluate_judged
    from batchrun.evaluation.text import render

    thresholds = gates.parsed()
    question = judged.question(results, scoring, data_options, intervals) or scoring.question(
        results, data_options, intervals
    )
    results = results_in(results)
    console.say_rescue(results)
    with ExitStack() as files:
        others = [question.judge] if isinstance(question, JudgeQuestion) else [base for base, _ in gates.bases()]
        sinks, junit = output_files.opened([results, *others], question.gold, files)
        if isinstance(question, JudgeQuestion):
            gates.refuse_bases()
            found = check(evaluate_judged(results, question, sinks), thresholds, gates.least_row_share)
        else:
            found = check(evaluate(results, question, sinks), thresholds, gates.least_row_share)
            found.gates.extend(against(base, results, question, margin) for base, margin in gates.bases())
        if junit is not None:
            junit.write(found)
    console.print_out(found.to_json() if output.as_json else render(found))
    if error := missed(found.gates):
        raise error
