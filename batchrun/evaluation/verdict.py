"""What becomes of a row: one of five counts, which are never mixed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """What the answer to one row is worth.

    `NOT_ASKED`: gold without a record: its row is not in the request file, or was not sent yet. `UNANSWERED`: asked,
    and there is no answer that can be read: it failed, was refused, is incomplete, empty, invalid or without the
    field. `UNSCORED`: there is no gold for it.
    """

    NOT_ASKED = "not_asked"
    RIGHT = "right"
    WRONG = "wrong"
    UNANSWERED = "unanswered"
    UNSCORED = "unscored"


class Unanswered(StrEnum):
    """The policy for rows without an answer: each counts as wrong, or is left out of the denominator."""

    WRONG = "wrong"
    EXCLUDE = "exclude"


class Counts(msgspec.Struct, frozen=True):
    """How many rows became what; `not_asked` and `unscored` are in no denominator."""

    not_asked: int = 0
    right: int = 0
    wrong: int = 0
    unanswered: int = 0
    unscored: int = 0

    @classmethod
    def of(cls, counted: Mapping[Verdict, int]) -> Counts:
        """From a count of each verdict."""
        return cls(**{verdict.value: counted.get(verdict, 0) for verdict in Verdict})

    @property
    def answered(self) -> int:
        """Rows with an answer that was held against gold."""
        return self.right + self.wrong

    @property
    def asked(self) -> int:
        """Rows with gold that were asked."""
        return self.answered + self.unanswered

    def denominator(self, policy: Unanswered) -> int:
        """The rows that an accuracy is a share of."""
        return self.asked if policy is Unanswered.WRONG else self.answered


def of_all_fields(verdicts: list[Verdict]) -> Verdict:
    """The verdict on a row from those on its fields: right where all are for which there is gold.

    One field that is wrong, or not answered, decides, whatever gold lacks of the others.
    """
    for verdict in (Verdict.NOT_ASKED, Verdict.UNANSWERED, Verdict.WRONG, Verdict.RIGHT):
        if verdict in verdicts:
            return verdict
    return Verdict.UNSCORED
