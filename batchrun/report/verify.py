"""Checks whether a result file answers its request file completely; parses all payloads and reads their usage again.

A result file is complete if every request has exactly one record, and nothing else is in the file. A record must be
made from the same body, be whole and valid JSON for strict readers, and have the usage of its payload.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import orjson
from msgspec import Raw

from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.records.charges import Charges, charges_of
from batchrun.records.index import HashTable, LineSet, hash64
from batchrun.records.rawjson import REFUSED
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead, UnknownVersionError, parse_all_stored, parse_stored
from batchrun.records.usage import Usage
from batchrun.records.words import counted, printable, printable_json
from batchrun.requests.reader import RequestFile
from batchrun.results.last_run import read_controls
from batchrun.results.paths import ResultPaths
from batchrun.results.scan import BUFFER_BYTES, no_results, other_version

SHOWN = 20


class Verification(msgspec.Struct, frozen=True):
    """What a check found: counts of lines and records; `findings` describes the first problems in words.

    `lines`: requests. `records`: the first record of each id. `succeeded`: records without an error. `missing`:
    requests without a record. `duplicates`: further records of an id. `damaged`: lines that are not valid records.
    `truncated`: lines without a newline. `unknown_ids`: records whose id is in no request. `edited`: requests that
    differ from what was sent. `wrong_usage`: records with another usage than their payload. `failed`: records with an
    error, by code. `control_requests`: those that the run log names; they are in `usage` and `total_usd`.
    `is_complete`: every request has one record, without any of these problems or errors.
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
    control_requests: int
    is_complete: bool
    findings: list[str]

    def to_json(self) -> bytes:
        """Indented JSON with a newline; money as an exact number."""
        return printable_json(msgspec.json.format(_encode(self), indent=2) + b"\n")


_encode = msgspec.json.Encoder(decimal_format="number").encode


class Verifier:
    """Checks one pair of files: `run` reads the results, then the requests, in bounded memory."""

    def __init__(self, requests: RequestFile, results: Path, book: PriceBook) -> None:
        self._requests = requests
        self._results = results
        self._tally = Tally(book)
        self._counts: Counter[str] = Counter()
        self._findings: list[str] = []
        self._is_any = False  # whether any line of the file is a record
        self._body_hashes = array("q")  # by the number of the record, less one
        self._record_of = HashTable()  # id → number of its first record
        self._claimed = LineSet()  # numbers of the records that belong to a request

    def run(self) -> Verification:
        """Check everything.

        Raises `UsageError` if the result file has lines and none is a record, `InputError` if the requests do not
        pass their own check, `ResultFileError` if a record has another version, `OSError` if the result file cannot be
        read.
        """
        number = 0
        for lines in self._stored_lines():
            self._look_at_all(number + 1, lines)
            number += len(lines)
        if number and not self._is_any:
            raise no_results(self._results)
        survey = self._requests.check(self._match)
        counts = self._counts
        counts["unknown_ids"] = len(self._record_of) - len(self._claimed)
        if counts["unknown_ids"]:
            self._find(f"{counted(counts['unknown_ids'], 'record')} with an id that is in no request")
        self._tally.add_controls(read_controls(ResultPaths.of(self._results).log))
        errors, bill = self._tally.total().errors, self._tally.bill()
        problems = ("missing", "duplicates", "damaged", "truncated", "unknown_ids", "edited", "wrong_usage")
        return Verification(
            lines=survey.lines,
            records=self._tally.recorded,
            succeeded=self._tally.recorded - self._tally.failed,
            **{problem: counts[problem] for problem in problems},
            failed=dict(errors.most_common()),
            usage=bill.usage,
            lines_without_usage=bill.lines_without_usage,
            total_usd=bill.cost_usd,
            unpriced_lines=bill.unpriced_lines,
            control_requests=self._tally.control_requests,
            is_complete=not self._tally.failed and not any(counts[problem] for problem in problems),
            findings=self._findings,
        )

    def _stored_lines(self) -> Iterator[list[bytes]]:
        with self._results.open("rb", buffering=BUFFER_BYTES) as lines:
            while batch := lines.readlines(BUFFER_BYTES):
                yield batch

    def _look_at_all(self, first: int, lines: list[bytes]) -> None:
        """Check some lines of the result file: together, or one by one if anything is wrong with any of them."""
        self._body_hashes.frombytes(bytes(self._body_hashes.itemsize * len(lines)))
        try:
            records = parse_all_stored(lines) if lines[-1].endswith(b"\n") else []
            deque(map(orjson.loads, lines if records else ()), maxlen=0)
        except ValueError:
            records = []
        if not records:
            for number, raw in enumerate(lines, first):
                self._look_at(number, raw)
            return
        self._is_any = True
        firsts = []
        for number, (head, response) in enumerate(records, first):
            if self._take(number, head, response):
                firsts.append(head)
        self._tally.add(firsts)

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
        if self._take(number, head, Raw(response)):
            self._tally.add([head])

    def _truncated(self, where: str) -> None:
        self._counts["truncated"] += 1
        self._find(f"{where}: the line has no newline; the next run repairs it")

    def _take(self, number: int, head: ResultHead, response: Raw) -> bool:
        """Check a valid record; False if its id has one already."""
        key = hash64(head.custom_id)
        if (first := self._record_of.get(key)) is not None:
            self._counts["duplicates"] += 1
            self._find(f"{self._results}:{number}: {head.custom_id[:60]!r} already has a record on line {first}")
            return False
        self._record_of.set(key, number)
        self._body_hashes[number - 1] = hash(head.run.body_hash)
        if (body := _answer(response)) is not None and _differs(head, charges_of(body, head.run.outcome)):
            self._counts["wrong_usage"] += 1
            self._find(f"{self._results}:{number}: {head.custom_id[:60]!r} records a different usage than its answer")
        return True

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
        if self._body_hashes[number - 1] != hash(line.body_hash):
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


class _Response(msgspec.Struct, gc=False):
    status_code: Raw = Raw(b"")
    body: Raw = Raw(b"")


_decode_response = msgspec.json.Decoder(_Response).decode


def _answer(response: Raw) -> bytes | None:
    """The body of a response, if it is an answer: an object, with a 2xx status."""
    try:
        decoded = _decode_response(response)
    except REFUSED:  # there is none
        return None
    body = bytes(decoded.body)
    return body if bytes(decoded.status_code).startswith(b"2") and body.startswith(b"{") else None


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
    lines = list(map(printable, found.findings))
    problems = sum(getattr(found, name) for name in _COUNTS)
    if problems > len(lines):
        lines.append("…")
    lines.append(f"{counted(found.lines, 'line')}, {counted(found.records, 'record')}, {found.succeeded:,} succeeded")
    if found.control_requests:
        lines.append(f"{counted(found.control_requests, 'control request')} by the run log, in the usage below")
    lines.append(", ".join(f"{getattr(found, name):,} {words}" for name, words in _COUNTS.items()))
    lines += [f"failed: {count:,} × {printable(code)}" for code, count in found.failed.items()]
    lines.append(
        f"usage: {found.usage.input_tokens:,} input ({found.usage.cached_tokens:,} cached), "
        f"{found.usage.output_tokens:,} output ({found.usage.reasoning_tokens:,} reasoning); "
        f"${found.total_usd:f}, {found.unpriced_lines:,} unpriced, {found.lines_without_usage:,} without usage"
    )
    lines.append("complete" if found.is_complete else "NOT complete")
    return "\n".join(lines) + "\n"
