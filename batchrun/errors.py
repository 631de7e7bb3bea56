"""The exception tree. Each class has the exit code of a command that ends with it.

A message says what is wrong and what to do next, and never contains a key.
"""

from __future__ import annotations


class BatchrunError(Exception):
    """Something that the user can act on; the command prints it as one message, without a traceback.

    `exit_code`: the exit code of a command that ends with this error.
    """

    exit_code = 1


class UsageError(BatchrunError):
    """An option, a file or a setting cannot work; nothing has been sent."""

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


class LockedError(ResultFileError):
    """Another run writes the result file."""


class MissedError(BatchrunError):
    """A threshold was missed, such as that of `--fail-under`: the figures are not what they must be."""

    exit_code = 4


class StopError(BatchrunError):
    """The job stopped early and can be resumed: a problem with the key, the quota, the gateway or the disk.

    `written`: how many of the records to be written are in the result file in spite of the error.
    """

    exit_code = 3
    written = 0


class DiskError(StopError):
    """A write, sync or rename of the result file failed; the records in the file are whole."""


class PipeError(StopError):
    """The reader of standard output is gone: requests in flight have nowhere to write their answers."""
