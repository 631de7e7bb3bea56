"""The price list of genai-prices, which a small separate process reads.

1. The list and its library take 14 MB, and a job asks for one or two names. A separate process answers, and ends some
   seconds after the last question, so that the memory is free again.
2. That process gets model names and nothing else: no arguments, and only `PYTHONPATH` as its environment.
3. It answers with the prices of a model and the times at which they apply. If the answer cannot express a price, or no
   process can be started, this process reads the list itself. Both ways give the same prices.
4. A name may carry the service tier that was served (`tiered`). It is listed only if the tier has a price of its own.
5. A name that the list assigns to no maker (a fine-tuned model, embeddings) is looked up with the makers it can be of.
6. Only the public interface of genai-prices is used, and the meaning of a price is checked, not guessed: see `_agrees`.
7. What it has answered is kept for later runs, as long as the same genai-prices is installed: see `pricecache.py`. Then
   a short job starts no second process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from typing import IO, TYPE_CHECKING, Protocol

import msgspec

from batchrun.billing.pricecache import PriceCache, cache_folder
from batchrun.billing.prices import Price, TierPrice
from batchrun.records.money import NOTHING
from batchrun.records.usage import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

LINGER_S = 5.0
_SERVE = "from batchrun.billing.pricelist import serve; serve()"


class Listing(Protocol):
    """What the list says about a model."""

    @property
    def is_dated(self) -> bool:
        """Whether the price depends on the time."""

    def price(self, when: datetime) -> Price | None:
        """The price of a request sent at `when` (UTC if naive); None if its tokens have no price."""


_TIER = "\0tier="


def tiered(model: str, tier: str) -> str:
    """The name to look up for the price of a model at a service tier: `flex`, `priority`."""
    return model + _TIER + tier


class DatedPrice(msgspec.Struct, frozen=True):
    """A price and the times at which it applies: from the day `since` on, or in some `hours` of each day (in UTC)."""

    price: Price | None
    since: date | None = None
    hours: tuple[time, time] | None = None

    def holds(self, when: datetime) -> bool:
        """Whether the price applies at `when`."""
        if self.since is not None:
            return when.date() >= self.since
        if self.hours is not None:
            start, end = self.hours
            now = when.time()
            return start <= now < end if start <= end else now >= start or now < end
        return True


class Prices(msgspec.Struct, frozen=True):
    """The prices of a model, as one process sends them to another. If several apply, the last one counts."""

    prices: tuple[DatedPrice, ...]

    @property
    def is_dated(self) -> bool:
        """Whether there is more than one price."""
        return len(self.prices) > 1

    def price(self, when: datetime) -> Price | None:
        """The price at `when` (UTC if naive)."""
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        return next((dated for dated in reversed(self.prices) if dated.holds(when)), self.prices[0]).price


class _Reply(msgspec.Struct, frozen=True):
    """The answer about a model. `prices` of a listed model are None if they are of a kind that cannot be sent."""

    is_listed: bool
    prices: Prices | None = None


_encode = msgspec.json.Encoder().encode
_decode_name = msgspec.json.Decoder(str).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode


class PriceList:
    """Finds models in the list, by name or by `tiered` name; may be used by several threads."""

    def __init__(self, cache: PriceCache[_Reply] | None = None) -> None:
        self._cache = cache
        self._found: dict[str, Listing | None] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._is_alone = False
        self._lock = threading.Lock()

    def find(self, model: str) -> Listing | None:
        """What the list says about a model; None if it does not list it."""
        with self._lock:
            if model not in self._found:
                reply = self._cached(model)
                if reply is None or (reply.is_listed and reply.prices is None):
                    self._found[model] = look_up(model)
                else:
                    self._found[model] = reply.prices
            return self._found[model]

    def close(self) -> None:
        """End the process, if there is one; the next question starts another."""
        with self._lock:
            self._end()

    def forget_process(self) -> None:
        """Have no process: this one is a copy (`os.fork`) of the one that it belongs to."""
        self._process, self._lock = None, threading.Lock()

    def _cached(self, model: str) -> _Reply | None:
        """As `_ask`, of which the answer is kept for later runs."""
        if self._cache is None:
            return self._ask(model)
        if (reply := self._cache.get(model)) is None and (reply := self._ask(model)) is not None:
            self._cache.put(model, reply)
        return reply

    def _ask(self, model: str) -> _Reply | None:
        """The answer of the process; None if no process can be started, which is then not tried again."""
        while not self._is_alone:
            is_new = self._process is None
            try:
                if self._process is None:
                    self._process = _started()
                return _asked(self._process, model)
            except (OSError, ValueError):  # an old process may just have ended; a new one cannot be started
                self._end()
                self._is_alone = is_new
        return None

    def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError), self._process as process:  # closes its pipes, one of them broken
                process.kill()
            self._process = None


SHARED = PriceList(PriceCache(cache_folder(), _Reply))
"""The one price list of this process, so that each name is asked for once."""
atexit.register(SHARED.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SHARED.forget_process)


def _started() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,  # so that Ctrl-C does not reach it
    )
    threading.Thread(target=process.wait, daemon=True).start()  # else it would stay a zombie until this process ends
    return process


def _asked(process: subprocess.Popen[bytes], model: str) -> _Reply:
    assert process.stdin is not None, "it was started with pipes"
    assert process.stdout is not None, "it was started with pipes"
    process.stdin.write(_encode(model) + b"\n")
    process.stdin.flush()
    return _decode_reply(process.stdout.readline())


def serve() -> None:
    """Answer questions, one a line, until none has come for `LINGER_S` seconds. Runs in the separate process."""
    gc.disable()  # the list is needed until the process ends, so there is nothing to collect
    with open(0, "rb") as questions, open(1, "wb") as answers:
        _answer_all(questions, answers)


def _answer_all(questions: IO[bytes], answers: IO[bytes]) -> None:
    _end_soon()
    for question in questions:
        answers.write(_encode(_answer(_decode_name(question))) + b"\n")
        answers.flush()
        _end_soon()


def _end_soon() -> None:
    if hasattr(signal, "setitimer"):  # without it the process ends when the other one closes the pipe
        signal.setitimer(signal.ITIMER_REAL, LINGER_S)


def _answer(model: str) -> _Reply:
    found = look_up(model)
    return _Reply(False) if found is None else _Reply(True, found.carried_over())


# ----------------------------------------------------------------------- where genai-prices itself is read


class Model:
    """A model in genai-prices."""

    def __init__(self, name: str, info: ModelInfo, context: dict[str, str] | None = None) -> None:
        """`context` is that of genai-prices: the service tier, if its price is wanted."""
        self._name = name
        self._info = info
        self._context = context
        self._prices: dict[int, tuple[ModelPrice, Price | None]] = {}  # by identity of the price, which is kept
        self._of_context = self._read_context() if context else None

    @property
    def is_dated(self) -> bool:
        """Whether it has different prices at different times."""
        if self._of_context is not None:
            return self._of_context.is_dated
        return isinstance(self._info.prices, list)

    def price(self, when: datetime) -> Price | None:
        """The price at `when`."""
        if self._of_context is not None:
            return self._of_context.price(when)
        return self._price(self._info.get_prices(when, self._context))

    def _price(self, price: ModelPrice) -> Price | None:
        if id(price) not in self._prices:
            self._prices[id(price)] = price, _read(self._name, price)
        return self._prices[id(price)][1]

    def _read_context(self) -> Prices | None:
        """The prices of the context, which begin on certain days; None if one begins in another way."""
        from genai_prices.types import StartDateConstraint

        variants = [variant for variant in self._info.price_variants or () if variant.when == self._context]
        standard = self._info.prices if isinstance(self._info.prices, list) else []
        constraints = [each.constraint for each in standard] + [each.constraint for each in variants]
        constraints = [constraint for constraint in constraints if constraint is not None]
        if not all(isinstance(constraint, StartDateConstraint) for constraint in constraints):
            return None
        days = sorted({each.start_date for each in constraints if isinstance(each, StartDateConstraint)})
        before = self._info.get_prices(datetime(1, 1, 1, tzinfo=UTC), self._context)
        prices = [DatedPrice(_read(self._name, before))]
        for day in days:
            price = self._info.get_prices(datetime.combine(day, time(), UTC), self._context)
            prices.append(DatedPrice(_read(self._name, price), day))
        return Prices(tuple(prices))

    def carried_over(self) -> Prices | None:
        """All prices, to send to another process; None if one applies at times of a kind that is not known here."""
        from genai_prices.types import StartDateConstraint, TimeOfDateConstraint

        if self._context is not None:
            return self._of_context
        if not isinstance(self._info.prices, list):
            return Prices((DatedPrice(self._price(self._info.prices)),))
        prices = []
        for one in self._info.prices:
            price = self._price(one.prices)
            match one.constraint:
                case None:
                    prices.append(DatedPrice(price))
                case StartDateConstraint(start_date=since):
                    prices.append(DatedPrice(price, since))
                case TimeOfDateConstraint(start_time=start, end_time=end) if _are_utc((start, end)):
                    prices.append(DatedPrice(price, None, (start.replace(tzinfo=None), end.replace(tzinfo=None))))
                case _:
                    return None
        return Prices(tuple(prices))


def _are_utc(times: Sequence[time]) -> bool:
    return all(each.tzinfo in (None, UTC) for each in times)


def look_up(model: str) -> Model | None:
    """What genai-prices, read in this process, says about a model; None if it does not list it."""
    name, _, tier = model.partition(_TIER)
    info = _info(name)
    if info is None or not tier:
        return Model(name, info) if info is not None else None
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    if all(variant.when != context for variant in info.price_variants or ()):
        return None
    return Model(name, info, context)


# Makers of names from which the list does not tell the maker: a fine-tuned model (`ft:gpt-…:org::id`), embeddings.
_MAKERS = {"ft:": ("openai", "mistral"), "embed": ("openai", "cohere", "mistral", "google", "voyageai")}


def _info(name: str) -> ModelInfo | None:
    import genai_prices

    lowered = name.lower()
    makers = next((ids for part, ids in _MAKERS.items() if lowered.startswith(part)), ())
    if not makers and "embed" in lowered and "/" not in lowered:
        makers = _MAKERS["embed"]
    for maker in (None, *makers):
        try:
            return genai_prices.calc_price(genai_prices.Usage(), name, provider_id=maker).model
        except LookupError:
            continue
    return None


# Endings of prices in the list that a plain request has to pay, but that a usage cannot be priced by.
_BEYOND_TOKENS = (
    *("requests_kcount", "messages_kcount", "_hours", "_kpages", "_mchars"),
    *("_text_mtok", "_text_read_mtok", "_reasoning_mtok", "_citation_mtok"),
)


# Tools as output items name them (`web_search_call`), and their units in the list, which prices a thousand calls.
_CALLS = {
    "web_search": "web_searches",
    "file_search": "storage_searches",
    "x_search": "social_searches",
    "code_interpreter": "code_executions",
}


def _read(model: str, price: ModelPrice) -> Price | None:
    """An entry of the list as a `Price`; None unless it prices tokens and genai-prices computes the same costs."""
    prices = {key: value for key, value in vars(price).items() if value is not None}
    if "input_mtok" not in prices or any(key.endswith(_BEYOND_TOKENS) for key in prices):
        return None
    starts = sorted({tier.start for value in prices.values() for tier in getattr(value, "tiers", ())})
    tiers = []
    for start in (-1, *starts):
        plain = _price_above(prices["input_mtok"], start)
        tiers.append(
            TierPrice(
                input=plain,
                cached=_price_above(prices.get("cache_read_mtok", plain), start),
                cache_write=_price_above(prices.get("cache_write_mtok", plain), start),
                output=_price_above(prices.get("output_mtok", NOTHING), start),  # embeddings have none
            )
        )
    calls = tuple(
        (name, thousand.scaleb(-3))
        for name, unit in _CALLS.items()
        if isinstance(thousand := prices.get(f"{unit}_kcount"), Decimal)
    )
    carried = Price(model, f"genai-prices {version('genai-prices')}", tuple(starts), tuple(tiers), calls)
    return carried if _agrees(carried, price) else None


def _price_above(price: Decimal | TieredPrices, tokens: int) -> Decimal:
    """The price of requests with more than `tokens` input tokens."""
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if tokens >= tier.start), price.base)


def _agrees(carried: Price, price: ModelPrice) -> bool:
    """Whether genai-prices computes the same cost as `carried`, at the edges of each tier."""
    import genai_prices

    for size in {0, 1000, *carried.starts, *(start + 1 for start in carried.starts)}:
        calls = {name: number for number, (name, _) in enumerate(carried.calls, 3)}
        usage = Usage(size, size // 2, 1000, 0, size + 1000, size // 4, calls)
        theirs = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
            **{_CALLS[name]: count for name, count in calls.items()},
        )
        try:
            if price.calc_price(theirs)["total_price"] != carried.cost(usage):
                return False
        except ValueError:  # the entry itself is broken
            return False
    return True
