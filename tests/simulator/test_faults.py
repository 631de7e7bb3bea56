"""What the words of the fault script do on the wire, seen through a raw socket and not through a client."""

import asyncio
import json
from typing import Any

import pytest

from batchrun.simulator.app import Gateway
from batchrun.simulator.fault_words import ANSWER_WORDS, ERROR_WORDS
from batchrun.simulator.ledger import Usage
from batchrun.simulator.options import GatewayOptions
from tests.asking import PLAIN, STREAM, Json, exchange, in_virtual_time, parsed, until


async def met(word: str, body: Json = PLAIN, **options: Any) -> tuple[int, dict[str, str], bytes]:
    """What a request gets that meets this word."""
    async with Gateway(GatewayOptions(script=word, **options)) as gateway:
        return parsed(await exchange(gateway, body))


def last_event(body: bytes) -> Json:
    event: Json = json.loads(body.decode().strip().rpartition("data: ")[2])
    return event


# Errors


@pytest.mark.parametrize("word", [*ERROR_WORDS, *(str(status) for status in (400, 418, 451, 502, 524, 530, 599))])
async def test_every_error_word_answers_with_its_status(word: str) -> None:
    async with Gateway(GatewayOptions(script=word)) as gateway:
        status, headers, body = parsed(await exchange(gateway, PLAIN))
        assert status == int(word if word.isdecimal() else ERROR_WORDS[word].split()[0])
        if headers["content-type"] == "application/json":
            assert json.loads(body)["error"].keys() == {"message", "type", "param", "code"}
        assert gateway.ledger.rows[0].status == status
        assert gateway.ledger.rows[0].billed is None


@pytest.mark.parametrize("word", ERROR_WORDS)
async def test_every_error_word_has_the_code_it_is_known_by(word: str) -> None:
    _, _, body = await met(word)
    code = ERROR_WORDS[word].split()[1]
    if "_" in code:
        assert json.loads(body)["error"]["code"] == code


async def test_a_scripted_429_says_how_long_to_wait() -> None:
    assert (await met("429"))[1]["retry-after"] == "0"
    status, headers, body = await met("429@2")
    error = json.loads(body)["error"]
    assert (status, headers["retry-after"]) == (429, "2")
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "Please try again in 2s." in error["message"]


async def test_any_text_can_stand_in_retry_after() -> None:
    for text in ("nan", "-1", "1e9", "soon"):
        assert (await met(f"503@{text}"))[1]["retry-after"] == text
        assert (await met(f"429@{text}"))[1]["retry-after"] == text
    assert "retry-after" not in (await met("429@2", send_retry_after=False))[1]


async def test_a_bad_key_is_shown_masked() -> None:
    _, _, body = await met("badkey")
    assert json.loads(body)["error"]["code"] == "invalid_api_key"


# Answers that are none


async def test_reset_sends_rst() -> None:
    async with Gateway(GatewayOptions(script="reset")) as gateway:
        with pytest.raises(ConnectionResetError):
            await exchange(gateway, PLAIN)
        assert gateway.ledger.rows[0].status is None
        assert gateway.ledger.billed_usage() == Usage()


@pytest.mark.parametrize("body", [PLAIN, STREAM])
@pytest.mark.parametrize("word", ["stall", "hang"])
async def test_silence_lasts_until_the_client_leaves(word: str, body: Json) -> None:
    async with Gateway(GatewayOptions(script=word)) as gateway:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await exchange(gateway, body)
        await until(lambda: gateway.ledger.in_flight == 0)
        row = gateway.ledger.rows[0]
        assert row.client_gone
        assert not row.delivered
        assert (row.billed is None) == (word == "stall")


async def test_pings_come_for_ever() -> None:
    async with Gateway(GatewayOptions(script="pingonly")) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.root_url.rpartition(":")[2]))
        data = json.dumps(STREAM).encode()
        writer.write(b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        await reader.readuntil(b": PING\n\n")
        await reader.readuntil(b": PING\n\n")
        writer.close()
        await until(lambda: gateway.ledger.in_flight == 0)
        assert gateway.ledger.billed_requests == 0


@pytest.mark.parametrize(
    ("word", "start", "content_type"),
    [
        ("html", b"<!doctype html>", "text/html; charset=utf-8"),
        ("empty", b"", "application/json"),
        ("array", b"[]", "application/json"),
        ("error200", b'{"error":{"message":', "application/json"),
    ],
)
async def test_a_200_without_an_answer(word: str, start: bytes, content_type: str) -> None:
    status, headers, body = await met(word)
    assert (status, headers["content-type"]) == (200, content_type)
    assert body.startswith(start)
    assert word not in ("empty", "array") or body == start


async def test_an_error_may_be_labelled_as_a_stream() -> None:
    _, headers, body = await met("error200", STREAM)
    assert headers["content-type"].startswith("text/event-stream")
    assert json.loads(body)["error"]["code"] == "server_error"


async def test_a_redirect_leads_nowhere() -> None:
    async with Gateway(GatewayOptions(script="redirect")) as gateway:
        status, headers, _ = parsed(await exchange(gateway, PLAIN))
        assert status == 307
        assert parsed(await exchange(gateway, PLAIN, headers["location"]))[0] == 404


async def test_error_events_are_flat_or_nested() -> None:
    flat = last_event((await met("errorevent", STREAM))[2])
    nested = last_event((await met("nestederror", STREAM))[2])
    assert (flat["type"], flat["code"], flat["sequence_number"]) == ("error", "server_error", 2)
    assert (nested["type"], nested["error"]["code"]) == ("error", "server_error")
    assert "error" in json.loads((await met("errorevent", PLAIN))[2])


# Answers that arrive badly


async def good(body: Json) -> bytes:
    return (await met("ok", body))[2]


async def test_cut_closes_in_the_middle_of_the_promised_length() -> None:
    async with Gateway(GatewayOptions(script="cut")) as gateway:
        _, headers, body = parsed(await exchange(gateway, PLAIN))
        assert 0 < len(body) < int(headers["content-length"])
        assert gateway.ledger.rows[0].billed is not None


@pytest.mark.parametrize("body", [PLAIN, STREAM])
async def test_cutchunk_closes_inside_a_chunk(body: Json) -> None:
    async with Gateway(GatewayOptions(script="cutchunk")) as gateway:
        raw = await exchange(gateway, body)
        assert parsed(raw)[1]["transfer-encoding"] == "chunked"
        assert not raw.endswith(b"0\r\n\r\n")
        assert gateway.ledger.billed_requests == 1


async def test_a_cut_stream_lacks_the_last_chunk() -> None:
    async with Gateway(GatewayOptions(script="cut")) as gateway:
        raw = await exchange(gateway, STREAM)
        assert b"response.created" in raw
        assert not raw.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("body", [PLAIN, STREAM])
async def test_split_changes_no_byte(body: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchrun.simulator.answers.time.time", lambda: 1_700_000_000.5)  # the next second may begin
    async with Gateway(GatewayOptions(script="split ok")) as gateway:
        pieces, whole = parsed(await exchange(gateway, body))[2], parsed(await exchange(gateway, body))[2]
        assert _without_ids(pieces) == _without_ids(whole)


def _without_ids(body: bytes) -> str:
    text = body.decode()
    start = text.index("resp_")
    # A delta's padding is taken from the digits of the id, so it goes too.
    lines = text.replace(text[start + 5 : start + 55], "").split(',"obfuscation"')
    return "".join(line[line.find(',"output_index"') :] if index else line for index, line in enumerate(lines))


def test_a_drip_takes_a_second_a_byte() -> None:
    async def drip() -> None:
        loop = asyncio.get_running_loop()
        async with Gateway(GatewayOptions(script="drip")) as gateway:
            started = loop.time()
            _, headers, body = parsed(await exchange(gateway, PLAIN))
            assert json.loads(body)["status"] == "completed"
            assert loop.time() - started >= int(headers["content-length"])

    in_virtual_time(drip)


@pytest.mark.parametrize("body", [PLAIN, STREAM])
async def test_nan_and_latin1_spoil_the_last_object_alone(body: Json) -> None:
    _, _, nan = await met("nan", body)
    assert nan.count(b'"score":NaN}') == 1
    _, _, latin1 = await met("latin1", body)
    with pytest.raises(UnicodeDecodeError):
        latin1.decode()
    assert json.loads(latin1.decode("latin-1").strip().rpartition("data: ")[2])


async def test_a_stream_may_answer_a_plain_request_and_the_other_way_round() -> None:
    _, headers, body = await met("sse", PLAIN)
    assert headers["content-type"].startswith("text/event-stream")
    assert last_event(body)["type"] == "response.completed"
    _, headers, body = await met("json", STREAM)
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["status"] == "completed"


async def test_eof_leaves_out_the_last_event() -> None:
    async with Gateway(GatewayOptions(script="eof")) as gateway:
        raw = await exchange(gateway, STREAM)
        assert last_event(parsed(raw)[2])["type"] == "response.output_item.done"
        assert raw.endswith(b"0\r\n\r\n")
        assert gateway.ledger.billed_requests == 1


async def test_emptyout_forgets_what_the_deltas_said() -> None:
    _, _, body = await met("emptyout", STREAM)
    assert b"output_text.delta" in body
    assert last_event(body)["response"]["output"] == []
    assert json.loads((await met("emptyout", PLAIN))[2])["output"] == []


async def test_pings_done_and_crlf_frame_the_same_events() -> None:
    _, _, body = await met("ping+done+crlf", STREAM)
    text = body.decode()
    assert text.count(": PING\r\n\r\n") == text.count("event: ")
    assert text.endswith("data: [DONE]\r\n\r\n")
    assert "\n" not in text.replace("\r\n", "")


# Answers that say something else


@pytest.mark.parametrize("body", [PLAIN, STREAM])
@pytest.mark.parametrize(
    ("word", "status", "billed"),
    [
        ("failed", "failed", False),
        ("queued", "queued", False),
        ("incomplete", "incomplete", True),
        ("filtered", "incomplete", True),
        ("refusal", "completed", True),
    ],
)
async def test_a_response_may_end_otherwise(word: str, status: str, billed: bool, body: Json) -> None:
    async with Gateway(GatewayOptions(script=word)) as gateway:
        _, _, text = parsed(await exchange(gateway, body))
        response = last_event(text)["response"] if "stream" in body else json.loads(text)
        assert response["status"] == status
        assert gateway.ledger.billed_requests == billed
        assert (response["usage"] is not None) == billed
        reasons = {"incomplete": "max_output_tokens", "filtered": "content_filter"}
        assert (response["incomplete_details"] or {}).get("reason") == reasons.get(word)
        assert (response["error"] is not None) == (word == "failed")
        if word == "refusal":
            assert response["output"][0]["content"][0]["type"] == "refusal"


@pytest.mark.parametrize("body", [PLAIN, STREAM])
async def test_usage_may_be_told_otherwise(body: Json) -> None:
    async with Gateway(GatewayOptions(script="nousage nullusage chatusage strusage")) as gateway:
        answers = []
        for _ in range(4):
            last = last_event(parsed(await exchange(gateway, body))[2])
            answers.append(last.get("response", last))
        billed = gateway.ledger.rows[0].billed
        assert billed is not None
        missing, null, chat, strings = answers
        assert "usage" not in missing
        assert null["usage"] is None
        assert chat["usage"]["prompt_tokens"] == billed.input_tokens
        assert strings["usage"]["input_tokens"] == str(billed.input_tokens)
        assert gateway.ledger.billed_usage().input_tokens == 4 * billed.input_tokens


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize("word", [*sorted(ANSWER_WORDS.keys() - {"drip", "hang"}), "array", "error200", "html"])
async def test_every_word_can_meet_every_endpoint(word: str, path: str) -> None:
    async with Gateway(GatewayOptions(script=word)) as gateway:
        body = {"model": "m", "input": "hi", "messages": [{"role": "user", "content": "hi"}]}
        assert parsed(await exchange(gateway, body, path))[0] == 200
