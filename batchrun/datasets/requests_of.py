"""Finds the request file of a result file: named by the user, or by the run log."""

from __future__ import annotations

from pathlib import Path

from batchrun.errors import UsageError
from batchrun.results.last_run import requests_named
from batchrun.results.paths import ResultPaths


def find_requests(results: Path, given: Path | None) -> Path | None:
    """The request file; None where the run log names none, or it is no longer there.

    A name in the log is relative to where the run was started; that may have been here, or beside the results.
    Raises `UsageError` if the given one does not exist.
    """
    if given is not None:
        if not given.is_file():
            raise UsageError(f"--requests {given}: there is no such file")
        return given
    named = requests_named(ResultPaths.of(results).log)
    if named is None:
        return None
    places = (Path(named), results.parent / named, results.parent / Path(named).name)
    return next((place for place in places if place.is_file()), None)
