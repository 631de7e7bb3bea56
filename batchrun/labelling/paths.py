"""Where the files of a labelling job are: in one folder, which the command makes beside the table that it writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchrun.errors import UsageError
from batchrun.results.files import NoLocksError, open_locked


@dataclass(frozen=True, slots=True)
class LabelPaths:
    """The files of the job in this folder."""

    folder: Path

    @classmethod
    def beside(cls, table: Path) -> LabelPaths:
        """The files of the job that writes this table: their folder is beside it."""
        return cls(table.with_name(f"{table.name}.job"))

    @property
    def job(self) -> Path:
        """What the job was told: see `JobFile`."""
        return self.folder / "job.toml"

    @property
    def requests(self) -> Path:
        """The requests; what was prepared stands beside them."""
        return self.folder / "requests.jsonl"

    @property
    def results(self) -> Path:
        """The results; their companions and the report stand beside them."""
        return self.folder / "results.jsonl"

    @property
    def page(self) -> Path:
        """The report as a page."""
        return self.folder / "report.html"

    @contextlib.contextmanager
    def held(self, *, locks: bool = True) -> Iterator[None]:
        """Make the folder, and keep other processes from working on this job. Raises `UsageError`.

        A job that is refused before it has requests leaves no new folder behind.
        """
        is_new = not self.folder.exists()
        try:
            self.folder.mkdir(exist_ok=True)
            file = open_locked(self.folder / "lock") if locks else None
        except NoLocksError:
            raise UsageError(f"the disk of {self.folder} has no file locks; pass --no-lock") from None
        except OSError as error:
            raise UsageError(f"cannot write {self.folder}: {error.strerror}") from error
        if locks and file is None:
            raise UsageError(f"another process works on {self.folder}; wait until it has ended")
        with file or contextlib.nullcontext():
            if not self.job.exists() and (self.requests.exists() or self.results.exists()):
                raise UsageError(f"{self.folder} is no folder of `batchrun label`; choose another -o")
            if locks:
                self._remove_drafts()
            try:
                yield
            except UsageError:
                if is_new and locks and not self.requests.exists():
                    self._forget()
                raise

    def _forget(self) -> None:
        """Remove what a job wrote that was refused."""
        with contextlib.suppress(OSError):
            for path in (self.job, self.folder / "lock"):
                path.unlink(missing_ok=True)
            self.folder.rmdir()  # stays where somebody put a file into it

    def _remove_drafts(self) -> None:
        """Remove what a kill left half-written. Only who holds the lock may: else it may be still in the making."""
        for ending in ("draft", "tmp"):
            for path in self.folder.glob(f".{'[0-9a-f]' * 16}.{ending}"):
                path.unlink(missing_ok=True)
