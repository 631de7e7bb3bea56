"""Records by the number of their line: what each line has to be compared with, in 9 bytes a line.

Nearly always, each record belongs to the line whose number it names. Where that does not account for every record
(`is_all_found`), records and lines must be matched by `custom_id`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from operator import xor

from batchrun.records.columns import Columns
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead

SUCCEEDED, FAILED, RETRYABLE = 1, 2, 3


class ByLine:
    """Records by the number of their line: one look-up shows whether the line is unchanged.

    Keeps for each line its outcome, 0 if it has no record, and 64 bits made from its id and the hash of its body.
    `first`: the number of the first line that may have one.
    """

    def __init__(self, first: int = 1) -> None:
        self._before = first - 1
        self._outcomes = bytearray(1024)
        self._keys = array("q", bytes(8 * 1024))
        self._count = 0
        self._found = 0

    def __len__(self) -> int:
        """The lines that there is room for; those beyond are never found."""
        return len(self._keys)

    @property
    def is_all_found(self) -> bool:
        """Whether each record has a line number of its own, and each has been found by its line."""
        return self._found == self._count == len(self._outcomes) - self._outcomes.count(0)

    def add(self, records: Columns) -> Sequence[int]:
        """Add records. One whose line number would take far too much memory for so few is never found.

        Returns the key of each, which a line has, too, that it is found by: `key_of`.
        """
        most, before = max(len(self._keys), 1_000_000 + 64 * self._count), self._before
        heads, runs = records.heads, records.runs
        self._count += len(heads)
        numbers = [number - before for number in records.numbers] if before else records.numbers
        found = list(_keys([head.custom_id for head in heads], [run.body_hash for run in runs]))
        last, are_all_near = max(numbers), min(numbers) >= 0
        if last >= most:
            last, are_all_near = max([number for number in numbers if number < most], default=0), False
        if (more := last + 1 - len(self._keys)) > 0:
            more += last // 16
            self._outcomes.extend(bytes(more))
            self._keys.frombytes(bytes(8 * more))
        keys, outcomes = self._keys, self._outcomes
        if are_all_near and records.is_clean:
            for number, key in zip(numbers, found, strict=True):
                keys[number] = key
                outcomes[number] = SUCCEEDED
        else:
            for number, key, head in zip(numbers, found, heads, strict=True):
                if 0 <= number <= last:
                    keys[number] = key
                    outcomes[number] = outcome_of(head)
        return found

    def find(self, line: RequestLine) -> int:
        """The outcome of a line's record; 0 if its number has no record, or a record of another line."""
        number = line.line_number - self._before
        outcome = self._outcomes[number] if number < len(self._outcomes) else 0
        if not outcome or self._keys[number] != key_of(line):
            return 0
        self._found += 1
        return outcome

    def find_succeeded(self, first: int, ids: list[str], body_hashes: list[str]) -> list[str]:
        """The ids of the lines from `first` on whose number has their record and it is a success; "" for others."""
        first -= self._before
        outcomes, end = self._outcomes[first : first + len(ids)], first + len(ids)
        looked_for, keys = array("q", _keys(ids, body_hashes)), self._keys[first:end]
        if keys != looked_for or outcomes.count(SUCCEEDED) < len(ids) or not all(ids):
            are_equal = map(int.__eq__, keys, looked_for)
            are_done = [outcome == SUCCEEDED and equal for outcome, equal in zip(outcomes, are_equal, strict=True)]
            are_done += [False] * (len(ids) - len(are_done))
            ids = [custom_id if is_done else "" for custom_id, is_done in zip(ids, are_done, strict=True)]
        self._found += len(ids) - ids.count("")
        return ids


def key_of(line: RequestLine) -> int:
    """64 bits that a line and its record have in common, as long as the line is not edited."""
    return hash(line.custom_id) ^ hash(line.body_hash)


def _keys(ids: Sequence[str], body_hashes: Sequence[str]) -> Iterable[int]:
    return map(xor, map(hash, ids), map(hash, body_hashes))


def outcome_of(head: ResultHead) -> int:
    """The outcome of a record: `SUCCEEDED`, `FAILED` or `RETRYABLE`."""
    if head.error is None:
        return SUCCEEDED
    return RETRYABLE if head.run.retryable else FAILED
