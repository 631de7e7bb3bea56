"""The reference for a resume: a bare loop that skips the lines that have an answer, and sends the others.

python -m tests.benchmarks.bare_read http://127.0.0.1:PORT requests.jsonl results.jsonl
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson

from tests.benchmarks.bare_loop import id_and_body, run
from tests.benchmarks.machine import fast_loop


def left(requests: Path, results: Path) -> Iterator[tuple[bytes, bytes]]:
    """The ids and bodies of the lines without a record; the records are only read, by `orjson`, for their ids."""
    with results.open("rb") as records:
        done = {orjson.loads(record)["custom_id"] for record in records}
    with requests.open("rb") as lines:
        for raw in lines:
            line = orjson.loads(raw)
            if line["custom_id"] not in done:
                yield id_and_body(line)


def main() -> None:
    base, requests, results = sys.argv[1:]
    with Path(results).open("ab", buffering=0) as output, asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(run(base + "/v1/responses", left(Path(requests), Path(results)), output, 64))


if __name__ == "__main__":
    main()
