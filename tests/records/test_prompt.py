"""A request body as turns: who speaks, the text, the pictures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.records.prompt import Turn, plain_prompt, turns_of

PICTURE = "data:image/png;base64,AAAA"


def said(role: str, *content: Any) -> dict[str, Any]:
    return {"role": role, "content": content[0] if len(content) == 1 else list(content)}


CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
OUTPUT = {"type": "function_call_output", "output": "5"}
IMAGE = {"type": "image_url", "image_url": {"url": PICTURE}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": "hi"}, [Turn("user", "hi")]),
        ({"instructions": "be kind", "input": "hi"}, [Turn("instructions", "be kind"), Turn("user", "hi")]),
        (
            {"input": [said("developer", "x"), said("user", [{"type": "input_text", "text": "y"}])]},
            [Turn("developer", "x"), Turn("user", "y")],
        ),
        (
            {"input": [said("user", {"type": "input_image", "image_url": PICTURE}, {"type": "input_file"})]},
            [Turn("user", "[picture]\n[input_file]", [PICTURE])],
        ),
        ({"messages": [said("user", [IMAGE])]}, [Turn("user", "[picture]", [PICTURE])]),
        ({"messages": [CALL, said("tool", "5")]}, [Turn("assistant", '[{"id": "c"}]'), Turn("tool", "5")]),
        ({"input": [OUTPUT]}, [Turn("function_call_output", json.dumps(OUTPUT))]),
        ({"input": ["a", "b"]}, [Turn("user", "a"), Turn("user", "b")]),
        ({"prompt": {"id": "p"}}, [Turn("prompt", '{"id": "p"}')]),
        ({}, []),
        ([], []),
    ],
)
def test_each_kind_of_request_is_readable(body: Any, expected: list[Turn]) -> None:
    assert turns_of(json.dumps(body).encode()) == expected


def test_what_is_no_json_has_no_turns() -> None:
    assert turns_of(b"{") == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": "hi", "model": "m"}, ("", "hi")),
        ({"instructions": "be kind", "input": "hi"}, ("be kind", "hi")),
        ({"instructions": ["be kind"], "input": "hi"}, None),
        ({"input": ["hi"]}, None),
        ({"input": "hi", "prompt": {"id": "p"}}, None),
        ({"input": "hi", "conversation": "c"}, None),
        ({"input": "hi", "previous_response_id": "r"}, None),
        ({"messages": [said("user", "hi")]}, None),
        ([], None),
    ],
)
def test_a_plain_prompt_is_all_that_a_request_says(body: Any, expected: tuple[str, str] | None) -> None:
    encoded = json.dumps(body).encode()
    assert plain_prompt(encoded) == expected
    if expected is not None:
        instructions = [Turn("instructions", expected[0])] if expected[0] else []
        assert turns_of(encoded) == [*instructions, Turn("user", expected[1])]
