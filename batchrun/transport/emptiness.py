"""Whether an answer holds anything that was asked for. Pure.

Reasoning alone, `""`, `null`, blanks and line breaks are nothing. A text, a refusal, a call of a tool, an image, audio,
a vector, and any output item of a kind that is not known here are something.
"""

from __future__ import annotations

from typing import Any

# Members of a chat message that are content beside its text; `reasoning_content` and the like are none.
_BESIDE_TEXT = ("tool_calls", "function_call", "audio", "images", "image", "video", "files")
_TEXTS = ("text", "output_text", "refusal")
_REASONING = ("reasoning", "reasoning_text", "thinking", "redacted_thinking", "summary_text")


def holds_output(output: list[Any]) -> bool:
    """Whether the output of a response holds an item that is content; stops at the first."""
    return any(map(_is_content, output))


def _is_content(item: Any) -> bool:
    if not isinstance(item, dict):
        return bool(item)
    kind = item.get("type")
    if kind == "reasoning":
        return False
    if kind == "message" or (kind is None and "content" in item):
        return holds_text(item.get("content"))
    return bool(item)


def holds_text(content: Any) -> bool:
    """Whether the content of a message is more than nothing: a text, or a list of parts."""
    if isinstance(content, str):
        return bool(content.strip(" \t\r\n"))
    if isinstance(content, list):
        return any(map(_is_part, content))
    return bool(content)


def _is_part(part: Any) -> bool:
    """Whether a part of a message holds something: a part of text its text, a part of another kind itself."""
    if not isinstance(part, dict):
        return holds_text(part)
    kind = part.get("type")
    if kind in _TEXTS or (kind is None and ("text" in part or "refusal" in part)):
        return holds_text(part.get("text")) or holds_text(part.get("refusal"))
    return bool(part) and kind not in _REASONING


def holds_choice(choices: list[dict[str, Any]]) -> bool:
    """Whether a choice of a chat completion holds anything."""
    return any(map(_is_choice, choices))


def _is_choice(choice: dict[str, Any]) -> bool:
    message = choice.get("message")
    if not isinstance(message, dict):
        return holds_text(message) or holds_text(choice.get("text"))
    return (
        holds_text(message.get("content"))
        or holds_text(message.get("refusal"))
        or any(message.get(name) for name in _BESIDE_TEXT)
        or holds_text(choice.get("text"))
    )


def holds_vector(data: list[Any]) -> bool:
    """Whether a list of embeddings holds one; an item of another kind counts as one."""
    return any(bool(item.get("embedding", True)) if isinstance(item, dict) else bool(item) for item in data)
