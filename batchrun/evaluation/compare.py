"""Result files against one another, over the rows of gold that they have in common, pair by pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack
from enum import StrEnum
from itertools import combinations, islice
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import structs

from batchrun.billing.pricing import PriceBook
from batchrun.errors import UsageError
from batchrun.evaluation.evaluate import Question, Scoring, scoring
from batchrun.evaluation.side import ABSENT, RIGHT, UNANSWERED, WRONG, Side, Spent, counts_as
from batchrun.evaluation.verdict import Counts, Unanswered
from batchrun.records.words import printable_json
from batchrun.stats.proportions import (
    CONFIDENCE,
    Interval,
    Pairs,
    holm,
    mcnemar,
    paired_difference,
    smallest_difference,
    wilson,
)

VERSION: Literal[1] = 1
METHOD = "Newcombe 1998, method 10; McNemar's exact test with mid-p"
SHOWN_FLIPS = 20


class Winner(StrEnum):
    """Which of two files is better; `NEITHER` where the rows do not show it."""

    FIRST = "first"
    SECOND = "second"
    NEITHER = "neither"


class Flip(msgspec.Struct, frozen=True):
    """A row that one file has right and the other does not; what each said, null where it did not answer."""

    custom_id: str
    winner: Winner
    field: str
    gold: str
    first: str | None
    second: str | None


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """Two files over the rows that both have; `difference` is the share of the second less that of the first.

    `rows`: those that are compared. `only_first`, `only_second`: rows of gold that one file alone was asked about.
    `left_out`: rows that are unscored, or unanswered where the policy leaves those out. `pairs`: how many rows both,
    one or neither have right. `p_value`: of McNemar's test; `p_holm`: corrected where several pairs are compared.
    `smallest_difference`: what so many rows could have shown at 80 % power. `groups`: who wins where.
    """

    first: str
    second: str
    rows: int
    only_first: int
    only_second: int
    left_out: int
    first_accuracy: Interval
    second_accuracy: Interval
    difference: Interval
    pairs: Pairs
    p_value: float
    p_holm: float
    smallest_difference: float | None
    winner: Winner
    groups: dict[str, Difference] = {}
    flips: list[Flip] = []


class File(msgspec.Struct, frozen=True):
    """One file: the `counts` of all its rows, by field, and what its records cost.

    `duplicates`: further records of an id, and `damaged_lines`: lines that are no records; neither is compared.
    """

    results: str
    counts: dict[str, Counts]
    spent: Spent
    duplicates: int
    damaged_lines: int


class Comparison(msgspec.Struct, frozen=True):
    """All files, and each pair of them by field; the field "" is that of all fields together.

    `v`: the version of this form. `gold`: the table of right answers. `policy`: what unanswered rows count as.
    `confidence`: of all intervals. `method`: of the differences. `files`, `fields`: the figures.
    """

    v: Literal[1]
    gold: str
    policy: Unanswered
    confidence: float
    method: str
    files: list[File]
    fields: dict[str, list[Difference]]

    def to_json(self) -> bytes:
        """Indented JSON with a newline."""
        return printable_json(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def compare(results: Sequence[Path], question: Question, book: PriceBook) -> Comparison:
    """Compare result files against gold.

    Raises as `evaluate` does, also where nothing was answered in one of them, and `UsageError` where two files have no
    row in common that can be compared, and for clusters.
    """
    if question.cluster is not None:
        raise UsageError(
            "two files are compared row by row, and the interval of their difference knows of no clusters: leave "
            "--cluster out, or leave out what compares (--fail-if-worse, --fail-unless-as-good)"
        )
    with ExitStack() as files:
        scorings: list[Scoring] = []
        for path in results:
            scorings.append(files.enter_context(scoring(path, question, like=scorings[0] if scorings else None)))
        if scorings[0].is_weighted:
            raise UsageError(
                f"{question.gold.name} has rows that were drawn with different probabilities, which a comparison does "
                "not weigh; draw a review with --mix random=1, or hold each file against it with batchrun eval"
            )
        common = set[str].intersection(*({tally.field.name for tally in one.tallies} for one in scorings))
        if not common:
            raise UsageError(f"{', '.join(map(str, results))} have no field in common")
        for one in scorings:
            one.keep(common)  # before they are read: all fields together are the same ones in each file
        sides = [Side(path, one, book) for path, one in zip(results, scorings, strict=True)]
        for one in scorings:
            one.gold.forget_ids()  # what follows goes by the numbers of rows
        for side in sides:
            side.scoring.refuse_no_answer(side.counts[""])
        names = list(sides[0].verdicts)
        if len(names) == 2:
            names = names[1:]  # a single field is all of them
        fields = {name: _of_field(sides, name, question) for name in names}
        return Comparison(
            v=VERSION,
            gold=question.gold.path,
            policy=question.policy,
            confidence=CONFIDENCE,
            method=METHOD,
            files=[_file(side) for side in sides],
            fields=fields,
        )


def _file(side: Side) -> File:
    return File(str(side.path), side.counts, side.spent, side.scoring.duplicates, side.scoring.damaged_lines)


def _of_field(sides: Sequence[Side], name: str, question: Question) -> list[Difference]:
    found = [_difference(one, other, name, question) for one, other in combinations(sides, 2)]
    corrected = holm([one.p_value for one in found])
    return [
        structs.replace(one, p_holm=p_holm, winner=winner(one.difference, p_holm))
        for one, p_holm in zip(found, corrected, strict=True)
    ]


def _difference(first: Side, second: Side, name: str, question: Question) -> Difference:
    one, other = first.verdicts[name], second.verdicts[name]
    whole = _summed_up(first, second, Counter(zip(one, other, strict=True)), question.policy)
    if not whole.rows:
        raise UsageError(
            f"{first.path} and {second.path} have no row of {question.gold.path} in common that can be compared "
            f"({whole.only_first:,} only in the first, {whole.only_second:,} only in the second, "
            f"{whole.left_out:,} left out); there is no verdict"
        )
    by_group: dict[str, Counter[tuple[int, int]]] = {}
    for row, pair in enumerate(zip(one, other, strict=True)) if question.by else ():
        by_group.setdefault(first.scoring.group_of(row), Counter())[pair] += 1
    groups = {group: _summed_up(first, second, by_group[group], question.policy) for group in sorted(by_group)}
    flips = list(islice(_flips(first, second, name, counts_as(question.policy)), SHOWN_FLIPS))
    return structs.replace(whole, groups=groups, flips=flips)


def _summed_up(first: Side, second: Side, codes: Counter[tuple[int, int]], policy: Unanswered) -> Difference:
    """The figures of some rows, each given by its two verdicts."""
    compared = counts_as(policy)
    asked = {RIGHT, WRONG, UNANSWERED}
    sums = Counter[tuple[bool, bool]]()
    left_out = only_first = only_second = 0
    for (one, other), count in codes.items():
        if one in compared and other in compared:
            sums[one == RIGHT, other == RIGHT] += count
        elif one in asked and other == ABSENT:
            only_first += count
        elif one == ABSENT and other in asked:
            only_second += count
        elif ABSENT not in (one, other):
            left_out += count
    pairs = Pairs(sums[True, True], sums[True, False], sums[False, True], sums[False, False])
    p_value, difference = mcnemar(pairs), paired_difference(pairs)
    return Difference(
        first=str(first.path),
        second=str(second.path),
        rows=pairs.rows,
        only_first=only_first,
        only_second=only_second,
        left_out=left_out,
        first_accuracy=wilson(pairs.both + pairs.first_only, pairs.rows),
        second_accuracy=wilson(pairs.both + pairs.second_only, pairs.rows),
        difference=difference,
        pairs=pairs,
        p_value=p_value,
        p_holm=p_value,
        smallest_difference=smallest_difference(pairs),
        winner=winner(difference, p_value),
    )


def winner(difference: Interval, p_value: float) -> Winner:
    """Who is better: nobody where the interval holds 0, or the test does not agree."""
    if difference.lower is None or difference.upper is None or p_value >= 1 - CONFIDENCE:
        return Winner.NEITHER
    if difference.lower > 0:
        return Winner.SECOND
    return Winner.FIRST if difference.upper < 0 else Winner.NEITHER


def _flips(first: Side, second: Side, name: str, compared: Container[int]) -> Iterator[Flip]:
    """The rows, of those that are compared, that one has right and the other has not, in the order of gold."""
    fields = [tally.field.name for tally in first.scoring.tallies]
    others = [tally.field.name for tally in second.scoring.tallies]
    for row, (one, other) in enumerate(zip(first.verdicts[name], second.verdicts[name], strict=True)):
        if (one == RIGHT) == (other == RIGHT) or one not in compared or other not in compared:
            continue
        shown, other_shown = first.example(row, name), second.example(row, name)
        flipped = name or next(field for field in fields if shown.verdicts[field] != other_shown.verdicts[field])
        at = fields.index(flipped)
        yield Flip(
            custom_id=first.scoring.id_at(shown.offset),
            winner=Winner.FIRST if one == RIGHT else Winner.SECOND,
            field=flipped,
            gold=first.scoring.gold_text(row, at),
            first=first.said(shown, row, at),
            second=second.said(other_shown, row, others.index(flipped)),
        )
