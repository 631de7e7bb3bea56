"""The figures of an evaluation as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from batchrun.evaluation.figures import Confusion, Evaluation, FieldFigures, Group, Labels, Repeats
from batchrun.evaluation.verdict import Counts, Unanswered, Verdict
from batchrun.records.words import counted, printable, shortened
from batchrun.stats.proportions import Interval

ALL_FIELDS = "all fields"
MOST_SHOWN = 12
"""Labels whose confusion table is shown; beyond that nobody reads it on a screen."""
MOST_CLASSES = 30
"""Labels whose figures are shown, those with most rows."""
WIDEST = 80
"""Characters of a line of a table: what is wider would wrap on most screens."""
_LONGEST_LABEL = 24
_COUNTS = (Verdict.RIGHT, Verdict.WRONG, Verdict.UNANSWERED, Verdict.UNSCORED, Verdict.NOT_ASKED)
_POLICIES = {
    Unanswered.WRONG: "unanswered rows count as wrong",
    Unanswered.EXCLUDE: "unanswered rows are left out of the accuracy",
}
FIGURES = {
    "f1_macro": "F1, macro",
    "f1_micro": "F1, micro",
    "f1_weighted": "F1, weighted",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "Matthews' correlation (MCC)",
    "kappa": "Cohen's kappa",
    "alpha_nominal": "alpha of the answered, nominal",
    "alpha_ordinal": "alpha of the answered, ordinal",
}


def render(found: Evaluation) -> str:
    """The evaluation as lines, ending in a newline."""
    lines = [*_heading(found), "", *_summary(found)]
    lines += left_out(found.duplicates, found.damaged_lines)
    if len(found.fields) > 1:
        lines += [*_group_table(found.groups), *_repeat_lines(found.repeats, found.policy)]
    for name, figures in found.fields.items():
        lines += ["", *_field(name, figures, found.policy)]
    if found.judge is not None and found.judge.unscored:
        lines.append("unscored: " + ", ".join(f"{count:,} {why}" for why, count in found.judge.unscored.items()))
    lines.append("")
    if any(figures.labels for figures in found.fields.values()):
        lines.append(f"intervals of the means of F1, of kappa, MCC and alpha: resampled, seed {found.seed}")
    lines += [f"warning: {printable(warning)}" for warning in found.warnings]
    lines += [f"{'passed' if gate.passed else 'MISSED'}: {printable(gate.words)}" for gate in found.gates]
    return "\n".join(lines).rstrip("\n") + "\n"


def render_summary(found: Evaluation) -> str:
    """The counts and the accuracy alone, as lines."""
    return "\n".join([*_summary(found), *(f"warning: {printable(warning)}" for warning in found.warnings)])


def _summary(found: Evaluation) -> list[str]:
    several = len(found.fields) > 1
    counts = {name: one.counts for name, one in found.fields.items()} | ({ALL_FIELDS: found.counts} if several else {})
    lines = [*_count_table(counts), "", *_accuracy_table(found, several), ""]
    return [*lines, f"{_POLICIES[found.policy]}; intervals are {found.confidence:.0%}"]


def _heading(found: Evaluation) -> list[str]:
    """What is held against what; of a judge it is told first how far it is to be trusted."""
    judge = found.judge
    if judge is None:
        return [f"{printable(found.results)} against {printable(found.gold)}"]
    lines = [f"{printable(found.results)} judged by {printable(judge.results)}"]
    if (people := judge.people) is None:
        return lines
    everyone = people.passed + people.failed + people.unreadable
    rows = [
        [f"judge against people, column {label_of(people.column)}", "rate", "rows"],
        ["passes what people pass (true positive rate)", share(people.true_positive_rate), f"{people.passed:,}"],
        ["fails what people fail (true negative rate)", share(people.true_negative_rate), f"{people.failed:,}"],
        ["what people pass of these rows", share(people.accuracy), f"{everyone:,}"],
    ]
    unreadable = [f"{counted(people.unreadable, 'row')} of people without a verdict of the judge"]
    return [*lines, "", *table(rows), *(unreadable if people.unreadable else [])]


def share(interval: Interval) -> str:
    """A figure with its interval: `0.912 (0.871 to 0.941)`; a dash for what is not defined."""
    if interval.value is None:
        return "–"
    if interval.lower is None or interval.upper is None:
        return f"{_three_digits(interval.value)} (–)"
    value, lower, upper = map(_three_digits, (interval.value, interval.lower, interval.upper))
    return f"{value} ({lower} to {upper})"


def _three_digits(value: float) -> str:
    """Three digits after the point; what rounds to 0 has no sign."""
    return f"{round(value, 3) + 0.0:.3f}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells in aligned columns: the first to the left, the others to the right.

    Columns beyond `WIDEST` go below, in blocks that begin with the first column again.
    """
    names, *columns = zip(*rows, strict=True)
    margin, *widths = [max(map(len, column)) for column in (names, *columns)]
    blocks, used = [list[int]()], margin
    for number, width in enumerate(widths):
        if blocks[-1] and used + 2 + width > WIDEST:
            blocks.append([])
            used = margin
        blocks[-1].append(number)
        used += 2 + width
    lines = list[str]()
    for block in blocks:
        cells = [[column.rjust(widths[number]) for column in columns[number]] for number in block]
        lines += [
            "",
            *("  ".join([name.ljust(margin), *row]).rstrip() for name, *row in zip(names, *cells, strict=True)),
        ]
    return lines[1:]


def label_of(text: str, longest: int = _LONGEST_LABEL) -> str:
    """A label as it is shown: on one line, not too long, and never nothing."""
    return shortened(printable(text.strip()) or "(empty)", longest)


def count_words(counts: Counts) -> str:
    """The five counts in one line."""
    return ", ".join(f"{getattr(counts, verdict.value):,} {verdict.value.replace('_', ' ')}" for verdict in _COUNTS)


def _count_table(counts: Mapping[str, Counts]) -> list[str]:
    head = ["rows", *(verdict.value.replace("_", " ") for verdict in _COUNTS)]
    rows = [
        [label_of(name), *(f"{getattr(one, verdict.value):,}" for verdict in _COUNTS)] for name, one in counts.items()
    ]
    return table([head, *rows])


def _accuracy_table(found: Evaluation, several: bool) -> list[str]:
    both = {name: one.accuracies for name, one in found.fields.items()}
    both |= {ALL_FIELDS: found.accuracies} if several else {}
    if found.judge is not None and found.judge.people is not None:
        both["corrected by people"] = found.judge.people.corrected
    rows = [[label_of(name), share(one.asked), share(one.answered)] for name, one in both.items()]
    return table([["accuracy", "unanswered is wrong", "of the answered"], *rows])


def left_out(duplicates: int, damaged_lines: int) -> Iterator[str]:
    """A line for each kind of what a result file has that is no answer to count."""
    if duplicates:
        yield f"{counted(duplicates, 'further record')} of an id that had one; the first one counts"
    if damaged_lines:
        told = "unanswered where the id can be read and no other record has it"
        yield f"{counted(damaged_lines, 'damaged line')}: {told}"


def _field(name: str, figures: FieldFigures, policy: Unanswered) -> list[str]:
    column = f", gold in column {printable(figures.column)}" if figures.column else ""
    lines = [f"{printable(name)}: {printable(figures.scorer)}{column}"]
    if figures.unanswered:
        whys = ", ".join(f"{count:,} {printable(why)}" for why, count in figures.unanswered.items())
        lines.append(f"unanswered: {whys}")
    if figures.numbers is not None:
        error, correlation = figures.numbers.mean_absolute_error, figures.numbers.rank_correlation
        lines.append(f"mean absolute error: {_plain(error)}; rank correlation: {_plain(correlation)}; of the answered")
    if figures.labels is not None:
        lines += _labels(figures.labels)
    return lines + _group_table(figures.groups) + _repeat_lines(figures.repeats, policy)


def _plain(found: Interval) -> str:
    if found.value is None:
        return "–"
    if found.lower is None or found.upper is None:
        return f"{found.value:.4g}"
    return f"{found.value:.4g} ({found.lower:.4g} to {found.upper:.4g})"


def _labels(labels: Labels) -> list[str]:
    overall = [
        [words, share(interval)]
        for name, words in FIGURES.items()
        if isinstance(interval := getattr(labels, name), Interval)
    ]
    head = ["class", "precision", "recall", "F1", "gold", "answered"]
    classes = labels.classes
    most = set(sorted(classes, key=lambda name: -classes[name].support - classes[name].answered)[:MOST_CLASSES])
    rows = [
        [
            label_of(name),
            share(one.precision),
            share(one.recall),
            share(one.f1),
            f"{one.support:,}",
            f"{one.answered:,}",
        ]
        for name, one in classes.items()
        if name in most
    ]
    lines = [*table(overall), "", *table([head, *rows])]
    if hidden := len(classes) - len(rows):
        lines.append(f"and {counted(hidden, 'rarer label')}, in --json")
    lines += ["", *_confusion(labels.confusion)]
    if labels.mix_ups:
        lines += ["", "most frequent mix-ups, with an example each"]
        lines += [
            f"  {one.count:,} × {label_of(one.gold)} answered with {label_of(one.answer)}: {label_of(one.example)}"
            for one in labels.mix_ups
        ]
    return lines


def _confusion(found: Confusion) -> list[str]:
    if len(found.labels) > MOST_SHOWN:
        return [f"the confusion table of {len(found.labels)} labels is in --json"]
    names = list(map(label_of, found.labels))
    rows = [
        [name, *(f"{count:,}" for count in counts), f"{unanswered:,}"]
        for name, counts, unanswered in zip(names, found.cells, found.unanswered, strict=True)
    ]
    return table([["gold \\ answer", *names, "unanswered"], *rows])


def _group_table(groups: Mapping[str, Group]) -> list[str]:
    if not groups:
        return []
    rows = [
        [
            label_of(name),
            share(one.accuracy),
            *(f"{getattr(one.counts, verdict.value):,}" for verdict in _COUNTS),
        ]
        for name, one in groups.items()
    ]
    return ["", *table([["group", "accuracy", *(verdict.value.replace("_", " ") for verdict in _COUNTS)], *rows])]


def repeats_words(found: Repeats, policy: Unanswered) -> str:
    """How many rows have how many repeats, and what became of those without an answer."""
    each = counted(found.most, "repeat") if found.least == found.most else f"{found.least:,} to {found.most:,} repeats"
    fate = "counted as wrong" if policy is Unanswered.WRONG else "left out"
    unanswered = f"; {counted(found.unanswered, 'unanswered repeat')} {fate}" if found.unanswered else ""
    return f"{counted(found.rows, 'row')} with {each} each{unanswered}"


def _repeat_lines(found: Repeats | None, policy: Unanswered) -> list[str]:
    if found is None:
        return []
    rows = [
        ["mean of the rows", share(found.mean)],
        ["majority vote", share(found.majority)],
        ["rows that flip", share(found.flips)],
        *([f"pass@{k}", f"{value:.3f}"] for k, value in found.pass_at.items()),
        *([f"pass^{k}", f"{value:.3f}"] for k, value in found.pass_all.items()),
    ]
    return ["", repeats_words(found, policy), *table(rows)]
