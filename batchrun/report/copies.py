"""Checks the records that say that they are copied: some other record has this answer to the same request.

A copy whose original is gone (its line was edited later, and sent again) is told of, and is no problem: what is wrong
is a copy that differs from its original.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from batchrun.records.index import hash64
from batchrun.records.numbers_by_hash import NONE, NumbersByHash
from batchrun.records.result import ResultHead, parse_stored
from batchrun.records.words import counted
from batchrun.report.stored import Findings
from batchrun.requests.duplicates import repeat_of
from batchrun.results.parts import open_results


def check_copies(results: Path, findings: Findings) -> None:
    """Note copies with another answer than their original (`wrong_copies`), and those without one (`orphans`).

    Reads the file twice; takes 40 bytes a copy. Raises `OSError`.
    """
    answers, requests = NumbersByHash(), NumbersByHash()
    for number, head, response in _records(results):
        if _is_copy(head):
            tag = int(head.run.body_hash[:8], 16)
            answers.add(_request(head) ^ _answer(response), tag, number)
            requests.add(_request(head), tag, number)
    answers.index()
    requests.index()
    for _, head, response in _records(results):
        if not _is_copy(head):
            tag = int(head.run.body_hash[:8], 16)
            if requests.put(_request(head), tag, NONE):
                answers.put(_request(head) ^ _answer(response), tag, NONE)
    orphans = set(requests.left())
    for number in sorted(answers.left()):
        if number not in orphans:
            what = "is a copy, and the record of the equal request has another answer"
            findings.add("wrong_copies", f"{results}:{number}: {what}")
    if orphans:
        what = f"{counted(len(orphans), 'record')} copied from a line that was sent again since: in no bill"
        findings.add("orphans", what, len(orphans))


def _records(results: Path) -> Iterator[tuple[int, ResultHead, bytes]]:
    with open_results(results) as file:
        for number, raw in enumerate(file, 1):
            try:
                yield number, *parse_stored(raw.removesuffix(b"\n"))
            except ValueError:
                continue  # it is told of as damaged


def _is_copy(head: ResultHead) -> bool:
    return head.run.source is not None and head.run.source.kind == "copied"


def _request(head: ResultHead) -> int:
    return hash64(f"{head.run.body_hash}{head.run.path}#{repeat_of(head.custom_id)}")


def _answer(response: bytes) -> int:
    return hash64(response.decode())
