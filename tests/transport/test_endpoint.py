"""Addresses, ways to send the key and headers: what becomes of them, and which are refused."""

from __future__ import annotations

import pytest

from batchrun.errors import UsageError
from batchrun.transport.client import request_headers
from batchrun.transport.endpoint import Endpoint, check_base_url, check_endpoint
from tests.hostile import KEY

CHAT = "/v1/chat/completions"
HOST = "https://gateway.example"


@pytest.mark.parametrize(
    ("base", "address"),
    [
        ("", "/v1/responses"),
        ("/", "/v1/responses"),
        ("/v1", "/v1/responses"),
        ("/openai", "/openai/v1/responses"),
        ("/api/v3", "/api/v3/responses"),
        ("/api/v3/", "/api/v3/responses"),
        ("/api/paas/v4", "/api/paas/v4/responses"),
        ("/v1beta/openai/", "/v1beta/openai/responses"),
        ("/v1/account/gateway/openai", "/v1/account/gateway/openai/responses"),
        ("/inference/chat/completions", "/inference/responses"),
        ("/responses", "/responses"),
        ("/openai?api-version=2025-04-01-preview", "/openai/responses?api-version=2025-04-01-preview"),
        ("/openai/v1/?api-version=preview", "/openai/v1/responses?api-version=preview"),
        ("?api-version=1", "/v1/responses?api-version=1"),
    ],
)
def test_a_base_with_a_version_a_query_or_an_endpoint_is_complete(base: str, address: str) -> None:
    assert Endpoint(HOST + base).url("/v1/responses") == HOST + address
    check_base_url(HOST + base)


def test_an_azure_deployment_and_an_azure_resource() -> None:
    azure = "https://me.openai.azure.com"
    version = "?api-version=2024-10-21"
    for given in ("", CHAT.removeprefix("/v1")):
        base = f"{azure}/openai/deployments/gpt-4o{given}{version}"
        assert Endpoint(base).url(CHAT) == f"{azure}/openai/deployments/gpt-4o/chat/completions{version}"
    assert Endpoint(azure).url(CHAT) == f"{azure}/openai/v1/chat/completions"
    assert Endpoint(azure + "/openai/").url(CHAT) == f"{azure}/openai/v1/chat/completions"
    assert Endpoint(azure + version).url(CHAT) == f"{azure}/openai/chat/completions{version}"


def test_without_an_address_it_is_the_official_api() -> None:
    endpoint = Endpoint(api_key=KEY)
    assert (endpoint.url(CHAT), endpoint.host) == ("https://api.openai.com/v1/chat/completions", "api.openai.com")


def test_a_host_is_told_without_its_query() -> None:
    assert Endpoint(f"{HOST}:8443/openai?api-version=1").host == "gateway.example:8443"


@pytest.mark.parametrize("name", ["key", "api_key", "subscription-key", "access_token", "sig", "code", "apikey"])
def test_a_secret_in_the_query_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--header-env") as refused:
        check_base_url(f"{HOST}/v1?a=b&{name}={KEY}")
    assert KEY not in str(refused.value)


# ------------------------------------------------------------------------------------------- headers


def test_the_key_is_sent_as_asked_for() -> None:
    assert dict(request_headers(Endpoint(HOST, KEY))) == {"Authorization": f"Bearer {KEY}"}
    assert dict(request_headers(Endpoint(HOST, KEY, auth="api-key"))) == {"api-key": KEY}
    assert dict(request_headers(Endpoint(HOST, KEY, auth="none"))) == {}


def test_a_header_that_is_given_replaces_the_same_one() -> None:
    headers = request_headers(Endpoint(HOST, KEY, headers={"X-Team": "a"}, secret_headers={"authorization": "Basic x"}))
    assert sorted(headers.items()) == [("X-Team", "a"), ("authorization", "Basic x")] or sorted(headers.items()) == [
        ("Authorization", "Basic x"),
        ("X-Team", "a"),
    ]


def test_no_repr_shows_the_value_of_a_secret_header() -> None:
    endpoint = Endpoint(HOST, headers={"X-Team": "a"}, secret_headers={"X-Key": KEY})
    assert KEY not in repr(endpoint) + repr(request_headers(endpoint))
    assert "X-Team" in repr(endpoint)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X Team", "a"),
        ("", "a"),
        ("X-Team:", "a"),
        ("X-Team\r\nX-Evil", "a"),
        ("X-Team", f"{KEY}\r\nX-Evil: 1"),
        ("X-Team", f"{KEY}é"),
        ("X-Team", f" {KEY}"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("Host", "elsewhere.example"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(name: str, value: str) -> None:
    for headers, secret_headers in (({name: value}, {}), ({}, {name: value})):
        with pytest.raises(UsageError) as refused:
            check_endpoint(Endpoint(HOST, headers=headers, secret_headers=secret_headers))
        assert KEY not in str(refused.value)


def test_a_header_is_given_once() -> None:
    with pytest.raises(UsageError, match="the header x-team is given twice"):
        check_endpoint(Endpoint(HOST, headers={"X-Team": "a"}, secret_headers={"x-team": "b"}))


def test_a_way_to_send_the_key_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="'basic' is no way to send the key; write one of bearer, api-key, none"):
        check_endpoint(Endpoint(HOST, auth="basic"))
