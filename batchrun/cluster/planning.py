"""Makes the plan of a job: cuts its request file, and checks all of it before anything is sent.

`each` does the work: it calls a function once for each tuple of arguments, side by side where there are workers, and
returns the results in the same order.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from batchrun.cluster import ids
from batchrun.cluster.plan import (
    MOST_SHARDS,
    Measured,
    Plan,
    Range,
    Shard,
    changed,
    cut,
    edges,
    measure,
    refuse_uncuttable,
)
from batchrun.cluster.plan import VERSION as PLAN_VERSION
from batchrun.errors import InputError, UsageError
from batchrun.records.request import Overrides
from batchrun.requests.overrides import as_options
from batchrun.requests.part import Part
from batchrun.requests.problems import SHOWN_PROBLEMS
from batchrun.requests.survey import Survey

T = TypeVar("T")
LEAST_BYTES = 1 << 20  # of a shard that nobody asked for: a worker takes seconds to begin


class Each(Protocol):
    """Calls a function once for each tuple of arguments; the results are in the order of these."""

    def __call__(self, function: Callable[..., T], arguments: Sequence[tuple[object, ...]], /) -> list[T]:
        """The results."""


def in_turn(function: Callable[..., T], arguments: Sequence[tuple[object, ...]]) -> list[T]:
    """Call it here, one after the other."""
    return [function(*one) for one in arguments]


@dataclass(frozen=True, slots=True)
class Input:
    """A request file that all workers can read. `name`: what the user calls it."""

    path: Path
    name: str
    overrides: Overrides

    def renamed(self, problems: Sequence[str]) -> list[str]:
        """Problems with the name that the user knows."""
        return [problem.replace(f"{self.path}:", f"{self.name}:", 1) for problem in problems]


def shards_for(size_bytes: int, workers: int, wanted: int | None) -> int:
    """How many shards a file is cut into: many more than there are workers, so that none waits for another at the end.

    Raises `UsageError` for more than a directory should hold.
    """
    if wanted is not None and wanted > MOST_SHARDS:
        raise UsageError(f"--shards {wanted}: at most {MOST_SHARDS:,}")
    return wanted or max(1, min(4 * workers, size_bytes // LEAST_BYTES))


def make_plan(source: Input, directory: Path, shards: int, each: Each) -> tuple[Plan, Survey]:
    """Cut a request file and check it; nothing is written but scratch files in `directory`, which are removed.

    Raises `UsageError`; `InputError` with the first problems if any line cannot be sent.
    """
    refuse_uncuttable(source.path)
    size, head, tail = edges(source.path)
    ranges = cut(source.path, shards)
    measured = each(measure, [(source.path, part) for part in ranges])
    parts = numbered(ranges, measured)
    survey, found = check(source, parts, directory, each)
    plan = Plan(
        PLAN_VERSION,
        source.name,
        size,
        head,
        tail,
        survey.lines,
        as_options(source.overrides),
        [
            Shard(part.start_bytes, part.end_bytes, part.first_line, lines, one.hash, before)
            for part, one, (lines, before) in zip(parts, measured, found, strict=True)
        ],
    )
    if edges(source.path) != (size, head, tail):
        raise UsageError(f"{source.name} changed while it was checked; run the same command again")
    return plan, survey


def numbered(ranges: Sequence[Range], measured: Sequence[Measured]) -> list[Part]:
    """The ranges with the numbers of their first lines."""
    parts, first = list[Part](), 1
    for (start, end), one in zip(ranges, measured, strict=True):
        parts.append(Part(start, end, first))
        first += one.lines
    return parts


def check(
    source: Input, parts: Sequence[Part], directory: Path, each: Each
) -> tuple[Survey, list[tuple[int, dict[str, int]]]]:
    """Check all lines, and that no id occurs twice; the survey, and of each part its requests and its `before`.

    Raises `InputError` with the first problems.
    """
    path, overrides, survey = source.path, source.overrides, Survey()
    buckets = ids.buckets_for(sum(part.end_bytes - part.start_bytes for part in parts) // 128)
    with tempfile.TemporaryDirectory(prefix=".check-", dir=directory) as scratch:
        files = [Path(scratch) / f"{number}.ids" for number in range(len(parts))]
        checks = [(path, overrides, part, file, buckets) for part, file in zip(parts, files, strict=True)]
        found = each(ids.check_range, checks)
        _refuse(source, [problem for one in found for problem in one.problems], sum(one.in_all for one in found))
        repeated = [
            key for keys in each(ids.repeated_in, [(files, at, buckets) for at in range(buckets)]) for key in keys
        ]
    before: list[dict[str, int]] = [{} for _ in parts]
    for one in found:
        survey.merge(one.survey)
    if len(repeated) > ids.MOST_REPEATED:
        raise UsageError(f"{len(repeated):,} ids of {source.name} occur more than once; give each line its own")
    if repeated:
        sought = frozenset(repeated)
        lines = each(ids.find_lines, [(path, overrides, part, sought) for part in parts])
        apart = ids.tell_apart(source.name, lines)
        _refuse(source, apart.problems, apart.in_all)
        before, survey.repeated = apart.before, apart.repeated
    if not survey.lines:
        raise UsageError(f"{source.name}: no requests in it; write one JSON object a line")
    return survey, [(one.survey.lines, times) for one, times in zip(found, before, strict=True)]


def _refuse(source: Input, problems: Sequence[str], count: int) -> None:
    if count:
        raise InputError(source.renamed(problems[:SHOWN_PROBLEMS]), count)


def refuse_other_bytes(plan: Plan, source: Input, directory: Path, each: Each) -> None:
    """Raise `ResultFileError` if any byte of the request file was changed since the plan was made."""
    found = each(measure, [(source.path, Range(one.start_bytes, one.end_bytes)) for one in plan.shards])
    if any(one.hash != shard.hash for one, shard in zip(found, plan.shards, strict=True)):
        raise changed(Path(source.name), directory)


def check_again(plan: Plan, source: Input, directory: Path, each: Each) -> None:
    """Check the lines once more where this run changes bodies otherwise than the one that made the plan.

    Raises `InputError` with the first problems.
    """
    if as_options(source.overrides) != plan.options:
        check(source, [plan.part(number) for number in range(len(plan.shards))], directory, each)
