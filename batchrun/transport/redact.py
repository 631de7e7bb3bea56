"""The key is redacted from all that may be stored or shown, and from what a debugger shows of its header. Pure."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from batchrun.records.outcome import Failure, Reply

# A shorter key is a stand-in ("EMPTY", "test") that may be a word of any answer: taking it out would spoil those.
SHORTEST_SECRET = 12
IN_ITS_PLACE = "[the api key]"
START_BYTES = 8  # a short start is looked for ten times as fast as a whole key


class Secret(str):
    """A text that goes over the wire as it is, and that no `repr` shows: tracebacks with local variables have many."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(IN_ITS_PLACE)


class Redactor:
    """Takes the key, and what else is secret, out of texts, bodies and outcomes.

    Of a value such as `Bearer KEY` each long word is a secret by itself: that is what a gateway repeats.
    """

    def __init__(self, *secrets: str) -> None:
        words = {word for secret in secrets for word in (secret, *secret.split()) if len(word) >= SHORTEST_SECRET}
        self._secrets = sorted(words, key=len, reverse=True)
        self._spellings = [spelling for secret in self._secrets for spelling in _spellings(secret)]

    def text(self, text: str) -> str:
        """A text of any length without the key."""
        for secret in self._secrets:
            text = text.replace(secret, IN_ITS_PLACE)
        return text

    def body(self, body: bytes) -> bytes:
        """A body without the key, however JSON spells it."""
        for spelling in self._spellings:
            if spelling[:START_BYTES] in body:
                body = body.replace(spelling, IN_ITS_PLACE.encode())
        return body

    def outcome(self, outcome: Reply | Failure) -> Reply | Failure:
        """An outcome that does not repeat the key: a gateway may put it into any text. Its body is redacted before."""
        told = _texts(outcome) if self._secrets else ""
        for secret in self._secrets:
            if secret in told:
                break
        else:  # as nearly always
            return outcome
        values = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
        texts: dict[str, Any] = {name: self.text(text) for name, text in values.items() if isinstance(text, str)}
        return replace(outcome, **texts)


def _texts(outcome: Reply | Failure) -> str:
    """All texts of an outcome that a gateway chooses, in one."""
    if isinstance(outcome, Reply):
        return f"{outcome.error_code}\n{outcome.message}\n{outcome.request_id}\n{outcome.model}\n{outcome.service_tier}"
    return f"{outcome.code}\n{outcome.type}\n{outcome.message}\n{outcome.request_id}\n{outcome.model}"


def _spellings(key: str) -> tuple[bytes, ...]:
    """A key as it is, and as JSON writers escape the two characters of base64 that some of them escape."""
    escaped = [key.replace("/", "\\/")]
    escaped += [spelling.replace("+", plus) for plus in ("\\u002b", "\\u002B") for spelling in (key, escaped[0])]
    return tuple(spelling.encode() for spelling in dict.fromkeys([key, *escaped]))
