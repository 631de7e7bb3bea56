"""The file that names several endpoints: read strictly, and said in words what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from batchrun.errors import UsageError
from batchrun.job.endpoints import NamedEndpoint, read_endpoints
from batchrun.job.job import Job
from batchrun.limits.options import Concurrency, Limits
from batchrun.transport.endpoint import Endpoint
from tests.hostile import KEY

BASE = 'name = "a"\nbase_url = "https://one.example/v1"\n'
WHOLE = """
[[endpoint]]
name = "a"
base_url = "https://one.example/v1"
api_key_env = "KEY_A"
weight = 2
tier = 3
concurrency = "4-200"
rpm = 3000
tpm = 2e6
max_cost_usd = 0.10
models = ["gpt-4.1*", "o?"]
rename = { "gpt-4.1" = "openai/gpt-4.1" }
prices = "prices-a.toml"
headers = { "x-team" = "batch" }
header_env = { "x-team-key" = "TEAM_KEY" }

[[endpoint]]
name = "b"
base_url = "https://two.example"
api_key_file = "key-b"
"""


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-plain-0123456789")
    monkeypatch.setenv("KEY_A", KEY)
    monkeypatch.setenv("TEAM_KEY", "team-0123456789")
    (tmp_path / "key-b").write_text("sk-in-a-file\n")


def read(folder: Path, text: str, environ: Mapping[str, str] | None = os.environ) -> tuple[NamedEndpoint, ...]:
    path = folder / "endpoints.toml"
    path.write_text(text)
    return read_endpoints(path, environ)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, text)
    assert KEY not in str(caught.value)
    return str(caught.value).removeprefix(str(folder / "endpoints.toml"))


def test_every_key_is_read(tmp_path: Path) -> None:
    a, b = read(tmp_path, WHOLE)
    assert (a.name, a.weight, a.tier, a.max_cost_usd) == ("a", 2, 3, Decimal("0.1"))
    assert a.limits == Limits(Concurrency(4, 200), 3000, 2e6)
    assert (a.models, a.rename, a.prices) == (
        ("gpt-4.1*", "o?"),
        {"gpt-4.1": "openai/gpt-4.1"},
        tmp_path / "prices-a.toml",
    )
    assert (a.endpoint.base_url, a.endpoint.api_key) == ("https://one.example/v1", KEY)
    assert (a.endpoint.headers, a.endpoint.secret_headers) == ({"x-team": "batch"}, {"x-team-key": "team-0123456789"})
    assert (b.endpoint.api_key, b.weight, b.tier, b.limits, b.max_cost_usd) == ("sk-in-a-file", 1, 1, Limits(), None)
    assert [a.serves(model) for model in ("gpt-4.1", "gpt-4.1-mini", "o3", "gpt-5")] == [True, True, True, False]
    assert b.serves("anything")


def test_the_usual_key_is_that_of_the_usual_variable(tmp_path: Path) -> None:
    (a,) = read(tmp_path, f"[[endpoint]]\n{BASE}")
    assert a.endpoint.api_key == "sk-plain-0123456789"
    (a,) = read(tmp_path, f"[[endpoint]]\n{BASE}", environ=None)
    assert a.endpoint.api_key == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("wieght = 2", ": endpoint a: unknown key 'wieght'; did you mean 'weight'?"),
        ("colour = 2", ": endpoint a: unknown key 'colour'; write one of name, base_url, "),
        ("weight = 0", ": endpoint a: weight is 0; write it like weight = 2"),
        ('weight = "2"', ": endpoint a: weight is '2'; write it like weight = 2"),
        ("tier = 0", ": endpoint a: tier is 0; write it like tier = 1"),
        ("tier = 1.5", ": endpoint a: tier is 1.5; write it like tier = 1"),
        ("rpm = true", ": endpoint a: rpm is True; write it like rpm = 3000"),
        ('concurrency = "many"', ": endpoint a: concurrency is 'many'; write it like concurrency = \"auto\""),
        ("models = 'gpt'", ": endpoint a: models is 'gpt'; write it like models = [\"gpt-4.1*\"]"),
        ('rename = "x"', ': endpoint a: rename is \'x\'; write it like rename = { "gpt-4.1" = "openai/gpt-4.1" }'),
        ('headers = { "x-api-key" = "sk-very-secret" }', ": endpoint a: the header x-api-key is a secret; "),
        ('headers = { "host" = "x" }', ": endpoint a: the header host is batchrun's own; leave it out"),
        ('api_key_env = "NO_KEY_HERE"', ": endpoint a: no key: set NO_KEY_HERE, or name another variable or a file"),
        (f'api_key_env = "{KEY}"', ": endpoint a: no key: set the variable that it names, "),
        ('api_key_file = "nowhere"', ": endpoint a: cannot read the key from "),
        ('api_key_env = "KEY_A"\napi_key_file = "key-b"', ": endpoint a: api_key_env does nothing beside api_key_file"),
        ("max_cost_usd = -1", ": endpoint a: max_cost_usd is -1; write it like max_cost_usd = 20"),
        ('auth = "basic"', ": endpoint a: auth is 'basic'; write it like auth = \"api-key\""),
    ],
)
def test_what_is_wrong_with_an_endpoint_is_said_in_words(tmp_path: Path, line: str, words: str) -> None:
    assert refusal(tmp_path, f"[[endpoint]]\n{BASE}{line}\n").startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", " names no endpoint; write each of them as [[endpoint]], with name and base_url"),
        ("[endpoint]\n", " names no endpoint; write each of them as [[endpoint]], with name and base_url"),
        ("[[endpoints]]\n", ": unknown 'endpoints'; write each endpoint as [[endpoint]]"),
        ("[[endpoint]]\nweight = 2\n", ': endpoint 1 has no name; write name = "a"'),
        ('[[endpoint]]\nname = "a"\n', ': endpoint a has no base_url; write base_url = "https://gateway.example/v1"'),
        (f"[[endpoint]]\n{BASE}[[endpoint]]\n{BASE}", ": two endpoints are called 'a'; give each a name of its own"),
        ('[[endpoint]]\nname = "a b"\nbase_url = "https://x.example"', ": endpoint a b: NamedEndpoint.name is 'a b'"),
        ('[[endpoint]]\nname = "a"\nbase_url = "ftp://x"', ": endpoint a: the base URL must look like https://"),
        ("[[endpoint]\n", " is not TOML: "),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_words(tmp_path: Path, text: str, words: str) -> None:
    assert refusal(tmp_path, text).startswith(words)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*nowhere\.toml: No such file"):
        read_endpoints(tmp_path / "nowhere.toml", {})


def test_a_job_has_one_endpoint_or_several() -> None:
    plain, named = Endpoint("https://one.example"), NamedEndpoint("a", Endpoint("https://one.example"))
    assert Job("r", "o", endpoints=[named]).endpoints == (named,)
    with pytest.raises(UsageError, match="endpoint does nothing beside endpoints"):
        Job("r", "o", plain, endpoints=[named])
    with pytest.raises(UsageError, match="two endpoints are called 'a'"):
        Job("r", "o", endpoints=[named, named])
    with pytest.raises(UsageError, match="endpoint is None"):
        Job("r", "o")
