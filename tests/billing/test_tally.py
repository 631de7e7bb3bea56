"""Tallies of parts, put together, are the tally of the whole: bills, histograms and examples included."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.records.attempt import AnsweredControl
from batchrun.records.result import ResultHead
from batchrun.report.report import make_report
from tests.report.test_report import any_head

BOOK = PriceBook()
MORE = ("final_errors", "control_requests")


def tally_of(heads: list[ResultHead]) -> Tally:
    """The records, and for each of them a control request that costs the same."""
    tally = Tally(BOOK)
    tally.add(heads)
    runs = [head.run for head in heads]
    tally.add_controls(
        AnsweredControl(run.requested_model, run.started, run.elapsed_s, run.model, run.usage) for run in runs
    )
    return tally


@given(st.lists(st.lists(any_head(), max_size=6), max_size=4))
def test_merged_parts_are_the_whole(parts: list[list[ResultHead]]) -> None:
    """As when the shards of a job, or the files of its runs, are summed up together."""
    whole, merged = tally_of([head for part in parts for head in part]), Tally(BOOK)
    for part in parts:
        merged.merge(tally_of(part))
    assert make_report(merged).to_json() == make_report(whole).to_json()
    for name in ("recorded", "failed", "retryable", "tokens", "output_tokens", "longest_answer", "total_lines", *MORE):
        assert getattr(merged, name) == getattr(whole, name), name
    assert merged.cost_usd() == whole.cost_usd()
