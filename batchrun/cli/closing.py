"""The end of a run on the screen: its report, written and printed, and the page if one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.cli import console
from batchrun.cli.last_words import where_answers_are, write_report
from batchrun.cli.next_step import NextStep, next_step

if TYPE_CHECKING:
    from batchrun.cli.run import RunOptions
    from batchrun.job.summary import Summary


def show_report(summary: Summary, options: RunOptions) -> None:
    """Write the report as JSON, and print it."""
    from batchrun.report.text import render

    step = NextStep()
    if options.files.results_path is not None:
        step = next_step(summary, options.made_of, options.part.sample)
    report = summary.report(step.command, step.change)
    if options.files.report_path is not None:
        write_report(options.files.report_path, report.to_json())
    if not options.screen.quiet:
        console.say(render(report, where_answers_are(options.files.results_path, report)).rstrip("\n"))
    elif summary.stopped:
        console.say(f"batchrun: stopped: {summary.stopped.why}")
    if options.page.html is not None and options.files.results_path is not None:
        from batchrun.html.report import Source

        tally, results, page = summary.prepared.tally, options.files.results_path, options.page
        page.write_if_possible(Source(report, tally, results, with_text=page.with_text, gold=options.gold))
