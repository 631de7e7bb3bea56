"""What each finished line of a job used: the measurements that an estimate is made from.

They are kept in flat arrays, some 70 bytes a line. A line is finished by the rules of `job/resume.py`: it has a record
with the same body, and the next run does not send it again. Nearly always its record names its number; the others are
found by their ids.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import compress
from typing import NamedTuple

from batchrun.billing.prices import Price, Rates
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally, cost_of
from batchrun.records.attempt import AnsweredControl
from batchrun.records.columns import Columns
from batchrun.records.index import HashTable
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead, RunInfo, sum_of_tries
from batchrun.requests.prescan import Prescan
from batchrun.results.by_line import ByLine, key_of
from batchrun.results.tries import TriesReader

_64_BITS = (1 << 64) - 1
_MOST_ATTEMPTS = (1 << 16) - 1
_FAILED, _GOES_AGAIN, _HAS_USAGE, _IS_PRICED, _NOT_SENT = 1, 2, 4, 8, 16


class Used(NamedTuple):
    """What the lines of one model used that the next run does not send again.

    `told_bytes` are the sizes of the bodies whose answer had a usage, with their tokens; `priced_bytes` those that have
    a price, with their costs in US dollars.
    """

    told_bytes: array[int]
    input_tokens: array[int]
    output_tokens: array[int]
    priced_bytes: array[int]
    costs_usd: array[float]


class Kind(NamedTuple):
    """What a line has in common with others."""

    model: str
    failed: bool
    goes_again: bool
    has_usage: bool


class Finished:
    """The records of a result file; those whose line has been found count."""

    def __init__(
        self, book: PriceBook, books: Mapping[str, PriceBook] | None = None, *, retry_errors: bool = False
    ) -> None:
        self._tally = Tally(book, books)
        self._retry_errors = retry_errors
        self._rates: Rates | None = None  # the latest
        self._by_line, self._place_of_line = ByLine(), array("I")
        self._keys = array("q")
        self._place_of_key: HashTable | None = None
        self._model_numbers: dict[str, int] = {}
        self._models, self._flags = array("I"), array("B")
        self._inputs, self._outputs = array("Q"), array("Q")
        self._costs, self._latencies = array("d"), array("f")
        self._attempts = array("H")
        self._body_bytes = array("I")  # 0 until the line has been found

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def spent_usd(self) -> Decimal:
        """The exact cost of all that is on the bill, in US dollars."""
        return self._tally.cost_usd()

    def add_beside(self, tries: TriesReader | None, controls: Iterable[AnsweredControl]) -> None:
        """Add what has cost money and has no record, once all records are added: open tries and control requests."""
        self._tally.add_open(tries.open().heads() if tries is not None else ())
        self._tally.add_controls(controls)

    @property
    def lines_per_s(self) -> float | None:
        """Records of lines that were sent, a second, over the time of all runs; None without records."""
        seconds = self._tally.duration_s
        return self._tally.sent / seconds if seconds > 0 else None

    def add(self, heads: Sequence[ResultHead]) -> None:
        """Add records; many at once are faster than one by one."""
        if not heads:
            return
        first, records = len(self), Columns(heads)
        runs, attempts = records.runs, records.attempts
        self._tally.add_columns(records)
        self._keys.extend(self._by_line.add(records))
        places, room = self._place_of_line, len(self._by_line)
        places.frombytes(bytes(places.itemsize * (room - len(places))))
        for place, number in enumerate(records.numbers, first):
            if number < room:
                places[number] = place
        self._models.extend(self._numbers_of(records))
        self._latencies.extend([run.latency_s or 0.0 for run in runs])
        if max(attempts) > _MOST_ATTEMPTS:
            attempts = [min(count, _MOST_ATTEMPTS) for count in attempts]
        self._attempts.extend(attempts)
        self._body_bytes.frombytes(bytes(self._body_bytes.itemsize * len(heads)))
        self._add_usages(records)

    def _numbers_of(self, records: Columns) -> Sequence[int]:
        """The numbers by which models are kept; nearly always, all are the same one."""
        numbers, kind = self._model_numbers, records.kind
        if kind is not None:
            return array("I", [numbers.setdefault(kind.requested_model, len(numbers))]) * len(records.runs)
        return [numbers.setdefault(run.requested_model, len(numbers)) for run in records.runs]

    def _add_usages(self, records: Columns) -> None:
        """Add what records used; nearly always, all are answers that have the same price."""
        kind, usages, count = records.kind, records.usages, len(records.runs)
        if (
            kind is None
            or (kind.error_code, kind.source) != (None, None)
            or records.tried
            or len(usages.told) < count
            or (rates := self._rates_of(records.runs[0])) is None
        ):
            for head in records.heads:
                self._add_usage(head)
            return
        self._flags.frombytes(bytes((_HAS_USAGE + _IS_PRICED,)) * count)
        self._inputs.extend(usages.input)
        self._outputs.extend(usages.output)
        self._costs.extend(rates.costs(usages))

    def _rates_of(self, run: RunInfo) -> Rates | None:
        """The prices of a record, if they are the same at any time."""
        quote = self._tally.book_of(run.endpoint).quote(run.model, run.requested_model, None, run.service_tier)
        return None if quote.dated or quote.price is None else self._as_rates(quote.price)

    def _as_rates(self, price: Price) -> Rates:
        if self._rates is None or self._rates.price is not price:
            self._rates = Rates(price)
        return self._rates

    def _add_usage(self, head: ResultHead) -> None:
        run, failed = head.run, head.error is not None
        flags = _FAILED + _GOES_AGAIN * (run.retryable or self._retry_errors) if failed else 0
        flags += _NOT_SENT * (run.source is not None)
        usage, cost = run.usage, 0.0
        if run.tries:
            usage = sum_of_tries(run)
        if usage is not None:
            flags += _HAS_USAGE
            price = self._price_of(run)
            if run.tries:
                told = cost_of(run, self._tally.book_of(run.endpoint))
                flags += _IS_PRICED * (told is not None)
                cost = float(told or 0)
            elif price is not None:
                flags += _IS_PRICED
                cost = self._as_rates(price).cost(usage)
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
        book = self._tally.book_of(run.endpoint)
        quote = book.quote(run.model, run.requested_model, None, run.service_tier)
        if quote.dated:
            when = datetime.fromisoformat(run.started) + timedelta(seconds=run.elapsed_s)
            quote = book.quote(run.model, run.requested_model, when, run.service_tier)
        return quote.price

    def find(self, line: RequestLine) -> int | None:
        """The place of a line's record; None if it has no record, or was edited since."""
        if self._by_line.find(line):
            return self._place_of_line[line.line_number]
        if self._place_of_key is None:
            self._place_of_key = HashTable()
            for place, key in enumerate(self._keys):
                self._place_of_key.set(key & _64_BITS or 1, place)
        return self._place_of_key.get(key_of(line) & _64_BITS or 1)

    def find_succeeded(self, first: int, lines: Prescan) -> list[str]:
        """Find the records of lines from `first` on that succeeded and name these lines.

        Returns the ids of those, which count from now on; "" for others.
        """
        found = self._by_line.find_succeeded(first, lines.ids, lines.body_hashes)
        places, body_bytes = list(self._place_of_line[first : first + len(found)]), self._body_bytes
        sizes = list(lines.body_bytes)
        if not all(found):
            places, sizes = list(compress(places, found)), list(compress(sizes, found))
        for place, size in zip(places, sizes, strict=False):
            body_bytes[place] = size
        return found

    def count(self, place: int, line: RequestLine) -> None:
        """Count a record from now on: this is its line."""
        self._body_bytes[place] = len(line.body)

    def goes_again(self, place: int) -> bool:
        """Whether the next run sends the line of a record again."""
        return bool(self._flags[place] & _GOES_AGAIN)

    @property
    def _measuring(self) -> array[int]:
        """The bytes of the bodies of the lines that count; 0 where nothing was sent, which measures nothing."""
        if self._tally.sent == self._tally.recorded:
            return self._body_bytes
        sizes = zip(self._body_bytes, self._flags, strict=True)
        return array("I", [0 if flags & _NOT_SENT else size for size, flags in sizes])

    def kinds(self) -> dict[Kind, int]:
        """How many of the lines that count there are of each kind."""
        found = Counter(compress(zip(self._models, self._flags, strict=True), self._measuring))
        names, kinds = list(self._model_numbers), Counter[Kind]()
        for (number, flags), count in found.items():
            kind = Kind(names[number], bool(flags & _FAILED), bool(flags & _GOES_AGAIN), bool(flags & _HAS_USAGE))
            kinds[kind] += count
        return kinds

    def times(self) -> tuple[array[float], array[float]]:
        """The seconds that each of the lines that count took, and its attempts."""
        found = self._measuring
        return array("d", compress(self._latencies, found)), array("d", compress(self._attempts, found))

    def used(self) -> Iterator[tuple[str, Used]]:
        """What the lines that count used, by the model that they asked for."""
        all_flags, sizes, names = self._flags, self._measuring, list(self._model_numbers)
        of_model: defaultdict[int, list[int]] = defaultdict(list)
        for place in compress(range(len(self)), sizes):
            if not all_flags[place] & _GOES_AGAIN:
                of_model[self._models[place]].append(place)
        for number, places in of_model.items():
            told = [place for place in places if all_flags[place] & _HAS_USAGE]
            priced = [place for place in places if all_flags[place] & _IS_PRICED]
            used = Used(
                told_bytes=array("I", map(sizes.__getitem__, told)),
                input_tokens=array("Q", map(self._inputs.__getitem__, told)),
                output_tokens=array("Q", map(self._outputs.__getitem__, told)),
                priced_bytes=array("I", map(sizes.__getitem__, priced)),
                costs_usd=array("d", map(self._costs.__getitem__, priced)),
            )
            yield names[number], used
