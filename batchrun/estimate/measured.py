"""What each finished line of a job used: the measurements that an estimate is made from.

They are kept in flat arrays, some 70 bytes a line. A line is finished by the rules of `job/resume.py`: it has a record
with the same body, and the next run does not send it again. Nearly always its record names its number; the others are
found by their ids.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import compress
from typing import NamedTuple

from msgspec import Raw

from batchrun.billing.prices import Price, Rates
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.records.index import HashTable, hash64, hash64_all, hash_bodies
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead, RunInfo
from batchrun.results.by_line import ByLine

_FAILED, _GOES_AGAIN, _HAS_USAGE, _IS_PRICED = 1, 2, 4, 8


class Used(NamedTuple):
    """What one line used. Tokens are None if its answer had no usage, the cost (USD) also if its model has no price.

    `model` was requested, with a body of so many bytes.
    """

    model: str
    body_bytes: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_s: float
    attempts: int
    goes_again: bool


class Kind(NamedTuple):
    """What a line has in common with others."""

    model: str
    failed: bool
    goes_again: bool
    has_usage: bool


class Finished:
    """The records of a result file; those whose line has been found count."""

    def __init__(self, book: PriceBook, *, retry_errors: bool = False) -> None:
        self._tally = Tally(book)
        self._book = book
        self._retry_errors = retry_errors
        self._rates: Rates | None = None  # the latest
        self._by_line, self._place_of_line = ByLine(), array("I")
        self._ids, self._body_hashes = array("Q"), array("q")
        self._place_of_id: HashTable | None = None
        self._model_numbers: dict[str, int] = {}
        self._models, self._flags = array("I"), array("B")
        self._inputs, self._outputs = array("Q"), array("Q")
        self._costs, self._latencies = array("d"), array("f")
        self._attempts = array("H")
        self._body_bytes = array("I")  # 0 until the line has been found

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def spent_usd(self) -> Decimal:
        """The exact cost of all records, in US dollars."""
        return self._tally.cost_of_records_usd()

    @property
    def lines_per_s(self) -> float | None:
        """Records a second, over the time of all runs; None without records."""
        seconds = self._tally.duration_s
        return len(self) / seconds if seconds > 0 else None

    def add(self, heads: Sequence[ResultHead]) -> None:
        """Add records; many at once are faster than one by one."""
        if not heads:
            return
        first, runs = len(self), [head.run for head in heads]
        self._tally.add(heads)
        self._by_line.add(heads)
        places, room = self._place_of_line, len(self._by_line)
        places.frombytes(bytes(places.itemsize * (room - len(places))))
        for place, run in enumerate(runs, first):
            if run.line < room:
                places[run.line] = place
        self._ids.extend(hash64_all([head.custom_id for head in heads]))
        self._body_hashes.extend([hash(run.body_hash) for run in runs])
        numbers = self._model_numbers
        self._models.extend([numbers.setdefault(run.requested_model, len(numbers)) for run in runs])
        self._latencies.extend([run.latency_s or 0.0 for run in runs])
        self._attempts.extend([min(run.attempts, 65535) for run in runs])
        self._body_bytes.frombytes(bytes(self._body_bytes.itemsize * len(heads)))
        for head in heads:
            self._add_usage(head)

    def _add_usage(self, head: ResultHead) -> None:
        run, failed = head.run, head.error is not None
        flags = _FAILED + _GOES_AGAIN * (run.retryable or self._retry_errors) if failed else 0
        usage, cost = run.usage, 0.0
        if usage is not None:
            flags += _HAS_USAGE
            price = self._price_of(run)
            if price is not None:
                flags += _IS_PRICED
                if self._rates is None or self._rates.price is not price:
                    self._rates = Rates(price)
                cost = self._rates.cost(usage)
            elif run.gateway_cost_usd is not None:  # only the gateway prices its model
                flags += _IS_PRICED
                cost = float(run.gateway_cost_usd)
        elif run.outcome == "failed":  # no answer came, so it used nothing
            flags += _HAS_USAGE + _IS_PRICED
        self._flags.append(flags)
        self._inputs.append(usage.input_tokens if usage is not None else 0)
        self._outputs.append(usage.output_tokens if usage is not None else 0)
        self._costs.append(cost)

    def _price_of(self, run: RunInfo) -> Price | None:
        quote = self._book.quote(run.model, run.requested_model, None, run.service_tier)
        if quote.dated:
            when = datetime.fromisoformat(run.started) + timedelta(seconds=run.elapsed_s)
            quote = self._book.quote(run.model, run.requested_model, when, run.service_tier)
        return quote.price

    def find(self, line: RequestLine) -> int | None:
        """The place of a line's record; None if it has no record, or was edited since."""
        if self._by_line.find(line):
            return self._place_of_line[line.line_number]
        if self._place_of_id is None:
            self._place_of_id = HashTable()
            for place, key in enumerate(self._ids):
                self._place_of_id.set(key, place)
        found = self._place_of_id.get(hash64(line.custom_id))
        return found if found is not None and self._body_hashes[found] == hash(line.body_hash) else None

    def find_succeeded(self, first: int, ids: list[str], bodies: list[bytes | Raw]) -> list[str]:
        """Find the records of lines from `first` on that succeeded and name these lines.

        Returns the ids of those, which count from now on; "" for others.
        """
        found = self._by_line.find_succeeded(first, ids, hash_bodies(bodies))
        places, body_bytes = self._place_of_line[first : first + len(ids)], self._body_bytes
        for custom_id, place, body in zip(found, places, bodies, strict=False):
            if custom_id:
                body_bytes[place] = memoryview(body).nbytes
        return found

    def count(self, place: int, line: RequestLine) -> None:
        """Count a record from now on: this is its line."""
        self._body_bytes[place] = len(line.body)

    def goes_again(self, place: int) -> bool:
        """Whether the next run sends the line of a record again."""
        return bool(self._flags[place] & _GOES_AGAIN)

    def kinds(self) -> dict[Kind, int]:
        """How many of the lines that count there are of each kind."""
        found = Counter(compress(zip(self._models, self._flags, strict=True), self._body_bytes))
        names, kinds = list(self._model_numbers), Counter[Kind]()
        for (number, flags), count in found.items():
            kind = Kind(names[number], bool(flags & _FAILED), bool(flags & _GOES_AGAIN), bool(flags & _HAS_USAGE))
            kinds[kind] += count
        return kinds

    def used(self) -> Iterator[Used]:
        """What each of the lines that count used."""
        names = list(self._model_numbers)
        for place in compress(range(len(self)), self._body_bytes):
            flags = self._flags[place]
            yield Used(
                model=names[self._models[place]],
                body_bytes=self._body_bytes[place],
                input_tokens=self._inputs[place] if flags & _HAS_USAGE else None,
                output_tokens=self._outputs[place] if flags & _HAS_USAGE else None,
                cost_usd=self._costs[place] if flags & _IS_PRICED else None,
                latency_s=self._latencies[place],
                attempts=self._attempts[place],
                goes_again=bool(flags & _GOES_AGAIN),
            )
