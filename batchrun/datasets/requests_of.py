"""Finds the request file of a result file, and how its requests were sent: named by the user, or by the run log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from batchrun.errors import UsageError
from batchrun.records.request import Overrides
from batchrun.requests.overrides import from_options
from batchrun.results.last_run import last_start
from batchrun.results.paths import ResultPaths


def sent_as(results: Path) -> Overrides | None:
    """The changes of bodies with which the last run sent its requests; None where they are not known."""
    start = last_start(ResultPaths.of(results).log)
    return from_options(start.options) if start is not None and start.options is not None else None


def note_changed(changed: int, notice: Callable[[str], None]) -> None:
    """Tell of answers to requests that were changed since they were sent."""
    if changed:
        what = "1 answer is to a request that was" if changed == 1 else f"{changed:,} answers are to requests that were"
        notice(f"{what} changed since; run the requests again to replace them (--changed resend)")


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
