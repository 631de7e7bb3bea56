"""How far result files agree where there is no gold."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import Literal

import msgspec

from batchrun.billing.pricing import PriceBook
from batchrun.datasets.lookup import RecordFile
from batchrun.errors import UsageError
from batchrun.evaluation.asked import Asked
from batchrun.evaluation.fields import ANSWER, TEXT, Answer, Field
from batchrun.evaluation.scorers import JSON, vote
from batchrun.evaluation.seen import SeenFields, scorers_of_all
from batchrun.evaluation.side import Spending, Spent, refuse_one_twice
from batchrun.evaluation.summary import MOST_LABELS
from batchrun.evaluation.warnings import copied, damaged
from batchrun.records.index import HashTable, LineSet, hash64
from batchrun.records.words import printable_json
from batchrun.stats.confusion import SEED, kappa, resample
from batchrun.stats.proportions import CONFIDENCE, UNDEFINED, Interval, wilson

_ABSENT, _UNANSWERED = -2, -1


class Agreement(msgspec.Struct, frozen=True):
    """Two files in one field, over the `rows` that both answered.

    `agreement`: the share of rows with the same answer. `kappa`: not defined for free text. `unanswered`: rows that
    both were asked and one did not answer. `only_first`, `only_second`: rows that are in one file alone.
    """

    first: str
    second: str
    rows: int
    only_first: int
    only_second: int
    unanswered: int
    agreement: Interval
    kappa: Interval


class AgreeingFile(msgspec.Struct, frozen=True):
    """One file, and what its records cost; `duplicates` and `damaged_lines` as where there is gold."""

    results: str
    spent: Spent
    duplicates: int
    damaged_lines: int


class Agreements(msgspec.Struct, frozen=True):
    """All files without gold, and how far each pair of them agrees by field.

    `v`: the version of this form. `confidence`: of all intervals. `seed`: of the resampled ones. `files`, `fields`: the
    figures. `fields_left_out`: fields that not every file has a value in, each with the files that have. `warnings`:
    when not to trust a figure.
    """

    v: Literal[1]
    confidence: float
    seed: int
    files: list[AgreeingFile]
    fields: dict[str, list[Agreement]]
    fields_left_out: dict[str, list[str]]
    warnings: list[str]

    def to_json(self) -> bytes:
        """Indented JSON with a newline."""
        return printable_json(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


class _Said:
    """What each of the files answered in one field, as numbers of labels, by the number of the id."""

    def __init__(self, field: Field, files: int) -> None:
        self.field = field
        self.codes = [array("i") for _ in range(files)]
        self._labels: dict[str, int] = {}

    def take(self, file: int, number: int, answer: Answer) -> None:
        """Note what one file says to the id of that number."""
        codes = self.codes[file]
        codes.extend([_ABSENT] * (number + 1 - len(codes)))
        value = None if answer.why else self.field.read(answer)
        read = None if value is None else self.field.scorer.read_answer(value)
        codes[number] = _UNANSWERED if read is None else self._labels.setdefault(vote(read), len(self._labels))

    def compare(self, first: int, second: int, paths: Sequence[Path]) -> Agreement:
        """Two of the files."""
        one, other = self.codes[first], self.codes[second]
        size = max(len(one), len(other))
        for codes in (one, other):
            codes.extend([_ABSENT] * (size - len(codes)))
        pairs = Counter(zip(one, other, strict=True))
        both = {pair: count for pair, count in pairs.items() if min(pair) >= 0}
        rows = sum(both.values())
        seen = sorted({label for pair in both for label in pair})
        at = {label: number for number, label in enumerate(seen)}
        cells = {(at[gold], at[answer]): count for (gold, answer), count in both.items()}
        is_labels = 0 < len(seen) <= MOST_LABELS
        return Agreement(
            first=str(paths[first]),
            second=str(paths[second]),
            rows=rows,
            only_first=sum(count for pair, count in pairs.items() if pair[1] == _ABSENT != pair[0]),
            only_second=sum(count for pair, count in pairs.items() if pair[0] == _ABSENT != pair[1]),
            unanswered=sum(count for pair, count in pairs.items() if _ABSENT not in pair and _UNANSWERED in pair),
            agreement=wilson(sum(count for pair, count in both.items() if pair[0] == pair[1]), rows),
            kappa=resample(cells, len(seen), [kappa]).intervals[0] if is_labels else UNDEFINED,
        )


def agree(results: Sequence[Path], book: PriceBook) -> Agreements:
    """How far result files agree, row by row, in each field that all have.

    Raises `UsageError` where no two have an answer to the same row, or a file is named twice or cannot be read.
    """
    refuse_one_twice(results)
    try:
        with ExitStack() as stack:
            return _agree([stack.enter_context(RecordFile(path)) for path in results], list(results), book)
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error


def _agree(files: list[RecordFile], paths: list[Path], book: PriceBook) -> Agreements:
    seen = [SeenFields(file.results()) for file in files]
    common = scorers_of_all(seen)
    left_out = {
        name: [str(path) for path, one in zip(paths, seen, strict=True) if one.kinds(name)]
        for name in sorted(set[str]().union(*(one.scorers() for one in seen)) - common.keys())
    }
    scorers = {name: scorer for name, scorer in common.items() if scorer is not JSON} or {ANSWER: TEXT}
    said = [_Said(Field(name, name, scorer, is_text=scorer is TEXT), len(files)) for name, scorer in scorers.items()]
    numbers, told, warnings = HashTable(), list[AgreeingFile](), list[str]()
    for at, file in enumerate(files):
        spending, reader = Spending(book), Asked.of(paths[at]).reader()
        known, duplicates, copies = LineSet(), 0, 0
        for results, _ in file.batches():
            spending.add(results)
            for result in results:
                number = numbers.setdefault(hash64(result.custom_id), len(numbers))
                if not known.add(number):
                    duplicates += 1
                    continue
                copies += result.run.source is not None and result.run.source.kind == "copied"
                answer = Answer(result, reader)
                for one in said:
                    one.take(at, number, answer)
        for custom_id in file.damaged_ids.values():
            number = numbers.setdefault(hash64(custom_id), len(numbers))
            for one in said if known.add(number) else ():
                one.take(at, number, Answer(None))
        warnings += [f"{paths[at]}: {line}" for line in (*damaged(file), *copied(copies))]
        told.append(AgreeingFile(str(paths[at]), spending.total(), duplicates, file.damaged))
    fields = {
        one.field.name: [one.compare(first, second, paths) for first, second in combinations(range(len(files)), 2)]
        for one in said
    }
    if not any(agreement.rows for found in fields.values() for agreement in found):
        raise UsageError("the files have no answered row in common; there is nothing to compare")
    return Agreements(1, CONFIDENCE, SEED, told, fields, left_out, warnings)
