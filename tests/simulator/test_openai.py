"""The official Python client, strict, against the simulated gateway: every answer and every event must parse."""

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import jsonschema
import openai
import pytest
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from batchrun.simulator.app import Gateway
from batchrun.simulator.options import GatewayOptions

Json = dict[str, Any]

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
REQUIRED = (
    "id object created_at error incomplete_details instructions model tools output parallel_tool_calls metadata "
    "tool_choice temperature top_p status usage text reasoning truncation max_output_tokens previous_response_id "
    "user store service_tier background max_tool_calls safety_identifier prompt_cache_key top_logprobs"
)
LABEL = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["positive", "negative", "neutral"]},
        "why": {"type": "string", "maxLength": 30},
    },
    "required": ["label", "why"],
    "additionalProperties": False,
}
LABEL_FORMAT = {"format": {"type": "json_schema", "name": "label", "schema": LABEL, "strict": True}}
WEATHER: Json = {
    "type": "function",
    "name": "get_weather",
    "description": "Today's weather.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "strict": True,
}

BODIES: dict[str, Json] = {
    "plain": {"input": "Explain SSE in one sentence.", "instructions": "You are a concise assistant."},
    "items": {
        "input": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "你好 🙂"}]},
        ],
        "metadata": {"batch": "7"},
        "temperature": 0.2,
        "top_p": 0.5,
        "store": False,
        "service_tier": "flex",
        "user": "u-1",
        "truncation": "auto",
        "max_tool_calls": 3,
        "parallel_tool_calls": False,
    },
    "long instructions": {"input": "x", "instructions": "Label the text. " * 500},
    "labelled": {"input": "Great!", "text": LABEL_FORMAT},
    "json object": {"input": "x", "text": {"format": {"type": "json_object"}, "verbosity": "low"}},
    "reasoned": {"input": "x", "reasoning": {"effort": "high"}},
    "reasoned aloud": {
        "input": "x",
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    },
    "no reasoning": {"input": "x", "reasoning": {"effort": "none"}},
    "tool at will": {"input": "x", "tools": [WEATHER]},
    "any tool": {"input": "x", "tools": [WEATHER, {"type": "web_search"}], "tool_choice": "required"},
    "named tool": {"input": "x", "tools": [WEATHER], "tool_choice": {"type": "function", "name": "get_weather"}},
    "allowed tools": {
        "input": "x",
        "tools": [WEATHER],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "get_weather"}],
        },
    },
    "cut short": {"input": "x", "max_output_tokens": 16},
    "cut while reasoning": {"input": "x", "max_output_tokens": 16, "reasoning": {"effort": "low"}},
    "cut tool": {"input": "x", "max_output_tokens": 150, "reasoning": {"effort": "low"}, "tools": [WEATHER]}
    | {"tool_choice": "required"},
    "conversation": {"input": "x", "conversation": "conv_1"},
    "follow-up": {"input": "x", "previous_response_id": "resp_1"},
    "prompt": {"prompt": {"id": "pmpt_1", "version": "2", "variables": {"name": "Ann"}}},
    "unknown field": {"input": "x", "relay_extra": {"a": 1}},
}
by_body = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway() as gateway:
        yield gateway


async def post(gateway: Gateway, body: Json, path: str = "/responses") -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(gateway.base_url + path, json={"model": "gpt-4.1", **body}) as reply,
    ):
        return reply.status, await reply.read()


async def stream(gateway: Gateway, body: Json) -> list[Json]:
    """The events of a stream, each strictly parsed and its name held against its type."""
    status, text = await post(gateway, {**body, "stream": True})
    assert status == 200
    events = []
    for part in text.decode().removesuffix("\n\n").split("\n\n"):
        name, data = part.split("\n")
        parsed = EVENTS.validate_json(data.removeprefix("data: "), strict=True)
        assert name == f"event: {parsed.type}"
        events.append(json.loads(data.removeprefix("data: ")))
    return events


@by_body
async def test_every_plain_answer_parses_strictly(gateway: Gateway, body: Json) -> None:
    status, text = await post(gateway, body)
    assert status == 200
    Response.model_validate_json(text, strict=True)
    assert not set(REQUIRED.split()) - json.loads(text).keys()


@by_body
async def test_every_answer_echoes_its_request(gateway: Gateway, body: Json) -> None:
    _, text = await post(gateway, body)
    answer = json.loads(text)
    renamed: set[str] = {"conversation", "include", "input", "relay_extra", "text", "reasoning", "tools"}
    assert {name: answer[name] for name in body.keys() - renamed} == {
        name: value for name, value in body.items() if name not in renamed
    }
    assert [tool["type"] for tool in answer["tools"]] == [tool["type"] for tool in body.get("tools", [])]


@by_body
async def test_a_stream_tells_what_the_plain_answer_says(gateway: Gateway, body: Json) -> None:
    events = await stream(gateway, body)
    plain = json.loads((await post(gateway, body))[1])
    final = events[-1]["response"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] == f"response.{plain['status']}"
    assert _visible(final) == _visible(plain)
    assert final["usage"] == plain["usage"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == final["output"]
    for kind in ("output_text", "function_call_arguments", "reasoning_summary_text"):
        _check_deltas(events, f"response.{kind}")


def _visible(response: Json) -> list[Any]:
    return [(item.get("content"), item.get("arguments"), item.get("summary")) for item in response["output"]]


def _check_deltas(events: list[Json], kind: str) -> None:
    told = "".join(event["delta"] for event in events if event["type"] == f"{kind}.delta")
    done = [event for event in events if event["type"] == f"{kind}.done"]
    assert told == "".join(event["arguments" if "arguments" in event else "text"] for event in done)


async def test_the_stream_of_a_message_has_the_official_order(gateway: Gateway) -> None:
    kinds = [event["type"].removeprefix("response.") for event in await stream(gateway, BODIES["plain"])]
    deltas = kinds.count("output_text.delta")
    assert deltas > 1
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * deltas,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


async def test_padding_can_be_switched_off(gateway: Gateway) -> None:
    padded = await stream(gateway, BODIES["plain"])
    bare = await stream(gateway, BODIES["plain"] | {"stream_options": {"include_obfuscation": False}})
    assert any("obfuscation" in event for event in padded)
    assert not any("obfuscation" in event for event in bare)


async def test_the_official_client_reads_plain_answers(gateway: Gateway) -> None:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="sk-test", max_retries=0) as client:
        answer = await client.responses.create(model="gpt-4.1", input="hi", reasoning={"effort": "low"})
        assert answer.output_text
        assert [item.type for item in answer.output] == ["reasoning", "message"]
        assert answer.usage is not None
        assert answer.usage.output_tokens_details.reasoning_tokens > 0
        assert gateway.ledger.rows[0].authorized


async def test_the_official_client_reads_streams(gateway: Gateway) -> None:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="sk-test", max_retries=0) as client:
        text = ""
        async for event in await client.responses.create(model="gpt-4.1", input="hi", stream=True):
            if event.type == "response.output_text.delta":
                text += event.delta
        assert event.type == "response.completed"
        assert event.response.output_text == text != ""


async def test_the_official_client_reads_structured_answers(gateway: Gateway) -> None:
    labels = set()
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="sk-test", max_retries=0) as client:
        for number in range(20):
            answer = await client.responses.create(
                model="gpt-4.1",
                input=f"review {number}",
                text=cast(Any, LABEL_FORMAT),
            )
            value = json.loads(answer.output_text)
            jsonschema.validate(value, LABEL)
            labels.add(value["label"])
    assert labels == {"positive", "negative", "neutral"}


@pytest.mark.parametrize("name", ["any tool", "named tool", "allowed tools"])
async def test_a_call_has_arguments_that_fit(gateway: Gateway, name: str) -> None:
    (item,) = json.loads((await post(gateway, BODIES[name]))[1])["output"]
    assert (item["type"], item["name"]) == ("function_call", "get_weather")
    jsonschema.validate(json.loads(item["arguments"]), WEATHER["parameters"])


async def test_a_short_budget_leaves_the_answer_incomplete(gateway: Gateway) -> None:
    cut = json.loads((await post(gateway, BODIES["cut short"]))[1])
    thought = json.loads((await post(gateway, BODIES["cut while reasoning"]))[1])
    for answer in (cut, thought):
        assert answer["status"] == "incomplete"
        assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
        assert answer["usage"]["output_tokens"] == 16
    assert cut["output"][0]["status"] == "incomplete"
    assert [item["type"] for item in thought["output"]] == ["reasoning"]


async def test_usage_adds_up_and_cached_tokens_come_in_blocks(gateway: Gateway) -> None:
    cached = []
    for number in range(20):
        body = BODIES["long instructions"] | {"input": f"x {number}"}
        usage = json.loads((await post(gateway, body))[1])["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        cached.append(usage["input_tokens_details"]["cached_tokens"])
        assert cached[-1] % 128 == 0
        assert cached[-1] <= usage["input_tokens"]
    assert 0 in cached
    assert max(cached) > 0


CHAT: Json = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"n": 2, "max_completion_tokens": 3},
        {"reasoning_effort": "low"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "label", "schema": LABEL}}},
        {"tools": [{"type": "function", "function": WEATHER}], "tool_choice": "required"},
    ],
)
async def test_chat_completions_parse_strictly(gateway: Gateway, body: Json) -> None:
    status, text = await post(gateway, CHAT | body, "/chat/completions")
    assert status == 200
    answer = ChatCompletion.model_validate_json(text, strict=True)
    assert len(answer.choices) == body.get("n", 1)
    wanted = "length" if "n" in body else "tool_calls" if "tools" in body else "stop"
    assert {choice.finish_reason for choice in answer.choices} == {wanted}


async def test_embeddings_parse_strictly(gateway: Gateway) -> None:
    status, text = await post(gateway, {"input": ["a", "b"], "dimensions": 8}, "/embeddings")
    assert status == 200
    answer = CreateEmbeddingResponse.model_validate_json(text, strict=True)
    assert [len(row.embedding) for row in answer.data] == [8, 8]
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="sk-test", max_retries=0) as client:
        decoded = await client.embeddings.create(model="gpt-4.1", input="a", dimensions=8)
    assert decoded.data[0].embedding == pytest.approx(answer.data[0].embedding)
    assert sum(value * value for value in decoded.data[0].embedding) == pytest.approx(1)


async def test_models_are_listed(gateway: Gateway) -> None:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="sk-test", max_retries=0) as client:
        models = [model async for model in client.models.list()]
    assert all(isinstance(model, Model) for model in models)
    assert "gpt-4.1" in {model.id for model in models}


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("429*", openai.RateLimitError),
        ("quota*", openai.RateLimitError),
        ("401*", openai.AuthenticationError),
        ("badkey*", openai.AuthenticationError),
        ("400*", openai.BadRequestError),
        ("403*", openai.PermissionDeniedError),
        ("404*", openai.NotFoundError),
        ("409*", openai.ConflictError),
        ("422*", openai.UnprocessableEntityError),
        ("500*", openai.InternalServerError),
        ("503*", openai.InternalServerError),
        ("reset*", openai.APIConnectionError),
        ("nestederror*", openai.APIError),
    ],
)
async def test_the_official_client_knows_the_errors(script: str, error: type[Exception]) -> None:
    async with (
        Gateway(GatewayOptions(script=script)) as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key="sk-test", max_retries=0) as client,
    ):
        with pytest.raises(error):
            async for _ in await client.responses.create(model="gpt-4.1", input="hi", stream=True):
                pass
