"""A comparison as text for people: never "better" where the interval holds 0."""

from __future__ import annotations

from collections.abc import Sequence

from batchrun.evaluation.agreement import AgreeingFile, Agreement, Agreements
from batchrun.evaluation.compare import Comparison, Difference, File, Flip, Winner
from batchrun.evaluation.side import Spent
from batchrun.evaluation.text import ALL_FIELDS, count_words, label_of, left_out, share, table
from batchrun.evaluation.verdict import Unanswered
from batchrun.records.words import counted, printable

_LONGEST_NAME, _LONGEST_TEXT = 40, 60


def render(found: Comparison) -> str:
    """The comparison as lines, ending in a newline."""
    lines = [f"compared with {printable(found.gold)}", "", *_files(found.files), ""]
    for name, differences in found.fields.items():
        for difference in differences:
            lines += [*_difference(name or ALL_FIELDS, difference, found.policy, len(differences) > 1), ""]
    lines += _of_all(found)
    policy = "count as wrong" if found.policy is Unanswered.WRONG else "are left out"
    lines.append(f"unanswered rows {policy}; intervals are {found.confidence:.0%}; {found.method}")
    return "\n".join(lines) + "\n"


def _of_all(found: Comparison | Agreements) -> list[str]:
    """What is not compared, and the warnings."""
    left_out = [
        f"not compared: {label_of(name)}, which is only in {', '.join(map(_name, files))}"
        for name, files in found.fields_left_out.items()
    ]
    return [*left_out, *(f"warning: {printable(warning)}" for warning in found.warnings)]


def render_agreement(found: Agreements) -> str:
    """How far files agree, as lines, ending in a newline."""
    lines = [*_spent_table(found.files), *_left_out(found.files), ""]
    for name, agreements in found.fields.items():
        for one in agreements:
            lines += [*_agreement(name, one), ""]
    lines += _of_all(found)
    lines.append(f"there is no gold: who agrees may be wrong together; intervals are {found.confidence:.0%}")
    lines.append(f"intervals of kappa: resampled, seed {found.seed}")
    return "\n".join(lines) + "\n"


def _agreement(name: str, one: Agreement) -> list[str]:
    return [
        f"{label_of(name)}: {_name(one.first)} and {_name(one.second)}, {counted(one.rows, 'row')} that both answered "
        f"({one.only_first:,} only in the first, {one.only_second:,} only in the second, "
        f"{one.unanswered:,} unanswered in either)",
        *table([["agreement", share(one.agreement)], ["Cohen's kappa", share(one.kappa)]]),
    ]


def _name(path: str) -> str:
    shown = printable(path)
    return shown if len(shown) <= _LONGEST_NAME else f"…{shown[1 - _LONGEST_NAME :]}"


def _files(files: list[File]) -> list[str]:
    counts = [f"{_name(file.results)}: {count_words(file.counts[''])}" for file in files]
    return [*_spent_table(files), "", *counts, *_left_out(files)]


def _left_out(files: Sequence[File | AgreeingFile]) -> list[str]:
    """What is in the files and is not compared."""
    return [
        f"{_name(file.results)}: {line}" for file in files for line in left_out(file.duplicates, file.damaged_lines)
    ]


def _spent_table(files: Sequence[File | AgreeingFile]) -> list[str]:
    head = ["file", "records", "cost", "input tokens", "output tokens", "latency p50", "p95"]
    rows = [
        [
            _name(file.results),
            f"{spent.records:,}",
            _cost(spent),
            f"{spent.input_tokens:,}",
            f"{spent.output_tokens:,}",
            _seconds(spent.latency_p50_s),
            _seconds(spent.latency_p95_s),
        ]
        for file in files
        for spent in [file.spent]
    ]
    return table([head, *rows])


def _cost(spent: Spent) -> str:
    """The known cost, and how many records it leaves out."""
    unknown = [(spent.unpriced_lines, "unpriced"), (spent.lines_without_usage, "without usage")]
    told = [f"{count:,} {why}" for count, why in unknown if count]
    known = [] if not spent.cost_usd and told else [f"${spent.cost_usd:.4f}"]
    return " and ".join([*known, *told])


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _four_digits(p_value: float) -> str:
    """Four digits after the point; no chance is so small that it is 0."""
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def _difference(name: str, one: Difference, policy: Unanswered, is_corrected: bool) -> list[str]:
    first, second = _name(one.first), _name(one.second)
    p_value = f"p {_four_digits(one.p_value)}"
    if is_corrected:
        p_value += f", {_four_digits(one.p_holm)} corrected by Holm"
    lines = [
        f"{label_of(name)}: {first} and {second}, {counted(one.rows, 'row')} that both have "
        f"({one.only_first:,} only in the first, {one.only_second:,} only in the second, {one.left_out:,} left out)",
        *table(
            [
                [first, share(one.first_accuracy)],
                [second, share(one.second_accuracy)],
                ["second less first", share(one.difference)],
            ]
        ),
        f"both right {one.pairs.both:,}, first alone {one.pairs.first_only:,}, second alone {one.pairs.second_only:,}, "
        f"neither {one.pairs.neither:,}; {p_value}",
        _verdict(one, first, second, policy),
        _power(one),
    ]
    return lines + _groups(one) + _flips(one)


def _verdict(one: Difference, first: str, second: str, policy: Unanswered) -> str:
    """Who is better, in a sentence; and where, if rows that were not answered are left out."""
    if one.winner is Winner.NEITHER:
        return f"These rows do not show a difference between {first} and {second}."
    better, other = (second, first) if one.winner is Winner.SECOND else (first, second)
    where = ""
    if one.left_out and policy is Unanswered.EXCLUDE:
        where = f" on the {counted(one.rows, 'row')} that both answered, with {one.left_out:,} left out"
    return f"{better} is better than {other}{where}."


def _power(one: Difference) -> str:
    if one.smallest_difference is None:
        return "So few rows would show no difference, however large, in 80 % of cases."
    points = 100 * one.smallest_difference
    return (
        f"In 80 % of cases these rows would show a difference of {points:.2g} percentage points; "
        "a smaller one they would show less often."
    )


def _groups(one: Difference) -> list[str]:
    if not one.groups:
        return []
    rows = [
        [
            label_of(name),
            share(of_group.first_accuracy),
            share(of_group.second_accuracy),
            share(of_group.difference),
            f"{of_group.rows:,}",
            "–" if of_group.winner is Winner.NEITHER else of_group.winner.value,
        ]
        for name, of_group in one.groups.items()
    ]
    corrected = "better is who is so with p corrected by Holm for all groups"
    return ["", *table([["group", "first", "second", "second less first", "rows", "better"], *rows]), corrected]


def _flips(one: Difference) -> list[str]:
    if not one.flips:
        return []
    total = one.pairs.first_only + one.pairs.second_only
    more = "" if len(one.flips) == total else "; --flips N shows more"
    lines = ["", f"flips, {len(one.flips):,} of {total:,}{more}"]
    return lines + [_flip(flip) for flip in one.flips]


def _flip(flip: Flip) -> str:
    said = ", ".join(
        f"{name} said {'nothing' if answer is None else label_of(answer, _LONGEST_TEXT)}"
        for name, answer in (("first", flip.first), ("second", flip.second))
    )
    return f"  {label_of(flip.custom_id)}, {label_of(flip.field)}: gold is {label_of(flip.gold, _LONGEST_TEXT)}, {said}"
