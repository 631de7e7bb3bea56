"""Counts the answers to requests that were changed since they were sent: they are labels of another question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from batchrun.errors import UsageError
from batchrun.records.answer import Result
from batchrun.records.request import Overrides, RequestLine, RequestLineError, parse_request


class ChangedAnswers:
    """Compares answers with the requests that are in the file now, in the order of the file. `count`: of changed ones.

    `overrides`: with which the requests were sent. It looks no further once the answers are not those of the next
    requests, as where a table was sorted since it was prepared.
    """

    def __init__(self, requests: Path, overrides: Overrides) -> None:
        self._lines = _request_lines(requests, overrides)
        self.count = 0

    def look(self, ids: Sequence[str], results: Sequence[Result | None]) -> None:
        """Look at the answers to the next requests."""
        for custom_id, result in zip(ids, results, strict=True):
            line = next(self._lines, None)
            if line is None or line.custom_id != custom_id:
                self._lines = iter(())
                return
            self.count += result is not None and result.run.body_hash != line.body_hash


def _request_lines(path: Path, overrides: Overrides) -> Iterator[RequestLine]:
    """The lines of prepared requests, up to the first that is none."""
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                yield parse_request(raw.rstrip(b"\n"), number, overrides)
    except RequestLineError:
        return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
