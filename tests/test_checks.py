"""Values from Python: each is read in its one form, or refused in words that say what is expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchrun import (
    Changed,
    Concurrency,
    Endpoint,
    GatewayOptions,
    Job,
    Limits,
    MaxErrors,
    Overrides,
    RetryPolicy,
    Timeouts,
    UsageError,
    run,
)

NOWHERE = Endpoint("http://127.0.0.1")
NAN, ENDLESS = float("nan"), float("inf")


def job(**values: Any) -> Job:
    return Job(**{"requests": "q.jsonl", "results": "r.jsonl", "endpoint": NOWHERE, **values})


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("requests", Path("a/q.jsonl"), str(Path("a/q.jsonl"))),
        ("requests", "-", "-"),
        ("results", "r.jsonl", Path("r.jsonl")),
        ("results", None, None),
        ("prices", "p.toml", Path("p.toml")),
        ("max_cost_usd", 20, Decimal(20)),
        ("max_cost_usd", 0.1, Decimal("0.1")),
        ("max_cost_usd", "$0.50", Decimal("0.50")),
        ("max_line_cost_usd", Decimal("0.02"), Decimal("0.02")),
        ("max_errors", "5%", MaxErrors(rate=0.05)),
        ("max_errors", 0.05, MaxErrors(rate=0.05)),
        ("max_errors", 20, MaxErrors(count=20)),
        ("max_errors", None, None),
        ("changed", "resend", Changed.RESEND),
        ("limit", 10, 10),
    ],
)
def test_what_has_one_meaning_is_read_so(name: str, given: object, kept: object) -> None:
    found = getattr(job(**{name: given}), name)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        (64, Concurrency(64, 64)),
        ("64", Concurrency(64, 64)),
        ("auto", Concurrency()),
        ("4-20", Concurrency(4, 20)),
        ((4, 20), Concurrency(4, 20)),
        ([4, 20], Concurrency(4, 20)),
        (Concurrency(4, 20), Concurrency(4, 20)),
    ],
)
def test_requests_in_flight_are_a_number_a_pair_or_a_text(given: Any, bounds: Concurrency) -> None:
    assert Limits(given).bounds == bounds


def test_fields_are_values_or_json_in_bytes() -> None:
    given = {"temperature": 0, "user": "me", "text": {"format": None}, "max_output_tokens": b"64", "stop": ["。"]}
    assert Overrides(fields=given).fields == {
        "temperature": b"0",
        "user": b'"me"',
        "text": b'{"format":null}',
        "max_output_tokens": b"64",
        "stop": '["。"]'.encode(),
    }


def test_a_job_takes_such_values(tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"model": "gpt-4.1", "input": "a", "max_output_tokens": 1000}\n')
    outcome = run(
        Job(
            requests,
            str(tmp_path / "results.jsonl"),
            NOWHERE,
            Overrides(fields={"temperature": 0}),
            Limits((1, 4)),
            max_errors="5%",
            max_cost_usd="0.5",
            simulate=GatewayOptions(),
        )
    )
    assert outcome.exit_code == 0


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: job(requests=None), "requests is None (NoneType); write the path of a file"),
    (lambda: job(requests=3), "requests is 3 (int); write the path of a file"),
    (lambda: job(requests=""), "requests is '' (str); write the path of a file"),
    (lambda: job(results=True), "results is True (bool); write the path of a file"),
    (lambda: job(results="-"), "results is '-' (str); write None for standard output"),
    (lambda: job(endpoint="https://gateway.example/v1"), "endpoint is 'https://gateway.example/v1' (str); write Endp"),
    (lambda: job(overrides={"temperature": 0}), "overrides is {'temperature': 0} (dict); write Overrides("),
    (lambda: job(limits=64), "limits is 64 (int); write Limits("),
    (lambda: job(timeouts=600), "timeouts is 600 (int); write Timeouts("),
    (lambda: job(retry=3), "retry is 3 (int); write RetryPolicy("),
    (lambda: job(changed="again"), "changed is 'again' (str); write one of Changed.REFUSE, "),
    (lambda: job(retry_errors=1), "retry_errors is 1 (int); write True or False"),
    (lambda: job(overwrite="yes"), "overwrite is 'yes' (str); write True or False"),
    (lambda: job(prices={"gpt-4.1": 2}), "prices is {'gpt-4.1': 2} (dict); write the path of a file"),
    (lambda: job(limit=-1), "limit is -1 (int); write a whole number from 0 on"),
    (lambda: job(limit=2.5), "limit is 2.5 (float); write a whole number"),
    (lambda: job(sample=0), "sample is 0 (int); write a whole number from 1 on"),
    (lambda: job(sample=True), "sample is True (bool); write a whole number"),
    (lambda: job(max_errors=True), "max_errors is True (bool); write a number of lines (20), or a share"),
    (lambda: job(max_errors="many"), "--max-errors many: write a number of lines (20) or a share"),
    (lambda: job(max_errors=NAN), "--max-errors nan: write a number of lines (20) or a share"),
    (lambda: job(max_cost_usd=0), "max_cost_usd is 0 (int); write an amount of US dollars"),
    (lambda: job(max_cost_usd=NAN), "max_cost_usd is nan (float); write an amount of US dollars"),
    (lambda: job(max_cost_usd="ten"), "max_cost_usd is 'ten' (str); write an amount of US dollars"),
    (lambda: job(max_cost_usd=True), "max_cost_usd is True (bool); write an amount of US dollars"),
    (lambda: job(max_line_cost_usd=-1), "max_line_cost_usd is -1 (int); write an amount of US dollars"),
    (lambda: job(grace_s=-1), "grace_s is -1 (int); write a number of seconds, 0 or more"),
    (lambda: job(grace_s=NAN), "grace_s is nan (float); write a number of seconds"),
    (lambda: job(max_response_bytes=0), "max_response_bytes is 0 (int); write a whole number from 1 on"),
    (lambda: job(simulate=True), "simulate is True (bool); write GatewayOptions("),
    (lambda: Limits(0), "Limits.concurrency is 0 (int); write a whole number from 1 to 10000, a pair"),
    (lambda: Limits(True), "Limits.concurrency is True (bool); write a whole number"),
    (lambda: Limits(2.5), "Limits.concurrency is 2.5 (float); write a whole number"),  # type: ignore[arg-type]
    (lambda: Limits((20, 4)), "Limits.concurrency is (20, 4) (tuple); write a whole number"),
    (lambda: Limits("many"), "'many' is neither a number, nor auto, nor MIN-MAX"),
    (lambda: Limits(requests_per_minute=0), "Limits.requests_per_minute is 0 (int); write None, or a number a minute"),
    (lambda: Limits(tokens_per_minute=NAN), "Limits.tokens_per_minute is nan (float); write None, or a number"),
    (lambda: Limits(max_outage_s=ENDLESS), "Limits.max_outage_s is inf (float); write a number of seconds above 0"),
    (lambda: Concurrency(0, 4), "Concurrency.least is 0 (int); write a whole number from 1 to 10000"),
    (lambda: Concurrency(9, 3), "Concurrency(9, 3): write the smaller number first"),
    (lambda: Timeouts(attempt_s=-1), "Timeouts.attempt_s is -1 (int); write a number of seconds above 0"),
    (lambda: Timeouts(connect_s=True), "Timeouts.connect_s is True (bool); write a number of seconds above 0"),
    (lambda: Timeouts(idle_s=None), "Timeouts.idle_s is None (NoneType)"),  # type: ignore[arg-type]
    (lambda: RetryPolicy(0), "RetryPolicy.max_attempts is 0 (int); write a whole number from 1 on"),
    (lambda: RetryPolicy(first_wait_s=NAN), "RetryPolicy.first_wait_s is nan (float); write a number of seconds"),
    (lambda: RetryPolicy(max_wait_s=-1), "RetryPolicy.max_wait_s is -1 (int); write a number of seconds"),
    (lambda: MaxErrors(), "MaxErrors takes count or rate, one of them"),
    (lambda: MaxErrors(3, 0.05), "MaxErrors takes count or rate, one of them"),
    (lambda: MaxErrors(-1), "MaxErrors.count is -1 (int); write a whole number from 0 on"),
    (lambda: MaxErrors(rate=5), "MaxErrors.rate is 5 (int); write a share between 0 and 1"),
    (lambda: MaxErrors(3, kinds=frozenset({"bad"})), "unknown kind of error 'bad'; choose from failed"),
    (lambda: Overrides(model=""), "Overrides.model is '' (str); write the name of a model"),
    (lambda: Overrides(stream=1), "Overrides.stream is 1 (int); write True or False"),  # type: ignore[arg-type]
    (lambda: Overrides(api=1), "Overrides.api is 1 (int); write one of responses, chat, "),  # type: ignore[arg-type]
    (lambda: Overrides(fields={"temperature": NAN}), "Overrides.fields['temperature'] is nan (float); write a JSON"),
    (lambda: Overrides(fields={"user": b"me"}), "Overrides.fields['user'] is b'me' (bytes); write a JSON value"),
    (lambda: Overrides(fields={"user": {1, 2}}), "Overrides.fields['user'] is {1, 2} (set); write a JSON value"),
    (lambda: Endpoint(None), "Endpoint.base_url is None (NoneType); write the gateway's address"),  # type: ignore[arg-type]
    (lambda: Endpoint("http://a", keepalive=0), "Endpoint.keepalive is 0 (int)"),  # type: ignore[arg-type]
    (lambda: GatewayOptions(seed="x"), "seed is 'x' (str); write a whole number"),  # type: ignore[arg-type]
    (lambda: GatewayOptions(latency_median_s=NAN), "latency_median_s is nan (float); write a number, 0 or more"),
    (lambda: GatewayOptions(rpm=0), "rpm is at least 1, not 0"),
    (lambda: GatewayOptions(capacity=True), "capacity is True (bool); write a whole number"),
    (lambda: GatewayOptions(models="gpt-4.1"), "models is a str; write a list or a set of strings"),
    (lambda: GatewayOptions(script="oops"), "fault script: unknown word 'oops'"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_a_value_that_cannot_be_is_refused_where_it_comes_in(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("values", [{"api_key": "sk-canary\nx"}, {"api_key": b"sk-canary"}, {"proxy": 3}])
def test_a_key_or_a_proxy_that_cannot_be_is_refused_and_not_repeated(values: Any) -> None:
    with pytest.raises(UsageError) as raised:
        Endpoint("http://127.0.0.1", **values)
    assert "canary" not in str(raised.value)
    assert f"Endpoint.{next(iter(values))}" in str(raised.value)
