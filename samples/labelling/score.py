"""Compare the labels in a result file with those in gold.jsonl.

    python score.py results-labelling.jsonl [gold.jsonl]

Accuracy is over the messages the model answered; an answer that is unreadable, refused or cut short
counts as wrong. Failed and missing requests are counted beside it.
"""

import json
import sys
from collections import Counter
from io import TextIOWrapper
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIELDS = ["topic", "sentiment", "urgent"]
OUTCOMES = ["labelled", "unreadable", "refused", "incomplete", "failed", "missing"]


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a JSONL file by custom_id; the last of equal ids counts, a torn tail does not."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        records = [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]
    return {record["custom_id"]: record for record in records}


def answer(record: dict[str, Any] | None) -> tuple[str, str]:
    """Return the outcome of one result record and the text of its answer."""
    if record is None:
        return "missing", ""
    response = record.get("response") or {}
    body = response.get("body")
    if record.get("error") or response.get("status_code") != 200 or not isinstance(body, dict):
        return "failed", ""
    messages = [item for item in body.get("output") or [] if item.get("type") == "message"]
    parts = [part for message in messages for part in message.get("content") or []]
    text = "".join(part["text"] for part in parts if part.get("type") == "output_text")
    if any(part.get("type") == "refusal" for part in parts):
        return "refused", text
    return ("incomplete" if body.get("status") == "incomplete" else "labelled"), text


def labels(text: str) -> dict[str, Any] | None:
    """Return the labels an answer holds, or None if it is no object with every field."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and all(field in found for field in FIELDS) else None


def main(results: Path, gold: Path = HERE / "gold.jsonl") -> None:
    """Print how many answers came, how many are right, and which topics are mixed up most."""
    records = read(results)
    outcomes, right, mixed_up, answered = Counter[str](), Counter[str](), Counter[str](), 0
    for custom_id, want in read(gold).items():
        outcome, text = answer(records.get(custom_id))
        got = labels(text) if outcome == "labelled" else None
        if outcome == "labelled" and got is None:
            outcome = "unreadable"
        outcomes[outcome] += 1
        answered += outcome not in ("failed", "missing")
        if got is None:
            continue
        hits = [field for field in FIELDS if got[field] == want[field]]
        right.update(hits)
        right["all three"] += len(hits) == len(FIELDS)
        if "topic" not in hits:
            mixed_up[f"{want['topic']} taken for {got['topic']}"] += 1

    print(f"{'field':<12}{'right':>6}{'of':>6}{'accuracy':>10}")
    for field in [*FIELDS, "all three"]:
        share = f"{right[field] / answered:.1%}" if answered else "-"
        print(f"{field:<12}{right[field]:>6}{answered:>6}{share:>10}")
    print()
    for outcome in OUTCOMES:
        print(f"{outcome:<12}{outcomes[outcome]:>6}")
    if mixed_up:
        print("\nmost frequent topic errors")
        for what, count in mixed_up.most_common(5):
            print(f"{count:>6}  {what}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    main(*map(Path, sys.argv[1:]))
