"""The requests of a few lines, read again from the request file, to show what an answer answers."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from batchrun.datasets.requests_of import sent_as
from batchrun.errors import UsageError
from batchrun.records.request import Overrides, RequestLine, RequestLineError, parse_request
from batchrun.requests.opened import opened

_BOM = b"\xef\xbb\xbf"


def requests_of_lines(requests: Path, results: Path, numbers: Collection[int]) -> dict[int, RequestLine]:
    """Requests by the numbers of their lines, with the changes that the last run made; those that can be read."""
    sent = sent_as(results)
    overrides = replace(sent or Overrides(), model=(sent and sent.model) or "any")  # nothing is sent
    found = dict[int, RequestLine]()
    last = max(numbers, default=0)
    try:
        with contextlib.ExitStack() as files:
            lines, _ = opened(str(requests), str(requests), files)
            for number, raw in enumerate(lines, 1):
                if number in numbers:
                    with contextlib.suppress(RequestLineError):
                        found[number] = parse_request(raw.removeprefix(_BOM).strip(), number, overrides)
                if number >= last:
                    break
    except (OSError, EOFError, zlib.error, UsageError):
        return found
    return found
