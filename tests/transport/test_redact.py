"""The key is taken out of what is stored and shown, and its header does not show it either."""

from __future__ import annotations

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
