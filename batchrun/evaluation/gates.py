"""Thresholds that figures must reach: the verdict that is printed and the exit code come from one value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import structs

from batchrun.billing.pricing import PriceBook
from batchrun.errors import MissedError, UsageError
from batchrun.evaluation.compare import Difference, compare
from batchrun.evaluation.evaluate import Question
from batchrun.evaluation.figures import Evaluation, FieldFigures, Gate, Repeats
from batchrun.evaluation.text import left_out as left_out_lines
from batchrun.records.words import counted
from batchrun.stats.proportions import Interval

_BOUND = re.compile(r"(lower|upper)\((.+)\)", re.DOTALL)
_CLASS = re.compile(r"(precision|recall|f1)\((.+)\)", re.DOTALL)
_SHOWN_LABELS = 10
_OF_LABELS = (
    "f1_macro",
    "f1_micro",
    "f1_weighted",
    "balanced_accuracy",
    "mcc",
    "kappa",
    "alpha_nominal",
    "alpha_ordinal",
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """The least that a figure must be: its `value`, or the `lower` or `upper` end of its interval."""

    text: str
    figure: str
    end: Literal["value", "lower", "upper"]
    least: float


def threshold(text: str) -> Threshold:
    """`accuracy=0.9`, or `lower(topic.f1_macro)=0.85`. Raises `UsageError` for another text."""
    told, equals, number = text.rpartition("=")
    try:
        least = float(number)
    except ValueError:
        equals = ""
    if not told or not equals or not -1 <= least <= 1:
        raise UsageError(
            f"--fail-under {text}: write FIGURE=NUMBER, such as accuracy=0.9 or 'lower(topic.f1_macro)=0.85', "
            "with a number from -1 to 1"
        )
    bounded = _BOUND.fullmatch(told)
    if bounded is None:
        return Threshold(text, told, "value", least)
    return Threshold(text, bounded[2], "lower" if bounded[1] == "lower" else "upper", least)


def check(found: Evaluation, thresholds: Iterable[Threshold], least_row_share: float | None = None) -> Evaluation:
    """The evaluation with each threshold's verdict. `least_row_share`: what each row's repeats must reach.

    Raises `UsageError` for a figure that there is not, or that is not defined for these rows: that is no verdict.
    """
    gates = [_check(found, one) for one in thresholds]
    if least_row_share is not None:
        gates.append(_check_rows(found.repeats, least_row_share))
    return structs.replace(found, gates=[*found.gates, *gates])


def against(base: Path, results: Path, question: Question, margin: float | None) -> Gate:
    """Whether `results` stands its ground against `base`, as `check_base` has it; all fields together.

    Raises as `compare` does, also where the two have no row in common, and `UsageError` where the base has a field that
    `results` lacks: that is no verdict.
    """
    found = compare([base, results], question, PriceBook(), shown_flips=0)
    if lost := [name for name, files in found.fields_left_out.items() if files == [found.files[0].results]]:
        raise UsageError(
            f"{', '.join(lost)}: {base} has that field and {results} has not, so the one cannot stand against the "
            f"other; name it with --score {lost[0]}=SCORER, and each row without it is unanswered"
        )
    gate = check_base(next(iter(found.fields.values()))[0], margin)
    left_out = list(left_out_lines(found.files[0].duplicates, found.files[0].damaged_lines))
    left_out += [f"it has no {name}, which is not compared" for name in found.fields_left_out]
    return structs.replace(gate, words="; ".join([gate.words, *(f"{base}: {line}" for line in left_out)]))


def check_base(one: Difference, margin: float | None) -> Gate:
    """Whether the second file of a comparison stands its ground against the first, its base.

    `margin` None: it is missed where the whole interval of the difference shows a loss. A margin: it is missed unless
    a loss above the margin is ruled out.
    """
    lower, upper = one.difference.lower, one.difference.upper
    assert one.difference.value is not None and lower is not None and upper is not None  # noqa: PT018 (it has rows)
    found = (
        f"against {one.first} it is {one.difference.value:+.4f} ({lower:+.4f} to {upper:+.4f}) on "
        f"{counted(one.rows, 'row')} ({one.only_first:,} only in the base, {one.only_second:,} not in the base, "
        f"{one.left_out:,} left out)"
    )
    if margin is None:
        passed = upper >= 0
        return Gate(f"worse than {one.first}", passed, f"{found}, {'no loss is shown' if passed else 'a loss'}")
    passed = lower > -margin
    words = "is ruled out" if passed else "is not ruled out"
    return Gate(f"as good as {one.first}, margin {margin:g}", passed, f"{found}, a loss above {margin:g} {words}")


def missed(gates: Sequence[Gate]) -> MissedError | None:
    """The error that names the gates that were missed; None where all passed."""
    failed = [gate.words for gate in gates if not gate.passed]
    return MissedError(f"missed: {'; '.join(failed)}") if failed else None


def _check(found: Evaluation, told: Threshold) -> Gate:
    interval = figure(found, told.figure)
    value = getattr(interval, told.end)
    if value is None:
        raise UsageError(f"--fail-under {told.text}: {told.figure} is not defined for these rows; there is no verdict")
    passed = value >= told.least
    what = told.figure if told.end == "value" else f"the {told.end} end of {told.figure}"
    return Gate(told.text, passed, f"{what} is {_apart(value, told.least)}, {_below(passed, told.least)}")


def _check_rows(repeats: Repeats | None, least: float) -> Gate:
    if repeats is None:
        raise UsageError("--fail-row-under needs rows that were asked more than once; no row here was")
    passed = repeats.least_share >= least
    words = f"the lowest share of right repeats of a row is {_apart(repeats.least_share, least)}"
    return Gate(f"row share={least:g}", passed, f"{words}, {_below(passed, least)}")


def _apart(value: float, least: float) -> str:
    """A value with four digits after the point, or as many as it takes to see on which side of another it is."""
    texts = (f"{value:.{digits}f}" for digits in range(4, 17))
    return next((text for text in texts if (float(text) < least) == (value < least)), repr(value))


def _below(passed: bool, least: float) -> str:
    return f"{'not ' if passed else ''}below {least:g}"


def figure(found: Evaluation, name: str) -> Interval:
    """A figure by its name: `accuracy`, `FIELD.accuracy`, `FIELD.f1_macro`, `FIELD.recall(LABEL)`, `judge.corrected`.

    Raises `UsageError` where there is none.
    """
    if name == "accuracy":
        return found.accuracy
    for field, figures in found.fields.items():
        if name.startswith(f"{field}."):
            of_field = _of_field(figures, name[len(field) + 1 :])
            if of_field is not None:
                return of_field
    of_judge = _of_judge(found)
    if name in of_judge:
        return of_judge[name]
    known = ["accuracy", *of_judge]
    for field, figures in found.fields.items():
        known += [f"{field}.{one}" for one in _names(figures)]
        if figures.labels is not None:
            labels = ", ".join(list(figures.labels.classes)[:_SHOWN_LABELS])
            known.append(f"precision, recall and f1 of a class as in {field}.f1(LABEL), LABEL being one of: {labels}")
    raise UsageError(f"there is no figure {name!r} here; the figures are {', '.join(known)}")


def _of_judge(found: Evaluation) -> dict[str, Interval]:
    """The figures of the judge by name; none where people have not judged it."""
    people = found.judge.people if found.judge is not None else None
    if people is None:
        return {}
    return {
        "judge.true_positive_rate": people.true_positive_rate,
        "judge.true_negative_rate": people.true_negative_rate,
        "judge.corrected": people.corrected.of(found.policy),
    }


def _of_field(figures: FieldFigures, name: str) -> Interval | None:
    if name == "accuracy":
        return figures.accuracy
    if figures.labels is None:
        return None
    if of_class := _CLASS.fullmatch(name):
        one = figures.labels.classes.get(of_class[2])
        return None if one is None else getattr(one, of_class[1])
    return getattr(figures.labels, name) if name in _names(figures) else None


def _names(figures: FieldFigures) -> Sequence[str]:
    labels = figures.labels
    return ["accuracy", *(name for name in _OF_LABELS if labels is not None and getattr(labels, name) is not None)]
