"""Checks whether a result file answers its request file completely; parses all payloads and reads their usage again.

A result file is complete if every request has exactly one record, and nothing else is in the file. A record must be
made from the same body, be whole and valid JSON for strict readers, and have the usage of its payload.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.records.columns import Columns
from batchrun.records.index import HashTable, LineSet, hash64
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead
from batchrun.records.usage import Usage
from batchrun.records.words import counted, printable, printable_json
from batchrun.report.copies import check_copies
from batchrun.report.stored import Findings, checked_records
from batchrun.requests.batches import Batch
from batchrun.requests.reader import RequestFile
from batchrun.requests.survey import Survey
from batchrun.results.by_line import ByLine
from batchrun.results.last_run import read_controls
from batchrun.results.parts import bytes_of, parts_of
from batchrun.results.tries import open_tries


class Verification(msgspec.Struct, frozen=True):
    """What a check found: counts of lines and records; `findings` describes the first problems in words.

    `lines`: requests. `records`: the first record of each id. `succeeded`: records without an error. `missing`:
    requests without a record. `duplicates`: further records of an id. `damaged`: lines that are not valid records.
    `truncated`: lines without a newline. `unknown_ids`: records whose id is in no request. `edited`: requests that
    differ from what was sent. `wrong_usage`: records with another usage than their payload, or than the last of their
    tries. `lost_tries`: earlier answers that records name and `RESULTS.tries` lacks. `failed`: records with an error,
    by code. `control_requests`: those that the run log names. `tries`: earlier answers to lines that were asked again,
    and `open_tries` those to lines without a record. `copied`, `reused`: records whose answer is
    that of an equal line, or of another result file; they are in no sum. `wrong_copies`: copied records with another
    answer than their original. Control requests and tries are in `usage` and `total_usd`.
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
    wrong_copies: int
    copied: int
    reused: int
    failed: dict[str, int]
    usage: Usage
    lines_without_usage: int
    total_usd: Decimal
    unpriced_lines: int
    control_requests: int
    tries: int
    open_tries: int
    lost_tries: int
    is_complete: bool
    findings: list[str]

    def to_json(self) -> bytes:
        """Indented JSON with a newline; money as an exact number."""
        return printable_json(msgspec.json.format(_encode(self), indent=2) + b"\n")


_encode = msgspec.json.Encoder(decimal_format="number").encode


class Verifier:
    """Checks one pair of files: `run` reads the results, then the requests, in bounded memory.

    Nearly always, each record belongs to the line whose number it names. Where that does not account for every record,
    both files are read again, and records and lines are matched by `custom_id`.
    """

    def __init__(self, requests: RequestFile, results: Path, book: PriceBook) -> None:
        self._requests = requests
        self._results = results
        self._tally = Tally(book)
        self._findings = Findings()
        self._parts = parts_of(results)
        self._tries = [tries for part in self._parts if (tries := open_tries(part)) is not None]

    def run(self) -> Verification:
        """Check everything.

        Raises `UsageError` if the result file has lines and none is a record, `InputError` if the requests do not
        pass their own check, `ResultFileError` if a record has another version, `OSError` if the result file cannot be
        read.
        """
        survey = self._match_by_number() or self._match_by_id()
        self._add_tries()
        counts = self._findings.counts
        for part in self._parts:
            self._tally.add_controls(read_controls(part.log))
        total, bill = self._tally.total(), self._tally.bill()
        if total.sources["copied"]:
            check_copies(self._results, self._findings)
        return Verification(
            lines=survey.lines,
            records=self._tally.recorded,
            succeeded=self._tally.recorded - self._tally.failed,
            **{problem: counts[problem] for problem in _COUNTS},
            copied=total.sources["copied"],
            reused=total.sources["reused"],
            failed=dict(total.errors.most_common()),
            usage=bill.usage,
            lines_without_usage=bill.lines_without_usage,
            total_usd=bill.cost_usd,
            unpriced_lines=bill.unpriced_lines,
            control_requests=self._tally.control_requests,
            tries=total.tries,
            open_tries=self._tally.open_tries()[0],
            is_complete=not self._tally.failed and not any(counts[problem] for problem in _COUNTS),
            findings=self._findings.texts,
        )

    def _match_by_number(self) -> Survey | None:
        """Match records and lines by number; None if that does not account for every record."""
        records = ByLine()
        self._requests.prescan_ahead(bytes_of(self._results))
        for _, heads in checked_records(self._results, self._findings):
            if heads:
                records.add(columns := Columns(heads))
                self._tally.add_columns(columns)
            for tries in self._tries:
                tries.settle(heads)

        def match(line: RequestLine) -> None:
            if not records.find(line):
                self._miss(line)

        def known(batch: Batch) -> list[str]:
            found = batch.prescan()
            return records.find_succeeded(batch.first, found.ids, found.body_hashes)

        survey = self._requests.check(match, known)
        return survey if records.is_all_found else None

    def _add_tries(self) -> None:
        """Add the tries of lines without a record, and look whether those of the others are there."""
        for tries in self._tries:
            self._tally.add_open(tries.open().heads())
        there = sum(tries.settled_count for tries in self._tries)
        if (lost := self._tally.total().tries - there) > 0:
            name = self._parts[0].tries.name if len(self._parts) == 1 else f"{self._results}/*.tries"
            self._findings.add("lost_tries", f"{name} lacks {counted(lost, 'answer')} that records name", lost)

    def _match_by_id(self) -> Survey:
        """Match records and lines by `custom_id`. What was found before counts no more."""
        records, self._findings = _ById(), Findings()
        self._tally.clear()
        for number, heads in checked_records(self._results, self._findings):
            self._tally.add(self._firsts(records, number, heads))

        def match(line: RequestLine) -> None:
            if (body_hash := records.claim(line.custom_id)) is None:
                self._miss(line)
            elif body_hash != hash(line.body_hash):
                how = "was edited after its answer (or was sent with other --model, --set or --stream)"
                self._findings.add("edited", f"{self._place(line)} {how}")

        survey = self._requests.check(match)
        if unknown := records.unclaimed:
            what = f"{counted(unknown, 'record')} with an id that is in no request"
            self._findings.add("unknown_ids", what, unknown)
        return survey

    def _firsts(self, records: _ById, number: int, heads: Sequence[ResultHead]) -> list[ResultHead]:
        """Those of the records on lines from `number` on that are the first ones of their ids."""
        firsts = []
        for at, head in enumerate(heads, number):
            if (first := records.add(at, head)) == at:
                firsts.append(head)
            else:
                where = f"{self._results}:{at}: {head.custom_id[:60]!r}"
                self._findings.add("duplicates", f"{where} already has a record on line {first}")
        return firsts

    def _miss(self, line: RequestLine) -> None:
        self._findings.add("missing", f"{self._place(line)} has no record")

    def _place(self, line: RequestLine) -> str:
        return f"{self._requests.name}:{line.line_number}: {line.custom_id[:60]!r}"


class _ById:
    """The first record of each id: its line in the result file, and the hash of its body."""

    def __init__(self) -> None:
        self._line_of = HashTable()
        self._body_hashes = array("q")  # by the line, less one
        self._claimed = LineSet()

    @property
    def unclaimed(self) -> int:
        """How many ids nobody has claimed."""
        return len(self._line_of) - len(self._claimed)

    def add(self, number: int, head: ResultHead) -> int:
        """Add the record on line `number`, unless its id has one; the line of the record that it has then."""
        key = hash64(head.custom_id)
        if (first := self._line_of.get(key)) is not None:
            return first
        self._line_of.set(key, number)
        self._body_hashes.frombytes(bytes(8 * (number - 1 - len(self._body_hashes))))
        self._body_hashes.append(hash(head.run.body_hash))
        return number

    def claim(self, custom_id: str) -> int | None:
        """The `hash` of the body hash of an id's record; None if it has none."""
        number = self._line_of.get(hash64(custom_id))
        if number is None:
            return None
        self._claimed.add(number)
        return self._body_hashes[number - 1]


_COUNTS = {
    "missing": "missing",
    "duplicates": "duplicates",
    "damaged": "damaged",
    "truncated": "truncated",
    "unknown_ids": "unknown ids",
    "edited": "edited",
    "wrong_usage": "with wrong usage",
    "wrong_copies": "wrong copies",
    "lost_tries": "lost tries",
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
    if found.tries:
        lines.append(f"{counted(found.tries, 'answer')} to lines that were asked again, in the usage below")
    if found.open_tries:
        lines.append(f"{counted(found.open_tries, 'answer')} to lines without a record yet, in the usage below")
    lines.append(", ".join(f"{getattr(found, name):,} {words}" for name, words in _COUNTS.items()))
    if found.copied or found.reused:
        lines.append(f"{found.copied:,} copied from equal lines, {found.reused:,} reused: not in the usage below")
    lines += [f"failed: {count:,} × {printable(code)}" for code, count in found.failed.items()]
    lines.append(
        f"usage: {found.usage.input_tokens:,} input ({found.usage.cached_tokens:,} cached), "
        f"{found.usage.output_tokens:,} output ({found.usage.reasoning_tokens:,} reasoning); "
        f"${found.total_usd:f}, {found.unpriced_lines:,} unpriced, {found.lines_without_usage:,} without usage"
    )
    lines.append("complete" if found.is_complete else "NOT complete")
    return "\n".join(lines) + "\n"
