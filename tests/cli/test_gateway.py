"""From the options to the gateway: its address, the key, the headers, and options that would do nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batchrun.cli.gateway import make_endpoint
from batchrun.cli.gateway_options import GatewayOptions
from batchrun.errors import UsageError
from batchrun.transport.endpoint import Endpoint
from tests.cli.commands import Command
from tests.hostile import KEY

PLAIN = GatewayOptions(
    base_url=None,
    endpoints=None,
    sticky=None,
    api_key_env=None,
    api_key_file=None,
    auth=None,
    headers=(),
    header_envs=(),
    env_file=None,
    proxy=None,
    insecure_http=False,
    no_keepalive=False,
    simulate=False,
    simulate_latency_s=None,
    simulate_script="",
    simulate_answers=None,
    simulate_accuracy=None,
    simulate_mismatches=0.0,
)
HOST = "https://gateway.example/v1"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", HOST)
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "TEAM_KEY", "MY_KEY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def refusal(options: GatewayOptions) -> str:
    with pytest.raises(UsageError) as refused:
        make_endpoint(options)
    assert KEY not in str(refused.value)
    return str(refused.value)


def test_the_variables_of_the_official_client_are_enough(environment: pytest.MonkeyPatch) -> None:
    assert make_endpoint(PLAIN) == Endpoint(HOST, KEY)
    environment.setenv("OPENAI_ORG_ID", "org-1")
    environment.setenv("OPENAI_PROJECT_ID", "proj_1")
    assert make_endpoint(PLAIN).headers == {"OpenAI-Organization": "org-1", "OpenAI-Project": "proj_1"}
    given = make_endpoint(replace(PLAIN, headers=("openai-project: other",))).headers
    assert given == {"openai-project": "other", "OpenAI-Organization": "org-1"}


def test_without_an_address_it_is_the_official_api_and_that_is_said(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("OPENAI_BASE_URL")
    said = "batchrun: OPENAI_BASE_URL is not set; sending to the official API, https://api.openai.com/v1\n"
    assert make_endpoint(PLAIN) == Endpoint("https://api.openai.com/v1", KEY)
    assert capsys.readouterr().err == said
    make_endpoint(PLAIN, quiet=True)
    assert capsys.readouterr().err == ""


def test_an_empty_address_sends_the_key_nowhere(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPENAI_BASE_URL", "")
    assert "OPENAI_BASE_URL is empty" in refusal(PLAIN)
    assert "must look like" in refusal(replace(PLAIN, base_url=""))


def test_white_space_around_an_address_does_not_count(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPENAI_BASE_URL", f" {HOST}\r\n")
    assert make_endpoint(PLAIN) == Endpoint(HOST, KEY)
    assert Endpoint(f"{HOST}\n").base_url == HOST


@pytest.mark.parametrize("mark", ["'", '"'])
def test_a_key_in_quotation_marks_is_refused(mark: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPENAI_API_KEY", f"{mark}{KEY}{mark}")
    assert refusal(PLAIN) == "the key in $OPENAI_API_KEY stands in quotation marks; set it without them"


def test_headers_come_from_options_and_variables(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TEAM_KEY", f" {KEY}\n")
    made = make_endpoint(replace(PLAIN, headers=("X-Team: a b ", "X-Url: http://x"), header_envs=("X-Key=TEAM_KEY",)))
    assert made == Endpoint(HOST, KEY, headers={"X-Team": "a b", "X-Url": "http://x"}, secret_headers={"X-Key": KEY})


def test_who_gives_the_authorization_needs_no_key(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TEAM_KEY", f"Basic {KEY}")
    environment.delenv("OPENAI_API_KEY")
    made = make_endpoint(replace(PLAIN, header_envs=("Authorization=TEAM_KEY",)))
    assert (made.api_key, made.secret_headers) == ("", {"Authorization": f"Basic {KEY}"})
    assert make_endpoint(replace(PLAIN, auth="none")) == Endpoint(HOST, auth="none")
    assert "no key" in refusal(PLAIN)


@pytest.mark.parametrize("name", ["Authorization", "api-key", "X-API-Key", "Helicone-Auth", "Cookie", "X-Auth-Token"])
def test_a_secret_is_no_argument(name: str) -> None:
    assert "use --header-env" in refusal(replace(PLAIN, headers=(f"{name}: {KEY}",)))


@pytest.mark.parametrize("header", [KEY, f"X-Team {KEY}"])
def test_a_header_has_a_colon(header: str) -> None:
    assert refusal(replace(PLAIN, headers=(header,))) == "--header takes 'Name: value', with a colon"


@pytest.mark.parametrize("written", [KEY, f"X-Key={KEY}", f"X-Key: {KEY}", "X-Key="])
def test_a_value_in_the_place_of_a_variable_is_not_shown(written: str) -> None:
    assert refusal(replace(PLAIN, header_envs=(written,))).startswith("--header-env takes NAME=VAR")


def test_a_variable_that_is_not_there_is_named_by_its_header() -> None:
    said = "--header-env X-Key: the variable that it names is not set, or empty"
    assert refusal(replace(PLAIN, header_envs=("X-Key=TEAM_KEY",))) == said


def test_an_env_file_gives_what_is_not_set(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL=https://other.example\nTEAM_KEY='a b'\n")
    environment.delenv("OPENAI_API_KEY")
    made = make_endpoint(replace(PLAIN, env_file=file, header_envs=("X-Key=TEAM_KEY",)))
    assert made == Endpoint(HOST, KEY, secret_headers={"X-Key": "a b"})


REAL = [
    ("--base-url", HOST),
    ("--api-key-env", "MY_KEY"),
    ("--api-key-file", "key.txt"),
    ("--auth", "none"),
    ("--header", "X-Team: a"),
    ("--header-env", "X-Key=TEAM_KEY"),
    ("--env-file", ".env"),
    ("--proxy", "http://proxy.example:3128"),
    ("--insecure-http",),
    ("--no-keepalive",),
]


@pytest.mark.parametrize("words", REAL)
def test_what_is_for_a_real_gateway_does_nothing_for_a_simulated_one(
    batchrun: Command, requests: Path, words: tuple[str, ...]
) -> None:
    done = batchrun("run", requests, "-o", "r.jsonl", "--simulate", *words)
    said = f"batchrun: {words[0]} does nothing with --simulate, which sends nothing; leave one out\n"
    assert (done.code, done.err) == (2, said)


def test_other_options_that_do_nothing_are_refused(batchrun: Command, requests: Path) -> None:
    done = batchrun("run", requests, "-o", "r.jsonl", "--simulate", "--yes")
    assert (done.code, done.err) == (2, "batchrun: --yes does nothing without --pilot; pass --pilot N, too\n")
    two_keys = replace(PLAIN, api_key_env="MY_KEY", api_key_file=Path("key.txt"))
    assert refusal(two_keys) == "--api-key-env does nothing with --api-key-file; leave one out"
    assert "--auth none sends no key" in refusal(replace(PLAIN, auth="none", api_key_env="MY_KEY"))
