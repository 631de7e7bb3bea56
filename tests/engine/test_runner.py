"""Whole jobs against scripted gateways on real loopback sockets; where time matters it is virtual."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import signal
from collections import Counter
from collections.abc import Callable, Container, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchrun.billing.bounds import Bounds
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.engine.done import RunFacts
from batchrun.engine.observer import Status
from batchrun.engine.retry import RetryPolicy
from batchrun.engine.runner import Runner
from batchrun.engine.source import FileSource
from batchrun.engine.spending import Spending
from batchrun.engine.work import Rules, Work
from batchrun.errors import DiskError
from batchrun.job.job import Job
from batchrun.job.prepare import prepare
from batchrun.job.run import Run
from batchrun.job.summary import Summary
from batchrun.limits.circuit_breaker import CircuitBreaker
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Limits
from batchrun.records.outcome import Failure, Reply
from batchrun.records.request import RequestLine, parse_request
from batchrun.report.report import Report, make_report
from batchrun.results.last_run import read_controls
from batchrun.results.paths import ResultPaths
from batchrun.results.scan import read_results
from batchrun.simulator.app import Gateway
from batchrun.simulator.options import GatewayOptions
from batchrun.transport.deadlines import Timeouts
from batchrun.transport.endpoint import Endpoint
from tests import hostile
from tests.asking import in_virtual_time, until
from tests.hostile import BODY, KEY, Asked, Hostile, http
from tests.support import MODEL, Json, MemoryStore, read_records, write_prices, write_requests

QUICK = RetryPolicy(max_attempts=6, first_wait_s=0.001, max_wait_s=0.002)
ONCE = RetryPolicy(max_attempts=1)


class Told:
    """An observer that remembers, and counts what the run holds at its busiest."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.details: list[str] = []
        self.most_tasks = 0

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def detail(self, text: str) -> None:
        self.details.append(text)

    def tick(self, status: Status) -> None:
        self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))


@dataclass
class Ran:
    """What came of a run."""

    exit_code: int
    why: str
    report: Report
    records: list[Json]
    told: Told
    took_s: float
    enough_usd: Decimal | None

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(record["run"]["outcome"] for record in self.records)

    def record(self, number: int) -> Json:
        return next(record for record in self.records if record["custom_id"] == f"r-{number}")


@dataclass
class Desk:
    """A request file, and runs of it."""

    folder: Path
    requests: Path = field(init=False)

    def __post_init__(self) -> None:
        self.requests = self.folder / "requests.jsonl"
        self.results = self.folder / "results.jsonl"
        self.prices = write_prices(self.folder)

    def lines(self, count: int, **fields: Any) -> Desk:
        write_requests(self.requests, count, **fields)
        return self

    def bodies(self, *bodies: Json) -> Desk:
        lines = [{"custom_id": f"r-{number}", "body": body} for number, body in enumerate(bodies, 1)]
        self.requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return self

    def job(self, base_url: str, concurrency: int = 8, **options: Any) -> Job:
        limits = options.pop("limits", Limits(concurrency))
        job = Job(str(self.requests), self.results, Endpoint(base_url, KEY), limits=limits, prices=self.prices)
        return replace(job, **{"retry": QUICK, "timeouts": Timeouts(30, 5, 30), **options})

    async def run(
        self,
        base_url: str,
        concurrency: int = 8,
        meanwhile: Callable[[Run], Coroutine[Any, Any, None]] | None = None,
        **options: Any,
    ) -> Ran:
        """Run the job; `meanwhile` is played beside it. No exception may get lost."""
        loop, lost = asyncio.get_running_loop(), list[Json]()
        loop.set_exception_handler(lambda _, context: lost.append(context))
        told, started = Told(), loop.time()
        with contextlib.ExitStack() as files:
            prepared = prepare(self.job(base_url, concurrency, **options), told, files)
            run = Run(prepared, told)
            beside = asyncio.create_task(meanwhile(run)) if meanwhile else None
            summary = Summary(prepared, await run.send())
            if beside is not None:
                beside.cancel()
                await asyncio.gather(beside, return_exceptions=True)
            if run._runner is not None:
                assert run._runner.limiter.in_flight == 0
                assert not run._runner._workers
            why = summary.stopped.why if summary.stopped else ""
            took_s = loop.time() - started
            records = read_records(self.results)
            ran = Ran(summary.exit_code, why, summary.report(), records, told, took_s, summary.enough_usd)
        gc.collect()
        assert lost == []
        self.check_report(ran.report)
        return ran

    def check_report(self, report: Report) -> None:
        """The report is what the files say."""
        tally = Tally(PriceBook.load(self.prices))
        for head in read_results(self.results) if self.results.exists() else ():
            assert head is not None
            tally.add([head])
        tally.add_controls(read_controls(ResultPaths.of(self.results).log))
        from_file = make_report(tally, report.lines.pending)
        names = ("lines", "usage", "cost", "models", "attempts", "retries", "throttles", "errors", "latency_s")
        for name in names:
            assert getattr(report, name) == getattr(from_file, name)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def error(status: int, code: str | None, message: str = "no", kind: str = "x", **headers: str) -> bytes:
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return http(json.dumps(body).encode(), status, **headers)


BUSY = error(503, "server_error", "The server is overloaded")
BROKEN = error(500, "server_error", "The server had an error")


def by(choose: Callable[[Json], bytes | hostile.Say], takes_s: float = 0.0) -> hostile.Say:
    """An answer that depends on the body; a good one takes `takes_s` seconds."""

    async def say(writer: asyncio.StreamWriter, asked: Asked) -> None:
        answer = choose(json.loads(asked.body))
        if not isinstance(answer, bytes):
            await answer(writer, asked)
            return
        if answer == GOOD and takes_s:
            await asyncio.sleep(takes_s)
        writer.write(answer)

    return say


GOOD = http()


# ---------------------------------------------------------------------------- one line, many faults


@pytest.mark.parametrize(
    ("script", "attempts", "throttles"),
    [
        ("ok", 1, 0),
        ("429", 2, 1),
        ("429 429", 3, 2),
        ("slow", 2, 1),
        ("reset", 2, 0),
        ("cut", 2, 0),
        ("cutchunk", 2, 0),
        ("stall", 2, 0),
        ("hang", 2, 0),
        ("empty", 2, 0),
        ("array", 2, 0),
        ("error200", 2, 0),
        ("failed", 2, 0),
        ("locked", 2, 0),
        ("overloaded", 2, 0),
        ("500 503 524", 4, 0),
        ("429 reset 429 503 cut 429", 7, 3),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_line_comes_through(desk: Desk, script: str, attempts: int, throttles: int, stream: bool) -> None:
    async def run() -> None:
        async with Gateway(GatewayOptions(script=script)) as gateway:
            ran = await desk.lines(1, stream=stream).run(gateway.base_url)
            assert (ran.exit_code, len(ran.records)) == (0, 1)
            sends = ran.records[0]["run"]
            assert (sends["attempts"], sends.get("throttles", 0)) == (attempts, throttles)
            assert (ran.report.attempts, ran.report.throttles) == (attempts, throttles)
            assert gateway.ledger.requests == attempts

    in_virtual_time(run)


@pytest.mark.parametrize("word", ["nan", "latin1"])
async def test_a_plain_line_comes_through(desk: Desk, word: str) -> None:
    async with Gateway(GatewayOptions(script=word)) as gateway:
        ran = await desk.lines(1).run(gateway.base_url)
        assert (ran.exit_code, ran.report.attempts) == (0, 2)


@pytest.mark.parametrize("word", ["eof", "errorevent", "nestederror", "pingonly"])
def test_a_streamed_line_comes_through(desk: Desk, word: str) -> None:
    async def run() -> None:
        async with Gateway(GatewayOptions(script=word, latency_median_s=2)) as gateway:
            ran = await desk.lines(1, stream=True).run(gateway.base_url)
        assert ran.exit_code == 0
        sends = ran.records[0]["run"]
        assert sends["attempts"] == 2
        assert 0 < sends["first_event_s"] <= sends["first_text_s"] <= sends["latency_s"]

    in_virtual_time(run)


async def test_attempts_are_used_up_at_last(desk: Desk) -> None:
    async with Gateway(GatewayOptions(script="500*; ok!")) as gateway:
        ran = await desk.lines(3).run(gateway.base_url, retry=replace(QUICK, max_attempts=4))
    failed = ran.record(1)
    assert (ran.exit_code, ran.outcomes["succeeded"]) == (1, 2)
    assert (failed["run"]["attempts"], failed["run"]["retryable"]) == (4, True)
    assert (failed["response"]["status_code"], failed["error"]["code"]) == (500, "server_error")


@pytest.mark.parametrize("word", ["context", "nomodel", "convert", "toolarge", "redirect", "queued"])
async def test_a_line_that_cannot_work_is_sent_once(desk: Desk, word: str) -> None:
    async with Gateway(GatewayOptions(script=f"ok; {word}*!")) as gateway:
        ran = await desk.lines(2).run(gateway.base_url, concurrency=1)
    failed = ran.record(2)["run"]
    assert (ran.exit_code, failed["attempts"], failed.get("retryable", False)) == (1, 1, False)


async def test_kinds_of_answers_are_counted_apart(desk: Desk) -> None:
    async with Gateway(GatewayOptions(script="incomplete; filtered; refusal; ok")) as gateway:
        ran = await desk.lines(4).run(gateway.base_url, concurrency=1)
        lines = ran.report.lines
        assert (lines.succeeded, lines.refused, lines.incomplete, lines.failed) == (2, 1, 2, 2)
        assert ran.report.errors == {"incomplete_max_output_tokens": 1, "incomplete_content_filter": 1}
        billed = gateway.ledger.billed_usage()
        assert ran.report.usage.total_tokens == billed.total_tokens


@pytest.mark.smoke
async def test_streams_and_plain_lines_mix(desk: Desk) -> None:
    async with Gateway(GatewayOptions(latency_median_s=0.02)) as gateway:
        bodies = [{"model": MODEL, "input": f"q{number}", "stream": bool(number % 2)} for number in range(40)]
        ran = await desk.bodies(*bodies).run(gateway.base_url)
    assert ran.exit_code == 0
    assert sum("first_event_s" in record["run"] for record in ran.records) == 20


# ------------------------------------------------------------------------- keys, quotas, addresses

STOPS: dict[str, bytes] = {
    "401": error(401, "invalid_api_key", f"Incorrect API key provided: {KEY}"),
    "402": error(402, None, "Payment required"),
    "403 quota": error(403, "insufficient_user_quota", "用户额度不足", X_Oneapi_Request_Id="1"),
    "403 spent": error(403, "pre_consume_token_quota_failed", "token remain quota: $0.1", X_Oneapi_Request_Id="1"),
    "429 quota": error(429, "insufficient_quota", "You exceeded your current quota", "insufficient_quota"),
    "relay token": error(401, "", "该令牌额度已用尽", "new_api_error", X_Oneapi_Request_Id="1"),
    "200 quota": error(200, "insufficient_quota"),
    "stream quota": hostile.sse(hostile.event("error", code="insufficient_quota", message="no quota")),
}


@pytest.mark.parametrize("good_ones", [0, 1, 20])
@pytest.mark.parametrize("case", STOPS)
async def test_a_key_or_quota_gone_stops_the_job_and_burns_no_line(desk: Desk, case: str, good_ones: int) -> None:
    desk.lines(50)
    async with Hostile(*[GOOD] * good_ones, STOPS[case]) as server:
        ran = await desk.run(server.base_url, concurrency=8)
        assert ran.exit_code == 3
        assert len(server.asked) <= good_ones + 8
        assert ran.outcomes == Counter(succeeded=good_ones)
        assert ran.report.lines.pending == 50 - good_ones
        assert KEY not in ran.why
    async with Hostile(GOOD) as server:
        ran = await desk.run(server.base_url)
        assert (ran.exit_code, len(ran.records), len(server.asked)) == (0, 50, 50 - good_ones)


SPURIOUS = [STOPS["401"], STOPS["403 spent"], error(402, "", "Payment Required"), error(403, "access_denied", "no")]


@pytest.mark.parametrize("refusal", SPURIOUS, ids=["key", "quota", "payment", "access"])
async def test_what_stops_a_job_must_be_said_twice_once_a_line_has_succeeded(desk: Desk, refusal: bytes) -> None:
    desk.lines(60)
    one_in_twenty = [*[GOOD] * 19, refusal]
    async with Hostile(*one_in_twenty * 3, GOOD) as server:
        ran = await desk.run(server.base_url, concurrency=2)
        assert (ran.exit_code, ran.outcomes, len(server.asked)) == (0, Counter(succeeded=60), 63)


async def test_a_key_that_dies_before_the_last_line_stops_the_job(desk: Desk) -> None:
    desk.lines(10)
    async with Hostile(*[GOOD] * 9, STOPS["401"]) as server:
        ran = await desk.run(server.base_url, concurrency=1)
        assert (ran.exit_code, ran.outcomes, len(server.asked)) == (3, Counter(succeeded=9), 11)
        assert "check your API key" in ran.why


async def test_what_is_in_flight_when_the_job_stops_is_recorded(desk: Desk) -> None:
    desk.lines(20)
    slow = by(lambda _: GOOD, takes_s=0.2)
    async with Hostile(slow, slow, slow, STOPS["401"]) as server:
        ran = await desk.run(server.base_url, concurrency=4)
        assert (ran.exit_code, len(server.asked), ran.outcomes) == (3, 4, Counter(succeeded=3))
    assert any("finishing 3 in flight" in notice for notice in ran.told.notices)


PAGE = http(b"<html><title>New API</title></html>", 200, "text/html")
NGINX = http(b"<html><title>404 Not Found</title></html>", 404, "text/html")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (PAGE, "New API"),
        (NGINX, "404"),
        (http(b"<html><title>The plain HTTP request was sent to HTTPS port</title></html>", 400, "text/html"), "HTTPS"),
        (error(404, "", "Invalid URL (POST /v1/responses)", "invalid_request_error"), "Invalid URL"),
        (http(b"", 405), "405"),
    ],
)
async def test_a_wrong_address_says_what_it_got(desk: Desk, answer: bytes, says: str) -> None:
    async with Hostile(answer) as server:
        ran = await desk.lines(100).run(server.base_url)
        assert (ran.exit_code, ran.records) == (3, [])
        assert len(server.asked) <= 8
        assert f"{server.base_url}/responses answered" in ran.why
        assert says in ran.why
        assert "--base-url" in ran.why


async def test_a_page_in_between_is_no_wrong_address(desk: Desk) -> None:
    async with Hostile(GOOD, PAGE, GOOD) as server:
        ran = await desk.lines(20).run(server.base_url, concurrency=1)
    assert (ran.exit_code, ran.report.attempts) == (0, 21)


# ------------------------------------------------------------------------------------------ outages


class Outage:
    """A gateway that answers in 1 s, and is gone from `start` on for `length` seconds of virtual time."""

    def __init__(self, how: str, start: float, length: float) -> None:
        self.how, self.start, self.end = how, start, start + length
        self.arrivals: list[float] = []
        self.answers: list[float] = []
        self.server = Hostile(self._say)

    def now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def __aenter__(self) -> Outage:
        self._began = asyncio.get_running_loop().time()
        await self.server.__aenter__()
        self._closing = asyncio.create_task(self._close_door()) if self.how == "refused" else None
        return self

    async def __aexit__(self, *what: Any) -> None:
        if self._closing is not None:
            self._closing.cancel()
            await asyncio.gather(self._closing, return_exceptions=True)
        await self.server.__aexit__(*what)

    async def _close_door(self) -> None:
        await asyncio.sleep(self.start)
        await self.server.vanish()
        await asyncio.sleep(self.end - self.start)
        await self.server.listen()

    async def _say(self, writer: asyncio.StreamWriter, asked: Asked) -> None:
        self.arrivals.append(self.now())
        gone = self.start <= self.now() < self.end
        if gone and self.how == "reset":
            await hostile.reset(writer, asked)
        elif gone:
            writer.write(BUSY if self.how == "503" else PAGE)
        else:
            await asyncio.sleep(1)
            writer.write(GOOD)
            self.answers.append(self.now())

    def busy_from(self, since: float, count: int) -> float:
        """When so many requests had been answered after `since`."""
        return sorted(answer for answer in self.answers if answer > since)[count - 1]


@pytest.mark.parametrize("length", [15, 600])
@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("how", ["503", "refused", "reset"])
@pytest.mark.smoke
def test_an_outage_costs_no_line_and_few_requests(desk: Desk, how: str, start: float, length: float) -> None:
    """One attempt a line is allowed, so that a single one used up would show as a failed line."""

    async def run() -> None:
        async with Outage(how, start, length) as gateway:
            limits = Limits(16, max_outage_s=1800)
            ran = await desk.lines(300).run(gateway.server.base_url, limits=limits, retry=ONCE)
        assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=300))
        probes = 12 + length / CircuitBreaker.MAX_PROBE_S
        to_open = 6  # failures in a row, when one in ten may fail by chance
        assert ran.report.attempts - 300 <= 16 + to_open + probes
        if how != "refused":
            assert sum(gateway.start <= time < gateway.end for time in gateway.arrivals) <= 16 + to_open + probes
        # Full pace is 16 a second: 30 s after the outage all slots have long been at work.
        assert gateway.busy_from(gateway.end, 16 + 1) <= gateway.end + 30
        said = "no answer yet" if (how, start) == ("refused", 0) else "the gateway is gone"
        assert sum(said in notice for notice in ran.told.notices) == 1
        assert sum("the gateway is back" in notice for notice in ran.told.notices) == 1

    in_virtual_time(run)


@pytest.mark.parametrize("how", ["503", "refused"])
def test_an_outage_past_its_limit_ends_the_run_resumable(desk: Desk, how: str) -> None:
    async def run() -> None:
        limits = Limits(8, max_outage_s=120)
        async with Outage(how, 3, 1e6) as gateway:
            ran = await desk.lines(100).run(gateway.server.base_url, limits=limits, retry=ONCE)
        assert (ran.exit_code, set(ran.outcomes)) == (3, {"succeeded"})
        assert ran.took_s == pytest.approx(3 + 120, abs=4)
        assert "no answer from the gateway for 120 s" in ran.why
        done = len(ran.records)
        assert ran.report.lines.pending == 100 - done > 0
        async with Hostile(GOOD) as server:
            ran = await desk.run(server.base_url)
            assert (ran.exit_code, len(server.asked)) == (0, 100 - done)

    in_virtual_time(run)


def test_an_interrupt_in_an_outage_ends_the_run_at_once(desk: Desk) -> None:
    async def interrupt(run: Run) -> None:
        await asyncio.sleep(300)
        run.interrupt(signal.SIGTERM)

    async def run() -> None:
        async with Outage("503", 3, 1e6) as gateway:
            ran = await desk.lines(100).run(gateway.server.base_url, meanwhile=interrupt)
        assert (ran.exit_code, set(ran.outcomes)) == (143, {"succeeded"})
        assert ran.took_s == pytest.approx(300, abs=2)

    in_virtual_time(run)


def test_one_in_five_503_costs_few_attempts(desk: Desk) -> None:
    async def run() -> None:
        options = GatewayOptions(fault_rate=0.2, fault_words=("503",), latency_median_s=0.5, latency_p99_s=3)
        async with Gateway(options) as gateway:
            ran = await desk.lines(800).run(gateway.base_url, concurrency=32, retry=RetryPolicy())
            assert (ran.exit_code, len(ran.records)) == (0, 800)
            assert gateway.ledger.requests <= 1.3 * 800
            assert gateway.ledger.peak_in_flight <= 32
            assert ran.took_s < 120, "800 lines at 32 in 0.5 s are 13 s of work"

    in_virtual_time(run)


# ----------------------------------------------------------------------------------- poisonous lines


def poisoned(is_bad: Callable[[Json], bool], takes_s: float = 0.5) -> hostile.Say:
    return by(lambda body: BROKEN if is_bad(body) else GOOD, takes_s)


@pytest.mark.parametrize("where", ["first", "spread", "last"])
@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_poisonous_lines_fail_alone(desk: Desk, where: str, count: int) -> None:
    """Lines that the gateway answers with 500 for ever, among good ones; `last` ones have none after them."""
    bad = {
        "first": range(1, count + 1),
        "spread": range(5, 5 + 19 * count, 19),
        "last": range(200 - 3 * count, 200, 3),
    }[where]

    async def run() -> None:
        say = poisoned(lambda body: int(body["input"].split()[1]) in bad)
        async with Hostile(say) as server:
            ran = await desk.lines(200).run(server.base_url, retry=replace(QUICK, max_attempts=4))
        assert (ran.exit_code, ran.outcomes) == (1, Counter(succeeded=200 - count, failed=count))
        for number in bad:
            assert ran.record(number)["error"]["code"] == "server_error"
        # Ten at the very start, with nothing answered before, look like an outage until a probe meets a good line.
        assert ran.took_s < (200 if where == "first" else 120)
        assert len(server.asked) <= 200 + count * 12

    in_virtual_time(run)


@pytest.mark.parametrize("where", ["spread", "last"])
def test_a_model_that_is_dead_stays_undone_alone(desk: Desk, where: str) -> None:
    models = ["good"] * 100 + ["bad"] * 50 if where == "last" else ["good", "bad", "good"] * 50

    async def run() -> None:
        async with Hostile(poisoned(lambda body: body["model"] == "bad")) as server:
            bodies = [{"model": model, "input": f"q {number}"} for number, model in enumerate(models)]
            ran = await desk.bodies(*bodies).run(server.base_url, retry=replace(QUICK, max_attempts=3))
        assert (ran.exit_code, ran.outcomes) == (3, Counter(succeeded=100))
        assert ran.took_s == pytest.approx(1800, abs=120)

    in_virtual_time(run)


# ---------------------------------------------------------------------------------- slots and memory


def test_a_line_in_its_backoff_holds_no_slot(desk: Desk) -> None:
    async def run() -> None:
        waiting = error(500, "server_error", Retry_After="40")
        seen: set[str] = set()

        def choose(body: Json) -> bytes:
            first = body["input"] not in seen
            seen.add(body["input"])
            return waiting if body["input"] == "question 2" and first else GOOD

        async with Hostile(by(choose, takes_s=1)) as server:
            ran = await desk.lines(30).run(server.base_url, concurrency=1, retry=RetryPolicy())
        assert ran.exit_code == 0
        assert ran.records[-1]["custom_id"] == "r-2"
        assert ran.took_s == pytest.approx(42, abs=3)
        assert server.peak_in_flight == 1

    in_virtual_time(run)


@pytest.mark.parametrize("concurrency", [1, 7, 40])
def test_no_more_in_flight_than_allowed_whatever_happens(desk: Desk, concurrency: int) -> None:
    words = ("429", "500", "reset", "eof", "cut", "empty")

    async def run() -> None:
        async with Gateway(GatewayOptions(fault_rate=0.3, fault_words=words, latency_median_s=1)) as gateway:
            ran = await desk.lines(150).run(gateway.base_url, concurrency=concurrency)
            assert ran.report.lines.pending == 0
            assert concurrency / 2 < gateway.ledger.peak_in_flight <= concurrency

    in_virtual_time(run)


class Canned:
    """A transport without a network."""

    def __init__(self, outcome: Callable[[RequestLine], Reply | Failure]) -> None:
        self._outcome = outcome
        self.in_flight = self.most_in_flight = 0

    async def send(self, line: RequestLine) -> Reply | Failure:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        return self._outcome(line)


class Kept(MemoryStore):
    """Counts its records; the `fails_at`-th meets a full disk."""

    def __init__(self, fails_at: int = 0) -> None:
        super().__init__()
        self.count = 0
        self._fails_at = fails_at

    def append(self, records: Sequence[bytes]) -> None:
        for written, _ in enumerate(records):
            self.count += 1
            if self._fails_at and self.count >= self._fails_at:
                error = DiskError("no space left on device")
                error.written = written
                raise error


def make_runner(
    lines: Callable[[], Iterator[RequestLine]],
    transport: Canned,
    store: Kept,
    limits: Limits,
    retry: RetryPolicy = QUICK,
) -> Runner:
    def read(without: Container[int], start: int) -> Iterator[RequestLine]:
        return (line for line in lines() if line.line_number >= start and line.line_number not in without)

    facts = RunFacts("2026-01-01T00:00:00.000Z", 100_000, "gateway.example")
    work = Work(FileSource(lines(), read), store, Tally(PriceBook()), facts)
    rules = Rules(limits, retry, Spending(Bounds(PriceBook())), grace_s=1)
    return Runner(work, rules, transport, Told())


ANSWER = Reply(200, BODY, None, "succeeded", MODEL, None)


@pytest.mark.parametrize("fails", ["nothing", "some", "all"])
async def test_a_long_file_is_neither_read_ahead_nor_made_tasks_of(fails: str) -> None:
    """Lines that wait are kept as numbers where there are many; where all fail, no more are read."""
    concurrency, most_read = 16, 0
    whole = parse_request(b'{"model":"m","input":"x"}', 1)

    def lines() -> Iterator[RequestLine]:
        nonlocal most_read
        for number in range(1, 100_001):
            most_read = max(most_read, number)
            yield RequestLine(number, f"r-{number}", *(getattr(whole, name) for name in whole.__struct_fields__[2:]))

    def outcome(line: RequestLine) -> Reply | Failure:
        if fails == "all" or (fails == "some" and line.line_number % 3 == 0):
            return Failure("server_error", "later", 500)
        return ANSWER

    sink = Kept()
    runner = make_runner(lines, Canned(outcome), sink, Limits(concurrency), retry=RetryPolicy(3, 0.001, 0.01))
    running = asyncio.create_task(runner.run())
    most_tasks = most_held = 0
    room, turns = runner._dispatcher.room, 0
    while sink.count < 1_500 and turns < 3_000 and not running.done():
        await asyncio.sleep(0)
        turns += fails == "all"
        most_tasks = max(most_tasks, len(asyncio.all_tasks()))
        most_held = max(most_held, room.size)
    runner.stop("enough", 3)
    await running
    assert most_held <= 2 * concurrency + 16 + concurrency
    assert most_tasks <= concurrency + 5
    assert most_read < (200 if fails == "all" else 100_000)


# -------------------------------------------------------------------------------------------- pace


def busiest_minute(times: list[float], amounts: list[float]) -> float:
    return max(sum(a for t, a in zip(times, amounts, strict=True) if start <= t < start + 60) for start in times)


def test_requests_a_minute_keep_clear_of_the_gateways_own_limit(desk: Desk) -> None:
    async def run() -> None:
        async with Gateway(GatewayOptions(rpm=120, latency_median_s=1)) as gateway:
            limits = Limits(16, requests_per_minute=120)
            ran = await desk.lines(240).run(gateway.base_url, limits=limits)
            times = [row.arrived_s for row in gateway.ledger.rows]
        assert (ran.exit_code, ran.report.throttles) == (0, 0)
        assert busiest_minute(times, [1.0] * len(times)) <= 121
        assert ran.took_s == pytest.approx(120, rel=0.03)

    in_virtual_time(run)


def test_tokens_a_minute_are_paced_by_what_was_used(desk: Desk) -> None:
    async def run() -> None:
        async with Gateway(GatewayOptions(latency_median_s=0.2)) as gateway:
            limits = Limits(16, tokens_per_minute=3_000)
            ran = await desk.lines(150).run(gateway.base_url, limits=limits)
            rows = gateway.ledger.rows
            used = [float(row.billed.total_tokens) for row in rows if row.billed is not None]
        assert ran.exit_code == 0
        assert busiest_minute([row.arrived_s for row in rows], used) <= 3_000 + 200
        assert ran.took_s <= 1.5 * 60 * sum(used) / 3_000 + 2

    in_virtual_time(run)


def test_throttles_slow_the_job_down_and_cost_no_line(desk: Desk) -> None:
    async def run() -> None:
        async with Gateway(GatewayOptions(capacity=5, latency_median_s=1)) as gateway:
            ran = await desk.lines(150).run(gateway.base_url, concurrency=32, retry=ONCE)
            assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=150))
            assert 0 < ran.report.throttles < 150
            assert ran.report.attempts == 150 + ran.report.throttles

    in_virtual_time(run)


def test_a_long_retry_after_that_is_meant_is_waited_out_once(desk: Desk) -> None:
    """The gateway is shut for 89 s: beside what is in flight by then, one request may ask whether that is so."""
    asked: list[float] = []

    def choose(body: Json) -> bytes:
        asked.append(now := asyncio.get_running_loop().time())
        shut_at = asked[6] if len(asked) > 6 else math.inf
        if not shut_at <= now < shut_at + 89:
            return GOOD
        return error(429, "rate_limit_exceeded", **{"Retry-After": str(math.ceil(shut_at + 89 - now))})

    async def run() -> None:
        async with Hostile(by(choose, takes_s=1)) as server:
            ran = await desk.lines(60).run(server.base_url, concurrency=6)
        assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=60))
        assert ran.took_s == pytest.approx(89 + 60 / 6 + 2, abs=5)

    in_virtual_time(run)
    assert sum(asked[6] + 1 < at < asked[6] + 89 for at in asked) <= 1


def test_a_long_retry_after_that_answers_contradict_is_tried_at_once(desk: Desk) -> None:
    async def run() -> None:
        async with Gateway(GatewayOptions(script="ok; 429@89; ok!", latency_median_s=1)) as gateway:
            ran = await desk.lines(60).run(gateway.base_url, concurrency=6)
        assert (ran.exit_code, ran.report.throttles) == (0, 1)
        assert ran.took_s <= 60 / 6 + 10

    in_virtual_time(run)


# ----------------------------------------------------------------------------------------- stopping


@pytest.mark.smoke
def test_an_interrupt_drains_what_is_in_flight(desk: Desk) -> None:
    async def interrupt(run: Run) -> None:
        await asyncio.sleep(2.5)
        run.interrupt(signal.SIGINT)

    async def run() -> None:
        async with Hostile(by(lambda _: GOOD, takes_s=1)) as server:
            ran = await desk.lines(100).run(server.base_url, concurrency=10, meanwhile=interrupt)
            assert (ran.exit_code, len(server.asked)) == (130, 30)
        assert ran.outcomes == Counter(succeeded=30)
        assert ran.took_s == pytest.approx(3, abs=0.6)
        assert any("SIGINT" in notice and "10 in flight" in notice for notice in ran.told.notices)

    in_virtual_time(run)


@pytest.mark.parametrize("second_s", [None, 6.0])
def test_what_hangs_is_given_up_after_the_grace_time_or_a_second_signal(desk: Desk, second_s: float | None) -> None:
    async def interrupt(run: Run) -> None:
        await asyncio.sleep(5)
        run.interrupt(signal.SIGINT)
        if second_s is not None:
            await asyncio.sleep(second_s)
            run.interrupt(signal.SIGINT)

    async def run() -> None:
        say = by(lambda body: hostile.silence if body["input"] == "question 3" else GOOD, takes_s=1)
        async with Hostile(say) as server:
            ran = await desk.lines(1000).run(
                server.base_url, meanwhile=interrupt, grace_s=20, timeouts=Timeouts(600, 5, 600)
            )
        assert ran.exit_code == 130
        assert ran.took_s == pytest.approx(5 + (second_s or 20), abs=0.6)
        assert all(record["custom_id"] != "r-3" for record in ran.records)

    in_virtual_time(run)


def test_an_interrupt_does_not_wait_for_a_backoff_or_a_cooldown(desk: Desk) -> None:
    async def interrupt(run: Run) -> None:
        await asyncio.sleep(5)
        run.interrupt(signal.SIGINT)

    async def run() -> None:
        for answer in (error(500, "server_error", Retry_After="200"), error(429, "slow_down", Retry_After="200")):
            async with Hostile(GOOD, answer) as server:
                ran = await desk.lines(2).run(server.base_url, concurrency=1, meanwhile=interrupt, retry=RetryPolicy())
            assert (ran.exit_code, len(ran.records)) == (130, 1)
            assert ran.took_s == pytest.approx(5, abs=1)
            desk.results.unlink()

    in_virtual_time(run)


async def test_a_disk_that_is_full_ends_the_run_with_nothing_more_sent() -> None:
    sent: list[int] = []

    def outcome(line: RequestLine) -> Reply:
        sent.append(line.line_number)
        return ANSWER

    lines = [parse_request(b'{"model":"m","input":"%d"}' % number, number) for number in range(1, 1001)]
    transport, sink = Canned(outcome), Kept(fails_at=50)
    runner = make_runner(lambda: iter(lines), transport, sink, Limits(8))
    await runner.run()
    assert runner.stopped is not None
    assert (runner.stopped.exit_code, runner.stopped.why) == (3, "no space left on device")
    assert runner.recorded == 49
    assert len(sent) <= 50 + 8
    assert (runner.limiter.in_flight, transport.in_flight) == (0, 0)


def test_the_tail_of_the_run_is_said_at_the_tail_alone() -> None:
    """600 a minute; the last answers take five seconds."""

    class Slow(Canned):
        async def send(self, line: RequestLine) -> Reply | Failure:
            await asyncio.sleep(0.2 if line.line_number <= 590 else 5)
            return await super().send(line)

    async def run() -> None:
        said: list[tuple[int, LimitedBy]] = []
        taken = 0

        def lines() -> Iterator[RequestLine]:
            nonlocal taken
            for taken in range(1, 601):
                yield parse_request(b'{"model":"m","input":"%d"}' % taken, taken)

        async def sample() -> None:
            while True:
                await asyncio.sleep(0.25)
                said.append((taken, runner.limiter.limited_by))

        limits = Limits(64, requests_per_minute=600)
        runner = make_runner(lines, Slow(lambda _: ANSWER), Kept(), limits)
        sampling = asyncio.create_task(sample())
        await runner.run()
        sampling.cancel()
        assert {limited_by for number, limited_by in said if number < 600} == {LimitedBy.OWN_REQUESTS}
        assert [limited_by for _, limited_by in said[-16:]] == [LimitedBy.TAIL] * 16

    in_virtual_time(run)


def of_the_runner(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """The tasks begun since then whose code lies in the engine's folder."""
    new = asyncio.all_tasks() - before
    return {task for task in new if Path(task.get_coro().cr_code.co_filename).parent.name == "engine"}  # type: ignore[union-attr]


@pytest.mark.smoke
async def test_a_cancelled_run_leaves_nothing_behind(desk: Desk) -> None:
    desk.lines(200)
    async with Gateway(GatewayOptions(latency_median_s=0.02, script="ok; 500 ok; stall; ok!")) as gateway:
        before = asyncio.all_tasks()
        with contextlib.ExitStack() as files:
            run = Run(prepare(desk.job(gateway.base_url, timeouts=Timeouts(30, 5, 30)), Told(), files), Told())
            sending = asyncio.create_task(run.send())
            await until(lambda: desk.results.read_bytes().count(b"\n") >= 5)
            assert of_the_runner(before)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert run._runner is not None
            assert run._runner.limiter.in_flight == 0
        await asyncio.sleep(0.01)  # the gateway's own tasks see that their clients have gone
        assert of_the_runner(before) == set()
    done = len(read_records(desk.results))
    async with Hostile(GOOD) as server:
        ran = await desk.run(server.base_url)
        assert (ran.exit_code, len(ran.records), len(server.asked)) == (0, 200, 200 - done)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_every_line_has_one_record_and_the_bill_is_the_gateways(desk: Desk, seed: int) -> None:
    """Faults that cost nothing, and faults after which the gateway bills an answer that never arrived."""
    words = ("429", "500", "503", "reset", "empty", "eof", "cut", "failed", "errorevent", "incomplete", "refusal")
    options = GatewayOptions(fault_rate=0.3, fault_words=words, seed=seed)
    async with Gateway(options) as gateway:
        ran = await desk.lines(120, stream=bool(seed % 2)).run(gateway.base_url, concurrency=12)
        assert len(ran.records) == 120
        assert ran.report.lines.pending == 0
        assert ran.report.attempts == gateway.ledger.requests
        rows = Counter[str]()
        for row in gateway.ledger.rows:
            arrived = row.outcome not in (("cut", "eof") if row.streamed else ("cut",))
            if row.billed is not None and arrived:
                rows["input"] += row.billed.input_tokens
                rows["output"] += row.billed.output_tokens
        usage = ran.report.usage
        assert (usage.input_tokens, usage.output_tokens) == (rows["input"], rows["output"])
