"""Request lines and result lines: every refusal by its message, every body untouched, every record read back."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchrun.records.index import digest, hash_body
from batchrun.records.rawjson import as_text, one_line
from batchrun.records.request import (
    APIS,
    CHAT,
    EMBEDDINGS,
    ENDPOINTS,
    MAX_DEPTH,
    MAX_LINE_BYTES,
    RESPONSES,
    Overrides,
    RequestLine,
    RequestLineError,
    parse_request,
    read_request,
)
from batchrun.records.result import ErrorInfo, ResultHead, RunInfo, encode_result, parse_result, parse_stored
from batchrun.records.usage import Usage
from tests.support import run_info

BODY = b'{"model":"gpt-4.1","input":"hi"}'
CHAT_BODY = b'{"model":"gpt-4.1","messages":[{"role":"user","content":"hi"}]}'


def batch(body: bytes = BODY, **fields: Any) -> bytes:
    """A batch line around the bytes of a body."""
    head = json.dumps({"custom_id": "r-1", "method": "POST", "url": RESPONSES} | fields)
    return head.encode()[:-1] + b', "body": ' + body + b"}"


def without(name: str, body: bytes = BODY) -> bytes:
    """The same batch line less one of its fields."""
    fields = {"custom_id": "r-1", "method": "POST", "url": RESPONSES}
    del fields[name]
    return json.dumps(fields).encode()[:-1] + b', "body": ' + body + b"}"


def parse(raw: bytes, **overrides: Any) -> RequestLine:
    return parse_request(raw, 7, Overrides(**overrides))


def refusal(raw: bytes, **overrides: Any) -> str:
    with pytest.raises(RequestLineError) as refused:
        parse(raw, **overrides)
    return str(refused.value)


# ------------------------------------------------------------------------------------------ both shapes


@pytest.mark.smoke
def test_a_batch_line_is_read_whole() -> None:
    body = b'{"model":"m","input":"hi","stream":true,"max_output_tokens":64}'
    assert parse(batch(body)) == RequestLine(
        line_number=7,
        custom_id="r-1",
        url="/v1/responses",
        body=body,
        body_hash=hash_body(body),
        model="m",
        stream=True,
        derived=False,
        max_output_tokens=64,
    )


def test_a_batch_line_may_name_its_endpoint_and_a_body_may_not() -> None:
    assert parse(b'{"custom_id":"r","endpoint":"a","body":' + BODY + b"}").endpoint == "a"
    assert parse(b'{"custom_id":"r","endpoint":null,"body":' + BODY + b"}").endpoint is None
    bare = BODY[:-1] + b',"endpoint":"a"}'
    assert parse(bare).endpoint is parse(batch(bare)).endpoint is None
    for odd in (b"7", b'""', b"{}"):
        refused = refusal(b'{"custom_id":"r","endpoint":' + odd + b',"body":' + BODY + b"}")
        assert refused == f'"endpoint" is {odd.decode()}; write the name of one, or take it out'


def test_a_bare_body_gets_an_id_of_its_content() -> None:
    line = parse(BODY)
    assert (line.custom_id, line.derived, line.body) == ("req-" + digest(BODY), True, BODY)
    assert (line.url, line.model, line.stream) == (RESPONSES, "gpt-4.1", False)
    assert parse(b" \t" + BODY + b" \r").custom_id == line.custom_id
    assert parse(BODY.replace(b"hi", b"ho")).custom_id != line.custom_id


def test_the_id_of_a_bare_body_does_not_change_with_the_overrides() -> None:
    """So that the same file resumes under other options, where its edited bodies are then refused by their hash."""
    line = parse(BODY, stream=True)
    assert line.custom_id == parse(BODY).custom_id
    assert line.body_hash != parse(BODY).body_hash


@pytest.mark.smoke
def test_the_hash_is_stable_between_versions() -> None:
    assert digest(BODY) == "3face56a54ba0cb4"


@pytest.mark.parametrize("url", ENDPOINTS)
def test_every_endpoint_is_taken(url: str) -> None:
    body = CHAT_BODY if url == CHAT else BODY
    assert parse(batch(body, url=url)).url == url


@pytest.mark.parametrize("url", ["/chat/completions", "/v4/chat/completions"])
def test_a_url_without_a_version_or_with_another_is_the_same_endpoint(url: str) -> None:
    """The Batch files of Azure and of Zhipu."""
    assert parse(batch(CHAT_BODY, url=url)).url == CHAT
    assert parse(batch(url=url.replace("chat/completions", "responses"))).url == RESPONSES
    assert parse(batch(url=url.replace("chat/completions", "embeddings"))).url == EMBEDDINGS


def test_a_body_with_messages_and_no_input_is_chat() -> None:
    assert parse(CHAT_BODY).url == CHAT
    assert parse(without("url", CHAT_BODY)).url == CHAT
    assert parse(b'{"model":"m","messages":[],"input":null}').url == CHAT
    assert parse(b'{"model":"m","messages":null}').url == RESPONSES
    assert parse(b'{"model":"m","messages":[],"input":"x"}').url == RESPONSES
    assert parse(b'{"model":"m","messages":[{"role":"user","content":"the word \\"input\\""}]}').url == CHAT


def test_an_option_says_where_lines_go_that_name_no_url() -> None:
    for name, url in APIS.items():
        body = CHAT_BODY if url == CHAT else BODY
        assert parse(body, api=name).url == url
        assert parse(without("url", body), api=name).url == url
    assert parse(batch(), api="embeddings").url == RESPONSES
    assert parse(batch(BODY, url=EMBEDDINGS), api="responses").url == EMBEDDINGS


def test_a_body_goes_where_it_is_for_after_the_overrides() -> None:
    assert parse(CHAT_BODY, fields={"input": b'"x"', "messages": b"null"}).url == RESPONSES
    assert parse(BODY, fields={"input": b"null", "messages": b"[]"}).url == CHAT


FOR_CHAT, FOR_RESPONSES = '"messages" is not for /v1/responses', '"input" is not for /v1/chat/completions'
USE_INPUT, USE_MESSAGES = 'write "input" in its place', 'write "messages" in its place'
MISPLACED: list[tuple[bytes, dict[str, Any], str]] = [
    (batch(CHAT_BODY), {}, f'{FOR_CHAT}; {USE_INPUT}, or "url": "/v1/chat/completions"'),
    (CHAT_BODY, {"api": "responses"}, f"{FOR_CHAT}; {USE_INPUT}, or pass --api chat"),
    (batch(url=CHAT), {}, f'{FOR_RESPONSES}; {USE_MESSAGES}, or "url": "/v1/responses"'),
    (BODY, {"api": "chat"}, f"{FOR_RESPONSES}; {USE_MESSAGES}, or pass --api responses"),
    (
        batch(b'{"model":"m","messages":[],"input":"x"}', url=CHAT),
        {},
        f'{FOR_RESPONSES}; take it out, or "url": "/v1/responses"',
    ),
]


@pytest.mark.parametrize(("raw", "overrides", "message"), MISPLACED)
def test_a_body_for_another_endpoint_is_refused_with_what_to_write(
    raw: bytes, overrides: dict[str, Any], message: str
) -> None:
    assert refusal(raw, **overrides) == message


@pytest.mark.parametrize(
    ("body", "has_only"),
    [
        (b'{"model":"m","prompt":"hi"}', True),
        (b'{"model":"m","prompt":["hi"]}', True),
        (b'{"model":"m","prompt":"hi","input":"x"}', False),
        (b'{"model":"m","prompt":"hi","messages":[]}', False),
        (b'{"model":"m","prompt":{"id":"pmpt_1"}}', False),
        (b'{"model":"m","prompt":null}', False),
        (BODY, False),
    ],
)
def test_a_prompt_in_place_of_input_is_seen(body: bytes, has_only: bool) -> None:
    assert read_request(body).has_only_a_prompt == has_only


# ---------------------------------------------------------------------------------------- every refusal

ONE_OBJECT = "write one JSON object a line"
NO_MODEL = 'no "model"; write "model": "gpt-4.1" into the body, or pass --model NAME'
NO_BODY = 'it has no "body"; write {"custom_id": …, "body": {"model": …, "input": …}}'
NOT_AN_OBJECT = "not an object; write one JSON object a line, {…}"
NO_OBJECT_BODY = '"body" is not an object; write "body": {"model": …, "input": …}'
NO_ID = 'it has a "body" but no "custom_id"; write "custom_id": "a unique name"'
ITS_OWN = 'not a string with text; write "custom_id": "a unique name"'
TOO_DEEP = "nested deeper than 500 levels; flatten it"
SURROGATE = "half of a surrogate pair (\\ud800 to \\udfff) in a string; write the whole character"
NUL = "NUL bytes, not JSON; was the file cut off by a crash, or saved as UTF-16?"
ONE_URL = "write one of /v1/responses, /v1/chat/completions, /v1/embeddings"
POLLED = '"background": true answers must be polled, which batchrun does not do; take it out'
EXCLUDE = '"previous_response_id" and "conversation" exclude each other; keep one'

REFUSALS: list[tuple[bytes, str]] = [
    # not JSON
    (b"hello", f"not JSON (invalid character (byte 0)); {ONE_OBJECT}"),
    (b'{"model":"m"', f"not JSON (Input data was truncated); {ONE_OBJECT}"),
    (b'{"model":"m","input":"NaN soup"', f"not JSON (Input data was truncated); {ONE_OBJECT}"),
    (b"{'model':'m'}", f"not JSON (object keys must be strings (byte 1)); {ONE_OBJECT}"),
    (b'{"model":"m",}', f"not JSON (trailing comma in object (byte 13)); {ONE_OBJECT}"),
    (BODY + BODY, f"not JSON (trailing characters (byte 33)); {ONE_OBJECT}"),
    (b'{"model":"m","input":"a\tb"}', f"not JSON (invalid character (byte 23)); {ONE_OBJECT}"),
    (b'{"model":"m","x":01}', f"not JSON (invalid number (byte 18)); {ONE_OBJECT}"),
    (b'{"model":"m","x":NaN}', "not JSON: NaN is not a JSON value; write null or a number"),
    (batch(b'{"model":"m","x":[-Infinity]}'), "not JSON: -Infinity is not a JSON value; write null or a number"),
    (b'{"model":"m","input":"a\0b"}', NUL),
    (b"\0" * 40, NUL),
    (BODY.decode().encode("utf-16"), "bad UTF-8 at byte 1 (0xFF); save the file as UTF-8"),
    (b'{"model":"m","input":"caf\xe9"}', "bad UTF-8 at byte 26 (0xE9, in Windows-1252 é); save the file as UTF-8"),
    (
        batch(b'{"model":"m","input":"caf\xe9"}'),
        "bad UTF-8 at byte 97 (0xE9, in Windows-1252 é); save the file as UTF-8",
    ),
    (b'{"model":"m","input":"\xed\xa0\x80"}', "bad UTF-8 at byte 23 (0xED); save the file as UTF-8"),
    (b'{"model":"m","input":"\\ud800"}', SURROGATE),
    (batch(b'{"model":"\\udc00"}'), SURROGATE),
    # not an object
    (b"[]", NOT_AN_OBJECT),
    (b'"text"', NOT_AN_OBJECT),
    (b"null", NOT_AN_OBJECT),
    # no body
    (b'{"custom_id":"r-1","model":"m","input":"hi"}', NO_BODY),
    (b'{"method":"POST","model":"m"}', NO_BODY),
    (b'{"url":"/v1/responses","model":"m"}', NO_BODY),
    (batch(b"null"), NO_OBJECT_BODY),
    (batch(b'"{}"'), NO_OBJECT_BODY),
    (batch(b"[]"), NO_OBJECT_BODY),
    # ids
    (without("custom_id"), NO_ID),
    (batch(custom_id=17), '"custom_id" is 17, not a string with text; write "custom_id": "17"'),
    (
        b'{"custom_id":123456789012345678901234567890,"body":{"model":"m"}}',
        '"custom_id" is 123456789012345678901234567890, not a string with text; '
        'write "custom_id": "123456789012345678901234567890"',
    ),
    (batch(custom_id=None), f'"custom_id" is null, {ITS_OWN}'),
    (batch(custom_id=""), f'"custom_id" is "", {ITS_OWN}'),
    (batch(custom_id=["r", 1]), f'"custom_id" is ["r", 1], {ITS_OWN}'),
    (
        b'{"custom_id":' + b"[" * 300 + b"]" * 300 + b',"body":{"model":"m"}}',
        f'"custom_id" is {"[" * 57}…, {ITS_OWN}',
    ),
    # method and url
    (batch(method="GET"), '"method" is "GET"; write "POST"'),
    (batch(method=None), '"method" is null; write "POST"'),
    *(
        (batch(url=url), f'"url" is {json.dumps(url)}; {ONE_URL}')
        for url in (
            "//evil.example/v1/responses",
            "https://evil.example/v1/responses",
            "\\\\evil.example\\v1\\responses",
            "@evil.example/v1/responses",
            "/v1/../v1/responses",
            "/v1/%72esponses",
            "/v1/responses?x=1",
            "/v1/responses/",
            "v1/responses",
            "/v1/files",
            "",
        )
    ),
    (batch(url=None), f'"url" is null; {ONE_URL}'),
    (batch(url=[RESPONSES]), f'"url" is ["/v1/responses"]; {ONE_URL}'),
    # fields of the body
    (b'{"input":"hi"}', NO_MODEL),
    (b'{"model":null}', NO_MODEL),
    (b'{"model":""}', NO_MODEL),
    (b'{"model":4.1}', '"model" is 4.1; write a name, "model": "gpt-4.1"'),
    (b'{"model":"m","stream":"yes"}', '"stream" is "yes"; write true or false'),
    (
        batch(b'{"model":"m","stream":true}', url=ENDPOINTS[1]),
        '"stream": true works with /v1/responses only; take it out, or pass --no-stream',
    ),
    (b'{"model":"m","previous_response_id":"resp_1","conversation":"conv_1"}', EXCLUDE),
    (b'{"model":"m","previous_response_id":"resp_1","conversation":{"id":"conv_1"}}', EXCLUDE),
    (b'{"model":"m","background":true}', POLLED),
    (
        batch(b'{"model":"m","max_output_tokens":1e999}'),
        "Number out of range - at `$.max_output_tokens`; write a number that fits",
    ),
    (
        b'{"custom_id":' + b"[" * 99 + b"1e999",
        "Number out of range - at `$.custom_id" + "[0]" * 14 + "[; write a number that fits",
    ),
    # depth
    (b'{"model":"m","input":' + b"[" * 500 + b"]" * 500 + b"}", TOO_DEEP),
    (b'{"model":"m","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", TOO_DEEP),
    (batch(b'{"model":"m","input":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}"), TOO_DEEP),
]


@pytest.mark.parametrize(("raw", "message"), REFUSALS, ids=[message[:40] for _, message in REFUSALS])
@pytest.mark.smoke
def test_a_line_that_could_not_be_sent_is_refused_with_what_to_write_instead(raw: bytes, message: str) -> None:
    assert refusal(raw) == message


def test_a_line_past_the_size_limit_is_refused_unread() -> None:
    assert refusal(b"x" * (MAX_LINE_BYTES + 1)) == "the line is longer than 67,108,864 bytes; split the request"


def test_depth_counts_brackets_outside_of_strings_only() -> None:
    deep = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    quoted = rb'"\\" , "\"' + b"[" * 2000 + rb'\\\"["'
    assert parse(b'{"model":"m","input":[%s,%s]}' % (deep[1:-1], quoted)).model == "m"
    assert parse(b'{"model":"m","input":' + deep + b"}").model == "m"
    assert parse(b'{"model":"m","input":[' + b"{}," * 5000 + b"[]]}").model == "m"


@pytest.mark.parametrize("fields", [b'"conversation":null', b'"previous_response_id":null', b'"background":false'])
def test_a_field_that_is_null_or_off_is_as_good_as_none(fields: bytes) -> None:
    assert parse(b'{"model":"m","previous_response_id":"resp_1",%s}' % fields).model == "m"


# --------------------------------------------------------------------------------------- untouched bodies

ODD_BODY = (
    b'{ "model" :"m", "input":"\\u00e9\\u2028\xe2\x80\xa8\\/", "temperature":1.50, "temperature":2E+00, "x":-0.0,'
    b' "big":123456789012345678901234567890,'
    b' "far":1e999, "y":{"b":1,"a":[ ]} ,"user":"\\ud83d\\ude00","input":"last"\t}'
)


@pytest.mark.parametrize("raw", [ODD_BODY, batch(ODD_BODY), batch(b" \t" + ODD_BODY + b" ")])
def test_the_body_goes_out_byte_for_byte(raw: bytes) -> None:
    """Number formats, doubled keys, unknown fields, escapes and white space: nothing is rewritten."""
    line = parse(raw)
    assert line.body == ODD_BODY
    assert line.body_hash == hash_body(ODD_BODY)


def test_of_a_doubled_field_the_last_one_counts_as_in_every_reader() -> None:
    assert parse(b'{"model":"a","model":"b"}').model == "b"
    assert parse(b'{"custom_id":"a","body":{"model":"x"},"custom_id":"b","body":{"model":"y"}}').custom_id == "b"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(
    st.text().filter(lambda name: name not in ("model", "stream", "background", "conversation", "max_output_tokens")),
    json_values,
    max_size=5,
).map(lambda fields: fields | {"model": "m"})


def spellings(value: Any, spaced: bool, escaped: bool) -> bytes:
    text = json.dumps(value, ensure_ascii=escaped, separators=None if spaced else (",", ":"))
    return text.encode(errors="surrogatepass")


@given(bodies, st.booleans(), st.booleans())
def test_any_body_goes_out_byte_for_byte(body: dict[str, Any], spaced: bool, escaped: bool) -> None:
    raw = spellings(body, spaced, escaped)
    assert parse(batch(raw)).body == raw
    if not {"body", "custom_id", "method", "url"} & set(body):
        assert parse(raw).body == raw


# --------------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("overrides", "body", "sent"),
    [
        ({"model": "new"}, b'{"input":1.50}', b'{"input":1.50,"model":"new"}'),
        ({"model": "new"}, b"{ }", b'{"model":"new"}'),
        ({"model": "new"}, b'{"model":null , "a":1}', b'{"model":"new", "a":1}'),
        ({"model": "new"}, BODY, BODY),
        ({"model": 'a"b'}, b"{}", b'{"model":"a\\"b"}'),
        ({"stream": True}, ODD_BODY, ODD_BODY[:-2] + b',"stream":true}'),
        ({"stream": False}, b'{"model":"m", "stream" : true,"a":1}', b'{"model":"m", "stream" :false,"a":1}'),
        ({"stream": True}, b'{"model":"m","a":{"stream":false}}', b'{"model":"m","a":{"stream":false},"stream":true}'),
        ({"stream": True}, b'{"model":"m","str\\u0065am":false}', b'{"model":"m","str\\u0065am":true}'),
        (
            {"fields": {"temperature": b"0.30"}},
            b'{"model":"m","x":1,"x":2,"temperature":1,"input":"\\u00e9"}',
            b'{"model":"m","x":1,"x":2,"temperature":0.30,"input":"\\u00e9"}',
        ),
        ({"fields": {'a"b': b"[]"}}, b'{"model":"m"}', b'{"model":"m","a\\"b":[]}'),
        ({"fields": {"model": b'"set"'}, "model": "new"}, b'{"input":"x"}', b'{"input":"x","model":"set"}'),
        ({"fields": {"stream": b"true"}, "stream": False}, b'{"model":"m"}', b'{"model":"m","stream":false}'),
    ],
)
def test_an_override_changes_the_named_field_and_no_other_byte(
    overrides: dict[str, Any], body: bytes, sent: bytes
) -> None:
    line = parse(batch(body), **overrides)
    assert line.body == sent
    assert line.body_hash == hash_body(sent)
    fields = json.loads(sent)
    assert (line.model, line.stream) == (fields["model"], fields.get("stream", False))


@given(bodies, st.text(), st.booleans(), st.booleans())
@example({"model": "m", "\ud83d": 1}, "\\", True, True)
def test_any_override_changes_the_named_field_alone(
    body: dict[str, Any], name: str, spaced: bool, escaped: bool
) -> None:
    if name in ("model", "background", "stream", "conversation", "max_output_tokens"):
        return
    try:
        raw = json.dumps(body, ensure_ascii=escaped, separators=None if spaced else (",", ":")).encode()
        raw.decode()
        sent = parse(batch(raw), fields={name: b"[17]"}).body
    except (UnicodeEncodeError, RequestLineError):  # half a surrogate pair
        return
    assert json.loads(sent) == body | {name: [17]}
    assert list(json.loads(sent)) == list(body | {name: None})


def test_an_overridden_body_is_checked_as_it_will_be_sent() -> None:
    assert refusal(b'{"model":"m"}', fields={"background": b"true"}) == POLLED
    assert refusal(b'{"model":"m","conversation":"c"}', fields={"previous_response_id": b'"r"'}) == EXCLUDE
    chat = batch(b'{"model":"m","stream":true}', url=ENDPOINTS[1])
    assert parse(chat, stream=False).stream is False
    assert parse(b'{"model":"m"}', fields={"max_output_tokens": b"64"}).max_output_tokens == 64


# ----------------------------------------------------------------------------------------------- fuzzing


def check_parse(raw: bytes) -> None:
    """Whatever the bytes are: a line that can be sent, or one refusal on one line of text."""
    try:
        line = parse_request(raw, 1)
    except RequestLineError as refused:
        text = str(refused)
        assert text
        assert "\n" not in text
        assert len(text) < 500
        text.encode()
        return
    assert line.body in raw
    assert line.url in ENDPOINTS
    assert isinstance(json.loads(line.body), dict)
    assert line.body_hash == hash_body(line.body)
    line.custom_id.encode()


def mangled(raw: bytes, at: int, change: bytes, length: int) -> bytes:
    at %= len(raw) + 1
    return raw[:at] + change + raw[at + length :]


seeds = st.sampled_from([BODY, batch(), batch(ODD_BODY), *(raw for raw, _ in REFUSALS if len(raw) < 1000)])
changes = st.sampled_from([b"", b'"', b"{", b"}", b"[", b"\\", b"\0", b"\xff", b"NaN", b"null", b"1e9999", b"\\ud800"])
mangled_lines = st.builds(mangled, seeds, st.integers(0, 2000), changes, st.integers(0, 3))


@given(st.binary() | mangled_lines)
def test_no_bytes_break_the_parser(raw: bytes) -> None:
    check_parse(raw)


@pytest.mark.long
@settings(max_examples=50_000, deadline=None)
@given(
    st.binary(max_size=2000)
    | mangled_lines
    | st.builds(mangled, mangled_lines, st.integers(0, 2000), changes, st.integers(0, 9))
)
def test_no_bytes_break_the_parser_at_length(raw: bytes) -> None:
    check_parse(raw)


# ----------------------------------------------------------------------------------------- result lines

counts = st.integers(0, 2**53)
encodable = st.text(st.characters(exclude_categories=["Cs"]))
seconds = st.floats(0, 1e9)
usages = st.builds(Usage, counts, counts, counts, counts, counts, counts)
runs = st.builds(
    RunInfo,
    line=counts,
    v=st.just(1),
    total_lines=counts,
    body_hash=st.integers(0, 2**128 - 1).map("{:032x}".format),
    started=st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)).map(
        lambda moment: moment.isoformat(timespec="milliseconds") + "Z"
    ),
    elapsed_s=seconds,
    outcome=st.sampled_from(["succeeded", "refused", "incomplete", "empty", "invalid", "failed"]),
    requested_model=encodable,
    path=encodable,
    gateway=encodable,
    attempts=counts,
    throttles=counts,
    retryable=st.booleans(),
    latency_s=st.none() | seconds,
    first_event_s=st.none() | seconds,
    first_text_s=st.none() | seconds,
    model=st.none() | encodable,
    usage=st.none() | usages,
)
heads = st.builds(ResultHead, encodable, runs, st.none() | st.builds(ErrorInfo, encodable, encodable))
RUN = run_info()


@given(heads, st.none() | st.integers(100, 599), st.none() | encodable, st.none() | json_values)
@example(ResultHead("\u2028\u2029\x85\n\r\0", RUN), 200, "req_1", {"text": "\u2028"})
@example(ResultHead("x" * 100_000, RUN), None, None, None)
def test_every_record_is_one_line_and_is_read_back(
    head: ResultHead, status: int | None, request_id: str | None, body: Any
) -> None:
    try:
        payload = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        payload = json.dumps(body).encode()
    raw = encode_result(head, status, request_id, payload)
    assert raw.endswith(b"\n")
    assert raw.count(b"\n") == 1
    assert parse_result(raw[:-1]) == head
    assert parse_stored(raw[:-1])[0] == head
    record = json.loads(raw)
    assert list(record) == ["id", "custom_id", "run", "response", "error"]
    assert record["id"].startswith("batch_req_")
    if status is None:
        assert record["response"] is None
        assert parse_stored(raw[:-1])[1] == b"null"
    else:
        assert record["response"] == {"status_code": status, "request_id": request_id, "body": body}


@given(heads, json_values)
def test_a_record_that_was_cut_off_is_no_record(head: ResultHead, body: Any) -> None:
    raw = encode_result(head, 200, "req_1", json.dumps(body).encode())[:-1]
    for end in {0, 1, len(raw) // 3, len(raw) // 2, len(raw) - 2, len(raw) - 1}:
        with pytest.raises(ValueError, match=r".+"):
            parse_result(raw[:end])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        BODY,
        b'{"id":"batch_req_1","custom_id":"a","response":null,"error":null}',
        b'{"id":"batch_req_1","custom_id":1,"run":{},"response":null,"error":null}',
        b"[" * 100_000,
        b'{"id":"batch_req_1","custom_id":"a","run":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_record_is_told_by_one_kind_of_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_result(raw)


def test_run_stands_before_the_payload() -> None:
    raw = encode_result(ResultHead("a", RUN), 200, None, b'{"x":1}')
    assert raw.index(b'"run":') < raw.index(b'"response":')


def test_the_payload_is_kept_byte_for_byte() -> None:
    raw = encode_result(ResultHead("a", RUN), 200, None, ODD_BODY)
    assert ODD_BODY in raw
    assert ODD_BODY in parse_stored(raw[:-1])[1]


# -------------------------------------------------------------------------------------- one_line, as_text


@given(json_values)
def test_pretty_printed_json_becomes_one_line_of_the_same_value(value: Any) -> None:
    pretty = json.dumps(value, indent=2).replace("\n", "\r\n").encode()
    line = one_line(pretty)
    assert b"\n" not in line
    assert b"\r" not in line
    assert len(line) == len(pretty)
    assert json.loads(line) == json.loads(pretty)


def test_one_line_leaves_escapes_and_single_lines_alone() -> None:
    body = '{"a":"\\n\\r\u2028"}'.encode()
    assert one_line(body) is body


@given(st.binary() | st.text(st.characters(exclude_categories=["Cs"])).map(str.encode))
@example(b"\xff\xfe\n")
@example("\u2028\n\0".encode())
def test_any_bytes_become_one_line_of_json_that_gives_them_back(body: bytes) -> None:
    line = as_text(body)
    assert b"\n" not in line
    value = orjson.loads(line)
    if isinstance(value, str):
        assert value.encode() == body
    else:
        assert base64.b64decode(value["base64"]) == body
        with pytest.raises(UnicodeDecodeError):
            body.decode()
