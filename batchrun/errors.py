"""The exception tree. Each class knows the exit code of the command that dies of it.

A message says what is wrong and what to do next, and never holds a key.
"""

from __future__ import annotations


class BatchrunError(Exception):
    """Something that the user can act on; the command prints it as one message, without a traceback.

    `exit_code`: what the command ends with where it dies of this.
    """

    exit_code = 1


class UsageError(BatchrunError):
    """An option, file or setting that cannot work; nothing has been sent."""

    exit_code = 2


class InputError(UsageError):
    """The request file does not pass its check.

    `problems`: the first problems, ready to print, one a line.
    `count`: how many there are in all.
    """

    def __init__(self, problems: list[str], count: int) -> None:
        self.problems = problems
        self.count = count
        left = count - len(problems)
        more = [f"… and {left:,} more problem{'s' if left > 1 else ''}"] if left else []
        super().__init__("\n".join([*problems, *more]))


class ResultFileError(UsageError):
    """The result file cannot serve this job.

    It is locked, belongs to other requests, has records of another version, or its requests were edited since.
    """


class StopError(BatchrunError):
    """The job stopped early and can be resumed: key, quota, outage, disk.

    `written`: of the records that were to be written, those that are in the result file all the same.
    """

    exit_code = 3
    written = 0


class DiskError(StopError):
    """A write, sync or rename of the result file failed; what stands in it is whole."""


class PipeError(StopError):
    """Nobody reads standard output any more: what is still in flight has nowhere to go."""
