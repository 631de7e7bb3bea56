"""The bill and the summary: exact sums and money, quantiles within 1 %, the table word for word, the JSON's keys."""

import json
import math
import random
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.billing.pricing import PriceBook, Quote
from batchrun.billing.tally import Tally
from batchrun.records.outcome import Outcome
from batchrun.records.result import ErrorInfo, ResultHead
from batchrun.records.usage import Usage
from batchrun.report.report import Report, make_report
from batchrun.report.text import render
from batchrun.stats.histogram import Histogram, Latency
from tests.support import run_info

STARTED = "2026-01-02T03:04:05.678Z"
LATER = "2026-01-03T00:00:00.000Z"


def head(
    line: int = 1,
    *,
    asked: str = "gpt-4.1",
    usage: tuple[int, int, int, int] | None = (1000, 400, 100, 30),
    outcome: Outcome = "succeeded",
    code: str | None = None,
    message: str = "what went wrong",
    tool_calls: dict[str, int] | None = None,
    **run: Any,
) -> ResultHead:
    """A record without its payload; `usage` is input, cached, output, reasoning."""
    facts: dict[str, Any] = {"started": STARTED, "elapsed_s": float(line)}
    facts |= {"attempts": 1, "latency_s": 1.0, "model": asked}
    tokens = None if usage is None else Usage(*usage, usage[0] + usage[2], tool_calls=tool_calls)
    info = run_info(line=line, outcome=outcome, requested_model=asked, usage=tokens, **(facts | run))
    return ResultHead(f"r-{line}", info, None if code is None else ErrorInfo(code, message))


def failed(line: int, code: str, **run: Any) -> ResultHead:
    return head(line, outcome="failed", code=code, **({"usage": None, "model": None} | run))


def tally_of(*heads: ResultHead, prices: Path | None = None) -> Tally:
    tally = Tally(PriceBook.load(prices))
    for each in heads:
        tally.add([each])
    return tally


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text('["gpt-4.1"]\ninput = 2\ncached = 0.5\noutput = 8\n["small"]\ninput = 0.1\noutput = 0.2\n')
    return path


# --------------------------------------------------------------------------------------------- the sums


@st.composite
def any_head(draw: st.DrawFn) -> ResultHead:
    outcome = draw(st.sampled_from(get_args(Outcome)))
    size, output = draw(st.sampled_from([10, 272_000, 272_001])), draw(st.integers(0, 9))
    return head(
        draw(st.integers(1, 99)),
        asked=draw(st.sampled_from(["gpt-4.1", "gpt-5.4", "deepseek-chat", "nobody-prices-this"])),
        usage=draw(st.none() | st.just((size, size // 2, output, output // 2))),
        outcome=outcome,
        code=draw(st.sampled_from(["a", "b"])) if outcome not in ("succeeded", "refused") else None,
        model=draw(st.sampled_from([None, "gpt-4.1", "gpt-5.4", "deepseek-chat", "another"])),
        service_tier=draw(st.sampled_from([None, "default", "flex", "nobody's"])),
        gateway_cost_usd=draw(st.sampled_from([None, Decimal(0), Decimal("0.00042"), Decimal("1e30")])),
        tool_calls=draw(st.sampled_from([None, {"web_search": 2}, {"code_interpreter": 1, "web_search": 1}])),
        started=draw(st.sampled_from([STARTED, LATER])),
        elapsed_s=draw(st.sampled_from([0.0, 1.5, 50_000.0])),
        total_lines=draw(st.integers(1, 99)),
        attempts=draw(st.integers(1, 3)),
        throttles=draw(st.integers(0, 3)),
        retryable=draw(st.booleans()),
        latency_s=draw(st.none() | st.floats(0, 100)),
        first_event_s=draw(st.none() | st.floats(0, 100)),
        first_text_s=draw(st.none() | st.floats(0, 100)),
    )


@given(st.lists(st.lists(any_head(), max_size=6), max_size=3))
def test_many_at_once_are_what_they_are_one_by_one(batches: list[list[ResultHead]]) -> None:
    """Dear tiers, prices by the time of day, unknown models and failures among them."""
    at_once, one_by_one = tally_of(), tally_of(*(each for batch in batches for each in batch))
    for batch in batches:
        at_once.add(batch)
    assert make_report(at_once).to_json() == make_report(one_by_one).to_json()
    for name in ("recorded", "failed", "retryable", "tokens", "output_tokens", "longest_answer"):
        assert getattr(at_once, name) == getattr(one_by_one, name), name


def test_models_and_errors_that_came_equally_often_are_named_in_order() -> None:
    """However the records were added: the report at the end of a run and the one made later are the same."""
    report = make_report(tally_of(head(1, model="b"), head(2, model="c"), head(3, model="a"), head(4, model="c")))
    assert list(report.models["gpt-4.1"].answered_by.items()) == [("c", 2), ("a", 1), ("b", 1)]
    failures = [failed(number, code) for number, code in enumerate(["b", "c", "a", "c"], 1)]
    report = make_report(tally_of(*failures))
    found = report.errors, report.error_examples, report.models["gpt-4.1"].errors
    assert [list(errors) for errors in found] == [["c", "a", "b"]] * 3


def test_every_count_stands_in_its_place(prices: Path) -> None:
    report = make_report(
        tally_of(
            head(1),
            head(2, outcome="refused", attempts=2),
            head(3, outcome="incomplete", code="incomplete_max_output_tokens"),
            failed(4, "server_error", attempts=6, throttles=2, retryable=True),
            head(5, asked="small", usage=(10, 0, 20, 0)),
            head(6, asked="small", usage=None),
            head(7, asked="nobody-prices-this"),
            prices=prices,
        )
    )
    lines = report.lines
    assert (lines.total, lines.succeeded, lines.failed, lines.pending) == (10, 5, 2, 3)
    assert (lines.refused, lines.incomplete) == (1, 1)
    usage = report.usage
    assert (usage.input_tokens, usage.cached_tokens) == (4010, 1600)
    assert (usage.output_tokens, usage.reasoning_tokens) == (420, 120)
    assert (usage.total_tokens, usage.lines_without_usage) == (4430, 1)
    assert (report.cost.unpriced_lines, report.cost.price_source) == (1, "prices.toml")
    assert (report.attempts, report.retries, report.throttles) == (13, 4, 2)
    assert report.errors == {"incomplete_max_output_tokens": 1, "server_error": 1}
    assert list(report.models) == ["gpt-4.1", "nobody-prices-this", "small"]


def test_cached_tokens_are_part_of_the_input_and_reasoning_of_the_output(prices: Path) -> None:
    report = make_report(tally_of(head(usage=(1_000_000, 400_000, 100_000, 99_000)), prices=prices))
    assert report.cost.total_usd == Decimal("0.6") * 2 + Decimal("0.4") * Decimal("0.5") + Decimal("0.1") * 8
    assert report.usage.total_tokens == 1_100_000


def test_money_is_exact_to_the_end(prices: Path) -> None:
    """A million lines of a price that no float holds: not a digit is lost, in the table or in the JSON."""
    tally = tally_of(prices=prices)
    one = head(asked="small", usage=(1, 0, 1, 0))
    for _ in range(1000):
        tally.add([one])
    report = make_report(tally)
    assert report.cost.total_usd == Decimal("0.0003")
    large = make_report(tally_of(head(usage=(2**53, 1, 2**53, 0)), prices=prices))
    exact = (Decimal(2**53 - 1) * 2 + Decimal("0.5") + Decimal(2**53) * 8) / 10**6
    assert large.cost.total_usd == exact
    assert json.loads(large.to_json(), parse_float=Decimal)["cost"]["total_usd"] == exact


def test_lines_are_grouped_by_the_model_asked_for_and_priced_by_the_one_that_answered(prices: Path) -> None:
    report = make_report(tally_of(head(model="small"), head(2, model="small"), head(3), prices=prices))
    model = report.models["gpt-4.1"]
    assert model.answered_by == {"small": 2, "gpt-4.1": 1}
    cost_of_small = Decimal("0.1") * 1000 + Decimal("0.2") * 100
    cost_of_large = 2 * 600 + Decimal("0.5") * 400 + 8 * 100
    assert model.cost.total_usd == (2 * cost_of_small + cost_of_large) / 10**6


def test_the_list_of_genai_prices_is_used_where_there_is_no_file() -> None:
    report = make_report(tally_of(head()))
    assert report.cost.total_usd == Decimal("0.0022")
    assert report.cost.price_source.startswith("genai-prices ")


def test_an_answer_without_usage_is_counted_and_a_failed_line_is_not_one(prices: Path) -> None:
    report = make_report(tally_of(head(usage=None), failed(2, "server_error"), prices=prices))
    assert report.usage.lines_without_usage == 1
    assert report.cost.unpriced_lines == 0


def test_a_failed_line_that_was_billed_is_in_the_bill(prices: Path) -> None:
    report = make_report(tally_of(failed(1, "content_filter", usage=(1000, 0, 100, 0), model="gpt-4.1"), prices=prices))
    assert report.cost.total_usd == Decimal("0.0028")


def test_pending_lines_are_the_last_records_word_unless_somebody_knows(prices: Path) -> None:
    tally = tally_of(head(total_lines=5), head(2, total_lines=8), prices=prices)
    assert (make_report(tally).lines.total, make_report(tally).lines.pending) == (8, 6)
    assert (make_report(tally, 3).lines.total, make_report(tally, 3).lines.pending) == (5, 3)


def test_times_of_several_runs_add_up(prices: Path) -> None:
    """Each run lasts from its start to its last record, in whatever order the records come."""
    heads = [head(line, elapsed_s=float(line)) for line in (1, 4, 2)]
    heads += [head(line, started=LATER, elapsed_s=float(line)) for line in (5, 6)]
    report = make_report(tally_of(*heads, prices=prices))
    assert (report.duration_s, report.lines_per_s) == (10.0, 0.5)
    assert make_report(tally_of(prices=prices)).lines_per_s is None


def test_the_price_of_the_time_a_line_was_sent_is_the_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[datetime] = []
    book = PriceBook()
    quote = book.quote

    def noted(answered: str | None, model: str | None, when: datetime, tier: str | None) -> Quote:
        asked.append(when)
        return quote(answered, model, when, tier)

    monkeypatch.setattr(book, "quote", noted)
    Tally(book).add([head(asked="deepseek-chat", elapsed_s=60.0)])  # whose price depends on the time of day
    assert asked[1:] == [datetime.fromisoformat(STARTED) + timedelta(seconds=60)]


def test_clearing_forgets_all(prices: Path) -> None:
    tally = tally_of(head(), failed(2, "server_error", retryable=True), prices=prices)
    assert (tally.recorded, tally.failed, tally.retryable, tally.tokens, tally.output_tokens) == (2, 1, 1, 1100, 100)
    tally.clear()
    assert (tally.recorded, tally.failed, tally.retryable, tally.tokens, tally.output_tokens) == (0, 0, 0, 0, 0)
    assert make_report(tally) == make_report(tally_of(prices=prices))


# -------------------------------------------------------------------------------- the whole and its parts

TOKENS = st.integers(0, 2**53)
USAGES = st.tuples(TOKENS, TOKENS).flatmap(
    lambda counts: st.tuples(
        st.just(counts[0]), st.integers(0, counts[0]), st.just(counts[1]), st.integers(0, counts[1])
    )
)
HEADS = st.builds(
    head,
    st.integers(1, 10**6),
    asked=st.sampled_from(["gpt-4.1", "small", "unknown", "gpt-4o"]),
    usage=st.none() | USAGES,
    outcome=st.sampled_from(["succeeded", "refused", "incomplete", "failed"]),
    code=st.none() | st.sampled_from(["server_error", "rate_limit_exceeded"]),
    attempts=st.integers(1, 10),
    throttles=st.integers(0, 3),
    latency_s=st.none() | st.floats(0, 10_000),
)
BOOK = PriceBook()


@given(st.lists(HEADS, max_size=30))
def test_the_total_is_the_sum_over_the_models(heads: list[ResultHead]) -> None:
    tally = Tally(BOOK)
    for each in heads:
        tally.add([each])
    report = make_report(tally, 0)
    models = report.models.values()
    for name in ("succeeded", "failed", "refused", "incomplete"):
        assert getattr(report.lines, name) == sum(getattr(model.lines, name) for model in models)
    for name in report.usage.__struct_fields__:
        assert getattr(report.usage, name) == sum(getattr(model.usage, name) for model in models)
    assert report.cost.total_usd == sum((model.cost.total_usd for model in models), Decimal(0))
    assert report.cost.unpriced_lines == sum(model.cost.unpriced_lines for model in models)
    assert report.attempts == sum(model.attempts for model in models)
    assert report.throttles == sum(model.throttles for model in models)
    assert sum(report.errors.values()) == sum(sum(model.errors.values()) for model in models)
    assert report.lines.total == len(heads) == report.lines.succeeded + report.lines.failed


@given(st.lists(HEADS, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(heads: list[ResultHead], chance: random.Random) -> None:
    shuffled = list(heads)
    chance.shuffle(shuffled)
    first, second = make_report(tally_of(*heads), 0), make_report(tally_of(*shuffled), 0)
    assert first.cost == second.cost
    assert first.usage == second.usage
    assert first.latency_s == second.latency_s
    assert {**first.errors} == {**second.errors}


@given(st.lists(HEADS, max_size=10))
@pytest.mark.smoke
def test_any_report_can_be_printed_and_read_back(heads: list[ResultHead]) -> None:
    report = make_report(tally_of(*heads))
    assert render(report).endswith("\n")
    assert json.loads(report.to_json())["attempts"] == report.attempts


# --------------------------------------------------------------------------------------------- quantiles


def exact_quantile(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@given(st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_one_percent(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add([value])
    quantile = histogram.quantile(share)
    assert quantile is not None
    assert quantile == pytest.approx(exact_quantile(values, share), rel=0.01 + 0.005)  # 0.005: three digits shown


def test_an_empty_histogram_knows_nothing() -> None:
    assert Histogram().summary() == Latency(None, None, None)


def test_merged_histograms_are_the_histogram_of_all() -> None:
    parts, whole = [Histogram(), Histogram()], Histogram()
    for index in range(1000):
        seconds = 0.01 * 1.01**index
        parts[index % 2].add([seconds])
        whole.add([seconds])
    parts[0].merge(parts[1])
    assert parts[0].summary() == whole.summary()


def test_a_value_of_zero_is_no_crash() -> None:
    histogram = Histogram()
    histogram.add([0.0])
    assert histogram.quantile(0.5) == pytest.approx(1e-6, rel=0.02)


def test_latencies_take_no_memory_a_line() -> None:
    histogram = Histogram()
    for index in range(100_000):
        histogram.add([0.001 + index % 977 / 100])
    assert len(histogram._buckets) < 700


# ------------------------------------------------------------------------------------------------ as text


@pytest.mark.smoke
def test_the_table_word_for_word(prices: Path) -> None:
    report = make_report(
        tally_of(
            head(1, first_text_s=0.25),
            head(2, outcome="refused", attempts=2, latency_s=2.0),
            head(3, outcome="incomplete", code="incomplete_max_output_tokens", message="the answer stops early"),
            failed(4, "server_error", attempts=6, throttles=1, message="out of\n order " + "x" * 200),
            failed(5, "server_error"),
            head(6, asked="small", usage=None),
            head(7, asked="nobody", usage=(1_234_567, 0, 0, 0)),
            prices=prices,
        )
    )
    assert render(report) == (
        "model    lines  ok  failed      input  cached  output  reasoning       USD\n"
        "gpt-4.1      5   2       3      3,000   1,200     300         90    0.0066\n"
        "nobody       1   1       0  1,234,567       0       0          0  unpriced\n"
        "small        1   1       0          0       0       0          0         -\n"
        "all          7   4       3  1,237,567   1,200     300         90    0.0066\n"
        "failed:      2 × server_error  e.g. 'r-4': out of order " + "x" * 87 + "\n"
        "failed:      1 × incomplete_max_output_tokens  e.g. 'r-3': the answer stops early\n"
        "note: 3 still to do; 1 incomplete (stopped early; counted as failed); 1 refused (counted as ok); "
        "1 answered without usage (not in the bill); 1 without a known price (not in the bill; see --prices)\n"
        "attempts for these records: 13, 5 retries, 1 throttled; 7.0 s, 1.0 lines/s\n"
        "latency: p50 1.01 s, p95 2.02 s, p99 2.02 s\n"
        "first text: p50 0.248 s, p95 0.248 s, p99 0.248 s\n"
    )


def test_a_report_prints_as_the_command_prints_it(prices: Path) -> None:
    report = make_report(tally_of(head(total_lines=1), prices=prices))
    assert f"{report}\n" == render(report)
    assert render(report, "r.jsonl; look").splitlines()[-1] == "answers: r.jsonl; look"


def test_one_model_needs_no_line_for_all(prices: Path) -> None:
    table = render(make_report(tally_of(head(total_lines=1), prices=prices)))
    assert table.splitlines()[:3] == [
        "model    lines  ok  failed  input  cached  output  reasoning     USD",
        "gpt-4.1      1   1       0  1,000     400     100         30  0.0022",
        "attempts for these records: 1, 0 retries, 0 throttled; 1.0 s, 1.0 lines/s",
    ]


def test_nothing_at_all_is_a_table_too(prices: Path) -> None:
    assert render(make_report(tally_of(prices=prices))) == (
        "model  lines  ok  failed  input  cached  output  reasoning  USD\n"
        "all        0   0       0      0       0       0          0    -\n"
        "note: there are no records, and no run log says how many lines are to do\n"
        "attempts for these records: 0, 0 retries, 0 throttled; 0.0 s\n"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0.0 s"), (59.94, "59.9 s"), (61, "1m 01s"), (3600, "1h 00m 00s"), (90061, "25h 01m 01s")],
)
def test_durations_are_shown_for_people(prices: Path, seconds: float, shown: str) -> None:
    text = render(make_report(tally_of(head(elapsed_s=seconds), prices=prices)))
    assert f"throttled; {shown}" in text


# ------------------------------------------------------------------------------------------------ as JSON

LINES = {"total", "succeeded", "failed", "pending"}
USAGE = {
    *("input_tokens", "cached_tokens", "output_tokens"),
    *("reasoning_tokens", "total_tokens", "lines_without_usage"),
}
COST = {
    *("total_usd", "currency", "unpriced_lines", "price_source"),
    *("unpriced_calls", "standard_tiers", "gateway_usd", "billed_by_gateway"),
}


def test_the_json_has_all_the_keys_that_are_promised(prices: Path) -> None:
    report: Report = make_report(tally_of(head(), failed(2, "server_error"), prices=prices))
    made = json.loads(report.to_json())
    assert made.keys() >= {"lines", "usage", "cost", "models", "attempts", "errors", "latency_s", "duration_s"}
    for part in (made, made["models"]["gpt-4.1"]):
        assert part["lines"].keys() >= LINES
        assert part["usage"].keys() >= USAGE
        assert part["cost"].keys() >= COST
        assert part["latency_s"].keys() >= {"p50", "p95", "p99"}
    assert made["errors"] == {"server_error": 1}
    assert made["error_examples"]["server_error"] == {"custom_id": "r-2", "line": 2, "message": "what went wrong"}
    assert made["cost"]["currency"] == "USD"
    assert isinstance(made["cost"]["total_usd"], float)
    assert report.to_json().endswith(b"}\n")
