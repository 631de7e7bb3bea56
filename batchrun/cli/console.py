"""What is printed and asked: results to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from batchrun.errors import StopError


def print_out(text: str | bytes) -> None:
    """Print to standard output. Raises `StopError` where that is closed or full."""
    try:
        click.echo(text, nl=False)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StopError(f"cannot write standard output: {error.strerror}") from error


def say(text: str) -> None:
    """Print a line to standard error, if it can be: a lost terminal must not change the exit code."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def say_rescue(results: Path) -> None:
    """Name answers that lie beside a result file and are not in it yet."""
    from batchrun.results.paths import ResultPaths

    rescue = ResultPaths.of(results).rescue
    if rescue.exists():
        say(f"batchrun: the answers in {rescue.name} are not counted; the next run adds them")


def is_interactive() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin is not None and sys.stdin.isatty()


def confirm(question: str) -> bool:
    """Ask on standard error; the default is no."""
    return click.confirm(question, err=True)
