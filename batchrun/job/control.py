"""Finds the control: the smallest request that has succeeded in a result file."""

from __future__ import annotations

from batchrun.job.prepare import Prepared
from batchrun.records.index import LineSet
from batchrun.records.request import RequestLine
from batchrun.results.scan import read_results


def smallest_success(prepared: Prepared, path: str, model: str) -> RequestLine | None:
    """The smallest request to `path` for `model` that succeeded in an earlier run; None if there is none.

    It reads both files from the beginning, and may run in a thread while the job goes on.
    """
    if prepared.store.paths is None:
        return None
    good = LineSet()
    for result in read_results(prepared.store.paths.results):
        if result is None or result.run.outcome != "succeeded" or result.run.line not in prepared.done:
            continue
        if result.run.source is not None:  # perhaps another gateway's
            continue
        if (result.run.path, result.run.requested_model) == (path, model):
            good.add(result.run.line)
    if not good:
        return None
    with prepared.requests.again() as requests:
        lines = (line for line in requests.requests() if line.line_number in good)
        return min(lines, key=lambda line: len(line.body), default=None)
