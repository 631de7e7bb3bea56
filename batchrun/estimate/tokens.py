"""How many tokens the text of a request has: counted by an offline tokenizer, else estimated from its bytes.

The tokenizer is rs-bpe, an optional extra. It contains its vocabulary (o200k, that of gpt-4o and later), needs no
network, and takes strings of any length. There are wheels for CPython 3.10 to 3.13. Other models have other
vocabularies; for them the count is only a better guess than one from bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version

from batchrun.records.content import Contents

# Bytes a token, measured with o200k: Russian and English prose 5.7, Chinese 4.0, Japanese 3.4, code 2.7;
# prompts with some JSON in them, 3.1 to 4.5.
MOST_BYTES, LIKELY_BYTES, LEAST_BYTES = 5.7, 4.0, 2.7
LONGEST_KEPT = 65536  # characters: a longer text is counted each time instead of cached
FRAME_TOKENS, ANSWER_FRAME_TOKENS = 4, 3  # around a message; before the answer (OpenAI's cookbook on counting)
_O200K = ("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "gpt-6", "o1", "o3", "o4", "chatgpt-4o")


Tokens = tuple[float, float, float]
"""How many tokens at least, likely and at most."""


class Bytes:
    """Estimates tokens from bytes alone."""

    name = "bytes (5.7 to 2.7 a token)"

    def count(self, contents: Contents, model: str) -> Tokens:
        """The input tokens of a request, without input that its body only names; the same for every model."""
        size, frame = 0, _frame(contents)
        for text in contents.texts:
            size += len(text) if text.isascii() else len(text.encode())
        return size / MOST_BYTES + frame, size / LIKELY_BYTES + frame, size / LEAST_BYTES + frame


class Tokenizer:
    """Counts tokens with the function `count`; `name` names the tokenizer in the estimate."""

    def __init__(self, name: str, count: Callable[[str], int]) -> None:
        self.name = name
        self._count_any = count
        self._count_known = lru_cache(maxsize=256)(count)  # most files have the same instructions in all lines

    def count(self, contents: Contents, model: str) -> Tokens:
        """The input tokens of a request, without input that its body only names. The range allows for what gateways
        add, and for models with another vocabulary."""
        tokens = sum(map(self._count_text, contents.texts)) + _frame(contents)
        if model.rpartition("/")[2].startswith(_O200K):
            return 0.97 * tokens, tokens, 1.1 * tokens
        return 0.75 * tokens, tokens, 1.4 * tokens

    def _count_text(self, text: str) -> int:
        return self._count_known(text) if len(text) < LONGEST_KEPT else self._count_any(text)


Counter = Bytes | Tokenizer


def load_counter() -> Counter:
    """The tokenizer if its extra is installed (it takes 0.3 s to load), else the estimate from bytes."""
    try:
        from rs_bpe import openai
    except ImportError:
        return Bytes()

    return Tokenizer(f"rs-bpe {version('rs-bpe')} (o200k)", openai.o200k_base().count)


def _frame(contents: Contents) -> int:
    return contents.token_ids + FRAME_TOKENS * contents.parts + ANSWER_FRAME_TOKENS
