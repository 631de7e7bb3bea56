"""`--max-cost`: what a line can cost, what is reserved and settled, and that no sum of runs ever passes the cap."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import looptime
import pytest
from click.testing import CliRunner

from batchrun.billing.bounds import Bounds, is_spelt_out
from batchrun.billing.prices import PriceFile
from batchrun.billing.pricing import PriceBook
from batchrun.cli.main import cli
from batchrun.engine.observer import Silent
from batchrun.engine.retry import RetryPolicy
from batchrun.engine.spending import Spending
from batchrun.errors import UsageError
from batchrun.job.job import Job
from batchrun.job.prepare import prepare
from batchrun.job.run import Run
from batchrun.job.summary import Summary
from batchrun.limits.budget import Budget
from batchrun.limits.limiter import Limiter
from batchrun.limits.options import Limits
from batchrun.limits.permit import Permit
from batchrun.records.outcome import Failure, Reply, Timing
from batchrun.records.request import RequestLine, parse_request
from batchrun.records.usage import Usage
from batchrun.simulator.options import GatewayOptions
from batchrun.transport import http as http_module
from batchrun.transport.endpoint import Endpoint
from tests.asking import in_virtual_time
from tests.support import KEY, MODEL, GatewayThread, Json, events, read_records, write_prices, write_requests

# ------------------------------------------------------------------------------------------- the budget


def test_reserved_and_spent_never_pass_the_cap() -> None:
    budget = Budget(Decimal(10), Decimal(4))
    assert budget.fits(Decimal(6))
    assert not budget.fits(Decimal("6.000001"))
    budget.reserve(Decimal(5))
    assert not budget.fits(Decimal(2)), "not now"
    assert not budget.never_fits(Decimal(2)), "but once what is in flight has cost less than it could"
    budget.settle(Decimal(5), Decimal(1))
    assert (budget.spent, budget.reserved, budget.left) == (Decimal(5), Decimal(0), Decimal(5))
    assert budget.never_fits(Decimal("5.1"))


def test_nine_tenths_are_enough() -> None:
    assert not Budget(Decimal(10), Decimal("8.999")).is_used
    assert Budget(Decimal(10), Decimal(9)).is_used


def test_a_cap_that_is_lowered_lets_nothing_more_through() -> None:
    budget = Budget(Decimal(10), Decimal(4))
    budget.cap = Decimal(3)
    assert budget.left == -1
    assert budget.never_fits(Decimal("0.001"))


def test_an_answer_above_its_bound_raises_what_is_reserved_in_flight_too() -> None:
    budget = Budget(Decimal(100))
    for _ in range(4):
        budget.reserve(Decimal(1))
    assert not budget.confirm(Decimal(1), Decimal(1))
    assert budget.confirm(Decimal(1), Decimal("19.5"))
    budget.settle(Decimal(1), Decimal("19.5"))
    assert (budget.margin, budget.reserved, budget.left) == (20, Decimal(60), Decimal("20.5"))
    assert budget.fits(Decimal(1))
    assert not budget.fits(Decimal("1.1"))
    assert budget.never_fits(Decimal("4.1"))
    assert not budget.confirm(Decimal(1), Decimal(20)), "it costs what is reserved for it"
    assert budget.confirm(Decimal(1), Decimal(21))


def test_until_an_answer_has_confirmed_the_bounds_little_is_in_flight() -> None:
    budget = Budget(Decimal(100), caution=20)
    assert budget.fits(Decimal(50)), "one attempt may always be sent"
    for _ in range(5):
        assert budget.fits(Decimal(1))
        budget.reserve(Decimal(1))
    assert not budget.fits(Decimal(1))
    assert not budget.never_fits(Decimal(1))
    budget.confirm(Decimal(1), Decimal("0.5"))
    assert budget.fits(Decimal(95))


# ------------------------------------------------------------------------------------------- the bounds


@pytest.fixture
def book(tmp_path: Path) -> PriceBook:
    return PriceBook(PriceFile.load(write_prices(tmp_path)))  # 2 and 8 USD per million


def request(url: str = "/v1/responses", **fields: Any) -> RequestLine:
    body = {"model": MODEL, "input": "hello", "max_output_tokens": 100} | fields
    body = {name: value for name, value in body.items() if value is not None}
    return parse_request(json.dumps({"custom_id": "r", "url": url, "body": body}).encode(), 7)


def test_a_bound_is_a_token_a_byte_and_the_longest_answer(book: PriceBook) -> None:
    line = request()
    assert Bounds(book).upper(line) == (Decimal(2) * len(line.body) + 8 * 100) / 1_000_000


def test_every_choice_of_a_chat_may_be_as_long(book: PriceBook) -> None:
    line = request("/v1/chat/completions", input=None, messages=[], max_output_tokens=None, max_tokens=100, n=3)
    assert Bounds(book).upper(line) == (Decimal(2) * len(line.body) + 8 * 300) / 1_000_000


@pytest.mark.parametrize("input", [[{"role": "user", "content": "x"}], [{"role": "user", "content": [{"text": "x"}]}]])
def test_a_message_or_a_text_needs_no_type(input: Json, book: PriceBook) -> None:
    line = request(input=input)
    assert Bounds(book).upper(line) == (Decimal(2) * len(line.body) + 8 * 100) / 1_000_000


@pytest.mark.parametrize(
    ("n", "choices"), [(3.0, 3), (None, 1), (1, 1), (0.5, None), ("3", None), (True, None), (0, None)]
)
def test_a_number_of_choices_is_bounded_right_or_refused(n: Any, choices: int | None, book: PriceBook) -> None:
    fields: Json = {"model": MODEL, "messages": [], "max_tokens": 100.0, "n": n}
    line = parse_request(json.dumps({"custom_id": "r", "url": "/v1/chat/completions", "body": fields}).encode(), 7)
    expected = choices and (Decimal(2) * len(line.body) + 8 * 100 * choices) / 1_000_000
    assert Bounds(book).upper(line) == expected


PICTURE = [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}]}]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"max_output_tokens": None}, "no max_output_tokens"),
        ({"input": PICTURE}, "input_image"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tool web_search"),
        ({"service_tier": "priority"}, "service_tier priority"),
        ({"max_output_tokens": 1e30}, "no max_output_tokens"),
        ({"max_output_tokens": 10**30}, "no max_output_tokens"),
        (
            {"input": [{"role": "user", "content": [{"image_url": "https://x/y.png"}]}]},
            "image_url in an item without a type",
        ),
        ({"input": [{"role": "user", "content": "x", "file_id": "f"}]}, "file_id in an item without a type"),
        ({"input": [{"id": "msg_1"}]}, "an item that is only named by its id"),
        ({"input": [{"id": "msg_1", "type": None}]}, "None"),
        ({"input": [{"type": ["input_text"], "text": "x"}]}, "['input_text']"),
    ],
)
def test_what_has_no_bound_has_one_only_by_the_users_word(fields: Json, why: str, book: PriceBook) -> None:
    line = request(**fields)
    assert Bounds(book).upper(line) is None
    assert Bounds(book).why_unbounded(line) == why
    assert Bounds(book, Decimal("0.3")).upper(line) == Decimal("0.3")


def test_an_unpriced_model_has_no_bound_whatever_the_user_says(book: PriceBook) -> None:
    assert Bounds(book, Decimal(1)).upper(request(model="nobody-prices-this")) is None


@pytest.mark.parametrize(
    ("failure", "spelt_out"),
    [
        (Failure("rate_limit_exceeded", "", 429), True),
        (Failure("http_400", "", 400), True),
        (Failure("redirected", "", 307), True),
        (Failure("server_is_overloaded", "", 503), True),
        (Failure("http_500", "", 500, "server_error"), True),
        (Failure("http_502", "", 502), False),
        (Failure("html_page", "", 503), False),
        (Failure("timeout", "", 504, "timeout_error"), False),
        (Failure("http_408", "", 408), False),
        (Failure("invalid_json", "", 200), False),
        (Failure("attempt_timeout", ""), False),
    ],
)
def test_what_failed_for_certain_cost_nothing_and_the_rest_its_most(
    failure: Failure, spelt_out: bool, book: PriceBook
) -> None:
    assert is_spelt_out(failure) is spelt_out
    upper = Decimal("0.5")
    assert Bounds(book).cost(request(), failure, upper) == (0 if spelt_out else upper)


def test_a_request_that_never_left_cost_nothing(book: PriceBook) -> None:
    failure = Failure("connect_failed", "", may_be_billed=False)
    assert Bounds(book).cost(request(), failure, Decimal(1)) == 0


def test_a_usage_tells_what_an_attempt_cost(book: PriceBook) -> None:
    usage = Usage(1000, 0, 500, 0, 1500)
    for outcome in (Reply(200, b"{}", None, "succeeded", MODEL, usage), Failure("x", "", 200, usage=usage)):
        assert Bounds(book).cost(request(), outcome, Decimal(1)) == Decimal("0.006")
    assert Bounds(book).cost(request(), Reply(200, b"{}", None, "succeeded", MODEL, None), Decimal(1)) == 1


def test_a_failure_on_record_is_on_the_bill_and_only_there(book: PriceBook) -> None:
    spending = Spending(Bounds(book), Budget(Decimal(1)))
    failure = Failure("x", "", 200, usage=Usage(1000, 0, 500, 0, 1500))
    assert spending.settled(request(), failure, Decimal("0.1")) == (Decimal("0.006"), Decimal("0.006"))
    assert spending.unbilled_usd == Decimal("0.006")
    assert spending.recorded(request(), failure) == Decimal("0.006")
    assert spending.unbilled_usd == 0


def test_a_usage_of_nothing_counts_as_unmeasured(book: PriceBook) -> None:
    """In the budget as an answer without a usage does: as what was reserved for it."""
    told: list[str] = []
    spending = Spending(Bounds(book), Budget(Decimal(10)), told.append)
    for usage in (None, Usage(0, 0, 0, 0, 0)):
        empty = Reply(200, b"{}", None, "empty", MODEL, usage, "empty_output")
        assert spending.settled(request(), empty, Decimal("0.1")) == (Decimal("0.1"), Decimal("0.1"))
    failure = Failure("response_failed", "", 200, usage=Usage(0, 0, 0, 0, 0))
    assert spending.settled(request(), failure, Decimal("0.1")) == (Decimal("0.1"), Decimal("0.1"))
    assert spending.recorded(request(), failure) == 0
    assert told == []
    reply = Reply(200, b"{}", None, "succeeded", MODEL, Usage(100_000, 0, 0, 0, 100_000))
    assert spending.settled(request(), reply, Decimal("0.1")) == (Decimal("0.2"), Decimal(0))
    assert told == [
        "line 7 cost $0.20, more than the $0.10 that its request bounds; "
        "from now on 2 times its bound is reserved for each line"
    ]
    assert spending.settled(request(), empty, Decimal("0.1")) == (Decimal("0.2"), Decimal("0.2"))


# ----------------------------------------------------------------------------------- waiting for a turn


def usd_limiter(cap: int) -> Limiter:
    clock = asyncio.get_running_loop().time
    return Limiter(Limits(100), clock, lambda why: None, Budget(Decimal(cap)))


async def taken(limiter: Limiter, upper: int) -> Permit:
    permit = await limiter.acquire(0, Decimal(upper))
    assert permit is not None
    return permit


def test_a_turn_waits_until_what_is_in_flight_turns_out_cheaper() -> None:
    async def play() -> None:
        limiter = usd_limiter(10)
        first, second = await taken(limiter, 4), await taken(limiter, 4)
        waits = asyncio.create_task(limiter.acquire(0, Decimal(4)))
        await asyncio.sleep(1)
        assert not waits.done()
        first.cost_usd = Decimal(1)
        limiter.answered(first, None)
        assert await waits is not None
        limiter.abandoned(second)  # nobody knows: it cost its most
        assert limiter.budget is not None
        assert (limiter.budget.spent, limiter.budget.reserved) == (Decimal(5), Decimal(4))

    in_virtual_time(play)


def test_nobody_waits_for_a_turn_that_will_not_come() -> None:
    async def play() -> None:
        limiter = usd_limiter(10)
        permit = await taken(limiter, 9)
        assert await limiter.acquire(0, Decimal(11)) is None
        dear = asyncio.create_task(limiter.acquire(0, Decimal(5)))
        cheap = asyncio.create_task(limiter.acquire(0, Decimal(2)))
        await asyncio.sleep(1)
        permit.cost_usd = Decimal(8)
        limiter.answered(permit, None)
        assert await dear is None
        assert await cheap is not None

    in_virtual_time(play)


def test_what_was_not_sent_costs_nothing() -> None:
    async def play() -> None:
        limiter = usd_limiter(10)
        limiter.unsent(await taken(limiter, 10))
        assert limiter.budget is not None
        assert limiter.budget.left == 10

    in_virtual_time(play)


# -------------------------------------------------------------------------- runs, kills, runs: the promise

INPUT_PRICE, OUTPUT_PRICE = Decimal(2), Decimal(8)


def cost(input_tokens: int, output_tokens: int) -> Decimal:
    return (INPUT_PRICE * input_tokens + OUTPUT_PRICE * output_tokens) / 1_000_000


@dataclass
class Biller:
    """A gateway that bills all it has worked on, whether anybody was there to hear of it or not."""

    rng: random.Random
    fails: float
    billed: Decimal = Decimal(0)
    in_flight: int = 0
    sent: int = 0

    async def __aenter__(self) -> Biller:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def send(self, line: RequestLine) -> Reply | Failure:
        rng = self.rng
        self.sent += 1
        asked = json.loads(line.body)["max_output_tokens"]
        usage = Usage(len(line.body) // rng.randint(2, 6), 0, rng.randint(1, asked), 0, 0)
        what = rng.choice(("503", "429", "refused")) if rng.random() < self.fails / 2 else "ok"
        if what == "ok":
            # Billed as soon as it has come: a client that dies meanwhile has it all on its bill.
            self.billed += cost(usage.input_tokens, usage.output_tokens)
            if rng.random() < self.fails:
                what = rng.choice(("timeout", "cut", "no usage", "failed with usage", "incomplete"))
        await asyncio.sleep(rng.uniform(0.1, 2.0))
        timing = Timing(1.0)
        match what:
            case "503":
                return Failure("server_is_overloaded", "", 503, timing=timing)
            case "429":
                return Failure("rate_limit_exceeded", "", 429, "requests", retry_after_s=0.1, timing=timing)
            case "refused":
                return Failure("connect_failed", "", may_be_billed=False, timing=timing)
            case "timeout":
                return Failure("attempt_timeout", "", timing=timing)
            case "cut":
                return Failure("invalid_json", "", 200, body=b'"x"', timing=timing)
            case "failed with usage":
                return Failure("response_failed", "", 200, body=b"{}", usage=usage, timing=timing)
            case "incomplete":
                return Reply(200, b"{}", None, "incomplete", MODEL, usage, "incomplete_x", "", timing=timing)
        return Reply(200, b"{}", None, "succeeded", MODEL, None if what == "no usage" else usage, timing=timing)


@dataclass
class Life:
    """One result file, and the runs that it takes: some are killed, some leave half a record."""

    folder: Path
    seed: int
    fails: float = 0.0
    kills: float = 0.0
    runs: int = 0
    exit_code: int | None = None
    spent: Decimal = Decimal(0)
    is_torn: bool = False
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.gateway = Biller(self.rng, self.fails)
        self.folder.mkdir()
        lines: list[Json] = []
        for number in range(self.rng.randint(40, 100)):
            sizes = {"input": "x" * self.rng.randint(0, 400), "max_output_tokens": self.rng.randint(20, 200)}
            body = {"model": MODEL, **sizes}
            lines.append({"custom_id": f"r-{number}", "body": body})
        (self.folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        bodies = [line["body"] for line in lines]
        likely = sum(cost(60, body["max_output_tokens"] // 2) for body in bodies)
        dearest = max(cost(len(json.dumps(body)), body["max_output_tokens"]) for body in bodies)
        # Nine tenths can be used where no line may cost more than the last tenth.
        self.cap = max(likely * Decimal(str(round(self.rng.uniform(0.2, 1.2), 2))), 10 * dearest)

    def live(self) -> None:
        """Run until a run comes to its own end, then once more."""
        while self._run() and self.runs < 30:
            pass
        self._run(may_die=False)

    def _run(self, *, may_die: bool = True) -> bool:
        """One run; True where it was killed."""
        self.runs += 1
        dies_after = self.rng.uniform(0.0, 15.0) if may_die and self.rng.random() < self.kills else None
        with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
            died = runner.run(self._send(dies_after))
        if died and self.rng.random() < 0.3:
            self._tear()
        assert self.gateway.billed <= self.cap, f"seed {self.seed}, run {self.runs}"
        return died

    def _tear(self) -> None:
        """As a kill inside a write would: of the last record a part is there, and no event names it."""
        results = self.folder / "results.jsonl"
        whole, newline, last = results.read_bytes().removesuffix(b"\n").rpartition(b"\n")
        told = {number for event in events(results) for number in event.get("numbers", ())}
        if last and json.loads(last)["run"]["line"] not in told:
            self.is_torn = True
            results.write_bytes(whole + newline + last[: self.rng.randint(0, len(last) - 1)])

    async def _send(self, dies_after: float | None) -> bool:
        job = Job(
            str(self.folder / "requests.jsonl"),
            self.folder / "results.jsonl",
            Endpoint("http://127.0.0.1:1", KEY),
            limits=Limits(self.rng.randint(1, 12)),
            retry=RetryPolicy(max_attempts=3),
            prices=self.folder.parent / "prices.json",
            max_cost_usd=self.cap,
        )
        with contextlib.ExitStack() as files:
            prepared = prepare(job, Silent(), files)
            task = asyncio.create_task(Run(prepared, Silent()).send())
            done, _ = await asyncio.wait([task], timeout=dies_after)
            if not done:
                task.cancel()  # without a word into any file, as after kill -9
                await asyncio.wait([task])
                return True
            ended = task.result()
            self.exit_code = Summary(prepared, ended).exit_code
            if prepared.pending:
                budget = ended.budget
                assert budget is not None
                assert budget.reserved == 0
                self.spent = budget.spent
        return False


@pytest.fixture
def lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    write_prices(tmp_path)
    made: list[Life] = []

    def begin(seed: int, **chances: Any) -> Life:
        life = Life(tmp_path / f"life-{seed}", seed, **chances)
        monkeypatch.setattr(http_module, "HttpTransport", lambda *_: life.gateway)
        made.append(life)
        return life

    yield begin
    assert made, "nothing was tried"


@pytest.mark.slow
def test_a_thousand_runs_with_kills_and_failures_never_pass_the_cap(lives: Any) -> None:
    runs = seed = stopped = 0
    while runs < 1000:
        seed += 1
        life = lives(seed, fails=0.2 if seed % 2 else 0.0, kills=0.8)
        life.live()
        runs += life.runs
        stopped += life.exit_code == 3
        assert life.is_torn or life.spent <= life.cap
        if life.exit_code == 3:
            assert life.spent >= life.cap * Decimal("0.9"), f"seed {seed}"
    assert stopped > seed / 4, "the cap was what ended many of them"


def test_where_nothing_is_lost_the_bill_itself_reaches_nine_tenths(lives: Any) -> None:
    stopped = 0
    for seed in range(5000, 5040):
        life = lives(seed)
        life.live()
        if life.exit_code == 3:
            stopped += 1
            assert life.gateway.billed >= life.cap * Decimal("0.9"), f"seed {seed}"
            assert life.gateway.billed == life.spent
    assert stopped > 10


# --------------------------------------------------------------------------- a gateway that bills far more


@dataclass
class Dear(Biller):
    """A gateway whose answers cost 20 times their bound, from number `cheap` on; before that, all of it."""

    cheap: int = 0
    peak: int = 0

    async def send(self, line: RequestLine) -> Reply | Failure:
        self.sent += 1
        times = 1 if self.sent <= self.cheap else 20
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        asked = json.loads(line.body)["max_output_tokens"]
        usage = Usage(len(line.body) * times, 0, asked * times, 0, 0)
        self.billed += cost(usage.input_tokens, usage.output_tokens)
        await asyncio.sleep(self.rng.uniform(0.5, 1.5))
        self.in_flight -= 1
        return Reply(200, b"{}", None, "succeeded", MODEL, usage, timing=Timing(1.0))


@pytest.mark.parametrize("cap_in_bounds", [21, 100, 320, 1000])
def test_a_gateway_that_bills_20_times_the_bound_does_not_pass_the_cap(
    cap_in_bounds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 16 in flight; at most 1.05 of the cap is allowed."""
    told, gateway, cap = run_dear(Dear(random.Random(1), 0.0), cap_in_bounds, tmp_path, monkeypatch)
    assert gateway.billed <= cap
    assert gateway.sent == cap_in_bounds // 20
    assert "from now on 20 times its bound is reserved for each line" in "\n".join(told)


def test_one_that_begins_to_do_so_passes_it_by_no_more_than_what_is_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, gateway, cap = run_dear(Dear(random.Random(1), 0.0, cheap=100), 1000, tmp_path, monkeypatch)
    assert gateway.peak == 16
    assert gateway.billed <= cap
    assert gateway.billed >= cap * Decimal("0.9")


def run_dear(
    gateway: Dear, cap_in_bounds: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], Dear, Decimal]:
    write_prices(folder)
    lines = [
        {"custom_id": f"r-{number:03}", "body": {"model": MODEL, "input": "x", "max_output_tokens": 100}}
        for number in range(300)
    ]
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sent = parse_request(json.dumps(lines[0]).encode(), 1)
    cap = cost(len(sent.body), 100) * cap_in_bounds
    monkeypatch.setattr(http_module, "HttpTransport", lambda *_: gateway)
    observer = Listening()
    job = Job(
        str(folder / "requests.jsonl"),
        folder / "results.jsonl",
        Endpoint("http://127.0.0.1:1", KEY),
        limits=Limits(16),
        prices=folder / "prices.json",
        max_cost_usd=cap,
    )

    async def send() -> None:
        with contextlib.ExitStack() as files:
            prepared = prepare(job, observer, files)
            ended = await Run(prepared, observer).send()
            assert Summary(prepared, ended).exit_code == 3

    in_virtual_time(send)
    return observer.notices, gateway, cap


class Listening(Silent):
    """Keeps the notices."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, line: str) -> None:
        self.notices.append(line)


# ---------------------------------------------------------------------------------- by the command line


def batchrun(*words: object) -> Any:
    return CliRunner().invoke(cli, [str(word) for word in words], env={"OPENAI_API_KEY": KEY})


@pytest.fixture
def gateway() -> Iterator[GatewayThread]:
    with GatewayThread(GatewayOptions()) as thread:
        yield thread


def run_capped(folder: Path, gateway: GatewayThread, *words: object) -> Any:
    prices = write_prices(folder)
    files = (folder / "requests.jsonl", "-o", folder / "results.jsonl")
    return batchrun("run", *files, "--prices", prices, "--base-url", gateway.base_url, *words)


def report_of(folder: Path) -> Json:
    report: Json = json.loads((folder / "results.jsonl.report.json").read_text())
    return report


def test_a_cap_stops_the_job_and_says_what_is_left(
    tmp_path: Path, gateway: GatewayThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_requests(tmp_path / "requests.jsonl", 60, max_output_tokens=100)
    monkeypatch.setattr(sys, "argv", ["batchrun", "run", "--max-cost", "0.015"])
    done = run_capped(tmp_path, gateway, "--max-cost", "0.015", "-c", 4)
    assert done.exit_code == 3
    report = report_of(tmp_path)
    assert 0.0135 <= report["cost"]["total_usd"] <= 0.015
    left = report["lines"]["pending"]
    assert 0 < left < 60
    assert "--max-cost 0.015 is used up" in report["stopped"]
    assert f"{left} lines are left and would cost about $" in report["stopped"]
    cap = report["next_command"].split("--max-cost ")[1].split()[0]
    sent = gateway.ledger.requests
    again = run_capped(tmp_path, gateway, "--max-cost", "0.015", "-c", 1)
    assert (again.exit_code, gateway.ledger.requests) == (3, sent), "the cap is for all runs together"
    assert run_capped(tmp_path, gateway, "--max-cost", cap).exit_code == 0, "what it said to type next does it"


def test_one_dear_line_does_not_keep_the_others(
    tmp_path: Path, gateway: GatewayThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = write_requests(tmp_path / "requests.jsonl", 5, max_output_tokens=100)
    lines = requests.read_text().splitlines()
    lines[1] = lines[1].replace('"max_output_tokens": 100', '"max_output_tokens": 900000')
    requests.write_text("\n".join(lines))
    monkeypatch.setattr(sys, "argv", ["batchrun", "run", "--max-cost", "1"])
    done = run_capped(tmp_path, gateway, "--max-cost", "1")
    assert done.exit_code == 3
    assert sorted(row["custom_id"] for row in read_records(tmp_path / "results.jsonl")) == ["r-1", "r-3", "r-4", "r-5"]
    report = report_of(tmp_path)
    assert "1 lines are left" in report["stopped"]
    cap = report["next_command"].split("--max-cost ")[1].split()[0]
    assert run_capped(tmp_path, gateway, "--max-cost", cap).exit_code == 0, "the dear line has room, too"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"max_output_tokens": None}, "line 1 (no max_output_tokens), line 2 (no max_output_tokens)"),
        ({"model": "relay/none"}, "--max-cost needs a price for relay/none (5 lines)"),
        ({"tools": [{"type": "web_search"}]}, "line 1 (tool web_search)"),
    ],
)
def test_what_no_cap_can_hold_is_refused_before_anything_is_sent(
    tmp_path: Path, gateway: GatewayThread, fields: Json, says: str
) -> None:
    write_requests(tmp_path / "requests.jsonl", 5, **fields)
    done = run_capped(tmp_path, gateway, "--max-cost", 1)
    assert isinstance(done.exception, UsageError)
    assert gateway.ledger.requests == 0
    assert says in str(done.exception)
    assert not (tmp_path / "results.jsonl").exists()


def test_the_users_word_bounds_what_nothing_else_does(tmp_path: Path, gateway: GatewayThread) -> None:
    write_requests(tmp_path / "requests.jsonl", 5, max_output_tokens=None)
    assert run_capped(tmp_path, gateway, "--max-cost", 1, "--max-line-cost", "0.1").exit_code == 0
    uppers = {event["upper_usd"] for event in events(tmp_path / "results.jsonl") if event["event"] == "sent"}
    assert uppers == {"0.1"}


def test_records_that_go_again_stay_spent(tmp_path: Path, gateway: GatewayThread) -> None:
    write_requests(tmp_path / "requests.jsonl", 5, max_output_tokens=100)
    assert run_capped(tmp_path, gateway).exit_code == 0
    bill = Decimal(str(report_of(tmp_path)["cost"]["total_usd"]))
    requests = tmp_path / "requests.jsonl"
    requests.write_text(requests.read_text().replace("question", "queries."))
    done = run_capped(tmp_path, gateway, "--changed", "resend", "--max-cost", bill)
    assert (done.exit_code, gateway.ledger.requests) == (3, 5)
    assert Decimal(str(report_of(tmp_path)["unbilled_usd"])) == bill
    shown = batchrun("report", tmp_path / "results.jsonl", "--json", "--prices", tmp_path / "prices.json")
    assert Decimal(str(json.loads(shown.output)["unbilled_usd"])) == bill


def test_failed_attempts_have_their_price_in_the_report(tmp_path: Path) -> None:
    write_requests(tmp_path / "requests.jsonl", 2, max_output_tokens=100)
    with GatewayThread(GatewayOptions(script="cut ok; ok")) as gateway:
        assert run_capped(tmp_path, gateway).exit_code == 0
    line = (tmp_path / "requests.jsonl").read_bytes().splitlines()[0]
    size = len(parse_request(line, 1).body)
    assert Decimal(str(report_of(tmp_path)["unbilled_usd"])) == cost(size, 100)
    shown = batchrun("report", tmp_path / "results.jsonl", "--prices", tmp_path / "prices.json")
    assert "possible extra cost (failed attempts, replaced or lost records): up to $" in shown.output


@pytest.mark.parametrize("amount", ["0", "-1", "nan", "inf", "twenty", "1e300"])
def test_a_cap_is_an_amount_of_money(tmp_path: Path, gateway: GatewayThread, amount: str) -> None:
    write_requests(tmp_path / "requests.jsonl", 1)
    done = run_capped(tmp_path, gateway, "--max-cost", amount)
    assert done.exit_code == 2
    assert "is not an amount of US dollars" in done.output


def test_the_cap_is_kept_on_standard_output_too(tmp_path: Path, gateway: GatewayThread) -> None:
    write_requests(tmp_path / "requests.jsonl", 40, max_output_tokens=100)
    prices = write_prices(tmp_path)
    words = ("-o", "-", "--prices", prices, "--base-url", gateway.base_url, "--max-cost", "0.002")
    done = batchrun("run", tmp_path / "requests.jsonl", *words)
    assert done.exit_code == 3
    assert gateway.ledger.requests < 40
