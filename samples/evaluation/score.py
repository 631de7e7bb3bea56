"""Compare the answers in a result file with those in references.jsonl.

    python score.py results-evaluation.jsonl [references.jsonl]

Accuracy is over the questions the model answered; a refusal or an answer cut short counts as wrong.
Failed and missing requests are counted beside it.
"""

import json
import re
import sys
import unicodedata
from collections import Counter
from decimal import Decimal
from io import TextIOWrapper
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OUTCOMES = ["answered", "refused", "incomplete", "failed", "missing"]
NUMBER = re.compile(r"(?<![\d.])-?\d[\d,]*(?:\.\d+)?")


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
    return ("incomplete" if body.get("status") == "incomplete" else "answered"), text


def plain(text: str) -> str:
    """Return text without case, accents, punctuation, extra space and a leading "the"."""
    text = unicodedata.normalize("NFKD", text).casefold()
    text = "".join(char for char in text if not unicodedata.combining(char))
    return re.sub(r"[\W_]+", " ", text).strip().removeprefix("the ")


def is_right(text: str, match: str, answers: list[str]) -> bool:
    """Tell whether text gives one of the answers; of several numbers in it the last one counts."""
    if match == "number":
        found = NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))
        return bool(found) and Decimal(found[-1].replace(",", "")) in map(Decimal, answers)
    given = plain(text)
    if match == "contains":
        return any(f" {plain(each)} " in f" {given} " for each in answers)
    return given in map(plain, answers)


def main(results: Path, references: Path = HERE / "references.jsonl") -> None:
    """Print the accuracy in each category, the outcomes, and the wrong answers."""
    records = read(results)
    outcomes, right, asked, wrong = Counter[str](), Counter[str](), Counter[str](), []
    for custom_id, want in read(references).items():
        outcome, text = answer(records.get(custom_id))
        outcomes[outcome] += 1
        if outcome in ("failed", "missing"):
            continue
        hit = outcome == "answered" and is_right(text, want["match"], want["answers"])
        for name in (want["category"], "all"):
            asked[name] += 1
            right[name] += hit
        if not hit:
            wrong.append(f"{custom_id}: {want['answers'][0]!r} wanted, {outcome} {text[:60]!r}")

    print(f"{'category':<12}{'right':>6}{'of':>6}{'accuracy':>10}")
    for name in [*(name for name in asked if name != "all"), "all"]:
        share = f"{right[name] / asked[name]:.1%}" if asked[name] else "-"
        print(f"{name:<12}{right[name]:>6}{asked[name]:>6}{share:>10}")
    print()
    for outcome in OUTCOMES:
        print(f"{outcome:<12}{outcomes[outcome]:>6}")
    if wrong:
        print("\nwrong answers", *wrong, sep="\n  ")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    main(*map(Path, sys.argv[1:]))
