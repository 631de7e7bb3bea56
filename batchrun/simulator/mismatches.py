"""Answers that do not fit the schema that was asked for, or stand in a code fence."""

from __future__ import annotations

from batchrun.simulator.answers import Answer, saying, wanted_format
from batchrun.simulator.options import GatewayOptions
from batchrun.simulator.requests import ModelRequest
from batchrun.simulator.script import OK, Word
from batchrun.simulator.seeds import share_of

MISMATCH = Word(("mismatch",))


def drawn(request: ModelRequest, options: GatewayOptions) -> Word:
    """`mismatch` for the share of requests that `options` names, else `ok`.

    It depends on the seed and on what the model sees, so that a request gets the same answer each time.
    """
    rate = options.mismatch_again_rate if request.is_asked_again else options.mismatch_rate
    if not rate or wanted_format(request).get("type") not in ("json_schema", "json_object"):
        return OK
    return MISMATCH if share_of(options.seed, b"mismatch", request.seed) < rate else OK


def mismatched(request: ModelRequest, answer: Answer) -> Answer:
    """The answer as it does not fit: prose before the JSON, or an object that lacks what is required."""
    if answer.text is None:
        return answer
    has_required = bool((wanted_format(request).get("schema") or {}).get("required"))
    return saying(request, answer, "{}" if has_required and request.seed % 2 else f"Sure, here it is: {answer.text}")


def fenced(request: ModelRequest, answer: Answer) -> Answer:
    """The answer in a code fence."""
    return answer if answer.text is None else saying(request, answer, f"```json\n{answer.text}\n```")
