"""What a report prints at its end: where the answers are, and a command that shows one; and its JSON as a file."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.cli import console

if TYPE_CHECKING:
    from batchrun.report.report import Report

_SUCCEEDED = '"error":null}$'  # how the record of an answer ends


def where_answers_are(results: Path | None, report: Report) -> str | None:
    """The result file, and how to look at the first answer in it; None where there is no answer to look at."""
    if results is None or not report.lines.succeeded:
        return None
    return f"{results}; look at one: {_command(results, has_failures=report.lines.failed > 0)}"


def how_it_is_doing(results: Path) -> str:
    """The command that shows how far the run is that writes `results`."""
    return f"batchrun tune {_word(str(results))}"


def _word(name: str) -> str:
    """The name of a file as a word of a command, which is never taken for an option."""
    return shlex.quote(name if not name.startswith("-") else f"./{name}")


def _command(results: Path, *, has_failures: bool) -> str:
    from batchrun.results.parts import files_of

    name = str(next((path for path in files_of(results) if path.exists() and path.stat().st_size), results))
    if os.name == "nt":
        return f"powershell \"Get-Content -Encoding utf8 -TotalCount 1 '{name}'\""
    path = _word(name)
    first = f"grep -m 1 {shlex.quote(_SUCCEEDED)} {path}" if has_failures else f"head -n 1 {path}"
    python = "python3" if shutil.which("python3") else shlex.quote(sys.executable)
    return f"{first} | {python} -m json.tool --no-ensure-ascii"


def write_report(target: Path, report: bytes) -> None:
    """Write a report, whole or not at all. A failure is told, and changes no exit code."""
    from batchrun.results.files import replace_whole

    try:
        replace_whole(target, report)
    except OSError as error:
        console.say(f"batchrun: cannot write {target}: {error.strerror}; `batchrun report` makes it again")
