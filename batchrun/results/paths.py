"""The paths of a result file and of all files that belong to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ResultPaths:
    """The files of one job. `results` is the real path, so that all symbolic links to it lead to the same lock."""

    results: Path

    @classmethod
    def of(cls, results: Path) -> ResultPaths:
        """The files of the job with the result file `results`, which need not exist."""
        return cls(Path(os.path.realpath(results)))

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
    def tune(self) -> Path:
        """The request of `batchrun tune` to the run that writes the results."""
        return self._beside("tune")

    @property
    def report(self) -> Path:
        """The report of the last run, as JSON."""
        return self._beside("report.json")

    def use_of(self, path: Path) -> str | None:
        """What the job keeps at a path, in words; None where it keeps nothing, or its report."""
        uses = {
            self.results: "the result file",
            self.log: "the run log",
            self.quarantine: "the quarantine file",
            self.rescue: "the rescue file",
            self.rewrite: "the rewritten result file",
            self.tune: "the tuning request",
        }
        return uses.get(path)

    def _beside(self, ending: str) -> Path:
        return self.results.with_name(f"{self.results.name}.{ending}")
