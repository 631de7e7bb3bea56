"""What `GET /models` answers: the names of the models that a key may use. Pure."""

from __future__ import annotations

import orjson

from batchrun.records.outcome import Failure, FailureCode, Reply
from batchrun.transport.answer import HttpAnswer, read_answer


def read_models(answer: HttpAnswer) -> list[str] | Failure:
    """The names in a list of models, as OpenAI's API has it: `{"data": [{"id": …}, …]}`; or why there is none."""
    if 200 <= answer.status < 300:
        try:
            listed = orjson.loads(answer.body)
        except ValueError:
            listed = None
        models = listed.get("data") if isinstance(listed, dict) else None
        if isinstance(models, list):
            names = [model.get("id") for model in models if isinstance(model, dict)]
            return [name for name in names if isinstance(name, str) and name]
    failure = read_answer(answer)
    if isinstance(failure, Reply):
        return Failure(FailureCode.NOT_A_RESPONSE, "got JSON that is no list of models", answer.status)
    return failure
