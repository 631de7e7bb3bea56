"""The directory of a job that runs on many machines: opened and locked by one driver at a time."""

from __future__ import annotations

import contextlib
from pathlib import Path

from batchrun.errors import ResultFileError, UsageError
from batchrun.results.parts import PLAN, files_of, is_directory_of_results
from batchrun.results.paths import ResultPaths
from batchrun.results.runlog import RunLog

_OWN = ("shard-", "run.", ".check-", PLAN)


def open_directory(directory: Path) -> RunLog:
    """Make the directory where there is none, and lock it for this process.

    Raises `UsageError` for a path that cannot serve, `ResultFileError` while another driver has it.
    """
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file; with --ray the results go to a directory: choose another -o")
    if not directory.parent.is_dir():
        raise UsageError(f"there is no directory {directory.parent}; create it, or choose another -o")
    try:
        directory.mkdir(exist_ok=True)
        foreign = [path.name for path in directory.iterdir() if not path.name.startswith(_OWN)]
    except OSError as error:
        raise ResultFileError(f"cannot use {directory}: {error.strerror}; choose another -o") from error
    if foreign and not is_directory_of_results(directory):
        raise UsageError(f"{directory} holds other files ({foreign[0]}); with --ray choose a new directory for -o")
    return RunLog(ResultPaths.of(directory).log, of=directory)


def clear(directory: Path) -> None:
    """Discard all results, and the plan last of all. The directory is locked."""
    for part in files_of(directory):
        for path in sorted(directory.glob(f"{part.name}*")):
            path.unlink(missing_ok=True)
    for path in sorted(directory.glob("shard-*")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (directory / PLAN).unlink()
