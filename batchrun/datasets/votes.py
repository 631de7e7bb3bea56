"""`--votes`: the answers to the repeats of a row folded into one. Pure.

1. Only answers that are ok vote. The value that most of them have is the label; where two have as many, there is none.
2. A share is of the votes, not of the repeats; the list of all answers shows how many there were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from batchrun.datasets.fields import Column, Kind
from batchrun.datasets.labels import Label, RowStatus

_canonical = msgspec.json.Encoder(order="sorted").encode


class Folded(NamedTuple):
    """The label of a row out of those of its repeats, and the values of `vote_columns`."""

    label: Label
    values: list[Any]


def vote_columns(fields: Sequence[Column]) -> tuple[Column, ...]:
    """For each field: the value that won, its share of the votes, and the values of all repeats as a list."""
    return tuple(
        column
        for field in fields
        for column in (field, Column(f"{field.name}_share", Kind.NUMBER), Column(f"{field.name}_all", Kind.JSON))
    )


def fold(labels: Sequence[Label], fields: Sequence[Column]) -> Folded:
    """Fold the labels of a row's repeats. One field without a winner makes the row a tie."""
    are_ok = [label.status is RowStatus.OK for label in labels]
    values, is_tie = list[Any](), False
    for field in fields:
        given = [field.value(label.value) for label in labels]
        winner, share = _vote([value for value, is_ok in zip(given, are_ok, strict=True) if is_ok])
        is_tie = is_tie or (share is not None and winner is _TIE)
        values += [None if winner is _TIE else winner, share, given]
    return Folded(_label(labels, are_ok, is_tie=is_tie), values)


_TIE = object()


def _vote(values: Sequence[Any]) -> tuple[Any, float | None]:
    """The value that most have, or `_TIE`; and its share. Without a vote both are None."""
    if not values:
        return None, None
    by_text = {_canonical(value): value for value in values}
    first, *others = Counter(map(_canonical, values)).most_common(2)
    share = first[1] / len(values)
    return _TIE if others and others[0][1] == first[1] else by_text[first[0]], share


def _label(labels: Sequence[Label], are_ok: Sequence[bool], *, is_tie: bool) -> Label:
    """The status of a row; where some repeats are not ok, the error says how many, and the first of theirs."""
    not_ok = [label for label, is_ok in zip(labels, are_ok, strict=True) if not is_ok]
    was_fenced = any(label.was_fenced for label in labels)
    error = ""
    if not_ok:
        first = not_ok[0]
        told = f"{first.status}: {first.error}" if first.error else str(first.status)
        error = f"{len(not_ok)} of {len(labels)} answers are not ok; {told}"
    if not any(are_ok):
        status = Counter(label.status for label in labels).most_common(1)[0][0]
        return Label(status, error=error, was_fenced=was_fenced)
    return Label(RowStatus.TIE if is_tie else RowStatus.OK, error=error, was_fenced=was_fenced)
