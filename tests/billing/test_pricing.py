"""The bill: known prices, exact sums, price files, and what is left unpriced."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact
from importlib.metadata import version
from pathlib import Path

import genai_prices
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.billing.bill import Bill
from batchrun.billing.prices import Price, Rates, TierPrice
from batchrun.billing.pricing import PriceBook
from batchrun.errors import UsageError
from batchrun.records.money import usd
from batchrun.records.usage import ZERO, Usage

LIST = f"genai-prices {version('genai-prices')}"
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
MILLION = 1_000_000
LIST_BOOK = PriceBook.load(None)
EXACT = Context(prec=100)


def used(input_tokens: int, output_tokens: int = 0, cached: int = 0, reasoning: int = 0, written: int = 0) -> Usage:
    total = input_tokens + output_tokens
    return Usage(input_tokens, cached, output_tokens, reasoning, total, written)


def listed_cost(
    usage: Usage, model: str, when: datetime = NOON, maker: str | None = None, tier: str | None = None
) -> Decimal:
    """What the library charges for one line."""
    price = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
        ),
        model,
        provider_id=maker,
        genai_request_timestamp=when,
        price_context={"service_tier": tier} if tier else None,
    )
    return price.total_price


def write_prices(folder: Path, text: str, name: str = "prices.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("model", "plain", "cached", "output"),
    [
        ("gpt-4.1", "2", "0.5", "8"),
        ("gpt-4.1-2025-04-14", "2", "0.5", "8"),
        ("gpt-4.1-mini", "0.4", "0.1", "1.6"),
        ("gpt-4.1-nano", "0.1", "0.025", "0.4"),
        ("gpt-4o", "2.5", "1.25", "10"),
        ("gpt-4o-mini", "0.15", "0.075", "0.6"),
        ("gpt-5", "1.25", "0.125", "10"),
        ("gpt-5-mini", "0.25", "0.025", "2"),
        ("gpt-5-nano", "0.05", "0.005", "0.4"),
        ("gpt-5-pro", "15", "15", "120"),
    ],
)
def test_known_prices(model: str, plain: str, cached: str, output: str) -> None:
    """The published prices in USD per million tokens; a model without a cached price charges plain input."""
    rate = LIST_BOOK.price(model, NOON)
    assert rate is not None
    assert rate.tiers == (TierPrice(Decimal(plain), Decimal(cached), Decimal(plain), Decimal(output)),)
    assert (rate.model, rate.source) == (model, LIST)
    assert rate.cost(used(MILLION)) == Decimal(plain)
    assert rate.cost(used(MILLION, cached=MILLION)) == Decimal(cached)
    assert rate.cost(used(0, MILLION, reasoning=MILLION)) == Decimal(output)


def test_cached_and_reasoning_are_billed_once() -> None:
    """1000 in, 400 of them cached, 100 out, 60 reasoning: 600 × 2 + 400 × 0.5 + 100 × 8 per million."""
    rate = LIST_BOOK.price("gpt-4.1")
    assert rate is not None
    assert rate.cost(used(1000, 100, cached=400, reasoning=60)) == Decimal("0.0022")


@pytest.mark.parametrize("model", ["", "openai/gpt-4.1", "gpt-4.1-relay", "my-model", "模型", "x" * 10_000])
def test_unknown_models_have_no_rate(model: str) -> None:
    assert LIST_BOOK.price(model) is None


@pytest.mark.parametrize("model", ["whisper-1", "tts-1", "mistral-ocr-2503", "mistral-nemo:free"])
def test_models_without_a_token_price_have_no_rate(model: str) -> None:
    """The list knows them, but charges by the hour, page or character: 0 for their tokens would be a lie."""
    assert LIST_BOOK.price(model, NOON) is None


def test_every_listed_token_price_agrees_with_the_library() -> None:
    """No model of the big providers is unpriced by mistake, or priced differently at the edges of a tier."""
    from genai_prices.data import providers

    makers = [p for p in providers if p.id in {"openai", "anthropic", "google", "deepseek", "x-ai", "moonshotai"}]
    checked = 0
    for maker_id, model in ((maker.id, model.id) for maker in makers for model in maker.models):
        rate = LIST_BOOK.price(model, NOON)
        if rate is None:
            continue
        for size in {7, *rate.starts, *(start + 1 for start in rate.starts), 3 * MILLION}:
            usage = used(size, 333, cached=size // 3, reasoning=11, written=size // 5)
            named = maker_id if model.startswith("ft:") or "embed" in model else None
            assert rate.cost(usage) == listed_cost(usage, model, maker=named), model
        checked += 1
    assert checked > 150


@pytest.mark.parametrize(("tokens", "tier", "plain"), [(272_000, 0, "2.5"), (272_001, 1, "5")])
def test_tier_is_chosen_by_input_size(tokens: int, tier: int, plain: str) -> None:
    """gpt-5.4 charges a request of more than 272,000 tokens more for every token, from the first on."""
    rate = LIST_BOOK.price("gpt-5.4", NOON)
    assert rate is not None
    assert rate.tier_of(used(tokens)) == tier
    assert rate.cost(used(tokens)) == tokens * Decimal(plain) / MILLION


def test_time_of_day_prices() -> None:
    """deepseek-chat costs less at night (UTC); each line is priced at its own time."""
    night = NOON.replace(hour=20)
    usage = used(MILLION, MILLION)
    bill = Bill(LIST_BOOK, NOON)
    for when in (None, NOON, night, night):
        bill.add("deepseek-chat", None, [usage], when)
    day_cost, night_cost = (listed_cost(usage, "deepseek-chat", when) for when in (NOON, night))
    assert day_cost > night_cost
    assert bill.cost_usd == 2 * day_cost + 2 * night_cost


def test_price_changes_by_date() -> None:
    """o3 became cheaper on 2025-06-10."""
    before, after = (LIST_BOOK.price("o3", datetime(2025, 6, day, tzinfo=UTC)) for day in (9, 10))
    assert before is not None
    assert after is not None
    assert (before.tiers[0].input, after.tiers[0].input) == (Decimal(10), Decimal(2))


PRICED = (
    "gpt-4.1",
    "gpt-4o-mini",
    "gpt-5.4",
    "gpt-5.6-sol",
    "gemini-2.5-pro",
    "claude-sonnet-4-5",
    "deepseek-chat",
)
sizes = st.sampled_from([0, 1, 199_999, 200_000, 200_001, 272_000, 272_001]) | st.integers(0, 2_000_000)


@st.composite
def line_usages(draw: st.DrawFn) -> Usage:
    size, output = draw(sizes), draw(st.integers(0, 200_000))
    cached = draw(st.integers(0, size))
    written = draw(st.integers(0, size - cached))
    return used(size, output, cached, draw(st.integers(0, output)), written)


times = st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.tuples(st.sampled_from(PRICED), line_usages(), times), max_size=15))
@pytest.mark.smoke
def test_bill_equals_the_sum_over_lines(lines: list[tuple[str, Usage, datetime]]) -> None:
    """Adding integers and multiplying once gives to the digit what the library charges line by line."""
    bill = Bill(LIST_BOOK)
    for model, usage, when in lines:
        bill.add(model, "gpt-4.1", [usage], when)
    assert bill.cost_usd == sum((listed_cost(usage, model, when) for model, usage, when in lines), Decimal(0))
    assert bill.unpriced_lines == 0
    assert bill.usage == sum((usage for _, usage, _ in lines), ZERO)


@given(st.sampled_from(PRICED), line_usages())
def test_upper_bound_holds(model: str, usage: Usage) -> None:
    """No request of up to so many tokens costs more, however much of it is cached."""
    rate = LIST_BOOK.price(model, NOON)
    assert rate is not None
    bound = rate.upper_bound(usage.input_tokens, usage.output_tokens)
    assert rate.cost(usage) <= bound <= rate.upper_bound(usage.input_tokens + 1, usage.output_tokens + 1)


@pytest.mark.parametrize("tier", ["flex", "priority", "fast", "default"])
def test_every_price_of_a_tier_agrees_with_the_library(tier: str) -> None:
    """On the days around its beginning, at the edges of each size; before that day it costs the standard price."""
    from genai_prices.data import providers

    days = [datetime(2026, 10, day, 12, tzinfo=UTC) for day in (11, 12, 13, 16)] + [datetime(2027, 1, 1, tzinfo=UTC)]
    checked = 0
    for maker in providers:
        for model in maker.models if maker.id in {"openai", "google"} else ():
            if all(variant.when != {"service_tier": tier} for variant in model.price_variants or ()):
                continue
            for when in days:
                quote = LIST_BOOK.quote(model.id, None, when, tier)
                if quote.price is None:
                    continue
                assert not quote.is_standard
                for size in {7, *quote.price.starts, *(start + 1 for start in quote.price.starts)}:
                    usage = used(size, 333, cached=size // 3)
                    assert quote.price.cost(usage) == listed_cost(usage, model.id, when, tier=tier), (model.id, when)
                checked += 1
    assert checked > 80


@pytest.mark.parametrize(
    ("model", "tier", "is_standard"),
    [
        ("gpt-4.1", "scale", True),
        ("gpt-4.1", "default", False),
        ("gpt-4.1", "on_demand", False),
        ("deepseek-chat", "flex", True),
        ("nobody's", "flex", False),
    ],
)
def test_a_tier_without_a_price_is_told(model: str, tier: str, is_standard: bool) -> None:
    plain, quote = LIST_BOOK.quote(model, None, NOON), LIST_BOOK.quote(model, None, NOON, tier)
    assert quote.price == plain.price
    assert quote.is_standard is is_standard


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("ft:gpt-4o-mini-2024-07-18:acme::Bxyz123", "0.3"),
        ("ft:gpt-4o-2024-08-06:acme:name:Bxyz123", "3.75"),
        ("ft:gpt-4.1-mini-2025-04-14:acme::Bxyz123", None),
        ("text-embedding-3-small", "0.02"),
        ("text-embedding-3-large", "0.13"),
        ("text-embedding-ada-002", "0.1"),
        ("embed-v4.0", "0.12"),
        ("text-embedding-v3", None),
        ("acme/text-embedding-3-small", None),
    ],
)
def test_fine_tuned_and_embedding_models_have_the_price_of_their_maker(model: str, usd: str | None) -> None:
    """A fine-tuned model that the list does not know is unpriced, not priced as its base."""
    price = LIST_BOOK.price(model, NOON)
    assert (price and price.cost(used(MILLION))) == (usd and Decimal(usd))


def test_calls_of_tools_cost_what_the_library_says() -> None:
    usage = Usage(1000, 0, 100, 0, 1100, tool_calls={"web_search": 4, "file_search": 2, "code_interpreter": 1})
    theirs = genai_prices.Usage(input_tokens=1000, output_tokens=100, web_searches=4, storage_searches=2)
    price = LIST_BOOK.price("gpt-5-mini", NOON)
    assert price is not None
    assert price.cost(usage) == genai_prices.calc_price(theirs, "gpt-5-mini").total_price
    bill = Bill(LIST_BOOK)
    bill.add("gpt-5-mini", None, [usage, usage])
    assert bill.cost_usd == 2 * price.cost(usage)
    assert bill.unpriced_calls == {"code_interpreter": 2}


def test_huge_sums_stay_exact(tmp_path: Path) -> None:
    """A bill of more digits than Decimal keeps by default loses none of them."""
    path = write_prices(tmp_path, "[m]\ninput = 999999.999999999999\noutput = 0.000000000001\n")
    bill = Bill(PriceBook.load(path))
    for _ in range(3):
        bill.add("m", None, [used(2**53, 2**53)])
    tokens = 3 * 2**53
    assert bill.cost_usd == Decimal(1_000_000 * tokens).scaleb(-6, EXACT) == tokens


def test_bill_counts_what_it_cannot_price() -> None:
    """Unknown models and lines without usage are counted, cost nothing, and are not priced lines."""
    bill = Bill(LIST_BOOK)
    bill.add("relay/gpt", "my-alias", [used(10)])
    bill.add(None, "my-alias", [used(10)])
    bill.add(None, None, [used(10)])
    bill.add("gpt-4.1", "gpt-4.1", [None])
    assert bill.cost_usd == 0
    assert bill.unpriced_models == {"relay/gpt": 1, "my-alias": 1, "": 1}
    assert (bill.unpriced_lines, bill.lines_without_usage) == (3, 1)
    assert bill.price_source == "none"


def test_asked_model_prices_an_unknown_answer() -> None:
    """The answering model is billed if known, or else the one that was asked for."""
    bill = Bill(LIST_BOOK)
    bill.add("gpt-4o-mini", "gpt-4.1", [used(MILLION)])
    bill.add("relay-internal-7", "gpt-4.1", [used(MILLION)])
    bill.add(None, "gpt-4.1", [used(MILLION)])
    assert bill.cost_usd == Decimal("0.15") + Decimal(4)
    assert bill.usage == used(3 * MILLION)
    assert bill.price_source == LIST


TOML = """
["gpt-4.1"]
input = 3.00
cached = 0.10
output = 9

["relay/*"]
input = 0.000001
output = 0
cache_write = 1
"""


def test_price_file_wins(tmp_path: Path) -> None:
    """An entry for the model asked for prices its dated answer too; the list prices the rest."""
    bill = Bill(PriceBook.load(write_prices(tmp_path, TOML)))
    bill.add("gpt-4.1-2025-04-14", "gpt-4.1", [used(MILLION, MILLION, cached=MILLION // 2)])
    assert bill.cost_usd == Decimal("10.55")
    assert bill.price_source == "prices.toml"
    bill.add("Relay/X", None, [used(1)])
    assert bill.cost_usd == Decimal("10.550000000001")
    bill.add("gpt-4o-mini", "gpt-4o-mini", [used(MILLION)])
    assert bill.price_source == f"prices.toml, {LIST}"


def test_optional_prices_default_to_input(tmp_path: Path) -> None:
    rate = PriceBook.load(write_prices(tmp_path, "[m]\ninput = 3\noutput = 4\n")).price("m")
    assert rate is not None
    assert rate.tiers == (TierPrice(Decimal(3), Decimal(3), Decimal(3), Decimal(4)),)


def test_json_price_file(tmp_path: Path) -> None:
    """JSON says the same, with or without a BOM, and its numbers never pass through float."""
    text = '\ufeff{"m": {"input": 0.100000000001, "cached": 0, "output": 1e1}}'
    rate = PriceBook.load(write_prices(tmp_path, text, "prices.JSON")).price("m")
    assert rate is not None
    assert rate.tiers[0].input == Decimal("0.100000000001")
    assert (rate.tiers[0].cached, rate.tiers[0].output) == (Decimal(0), Decimal(10))
    assert rate.source == "prices.JSON"


@pytest.mark.parametrize(
    ("answered", "asked", "price"),
    [
        ("gpt-4.1", None, 1),
        ("GPT-4.1", None, 1),
        ("gpt-4.1-2025-04-14", None, 2),
        ("gpt-4.1-2025-04-14", "gpt-4.1", 1),
        ("gpt-4o", None, 3),
        ("gpt-4[1]", None, 4),
        ("other", "gpt-4.1", 1),
        ("other", "gpt-4o", 5),
        ("other\nline", None, 5),
    ],
)
def test_most_telling_entry_wins(tmp_path: Path, answered: str, asked: str | None, price: int) -> None:
    """Exact before pattern, for either name; long patterns before short ones; only `*` is special."""
    entries = {"*": 5, "gpt-*": 3, "gpt-4.1*": 2, "gpt-4.1": 1, "gpt-4[1]": 4}
    text = "\n".join(f'["{name}"]\ninput = {price}\noutput = 0' for name, price in entries.items())
    rate = PriceBook.load(write_prices(tmp_path, text)).quote(answered, asked, NOON).price
    assert rate is not None
    assert rate.tiers[0].input == price


GOOD = '{"input": 1, "output": 1}'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.toml", "", "no prices in it; write for each model"),
        ("p.json", "{}", "no prices in it"),
        ("p.json", "[]", "must be an object of model names"),
        ("p.json", '{"m": 2}', "'m' is not a table of prices"),
        ("p.csv", "m,1,2", "must end in .toml or .json"),
        ("p.toml", "[m", "not valid TOML"),
        ("p.json", "{", "not valid JSON"),
        ("p.json", "[" * 100_000, "not valid JSON"),
        ("p.json", '{"m": {"input": 1e9999999999999999999999, "output": 1}}', "not valid JSON"),
        ("p.json", f'{{"m": {GOOD}, "m": {GOOD}}}', "'m' occurs twice"),
        ("p.json", '{"m": {"input": 1, "input": 2, "output": 1}}', "'input' occurs twice"),
        ("p.json", f'{{"m": {GOOD}, "M": {GOOD}}}', "'m' and 'M' name one model"),
        ("p.toml", "[gpt-4.1]\ninput = 1\noutput = 1", 'a name with a dot needs quotes: ["gpt-4.1"]'),
        ("p.toml", "[m]\ninput = 1", "'m': 'output' is missing; add it in USD per million tokens"),
        ("p.toml", "[m]\noutput = 1", "'m': 'input' is missing"),
        (
            "p.toml",
            "[m]\ninput = 1\noutput = 1\ncache = 1",
            "unknown key 'cache'; the keys are input, cached",
        ),
        ("p.toml", '[m]\ninput = "1"\noutput = 1', "'m': input must be a number without quotes"),
        ("p.toml", "[m]\ninput = true\noutput = 1", "'m': input must be a number"),
        ("p.json", '{"m": {"input": null, "output": 1}}', "'m': input must be a number"),
        (
            "p.toml",
            "[m]\ninput = 1\noutput = -1",
            "'m': output must be 0 or more USD per million tokens; it is -1",
        ),
        ("p.toml", "[m]\ninput = nan\noutput = 1", "'m': input must be 0 or more"),
        ("p.json", '{"m": {"input": 1, "output": Infinity}}', "'m': output must be 0 or more"),
        ("p.json", '{"m": {"input": NaN, "output": 1}}', "'m': input must be 0 or more"),
        ("p.toml", "[m]\ninput = 1000001\noutput = 1", "at most 1000000, with at most 12 decimals"),
        ("p.toml", "[m]\ninput = 0.0000000000001\noutput = 1", "at most 1000000, with at most 12 decimals"),
        ("p.toml", "[m]\ninput = 1e-99999\noutput = 1", "at most 1000000, with at most 12 decimals"),
    ],
)
def test_price_file_errors(tmp_path: Path, name: str, text: str, message: str) -> None:
    """A price file that cannot be meant so is refused, with file, entry and what to write instead."""
    path = write_prices(tmp_path, text, name)
    with pytest.raises(UsageError) as caught:
        PriceBook.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_unreadable_price_files(tmp_path: Path) -> None:
    """A missing file, a folder and a file of other bytes are usage errors too."""
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes(b'["\xe9"]')
    for name in ("missing.toml", "folder.toml", "latin.toml"):
        with pytest.raises(UsageError, match=name):
            PriceBook.load(tmp_path / name)


def test_lost_digits_raise() -> None:
    """Sums too long for exact arithmetic end the program: no bill is better than a rounded one."""
    price = TierPrice(Decimal("0.000000000001"), Decimal(0), Decimal(0), Decimal(1))
    with pytest.raises(Inexact):
        price.cost(used(1, 10**60))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00"),
        ("0E-12", "0.00"),
        ("1", "1.00"),
        ("12.345", "12.35"),
        ("1234567.899", "1234567.90"),
        ("0.5", "0.50"),
        ("0.05", "0.05"),
        ("0.0543210", "0.0543"),
        ("0.9996", "1.00"),
        ("0.000123", "0.000123"),
        ("0.00012345", "0.000123"),
        ("1E-12", "0.000000000001"),
        ("1E+30", "1" + "0" * 30 + ".00"),
    ],
)
def test_usd(amount: str, text: str) -> None:
    assert usd(Decimal(amount)) == text


def run_python(code: str) -> str:
    """Run code in a fresh interpreter, warnings as errors; its output."""
    command = [sys.executable, "-W", "error", "-c", code]
    root = Path(__file__).parents[2]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout.strip()


def test_price_list_is_imported_late(tmp_path: Path) -> None:
    """Neither the import nor a job that its price file covers pays the 0.7 s of the bundled list."""
    path = write_prices(tmp_path, TOML)
    code = f"""
import pathlib, sys
from batchrun.billing.bill import Bill
from batchrun.billing.pricing import PriceBook
from batchrun.records.usage import Usage
bill = Bill(PriceBook.load(pathlib.Path({str(path)!r})))
bill.add("gpt-4.1", None, [Usage(1, 0, 1, 0, 2)])
print(bill.cost_usd, "genai_prices" in sys.modules)
"""
    cost, imported = run_python(code).split()
    assert (Decimal(cost), imported) == (Decimal("0.000012"), "False")


def test_pricing_opens_no_connection() -> None:
    """The list is the one that came with the package: nothing asks the network for another."""
    code = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from batchrun.billing.pricing import PriceBook
print(PriceBook.load(None).price("gpt-4.1").tiers[0].output)
"""
    assert Decimal(run_python(code)) == 8


@pytest.mark.parametrize(
    "usage",
    [
        Usage(1000, 0, 70, 0, 1070),
        Usage(300_000, 4000, 70, 20, 300_070, 900),
        Usage(200_000, 4000, 70, 20, 200_070, 0, {"web_search": 3}),
    ],
)
def test_rates_in_floats_are_those_of_the_price(usage: Usage) -> None:
    small = TierPrice(*map(Decimal, ("1.25", "0.31", "1.6", "10")))
    large = TierPrice(*map(Decimal, ("2.5", "0.625", "3", "15")))
    for starts, tiers in (((), (small,)), ((200_000,), (small, large))):
        price = Price("m", "a test", starts, tiers, (("web_search", Decimal("0.01")),))
        assert Rates(price).cost(usage) == pytest.approx(float(price.cost(usage)), rel=1e-12)
