"""The figures of an evaluation as text: tables that fit on a screen."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from batchrun.evaluation.text import MOST_CLASSES, WIDEST, render, share, table
from batchrun.stats.proportions import UNDEFINED, Interval
from tests.evaluation.made import evaluated

cells = (
    st.text("abcdefghij ", min_size=1, max_size=30).map(str.strip).filter(bool).map(lambda text: text.replace(" ", "_"))
)
tables = st.integers(1, 14).flatmap(
    lambda columns: st.lists(st.lists(cells, min_size=columns, max_size=columns), min_size=1, max_size=5)
)


@given(tables)
def test_no_table_is_too_wide_and_every_cell_is_there_once_beside_the_name_of_its_row(rows: list[list[str]]) -> None:
    lines = table(rows)
    assert all(len(line) <= WIDEST for line in lines)
    blocks = [block.splitlines() for block in "\n".join(lines).split("\n\n")]
    assert all(len(block) == len(rows) for block in blocks)
    for at, (name, *rest) in enumerate(rows):
        found = [block[at].split() for block in blocks]
        assert {words[0] for words in found} == {name}
        assert [word for words in found for word in words[1:]] == rest


def test_of_very_many_labels_the_most_frequent_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    answers = {f"r-{at}": {"topic": f"label-{min(at, 49):02}"} for at in range(60)}
    rows = [(f"r-{at}", f"label-{min(at, 49):02}") for at in range(60)]
    lines = render(evaluated(tmp_path, answers, rows, "topic")).splitlines()
    shown = {line.split()[0] for line in lines if line.startswith("label-")}
    assert len(shown) == MOST_CLASSES
    assert "label-49" in shown
    assert "and 20 rarer labels, in --json" in lines


def test_a_figure_without_bounds_is_shown_all_the_same(tmp_path: Path) -> None:
    """Where all rows are of one label its draws say nothing of others; the figure itself is known."""
    found = evaluated(tmp_path, {f"r-{at}": {"topic": "x"} for at in range(5)}, [("r-1", "x"), ("r-2", "x")], "topic")
    assert share(Interval(0.5, None, None)) == "0.500 (–)"
    assert share(UNDEFINED) == "–"
    lines = [line.split() for line in render(found).splitlines()]
    assert ["F1,", "macro", "1.000", "(–)"] in lines
    assert ["Cohen's", "kappa", "–"] in lines


def test_with_many_long_labels_and_groups_no_line_of_the_evaluation_wraps(tmp_path: Path) -> None:
    labels = [f"a rather long label no {number}" for number in range(12)]
    answers = {f"r-{at}": {"topic": labels[at % 12]} for at in range(120)}
    rows = [(f"r-{at}", labels[at % 11], f"group {at % 3} of the table") for at in range(120)]
    lines = render(evaluated(tmp_path, answers, rows, "topic", "of", by="of")).splitlines()
    told = [line for line in lines if not line.startswith(("warning: ", str(tmp_path)))]
    assert max(map(len, told)) <= WIDEST
    head = next(line for line in lines if line.startswith("class "))
    assert head.split() == ["class", "precision", "recall"]
    assert sum(line.startswith("gold \\ answer") for line in lines) > 1
