"""Corrections as gold: each row counts for as many rows as it stands for, and what was marked as wrong is wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from batchrun.billing.pricing import PriceBook
from batchrun.datasets.tables import Source
from batchrun.errors import UsageError
from batchrun.evaluation.compare import compare
from batchrun.evaluation.evaluate import Question, evaluate
from batchrun.evaluation.figures import Evaluation
from batchrun.evaluation.text import render
from batchrun.results.paths import ResultPaths
from batchrun.stats.proportions import effective_rows, weighted_share, wilson
from tests.html.made import TOPICS, make_job
from tests.viewer.serving import serving
from tests.viewer.test_review import decide, review_of

ROWS = 120


def correction(custom_id: str, to: str | None, **more: Any) -> dict[str, Any]:
    return {"v": 1, "id": custom_id, "field": "topic", "to": to, "when": "2026-01-01T00:00:00Z"} | more


def write(path: Path, corrections: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in corrections))
    return path


def held(results: Path, corrections: Path) -> Evaluation:
    return evaluate(results, Question(Source(str(corrections))))


def topic(line: int) -> str:
    """What the answer to a line says."""
    return TOPICS[(line if line % 5 else line + 1) % 4]


def drawn(line: int, *, is_right: bool, probability: float | None) -> dict[str, Any]:
    to = topic(line) if is_right else TOPICS[(TOPICS.index(topic(line)) + 1) % 4]
    how = {} if probability is None else {"drawn": "random" if probability < 0.5 else "doubtful"}
    return correction(f"row-{line:04}", to, **how, **({} if probability is None else {"probability": probability}))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_job(tmp_path, ROWS)


def test_a_row_counts_by_the_probability_with_which_it_was_drawn(results: Path, tmp_path: Path) -> None:
    """Two rows of ten each, one right; four of one each, all wrong."""
    lines = [drawn(1, is_right=True, probability=0.1), drawn(2, is_right=False, probability=0.1)]
    lines += [drawn(line, is_right=False, probability=1.0) for line in (3, 4, 6, 7)]
    found = held(results, write(tmp_path / "c.jsonl", lines))
    assert found.counts.right == 1
    assert found.accuracy.value == pytest.approx(10 / 24)
    assert found.accuracy == weighted_share(10, 24, 2 * 10**2 + 4)
    assert found.accuracy == wilson(10, 24, 24**2 / 204), "Kish"
    figures = found.fields["topic"]
    assert figures.accuracy == found.accuracy
    assert figures.labels is None, "its figures would not be weighted"
    assert found.reviewed is not None
    assert (found.reviewed.weighted, found.reviewed.drawn) == (True, {"random": 2, "doubtful": 4})
    assert "they stand for all rows that the file had when these were drawn" in render(found)
    assert not any("different labels" in warning for warning in found.warnings), "that is not why it has no classes"
    assert json.loads(found.to_json())["reviewed"]["weighted"] is True


def test_the_accuracy_of_a_group_and_of_clusters_is_weighted_too(results: Path, tmp_path: Path) -> None:
    """The rows of one label stand for 10, 1 and 1 rows; taken together they say no more than one row does."""
    lines = [drawn(1, is_right=True, probability=0.1)]
    lines += [drawn(line, is_right=line == 6, probability=1.0) for line in (3, 6, 9, 11, 13)]
    gold = Source(str(write(tmp_path / "c.jsonl", lines)))
    found = evaluate(results, Question(gold, by="topic", cluster="topic"))
    by_label = {json.loads(json.dumps(line))["to"]: [0.0, 0.0, 0] for line in lines}
    for line in lines:
        weight, sums = 1 / line["probability"], by_label[line["to"]]
        sums[0] += weight * (line["id"] in {"row-0001", "row-0006"})
        sums[1] += weight
        sums[2] += 1
    assert len(by_label) > 1
    for label, (hits, total, _) in by_label.items():
        assert found.groups[label].accuracy == wilson(hits, total, 1), "one cluster alone counts as one row"
    effective = effective_rows([(hits, total) for hits, total, _ in by_label.values()])
    assert found.accuracy == wilson(11, 15, min(effective, 15**2 / 105))


def test_equal_probabilities_weigh_nothing(results: Path, tmp_path: Path) -> None:
    lines = [drawn(line, is_right=line != 3, probability=0.2) for line in (1, 2, 3, 4)]
    found = held(results, write(tmp_path / "c.jsonl", lines))
    assert found.accuracy == wilson(3, 4)
    assert found.fields["topic"].labels is not None
    assert found.warnings == held(results, write(tmp_path / "d.jsonl", lines)).warnings
    assert not any("weighted" in warning for warning in found.warnings)


def test_a_label_that_was_marked_as_wrong_is_wrong(results: Path, tmp_path: Path) -> None:
    lines = [drawn(1, is_right=True, probability=0.2)]
    lines += [correction("row-0002", None, is_wrong=True, drawn="random", probability=0.2)]
    lines += [correction("row-0010", None, is_wrong=True, drawn="random", probability=0.2)]
    found = held(results, write(tmp_path / "c.jsonl", lines))
    assert (found.counts.right, found.counts.wrong, found.counts.unanswered) == (1, 1, 1)
    assert found.accuracy == wilson(1, 3)
    labels = found.fields["topic"].labels
    assert labels is not None
    assert sum(map(sum, labels.confusion.cells)) == 1, "nobody knows what the other one should have been"


def test_rows_without_a_probability(results: Path, tmp_path: Path) -> None:
    alone = [drawn(line, is_right=True, probability=None) for line in (1, 2)]
    found = held(results, write(tmp_path / "c.jsonl", alone))
    assert found.accuracy == wilson(2, 2)
    assert any("not known how these rows were drawn" in warning for warning in found.warnings)
    mixed = held(results, write(tmp_path / "d.jsonl", [*alone, drawn(3, is_right=False, probability=0.3)]))
    assert mixed.accuracy.value == 0
    assert any(warning.startswith("2 rows left out") for warning in mixed.warnings)


@pytest.mark.parametrize("probability", [0, -0.5, 1.5, 1e-300])
def test_a_probability_that_there_is_not_is_not_known(results: Path, tmp_path: Path, probability: float) -> None:
    lines = [drawn(1, is_right=False, probability=probability), drawn(2, is_right=True, probability=0.5)]
    found = held(results, write(tmp_path / "c.jsonl", lines))
    assert found.accuracy == wilson(1, 1)
    assert any(warning.startswith("1 row left out") for warning in found.warnings)


def test_a_comparison_of_weighted_rows_and_an_empty_file_are_refused(results: Path, tmp_path: Path) -> None:
    lines = [drawn(1, is_right=True, probability=0.1), drawn(2, is_right=False, probability=1.0)]
    question = Question(Source(str(write(tmp_path / "c.jsonl", lines))))
    other = tmp_path / "other.jsonl"
    other.write_bytes(results.read_bytes())
    with pytest.raises(UsageError, match="drawn with different probabilities"):
        compare([results, other], question, PriceBook())
    undone = [lines[0], correction("row-0001", None, undo=True)]
    with pytest.raises(UsageError, match="has no decisions"):
        held(results, write(tmp_path / "d.jsonl", undone))


def test_a_review_through_the_viewer_is_gold_for_eval(results: Path) -> None:
    review = review_of(results, 12, random_share=0.5)
    wrong = 0
    with serving(results, review) as viewer:
        for place, row in enumerate(review.queue.rows):
            if row.drawn == "doubtful":
                decide(viewer, place, action="set", field="topic", value="praise")
            elif row.line % 2:
                decide(viewer, place, action="wrong", field="topic")
                wrong += 1
            else:
                decide(viewer, place, action="accept")
    review.file.close()
    found = held(results, ResultPaths.of(results).corrections)
    topic = found.fields["topic"]
    assert (topic.counts.right, topic.counts.wrong, topic.counts.unanswered) == (6 - wrong, wrong, 6)
    of_random = (ROWS * 9 / 10) / 6
    of_doubtful = (ROWS / 10) / 6
    assert topic.accuracy.value == pytest.approx((6 - wrong) * of_random / (6 * of_random + 6 * of_doubtful))


def test_the_weighted_share_is_that_of_all_rows_on_average() -> None:
    """Doubtful rows are drawn eight times as often, and are right less often: without weights the share is far off."""
    rng = random.Random(3)
    rows = [(is_doubtful, rng.random() < (0.3 if is_doubtful else 0.9)) for is_doubtful in [True] * 100 + [False] * 900]
    truth = mean(is_right for _, is_right in rows)
    shares, plain, covered = [], [], 0
    for _ in range(300):
        sample = [*rng.sample(rows[:100], 80), *rng.sample(rows[100:], 90)]
        weights = [1 / 0.8 if is_doubtful else 1 / 0.1 for is_doubtful, _ in sample]
        hits = sum(weight for weight, (_, is_right) in zip(weights, sample, strict=True) if is_right)
        found = weighted_share(hits, sum(weights), sum(weight**2 for weight in weights))
        assert found.value is not None
        assert found.lower is not None
        assert found.upper is not None
        shares.append(found.value)
        plain.append(mean(is_right for _, is_right in sample))
        covered += found.lower <= truth <= found.upper
    assert mean(shares) == pytest.approx(truth, abs=0.01)
    assert abs(mean(plain) - truth) > 0.15
    assert covered >= 0.93 * 300, "the interval is a little wide, and not too narrow"
