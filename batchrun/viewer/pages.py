"""The pages of the viewer: what the templates are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson

from batchrun.html.page import Templates
from batchrun.records.money import usd
from batchrun.records.words import counted, shortened
from batchrun.viewer.index import Index
from batchrun.viewer.running import NO_RUN, Seen
from batchrun.viewer.second import Compared
from batchrun.viewer.shown import LONGEST_CELL, Rows, ShownRow
from batchrun.viewer.table import DataTable
from batchrun.viewer.view import Selection, View, around, select

_FOLDER = Path(__file__).parent / "templates"
SCRIPT = b"".join((_FOLDER / name).read_bytes() for name in ("view.js", "review.js"))
_ALLOWED = ("script-src 'self'", "connect-src 'self'", "img-src data:", "form-action 'self'")
_NAMES = {
    "cost": "cost, US dollars",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "latency": "latency, seconds",
}
_TITLES = {"verdict": "against gold", "compared": "A and B", "status_b": "status in B"}
PLACE = "place"
"""The name, in an address, of the place of a row in its view."""
BOTH_CELL = LONGEST_CELL // 2
_FEW = 12  # values of a facet that are shown at once


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a facet: how many rows have it, and the address with it or without it."""

    value: str
    count: str
    address: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class FacetPart:
    """A facet beside the table. `more`: the values that are shown on demand."""

    title: str
    choices: Sequence[Choice]
    more: Sequence[Choice]


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a column. `address`: sorts by it; "" where that cannot be. `direction`: of `aria-sort`."""

    name: str
    address: str = ""
    direction: str = ""
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """A number of which a part may be chosen."""

    name: str
    title: str
    least: str
    most: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of the table: its address and its cells."""

    number: int
    address: str
    line: str
    custom_id: str
    status: str
    cells: Sequence[tuple[str, bool]]
    differs: bool


class Pages:
    """Makes the pages of one result file. `script_token`: what its script sends with a change.

    `command`: what to type to serve them again.
    """

    def __init__(self, rows: Rows, script_token: str, command: str, *, has_review: bool = False) -> None:
        self._rows, self._has_review, self._command = rows, has_review, command
        css = (_FOLDER / "view.css").read_text(encoding="utf-8")
        self._templates = Templates(_FOLDER, css, _ALLOWED)
        self._token = script_token

    @property
    def _columns(self) -> Sequence[str]:
        """The columns of the table that is shown beside the rows."""
        return () if self._rows.table is None else self._rows.table.columns

    @property
    def policy(self) -> str:
        """The policy of every page, for the header."""
        return f"{self._templates.policy}; frame-ancestors 'none'"

    def render(self, template: str, **values: object) -> bytes:
        """A page with the script."""
        second = None if self._rows.second is None else str(self._rows.second.results)
        known = {"token": self._token, "has_review": self._has_review, "second": second, "columns": self._columns}
        known["command"] = self._command
        return self._templates.render(template, **{"hidden_columns": frozenset(), **known, **values})

    def message(self, text: str) -> bytes:
        """A page that says one thing."""
        return self._templates.render("message.html.j2", message=text)

    def table(self, index: Index, view: View, run: Seen = NO_RUN, refused: Sequence[str] = ()) -> bytes:
        """The page of a view. `run`: what is known of the run that writes the file. `refused`: what the view is not."""
        state, progress = state_of(index), index.progress  # first: what comes meanwhile is newer than this page
        selection = select(index, view)
        last, start = max(1, -(-selection.total // view.size)), (view.page - 1) * view.size
        return self.render(
            "rows.html.j2",
            state=orjson.dumps(state).decode(),
            name=title_of(index.results),
            first=str(index.results),
            run=run,
            unfinished="" if run != NO_RUN else self._unfinished(index),
            view=view,
            refused=refused,
            is_filtered=bool(view.search or view.facets or view.ranges),
            kept=[pair for pair in view.pairs() if pair[0] in (*view.facets, "sort", "size")],
            found=f"{counted(selection.total, 'row')} of {progress.rows:,}",
            reading=self._reading(index),
            no_requests=self._no_requests(index),
            table=_table_in_words(self._rows.table),
            damaged=f"{counted(progress.damaged, 'damaged line')} left out" if progress.damaged else "",
            facets=list(self._facets(view, selection)),
            ranges=list(_ranges(view, index)),
            heads=list(self._heads(view)),
            rows=[self._row(view, place, row) for place, row in enumerate(self._rows.page(selection.rows), start)],
            page=f"Page {view.page:,} of {last:,}",
            first_page=_address(replace(view, page=1)) if view.page > 1 else "",
            previous=_address(replace(view, page=view.page - 1)) if view.page > 1 else "",
            following=_address(replace(view, page=view.page + 1)) if view.page < last else "",
            last=_address(replace(view, page=last)) if view.page < last else "",
            everything="/rows",
            export=_address(replace(view, page=1), "/rows.jsonl"),
            as_json=_address(view, "/rows.json"),
        )

    def _reading(self, index: Index) -> str:
        """That not all rows are there, and why; "" where they are."""
        progress = index.progress
        if index.is_outdated:
            return f"The files have grown since they were compared. To compare them again, type: {self._command}"
        if progress.was_done:
            return ""
        share = progress.read_bytes / max(1, progress.total_bytes)
        return f"The file is being read: {share:.0%}. These are the rows so far."

    def _no_requests(self, index: Index) -> str:
        """What is not shown where a request file is not known; "" where all are."""
        second = self._rows.second
        names = [str(index.results)] if index.reader.requests is None else []
        names += [str(second.results)] if second is not None and second.requests is None else []
        if not names:
            return ""
        return (
            f"The request file of {' and '.join(names)} is not known: its log, which names it, is not there, or the "
            "requests are gone. So there are no prompts, and no fields with their filters. "
            f"{'' if second is not None else f'To name it, type: {self._command} --requests FILE'}"
        )

    def _unfinished(self, index: Index) -> str:
        """That lines have no record, where that is so and no run is there; "" while the file is being read."""
        progress = index.progress
        if not progress.was_done or not progress.rows or self._rows.second is not None:
            return ""
        total = self._rows.total_lines(progress.rows - 1)
        if progress.rows >= total:
            return ""
        return f"{progress.rows:,} of {counted(total, 'line')} have a record, and no run is writing more."

    def row(self, index: Index, view: View, number: int, place: int | None) -> bytes:
        """The page of one row, at its place in the view from which it was opened; None: in the order of the file."""
        whole = self._rows.whole(number)
        view = view if place is None else replace(view, page=place // view.size + 1)
        before, after = self._neighbours(index, view, number, place)
        return self.render(
            "row.html.j2",
            name=title_of(index.results),
            first=str(index.results),
            whole=whole,
            hides_answer=False,
            row=whole.row,
            cost="–" if whole.row.cost_usd is None else usd(whole.row.cost_usd),
            back=f"{_address(view)}#row-{number}",
            before=before,
            after=after,
        )

    def _neighbours(self, index: Index, view: View, number: int, place: int | None) -> tuple[str, str]:
        """The addresses of the rows before and after one; "" where there is none."""
        if place is None:
            before, after = number - 1, number + 1
            return (f"/rows/{before}" if number else "", f"/rows/{after}" if after < len(index.columns) else "")
        first, last = around(index, view, place)
        return (
            "" if first is None else _row_address(view, first, place - 1),
            "" if last is None else _row_address(view, last, place + 1),
        )

    def _facets(self, view: View, selection: Selection) -> Iterator[FacetPart]:
        for facet in selection.facets:
            field = facet.name.removeprefix("field.")
            order = self._rows.enum_of(field) if field != facet.name else []
            if not facet.counts:
                continue
            places = {value: place for place, value in enumerate(order)}
            ordered = sorted(facet.counts, key=lambda pair: (places.get(pair[0], len(places)), -pair[1]))
            choices = [
                Choice(
                    value or "(empty)",
                    f"{count:,}",
                    _address(view.toggled(facet.name, value)),
                    value in view.facets.get(facet.name, ()),
                )
                for value, count in ordered
            ]
            first = [choice for place, choice in enumerate(choices) if place < _FEW or choice.is_chosen]
            yield FacetPart(
                _TITLES.get(facet.name, field), first, [choice for choice in choices if choice not in first]
            )

    def _heads(self, view: View) -> Iterator[Head]:
        yield _sorting(view, "line", "line")
        yield Head("id")
        yield Head("status")
        if self._rows.second is not None:
            yield Head("A and B")
        if self._rows.has_gold:
            yield Head("against gold")
        for name in self._rows.fields:
            yield Head(name)
        yield Head("model")
        for name, title in (
            ("cost", "US dollars"),
            ("input_tokens", "input"),
            ("output_tokens", "output"),
            ("latency", "seconds"),
            ("attempts", "attempts"),
        ):
            yield _sorting(view, name, title)
        yield Head("error")
        taken = {"line", "id", "status", "model", "attempts", "error", *self._rows.fields}
        for name in self._columns:
            yield Head(f"{name} (table)" if name in taken else name)

    def _row(self, view: View, place: int, row: ShownRow) -> TableRow:
        numbers = (
            "–" if row.cost_usd is None else usd(row.cost_usd),
            "–" if row.input_tokens is None else f"{row.input_tokens:,}",
            "–" if row.output_tokens is None else f"{row.output_tokens:,}",
            "–" if row.latency_s is None else f"{row.latency_s:,.2f}",
            f"{row.attempts:,}",
        )
        said = [row.compared] if self._rows.second is not None else []
        said += [row.verdict] if self._rows.has_gold else []
        cells = [(_short(value), False) for value in (*said, *_both(row), row.model)]
        cells += [(number, True) for number in numbers]
        cells.append((_short(row.error), False))
        cells += [(_short(cell), False) for cell in row.data or [""] * len(self._columns)]
        status = row.status if row.second_status in ("", row.status) else f"{row.status} → {row.second_status}"
        address = _row_address(view, row.number, place)
        return TableRow(
            row.number, address, f"{row.line:,}", _short(row.custom_id), status, cells, row.compared == Compared.DIFFERS
        )


def title_of(results: Path) -> str:
    """A result file, as it is called on its pages: that of a job with the folder of the job."""
    is_of_job = results.parent.suffix == ".job"
    return f"{results.parent.name}/{results.name}" if is_of_job else results.name


def state_of(index: Index) -> dict[str, Any]:
    """What tells a page that it is older than the index."""
    progress = index.progress
    return {"rows": progress.rows, "is_done": progress.is_done, "generation": index.generation}


def _address(view: View, path: str = "/rows") -> str:
    query = view.query()
    return f"{path}?{query}" if query else path


def _row_address(view: View, number: int, place: int) -> str:
    """The page of a row, which knows its place in a view."""
    return f"/rows/{number}?{urlencode([*replace(view, page=1).pairs(), (PLACE, str(place))])}"


def _both(row: ShownRow) -> Iterator[str]:
    """The values of the fields; where the second file has another one, both."""
    theirs_by_place = row.second or [None] * len(row.fields)
    for ours, theirs in zip(row.fields, theirs_by_place, strict=True):
        if theirs is None or theirs == ours:
            yield ours
        else:
            yield f"{_short(ours, BOTH_CELL)} → {_short(theirs, BOTH_CELL)}"


def _sorting(view: View, name: str, title: str) -> Head:
    direction = ("descending" if view.is_descending else "ascending") if view.sort == name else ""
    return Head(title, _address(view.sorted_by(name)), direction, is_number=True)


def _ranges(view: View, index: Index) -> Iterator[Range]:
    for name in index.columns.numbers:
        low, high = view.ranges.get(name, (None, None))
        yield Range(name, _NAMES.get(name, name), _bound(low), _bound(high))


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"


def _table_in_words(table: DataTable | None) -> str:
    """What is to be said of the table; "" for one that is there."""
    if table is None:
        return ""
    return table.problem if table.is_read else "The table is being read. Its columns are filled then."


def _short(text: str, longest: int = LONGEST_CELL) -> str:
    return shortened(text, longest)
