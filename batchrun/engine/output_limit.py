"""Answers that say they are completed, and have exactly as many tokens as they may: perhaps they are cut off. Pure.

Some gateways lose the reason why an answer stopped. The number of its tokens tells, though not for certain.
"""

from __future__ import annotations

import re

from batchrun.records.outcome import Failure, Reply
from batchrun.records.request import RequestLine


def is_at_output_limit(line: RequestLine, outcome: Reply | Failure) -> bool:
    """Whether a success has exactly the output tokens that its request allows, under any of the limit's names."""
    # Chat has two names. A search for what is in both is cheap, and nearly always says no, as does that for the number.
    body = line.body
    if line.max_output_tokens is None and body.find(b"_tokens") < 0:
        return False
    if outcome.outcome != "succeeded" or outcome.usage is None:
        return False
    tokens = outcome.usage.output_tokens
    if line.max_output_tokens is not None:
        return tokens == line.max_output_tokens
    if tokens == 0 or body.find(b"%d" % tokens) < 0:
        return False
    return re.search(rb'"max_(?:completion_)?tokens"\s*:\s*%d\s*[,}]' % tokens, body) is not None
