"""The estimate: lines that are left, and their tokens, USD and time. It reads files and sends nothing.

1. If at least 10 lines of a model are finished, their measurements decide: totals by regression on the size of the
   body, with 90% intervals (`stats/intervals.py`).
2. Otherwise the input is counted from the text in the body (`tokens.py`). The output is between one token and
   `max_output_tokens`; the likely value is unknown (None).
3. Without measurements, "low" prices all input as cached and "high" as plain.
4. Time is the shortest that the given limits allow: requests and tokens a minute, requests in flight and latency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from batchrun.billing.prices import Price
from batchrun.billing.pricing import PriceBook
from batchrun.estimate.measured import Finished
from batchrun.estimate.tokens import Counter, Tokens, load_counter
from batchrun.records.attempt import AnsweredControl
from batchrun.records.content import read_contents
from batchrun.records.request import Request, RequestLine
from batchrun.records.result import ResultHead
from batchrun.records.usage import Usage
from batchrun.records.words import printable_json
from batchrun.requests.batches import Batch
from batchrun.requests.duplicates import Equals
from batchrun.requests.reader import RequestFile
from batchrun.requests.selection import Chosen, draw
from batchrun.results.tries import TriesReader
from batchrun.stats.intervals import CONFIDENCE, NONE, Moments, Range, share

MIN_MEASURED = 10
SO_FAR = "speed so far"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The limits that the estimate of time uses; None means that no limit is given.

    `concurrency` is a fixed number of requests in flight; `most` is the highest number if the run finds it itself.
    """

    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    most: int | None = None


class ModelEstimate(msgspec.Struct, frozen=True):
    """What is left to do for one model; the fields have the same meaning as in `Estimate`."""

    lines_left: int
    lines_measured: int
    input_tokens: Range
    output_tokens: Range
    left_usd: Range


class EndpointEstimate(msgspec.Struct, frozen=True):
    """What is left to do for one of several endpoints."""

    lines_left: int
    left_usd: Range


class Estimate(msgspec.Struct, frozen=True):
    """What a job still takes. Ranges are for what is left, except `total_usd` and `failure_share` (for the whole job).

    All values of `seconds` are None if there is neither a limit nor a measurement to compute it from; `limited_by`
    names the limit that decides it. `confidence` is that of the intervals, from 0 to 1. `input_by` and `output_by` name
    the basis of the figures. `lines_unbounded` counts lines without `max_output_tokens`, `lines_naming` lines with
    input that the body only names (files, images, …). `unpriced_models` counts lines by models without a price.
    `named_endpoints` counts the lines that are left and name their endpoint, by endpoint and model. `endpoints` has a
    part for each of several endpoints (`by_endpoint.py`).
    """

    lines: int
    lines_left: int
    lines_measured: int
    input_tokens: Range
    output_tokens: Range
    spent_usd: Decimal
    left_usd: Range
    total_usd: Range
    seconds: Range
    limited_by: str | None
    failure_share: Range
    confidence: float
    input_by: str
    output_by: str
    lines_unbounded: int
    lines_naming: int
    unpriced_models: dict[str, int]
    models: dict[str, ModelEstimate]
    named_endpoints: dict[str, dict[str, int]] = {}
    endpoints: dict[str, EndpointEstimate] = {}

    def to_json(self) -> bytes:
        """Indented JSON with a newline."""
        return printable_json(msgspec.json.format(_encode(self), indent=2) + b"\n")


_encode = msgspec.json.Encoder(decimal_format="number").encode


class _Money:
    """What lines that are left cost at one price, in US dollars.

    `low`: all input cached, and one token of output. `likely`: the input alone. `high`: all input plain, and as much
    output as is allowed.
    """

    def __init__(self, price: Price) -> None:
        self._price = price
        self.low = self.likely = self.high = 0.0

    def add(self, tokens: Tokens, least_output: int, most_output: int) -> None:
        """Add a line; at a price without tiers, the sums of many."""
        low, likely, high = map(round, tokens)
        self.low += self._cost(low, low, least_output)
        self.likely += self._cost(likely, 0, 0)
        self.high += self._cost(high, 0, most_output)

    def _cost(self, input_tokens: int, cached: int, output: int) -> float:
        return float(self._price.cost(Usage(input_tokens, cached, output, 0, input_tokens + output)))


class _Group:
    """The lines of one model."""

    def __init__(self, price: Price | None) -> None:
        self.price = price
        self.left = self.measured = self.unbounded = self.naming = 0
        self.left_bytes = 0
        self.low = self.likely = self.high = 0.0  # input tokens
        self.least_output = self.output_cap = 0
        self._by_line = _Money(price) if price is not None and price.starts else None
        self.inputs, self.outputs, self.costs = Moments(), Moments(), Moments()

    def add_left(self, url: str, body: bytes, model: str, counter: Counter) -> None:
        contents = read_contents(url, body)
        low, likely, high = tokens = counter.count(contents, model)
        self.left += 1
        self.left_bytes += len(body)
        self.low += low
        self.likely += likely
        self.high += high
        cap = contents.max_output_tokens
        least_output = 0 if cap == 0 else 1
        self.least_output += least_output
        if cap is None:
            self.unbounded += 1
        else:
            self.output_cap += cap
        if contents.named or contents.untold:
            self.naming += 1
        if self._by_line is not None:
            self._by_line.add(tokens, least_output, cap or 0)

    @property
    def is_measured(self) -> bool:
        return self.measured >= MIN_MEASURED

    @property
    def is_unpriced(self) -> bool:
        return bool(self.left) and self.price is None and self.costs.count < MIN_MEASURED

    def estimate(self) -> ModelEstimate:
        return ModelEstimate(
            lines_left=self.left,
            lines_measured=self.measured,
            input_tokens=self._input_tokens(),
            output_tokens=self._output_tokens(),
            left_usd=self._left_usd(),
        )

    def _input_tokens(self) -> Range:
        if self.is_measured:
            return self.inputs.rest(self.left, self.left_bytes)
        return Range(self.low, self.likely, None if self.naming else self.high)

    def _output_tokens(self) -> Range:
        cap = None if self.unbounded else self.output_cap
        if self.is_measured:
            measured = self.outputs.rest(self.left, self.left_bytes)
            return measured if cap is None else Range(*(min(value or 0.0, cap) for value in measured.values))
        return Range(self.left if cap != 0 else 0, 0 if cap == 0 else None, cap)

    def _left_usd(self) -> Range:
        if not self.left:
            return NONE
        if self.costs.count >= MIN_MEASURED:
            return self.costs.rest(self.left, self.left_bytes)
        if self.price is None:
            return Range(None, None, None)
        money = self._by_line
        if money is None:
            money = _Money(self.price)
            money.add((self.low, self.likely, self.high), self.least_output, self.output_cap)
        likely = None if self.output_cap or self.unbounded else money.likely  # embeddings: the input is all
        return Range(money.low, likely, None if self.unbounded or self.naming else money.high)


class Estimator:
    """Adds up the lines of the request file, finished or left. Call `visit` once for every line."""

    def __init__(
        self,
        book: PriceBook,
        finished: Finished,
        counter: Counter,
        is_chosen: Callable[[RequestLine], bool] | None = None,
    ) -> None:
        self._is_chosen = is_chosen
        self._book = book
        self._finished = finished
        self._counter = counter
        self._groups: dict[str, _Group] = {}
        self._named: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._latencies, self._attempts = Moments(), Moments()
        self._lines = self._seen = self._failed = 0

    def look(self, request: Request) -> None:
        """Add one line of the request file of a job that has not begun."""
        model: str = request.fields.model
        self._lines += 1
        group = self._groups.get(model) or self._group(model)
        group.add_left(request.url, request.body, model, self._counter)
        if request.endpoint is not None:
            self._named[request.endpoint][model] += 1

    def _group(self, model: str) -> _Group:
        group = self._groups.get(model)
        if group is None:
            group = self._groups[model] = _Group(self._book.price(model))
        return group

    def known(self, batch: Batch) -> list[str]:
        """Add lines that have succeeded; returns their ids, "" for those to be visited."""
        ids = self._finished.find_succeeded(batch.first, batch.prescan())
        self._lines += len(ids) - ids.count("")
        return ids

    def visit(self, line: RequestLine) -> None:
        """Add one line of the request file, finished or left; a line that is left and not chosen is no part of it."""
        place = self._finished.find(line)
        is_left = place is None or self._finished.goes_again(place)
        if is_left and self._is_chosen is not None and not self._is_chosen(line):
            return
        self._lines += 1
        if place is not None:
            self._finished.count(place, line)
        if is_left:
            self._group(line.model).add_left(line.url, line.body, line.model, self._counter)
            if line.endpoint is not None:
                self._named[line.endpoint][line.model] += 1

    def _add_finished(self) -> None:
        """Add up what finished lines used, which matters only where lines are left."""
        for kind, count in self._finished.kinds().items():
            self._seen += count
            self._failed += count * kind.failed
            self._group(kind.model).measured += count * (kind.has_usage and not kind.goes_again)
        if not any(group.left for group in self._groups.values()):
            return
        latencies, attempts = self._finished.times()
        self._latencies.add_all([0.0] * len(latencies), latencies)
        self._attempts.add_all([0.0] * len(attempts), attempts)
        for model, used in self._finished.used():
            group = self._groups[model]
            group.inputs.add_all(used.told_bytes, used.input_tokens)
            group.outputs.add_all(used.told_bytes, used.output_tokens)
            group.costs.add_all(used.priced_bytes, used.costs_usd)

    def estimate(self, allowed: Allowed = Allowed()) -> Estimate:
        """The estimate, once every line has been visited. Call it last."""
        self._add_finished()
        models = {name: group.estimate() for name, group in sorted(self._groups.items())}
        left = [model for model in models.values() if model.lines_left]
        groups = [group for group in self._groups.values() if group.left]
        inputs = sum((model.input_tokens for model in left), NONE)
        outputs = sum((model.output_tokens for model in left), NONE)
        left_usd = sum((model.left_usd for model in left), NONE)
        spent_usd = self._finished.spent_usd
        seconds, limited_by = self._seconds(sum(group.left for group in groups), inputs + outputs, allowed)
        spent = float(spent_usd)
        return Estimate(
            lines=self._lines,
            lines_left=sum(group.left for group in groups),
            lines_measured=sum(model.lines_measured for model in models.values()),
            input_tokens=inputs,
            output_tokens=outputs,
            spent_usd=spent_usd,
            left_usd=left_usd,
            total_usd=left_usd + Range(spent, spent, spent),
            seconds=seconds,
            limited_by=limited_by,
            failure_share=share(self._failed, self._seen, self._lines),
            confidence=CONFIDENCE,
            input_by=_basis(groups, self._counter.name),
            output_by=_basis(groups, "max_output_tokens"),
            lines_unbounded=sum(group.unbounded for group in groups),
            lines_naming=sum(group.naming for group in groups),
            unpriced_models={name: group.left for name, group in self._groups.items() if group.is_unpriced},
            models=models,
            named_endpoints={name: dict(models) for name, models in self._named.items()},
        )

    def _seconds(self, left: int, tokens: Range, allowed: Allowed) -> tuple[Range, str | None]:
        """The seconds that `left` lines take at best, and the limit that decides it."""
        if not left:
            return Range(0.0, 0.0, 0.0), None
        attempts = max(1.0, self._attempts.mean_y)
        ways: dict[str, Range] = {}
        if allowed.requests_per_minute is not None:
            minutes = left * attempts / allowed.requests_per_minute
            ways["requests/min"] = Range(60 * minutes, 60 * minutes, 60 * minutes)
        if allowed.tokens_per_minute is not None:
            ways["tokens/min"] = tokens.scaled(60 / allowed.tokens_per_minute)
        if self._seen >= MIN_MEASURED and allowed.concurrency is not None:
            # Each slot takes one line after the other, so only the mean latency matters.
            slots = max(1, min(allowed.concurrency, left))
            ways["concurrency"] = self._latencies.rest(left, 0).scaled(attempts / slots)
        elif self._seen >= MIN_MEASURED and (speed := self._finished.lines_per_s):
            # The speed so far is likely; the best case is that the run reaches the highest concurrency allowed.
            best = self._latencies.rest(left, 0).scaled(attempts / max(1, min(allowed.most or 1, left)))
            ways[SO_FAR] = Range(min(best.low or 0.0, left / speed) if allowed.most else None, left / speed, None)
        if not ways:
            return Range(None, None, None), None
        limited_by = max(ways, key=lambda name: ways[name].likely or ways[name].low or 0.0)
        return Range(*map(_longest, zip(*(way.values for way in ways.values()), strict=True))), limited_by


def _longest(values: tuple[float | None, ...]) -> float | None:
    """The longest time decides; if one is unknown, the result is unknown (None)."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def _basis(groups: list[_Group], otherwise: str) -> str:
    """The basis of the figures, in words."""
    measured = sum(group.is_measured for group in groups)
    if measured == len(groups):
        return "finished lines"
    return f"finished lines, else {otherwise}" if measured else otherwise


def estimate_file(
    requests: RequestFile,
    records: Iterable[Sequence[ResultHead]],
    book: PriceBook,
    allowed: Allowed,
    *,
    sample: int | None = None,
    limit: int | None = None,
    dedup: bool = False,
    is_answered: Callable[[RequestLine], bool] | None = None,
    books: Mapping[str, PriceBook] | None = None,
    tries: TriesReader | None = None,
    controls: Iterable[AnsweredControl] = (),
    record_bytes: int = 0,
) -> Estimate:
    """The estimate for a request file, given the records of its result file, of so many bytes, many at a time.

    What was spent includes what has no record: the open ones of `tries`, and the control requests. `books` has the
    prices of endpoints that have their own. With `sample`, `limit` or `dedup`, of the lines that are left only those
    count that a run with them would send; of those that are `is_answered`, which is asked once for each, none does.

    Raises `InputError` if the request file does not pass its check.
    """
    finished, equals = Finished(book, books), Equals() if dedup else None
    takes_all = sample is None and limit is None and equals is None and is_answered is None
    if takes_all:
        requests.prescan_ahead(record_bytes)
    for heads in records:
        finished.add(heads)
        if tries is not None:
            tries.settle(heads)
        if equals is not None:
            equals.add(heads)
    finished.add_beside(tries, controls)
    if takes_all:
        estimator = Estimator(book, finished, load_counter())
        if len(finished):
            requests.check(estimator.visit, estimator.known)
        else:
            requests.check(look=estimator.look)
        return estimator.estimate(allowed)
    requests.check()
    drawn = draw(requests.requests(), sample) if sample is not None else None
    estimator = Estimator(book, finished, load_counter(), Chosen(drawn, limit, equals, is_answered).takes)
    for line in requests.requests():
        estimator.visit(line)
    return estimator.estimate(allowed)
