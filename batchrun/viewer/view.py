"""A view of the rows: which of them, in which order, which page. Every view is the query of an address, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from urllib.parse import urlencode

from batchrun.errors import UsageError
from batchrun.viewer.columns import Columns, Facet, everything, rows_in, window
from batchrun.viewer.index import Index
from batchrun.viewer.second import Compared

PAGE_ROWS, MOST_PAGE_ROWS = 50, 500
_FROM, _TO = ".from", ".to"


@dataclass(frozen=True, slots=True)
class View:
    """What is shown. `search`: words that all occur. `facets`: for each the values of which a row must have one.

    `ranges`: the least and the most of a number, None for no bound. `sort`: the name of a number; "": the order of the
    file; where two are compared, rows that differ come first. `page`: from 1.
    """

    search: str = ""
    facets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    sort: str = ""
    is_descending: bool = False
    page: int = 1
    size: int = PAGE_ROWS

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]], columns: Columns) -> View:
        """The view of the query of an address. Raises `UsageError` in words for what it cannot be."""
        view = cls()
        for name, value in pairs:
            view = view._with(name, value, columns)
        return view

    @classmethod
    def as_far_as(cls, pairs: Sequence[tuple[str, str]], columns: Columns) -> tuple[View, list[str]]:
        """The view of what an address can be, and in words what in it cannot be."""
        view, refused = cls(), list[str]()
        for name, value in pairs:
            try:
                view = view._with(name, value, columns)
            except UsageError as error:
                refused.append(str(error))
        return view, refused

    def _with(self, name: str, value: str, columns: Columns) -> View:
        number = name.removesuffix(_FROM).removesuffix(_TO)
        if name == "q":
            return replace(self, search=value)
        if name == "sort":
            return self._sorted(value, columns)
        if name in ("page", "size"):
            most = MOST_PAGE_ROWS if name == "size" else 10**9
            if not value.isdecimal() or len(value) > len(str(most)) or not 1 <= int(value) <= most:
                raise UsageError(f"{name}: {value!r} is not a whole number from 1 to {most}")
            return replace(self, page=int(value)) if name == "page" else replace(self, size=int(value))
        if name in columns.facets:
            if columns.facets[name].is_among_others(value):
                raise UsageError(
                    f"{name}: {value!r} is none of the first 254 values, and no filter knows others; search for it"
                )
            values = dict.fromkeys((*self.facets.get(name, ()), value))
            return replace(self, facets={**self.facets, name: tuple(values)})
        if number != name and number in columns.numbers:
            low, high = self.ranges.get(number, (None, None))
            bound = _bound(name, value)
            pair = (bound, high) if name.endswith(_FROM) else (low, bound)
            return replace(self, ranges={**self.ranges, number: pair})
        raise UsageError(f"{name!r} is nothing to look for here")

    def _sorted(self, value: str, columns: Columns) -> View:
        name = value.removeprefix("-")
        if name and name not in columns.numbers:
            raise UsageError(f"sort: {name!r} is none of {', '.join(columns.numbers)}")
        return replace(self, sort=name, is_descending=value.startswith("-"))

    def query(self) -> str:
        """The query of its address; "" for all rows as they stand."""
        return urlencode(self.pairs())

    def pairs(self) -> list[tuple[str, str]]:
        """The names and values of its query."""
        pairs = [("q", self.search)] if self.search else []
        pairs += [(name, value) for name, values in self.facets.items() for value in values]
        for name, bounds in self.ranges.items():
            ends = zip((_FROM, _TO), bounds, strict=True)
            pairs += [(name + end, f"{bound:.12g}") for end, bound in ends if bound is not None]
        if self.sort or self.is_descending:
            pairs.append(("sort", ("-" if self.is_descending else "") + self.sort))
        if self.page != 1:
            pairs.append(("page", str(self.page)))
        if self.size != PAGE_ROWS:
            pairs.append(("size", str(self.size)))
        return pairs

    def toggled(self, name: str, value: str) -> View:
        """The same with a value of a facet, or without it where it has it; from its first page."""
        values = self.facets.get(name, ())
        values = tuple(one for one in values if one != value) if value in values else (*values, value)
        rest = {other: kept for other, kept in self.facets.items() if other != name}
        return replace(self, facets=rest | ({name: values} if values else {}), page=1)

    def sorted_by(self, name: str) -> View:
        """The same in the order of a number, or in the other direction where it has that order; from its first page."""
        return replace(self, sort=name, is_descending=self.sort == name and not self.is_descending, page=1)


def _bound(name: str, value: str) -> float | None:
    if not value.strip():
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise UsageError(f"{name}: {value!r} is not a number")
    return number


@dataclass(frozen=True, slots=True)
class FacetCounts:
    """How many of the rows have each value of a facet: of those that all other choices leave."""

    name: str
    counts: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a view. `total`: of all its pages; `rows`: of its page; `facets`: the counts beside it."""

    total: int
    rows: list[int]
    facets: list[FacetCounts]


def select(index: Index, view: View) -> Selection:
    """The rows of a view, as far as the index is."""
    with index.lock:
        columns = index.columns
        chosen = {name: _having(columns, name, values) for name, values in view.facets.items()}
        others = _without_facets(index, view)
        found = others
        for rows in chosen.values():
            found &= rows
        facets = []
        for name, facet in columns.facets.items():
            if not _is_counted(index, view, facet):
                continue
            left = others
            for rows in (chosen[other] for other in chosen if other != name):
                left &= rows
            wanted = view.facets.get(name, ())
            counts = [pair for pair in facet.counts(left) if pair[1] or pair[0] in wanted]
            facets.append(FacetCounts(name, counts))
        shown = _some(index, view, found, (view.page - 1) * view.size, view.size)
        return Selection(found.bit_count(), shown, facets)


def _is_counted(index: Index, view: View, facet: Facet) -> bool:
    """Whether a facet is shown: not that of a field whose values are texts, which nearly each row has for itself."""
    field = facet.name.removeprefix("field.")
    is_text = field != facet.name and not facet.has_labels and not index.reader.enums.get(field)
    return not is_text or facet.name in view.facets


def around(index: Index, view: View, place: int) -> tuple[int | None, int | None]:
    """The rows before and after the one at a place of a view, counted from 0 over all its pages."""
    with index.lock:
        start = max(0, place - 1)
        rows = _some(index, view, _found(index, view), start, 3)
    if not place:
        return None, rows[1] if len(rows) > 1 else None
    return rows[0] if rows else None, rows[2] if len(rows) > 2 else None


def chosen_offsets(index: Index, view: View) -> list[int]:
    """Where the records of all pages of a view begin, in its order."""
    with index.lock:
        rows = _some(index, view, _found(index, view), 0, len(index.columns))
        return [index.columns.offsets[row] for row in rows]


def _found(index: Index, view: View) -> int:
    found = _without_facets(index, view)
    for name, values in view.facets.items():
        found &= _having(index.columns, name, values)
    return found


def _having(columns: Columns, name: str, values: Sequence[str]) -> int:
    found = 0
    for value in values:
        found |= columns.facets[name].having(value)
    return found


def _without_facets(index: Index, view: View) -> int:
    found = everything(len(index.columns))
    for name, (least, most) in view.ranges.items():
        if least is not None or most is not None:
            found &= index.between(name, least, most)
    return found & index.matching(view.search) if view.search else found


def _some(index: Index, view: View, found: int, start: int, size: int) -> list[int]:
    """Some of the rows that were found, in the order of the view: `size` of them, after the first `start`."""
    columns = index.columns
    if not view.sort and not view.is_descending:
        return _in_groups(columns, found, start, size)
    flags = rows_in(found, len(columns))
    if not view.sort:
        backwards = window(flags[::-1], start, size)
        return [len(columns) - 1 - row for row in backwards]
    order = index.order(view.sort)
    rows = columns.numbers[view.sort].falling(order) if view.is_descending else iter(order)
    there = rows if found == everything(len(columns)) else filter(flags.__getitem__, rows)
    return list(islice(there, start, start + size))


def _in_groups(columns: Columns, found: int, start: int, size: int) -> list[int]:
    """As the file has them; where two are compared, by how they go with one another first."""
    compared, rows = columns.facets["compared"], list[int]()
    for group in [compared.having(one) for one in Compared] if columns.are_compared else [found]:
        there = found & group
        count = there.bit_count()
        if start < count and len(rows) < size:
            rows += window(rows_in(there, len(columns)), start, size - len(rows))
        start = max(0, start - count)
    return rows
