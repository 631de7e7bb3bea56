"""`batchrun run --endpoints`: a whole job from the command line, over two gateways in threads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchrun.simulator.options import GatewayOptions
from tests.cli.commands import Command
from tests.end_to_end.test_secrets import HostileThread
from tests.engine.test_runner import error
from tests.hostile import KEY, free_port, http
from tests.support import GatewayThread, events, read_records, write_prices, write_requests


def write(folder: Path, *base_urls: str) -> Path:
    path = folder / "endpoints.toml"
    tables = [
        f'[[endpoint]]\nname = "{name}"\nbase_url = "{url}"\n' for name, url in zip("abc", base_urls, strict=False)
    ]
    path.write_text("".join(tables))
    return path


@pytest.mark.smoke
def test_two_gateways_do_one_job(batchrun: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    requests, results = write_requests(tmp_path / "r.jsonl", 60), tmp_path / "o.jsonl"
    prices = ("--prices", str(write_prices(tmp_path)))
    with GatewayThread(GatewayOptions()) as one, GatewayThread(GatewayOptions()) as other:
        endpoints = write(tmp_path, one.base_url, other.base_url)
        done = batchrun("run", requests, "-o", results, "--endpoints", endpoints, *prices)
    assert done.code == 0, done.err
    used = {record["run"]["endpoint"] for record in read_records(results)}
    assert used == {"a", "b"}
    sent = [event for event in events(results) if event["event"] == "sent"]
    assert {event["endpoint"] for event in sent} == used
    report = json.loads((tmp_path / "o.jsonl.report.json").read_text())
    assert sum(one["lines"]["succeeded"] for one in report["endpoints"].values()) == 60
    again = batchrun("report", results, "--json", *prices, "--endpoints", endpoints)
    assert json.loads(again.out)["endpoints"] == report["endpoints"]


@pytest.mark.parametrize("option", ["--base-url=https://x.example", "--api-key-env=KEY_X", "--simulate"])
def test_options_that_name_one_gateway_are_refused_beside_it(batchrun: Command, tmp_path: Path, option: str) -> None:
    requests, endpoints = write_requests(tmp_path / "r.jsonl", 1), write(tmp_path, "https://one.example")
    done = batchrun("run", requests, "-o", tmp_path / "o.jsonl", "--endpoints", endpoints, option)
    assert done.code == 2
    assert "does nothing" in done.err
    assert option.partition("=")[0] in done.err
    assert "--endpoints" in done.err


def test_a_model_that_no_endpoint_serves_is_refused_before_anything_is_sent(
    batchrun: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    requests, endpoints = write_requests(tmp_path / "r.jsonl", 3), write(tmp_path, "https://one.example")
    endpoints.write_text(endpoints.read_text() + 'models = ["o3"]\n')
    done = batchrun("run", requests, "-o", tmp_path / "o.jsonl", "--endpoints", endpoints)
    assert (done.code, "no endpoint serves gpt-4.1 (3 lines)" in done.err) == (2, True)


def test_sticky_does_nothing_without_endpoints(batchrun: Command, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "r.jsonl", 1)
    done = batchrun("run", requests, "-o", tmp_path / "o.jsonl", "--sticky", "prefix", "--simulate")
    assert (done.code, "--sticky does nothing without --endpoints" in done.err) == (2, True)


def test_sticky_sends_lines_that_begin_alike_to_one_endpoint(
    batchrun: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    requests, results = tmp_path / "r.jsonl", tmp_path / "o.jsonl"
    write_requests(requests, 40, instructions="Label this.")
    prices = ("--prices", str(write_prices(tmp_path)))
    with GatewayThread(GatewayOptions()) as one, GatewayThread(GatewayOptions()) as other:
        endpoints = write(tmp_path, one.base_url, other.base_url)
        done = batchrun("run", requests, "-o", results, "--endpoints", endpoints, "--sticky", "prefix", *prices)
    assert done.code == 0, done.err
    assert len({record["run"]["endpoint"] for record in read_records(results)}) == 1


def test_a_cap_for_lines_without_a_bound_needs_a_cap_of_the_job_or_of_an_endpoint(
    batchrun: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    requests, results = write_requests(tmp_path / "r.jsonl", 3, max_output_tokens=None), tmp_path / "o.jsonl"
    with GatewayThread(GatewayOptions()) as gateway:
        endpoints = write(tmp_path, gateway.base_url)
        given = ("run", requests, "-o", results, "--endpoints", endpoints, "--prices", write_prices(tmp_path))
        done = batchrun(*given, "--max-line-cost", "0.1")
        assert (done.code, "pass --max-cost, or give an endpoint max_cost_usd" in done.err) == (2, True)
        endpoints.write_text(endpoints.read_text() + "max_cost_usd = 1\n")
        done = batchrun(*given)
        assert (done.code, "max_cost_usd of a cannot cap lines" in done.err) == (2, True)
        assert batchrun(*given, "--max-line-cost", "0.1").code == 0


# ---------------------------------------------------------------------------------------------- estimate


def priced(folder: Path, name: str, dollars: float) -> str:
    (folder / name).write_text(json.dumps({"gpt-4.1": {"input": 0, "output": dollars}}))
    return name


def test_an_estimate_divides_lines_and_cost_by_weight_at_the_prices_of_each(batchrun: Command, tmp_path: Path) -> None:
    """At most 100 tokens of output a line: at 10, 20 and 40 dollars for a million."""
    requests = tmp_path / "r.jsonl"
    lines = write_requests(requests, 9, max_output_tokens=100).read_text().splitlines()
    lines[:2] = [line.replace("{", '{"endpoint": "c", ', 1) for line in lines[:2]]
    requests.write_text("\n".join(lines) + "\n")
    path, usual = tmp_path / "endpoints.toml", priced(tmp_path, "usual.json", 10)
    path.write_text(
        '[[endpoint]]\nname = "a"\nbase_url = "https://a.example"\nweight = 2\n'
        f'[[endpoint]]\nname = "b"\nbase_url = "https://b.example"\nprices = "{priced(tmp_path, "b.json", 20)}"\n'
        '[[endpoint]]\nname = "c"\nbase_url = "https://c.example"\ntier = 2\n'
        f'prices = "{priced(tmp_path, "c.json", 40)}"\n'
    )
    command = ("estimate", str(requests), "--prices", str(tmp_path / usual))
    made = json.loads(batchrun(*command, "--endpoints", path, "--json").out)
    parts = made["endpoints"]
    assert {name: part["lines_left"] for name, part in parts.items()} == {"a": 5, "b": 2, "c": 2}
    most = {name: part["left_usd"]["high"] for name, part in parts.items()}
    assert most == pytest.approx({"a": 5 * 1e-3, "b": 2 * 2e-3, "c": 2 * 4e-3})
    assert made["left_usd"]["high"] == made["total_usd"]["high"] == pytest.approx(sum(most.values()))
    shown = batchrun(*command, "--endpoints", path).out
    assert [line.split("  ")[0] for line in shown.splitlines() if " at " in line][:3] == [
        "USD at a, 5 lines",
        "USD at b, 2 lines",
        "USD at c, 2 lines",
    ]
    assert json.loads(batchrun(*command, "--json").out)["endpoints"] == {}


@pytest.mark.parametrize(("weight_of_b", "unpriced"), [(None, 0), (2, 6)])
def test_lines_have_a_price_where_their_endpoint_has_one(
    batchrun: Command, tmp_path: Path, weight_of_b: int | None, unpriced: int
) -> None:
    """The model is in no list of prices, but in the price file of a; b, if there is one, has none."""
    requests = write_requests(tmp_path / "r.jsonl", 9, model="house-model", max_output_tokens=100)
    (tmp_path / "a.json").write_text(json.dumps({"house-model": {"input": 0, "output": 10}}))
    path = write(tmp_path, "https://a.example")
    path.write_text(path.read_text() + 'prices = "a.json"\n')
    if weight_of_b is not None:
        url = "https://b.example"
        path.write_text(path.read_text() + f'[[endpoint]]\nname = "b"\nbase_url = "{url}"\nweight = {weight_of_b}\n')
    command = ("estimate", requests, "--endpoints", path, "--prices", write_prices(tmp_path))
    made = json.loads(batchrun(*command, "--json").out)
    assert made["unpriced_models"] == ({"house-model": unpriced} if unpriced else {})
    most = None if unpriced else pytest.approx(9e-3)
    assert made["endpoints"]["a"]["left_usd"]["high"] == pytest.approx((9 - unpriced) * 1e-3)
    assert [made[name]["high"] for name in ("left_usd", "total_usd")] == [most, most]
    assert made["models"]["house-model"]["left_usd"]["high"] == most
    shown = batchrun(*command).out
    assert ("no price is known" in shown, f"({unpriced} lines; see --prices)" in shown) == (unpriced > 0, unpriced > 0)


def test_an_estimate_has_what_was_spent_at_the_prices_of_each(
    batchrun: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    requests, results = write_requests(tmp_path / "r.jsonl", 40), tmp_path / "o.jsonl"
    with GatewayThread(GatewayOptions()) as one, GatewayThread(GatewayOptions()) as other:
        path = write(tmp_path, one.base_url, other.base_url)
        path.write_text(path.read_text() + f'prices = "{priced(tmp_path, "b.json", 20)}"\n')
        given = ("--endpoints", path, "--prices", str(tmp_path / priced(tmp_path, "usual.json", 10)))
        done = batchrun("run", requests, "-o", results, *given, "-n", "30")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "o.jsonl.report.json").read_text())
    made = json.loads(batchrun("estimate", requests, "-o", results, *given, "--json").out)
    assert made["spent_usd"] == report["cost"]["total_usd"] > 0
    assert sum(part["lines_left"] for part in made["endpoints"].values()) == 10
    mean_output = report["usage"]["output_tokens"] / 30
    assert made["left_usd"]["likely"] == pytest.approx(10 * mean_output * 15e-6, rel=0.25)


def test_an_estimate_refuses_an_endpoint_that_there_is_not(batchrun: Command, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "r.jsonl", 1)
    requests.write_text(requests.read_text().replace("{", '{"endpoint": "z", ', 1))
    done = batchrun("estimate", requests, "--endpoints", write(tmp_path, "https://one.example"))
    assert (done.code, 'r.jsonl:1: "endpoint" is "z", which there is not; there are a' in done.err) == (2, True)


# ------------------------------------------------------------------------------------------ batchrun endpoints

LISTED = http(json.dumps({"object": "list", "data": [{"id": "gpt-4.1"}, {"id": "text-embedding-3"}]}).encode())
ECHO = http(json.dumps({"error": {"message": f"Incorrect API key: {KEY}", "code": "invalid_api_key"}}).encode(), 401)
TOLD = http(x_ratelimit_limit_requests="500", x_ratelimit_limit_tokens="200000")


@pytest.mark.smoke
def test_a_look_at_endpoints_sends_two_requests_to_each_and_shows_what_comes_back(
    batchrun: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with HostileThread(LISTED, TOLD) as good, HostileThread(ECHO) as dead:
        path = write(tmp_path, good.base_url, dead.base_url, f"http://127.0.0.1:{free_port()}/v1")
        path.write_text(path.read_text() + 'models = ["gpt-4.1"]\n')
        done = batchrun("endpoints", path, "--model", "gpt-4.1")
        paths = [asked.head.split("\r\n")[0] for asked in good.asked]
        body = json.loads(good.asked[1].body)
        assert len(dead.asked) == 2
    assert paths == ["GET /v1/models HTTP/1.1", "POST /v1/responses HTTP/1.1"]
    assert body == {"model": "gpt-4.1", "input": "Say ok.", "max_output_tokens": 16}
    assert done.code == 1
    rows = {line.split()[0]: line for line in done.out.splitlines()}
    assert rows["a"].split()[1:5] == ["yes", "good", "2", "gpt-4.1"]
    assert "500 requests, 200,000 tokens" in rows["a"]
    assert next(line for line in done.out.splitlines() if line.startswith("b ")).split()[1:3] == ["yes", "refused"]
    assert "b: HTTP 401 invalid_api_key: Incorrect API key: [the api key]" in done.out
    assert "c: connect_failed: cannot connect to 127.0.0.1" in done.out
    assert KEY not in done.out + done.err


def test_a_look_asks_for_a_model_only_where_that_helps(
    batchrun: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    nothing = http(json.dumps({"object": "list", "data": []}).encode())
    with HostileThread(nothing) as bare, HostileThread(ECHO) as dead:
        path = write(tmp_path, bare.base_url, dead.base_url, f"http://127.0.0.1:{free_port()}/v1")
        told = batchrun("endpoints", path).out.splitlines()
    assert [line[0] for line in told if "--model" in line] == ["a"], "not where the key is refused, or nobody answers"


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        (error(404, "model_not_found", "The model does not exist.", "invalid_request_error"), "good"),
        (error(429, "rate_limit_exceeded", "Rate limit reached"), "good"),
        (error(404, "not_found", "Not Found"), "unknown"),
        (http(b"slow down", 429, "text/plain"), "unknown"),
    ],
)
def test_a_look_says_that_the_key_is_good_where_the_api_itself_names_another_fault(
    batchrun: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, key: str
) -> None:
    """That it lists its models says nothing: some list them for everybody."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with HostileThread(LISTED, answer) as gateway:
        done = batchrun("endpoints", write(tmp_path, gateway.base_url), "--json")
    (looked,) = json.loads(done.out)
    assert (done.code, looked["key"]) == (1, key)


def test_a_look_chooses_a_model_that_answers_texts(
    batchrun: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with HostileThread(LISTED, http()) as good:
        done = batchrun("endpoints", write(tmp_path, good.base_url), "--json")
    (looked,) = json.loads(done.out)
    assert (done.code, looked["asked"], looked["key"], looked["models"]) == (0, "gpt-4.1", "good", 2)
