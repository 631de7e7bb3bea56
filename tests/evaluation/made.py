"""Result files and gold tables that the tests make, with any outcome."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchrun.datasets.tables import Source
from batchrun.evaluation.evaluate import Question, evaluate
from batchrun.evaluation.figures import Evaluation
from batchrun.records.result import ErrorInfo, ResultHead, encode_result
from tests.support import run_info

FAILED, REFUSED, INCOMPLETE, EMPTY, INVALID = "failed", "refused", "incomplete", "empty", "invalid"
OUTCOMES = (FAILED, REFUSED, INCOMPLETE, EMPTY, INVALID)


class Outcome:
    """A record with that outcome, which has a text all the same: it must not be scored."""

    def __init__(self, name: str, text: str = "", schema_error: str | None = None) -> None:
        self.name, self.text, self.schema_error = name, text, schema_error


def write_results(path: Path, answers: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Path:
    """A result file: a str is the text of an answer, an `Outcome` another outcome, anything else JSON."""
    pairs = answers.items() if isinstance(answers, Mapping) else answers
    path.write_bytes(b"".join(_record(custom_id, line, told) for line, (custom_id, told) in enumerate(pairs, 1)))
    return path


def _record(custom_id: str, line: int, told: Any) -> bytes:
    outcome, text, schema_error = "succeeded", told, None
    if isinstance(told, Outcome):
        outcome, text, schema_error = told.name, told.text, told.schema_error
    elif not isinstance(told, str):
        text = json.dumps(told)
    message = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    is_failed = outcome == FAILED
    error = None if outcome == "succeeded" else ErrorInfo(outcome, "as the test has it")
    head = ResultHead(custom_id, run_info(line=line, outcome=outcome, schema_error=schema_error), error)
    return encode_result(head, 500 if is_failed else 200, "req_1", json.dumps({"output": [message]}).encode())


def write_gold(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """A CSV table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def evaluated(folder: Path, answers: Any, rows: Iterable[Sequence[object]], *columns: str, **told: Any) -> Evaluation:
    """The evaluation of such a result file against such a table."""
    results = write_results(folder / "results.jsonl", answers)
    gold = write_gold(folder / "gold.csv", ["custom_id", *(columns or ["answer"])], rows)
    return evaluate(results, Question(Source(str(gold)), **told))
