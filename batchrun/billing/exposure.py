"""What may have been billed without an answer to show for it: the attempts in flight when a run ended.

An attempt is logged before it is sent; one without an end and without a record may have been answered, and
billed, after its process had died. Its line goes again, so it may be billed twice. The bound is made of what the
request says: a token has at least one byte, and the answer no more tokens than `max_output_tokens` allows. What a
request only names (files, images by URL, earlier responses, a stored prompt) is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from batchrun.billing.prices import total_usd
from batchrun.billing.pricing import PriceBook, usd


class InFlight(msgspec.Struct, frozen=True):
    """One attempt that was sent: the model asked for, the size of its body, the tokens it allows the answer.

    `upper_usd` is the most that it could cost, where a budget reserved that.
    """

    model: str
    body_bytes: int
    max_output_tokens: int | None = None
    upper_usd: Decimal | None = None


class BilledTwice(msgspec.Struct, frozen=True):
    """How many lines may have been billed twice, over all runs, and up to what.

    `estimated_lines` set no `max_output_tokens`: they are in `upper_usd` with the longest answer of the file.
    `unknown_lines` are not in `upper_usd`: nobody prices their model, or there is no answer yet to go by.
    """

    lines: int = 0
    upper_usd: Decimal = Decimal(0)
    estimated_lines: int = 0
    unknown_lines: int = 0

    def __add__(self, other: BilledTwice) -> BilledTwice:
        return BilledTwice(
            self.lines + other.lines,
            total_usd((self.upper_usd, other.upper_usd)),
            self.estimated_lines + other.estimated_lines,
            self.unknown_lines + other.unknown_lines,
        )

    def in_words(self) -> str:
        """The amount, and what it does not say."""
        if self.unknown_lines == self.lines:
            return "what for nobody can tell (no price, or no answer to go by)"
        words = f"up to ${usd(self.upper_usd)} may have been billed twice"
        if self.unknown_lines:
            words += f", and an unknown amount for {self.unknown_lines:,} of them"
        if self.estimated_lines:
            words += f" ({self.estimated_lines:,} set no max_output_tokens: taken as the longest answer so far)"
        return words


def bound(attempts: Iterable[InFlight], book: PriceBook, longest_answer: int) -> BilledTwice:
    """What these attempts may have cost; `longest_answer` is in tokens, 0 where there is none."""
    lines, estimated, unknown = 0, 0, 0
    costs: list[Decimal] = []
    for attempt in attempts:
        lines += 1
        if attempt.upper_usd is not None:
            costs.append(attempt.upper_usd)
            continue
        rate = book.rate(attempt.model)
        output_tokens = attempt.max_output_tokens or longest_answer
        if rate is None or not output_tokens:
            unknown += 1
            continue
        estimated += attempt.max_output_tokens is None
        costs.append(rate.upper_bound(attempt.body_bytes, output_tokens))
    return BilledTwice(lines, total_usd(costs), estimated, unknown)
