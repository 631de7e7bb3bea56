"""The options for a report as a page, and writing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.cli import console
from batchrun.cli.options import PATH
from batchrun.cli.verb import Option, OptionGroup
from batchrun.errors import BatchrunError, StopError, UsageError

if TYPE_CHECKING:
    from batchrun.html.report import Source


@dataclass(frozen=True, slots=True)
class PageOptions:
    """Where the page goes, if anywhere, and whether it has the texts of a few rows."""

    html: Path | None = None
    with_text: bool = False

    def check(self, results: Path | None, requests: Path | None = None) -> None:
        """Refuse a page that is, or is about to be, something else. `results` None: they go to standard output.

        Raises `UsageError`.
        """
        if self.html is None:
            if self.with_text:
                raise UsageError("--with-text does nothing without --html; pass --html FILE, too")
            return
        if results is None:
            raise UsageError("--html is made of a result file; name one with -o")
        self._check_place(results, requests)

    def _check_place(self, results: Path, requests: Path | None) -> None:
        from batchrun.html.page import is_page
        from batchrun.results.paths import ResultPaths, are_one

        target, paths = self.html or Path(), ResultPaths.of(results)
        if not target.parent.is_dir():
            raise UsageError(f"cannot write {target}: there is no such directory")
        use = paths.use_of(target) or ("the report" if are_one(target, paths.report) else None)
        if use is None and requests is not None and are_one(target, requests):
            use = "the request file"
        if use is not None:
            raise UsageError(f"--html {target} is {use}; choose another --html FILE")
        if not target.exists():
            return
        if not target.is_file():
            raise UsageError(f"cannot write {target}: it is not a regular file")
        if target.stat().st_size and not is_page(target):
            raise UsageError(f"{target} exists and is not a page of batchrun's; choose another --html FILE")

    def write(self, source: Source) -> None:
        """Make the page and write it, whole or not at all. Raises `StopError` where it cannot be written."""
        from batchrun.html.charts import EXTRA, are_available
        from batchrun.html.report import make_page
        from batchrun.results.files import replace_whole

        assert self.html is not None
        page = make_page(source)
        try:
            replace_whole(self.html, page)
        except OSError as error:
            raise StopError(f"cannot write {self.html}: {error.strerror}") from error
        console.say(f"page: {self.html}" + ("" if are_available() else f" (with tables; for charts: {EXTRA})"))

    def write_if_possible(self, source: Source) -> None:
        """The same at the end of a run, whose exit code it does not change: what fails is told.

        Where nothing can be held against gold, the page is made without it.
        """
        try:
            try:
                self.write(source)
            except UsageError:
                if source.gold is None:
                    raise
                self.write(replace(source, gold=None))
        except (BatchrunError, OSError) as error:
            console.say(f"batchrun: no page: {error}; `batchrun report {source.results} --html FILE` makes it")


PAGE = OptionGroup(
    "Files",
    "page",
    PageOptions,
    (
        Option(["--html"], metavar="FILE", type=PATH, help="Also write the report as a page, one file for a browser."),
        Option(["--with-text"], is_flag=True, help="Show prompts and answers of the page's random rows."),
    ),
)
