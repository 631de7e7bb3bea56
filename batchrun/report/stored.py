"""The lines of a result file, each checked by itself: a whole record, strict JSON, with the usage of its payload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from batchrun.records.charges import TEXTS, read_charges
from batchrun.records.rawjson import nests_deeper
from batchrun.records.result import (
    ResultHead,
    UnknownVersionError,
    parse_result,
    parse_whole,
)
from batchrun.records.usage import Usage
from batchrun.results.parts import open_results
from batchrun.results.scan import no_results, other_version

SHOWN = 20
_BATCH = 1 << 16  # what stays in a core's cache with all that is made of it
_DEEP = 900  # orjson accepts 1,024 levels; the other decoder stops before that, by the depth of the call stack


class Findings:
    """What is wrong: how often by kind (`counts`), and the first problems in words (`texts`)."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.texts: list[str] = []

    def add(self, problem: str, text: str, count: int = 1) -> None:
        """Note a problem, which was found `count` times."""
        self.counts[problem] += count
        if len(self.texts) < SHOWN:
            self.texts.append(text)


def checked_records(results: Path, findings: Findings) -> Iterator[tuple[int, Sequence[ResultHead]]]:
    """The valid records of a file, many at a time, with the number of the first; they stand on consecutive lines.

    Notes lines that are `damaged` or `truncated`, and records with `wrong_usage`. Raises `UsageError` if the file has
    lines and none is a record, `ResultFileError` if a record has another version, `OSError` if it cannot be read.
    """
    number, is_any = 1, False
    with open_results(results) as file:
        while lines := file.readlines(_BATCH):
            if heads := _together(results, number, lines, findings):
                is_any = True
                yield number, heads
            else:
                for at, raw in enumerate(lines, number):
                    is_record, head = _by_itself(results, at, raw, findings)
                    is_any = is_any or is_record
                    if head is not None:
                        yield at, [head]
            number += len(lines)
    if number > 1 and not is_any:
        raise no_results(results)


def _together(results: Path, first: int, lines: list[bytes], findings: Findings) -> Sequence[ResultHead]:
    """The records of some lines; none if anything is wrong with the JSON or the shape of any of them."""
    is_long = max(map(len, lines)) > 2 * _DEEP
    if not lines[-1].endswith(b"\n") or (is_long and any(nests_deeper(raw, _DEEP) for raw in lines)):
        return []
    try:
        records = parse_whole(lines)
    except ValueError:
        return []
    for number, record in enumerate(records, first):
        if _differs(record.response, record):
            _wrong_usage(results, number, record, findings)
    return records


def _by_itself(results: Path, number: int, raw: bytes, findings: Findings) -> tuple[bool, ResultHead | None]:
    """Whether a line is a record, and the record if it is valid."""
    where, is_whole = f"{results}:{number}", raw.endswith(b"\n")
    try:
        head = parse_result(raw.removesuffix(b"\n"))
        record = orjson.loads(raw)
    except UnknownVersionError as error:
        raise other_version(results, error) from None
    except ValueError as error:
        if is_whole:
            what_next = "the next run quarantines it and sends its line again"
            findings.add("damaged", f"{where}: not a valid record ({error}); {what_next}")
        else:
            _truncated(where, findings)
        return False, None
    if not is_whole:
        _truncated(where, findings)
        return True, None
    if _differs(record["response"], head):
        _wrong_usage(results, number, head, findings)
    return True, head


def _truncated(where: str, findings: Findings) -> None:
    findings.add("truncated", f"{where}: the line has no newline; the next run repairs it")


def _wrong_usage(results: Path, number: int, head: ResultHead, findings: Findings) -> None:
    text = f"{results}:{number}: {head.custom_id[:60]!r} records a different usage than its answer"
    findings.add("wrong_usage", text)


def _differs(response: Any, head: ResultHead) -> bool:
    """Whether a record has another usage than its payload, or another tier or charge than that says.

    A payload that is no answer (an object, with a 2xx status) says nothing.
    """
    if type(response) is not dict:
        return False
    run = head.run
    body, status = response.get("body"), response.get("status_code")
    if type(body) is not dict or type(status) is not int or not 200 <= status < 300:
        return False
    has_more = run.tries or run.service_tier is not None or run.gateway_cost_usd is not None
    if run.usage is not None and not has_more and _is_as_usual(body, run.usage):
        return False
    found = read_charges(body, run.outcome)
    return (
        found.usage != run.usage
        or (bool(run.tries) and run.tries[-1].usage != run.usage)
        or (run.service_tier is not None and found.service_tier != run.service_tier)
        or (run.gateway_cost_usd is not None and found.gateway_cost_usd != run.gateway_cost_usd)
    )


def _is_as_usual(body: dict[str, Any], usage: Usage) -> bool:
    """Whether a payload reports that usage as the official API does, and calls no tool: as nearly all.

    False where that takes the closer look of `read_charges`, which needs three times as long.
    """
    tokens, output_tokens = usage.input_tokens, usage.output_tokens
    return (
        body.get("usage")
        == {
            "input_tokens": tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.total_tokens,
        }
        and usage.total_tokens == tokens + output_tokens
        and usage.cached_tokens <= tokens > 0
        and usage.reasoning_tokens <= output_tokens
        and not usage.cache_write_tokens
        and not usage.tool_calls
        and "choices" not in body
        and type(output := body.get("output")) is list
        and not [item for item in output if type(item) is not dict or item.get("type") not in TEXTS]
    )
