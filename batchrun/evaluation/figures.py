"""The figures of an evaluation: what `batchrun eval` prints and what its JSON holds."""

from __future__ import annotations

from typing import Literal

import msgspec

from batchrun.evaluation.verdict import Counts, Unanswered
from batchrun.records.words import printable_json
from batchrun.stats.proportions import Interval

VERSION: Literal[1] = 1


class Accuracy(msgspec.Struct, frozen=True):
    """The share of right answers. `asked`: of all rows that were asked; `answered`: of those with an answer."""

    asked: Interval
    answered: Interval

    def of(self, policy: Unanswered) -> Interval:
        """The one that the policy asks for."""
        return self.asked if policy is Unanswered.WRONG else self.answered


class Group(msgspec.Struct, frozen=True):
    """The rows of one group: their `counts`, and their `accuracy`."""

    counts: Counts
    accuracy: Interval


class ClassFigures(msgspec.Struct, frozen=True):
    """One class: `precision`, `recall`, `f1`; `support` is how often gold has it, `answered` how often it was said."""

    precision: Interval
    recall: Interval
    f1: Interval
    support: int
    answered: int


class Confusion(msgspec.Struct, frozen=True):
    """How often which label of gold (a row of `cells`) got which answer (a column); `unanswered` by label of gold."""

    labels: list[str]
    cells: list[list[int]]
    unanswered: list[int]


class MixUp(msgspec.Struct, frozen=True):
    """How often `gold` was answered with `answer`, and the custom_id of one such row."""

    gold: str
    answer: str
    count: int
    example: str


class Repeats(msgspec.Struct, frozen=True):
    """What repeats of the same rows came to. Unanswered ones count as the policy says: as wrong, or not at all.

    `rows`: rows with repeats that count, from `least` to `most` of them each. `unanswered`: repeats without an answer,
    of all rows. `mean`: the mean share of right answers of a row. `majority`: the share of rows whose
    most frequent answer is right; a tie is not. `pass_at`: by k, the chance that one of k repeats is right, `pass_all`
    that all k are. `flips`: the share of rows whose repeats do not all say the same. `least_share`: the smallest share
    of right repeats of any row.
    """

    rows: int
    least: int
    most: int
    unanswered: int
    mean: Interval
    majority: Interval
    flips: Interval
    pass_at: dict[str, float]
    pass_all: dict[str, float]
    least_share: float


class Labels(msgspec.Struct, frozen=True):
    """The figures of a field whose values are labels, each with its interval; undefined ones have no value."""

    f1_macro: Interval
    f1_micro: Interval
    f1_weighted: Interval
    balanced_accuracy: Interval
    mcc: Interval
    kappa: Interval
    alpha_nominal: Interval
    alpha_ordinal: Interval | None
    classes: dict[str, ClassFigures]
    confusion: Confusion
    mix_ups: list[MixUp]


class Numbers(msgspec.Struct, frozen=True):
    """The figures of a field whose values are numbers, over the answered rows; bounds are null where all are alike."""

    mean_absolute_error: Interval
    rank_correlation: Interval


class FieldFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field. `accuracy` follows the policy for unanswered rows, which `accuracies` shows both ways.

    `unanswered`: how many rows have no answer, by why. `labels`, `numbers` and `repeats` are absent where there are
    none.
    """

    column: str
    scorer: str
    counts: Counts
    unanswered: dict[str, int]
    accuracy: Interval
    accuracies: Accuracy
    labels: Labels | None = None
    numbers: Numbers | None = None
    repeats: Repeats | None = None
    groups: dict[str, Group] = {}


class People(msgspec.Struct, frozen=True):
    """How a judge does on the answers that people have judged, too, and what its verdicts come to when corrected by it.

    `column`: with the verdicts of people. `passed`, `failed`: how many of these answers people passed and failed, and
    the judge has a verdict on; `unreadable`: on how many it has none. `true_positive_rate`: of those that people
    passed, the share that the judge passed; `true_negative_rate`: of those that people failed, the share that it
    failed. `accuracy`: the share of these answers that people passed. `corrected`: the accuracy of all answers.
    """

    column: str
    passed: int
    failed: int
    unreadable: int
    true_positive_rate: Interval
    true_negative_rate: Interval
    accuracy: Interval
    corrected: Accuracy


class Judge(msgspec.Struct, frozen=True):
    """The judge that scored. `results`: its result file. `passing`: what its verdict is where an answer passes.

    `unscored`: how many answers it has no verdict on, by why. `people`: None where nobody has judged it.
    """

    results: str
    passing: str
    unscored: dict[str, int]
    people: People | None


class Gate(msgspec.Struct, frozen=True):
    """One threshold and whether it is reached: `gate` as it was written, `words` say what was found."""

    gate: str
    passed: bool
    words: str


class Reviewed(msgspec.Struct, frozen=True):
    """How the rows of a review were drawn, where corrections are gold.

    `drawn`: how many rows by how they were drawn. `weighted`: whether rows stand for different numbers of rows, by
    which the accuracies are weighted.
    """

    drawn: dict[str, int]
    weighted: bool


class Evaluation(msgspec.Struct, frozen=True, omit_defaults=True):
    """All figures of one result file against gold.

    `counts`, `accuracy` and `accuracies` are those of all fields together: a row is right where each field is.
    `policy`: what unanswered rows count as. `seed`: of the resampled intervals. `duplicates`: further records of an
    id, which are not counted. `damaged_lines`: lines that are no records; a row that has no other one is unanswered.
    `warnings`: when not to trust a figure, in words. `gates`: the thresholds that were given. `v`: the version of this
    form. `results`, `gold`: the two files. `confidence`: of all intervals. `fields`: the figures of each field.
    `repeats`: of rows that were asked several times. `groups`: by the value of a column. `judge`: who scored the
    answers, where gold did not.
    `reviewed`: how the rows were drawn, where gold is a file of corrections.
    """

    v: Literal[1]
    results: str
    gold: str
    policy: Unanswered
    confidence: float
    seed: int
    counts: Counts
    accuracy: Interval
    accuracies: Accuracy
    fields: dict[str, FieldFigures]
    judge: Judge | None = None
    reviewed: Reviewed | None = None
    repeats: Repeats | None = None
    groups: dict[str, Group] = {}
    duplicates: int = 0
    damaged_lines: int = 0
    warnings: list[str] = []
    gates: list[Gate] = []

    def to_json(self) -> bytes:
        """Indented JSON with a newline. The figures of `labels` and `numbers` stand beside the field's own."""
        tree = msgspec.to_builtins(self)
        for told in tree["fields"].values():
            told.update(told.pop("labels", {}) | told.pop("numbers", {}))
        return printable_json(msgspec.json.format(msgspec.json.encode(tree), indent=2) + b"\n")
