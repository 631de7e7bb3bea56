"""Which lines of each shard a run sends (`--limit`, `--sample`), and whose answers it takes (`--reuse`).

`each` calls a function for each range of the request file, side by side: see `planning.py`.

1. The first N lines that have no record, over all shards, as in a plain run. Then those that failed.
2. A sample has the lines with the lowest ranks of the whole file. Each shard gets the highest rank of them.
3. An answer is taken once, and shards do not know what others take. So it is taken by the one line that asks for it: a
   line whose body occurs again anywhere in the file is sent, unless a batch answered it by its id.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from heapq import nsmallest
from itertools import chain
from pathlib import Path

from batchrun.cluster import ids
from batchrun.cluster.planning import Each, Input
from batchrun.errors import UsageError
from batchrun.records.request import Overrides
from batchrun.requests.part import Part, body_key
from batchrun.requests.reader import RequestFile
from batchrun.requests.selection import Sampler


def limits_of(limit: int, without_record: Sequence[int], failed: Sequence[int]) -> list[int]:
    """How many lines each shard may send of `limit`, by how many have no record in each, and how many have failed."""
    shares = [0] * len(without_record)
    for counts in (without_record, failed):
        for number, count in enumerate(counts):
            share = min(limit, count)
            shares[number] += share
            limit -= share
    return shares


def highest_rank(source: Input, parts: Sequence[Part], size: int, each: Each) -> int:
    """The highest rank of a sample of `size` lines."""
    found = each(lowest_ranks, [(source.path, source.overrides, part, size) for part in parts])
    return max(nsmallest(size, chain.from_iterable(found)))


def lowest_ranks(requests: Path, overrides: Overrides, part: Part, size: int) -> list[int]:
    """The `size` lowest ranks of the lines of a range."""
    sampler = Sampler(size)
    with RequestFile(str(requests), overrides, part) as file:
        file.check(sampler.add)
    return sampler.ranks()


def repeated_bodies(source: Input, parts: Sequence[Part], directory: Path, each: Each) -> list[frozenset[int]]:
    """The bodies of each range that occur more than once in the whole file, by their keys.

    Raises `UsageError` where there are too many to be told to all shards.
    """
    buckets = ids.buckets_for(sum(part.end_bytes - part.start_bytes for part in parts) // 128)
    with tempfile.TemporaryDirectory(prefix=".check-", dir=directory) as scratch:
        files = [Path(scratch) / f"{number}.bodies" for number in range(len(parts))]
        given = [(source.path, source.overrides, part, file, buckets) for part, file in zip(parts, files, strict=True)]
        each(hash_bodies, given)
        found = each(ids.repeated_in, [(files, at, buckets) for at in range(buckets)])
        repeated = frozenset(chain.from_iterable(found))
        if len(repeated) > ids.MOST_REPEATED:
            raise UsageError(
                f"{len(repeated):,} bodies of {source.name} occur more than once, too many for --reuse with --ray; "
                "run it without --ray and with --dedup"
            )
        if not repeated:
            return [frozenset() for _ in parts]
        return each(ids.found_in, [(file, buckets, repeated) for file in files])


def hash_bodies(requests: Path, overrides: Overrides, part: Part, bodies: Path, buckets: int) -> None:
    """Write the keys of the bodies of a range to the file `bodies`."""
    keys = ids.Hashes(buckets)
    with RequestFile(str(requests), overrides, part) as file:
        file.check(lambda line: keys.add(body_key(line.body_hash, line.url)))
    keys.write(bodies)
