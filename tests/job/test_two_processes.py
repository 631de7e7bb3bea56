"""A large job is taken up by two processes: what it says, keeps and writes is what one process would."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun import Endpoint, Job
from batchrun.billing.pricing import PriceBook
from batchrun.engine.observer import Silent
from batchrun.errors import BatchrunError
from batchrun.estimate.estimate import Allowed, estimate_file
from batchrun.job.prepare import prepare
from batchrun.job.resume import Changed
from batchrun.records.request import parse_request
from batchrun.report.verify import Verifier
from batchrun.requests import ahead
from batchrun.requests.ahead import Ahead
from batchrun.requests.reader import RequestFile
from batchrun.results.scan import read_many
from tests.support import KEY, record, write_prices, write_requests

LINES = 300  # in a few batches


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished job."""
    folder = tmp_path / "job"
    folder.mkdir()
    requests = write_requests(folder / "requests.jsonl", LINES, instructions="x" * 1000)
    with (folder / "results.jsonl").open("wb") as results:
        for number, raw in enumerate(requests.read_bytes().splitlines(), 1):
            body_hash = parse_request(raw, number).body_hash
            results.write(record(f"r-{number}", number, text=f"answer {number}", body_hash=body_hash))
    write_prices(folder)
    return folder


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches that other processes have prescanned."""
    found: list[int] = []
    read = Ahead.batches

    def noted(self: Ahead) -> Iterator[Any]:
        for batch in read(self):
            found.append(batch.first)
            yield batch

    monkeypatch.setattr(Ahead, "batches", noted)
    return found


class Noting(Silent):
    """Keeps the notices of a run."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def taken_up(folder: Path, name: str, **options: Any) -> dict[str, Any]:
    """All that a run that begins here says, finds and leaves."""
    endpoint = Endpoint("http://127.0.0.1:9", KEY)
    results, prices = Path("results.jsonl"), folder / "prices.json"
    job = Job("requests.jsonl", results, endpoint, prices=prices, **options)
    told, noting = dict[str, Any](), Noting()
    with contextlib.chdir(folder), contextlib.ExitStack() as files:
        try:
            ready = prepare(job, noting, files)
            told["left"] = list(ready.requests.requests(ready.done))
            told["sums"] = (ready.pending, ready.survey, ready.tally.recorded, ready.tally.cost_usd())
        except BatchrunError as error:
            told["refused"] = (type(error), str(error).replace(str(folder), ""))
        told["notices"] = noting.notices
    for path in (folder / "results.jsonl", folder / "results.jsonl.quarantine"):
        told[path.name] = path.read_bytes() if path.exists() else None
    if name not in BESIDE:
        return told
    with contextlib.chdir(folder), contextlib.suppress(BatchrunError), RequestFile(job.requests) as file:
        heads = (heads for heads, _ in read_many(results))
        told["estimate"] = estimate_file(file, heads, PriceBook.load(prices), Allowed(), record_bytes=1 << 40)
    with contextlib.chdir(folder), contextlib.suppress(BatchrunError), RequestFile(job.requests) as file:
        told["verified"] = Verifier(file, results, PriceBook.load(prices)).run()
    return told


def edit(name: str, change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    """A change to the lines of a file of the job."""

    def edited(folder: Path) -> None:
        path = folder / name
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return edited


def of_results(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    return edit("results.jsonl", change)


def of_requests(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    return edit("requests.jsonl", change)


def _failing(lines: list[bytes]) -> list[bytes]:
    """Some records are failures, of which some go again."""
    failed = [record(f"r-{number}", number, failed=True, retryable=number % 2 == 0) for number in range(1, LINES + 1)]
    hashes = [json.loads(line)["run"]["body_hash"].encode() for line in lines]
    failed = [raw.replace(b"0123456789abcdef" * 2, body_hash) for raw, body_hash in zip(failed, hashes, strict=True)]
    return [other if number % 70 == 3 else line for number, (line, other) in enumerate(zip(lines, failed, strict=True))]


CASES: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "finished": (of_results(lambda lines: lines), {}),
    "truncated": (of_results(lambda lines: [*lines[:200], lines[200][:150]]), {}),
    "damaged": (of_results(lambda lines: [*lines[:40], b"\xff{\n", lines[40][50:], *lines[41:]]), {}),
    "duplicated": (of_results(lambda lines: [*lines, *lines[7:9]]), {}),
    "in another order": (of_results(lambda lines: lines[::-1]), {}),
    "failures": (of_results(_failing), {"retry_errors": True}),
    "foreign": (of_results(lambda lines: [line.replace(b'"r-', b'"q-') for line in lines]), {}),
    "no results": (of_results(lambda lines: [b"{}\n"] * 99), {}),
    "another version": (of_results(lambda lines: [*lines[:9], lines[9].replace(b'"v":1', b'"v":9')]), {}),
    "edited": (of_requests(lambda lines: [*lines[:99], lines[99].replace(b"question", b"Question"), *lines[100:]]), {}),
    "edited, sent again": (
        of_requests(lambda lines: [line.replace(b"question 1", b"Question 1") for line in lines]),
        {"changed": Changed.RESEND},
    ),
    "lines moved": (of_requests(lambda lines: [*lines[100:], b"\n", *lines[:100]]), {}),
    "an id twice": (of_requests(lambda lines: [*lines, lines[3]]), {}),
    "no request": (of_requests(lambda lines: [*lines[:250], b'{"custom_id":"x"}\n', *lines[250:]]), {}),
    "more requests": (of_requests(lambda lines: [*lines, lines[0].replace(b"r-1", b"new")]), {}),
    "bare bodies": (of_requests(lambda lines: [*lines, *[b'{"model":"m","input":"bare"}\n'] * 3]), {}),
}
BESIDE = {"finished", "failures", "edited", "lines moved", "an id twice"}
"""The cases in which an estimate and `verify` are held against each other, too."""


@pytest.mark.parametrize("name", CASES)
def test_two_processes_come_to_what_one_does(
    folder: Path, tmp_path: Path, used: list[int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    change, options = CASES[name]
    change(folder)
    other = shutil.copytree(folder, tmp_path / "other")
    expected = taken_up(folder, name, **options)
    assert not used
    monkeypatch.setattr(ahead, "LEAST_BYTES", 1)
    monkeypatch.setattr(ahead, "_cores", lambda: 2)
    found = taken_up(other, name, **options)
    for fact, value in expected.items():
        assert found[fact] == value, fact
    assert found.keys() == expected.keys()
    if name == "finished":
        assert used == sorted(set(used)) * 3, "by the run, the estimate and verify"
