"""What a job does with each line before it sends anything: no more than it needs, counted, because time is noise."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchrun import Endpoint, Job, run
from batchrun.billing.pricing import PriceBook
from batchrun.engine.observer import Silent
from batchrun.errors import StopError
from batchrun.estimate.estimate import Allowed, estimate_file
from batchrun.job.prepare import Prepared, prepare
from batchrun.records import request
from batchrun.report.verify import Verifier
from batchrun.requests import batches, prescan, reader
from batchrun.requests.reader import RequestFile
from tests.support import KEY, GatewayThread, write_prices, write_requests

LINES = 40


@pytest.fixture
def job(tmp_path: Path) -> Job:
    requests = write_requests(tmp_path / "requests.jsonl", LINES)
    endpoint = Endpoint("http://127.0.0.1:9", KEY)
    return Job(str(requests), tmp_path / "results.jsonl", endpoint, prices=write_prices(tmp_path))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a body was hashed, a line parsed, prescanned, and given a checksum."""
    counts: Counter[str] = Counter()

    def count(module: Any, name: str, weight: Any = lambda *_: 1) -> None:
        real = getattr(module, name)

        def counted(*args: Any) -> Any:
            counts[name] += weight(*args)
            return real(*args)

        monkeypatch.setattr(module, name, counted)

    count(request, "hash_body")
    count(prescan, "hash_bodies", len)
    count(reader, "read_request")
    count(reader, "parse_request")
    count(batches, "prescan", len)
    count(zlib, "crc32")
    return counts


@contextlib.contextmanager
def prepared(job: Job) -> Iterator[Prepared]:
    with contextlib.ExitStack() as files:
        yield prepare(job, Silent(), files)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_new_job_takes_no_more_than_its_check(job: Job, calls: Counter[str], is_there: bool) -> None:
    """Nothing is hashed or prescanned where no record is there to compare with, be the file empty or absent."""
    if is_there:
        Path(str(job.results)).touch()
    with prepared(job) as ready:
        assert ready.pending == LINES
    assert calls == {"read_request": LINES, "crc32": LINES}


def test_the_cap_of_a_new_job_is_checked_with_its_lines(job: Job, calls: Counter[str]) -> None:
    """They are not parsed a second time for it."""
    with prepared(replace(job, max_cost_usd=Decimal(1), max_line_cost_usd=Decimal("0.01"))) as ready:
        assert ready.pending == LINES
    assert calls["read_request"] + calls["parse_request"] == LINES


def test_a_finished_line_is_hashed_once_and_nothing_else(job: Job, calls: Counter[str], tmp_path: Path) -> None:
    with GatewayThread() as gateway:
        run(replace(job, endpoint=Endpoint(gateway.base_url, KEY)))
    calls.clear()
    with prepared(job) as ready:
        assert ready.pending == 0
    assert calls == {"prescan": LINES, "hash_bodies": LINES}


def test_a_finished_job_whose_log_is_gone_parses_no_line_for_its_worst_case(job: Job, calls: Counter[str]) -> None:
    """Only lines without a record can have been in flight."""
    with GatewayThread() as gateway:
        run(replace(job, endpoint=Endpoint(gateway.base_url, KEY)))
    Path(f"{job.results}.log").unlink()
    calls.clear()
    with prepared(job) as ready:
        assert ready.earlier is not None
        assert ready.earlier.billed_twice.lines == 0
    assert calls == {"prescan": LINES, "hash_bodies": LINES}


def test_verify_checks_nothing_of_a_line_but_its_hash(job: Job, calls: Counter[str]) -> None:
    with GatewayThread() as gateway:
        run(replace(job, endpoint=Endpoint(gateway.base_url, KEY)))
    calls.clear()
    with RequestFile(str(job.requests)) as file:
        assert Verifier(file, Path(str(job.results)), PriceBook.load(job.prices)).run().is_complete
    assert calls == {"prescan": LINES, "hash_bodies": LINES}


def test_lines_behind_finished_ones_keep_their_checksums(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was changed while it was checked: nothing is sent that was not checked."""
    monkeypatch.setattr(batches, "STRIDE", 8)
    with GatewayThread() as gateway:
        run(replace(job, endpoint=Endpoint(gateway.base_url, KEY), limit=20))
    path = Path(str(job.requests))
    with prepared(job) as ready:
        path.write_bytes(path.read_bytes().replace(b"question 30", b"question 3o"))
        lines = ready.requests.requests(ready.done)
        with pytest.raises(StopError, match=":30 changed"):
            list(lines)


def test_an_estimate_of_a_new_job_hashes_no_body(job: Job, calls: Counter[str]) -> None:
    """There is no record to compare with, and a hash takes a third of the time."""
    with RequestFile(job.requests) as file:
        assert estimate_file(file, (), PriceBook.load(job.prices), Allowed()).lines_left == LINES
    assert calls == {"read_request": LINES, "crc32": LINES}


def test_a_short_command_is_not_interrupted_to_collect_what_it_still_needs() -> None:
    """Python would collect again and again while a job of one line is set up, and that takes time."""
    code = (
        "import gc\nfrom batchrun.cli.main import main\nstarts = []\n"
        "gc.callbacks.append(lambda phase, info: starts.append(phase) if phase == 'start' else None)\n"
        "try:\n    main()\nexcept SystemExit:\n    print(len(starts))\n"
    )
    command = [sys.executable, "-c", code, "run", "--simulate", "/dev/stdin", "-o", "-", "-q"]
    line = b'{"custom_id":"a","body":{"model":"m","input":"x"}}\n'
    done = subprocess.run(command, input=line, capture_output=True, check=True)
    assert int(done.stdout.split()[-1]) < 20


def test_a_finished_job_that_is_run_again_loads_no_http_client(job: Job) -> None:
    with GatewayThread() as gateway:
        run(replace(job, endpoint=Endpoint(gateway.base_url, KEY)))
    code = "import sys\nfrom batchrun.cli.main import main\ntry: main()\nfinally: print('aiohttp' in sys.modules)"
    url = "http://127.0.0.1:9"
    command = [sys.executable, "-c", code, "run", str(job.requests), "-o", str(job.results), "--base-url", url]
    done = subprocess.run(command, env={"OPENAI_API_KEY": KEY}, capture_output=True, check=True, text=True)
    assert done.stdout.split()[-1] == "False"
