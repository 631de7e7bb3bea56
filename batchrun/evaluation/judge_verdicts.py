"""What a judge said of each answer: that it passes, that it fails, or nothing that can be read.

1. A verdict is one field of the judge's JSON, whose values the schema of its requests tells. Nothing else is looked at.
2. What cannot be read is neither a pass nor a fail: the judge failed or refused, its answer does not fit its schema,
   or it judged another answer than the one that is there now.
"""

from __future__ import annotations

import math
from enum import IntEnum
from pathlib import Path
from typing import Any

import orjson

from batchrun.datasets.labels import LabelReader
from batchrun.datasets.lookup import RecordFile
from batchrun.datasets.prepared import Prepared
from batchrun.datasets.requests_of import find_requests, sent_as
from batchrun.errors import UsageError
from batchrun.evaluation.as_text import as_text
from batchrun.evaluation.asked import Asked, leaves
from batchrun.evaluation.fields import nested
from batchrun.evaluation.judge_requests import hash_of_file
from batchrun.records.answer import Result
from batchrun.records.index import HashTable, hash64
from batchrun.records.request import Overrides, RequestLineError, parse_request
from batchrun.records.words import counted
from batchrun.validation.schema import CompiledSchema


class Said(IntEnum):
    """What the judge said of one answer, or why nothing can be read. `NONE`: it has said nothing about it yet."""

    NONE = 0
    PASS = 1
    FAIL = 2
    FAILED = 3
    INVALID = 4
    CHANGED = 5
    DAMAGED = 6

    @property
    def in_words(self) -> str:
        """Why there is no verdict; "" where there is one."""
        return _WORDS.get(self, "")


_WORDS = {
    Said.NONE: "not judged yet",
    Said.FAILED: "no answer of the judge",
    Said.INVALID: "an answer of the judge that does not fit its schema",
    Said.CHANGED: "judged before its request was changed",
    Said.DAMAGED: "a damaged record of the judge",
}
_SEEN = 1 << 3  # above the three bits of what was said
_BODY_SHIFT, _BODY_DIGITS = 4, 15  # 60 bits of the hash of the body that was asked


class PassMark:
    """`FIELD=VALUE`: an answer passes where this field of the judge's answer has this value, and fails where another.

    Raises `UsageError` for another text, and where the schema of the judge's requests does not tell the values.
    """

    def __init__(self, told: str, schema: Any, judge: Path) -> None:
        self.text = told
        self.field, equals, self._value = (part.strip() for part in told.partition("="))
        if not self.field or not equals or not self._value:
            raise UsageError(f"--pass {told}: write FIELD=VALUE, such as verdict=pass")
        fields = dict(leaves(schema if isinstance(schema, dict) else {}))
        if self.field not in fields:
            names = ", ".join(fields) or "none"
            raise UsageError(f"--pass {told}: the schema of the requests of {judge} has no such field; it has {names}")
        self.values = _values(fields[self.field])
        if self.values is not None and self._value not in self.values:
            raise UsageError(f"--pass {told}: the values of {self.field} are {', '.join(self.values)}")
        if self.values is None and not _is_number(fields[self.field]):
            raise UsageError(
                f"--pass {told}: {self.field} may be any text, so nothing tells what is a fail; judge with an enum, "
                "such as -s 'verdict enum(pass|fail), why str'"
            )
        self._schema = {"$defs": schema.get("$defs", {})} | dict(fields[self.field])
        if self.values is None and (why := self._why_not_allowed(self._value)):
            raise UsageError(f"--pass {told}: the schema of the requests of {judge} does not allow that: {why}")

    def is_pass(self, value: Any) -> bool | None:
        """Whether a value passes; None for null, which is no verdict."""
        text = as_text(value)
        if not text:
            return None
        if self.values is None:
            try:
                return float(text) == float(self._value)
            except ValueError:
                return None
        return text == self._value if text in self.values else None

    def read_people(self, cell: Any) -> bool:
        """What a person said, in a cell of a table. Raises `ValueError` in words for anything else."""
        if isinstance(cell, str) and self.values == ["true", "false"]:
            cell = cell.lower()
        if (verdict := self.is_pass(cell)) is None:
            raise ValueError(f"{as_text(cell)!r} is no verdict; write {' or '.join(self.values or ['a number'])}")
        if self.values is None and (why := self._why_not_allowed(as_text(cell) or "")):
            raise ValueError(f"{as_text(cell)!r} is no verdict that the judge may give: {why}")
        return verdict

    def _why_not_allowed(self, written: str) -> str | None:
        """Why the schema of the field does not allow a number; None where it does."""
        try:
            number = float(written)
        except ValueError:
            return f"{written} is no number"
        if not math.isfinite(number):
            return f"{written} is no number"
        return CompiledSchema(orjson.dumps(self._schema)).why_unfit(int(number) if number.is_integer() else number)


def _values(schema: Any) -> list[str] | None:
    """The values that a field may have, as texts; None where they are not counted up."""
    if isinstance(schema.get("enum"), list):
        return [as_text(value) or "" for value in schema["enum"] if value is not None]
    return ["true", "false"] if _types(schema) == {"boolean"} else None


def _is_number(schema: Any) -> bool:
    return bool(_types(schema)) and _types(schema) <= {"integer", "number"}


def _types(schema: Any) -> set[str]:
    told = schema.get("type")
    return ({told} if isinstance(told, str) else set(told or ())) - {"null"}


class JudgeFile:
    """A result file of a judge: what it said of each answer in `results`, by custom_id, 16 bytes a slot.

    `warnings`: what nobody can tell of it, in words. Raises `UsageError` where it cannot serve, and where `results`
    was changed since it was judged.
    """

    def __init__(self, path: Path, told: str, results: Path) -> None:
        self.path = path
        asked, requests = Asked.of(path), find_requests(path, None)
        if requests is None:
            raise UsageError(f"the request file of {path} is not known: its run log is gone, or the file was moved")
        self.mark = PassMark(told, asked.schema, path)
        self.warnings = list(_check_judged(asked.prepared, path, results))
        self._reader = LabelReader(orjson.dumps(asked.schema), self.warnings.append)
        self._table = HashTable.of_size(0 if asked.prepared is None else asked.prepared.requests)
        self._read_requests(requests, sent_as(path) or Overrides())
        self._further = 0
        with RecordFile(path) as file:
            for result in file.results():
                self._take(result)
            if self._further:
                further = counted(self._further, "further record")
                self.warnings.append(f"{further} in {path} of an answer that had one: the first one counts")
            for custom_id in file.damaged_ids.values():
                key = hash64(custom_id)
                if (known := self._table.get(key)) is not None and not known & (_SEEN - 1):
                    self._table.set(key, known | Said.DAMAGED)
            if file.damaged:
                self.warnings.append(f"{path} has damaged lines ({file.damaged:,}): no verdict was read from them")

    def _read_requests(self, requests: Path, overrides: Overrides) -> None:
        """Note which body asks about which answer."""
        try:
            with requests.open("rb") as lines:
                for number, raw in enumerate(lines, 1):
                    line = parse_request(raw.rstrip(b"\n"), number, overrides)
                    self._table.set(hash64(line.custom_id), _body_bits(line.body_hash))
        except RequestLineError as error:
            raise UsageError(f"{requests} cannot be read: {error}") from None

    def _take(self, result: Result) -> None:
        key = hash64(result.custom_id)
        known = self._table.get(key)
        if known is None:  # the request is not in the file any more: nobody can tell what it was about
            self._table.set(key, Said.CHANGED)
        elif known & (_SEEN - 1):  # the first record counts
            self._further += 1
        else:
            is_same = known == _body_bits(result.run.body_hash)
            self._table.set(key, known | (self._read(result) if is_same else Said.CHANGED))

    def _read(self, result: Result) -> Said:
        label = self._reader.read(result)
        if not label.is_ok:
            return Said.INVALID if label.status == "invalid" or result.run.schema_error else Said.FAILED
        verdict = self.mark.is_pass(nested(label.value, self.mark.field))
        return Said.INVALID if verdict is None else Said.PASS if verdict else Said.FAIL

    def __len__(self) -> int:
        return len(self._table)

    def said(self, custom_id: str) -> Said:
        """What it said of the answer with that id."""
        return Said((self._table.get(hash64(custom_id)) or 0) & (_SEEN - 1))

    def is_second(self, custom_id: str) -> bool:
        """Whether this was called with that id before."""
        key = hash64(custom_id)
        known = self._table.get(key) or 0
        self._table.set(key, known | _SEEN)
        return bool(known & _SEEN)


def _body_bits(body_hash: str) -> int:
    return int(body_hash[:_BODY_DIGITS], 16) << _BODY_SHIFT


def _check_judged(prepared: Prepared | None, path: Path, results: Path) -> list[str]:
    """Raise `UsageError` where the answers are others than those that were judged; a warning where nobody can tell."""
    if prepared is None or prepared.judged is None:
        return [f"{path} was not made by `batchrun judge`: nothing tells whether it judged these answers"]
    if prepared.judged.hash != hash_of_file(results):
        raise UsageError(
            f"{results} was changed since it was judged; make the requests to the judge again with `batchrun judge`, "
            "and run them: verdicts on answers that are the same are kept and not paid again"
        )
    return []
