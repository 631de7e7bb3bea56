"""Answers that have exactly the tokens that they were allowed are told, whatever their gateway calls them."""

from __future__ import annotations

import pytest

from batchrun.engine.output_limit import is_at_output_limit
from batchrun.records.outcome import Failure, Outcome, Reply
from batchrun.records.request import parse_request
from batchrun.records.usage import Usage


def reply(tokens: int, outcome: Outcome = "succeeded") -> Reply:
    return Reply(200, b"{}", None, outcome, None, Usage(7, 0, tokens, 0, 7 + tokens))


CHAT = b'{"custom_id":"a","url":"/v1/chat/completions","body":{"model":"m","messages":[{"content":"16_tokens"}]%s}}'


@pytest.mark.parametrize(
    ("raw", "limit"),
    [
        (b'{"model":"m","input":"16_tokens","max_output_tokens":16}', 16),
        (b'{"model":"m","input":"16_tokens"}', None),
        (CHAT % b',"max_tokens":16', 16),
        (CHAT % b',"max_completion_tokens" : 16 ,"n":1', 16),
        (CHAT % b',"max_tokens":160', 160),
        (CHAT % b"", None),
    ],
)
def test_a_success_with_exactly_the_tokens_allowed_may_be_cut(raw: bytes, limit: int | None) -> None:
    line = parse_request(raw, 1)
    for tokens in (0, 1, 15, 16, 17, 160):
        assert is_at_output_limit(line, reply(tokens)) is (tokens == limit)
    assert not is_at_output_limit(line, reply(16, "incomplete"))
    assert not is_at_output_limit(line, Failure("c", "m"))
    assert not is_at_output_limit(line, Reply(200, b"{}", None, "succeeded", None, None))
