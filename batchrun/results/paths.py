"""The paths of a result file and of all files that belong to it.

What belongs to a directory of results as a whole is inside it, as `run.log`, `run.report.json` and so on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchrun.errors import ResultFileError, UsageError

_OF_TRIES = ("tries.quarantine", "tries.rescue", "tries.rewrite")
LONGEST_NAME = 255  # bytes, on nearly every file system


@dataclass(frozen=True, slots=True)
class ResultPaths:
    """The files of one job. `results` is the real path, so that all symbolic links to it lead to the same lock.

    `locks`: whether the result file and its log are locked (not with `--no-lock`).
    """

    results: Path
    locks: bool = True

    @classmethod
    def of(cls, results: Path, *, locks: bool = True) -> ResultPaths:
        """The files of the job with the result file `results`, which need not exist."""
        return cls(Path(os.path.realpath(results)), locks)

    @property
    def log(self) -> Path:
        """The run log, which is the job's lock as well."""
        return self._beside("log")

    @property
    def quarantine(self) -> Path:
        """Damaged lines and second records of a line, moved out of the result file."""
        return self._beside("quarantine")

    @property
    def rescue(self) -> Path:
        """Answers that came after the result file was removed, replaced or changed; the next run adds them to it."""
        return self._beside("rescue")

    @property
    def rewrite(self) -> Path:
        """The new copy of the result file during a rewrite, until it replaces the old one."""
        return self._beside("rewrite")

    @property
    def tries(self) -> Path:
        """Answers that missed their schema, before their lines were asked again; beside it, what every journal has."""
        return self._beside("tries")

    @property
    def tune(self) -> Path:
        """The request of `batchrun tune` to the run that writes the results."""
        return self._beside("tune")

    @property
    def report(self) -> Path:
        """The report of the last run, as JSON."""
        return self._beside("report.json")

    @property
    def index(self) -> Path:
        """The index of `batchrun view`, which may be removed at any time."""
        return self._beside("index")

    @property
    def corrections(self) -> Path:
        """What people decided on labels."""
        return self._beside("corrections.jsonl")

    @property
    def review(self) -> Path:
        """The rows that were drawn for a review."""
        return self._beside("review.json")

    def uses(self) -> dict[Path, str]:
        """What the job keeps where, in words, except for its report."""
        return {
            self.results: "the result file",
            self.log: "the run log",
            self.quarantine: "the quarantine file",
            self.rescue: "the rescue file",
            self.rewrite: "the rewritten result file",
            self.tune: "the tuning request",
            self.tries: "the file of earlier tries",
            self.index: "the index of the viewer",
            self.corrections: "the file of corrections",
            self.review: "the queue of a review",
            **{self._beside(ending): "a file of earlier tries" for ending in _OF_TRIES},
        }

    def use_of(self, path: Path) -> str | None:
        """What the job keeps at a path, in words; None where it keeps nothing, or its report."""
        return next((use for own, use in self.uses().items() if are_one(own, path)), None)

    def refuse_clashes(self, read: Mapping[str, Path | None], report: Path | None = None) -> None:
        """Raise `UsageError` if a file that the job reads is one that it writes. Nothing is opened.

        `read`: the files that it reads, by what they are in words. `report` is where the report goes, if not beside
        the results.
        """
        written = self.uses() | {report or self.report: "the report"}
        for what, path in read.items():
            for own, use in written.items() if path is not None else ():
                if are_one(own, Path(path or "")):
                    if own == report:
                        raise UsageError(f"--report {report} is {what}; choose another --report FILE")
                    way_on = "choose another file for the results (-o)"
                    if own != self.results:
                        way_on = f"{use} would be written there; choose another -o or --report"
                    raise UsageError(f"{path} is {what}; {way_on}")

    def refuse_long_name(self, *, with_tries: bool = False) -> None:
        """Raise `ResultFileError` if the name of a file beside the results would be too long.

        `with_tries`: lines may be asked again, so that there may be files of earlier tries.
        """
        rare = {self.index, self.corrections, self.review}  # a run writes none of them
        if not with_tries:
            rare |= {self._beside(ending) for ending in _OF_TRIES}
        longest = max({*self.uses(), self.report} - rare, key=lambda path: len(os.fsencode(path.name)))
        if (over := len(os.fsencode(longest.name)) - LONGEST_NAME) > 0:
            raise ResultFileError(
                f"the name of {self.results} is too long by {over} for the files beside it (…{longest.suffix}); "
                "choose a shorter -o"
            )

    def _beside(self, ending: str) -> Path:
        if os.path.isdir(self.results):  # noqa: PTH112 (pathlib raises for long names)
            return self.results / f"run.{ending}"
        return self.results.with_name(f"{self.results.name}.{ending}")


def are_one(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, also by links, and on disks that know no upper and lower case."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except OSError:
        return False
