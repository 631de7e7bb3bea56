"""Checks the ids of a request file that is read in ranges: an id occurs once in the whole file.

1. Each range is checked as a request file is. The hashes of its ids go to a file, sorted into buckets.
2. Each bucket holds about a million hashes of all ranges: two equal ones in it are two equal ids, but for chance.
3. Only where there are such, the lines that have them are looked at again: equal bare bodies are told apart by their
   occurrence, `req-…-2`, and all else is a duplicate.
So memory is bounded by the lines of a range, and by a bucket. The ranges, and the buckets, are checked side by side.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from batchrun.errors import InputError
from batchrun.records.request import Overrides, Request, RequestLineError, read_request
from batchrun.requests.part import Part
from batchrun.requests.problems import SHOWN_PROBLEMS
from batchrun.requests.reader import LIKE_AN_OCCURRENCE, RequestFile
from batchrun.requests.survey import Survey

BUCKET = 1 << 20  # ids
MOST_REPEATED = 1_000_000


class Found(NamedTuple):
    """What the check of one range found: its survey; problems of its lines in words, of which there are `in_all`."""

    survey: Survey
    problems: list[str]
    in_all: int


class Met(NamedTuple):
    """A line whose id may be that of another one. `is_bare`: the id was made from its body."""

    number: int
    custom_id: str
    is_bare: bool


def buckets_for(lines: int) -> int:
    """How many buckets the ids of so many lines are sorted into."""
    return max(1, -(-lines // BUCKET))


class Hashes:
    """Hashes of one range, of 64 bits, in buckets: those of a bucket are compared over all ranges."""

    def __init__(self, buckets: int) -> None:
        self._buckets = [array("Q") for _ in range(buckets)]

    def add(self, key: int) -> None:
        """Add one."""
        self._buckets[key % len(self._buckets)].append(key)

    def write(self, path: Path) -> None:
        """Write them to a file: how many are in each bucket, and the buckets."""
        with path.open("wb") as file:
            array("Q", map(len, self._buckets)).tofile(file)
            for bucket in self._buckets:
                bucket.tofile(file)


def check_range(requests: Path, overrides: Overrides, part: Part, ids: Path, buckets: int) -> Found:
    """Check the lines of a range, and write the hashes of their ids to the file `ids`."""
    hashes = Hashes(buckets)

    def note(request: Request) -> None:
        hashes.add(_stable_hash(request.given_id or request.custom_id))

    with RequestFile(str(requests), overrides, part) as file:
        try:
            survey = file.check(look=note)
        except InputError as error:
            return Found(Survey(), error.problems, error.count)
    hashes.write(ids)
    return Found(survey, [], 0)


def repeated_in(files: Sequence[Path], bucket: int, buckets: int) -> list[int]:
    """The hashes of one bucket that occur more than once, in one file or in several."""
    hashes = array("Q")
    for path in files:
        with path.open("rb") as file:
            counts = array("Q")
            counts.fromfile(file, buckets)
            file.seek(8 * sum(counts[:bucket]), os.SEEK_CUR)
            hashes.fromfile(file, counts[bucket])
    if len(set(hashes)) == len(hashes):
        return []
    return [key for key, count in Counter(hashes).items() if count > 1]


def found_in(path: Path, buckets: int, sought: Collection[int]) -> frozenset[int]:
    """Which of some hashes are in a file of them."""
    with path.open("rb") as file:
        counts, hashes = array("Q"), array("Q")
        counts.fromfile(file, buckets)
        hashes.fromfile(file, sum(counts))
    return frozenset(hashes).intersection(sought)


def find_lines(requests: Path, overrides: Overrides, part: Part, repeated: Collection[int]) -> list[Met]:
    """The lines of a range whose ids are among the repeated ones, or look like those of an occurrence."""
    found = list[Met]()
    with RequestFile(str(requests), overrides, part) as file:
        for number, raw in file.raw_lines():
            try:
                request = read_request(raw, overrides)
            except RequestLineError:
                continue
            custom_id = request.custom_id
            if _stable_hash(custom_id) in repeated or LIKE_AN_OCCURRENCE.fullmatch(custom_id):
                found.append(Met(number, custom_id, not request.given_id))
    return found


class Apart(NamedTuple):
    """Lines told apart: how often bare bodies of each range occur in earlier ones, by id; how many lines repeat one;
    and the lines whose id is that of another one, in words, of which there are `in_all`."""

    before: list[dict[str, int]]
    repeated: int
    problems: list[str]
    in_all: int


def tell_apart(name: str, ranges: Sequence[Sequence[Met]]) -> Apart:
    """Give equal bare bodies their own ids, as a plain run does, and find the ids that occur twice."""
    occurrences, first_lines = Counter[str](), dict[str, int]()
    before, problems, count, repeated = list[dict[str, int]](), list[str](), 0, 0
    for lines in ranges:
        earlier = {custom_id: occurrences[custom_id] for _, custom_id, is_bare in lines if is_bare}
        for number, custom_id, is_bare in lines:
            if is_bare:
                occurrences[custom_id] += 1
                if (occurrence := occurrences[custom_id]) > 1:
                    repeated += 1
                    custom_id = f"{custom_id}-{occurrence}"
            first = first_lines.setdefault(custom_id, number)
            if first != number:
                count += 1
                if len(problems) < SHOWN_PROBLEMS:
                    problems.append(f'{name}:{number}: "custom_id" duplicates line {first}; give each line its own')
        before.append({custom_id: times for custom_id, times in earlier.items() if times})
    return Apart(before, repeated, problems, count)


def _stable_hash(text: str) -> int:
    """The hash of a text, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
