"""A server that nobody here wrote between a job and its gateway: LiteLLM's proxy, with two models, one of them limited.

The proxy is large, so it is installed apart (`pip install 'litellm[proxy]'` in an environment of its own), and found on
the PATH: `PATH=$PATH:/that/bin pytest -m counterpart -rs`. Its limit begins anew with each minute of the clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from batchrun import Endpoint, Job, run
from batchrun.simulator.options import GatewayOptions
from tests.end_to_end.test_nginx import LEARNT_S, prices
from tests.hostile import free_port
from tests.support import KEY, GatewayThread, Json, until

pytestmark = [
    pytest.mark.counterpart,
    pytest.mark.skipif(shutil.which("litellm") is None, reason="LiteLLM's proxy is not installed"),
]

PER_MINUTE, OF_EACH = 60, 240


def config(behind: str) -> Json:
    """Two deployments: `slow` has a limit of its own."""
    shared = {"api_base": behind, "api_key": KEY}
    slow: Json = {"model": "openai/slow", "rpm": PER_MINUTE, **shared}
    models = [("slow", slow), ("free", {"model": "openai/free", **shared})]
    checks = ["enforce_model_rate_limits"]
    return {
        "model_list": [{"model_name": name, "litellm_params": params} for name, params in models],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True, "optional_pre_call_checks": checks},
        "general_settings": {"master_key": KEY},
    }


@contextlib.contextmanager
def proxy(folder: Path, behind: str) -> Iterator[str]:
    """Run the proxy before a gateway; yields its address."""
    path, port = folder / "config.yaml", free_port()
    path.write_text(json.dumps(config(behind)))  # which is YAML, too
    base_url = f"http://127.0.0.1:{port}"
    command = ["litellm", "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **quiet})
        try:
            until(lambda: is_alive(f"{base_url}/health/liveliness"), deadline_s=300)
            yield f"{base_url}/v1"
        finally:
            process.terminate()
            process.wait(30)


def is_alive(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


def write(folder: Path) -> Path:
    """Lines for both models, evenly mixed."""
    path, models = folder / "requests.jsonl", ["slow", "free"] * OF_EACH
    random.Random(1).shuffle(models)
    with path.open("w") as file:
        for number, model in enumerate(models):
            body: Json = {"model": model, "input": f"question {number}"}
            file.write(json.dumps({"custom_id": f"r-{number}", "body": body}) + "\n")
    return path


def done_s(results: Path) -> dict[str, float]:
    """After how many seconds each model had all its answers."""
    ended: dict[str, float] = {}
    first = float("inf")
    for line in results.read_text().splitlines():
        told = json.loads(line)["run"]
        began = datetime.fromisoformat(told["started"]).timestamp()
        first, model = min(first, began), told["requested_model"]
        ended[model] = max(ended.get(model, 0.0), began + told["elapsed_s"])
    return {model: at - first for model, at in ended.items()}


def refused_at(log: Path) -> list[float]:
    """When requests were refused, in seconds since the job began, by its run log."""
    events = map(json.loads, log.read_text().splitlines())
    return [event["t"] for event in events if event["event"] == "ended" and event.get("status") == 429]


def test_a_model_that_litellm_limits_gets_its_limit_and_holds_up_no_other(tmp_path: Path) -> None:
    requests, results = write(tmp_path), tmp_path / "results.jsonl"
    with (
        GatewayThread(GatewayOptions(latency_median_s=0.1, latency_p99_s=0.3)) as gateway,
        proxy(tmp_path, gateway.base_url) as base_url,
    ):
        outcome = run(Job(str(requests), results, Endpoint(base_url, KEY), prices=prices(tmp_path)))
    took_s, refused = done_s(results), refused_at(tmp_path / "results.jsonl.log")
    per_minute = OF_EACH / took_s["slow"] * 60
    late = sum(at >= LEARNT_S for at in refused)
    print(
        f"{per_minute:.0f} of {PER_MINUTE} a minute; {len(refused)} refused, {late} from {LEARNT_S:g} s on; "
        f"the other took {took_s['free']:.0f} s of {took_s['slow']:.0f}"
    )
    assert outcome.report.lines.succeeded == 2 * OF_EACH
    assert per_minute >= 0.95 * PER_MINUTE
    assert len(refused) - late <= 30
    assert late <= 0.02 * OF_EACH
    assert took_s["free"] <= 0.5 * took_s["slow"]
