"""Checks whether a result file answers its request file completely; parses all payloads and reads their usage again.

A result file is complete if every request has exactly one record, and nothing else is in the file. A record must be
made from the same body, be whole and valid JSON for strict readers, and have the usage of its payload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import orjson

from batchrun.billing.bill import Bill
from batchrun.billing.pricing import PriceBook
from batchrun.records.charges import Charges, charges_of
from batchrun.records.index import HashTable, LineSet, hash64
from batchrun.records.rawjson import member
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead, UnknownVersionError, parse_stored
from batchrun.records.usage import ZERO, Usage
from batchrun.records.words import counted
from batchrun.requests.reader import RequestFile
from batchrun.results.scan import no_results, other_version

SHOWN = 20


class Verification(msgspec.Struct, frozen=True):
    """What a check found: counts of lines and records; `findings` describes the first problems in words.

    `lines`: requests. `records`: the first record of each id. `succeeded`: records without an error. `missing`:
    requests without a record. `duplicates`: further records of an id. `damaged`: lines that are not valid records.
    `truncated`: lines without a newline. `unknown_ids`: records whose id is in no request. `edited`: requests that
    differ from what was sent. `wrong_usage`: records with another usage than their payload. `failed`: records with an
    error, by code. `is_complete`: every request has one record, without any of these problems or errors.
    """

    lines: int
    records: int
    succeeded: int
    missing: int
    duplicates: int
    damaged: int
    truncated: int
    unknown_ids: int
    edited: int
    wrong_usage: int
    failed: dict[str, int]
    usage: Usage
    lines_without_usage: int
    total_usd: Decimal
    unpriced_lines: int
    is_complete: bool
    findings: list[str]

    def to_json(self) -> bytes:
        """Indented JSON with a newline; money as an exact number."""
        return msgspec.json.format(_encode(self), indent=2) + b"\n"


_encode = msgspec.json.Encoder(decimal_format="number").encode


class Verifier:
    """Checks one pair of files: `run` reads the results, then the requests, in bounded memory."""

    def __init__(self, requests: RequestFile, results: Path, book: PriceBook) -> None:
        self._requests = requests
        self._results = results
        self._bill = Bill(book)
        self._counts: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._usage = ZERO
        self._findings: list[str] = []
        self._is_any = False  # whether any line of the file is a record
        self._body_hashes = HashTable()
        self._record_of = HashTable()  # id → number of its first record
        self._claimed = LineSet()  # numbers of the records that belong to a request

    def run(self) -> Verification:
        """Check everything.

        Raises `UsageError` if the result file has lines and none is a record, `InputError` if the requests do not
        pass their own check, `ResultFileError` if a record has another version, `OSError` if the result file cannot be
        read.
        """
        number = 0
        for number, raw in enumerate(self._stored_lines(), 1):
            self._look_at(number, raw)
        if number and not self._is_any:
            raise no_results(self._results)
        survey = self._requests.check(self._match)
        counts = self._counts
        counts["unknown_ids"] = len(self._record_of) - len(self._claimed)
        if counts["unknown_ids"]:
            self._find(f"{counted(counts['unknown_ids'], 'record')} with an id that is in no request")
        problems = ("missing", "duplicates", "damaged", "truncated", "unknown_ids", "edited", "wrong_usage")
        return Verification(
            lines=survey.lines,
            records=counts["records"],
            succeeded=counts["succeeded"],
            **{problem: counts[problem] for problem in problems},
            failed=dict(self._failed.most_common()),
            usage=self._usage,
            lines_without_usage=self._bill.lines_without_usage,
            total_usd=self._bill.cost_usd,
            unpriced_lines=self._bill.unpriced_lines,
            is_complete=not self._failed and not any(counts[problem] for problem in problems),
            findings=self._findings,
        )

    def _stored_lines(self) -> Iterator[bytes]:
        with self._results.open("rb", buffering=1 << 20) as lines:
            yield from lines

    def _look_at(self, number: int, raw: bytes) -> None:
        """Check one line of the result file."""
        where = f"{self._results}:{number}"
        try:
            head, response = parse_stored(raw.removesuffix(b"\n"))
            orjson.loads(raw)
            self._is_any = True
        except UnknownVersionError as error:
            raise other_version(self._results, error) from None
        except ValueError as error:
            if not raw.endswith(b"\n"):
                self._truncated(where)
                return
            self._counts["damaged"] += 1
            self._find(f"{where}: not a valid record ({error}); the next run quarantines it and sends its line again")
            return
        if not raw.endswith(b"\n"):
            self._truncated(where)
            return
        key = hash64(head.custom_id)
        if (first := self._record_of.get(key)) is not None:
            self._counts["duplicates"] += 1
            self._find(f"{where}: {head.custom_id[:60]!r} already has a record on line {first}")
            return
        self._record_of.set(key, number)
        self._body_hashes.set(key, int(head.run.body_hash[:16], 16))
        self._count(where, head, response)

    def _truncated(self, where: str) -> None:
        self._counts["truncated"] += 1
        self._find(f"{where}: the line has no newline; the next run repairs it")

    def _count(self, where: str, head: ResultHead, response: bytes) -> None:
        self._counts["records"] += 1
        if head.error is None:
            self._counts["succeeded"] += 1
        else:
            self._failed[head.error.code] += 1
        usage = head.run.usage
        body = member(response, "body")
        is_answer = member(response, "status_code").startswith(b"2") and body.startswith(b"{")
        if is_answer and _differs(head, charges_of(body, head.run.outcome)):
            self._counts["wrong_usage"] += 1
            self._find(f"{where}: {head.custom_id[:60]!r} records a different usage than its answer")
        if usage is not None or head.run.outcome != "failed":  # as in the report: a failed line needs no usage
            run = head.run
            when = datetime.fromisoformat(run.started)
            self._bill.add(
                run.model,
                run.requested_model,
                [usage],
                when,
                [run.elapsed_s],
                run.service_tier,
                [run.gateway_cost_usd],
            )
        if usage is not None:
            self._usage += usage

    def _match(self, line: RequestLine) -> None:
        """Check whether one request has its record."""
        key = hash64(line.custom_id)
        number = self._record_of.get(key)
        where = f"{self._requests.name}:{line.line_number}: {line.custom_id[:60]!r}"
        if number is None:
            self._counts["missing"] += 1
            self._find(f"{where} has no record")
            return
        self._claimed.add(number)
        if self._body_hashes.get(key) != int(line.body_hash[:16], 16):
            self._counts["edited"] += 1
            self._find(f"{where} was edited after its answer (or was sent with other --model, --set or --stream)")

    def _find(self, finding: str) -> None:
        if len(self._findings) < SHOWN:
            self._findings.append(finding)


def _differs(head: ResultHead, charges: Charges) -> bool:
    """Whether a record has another usage than its payload, or another tier or charge than that says."""
    run = head.run
    return (
        charges.usage != run.usage
        or run.service_tier not in (None, charges.service_tier)
        or run.gateway_cost_usd not in (None, charges.gateway_cost_usd)
    )


_COUNTS = {
    "missing": "missing",
    "duplicates": "duplicates",
    "damaged": "damaged",
    "truncated": "truncated",
    "unknown_ids": "unknown ids",
    "edited": "edited",
    "wrong_usage": "with wrong usage",
}


def render(found: Verification) -> str:
    """The verification as text for people, ending in a newline."""
    lines = list(found.findings)
    problems = sum(getattr(found, name) for name in _COUNTS)
    if problems > len(lines):
        lines.append("…")
    lines.append(f"{counted(found.lines, 'line')}, {counted(found.records, 'record')}, {found.succeeded:,} succeeded")
    lines.append(", ".join(f"{getattr(found, name):,} {words}" for name, words in _COUNTS.items()))
    lines += [f"failed: {count:,} × {code}" for code, count in found.failed.items()]
    lines.append(
        f"usage: {found.usage.input_tokens:,} input ({found.usage.cached_tokens:,} cached), "
        f"{found.usage.output_tokens:,} output ({found.usage.reasoning_tokens:,} reasoning); "
        f"${found.total_usd:f}, {found.unpriced_lines:,} unpriced, {found.lines_without_usage:,} without usage"
    )
    lines.append("complete" if found.is_complete else "NOT complete")
    return "\n".join(lines) + "\n"
