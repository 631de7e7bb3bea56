"""What is printed and asked: results to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

import click

from batchrun.errors import StopError
from batchrun.records.words import printable_lines


def open_streams() -> None:
    """See to it that whatever is printed can be: nobody may have opened a stream, or it may lack some characters."""
    if sys.stderr is None:  # closed by who started this (2>&-): then there is nobody to tell
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for as long as the process lives)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where a test, or a notebook, has put another there
            stream.reconfigure(errors="backslashreplace")  # cp1252 has no Chinese names, and UTF-8 no half characters


def print_out(text: str | bytes) -> None:
    """Print to standard output. Raises `StopError` where that is closed or full."""
    try:
        click.echo(printable_lines(text) if isinstance(text, str) else text, nl=False)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StopError(f"cannot write standard output: {error.strerror}") from error


def say(text: str) -> None:
    """Print lines to standard error, if it can be: a lost terminal must not change the exit code."""
    with contextlib.suppress(OSError):
        click.echo(printable_lines(text), err=True)


def say_rescue(results: Path) -> None:
    """Name answers that lie beside a result file and are not in it yet."""
    from batchrun.results.parts import parts_of

    for part in parts_of(results):
        if os.path.lexists(part.rescue):
            say(f"batchrun: the answers in {part.rescue.name} are not counted; the next run adds them")


def is_interactive() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin is not None and sys.stdin.isatty()


def confirm(question: str) -> bool:
    """Ask on standard error; the default is no."""
    return click.confirm(question, err=True)
