"""Adds up records as they are written or read back; a report is made from these sums.

1. Only records are added, so the report at the end of a run and one that is made later are the same. Control requests
   have no record: what they cost comes from the run log, and is kept apart.
2. Lines are grouped by the requested model, and priced by the model that answered.
3. A record whose answer was not sent for (its `source`) costs nothing. Its usage is summed apart, as what was saved.
4. Memory does not grow with the file: latencies go into a histogram whose buckets are 2 % wide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

import msgspec

from batchrun.billing.bill import Bill
from batchrun.billing.pricing import PriceBook
from batchrun.records.attempt import AnsweredControl
from batchrun.records.columns import Columns, Kind, Usages
from batchrun.records.money import NOTHING, total_usd
from batchrun.records.result import ResultHead, RunInfo, Try, request_of
from batchrun.stats.histogram import Histogram

_moment = lru_cache(maxsize=64)(datetime.fromisoformat)  # all records of a run have the same start


class Example(msgspec.Struct, frozen=True):
    """The first line that failed with a code.

    `custom_id`: its id.
    `line`: its number in the request file, from 1.
    `message`: what the error says.
    """

    custom_id: str
    line: int
    message: str


class Totals:
    """Running sums over the records of one model, or of all models."""

    def __init__(self, book: PriceBook) -> None:
        self.outcomes: Counter[str] = Counter()
        self.bill, self.saved = Bill(book), Bill(book)
        self.sources: Counter[str] = Counter()
        """Records whose answer was not sent for, by the kind of their source; `saved` has their usage."""
        self.attempts = 0
        self.throttles = 0
        self.asked_again = 0
        self.tries = 0
        self.errors: Counter[str] = Counter()
        self.answered_by: Counter[str] = Counter()
        self.latency, self.first_event, self.first_text = Histogram(), Histogram(), Histogram()

    def add(self, kind: Kind, records: Columns, book: PriceBook | None = None) -> None:
        """Add records of one kind, but not the cost of their earlier tries. `book`: the prices of their endpoint."""
        runs = records.runs
        self.outcomes[kind.outcome] += len(runs)
        self.attempts += sum(records.attempts)
        self.throttles += sum([run.throttles for run in runs])
        if kind.error_code is not None:
            self.errors[kind.error_code] += len(runs)
        if kind.answered is not None:
            self.answered_by[kind.answered] += len(runs)
        usages, later_s, answered = records.usages, records.elapsed_s, runs
        if kind.outcome == "failed" and len(usages.told) < len(runs):
            # A failed line without a usage does not count as an answer without one: there was no answer.
            answered = [run for run in runs if run.usage is not None]
            usages, later_s = Usages(usages.told), [run.elapsed_s for run in answered]
        charged = [run.gateway_cost_usd for run in answered]
        when, bill = _moment(kind.started), self.bill
        if kind.source is not None:
            self.sources[kind.source] += len(runs)
            bill = self.saved
        bill.add(kind.answered, kind.requested_model, usages, when, later_s, kind.service_tier, charged, book)
        if kind.source is None and records.tried:
            self.asked_again += len(records.tried)
            self.tries += sum(len(run.tries) - 1 for run in records.tried)
        self.latency.add([run.latency_s for run in runs if run.latency_s is not None])
        if streamed := [run for run in runs if run.first_event_s is not None or run.first_text_s is not None]:
            self.first_event.add([run.first_event_s for run in streamed if run.first_event_s is not None])
            self.first_text.add([run.first_text_s for run in streamed if run.first_text_s is not None])

    def merge(self, other: Totals) -> None:
        """Add the sums of `other`."""
        self.outcomes.update(other.outcomes)
        self.bill.merge(other.bill)
        self.saved.merge(other.saved)
        self.sources.update(other.sources)
        self.asked_again += other.asked_again
        self.tries += other.tries
        self.attempts += other.attempts
        self.throttles += other.throttles
        self.errors.update(other.errors)
        self.answered_by.update(other.answered_by)
        self.latency.merge(other.latency)
        self.first_event.merge(other.first_event)
        self.first_text.merge(other.first_text)


def cost_of(run: RunInfo, book: PriceBook) -> Decimal | None:
    """What one record adds to the bill, in US dollars; None if it has no usage, or its model no price."""
    if run.source is not None:
        return NOTHING
    if not any(one.usage for one in run.all_tries):
        return None
    bill = Bill(book, _moment(run.started))
    add_tries(bill, run.requested_model, run.all_tries)
    return None if bill.unpriced_lines else bill.cost_usd


def add_tries(bill: Bill, requested_model: str, tries: Iterable[Try], book: PriceBook | None = None) -> None:
    """Add answers to one line to a bill."""
    for one in tries:
        charged = [one.gateway_cost_usd]
        when = _moment(one.started)
        bill.add(one.model, requested_model, [one.usage], when, [one.elapsed_s], one.service_tier, charged, book)


class Tally:
    """All records of a result file, added up by model. `tokens`, `output_tokens` and `longest_answer` are in tokens.

    `recorded` counts them, and `failed` those with an error; `sent` and `sent_failed` leave out those whose answer was
    not sent for, and so do `tokens` and `output_tokens`. `controls` is the bill of the control requests,
    of which `control_requests` were answered. Open tries are
    answers to lines that have no record yet, because they are asked again. `by_endpoint` has the same sums for each
    endpoint of several; `books` has the prices of those that have their own, by name.
    """

    def __init__(self, book: PriceBook, books: Mapping[str, PriceBook] | None = None) -> None:
        self.book = book
        self.books = dict(books or {})
        self.clear()

    def clear(self) -> None:
        """Forget all records and control requests."""
        self.by_model: dict[str, Totals] = {}
        self.by_endpoint: dict[str, Totals] = {}
        self.examples: dict[str, Example] = {}
        self.recorded = 0
        self.failed = 0
        self.sent = self.sent_failed = 0
        self.retryable = 0
        self.final_errors: Counter[str] = Counter()
        """Failures that are not retryable, by error code; those of lines that are gone are in neither."""
        self.tokens = 0
        self.output_tokens = 0
        self.longest_answer = 0
        self.total_lines = 0
        """The lines of the request file, as the record that was added last says."""
        self._run_times: dict[str, float] = {}
        self.controls = Bill(self.book)
        self._controls_at: dict[str | None, Bill] = {}
        self.control_requests = 0
        self._open: dict[tuple[str, str], ResultHead] = {}

    def add(self, heads: Sequence[ResultHead]) -> None:
        """Add records; many at once are faster than one by one."""
        if heads:
            self.add_columns(Columns(heads))

    def add_columns(self, records: Columns) -> None:
        """Add records that others look at, too."""
        heads = records.heads
        for kind, same in records.by_kind():
            self._add(kind, same)
        for head in heads if self._open else ():
            if head.run.source is None:
                self._open.pop(request_of(head), None)  # its record has all its tries
        self.recorded += len(heads)
        self.total_lines = heads[-1].run.total_lines

    def add_controls(self, controls: Iterable[AnsweredControl]) -> None:
        """Add control requests that were answered."""
        for one in controls:
            self.control_requests += 1
            for bill in (self.controls, self._controls_at.setdefault(one.endpoint, Bill(self.book))):
                bill.add(
                    one.model,
                    one.requested_model,
                    [one.usage],
                    _moment(one.started),
                    [one.elapsed_s],
                    one.service_tier,
                    [one.gateway_cost_usd],
                    self.book_of(one.endpoint),
                )

    def add_open(self, heads: Iterable[ResultHead]) -> None:
        """Add answers whose lines are asked again, of each line the last one; its record takes their place."""
        for head in heads:
            self._open[request_of(head)] = head

    def open_tries(self) -> tuple[int, Bill]:
        """How many answers lines have that have no record yet, and their bill."""
        bill = Bill(self.book)
        return sum(self._add_open(bill, run) for run in self._open_runs()), bill

    def _open_runs(self) -> list[RunInfo]:
        return [head.run for head in self._open.values()]

    def _add_open(self, bill: Bill, run: RunInfo, only_at: str | None = None) -> int:
        """Add the answers that a line without a record has, or those from one endpoint; returns how many."""
        tries = [(one, one.endpoint or run.endpoint) for one in run.all_tries]
        chosen = [(one, endpoint) for one, endpoint in tries if only_at in (None, endpoint)]
        for one, endpoint in chosen:
            add_tries(bill, run.requested_model, [one], self.book_of(endpoint))
        return len(chosen)

    def book_of(self, endpoint: str | None) -> PriceBook:
        """The prices of what was sent to that endpoint."""
        return self.book if endpoint is None else self.books.get(endpoint, self.book)

    def _add(self, kind: Kind, records: Columns) -> None:
        count, usages = len(records.runs), records.usages
        self._run_times[kind.started] = max(*records.elapsed_s, self._run_times.get(kind.started, 0.0))
        if kind.error_code is not None:
            self._add_failed(kind.error_code, records.heads)
        totals = self.by_model.get(kind.requested_model)
        if totals is None:
            totals = self.by_model[kind.requested_model] = Totals(self.book)
        if kind.endpoint is None:
            totals.add(kind, records)
        else:
            book = self.book_of(kind.endpoint)
            totals.add(kind, records, book)
            self._at(kind.endpoint).add(kind, records, book)
        if kind.source is None and records.tried:
            self._add_tries(totals, records.tried)
        self.longest_answer = max(self.longest_answer, *usages.output, 0)
        if kind.source is not None:
            return
        self.sent += count
        self.sent_failed += count if kind.error_code is not None else 0
        self.tokens += sum(usages.total)
        self.output_tokens += sum(usages.output)

    def _add_tries(self, totals: Totals, runs: Sequence[RunInfo]) -> None:
        """Add what lines cost that were asked again, beyond their last answers: each where it was asked."""
        for run in runs:
            for one in run.tries[:-1]:
                endpoint = one.endpoint or run.endpoint
                bills = [totals.bill] if endpoint is None else [totals.bill, self._at(endpoint).bill]
                for bill in bills:
                    add_tries(bill, run.requested_model, [one], self.book_of(endpoint))

    def _at(self, endpoint: str) -> Totals:
        return self.by_endpoint.setdefault(endpoint, Totals(self.book))

    def _add_failed(self, code: str, heads: Sequence[ResultHead]) -> None:
        self.failed += len(heads)
        retryable = sum([head.run.retryable for head in heads])
        self.retryable += retryable
        if final := len(heads) - retryable:
            self.final_errors[code] += final
        if code not in self.examples and (first := heads[0]).error is not None:
            self.examples[code] = Example(first.custom_id, first.run.line, first.error.message)

    def give_up(self, head: ResultHead) -> None:
        """Nothing can be done about this failure, which was added before: its line is gone. It stays in the sums."""
        assert head.error is not None, "only failures ask for something"
        if head.run.retryable:
            self.retryable -= 1
        else:
            self.final_errors = self.final_errors - Counter([head.error.code])

    def merge(self, other: Tally) -> None:
        """Add the sums of `other`: of another result file, or another part of the file, of the same job."""
        for model, theirs in other.by_model.items():
            self.by_model.setdefault(model, Totals(self.book)).merge(theirs)
        for endpoint, theirs in other.by_endpoint.items():
            self.by_endpoint.setdefault(endpoint, Totals(self.book)).merge(theirs)
        for code, example in other.examples.items():
            self.examples.setdefault(code, example)
        for started, elapsed_s in other._run_times.items():
            self._run_times[started] = max(elapsed_s, self._run_times.get(started, 0.0))
        self.recorded += other.recorded
        self.failed += other.failed
        self.sent += other.sent
        self.sent_failed += other.sent_failed
        self.retryable += other.retryable
        self.final_errors.update(other.final_errors)
        self.tokens += other.tokens
        self.output_tokens += other.output_tokens
        self.longest_answer = max(self.longest_answer, other.longest_answer)
        self.total_lines = other.total_lines or self.total_lines
        self._open.update(other._open)
        self.controls.merge(other.controls)
        for name, bill in other._controls_at.items():
            self._controls_at.setdefault(name, Bill(self.book)).merge(bill)
        self.control_requests += other.control_requests

    def total(self) -> Totals:
        """The sums over all models, without the control requests."""
        total = Totals(self.book)
        for totals in self.by_model.values():
            total.merge(totals)
        return total

    @property
    def starts(self) -> Set[str]:
        """The starts of all runs that have records."""
        return self._run_times.keys()

    @property
    def duration_s(self) -> float:
        """The seconds in which some run was going on, each from its start to its last record: shards overlap."""
        seconds, until = 0.0, 0.0
        for start, elapsed_s in sorted((_moment(name).timestamp(), s) for name, s in self._run_times.items()):
            seconds += max(0.0, start + elapsed_s - max(start, until))
            until = max(until, start + elapsed_s)
        return seconds

    def bill(self) -> Bill:
        """The bill of everything: the records of all models, the control requests, and the open tries."""
        bill = self.total().bill
        bill.merge(self.controls)
        if self._open:
            bill.merge(self.open_tries()[1])
        return bill

    def cost_usd(self) -> Decimal:
        """What the priced records, control requests and open tries cost so far, in US dollars."""
        open_usd = self.open_tries()[1].cost_usd if self._open else NOTHING
        return total_usd((self.cost_of_records_usd(), self.controls.cost_usd, open_usd))

    def cost_usd_at(self, endpoint: str) -> Decimal:
        """The same at one of several endpoints."""
        open_bill, nothing = Bill(self.book), Bill(self.book)
        for run in self._open_runs():
            self._add_open(open_bill, run, endpoint)
        totals, controls = self.by_endpoint.get(endpoint), self._controls_at.get(endpoint, nothing)
        recorded = nothing if totals is None else totals.bill
        return total_usd((recorded.cost_usd, controls.cost_usd, open_bill.cost_usd))

    def cost_of_records_usd(self) -> Decimal:
        """What the priced records cost so far, in US dollars: divided by their number, what a line costs."""
        return total_usd(totals.bill.cost_usd for totals in self.by_model.values())
