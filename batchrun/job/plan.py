"""Which lines of a run need no request, because there is an answer to an equal one, or will be. Nothing is written.

1. A line is *copied* if it equals another line of the same file (`--dedup`): one whose record is in the result file, or
   an earlier line of this run, which is sent.
2. Lines are compared by hash. `copying.py`, which writes the records, compares what the hashes lead to.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from batchrun.records.index import LineSet
from batchrun.records.numbers_by_hash import NONE, NumbersByHash
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead
from batchrun.requests.duplicates import Duplicates, key_of
from batchrun.requests.reader import RequestFile
from batchrun.requests.selection import first


class Plan:
    """What becomes of the lines of a run. Without `dedup` all of them are sent, and nothing is looked at.

    `copies`: the lines that are copied. `originals` has a place for the record of each line that is copied from.
    `has_early_originals`: some of these records are there before anything is sent.
    """

    def __init__(self, *, dedup: bool = False) -> None:
        self.is_active = dedup
        self.copies = LineSet()
        self.originals = NumbersByHash()
        self.has_early_originals = False

    def make(
        self, requests: RequestFile, without: Container[int], limit: int | None, staying: Iterable[ResultHead]
    ) -> None:
        """Look at the lines that are not in `without`, the first `limit` of them.

        `staying` are the records that the result file has and keeps.
        """
        recorded, duplicates = NumbersByHash(), Duplicates()
        for head in staying:
            recorded.add(*key_of(head.custom_id, head.run.path, head.run.body_hash), head.run.line)
        recorded.sort()
        for line in first(requests.requests(without), limit):
            key = key_of_line(line)
            if recorded.first(*key) is None:
                duplicates.add(key, line.line_number)
            else:
                self.has_early_originals = True
                self._copy(key, [line.line_number])
        for key, numbers in duplicates.groups():
            self._copy(key, numbers[1:])
        self.originals.sort()

    def _copy(self, key: tuple[int, int], numbers: Iterable[int]) -> None:
        self.originals.add(*key, NONE)
        for number in numbers:
            self.copies.add(number)


def key_of_line(line: RequestLine) -> tuple[int, int]:
    """A key and a tag that are the same for equal lines."""
    return key_of(line.custom_id, line.url, line.body_hash)


class Skipped:
    """The numbers of the lines that a run does not send: those that need no request, and those in `unwanted`."""

    def __init__(self, unwanted: Container[int], plan: Plan) -> None:
        self._unwanted = unwanted
        self._copies = plan.copies

    def __bool__(self) -> bool:
        return bool(self._unwanted) or bool(self._copies)

    def __contains__(self, number: object) -> bool:
        return number in self._unwanted or number in self._copies
