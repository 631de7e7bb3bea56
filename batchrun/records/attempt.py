"""Attempts as the run log remembers them: what was in flight, and what of it may have been billed twice."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from batchrun.records.money import total_usd, usd


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

    `lines`: lines that were in flight when a run ended without their answers.
    `upper_usd`: US dollars, an upper bound: what their lost answers may have cost.
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
            return "their cost is unknown (no price, or no answer to go by)"
        words = f"up to ${usd(self.upper_usd)} may have been billed twice"
        if self.unknown_lines:
            words += f", and an unknown amount for {self.unknown_lines:,} of them"
        if self.estimated_lines:
            words += f" ({self.estimated_lines:,} set no max_output_tokens: counted as the longest answer so far)"
        return words
