"""What a job will take: counted, measured, with intervals that hold as often as they say."""

from __future__ import annotations

import builtins
import json
import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.billing.pricing import PriceBook
from batchrun.estimate import text as estimate_text
from batchrun.estimate.estimate import Allowed, Estimate, Estimator, estimate_file
from batchrun.estimate.measured import Finished
from batchrun.estimate.text import render_estimate, render_pilot
from batchrun.estimate.tokens import Bytes, Tokenizer, load_counter
from batchrun.records.content import read_contents
from batchrun.records.request import ENDPOINTS, RequestLine, parse_request
from batchrun.records.result import ErrorInfo, ResultHead, RunInfo, Source
from batchrun.records.usage import Usage
from batchrun.requests.reader import RequestFile
from batchrun.stats.intervals import NONE, Moments, Range, share, t_value
from tests.support import near, run_info

RESPONSES, CHAT, EMBEDDINGS = ENDPOINTS
NO_LIMITS = Allowed()


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> PriceBook:
    path = tmp_path_factory.mktemp("prices") / "prices.json"
    path.write_text(json.dumps({"m": {"input": 2, "cached": 0.5, "output": 8}, "e": {"input": 1, "output": 0}}))
    return PriceBook.load(path)


# --------------------------------------------------------------------------------------- equal requests


def test_with_dedup_only_the_lines_count_that_would_be_sent(tmp_path: Path, book: PriceBook) -> None:
    path = tmp_path / "requests.jsonl"
    bodies = [{"model": "m", "input": f"question {number % 6}", "max_output_tokens": 10} for number in range(10)]
    path.write_text("".join(json.dumps({"custom_id": f"r-{n}", "body": b}) + "\n" for n, b in enumerate(bodies)))
    with RequestFile(str(path)) as requests:
        assert estimate_file(requests, (), book, NO_LIMITS).lines_left == 10
        estimate = estimate_file(requests, (), book, NO_LIMITS, dedup=True)
        assert (estimate.lines, estimate.lines_left) == (6, 6)
        assert estimate_file(requests, (), book, NO_LIMITS, limit=8, dedup=True).lines_left == 6
        answered = estimate_file(requests, (), book, NO_LIMITS, is_answered=lambda line: line.line_number <= 3)
        assert answered.lines_left == 7
        done = [_record_of(line) for line in list(requests.requests())[:2]]
        estimate = estimate_file(requests, [done], book, NO_LIMITS, dedup=True)
        assert (estimate.lines, estimate.lines_left) == (6, 4)


def test_copies_measure_nothing(tmp_path: Path, book: PriceBook) -> None:
    path = tmp_path / "requests.jsonl"
    bodies = [{"model": "m", "input": f"question {number}"} for number in range(30)]
    path.write_text("".join(json.dumps({"custom_id": f"r-{n}", "body": b}) + "\n" for n, b in enumerate(bodies)))
    with RequestFile(str(path)) as requests:
        requests.check()
        lines = list(requests.requests())
        heads = [_record_of(line) for line in lines[:12]]
        copies = [_record_of(line, Source("copied", line=1)) for line in lines[12:20]]
        plain = estimate_file(requests, [heads], book, NO_LIMITS)
        estimate = estimate_file(requests, [heads, copies], book, NO_LIMITS)
    assert (plain.lines_measured, estimate.lines_measured) == (12, 12)
    assert estimate.spent_usd == plain.spent_usd > 0
    assert estimate.left_usd.likely == pytest.approx((plain.left_usd.likely or 0) * 10 / 18, rel=0.1)


def _record_of(line: RequestLine, source: Source | None = None) -> ResultHead:
    facts = {"line": line.line_number, "body_hash": line.body_hash, "requested_model": "m", "model": "m"}
    run = run_info(**facts, usage=Usage(10, 0, 20, 0, 30), source=source)
    return ResultHead(line.custom_id, run)


# ----------------------------------------------------------------------------------------- the intervals


@pytest.mark.parametrize(
    ("degrees", "value"), [(4, 2.1318), (9, 1.8331), (19, 1.7291), (49, 1.6766), (199, 1.6525), (10**6, 1.6449)]
)
def test_students_t_is_that_of_the_tables(degrees: int, value: float) -> None:
    assert t_value(degrees) == pytest.approx(value, rel=0.003)


def test_the_rest_of_equal_lines_is_certain() -> None:
    moments = Moments()
    for _ in range(10):
        moments.add(100, 7.0)
    assert moments.rest(5, 500) == Range(35.0, 35.0, 35.0)
    assert moments.rest(0, 0) == NONE
    assert moments.mean_y == 7.0


def test_proportional_lines_go_by_their_size() -> None:
    """A ratio of 1:4, whatever the lines left are like."""
    moments = Moments()
    for size in range(100, 200):
        moments.add(size, size / 4)
    rest = moments.rest(1000, 1000 * 400)
    assert rest.likely == pytest.approx(100_000, rel=1e-6)
    assert rest.high == pytest.approx(100_000, rel=1e-3)


def test_larger_lines_that_used_less_do_not_lead_below_nothing() -> None:
    """The slope is held at 0: far from the measured sizes a falling line would end below zero."""
    moments = Moments()
    for size in range(100, 200):
        moments.add(size, 300 - size)
    assert moments.rest(10, 10 * 10_000).likely == pytest.approx(10 * moments.mean_y)


def test_a_steep_slope_is_held_at_the_ratio() -> None:
    moments = Moments()
    for size in range(100, 200):
        moments.add(size, 10 * size - 900)
    mean = moments.mean_y
    assert moments.rest(10, 10 * 50).likely == pytest.approx(10 * mean * 50 / 149.5)


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1e6)), min_size=3, max_size=50),
    st.integers(1, 1000),
    st.integers(1, 10**6),
)
@settings(max_examples=100)
def test_any_measurements_give_an_ordered_range(lines: list[tuple[int, float]], count: int, size: int) -> None:
    moments = Moments()
    for x, y in lines:
        moments.add(x, y)
    rest = moments.rest(count, count * size)
    assert rest.low is not None
    assert rest.likely is not None
    assert rest.high is not None
    assert 0 <= rest.low <= rest.likely <= rest.high < math.inf


def coverage(draw_y: Any, seen: int, total: int, runs: int = 400) -> tuple[float, float]:
    """How often the true rest lies in the interval; and its mean width over the truth."""
    rng, hits, width = random.Random(5), 0, 0.0
    for _ in range(runs):
        lines = [(x, draw_y(rng, x)) for x in (rng.randint(200, 2000) for _ in range(total))]
        moments = Moments()
        for x, y in lines[:seen]:
            moments.add(x, y)
        rest = moments.rest(total - seen, sum(x for x, _ in lines[seen:]))
        truth = sum(y for _, y in lines[seen:])
        assert rest.low is not None
        assert rest.high is not None
        hits += rest.low <= truth <= rest.high
        width += (rest.high - rest.low) / truth / runs
    return hits / runs, width


@pytest.mark.parametrize(
    ("draw_y", "widest"),
    [
        (lambda rng, x: max(0.0, rng.gauss(100, 30)), 0.16),
        (lambda rng, x: x / 4 * rng.uniform(0.8, 1.2), 0.07),
        (lambda rng, x: x * 0.5 + rng.lognormvariate(5, 0.7), 0.2),
        (lambda rng, x: rng.lognormvariate(0, 0.7), 0.55),
        (lambda rng, x: 1.0 if rng.random() < 0.2 else 0.0, 1.1),
    ],
    ids=["normal", "ratio", "mixed", "lognormal", "rare"],
)
def test_intervals_hold_nine_times_in_ten(draw_y: Any, widest: float) -> None:
    """50 of 600 lines; and they are not bought with width: without the size, `ratio` would be six times as wide."""
    held, width = coverage(draw_y, 50, 600)
    assert 0.85 <= held <= 0.97
    assert width < widest


def test_nearly_all_seen_is_nearly_certain() -> None:
    few = coverage(lambda rng, x: rng.lognormvariate(0, 0.7), 50, 600, 100)[1]
    most = coverage(lambda rng, x: rng.lognormvariate(0, 0.7), 590, 600, 100)[1]
    assert most * 10 / 600 < few * 550 / 600 / 5


def test_wilsons_interval_is_that_of_the_tables() -> None:
    """10 of 100, of a population without end, at 90 %: 0.0607 to 0.1604 (Wilson's formula by hand)."""
    got = share(10, 100, 10**9)
    assert (got.low, got.likely, got.high) == (
        near(0.0607, abs=1e-4),
        0.1,
        near(0.1604, abs=1e-4),
    )


def test_no_failure_seen_is_not_no_failure() -> None:
    assert share(0, 50, 10_000) == Range(0.0, 0.0, near(0.051, abs=0.001))
    assert share(50, 50, 10_000).high == 1.0
    assert share(3, 50, 50) == Range(0.06, 0.06, 0.06)
    assert share(0, 0, 50) == Range(None, None, None)


def test_shares_hold_nine_times_in_ten() -> None:
    rng, hits = random.Random(3), 0
    for _ in range(500):
        lines = [rng.random() < 0.08 for _ in range(400)]
        got = share(sum(lines[:80]), 80, 400)
        assert got.low is not None
        assert got.high is not None
        hits += got.low <= sum(lines) / 400 <= got.high
    assert 0.85 <= hits / 500 <= 0.97


# --------------------------------------------------------------------------------------------- the tokens


def contents_of(text: str) -> Any:
    body = {"model": "m", "input": [{"role": "user", "content": text}]}
    return read_contents(RESPONSES, json.dumps(body, ensure_ascii=False).encode())


def test_bytes_are_bytes_of_text_not_of_escapes() -> None:
    """A Chinese character has 3 bytes, though its escape has 6."""
    escaped = read_contents(RESPONSES, b'{"input": "' + b"\\u4e2d" * 100 + b'"}')
    assert Bytes().count(escaped, "m") == (300 / 5.7 + 3, 300 / 4 + 3, 300 / 2.7 + 3)


def test_a_tokenizer_counts_text_and_frames() -> None:
    counter = Tokenizer("words", lambda text: len(text.split()))
    counted = counter.count(contents_of("one two three"), "gpt-4.1-mini")
    assert counted == (near(9.7), 10, near(11.0))
    assert counter.count(contents_of("one two three"), "llama-3") == (7.5, 10, 14.0)
    assert counter.count(contents_of("word " * 30_000), "openai/gpt-4o")[1] == 30_007


def test_the_same_text_is_counted_once() -> None:
    calls: list[str] = []

    def count(text: str) -> int:
        calls.append(text)
        return 1

    counter = Tokenizer("one", count)
    for _ in range(5):
        counter.count(contents_of("the instructions"), "m")
    assert calls == ["the instructions"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("hello world", 2), ("你好，世界！", 4), ("<|endoftext|>", 7), ("", 0), ("a" * 100_000, 12_500)],
)
@pytest.mark.smoke
def test_the_tokenizer_of_the_extra_knows_o200k(text: str, tokens: int) -> None:
    """The numbers are tiktoken's."""
    pytest.importorskip("rs_bpe")
    counter = load_counter()
    assert counter.name.startswith("rs-bpe ")
    assert counter.count(contents_of(text), "gpt-4.1")[1] == tokens + 7


def test_prose_lies_between_the_bounds_by_bytes() -> None:
    pytest.importorskip("rs_bpe")
    for text in (
        "The parcel came two days late, and one of the cups was broken. " * 9,
        "包裹晚到了两天，杯子也碎了。" * 9,
    ):
        contents = contents_of(text)
        (low, _, high), count = Bytes().count(contents, "m"), load_counter().count(contents, "gpt-4.1")[1]
        assert low <= count <= high


def test_without_the_extra_bytes_have_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "rs_bpe":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert isinstance(load_counter(), Bytes)


# ------------------------------------------------------------------------------------------- the estimate


def line_of(number: int, text: str = "hi", url: str = RESPONSES, **fields: Any) -> RequestLine:
    body = {"model": "m", "input": text, "max_output_tokens": 100} | fields
    body = {name: value for name, value in body.items() if value is not None}
    return parse_request(json.dumps({"custom_id": f"r-{number}", "url": url, "body": body}).encode(), number)


def head_of(line: RequestLine, usage: Usage | None, **changes: Any) -> ResultHead:
    error = changes.pop("error", None)
    run: dict[str, Any] = {
        "line": line.line_number,
        "v": 1,
        "path": "/v1/responses",
        "gateway": "gateway.example",
        "total_lines": 1000,
        "body_hash": line.body_hash,
        "started": "2026-01-02T03:04:05.678Z",
        "elapsed_s": 10.0,
        "outcome": "succeeded",
        "requested_model": line.model,
        "attempts": 1,
        "latency_s": 2.0,
        "usage": usage,
        "model": line.model,
    }
    return ResultHead(line.custom_id, RunInfo(**(run | changes)), error)


def used(input_tokens: int, output_tokens: int) -> Usage:
    return Usage(input_tokens, 0, output_tokens, 0, input_tokens + output_tokens)


def estimate(
    book: PriceBook,
    lines: Iterable[RequestLine],
    heads: Iterable[ResultHead] = (),
    allowed: Allowed = NO_LIMITS,
    **options: Any,
) -> Estimate:
    finished = Finished(book, **options)
    finished.add(list(heads))
    estimator = Estimator(book, finished, Tokenizer("words", lambda text: len(text.split())))
    for line in lines:
        estimator.visit(line)
    return estimator.estimate(allowed)


def test_before_the_first_line_output_is_open_between_its_bounds(book: PriceBook) -> None:
    """10 lines of 1 word and a frame of 3 tokens: 3 to 6 tokens in by the margins of an unknown vocabulary."""
    got = estimate(book, [line_of(number) for number in range(10)])
    assert (got.lines, got.lines_left, got.lines_measured) == (10, 10, 0)
    assert got.input_tokens == Range(near(30), 40, near(56))
    assert got.output_tokens == Range(10, None, 1000)
    assert got.left_usd.low == pytest.approx(10 * (3 * 0.5 + 8) / 1e6)
    assert got.left_usd.likely is None
    assert got.left_usd.high == pytest.approx((56 * 2 + 10 * 100 * 8) / 1e6)
    assert (got.input_by, got.output_by) == ("words", "max_output_tokens")
    assert got.failure_share == Range(None, None, None)
    assert "--pilot 50" in render_estimate(got)


def test_lines_without_a_bound_have_none(book: PriceBook) -> None:
    got = estimate(book, [line_of(1), line_of(2, max_output_tokens=None)])
    assert (got.lines_unbounded, got.output_tokens.high, got.left_usd.high) == (1, None, None)
    assert got.left_usd.low is not None
    assert "1 line without max_output_tokens" in render_estimate(got)


def test_what_is_only_named_has_no_upper_end(book: PriceBook) -> None:
    got = estimate(book, [line_of(1, previous_response_id="resp_1")])
    assert (got.lines_naming, got.input_tokens.high, got.left_usd.high) == (1, None, None)
    assert got.output_tokens.high == 100


def test_embeddings_cost_their_input(book: PriceBook) -> None:
    lines = [line_of(number, "a b c", EMBEDDINGS, model="e", max_output_tokens=None) for number in range(10)]
    got = estimate(book, lines)
    assert got.output_tokens == Range(0, 0, 0)
    assert got.left_usd.likely == pytest.approx(10 * 6 / 1e6)
    assert got.lines_unbounded == 0


def test_unpriced_models_are_named_and_leave_the_money_open(book: PriceBook) -> None:
    got = estimate(book, [line_of(1), line_of(2, model="x")])
    assert got.unpriced_models == {"x": 1}
    assert got.left_usd == Range(None, None, None)
    assert got.models["m"].left_usd.high is not None
    assert "no price is known for 'x' (1 line; see --prices)" in render_estimate(got)


LINES = [line_of(number, f"{number:05}") for number in range(1000)]


@pytest.mark.smoke
def test_finished_lines_measure_the_rest(book: PriceBook) -> None:
    """100 of 1,000 lines, of 10 tokens in and 15 to 25 out."""
    heads = [head_of(line, used(10, 15 + line.line_number % 11)) for line in LINES[:100]]
    got = estimate(book, LINES, heads)
    mean = sum(15 + number % 11 for number in range(100)) / 100
    assert (got.lines_left, got.lines_measured) == (900, 100)
    assert got.input_tokens == Range(9000, 9000, 9000)
    assert got.output_tokens.likely == pytest.approx(900 * mean)
    assert got.output_tokens.low == pytest.approx(900 * mean, rel=0.04)
    assert got.left_usd.likely == pytest.approx(900 * (20 + 8 * mean) / 1e6)
    assert float(got.spent_usd) == pytest.approx(100 * (20 + 8 * mean) / 1e6)
    assert got.total_usd.likely == pytest.approx(1000 * (20 + 8 * mean) / 1e6)
    assert got.input_by == got.output_by == "finished lines"
    low, likely, high = got.output_tokens.low, got.output_tokens.likely, got.output_tokens.high
    assert low is not None
    assert likely is not None
    assert high is not None
    assert low < likely < high


def test_measured_output_stays_within_what_is_allowed(book: PriceBook) -> None:
    heads = [head_of(line, used(10, 1 if line.line_number % 10 else 1000)) for line in LINES[:20]]
    got = estimate(book, [*LINES[:20], line_of(5000), line_of(5001)], heads)
    assert got.output_tokens.high == 200


def test_nine_measured_lines_are_too_few(book: PriceBook) -> None:
    heads = [head_of(line, used(10, 20)) for line in LINES[:9]]
    assert estimate(book, LINES, heads).output_by == "max_output_tokens"
    heads.append(head_of(LINES[9], used(10, 20)))
    assert estimate(book, LINES, heads).output_by == "finished lines"


def test_models_are_measured_each_for_itself(book: PriceBook) -> None:
    others = [line_of(number, model="e") for number in range(2000, 2010)]
    got = estimate(book, [*LINES, *others], [head_of(line, used(10, 20)) for line in LINES[:50]])
    assert got.models["m"].output_tokens.likely == pytest.approx(950 * 20)
    assert got.models["e"].output_tokens == Range(10, None, 1000)
    assert got.output_tokens.likely is None
    assert got.output_by == "finished lines, else max_output_tokens"


def test_edited_lines_and_lines_that_go_again_are_still_to_do(book: PriceBook) -> None:
    """As `run` would have it; and they have failed all the same."""
    error = ErrorInfo("server_error", "")
    heads = [head_of(line, used(10, 20)) for line in LINES[:20]]
    heads[0] = head_of(line_of(0, "edited"), used(10, 20))
    heads[1] = head_of(LINES[1], None, outcome="failed", error=error, retryable=True)
    heads[2] = head_of(LINES[2], None, outcome="failed", error=error)
    got = estimate(book, LINES[:30], heads)
    assert got.lines_left == 12
    assert got.failure_share.likely == pytest.approx(2 / 19)
    assert estimate(book, LINES[:30], heads, retry_errors=True).lines_left == 13


def test_a_failure_used_nothing_and_an_answer_without_usage_is_not_measured(book: PriceBook) -> None:
    error = ErrorInfo("invalid_value", "")
    heads = [head_of(line, used(10, 20)) for line in LINES[:15]]
    heads += [head_of(line, None, outcome="failed", error=error) for line in LINES[15:20]]
    heads += [head_of(line, None) for line in LINES[20:40]]
    got = estimate(book, LINES, heads)
    assert got.lines_measured == 20
    assert got.output_tokens.likely == pytest.approx(960 * 15)


@pytest.mark.parametrize(
    ("allowed", "seconds", "limited_by"),
    [
        (Allowed(), 900 / (100 / 10.0), "speed so far"),
        (Allowed(concurrency=9), 900 * 2.0 / 9, "concurrency"),
        (Allowed(concurrency=9, requests_per_minute=60), 900.0, "requests/min"),
        (Allowed(concurrency=9, tokens_per_minute=600), 900 * 30 / 10, "tokens/min"),
        (Allowed(concurrency=10_000), 2.0, "concurrency"),
    ],
)
def test_time_is_that_of_the_slowest_limit(book: PriceBook, allowed: Allowed, seconds: float, limited_by: str) -> None:
    heads = [head_of(line, used(10, 20)) for line in LINES[:100]]
    got = estimate(book, LINES, heads, allowed)
    assert (got.seconds.likely, got.limited_by) == (near(seconds), limited_by)


def test_where_the_concurrency_is_found_out_the_highest_is_the_best_and_what_was_found_so_far_likely(
    book: PriceBook,
) -> None:
    heads = [head_of(line, used(10, 20)) for line in LINES[:100]]
    got = estimate(book, LINES, heads, Allowed(most=300))
    assert got.seconds == Range(near(900 * 2.0 / 300), near(90), None)
    text = render_estimate(got)
    assert "time at the speed so far; a longer run may find" in text
    assert "at best" not in text


def test_a_limit_of_which_only_the_least_is_known_may_be_what_holds_it(book: PriceBook) -> None:
    got = estimate(book, LINES, allowed=Allowed(requests_per_minute=600, tokens_per_minute=10))
    assert got.limited_by == "tokens/min"


def test_retries_take_requests(book: PriceBook) -> None:
    heads = [head_of(line, used(10, 20), attempts=3) for line in LINES[:100]]
    assert estimate(book, LINES, heads, Allowed(requests_per_minute=60)).seconds.likely == pytest.approx(2700)


def test_without_limits_or_measurements_time_is_open(book: PriceBook) -> None:
    got = estimate(book, LINES, allowed=Allowed(concurrency=32))
    assert (got.seconds, got.limited_by) == (Range(None, None, None), None)
    got = estimate(book, LINES, allowed=Allowed(concurrency=32, requests_per_minute=600))
    assert (got.seconds.likely, got.limited_by) == (100.0, "requests/min")


def test_a_finished_job_has_nothing_left(book: PriceBook) -> None:
    got = estimate(book, LINES[:50], [head_of(line, used(10, 20)) for line in LINES[:50]], Allowed(32, 600.0))
    assert (got.lines_left, got.left_usd, got.seconds) == (0, NONE, NONE)
    got = estimate(book, LINES[:50], [head_of(line, used(10, 20)) for line in LINES[:50]], Allowed(None))
    assert got.seconds == NONE
    assert got.total_usd.likely == pytest.approx(float(got.spent_usd))


def test_a_pilot_tells_what_the_whole_will_cost_nine_times_in_ten(book: PriceBook) -> None:
    """80 jobs of 200 lines whose pilot had 50: the true cost of the whole lies in the interval."""
    rng, hits = random.Random(11), 0
    for _ in range(80):
        lines = [line_of(number, "x" * rng.randint(10, 4000), max_output_tokens=4000) for number in range(200)]
        usages = [used(len(line.body) // 4, min(4000, int(rng.lognormvariate(5, 0.7)))) for line in lines]
        heads = [head_of(line, usage) for line, usage in zip(lines[:50], usages[:50], strict=True)]
        got = estimate(book, lines, heads).total_usd
        truth = sum(2 * usage.input_tokens + 8 * usage.output_tokens for usage in usages) / 1e6
        assert got.low is not None
        assert got.high is not None
        hits += got.low <= truth <= got.high
    assert 0.83 <= hits / 80 <= 0.98


# --------------------------------------------------------------------------------------------- as text


def test_an_estimate_reads_well(book: PriceBook) -> None:
    assert (
        render_estimate(estimate(book, LINES, allowed=Allowed(requests_per_minute=600)))
        == """\
1,000 lines, 0 done, 1,000 to do
                  low  likely     high
input tokens    3,000   4,000    5,600
output tokens   1,000       ?  100,000
USD            0.0095       ?    0.811
time           1m 40s  1m 40s   1m 40s
note: input by words; output by max_output_tokens
note: output length unknown until 10 lines have finished: `batchrun run --pilot 50` measures it
note: best-case time, limited by requests/min; throttles and outages add to it
"""
    )


def test_an_estimate_in_mid_job_reads_well(book: PriceBook) -> None:
    heads = [head_of(line, used(10, 15 + line.line_number % 11)) for line in LINES[:100]]
    lines = render_estimate(estimate(book, LINES, heads)).splitlines()
    assert lines[0] == "1,000 lines, 100 done, 900 to do; $0.018 spent"
    assert [line.split() for line in lines[3:7]] == [
        ["output", "tokens", "17,451", "17,955", "18,460"],
        ["USD", "0.158", "0.162", "0.166"],
        ["USD", "in", "total", "0.176", "0.18", "0.184"],
        ["time", "?", "1m", "30s", "?"],
    ]


def test_a_pilot_reads_well(book: PriceBook) -> None:
    heads = [head_of(line, used(10, 15 + line.line_number % 11)) for line in LINES[:100]]
    assert render_pilot(estimate(book, LINES, heads, Allowed(32, 600.0))).splitlines()[:4] == [
        "measured 100 of 1,000 lines; 90% intervals for the whole job:",
        "cost: 0.18 (0.176 to 0.184) USD, 0.018 of it spent",
        "time: 1m 30s (1m 30s to 1m 30s) more, limited by requests/min",
        "failures: 0 % (0 % to 2.4 %)",
    ]


def test_a_finished_job_reads_well(book: PriceBook) -> None:
    got = estimate(book, LINES[:50], [head_of(line, used(10, 20)) for line in LINES[:50]])
    assert render_estimate(got).startswith("50 lines, 50 done, 0 to do; $0.009 spent\n")
    assert "note" not in render_estimate(got)


def test_json_has_every_number(book: PriceBook) -> None:
    heads = [head_of(line, used(10, 20)) for line in LINES[:100]]
    got = json.loads(estimate(book, LINES, heads).to_json())
    assert got["left_usd"] == {
        "low": pytest.approx(0.162),
        "likely": pytest.approx(0.162),
        "high": pytest.approx(0.162),
    }
    assert (got["spent_usd"], got["confidence"]) == (0.018, 0.9)
    assert got["models"]["m"]["lines_left"] == 900


@pytest.mark.parametrize(("share", "text"), [(1.0, "100 %"), (0.456, "46 %"), (0.0123, "1.2 %"), (0.0, "0 %")])
def test_a_share_is_shown_as_people_write_it(share: float, text: str) -> None:
    assert estimate_text._percent(share) == text


# ------------------------------------------------------------------------------------------ records and lines


def test_lines_that_were_moved_are_found_by_their_ids(book: PriceBook) -> None:
    """A record names the number that its line had; the estimate is the same, whichever it has now."""
    heads = [head_of(line, used(10, 15 + line.line_number % 11)) for line in LINES[:40]]
    runs = [msgspec.structs.replace(head.run, line=3 * head.run.line + 7) for head in heads]
    moved = [ResultHead(head.custom_id, run) for head, run in zip(heads, runs, strict=True)]
    assert estimate(book, LINES, moved) == estimate(book, LINES, heads)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[RequestFile]:
    """Thirty lines of a request file; the middle ten are longer."""
    path = tmp_path / "requests.jsonl"
    bodies = ({"model": "m", "input": "x" * (number // 10 % 2)} for number in range(30))
    text = [json.dumps({"custom_id": f"r-{number}", "body": body}) + "\n" for number, body in enumerate(bodies)]
    path.write_text("".join(text))
    with RequestFile(str(path)) as file:
        yield file


def test_finished_lines_are_recognized_without_their_full_check(
    book: PriceBook, file: RequestFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.check()
    lines = list(file.requests())
    heads = [head_of(line, used(10, 20)) for line in lines]
    expected = estimate(book, lines, heads)
    monkeypatch.setattr("batchrun.requests.reader.read_request", None)
    got = estimate_file(file, [heads], book, Allowed())
    assert (got.lines, got.lines_left, got.lines_measured) == (30, 0, 30)
    assert (got.spent_usd, got.failure_share) == (expected.spent_usd, expected.failure_share)


def test_a_line_counts_the_same_whether_it_is_recognized_or_checked(book: PriceBook, file: RequestFile) -> None:
    """Some lines are done, some have failed, some go again, one was edited, and some have no record."""
    file.check()
    lines = list(file.requests())
    failed = ErrorInfo("http_400", "no"), ErrorInfo("http_500", "no")
    heads = [head_of(line, used(len(line.body), 15 + line.line_number % 7)) for line in lines[:18]]
    heads += [head_of(line, None, outcome="failed", error=failed[0], model=None) for line in lines[18:20]]
    heads += [
        head_of(line, None, outcome="failed", error=failed[1], model=None, retryable=True) for line in lines[20:22]
    ]
    heads[3] = head_of(lines[3], used(10, 20), body_hash="0" * 32)
    got = estimate_file(file, [heads], book, Allowed())
    assert (got.lines, got.lines_left, got.lines_measured) == (30, 11, 19)
    finished = Finished(book)
    finished.add(heads)
    estimator = Estimator(book, finished, load_counter())
    for line in lines:
        estimator.visit(line)
    assert estimator.estimate() == got
