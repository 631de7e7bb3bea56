"""The entry of the command line: `main`, and the group of its commands."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import NoReturn

import click

from batchrun.cli import console
from batchrun.cli.group import CommandGroup
from batchrun.errors import BatchrunError, InputError
from batchrun.version import __version__

_COLLECT_AFTER = 20_000  # new objects: collecting after 700, as Python does, costs a short job time

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group("batchrun", cls=CommandGroup, context_settings=_CONTEXT)
@click.version_option(__version__)
def cli() -> None:
    """Send every line of a JSONL file to an OpenAI-Responses-compatible gateway.

    \b
    Example:
      batchrun run requests.jsonl -o results.jsonl
    """


def main() -> NoReturn:
    """The `batchrun` command."""
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # what is left at the end goes with the process; there is nothing to collect
    console.open_streams()
    try:
        cli(prog_name="batchrun", standalone_mode=False)
    except InputError as error:
        console.say(str(error))  # each line names its file and line
        sys.exit(error.exit_code)
    except BatchrunError as error:
        console.say(f"batchrun: {error}")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        console.say("batchrun: interrupted; nothing is lost")
        sys.exit(130)
    sys.exit(0)
