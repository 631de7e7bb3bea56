"""The simulated gateway over loopback: who may ask, what is no request, how it starts and ends."""

import asyncio
import json
import signal
import socket
import sys
from typing import Any

import aiohttp
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from batchrun.simulator.app import Gateway
from batchrun.simulator.errors import masked_key
from batchrun.simulator.options import GatewayOptions
from tests.asking import PLAIN, Json, send, until

IMPOSSIBLE = {"type": "json_schema", "name": "a", "schema": {"enum": []}}


# Who may ask, and where


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::", ""])
def test_only_loopback_is_served(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        GatewayOptions(host=host)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fault_rate": 1.5},
        {"fault_rate": 0.5, "fault_words": ()},
        {"latency_median_s": -1},
        {"latency_median_s": 2, "latency_p99_s": 1},
        {"rpm": 0},
        {"tpm": -1},
        {"capacity": 0},
        {"capacity_status": 500},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: Json) -> None:
    with pytest.raises(ValueError, match=r"fault_rate|latenc|at least 1|capacity_status"):
        GatewayOptions(**wrong)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_a_gateway_says_where_it_is(host: str) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with Gateway(GatewayOptions(host=host)) as gateway:
        assert gateway.base_url == gateway.root_url + "/v1"
        assert (await send(gateway)).status == 200


async def test_without_keys_anything_is_accepted() -> None:
    async with Gateway() as gateway:
        assert (await send(gateway)).status == 200
        assert (await send(gateway, key="whatever")).status == 200
        assert [row.authorized for row in gateway.ledger.rows] == [False, True]


async def test_a_wrong_key_is_refused_and_masked() -> None:
    async with Gateway(GatewayOptions(api_keys={"sk-right"})) as gateway:
        assert (await send(gateway, key="sk-right")).status == 200
        wrong = await send(gateway, key="sk-abcdefghijklmnopqrstuvwxyz")
        missing = await send(gateway)
        assert (wrong.status, wrong.error["code"]) == (401, "invalid_api_key")
        assert "sk-ab***yz" in wrong.error["message"]
        assert (missing.status, missing.error["code"]) == (401, None)
        assert "klmn" not in b"".join(gateway.ledger.json_lines()).decode() + wrong.body.decode()


@given(st.text(max_size=80))
def test_a_mask_shows_the_ends_of_a_long_key_alone(key: str) -> None:
    assert len(masked_key(key).replace("***", "")) <= len(key) / 2


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/v1/responses", "/v1/responses/"])
async def test_an_unknown_path_is_an_invalid_url(path: str) -> None:
    async with Gateway() as gateway:
        answered = await send(gateway, path=path)
        error = {"message": f"Invalid URL (POST {path})", "type": "invalid_request_error"}
        assert (answered.status, answered.error) == (404, error | {"param": None, "code": None})


@pytest.mark.parametrize("path", ["/", "/responses", "/chat/completions", "/v1"])
async def test_outside_of_the_api_there_is_a_web_page(path: str) -> None:
    async with Gateway() as gateway:
        answered = await send(gateway, path=path)
        assert answered.status == 200
        assert answered.headers["Content-Type"].startswith("text/html")
        assert gateway.ledger.billed_requests == 0


async def test_another_method_is_not_allowed() -> None:
    async with Gateway() as gateway:
        assert (await send(gateway, method="GET")).status == 405


# What is no request


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", None),
        (b'{"model": "m", "input": NaN}', None),
        (b"[]", "invalid_type"),
        ({"input": "x"}, "missing_required_parameter"),
        ({"model": 7}, "invalid_type"),
        (PLAIN | {"stream": "yes"}, "invalid_type"),
        (PLAIN | {"max_output_tokens": True}, "invalid_type"),
        (PLAIN | {"max_output_tokens": 15}, "integer_below_min_value"),
        (PLAIN | {"temperature": 2.5}, "decimal_above_max_value"),
        (PLAIN | {"truncation": "maybe"}, "invalid_value"),
        (PLAIN | {"reasoning": {"effort": "very"}}, "invalid_value"),
        (PLAIN | {"metadata": {"a": 1}}, "invalid_type"),
        (PLAIN | {"metadata": {str(n): "" for n in range(17)}}, "object_above_max_properties"),
        (PLAIN | {"previous_response_id": "r", "conversation": "c"}, "mutually_exclusive_parameters"),
        (PLAIN | {"stream_options": {"include_obfuscation": False}}, None),
        (PLAIN | {"text": {"format": {"type": "yaml"}}}, "invalid_value"),
        (PLAIN | {"text": {"format": {"type": "json_schema", "schema": {}}}}, "missing_required_parameter"),
        (PLAIN | {"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "invalid_value"),
        (PLAIN | {"text": {"format": IMPOSSIBLE}}, "invalid_json_schema"),
        (PLAIN | {"tools": [{"type": "function"}]}, "missing_required_parameter"),
        (PLAIN | {"tools": [1]}, "invalid_type"),
        (PLAIN | {"tool_choice": "perhaps"}, "invalid_value"),
        (PLAIN | {"tool_choice": {"type": "function", "name": "f"}}, None),
    ],
)  # fmt: skip
async def test_a_bad_request_is_refused_as_the_official_api_does(body: Any, code: str | None) -> None:
    async with Gateway() as gateway:
        answered = await send(gateway, body)
        assert (answered.status, answered.error["code"]) == (400, code)
        assert answered.error["type"] == "invalid_request_error"
        assert gateway.ledger.billed_requests == 0


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/chat/completions", {}, "missing_required_parameter"),
        ("/v1/chat/completions", {"messages": []}, "empty_array"),
        ("/v1/chat/completions", {"messages": [{}], "stream": True}, "unsupported_value"),
        ("/v1/embeddings", {}, "missing_required_parameter"),
    ],
)
async def test_the_other_endpoints_check_too(path: str, body: Json, code: str) -> None:
    async with Gateway() as gateway:
        answered = await send(gateway, {"model": "m"} | body, path)
        assert (answered.status, answered.error["code"]) == (400, code)


async def test_only_known_models_are_served() -> None:
    async with Gateway(GatewayOptions(models=["gpt-4.1"])) as gateway:
        assert (await send(gateway)).status == 200
        answered = await send(gateway, {"model": "gpt-9", "input": "hi"})
        assert (answered.status, answered.error["code"]) == (404, "model_not_found")


async def test_a_deeply_nested_request_is_echoed() -> None:
    nested: Any = "leaf"
    for _ in range(400):
        nested = [nested]
    async with Gateway() as gateway:
        body = PLAIN | {"tools": [{"type": "function", "name": "f", "parameters": {"default": nested}}]}
        assert json.loads((await send(gateway, body)).body)["tools"][0]["parameters"] == {"default": nested}


async def test_a_large_request_passes_and_a_larger_one_does_not() -> None:
    async with Gateway(GatewayOptions(max_body_bytes=3_000_000)) as gateway:
        assert (await send(gateway, PLAIN | {"input": "x" * 2_900_000})).status == 200
        refused = await send(gateway, PLAIN | {"input": "x" * 3_000_000})
        assert (refused.status, refused.headers["Content-Type"]) == (413, "text/html")


async def test_a_torn_body_is_a_bad_request() -> None:
    async with Gateway() as gateway, aiohttp.ClientSession() as session:
        headers = {"Content-Encoding": "gzip"}
        async with session.post(gateway.base_url + "/responses", data=b"no gzip", headers=headers) as reply:
            assert reply.status == 400
        assert gateway.ledger.rows[0].outcome == "torn_request"


# What it answers


@pytest.mark.smoke
async def test_equal_prompts_get_equal_answers_with_ids_of_their_own() -> None:
    async with Gateway() as gateway, Gateway() as other, Gateway(GatewayOptions(seed=1)) as seeded:
        answers = [json.loads((await send(one)).body) for one in (gateway, gateway, other, seeded)]
        texts = [answer["output"][0]["content"][0]["text"] for answer in answers]
        assert texts[0] == texts[1] == texts[2] != texts[3]
        assert answers[0]["id"] != answers[1]["id"]
        assert answers[0]["id"] == answers[2]["id"]


# How it ends


async def test_closing_breaks_off_what_is_in_work() -> None:
    async with aiohttp.ClientSession() as session:
        async with Gateway(GatewayOptions(script="stall")) as gateway:
            asked = asyncio.create_task(session.post(gateway.base_url + "/responses", json=PLAIN))
            await until(lambda: bool(gateway.ledger.in_flight))
        with pytest.raises(aiohttp.ClientConnectionError):
            await asked
        assert gateway.ledger.in_flight == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_gateway_of_its_own_stops_on_a_signal(number: signal.Signals) -> None:
    code = (
        "import asyncio\n"
        "from batchrun.simulator.app import serve_until_stopped\n"
        "from batchrun.simulator.options import GatewayOptions\n"
        "asyncio.run(serve_until_stopped(GatewayOptions(), lambda url: print(url, flush=True)))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    async with aiohttp.ClientSession() as session, session.post(f"{url}/responses", json=PLAIN) as reply:
        assert reply.status == 200
    process.send_signal(number)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


async def test_sigterm_ends_a_gateway_whose_generator_is_busy() -> None:
    """Each of these patterns would keep it busy for hours; it gives up on each, and hears the signal in between."""
    endless = {"type": "object", "properties": {"x": {"type": "string", "pattern": "((a{999}b?){999}c?){999}"}}}
    form = {"type": "json_schema", "name": "x", "schema": {**endless, "required": ["x"]}}
    command = [sys.executable, "-m", "batchrun", "simulator", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().removeprefix("listening: ").strip()
        async with aiohttp.ClientSession() as session:
            body = {**PLAIN, "text": {"format": form}}
            asked = [asyncio.create_task(session.post(f"{url}/responses", json=body)) for _ in range(40)]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 0
            await asyncio.gather(*asked, return_exceptions=True)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.smoke
def test_uvloop_serves_and_resets_as_well() -> None:
    async def reset_and_answer() -> None:
        async with Gateway(GatewayOptions(script="reset cut ok")) as gateway:
            with pytest.raises(aiohttp.ClientOSError, match="reset"):
                await send(gateway)
            with pytest.raises(aiohttp.ClientPayloadError):
                await send(gateway)
            assert (await send(gateway)).status == 200

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(reset_and_answer())
