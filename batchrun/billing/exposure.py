"""What may have been billed without an answer to show for it: the attempts in flight when a run ended.

An attempt is logged before it is sent; one without an end and without a record may have been answered, and
billed, after its process had died. Its line goes again, so it may be billed twice. The bound is made of what the
request says: a token has at least one byte, and the answer no more tokens than `max_output_tokens` allows. What a
request only names (files, images by URL, earlier responses, a stored prompt) is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from batchrun.billing.pricing import PriceBook
from batchrun.records.attempt import BilledTwice, InFlight
from batchrun.records.money import total_usd


def bound(attempts: Iterable[InFlight], book: PriceBook, longest_answer: int) -> BilledTwice:
    """What these attempts may have cost; `longest_answer` is in tokens, 0 where there is none."""
    lines, estimated, unknown = 0, 0, 0
    costs: list[Decimal] = []
    for attempt in attempts:
        lines += 1
        if attempt.upper_usd is not None:
            costs.append(attempt.upper_usd)
            continue
        price = book.price(attempt.model)
        output_tokens = attempt.max_output_tokens or longest_answer
        if price is None or not output_tokens:
            unknown += 1
            continue
        estimated += attempt.max_output_tokens is None
        costs.append(price.upper_bound(attempt.body_bytes, output_tokens))
    return BilledTwice(lines, total_usd(costs), estimated, unknown)
