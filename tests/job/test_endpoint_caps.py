"""What earlier runs may have spent is charged to the endpoint it was sent to; only what nobody knows, to each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchrun.billing.prices import PriceFile
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.errors import UsageError
from batchrun.job.endpoints import NamedEndpoint
from batchrun.job.job import Job
from batchrun.job.leased import spent_usd, spent_usd_at
from batchrun.job.prepare import prepare
from batchrun.records.attempt import AnsweredControl
from batchrun.records.request import parse_request
from batchrun.records.result import ResultHead, Try, encode_result
from batchrun.records.usage import Usage
from batchrun.results.events import Billed, Ended, Event, Recorded, Sent, Start, Stop, Unmeasured, encode_events
from batchrun.transport.endpoint import Endpoint
from tests import hostile
from tests.engine.test_endpoints import Place, desk, play
from tests.engine.test_runner import Desk, Told
from tests.support import MODEL, events, run_info, write_prices, write_requests

__all__ = ["desk"]

DEAR = {MODEL: {"input": 200, "cached": 50, "output": 800}}


def job_in(folder: Path, **options: Any) -> Job:
    requests = folder / "requests.jsonl"
    if not requests.exists():
        write_requests(requests, 10)
    endpoints = options.pop("endpoints", [NamedEndpoint(name, Endpoint("http://127.0.0.1")) for name in "abc"])
    prices = write_prices(folder)
    return Job(str(requests), folder / "results.jsonl", endpoints=endpoints, prices=prices, **options)


def spent(job: Job) -> list[Decimal]:
    """What counts as spent of the job's cap, and of those of endpoints a, b and c."""
    with contextlib.ExitStack() as files:
        prepared = prepare(job, Told(), files)
        whole = spent_usd(prepared, prepared.tally.cost_usd())
        return [whole, *(spent_usd_at(prepared, name) for name in "abc")]


def after(folder: Path, *logged: Event) -> list[Decimal]:
    """The same after a run that was killed once it had logged this."""
    job = job_in(folder)
    Path(f"{job.results}.log").write_bytes(encode_events([Start(started="2026", lines=10), *logged]))
    return spent(job)


def sent(line: int, usd: int, endpoint: str | None) -> Sent:
    return Sent(line, 1, MODEL, 100, 100, Decimal(usd), endpoint=endpoint)


def test_what_was_in_flight_at_a_kill_counts_where_it_was_sent(tmp_path: Path) -> None:
    assert after(tmp_path, sent(1, 2, "a"), sent(2, 1, "a"), sent(3, 5, "b")) == [8, 3, 5, 0]


def test_what_was_sent_nobody_knows_where_counts_everywhere(tmp_path: Path) -> None:
    """As in the log of a run with one gateway."""
    assert after(tmp_path, sent(1, 2, None), sent(2, 1, "a")) == [3, 3, 2, 2]


def test_failed_attempts_and_answers_without_a_usage_count_where_they_were_sent(tmp_path: Path) -> None:
    ended = [Ended(number, "cut", 200, Decimal(4), endpoint=name) for number, name in ((1, "a"), (2, "b"), (3, None))]
    taken_back = Billed(2, Decimal(-4), "b")
    assert after(tmp_path, *ended, taken_back, Unmeasured(4, Decimal(1), "c")) == [9, 8, 4, 5]


def test_the_next_run_keeps_it_in_its_first_event(tmp_path: Path) -> None:
    known = {"a": Decimal(3), "gone": Decimal(2)}
    start = Start(started="2027", lines=10, unbilled_usd=Decimal(6), unbilled_by_endpoint=known)
    assert after(tmp_path, sent(1, 7, "b"), start, sent(2, 1, "c")) == [7, 4, 1, 2]


def test_a_run_says_it_to_the_next_one(desk: Desk) -> None:
    """Attempts at a fail halfway; the next run must not take them for those at b."""
    fails_at_first = Place(lambda body, number: hostile.reset if number <= 3 else None)
    first = play(desk, fails_at_first, Place(), lines=20, max_cost_usd=Decimal(9))
    assert first.report.lines.succeeded == 20
    at_a = sum(Decimal(event["unbilled_usd"]) for event in events(desk.results) if "unbilled_usd" in event)
    desk.lines(21)
    play(desk, Place(), Place(), max_cost_usd=Decimal(9))
    start = [event for event in events(desk.results) if event["event"] == "start"][-1]
    assert {name: Decimal(usd) for name, usd in start["unbilled_by_endpoint"].items()} == {"a": at_a}
    assert Decimal(start["unbilled_usd"]) == at_a > 0


def record(line: int, endpoint: str, **facts: Any) -> ResultHead:
    usage = Usage(1_000_000, 0, 0, 0, 1_000_000)
    return ResultHead(f"r-{line}", run_info(line=line, endpoint=endpoint, usage=usage, **facts), None)


def test_records_that_are_replaced_stay_spent_where_they_were_sent_at_its_prices(tmp_path: Path) -> None:
    (tmp_path / "dear.json").write_text(json.dumps(DEAR))
    at = Endpoint("http://127.0.0.1")
    endpoints = [NamedEndpoint("a", at), NamedEndpoint("b", at, prices=tmp_path / "dear.json"), NamedEndpoint("c", at)]
    job = job_in(tmp_path, endpoints=endpoints, changed="resend")
    heads = [record(line, name) for line, name in ((1, "a"), (2, "b"))]  # of other bodies than those in the file
    Path(str(job.results)).write_bytes(b"".join(encode_result(head, 200, None, b"{}") for head in heads))
    log = encode_events([Start(started=heads[0].run.started, lines=10), Start(started="2027", lines=10)])
    Path(f"{job.results}.log").write_bytes(log)
    assert spent(job) == [202, 2, 200, 0]
    assert spent(job) == [202, 2, 200, 0], "the log keeps it"


def test_an_endpoint_that_is_taken_out_leaves_its_cost_without_its_prices(tmp_path: Path) -> None:
    """Its records would be priced by the job's price file, or not at all: the cap of the job would be passed."""
    (tmp_path / "dear.json").write_text(json.dumps(DEAR))
    at = Endpoint("http://127.0.0.1")
    heads = [record(line, name) for line, name in ((1, "gone"), (2, "a"))]
    endpoints = [NamedEndpoint("a", at), NamedEndpoint("gone", at, prices=tmp_path / "dear.json")]
    before = job_in(tmp_path, endpoints=endpoints, changed="keep")
    Path(str(before.results)).write_bytes(b"".join(encode_result(head, 200, None, b"{}") for head in heads))
    start = Start(started=heads[0].run.started, lines=10)
    log = encode_events([start, Recorded([1, 2], Decimal(202)), Stop(records_usd=Decimal(202))])
    Path(f"{before.results}.log").write_bytes(log)
    assert spent(before) == [202, 2, 0, 0]
    assert spent(job_in(tmp_path, changed="keep")) == [202, 2, 0, 0]


def test_a_lost_log_counts_with_the_prices_of_the_dearest_endpoint(tmp_path: Path) -> None:
    (tmp_path / "dear.json").write_text(json.dumps(DEAR))
    at = Endpoint("http://127.0.0.1")
    endpoints = [NamedEndpoint("a", at), NamedEndpoint("b", at, prices=tmp_path / "dear.json"), NamedEndpoint("c", at)]
    job = job_in(tmp_path, endpoints=endpoints)
    lines = [parse_request(line, 1) for line in (tmp_path / "requests.jsonl").read_bytes().splitlines()]
    head = ResultHead("r-1", run_info(body_hash=lines[0].body_hash, endpoint="a", usage=Usage(0, 0, 1, 0, 1)), None)
    Path(str(job.results)).write_bytes(encode_result(head, 200, None, b"{}"))
    lost = sum((Decimal(200) * len(line.body) + 800 * 5000) / 1_000_000 for line in lines[1:])
    billed = Decimal(8) / 1_000_000
    assert spent(job) == [lost + billed, lost + billed, lost, lost]


def tally_of(heads: Sequence[ResultHead], folder: Path) -> Tally:
    (folder / "dear.json").write_text(json.dumps(DEAR))
    books = {"b": PriceBook(PriceFile.load(folder / "dear.json"))}
    tally = Tally(PriceBook(PriceFile.load(write_prices(folder))), books)
    tally.add(heads)
    return tally


@pytest.mark.parametrize("is_open", [False, True])
def test_answers_that_missed_their_schema_cost_where_they_were_asked(tmp_path: Path, is_open: bool) -> None:
    """A line was asked at a, then at b, whose prices are a hundred times as high, then at a again."""
    usage = Usage(1_000_000, 0, 0, 0, 1_000_000)
    tries = tuple(Try(usage, "no", MODEL, run_info().started, endpoint=name) for name in "aba")
    head = record(1, "a", tries=tries, model=MODEL)
    tally = tally_of([] if is_open else [head], tmp_path)
    if is_open:
        tally.add_open([head])
    assert [tally.cost_usd(), tally.bill().cost_usd] == [204, 204]
    assert [tally.cost_usd_at(name) for name in "abc"] == [4, 200, 0]
    whole = tally_of([], tmp_path)
    whole.merge(tally)
    assert [whole.cost_usd_at(name) for name in "abc"] == [4, 200, 0]


def test_an_answered_control_costs_where_it_was_sent(tmp_path: Path) -> None:
    tally = tally_of([record(1, "a")], tmp_path)
    usage = Usage(1_000_000, 0, 0, 0, 1_000_000)
    tally.add_controls([AnsweredControl(MODEL, run_info().started, 1.0, MODEL, usage, endpoint="b")])
    assert [tally.cost_usd_at(name) for name in "abc"] == [2, 200, 0]
    assert tally.cost_usd() == 202
    whole = tally_of([], tmp_path)
    whole.merge(tally)
    assert [whole.cost_usd_at(name) for name in "abc"] == [2, 200, 0]


def named(number: int, endpoint: str | None, **body: Any) -> str:
    place = {} if endpoint is None else {"endpoint": endpoint}
    return json.dumps({"custom_id": f"r-{number}", "body": {"model": MODEL, "input": "hi"} | body, **place}) + "\n"


def test_only_lines_that_may_go_where_there_is_a_cap_need_a_bound(desk: Desk) -> None:
    bound = {"max_output_tokens": 9}
    desk.requests.write_text(named(1, "b") + named(2, "a", **bound) + named(3, None, **bound))
    ran = play(desk, Place(max_cost_usd=Decimal(1)), Place())
    assert (ran.exit_code, len(ran.records)) == (0, 3)
    desk.requests.write_text(named(1, "b") + named(2, None))
    with pytest.raises(UsageError, match=r"^max_cost_usd of a cannot cap lines whose cost has no bound: line 2 "):
        play(desk, Place(max_cost_usd=Decimal(1)), Place(), overwrite=True)
    with pytest.raises(UsageError, match=r"^--max-cost cannot cap lines whose cost has no bound: line 1 .*, line 2 "):
        play(desk, Place(max_cost_usd=Decimal(1)), Place(), overwrite=True, max_cost_usd=Decimal(1))


def test_a_line_that_fits_no_endpoints_cap_is_not_laid_to_the_cap_of_the_job(desk: Desk) -> None:
    """Raising --max-cost, as the next command did, would have changed nothing."""
    desk.requests.write_text(named(1, None, max_output_tokens=9) + named(2, None, max_output_tokens=100_000))
    cap = Decimal("0.1")  # line 2 may cost 0.8
    ran = play(desk, Place(max_cost_usd=cap), Place(max_cost_usd=cap), max_cost_usd=Decimal(5))
    assert (ran.exit_code, len(ran.records)) == (3, 1)
    assert ran.why.startswith("no endpoint has room for 1 line within its max_cost_usd")
    assert ran.enough_usd is None
