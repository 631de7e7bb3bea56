"""The exposure: what the attempts in flight when a run ended may have cost without leaving an answer.

An attempt is logged before it is sent. If it has neither an end nor a record, the gateway may have answered and billed
it after the process died. Its line is sent again, so it may be billed twice. The bound comes from the request: a token
has at least one byte, and the answer has at most `max_output_tokens` tokens. The bound leaves out what a request only
names: files, images by URL, earlier responses, a stored prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal

from batchrun.billing.pricing import PriceBook
from batchrun.records.attempt import BilledTwice, InFlight
from batchrun.records.money import total_usd


def bound(
    attempts: Iterable[InFlight], book: PriceBook, longest_answer: int, books: Mapping[str, PriceBook] | None = None
) -> BilledTwice:
    """What these attempts may have cost. `longest_answer` is in tokens, 0 if there is no answer yet.

    `books`: the prices of endpoints that have their own, by name.
    """
    lines, estimated, unknown = 0, 0, 0
    costs: list[Decimal] = []
    for attempt in attempts:
        lines += 1
        if attempt.upper_usd is not None:
            costs.append(attempt.upper_usd)
            continue
        price = (books or {}).get(attempt.endpoint or "", book).price(attempt.model)
        output_tokens = attempt.max_output_tokens or longest_answer
        if price is None or not output_tokens:
            unknown += 1
            continue
        estimated += attempt.max_output_tokens is None
        costs.append(price.upper_bound(attempt.body_bytes, output_tokens))
    return BilledTwice(lines, total_usd(costs), estimated, unknown)


def bound_by_endpoint(
    attempts: Iterable[InFlight], book: PriceBook, longest_answer: int, books: Mapping[str, PriceBook]
) -> dict[str, Decimal]:
    """What these attempts may have cost at each of several endpoints, by name, in US dollars."""
    at = defaultdict[str, list[InFlight]](list)
    for attempt in attempts:
        if attempt.endpoint is not None:
            at[attempt.endpoint].append(attempt)
    return {name: bound(sent, book, longest_answer, books).upper_usd for name, sent in at.items()}
