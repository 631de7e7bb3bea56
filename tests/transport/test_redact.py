"""The key is taken out of what is stored and shown, and its header does not show it either."""

from __future__ import annotations

import base64
import html
import json
import re
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from multidict import CIMultiDict

from batchrun.records.outcome import Failure, Reply
from batchrun.transport.redact import IN_ITS_PLACE, Redactor, Secret
from tests.hostile import KEY


def test_a_secret_goes_out_as_it_is_and_no_repr_shows_it() -> None:
    secret = Secret(f"Bearer {KEY}")
    assert f"{secret}\r\n".encode() == f"Bearer {KEY}\r\n".encode()
    for holder in (secret, [secret], {"Authorization": secret}, CIMultiDict({"Authorization": secret})):
        assert KEY not in repr(holder)
        assert IN_ITS_PLACE in repr(holder)


def test_every_text_of_an_outcome_is_redacted() -> None:
    """Whatever texts an outcome gets later: each of them by itself."""
    redactor = Redactor(KEY)
    reply = Reply(200, b"{}", None, "succeeded", None, None)
    texts = ("request_id", "model", "error_code", "message", "service_tier")
    for kind, empty, names in (
        (Reply, reply, texts),
        (Failure, Failure("", ""), ("code", "type", "message", "request_id", "model")),
    ):
        for name in names:
            values = {field: getattr(empty, field) for field in empty.__struct_fields__}
            outcome = redactor.outcome(kind(**(values | {name: f"it is {KEY}"})))
            assert getattr(outcome, name) == f"it is {IN_ITS_PLACE}"


AWKWARD_KEY = 'sk-a+b/c=d~e.f_g&h"i'


@pytest.mark.parametrize("key", [KEY, AWKWARD_KEY])
def test_the_key_is_found_in_every_spelling(key: str) -> None:
    redactor, plain = Redactor(key), key.encode()
    spellings = {
        "as it is": plain,
        "JSON": json.dumps(key)[1:-1].encode(),
        "JSON of Go and PHP": key.replace("/", "\\/").replace("+", "\\u002b").replace("&", "\\u0026").encode(),
        "JSON, all of it": "".join(f"\\u{ord(char):04X}" for char in key).encode(),
        "a URL": quote(key, safe="").encode(),
        "a URL in lower case": re.sub("%..", lambda found: found[0].lower(), quote(key, safe="")).encode(),
        "a URL in a URL": quote(quote(key, safe=""), safe="").encode(),
        "HTML": html.escape(key).encode(),
        "HTML of other makers": key.replace("&", "&amp;").replace("/", "&#x2F;").replace("+", "&#43;").encode(),
        "HTML, all of it": "".join(f"&#{ord(char):03};" for char in key).encode(),
        "a URL, all of it": "".join(f"%{ord(char):02x}" for char in key).encode(),
    }
    for name, spelled in spellings.items():
        assert redactor.body(b'{"a": "' + spelled + b'"}') == b'{"a": "[the api key]"}', name
        assert redactor.text(f"it is {spelled.decode()}!") == "it is [the api key]!", name


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"user:", b"Bearer "])
@pytest.mark.parametrize("key", [KEY, AWKWARD_KEY])
def test_the_key_is_found_in_base64_wherever_it_begins(
    key: str, before: bytes, encode: Callable[[bytes], bytes]
) -> None:
    """At most two characters at each end may be left: they hold bits of what stands beside the key."""
    for after in (b"", b"!", b"!!"):
        spelled = encode(before + key.encode() + after)
        body = Redactor(key).body(b'{"a": "' + spelled + b'"}')
        assert IN_ITS_PLACE.encode() in body
        left = body.replace(IN_ITS_PLACE.encode(), b"")
        assert len(left) - len(b'{"a": ""}') <= len(encode(before)) + len(encode(after)) + 4
        assert Redactor(key).text(spelled.decode()).count(IN_ITS_PLACE) == 1
        outcome = Redactor(key).outcome(Failure("code", f"no such key: {spelled.decode()}"))
        assert IN_ITS_PLACE in outcome.message


def test_a_body_without_the_key_is_left_as_it_is() -> None:
    body = json.dumps({"text": "100%25 of <b>\u00e9 & %7e \x1b[0m", "path": "a\\/b"}).encode() + b" \\u003c\\/b"
    for key in (KEY, AWKWARD_KEY):
        assert Redactor(key).body(body) is body or Redactor(key).body(body) == body


def test_every_text_of_an_outcome_is_one_line_that_is_safe_to_show() -> None:
    """With a key that is too short to be looked for, too."""
    for key in (KEY, "", "EMPTY"):
        failure = Redactor(key).outcome(Failure("co\x1b[2Jde", "one\nbatchrun: two\u202e", 500, "ty\x07pe"))
        assert isinstance(failure, Failure)
        assert (failure.code, failure.type, failure.message) == ("code", "type", "one batchrun: two")


def test_line_breaks_and_quotes_in_a_body_do_not_make_the_search_slow() -> None:
    """Nearly every answer has some. The search takes a few times as long as reading the JSON does, at the most."""
    body = json.dumps({"text": 'He said: "a line,\nand one more."\n' * 500}).encode()
    redactor = Redactor(KEY)

    def seconds(act: Callable[[bytes], object]) -> float:
        started = time.process_time()
        for _ in range(20):
            act(body)
        return time.process_time() - started

    assert min(seconds(redactor.body) for _ in range(5)) < 5 * min(seconds(json.loads) for _ in range(5))
