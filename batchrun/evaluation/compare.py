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
from batchrun.evaluation.defaults import SHOWN_FLIPS
from batchrun.evaluation.evaluate import Question, Scoring, scoring
from batchrun.evaluation.scorers import TRUTH
from batchrun.evaluation.side import ABSENT, RIGHT, UNANSWERED, WRONG, Side, Spent, counts_as, refuse_one_twice
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
    one or neither have right. `p_value`: of McNemar's test; `p_holm`: corrected where several pairs, or groups, are
    compared. `smallest_difference`: what so many rows could have shown at 80 % power, so corrected. `groups`: who wins
    where.
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

    `duplicates`: further records of an id, and `damaged_lines`: lines that are no records, whose rows are unanswered.
    """

    results: str
    counts: dict[str, Counts]
    spent: Spent
    duplicates: int
    damaged_lines: int


class Comparison(msgspec.Struct, frozen=True):
    """All files, and each pair of them by field; the field "" is that of all fields together.

    `v`: the version of this form. `gold`: the table of right answers. `policy`: what unanswered rows count as.
    `confidence`: of all intervals. `method`: of the differences. `files`, `fields`: the figures. `fields_left_out`:
    fields that gold has and not every file, each with the files that have it. `warnings`: when not to trust a figure.
    """

    v: Literal[1]
    gold: str
    policy: Unanswered
    confidence: float
    method: str
    files: list[File]
    fields: dict[str, list[Difference]]
    fields_left_out: dict[str, list[str]]
    warnings: list[str]

    def to_json(self) -> bytes:
        """Indented JSON with a newline."""
        return printable_json(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def compare(results: Sequence[Path], question: Question, book: PriceBook, shown_flips: int = SHOWN_FLIPS) -> Comparison:
    """Compare result files against gold. `shown_flips`: of each pair and field so many at most.

    Raises as `evaluate` does, also where nothing was answered in one of them, and `UsageError` where two files have no
    row in common that can be compared, or two names are of one file, and for clusters.
    """
    refuse_one_twice(results)
    if question.gold.path == "-":
        raise UsageError("standard input can be read once, and gold is read for each file; write it to a file")
    if question.cluster is not None:
        raise UsageError(
            "two files are compared row by row, and the interval of their difference knows of no clusters: leave "
            "--cluster out, or leave out what compares (--fail-if-worse, --fail-unless-as-good)"
        )
    with ExitStack() as files:
        scorings = _opened(results, question, files)
        if scorings[0].is_weighted:
            raise UsageError(
                f"{question.gold.name} has rows that were drawn with different probabilities, which a comparison does "
                "not weigh; draw a review with --mix random=1, or hold each file against it with batchrun eval"
            )
        common, left_out = _common_fields(scorings, results)
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
        fields = {name: _of_field(sides, name, question, shown_flips) for name in names}
        return Comparison(
            v=VERSION,
            gold=question.gold.path,
            policy=question.policy,
            confidence=CONFIDENCE,
            method=METHOD,
            files=[_file(side) for side in sides],
            fields=fields,
            fields_left_out=left_out,
            warnings=_warnings(sides),
        )


def _opened(results: Sequence[Path], question: Question, files: ExitStack) -> list[Scoring]:
    """All files, each with its fields; one whose values are all null is scored as the others have it, in any order."""
    found: list[Scoring] = []
    for path in results:
        found.append(files.enter_context(scoring(path, question, like=found[0] if found else None)))
    known = {
        tally.field.name: tally.field.scorer
        for one in found
        for tally in one.tallies
        if tally.field.name not in one.without_value
    }
    for at, one in enumerate(found):
        if any(known.get(tally.field.name, tally.field.scorer) != tally.field.scorer for tally in one.tallies):
            found[at] = files.enter_context(scoring(results[at], question, like=found[at - 1], known=known))
    return found


def _warnings(sides: Sequence[Side]) -> list[str]:
    """What must be known of the figures: of each file, and of gold once."""
    scorings = [side.scoring for side in sides]
    of_gold = dict.fromkeys(line for one in scorings for line in one.not_allowed())
    everywhere = [name for name in scorings[0].unscored if all(name in one.unscored for one in scorings)]
    not_scored = next(filter(None, (list(one.not_scored(everywhere)) for one in scorings)), [])
    return [*(f"{side.path}: {line}" for side in sides for line in side.scoring.of_answers()), *of_gold, *not_scored]


def _common_fields(scorings: Sequence[Scoring], paths: Sequence[Path]) -> tuple[set[str], dict[str, list[str]]]:
    """The fields that all files have, and the others with the files that have them.

    Raises `UsageError` without common ones, and where one is not scored alike: then not the answers would differ, but
    how they are read.
    """
    known: dict[str, dict[str, str]] = {}  # by field, the scorer of each file
    for path, one in zip(paths, scorings, strict=True):
        for tally in one.tallies:
            scorer = tally.field.scorer
            name = f"{scorer.name} of booleans" if scorer is TRUTH else scorer.name
            known.setdefault(tally.field.name, {})[str(path)] = name
    common = {name for name, scorers in known.items() if len(scorers) == len(scorings)}
    if not common:
        raise UsageError(f"{', '.join(map(str, paths))} have no field in common")
    for name in sorted(common):
        if len(set(known[name].values())) > 1:
            told = ", ".join(f"{scorer} in {path}" for path, scorer in known[name].items())
            raise UsageError(
                f"{name} would be scored in two ways ({told}), by what the answers look like; "
                f"say which: --score {name}=SCORER"
            )
    return common, {name: list(scorers) for name, scorers in known.items() if name not in common}


def _file(side: Side) -> File:
    return File(str(side.path), side.counts, side.spent, side.scoring.duplicates, side.scoring.damaged_lines)


def _of_field(sides: Sequence[Side], name: str, question: Question, shown_flips: int) -> list[Difference]:
    pairs = list(combinations(sides, 2))
    found = _corrected([_difference(one, other, name, question, len(pairs)) for one, other in pairs])
    if question.by:
        found = _with_groups(found, pairs, name, question)
    counted = counts_as(question.policy)
    return [
        structs.replace(one, flips=list(islice(_flips(*pair, name, counted), shown_flips)))
        for one, pair in zip(found, pairs, strict=True)
    ]


def _corrected(found: Sequence[Difference]) -> list[Difference]:
    """With the p-values corrected for as many tests as there are, and who is better by these."""
    corrected = holm([one.p_value for one in found])
    return [
        structs.replace(one, p_holm=p_holm, winner=winner(one.difference, p_holm))
        for one, p_holm in zip(found, corrected, strict=True)
    ]


def _difference(first: Side, second: Side, name: str, question: Question, tests: int) -> Difference:
    codes = Counter(zip(first.verdicts[name], second.verdicts[name], strict=True))
    found = _summed_up(first, second, codes, question.policy, tests)
    if not found.rows:
        raise UsageError(
            f"{first.path} and {second.path} have no row of {question.gold.path} in common that can be compared "
            f"({found.only_first:,} only in the first, {found.only_second:,} only in the second, "
            f"{found.left_out:,} left out); there is no verdict"
        )
    return found


def _with_groups(
    found: Sequence[Difference], pairs: Sequence[tuple[Side, Side]], name: str, question: Question
) -> list[Difference]:
    """With the figures of each group; that one of many groups shows a difference is likely where none has one."""
    by_pair = [_codes_by_group(*pair, name) for pair in pairs]
    names = sorted(by_pair[0])
    tests = len(pairs) * len(names)
    every = _corrected(
        [
            _summed_up(*pair, codes[group], question.policy, tests)
            for pair, codes in zip(pairs, by_pair, strict=True)
            for group in names
        ]
    )
    return [
        structs.replace(one, groups=dict(zip(names, every[at * len(names) :], strict=False)))
        for at, one in enumerate(found)
    ]


def _codes_by_group(first: Side, second: Side, name: str) -> dict[str, Counter[tuple[int, int]]]:
    found: dict[str, Counter[tuple[int, int]]] = {}
    for row, pair in enumerate(zip(first.verdicts[name], second.verdicts[name], strict=True)):
        found.setdefault(first.scoring.group_of(row), Counter())[pair] += 1
    return found


def _summed_up(
    first: Side, second: Side, codes: Counter[tuple[int, int]], policy: Unanswered, tests: int
) -> Difference:
    """The figures of some rows, each given by its two verdicts, as one of so many tests."""
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
        smallest_difference=smallest_difference(pairs, tests),
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
