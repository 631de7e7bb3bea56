"""Rows that are asked several times: which of their repeats have a record, what each said, and what that comes to.

1. A repeat that was to be asked and has no record is not asked, as a row without one is.
2. An unanswered repeat counts by the policy: as an answer that is wrong, or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Any

from batchrun.errors import UsageError
from batchrun.evaluation.figures import Repeats
from batchrun.evaluation.verdict import Unanswered
from batchrun.records.index import HashTable, LineSet, hash64
from batchrun.stats.proportions import Interval, effective_rows, wilson

_SHOWN = (1, 2, 3, 5, 8, 10)


class Seen:
    """Which rows of gold, which of their repeats and which ids without gold have a record.

    `expected`: how often each row is asked, as far as that is known; 1: once, or nobody knows.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._rows = LineSet()
        self._repeats: dict[int, int] = {}  # by row, a bit for each repeat
        self._without_gold = HashTable()

    def add(self, custom_id: str, row: int | None, repeat: int) -> bool:
        """Note a record; whether it is the first one of its id.

        Raises `UsageError` where a row was asked both alone and as repeats: then its answers cannot be told apart.
        """
        if row is None:
            count = len(self._without_gold)
            return self._without_gold.setdefault(hash64(custom_id), count) == count
        is_new = self._rows.add(row)
        if not is_new and (row in self._repeats) != bool(repeat):
            alone = (custom_id.rpartition("#")[0] if repeat else custom_id)[:60]
            raise UsageError(
                f"the results have an answer to {alone!r} and answers to repeats of it ({alone}#1, …), which are no "
                "repeats of that one; keep the records of one kind in a file of their own"
            )
        if not repeat:
            return is_new
        known, bit = self._repeats.get(row, 0), 1 << repeat
        self._repeats[row] = known | bit
        return not known & bit

    def missing(self, rows: int) -> Iterator[tuple[int, int]]:
        """The rows without a record, of so many, each with its repeats if it has some, else 0; then single repeats.

        Where nobody knows how often a row is asked, no repeat is missing.
        """
        every = range(1, self._expected + 1) if self._expected > 1 else range(0)
        for row in self._rows.missing(rows):
            yield from ((row, repeat) for repeat in (every if self._repeats and every else (0,)))
        for row, known in sorted(self._repeats.items()):
            yield from ((row, repeat) for repeat in every if not known >> repeat & 1)


@dataclass(slots=True)
class Tries:
    """The repeats of one row: what each said, as a text, whether it was right, and which label of gold it stands for.

    An unanswered one said None. `cluster`: what the row belongs together with, by default itself.
    """

    cluster: Any
    said: list[tuple[str | None, bool, Any]] = field(default_factory=list)

    def of(self, policy: Unanswered) -> Tries:
        """Those that count."""
        return (
            self
            if policy is Unanswered.WRONG
            else Tries(self.cluster, [one for one in self.said if one[0] is not None])
        )

    @property
    def asked(self) -> int:
        """How many there are."""
        return len(self.said)

    @property
    def right(self) -> int:
        """How many are right."""
        return sum(is_right for _, is_right, _ in self.said)

    @property
    def unanswered(self) -> int:
        """How many have no answer."""
        return sum(said is None for said, _, _ in self.said)

    @property
    def is_majority_right(self) -> bool:
        """Whether what was said most often is right. A tie is not, and no answer is an answer that is wrong.

        All that are right count as one: a text may say it in many words, and gold may have several answers.
        """
        wrong = Counter(said for said, is_right, _ in self.said if not is_right)
        return self.right > max(wrong.values(), default=0)

    @property
    def does_flip(self) -> bool:
        """Whether they do not all say the same."""
        return len({said for said, _, _ in self.said}) > 1


def repeats(found: Iterable[Tries], policy: Unanswered) -> Repeats | None:
    """The figures of rows that were asked more than once; None where no row was, or none has a repeat that counts."""
    every = list(found)
    tries = [one for one in (one.of(policy) for one in every) if one.asked]
    if not tries:
        return None
    shares, clusters = [one.right / one.asked for one in tries], [one.cluster for one in tries]
    least = min(one.asked for one in tries)
    ks = sorted({k for k in (*_SHOWN, least) if k <= least})
    return Repeats(
        rows=len(tries),
        least=least,
        most=max(one.asked for one in tries),
        unanswered=sum(one.unanswered for one in every),
        mean=_clustered(shares, clusters),
        majority=_clustered([one.is_majority_right for one in tries], clusters),
        flips=_clustered([one.does_flip for one in tries], clusters),
        pass_at={str(k): sum(_pass_at(one, k) for one in tries) / len(tries) for k in ks},
        pass_all={str(k): sum(comb(one.right, k) / comb(one.asked, k) for one in tries) / len(tries) for k in ks},
        least_share=min(shares),
    )


def _clustered(shares: Sequence[float], clusters: Sequence[Any]) -> Interval:
    """The mean of one share a row, with an interval that knows which rows belong together."""
    sums: dict[Any, list[float]] = {}
    for share, cluster in zip(shares, clusters, strict=True):
        of_cluster = sums.setdefault(cluster, [0.0, 0.0])
        of_cluster[0] += share
        of_cluster[1] += 1
    return wilson(sum(shares), len(shares), effective_rows([(hits, rows) for hits, rows in sums.values()]))


def _pass_at(tries: Tries, k: int) -> float:
    return 1 - comb(tries.asked - tries.right, k) / comb(tries.asked, k)
