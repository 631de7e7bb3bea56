"""Finds the request file of a result file: named by the user, or by the run log."""

from __future__ import annotations

from pathlib import Path

from batchrun.errors import UsageError
from batchrun.results.last_run import last_start
from batchrun.results.paths import ResultPaths


def find_requests(results: Path, given: Path | None) -> Path | None:
    """The request file; None where the run log names none, or it is no longer there.

    A name in the log is relative to where the run was started; that may have been here, or beside the results. Where
    both have such a file, the one counts that is as long as it was then.
    Raises `UsageError` if the given one does not exist.
    """
    if given is not None:
        if not given.is_file():
            raise UsageError(f"--requests {given}: there is no such file")
        return given
    start = last_start(ResultPaths.of(results).log)
    if start is None or not start.requests:
        return None
    name = Path(start.requests)
    places = [place for place in (name, results.parent / name, results.parent / name.name) if place.is_file()]
    as_long = [place for place in places if place.stat().st_size == start.input_bytes]
    return next(iter(as_long or places), None)
