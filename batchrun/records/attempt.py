"""Attempts as the run log records them: what was in flight, what may have been billed twice, answered controls."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from batchrun.records.money import total_usd, usd
from batchrun.records.usage import Usage


class InFlight(msgspec.Struct, frozen=True):
    """One attempt that was sent: its model, the size of its body in bytes, and its limit on output tokens.

    `max_output_tokens` is None if the request sets no limit. `upper_usd` is the most that the attempt could cost,
    in US dollars; None if no budget reserved an amount for it. `endpoint`: where it went, if there are several.
    """

    model: str
    body_bytes: int
    max_output_tokens: int | None = None
    upper_usd: Decimal | None = None
    endpoint: str | None = None


class AnsweredControl(msgspec.Struct, frozen=True, omit_defaults=True):
    """A control request that was answered: it is billed like a line, and has no record. The fields are those of one."""

    requested_model: str
    started: str
    elapsed_s: float
    model: str | None = None
    usage: Usage | None = None
    service_tier: str | None = None
    gateway_cost_usd: Decimal | None = None
    endpoint: str | None = None


class BilledTwice(msgspec.Struct, frozen=True):
    """How many lines may have been billed twice, over all runs, and what that may have cost.

    `lines`: lines that were in flight when a run ended without their answers; a control request counts as one.
    `upper_usd`: US dollars, an upper bound: what their lost answers may have cost.
    `estimated_lines`: lines without `max_output_tokens`; `upper_usd` counts each as the longest answer of the file.
    `unknown_lines`: lines that `upper_usd` leaves out: their model has no price, or the file has no answer yet.
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
        """The amount, and what it leaves out."""
        if self.unknown_lines == self.lines:
            return "their cost is unknown (no price, or no answer to go by)"
        words = f"up to ${usd(self.upper_usd)} may have been billed twice"
        if self.unknown_lines:
            words += f", and an unknown amount for {self.unknown_lines:,} of them"
        if self.estimated_lines:
            words += f" ({self.estimated_lines:,} set no max_output_tokens: counted as the longest answer so far)"
        return words
