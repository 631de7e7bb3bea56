"""A server that nobody here wrote between a job and its gateway: nginx, with `limit_req` for one model and not another.

nginx decides on a limit before it has read the body. So an outer server reads the model out of the body and passes it
on as a header, and an inner one limits by that.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun import Endpoint, Job, run
from batchrun.simulator.options import GatewayOptions
from tests.hostile import free_port
from tests.support import KEY, GatewayThread, Json, until

pytestmark = [
    pytest.mark.counterpart,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]

PER_S = 20
LEARNT_S = 15.0
CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    client_body_buffer_size 1m;
    access_log off;
    log_format who "$http_x_model $status $msec";
    map $request_body $model {{ "~\\"model\\": *\\"(?<found>[^\\"]+)\\"" $found; }}
    map $http_x_model $limited {{ slow slow; }}
    limit_req_zone $limited zone=slow:1m rate={per_s}r/s;
    server {{
        listen 127.0.0.1:{outer};
        location / {{ proxy_set_header x-model $model; proxy_pass http://127.0.0.1:{inner}; }}
    }}
    server {{
        listen 127.0.0.1:{inner};
        access_log {folder}/access.log who;
        location / {{
            limit_req zone=slow burst=5 nodelay; limit_req_status 429;
            proxy_pass {behind};
        }}
    }}
}}
"""


class Nginx:
    """nginx before a gateway. `base_url`: its address."""

    def __init__(self, folder: Path, behind: str) -> None:
        self._log = folder / "access.log"
        self._outer = free_port()
        self.base_url = f"http://127.0.0.1:{self._outer}/v1"
        self._config = folder / "nginx.conf"
        behind = behind.removesuffix("/v1")
        self._config.write_text(
            CONFIG.format(folder=folder, outer=self._outer, inner=free_port(), behind=behind, per_s=PER_S)
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[Nginx]:
        process = subprocess.Popen(["nginx", "-c", self._config], stderr=subprocess.DEVNULL)
        try:
            until(self._listens)
            yield self
        finally:
            process.terminate()
            process.wait(10)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._outer), 1):
            return True
        return False

    def said(self, model: str, status: int) -> list[float]:
        """When a model's requests were answered so, in seconds since the first answer of all."""
        rows = [line.split() for line in self._log.read_text().splitlines()]
        first = min(float(at) for _, _, at in rows)
        return [float(at) - first for who, what, at in rows if (who, what) == (model, str(status))]


def write(folder: Path, slow: int, free: int) -> Path:
    """So many lines for each model, evenly mixed."""
    path = folder / "requests.jsonl"
    every = (slow + free) // slow
    with path.open("w") as file:
        for number in range(slow + free):
            model = "free" if number % every else "slow"
            body: Json = {"model": model, "input": f"question {number}"}
            file.write(json.dumps({"custom_id": f"r-{number}", "body": body}) + "\n")
    return path


def prices(folder: Path) -> Path:
    path = folder / "prices.json"
    path.write_text(json.dumps({model: {"input": 2, "output": 8} for model in ("slow", "free")}))
    return path


def test_a_model_that_nginx_limits_gets_its_limit_and_holds_up_no_other(tmp_path: Path) -> None:
    """Long enough for one trial of whether the refusals come from a limit: it costs a tenth for 400 requests."""
    requests = write(tmp_path, 1500, 13500)
    with (
        GatewayThread(GatewayOptions(latency_median_s=0.05, latency_p99_s=0.1)) as gateway,
        Nginx(tmp_path, gateway.base_url).running() as nginx,
    ):
        endpoint = Endpoint(nginx.base_url, KEY)
        outcome = run(Job(str(requests), tmp_path / "o.jsonl", endpoint, prices=prices(tmp_path)))
        assert outcome.report.lines.succeeded == 15_000
        slow, free, refused = (nginx.said(*what) for what in (("slow", 200), ("free", 200), ("slow", 429)))
        over_s, late = max(slow), [at for at in slow if at >= LEARNT_S]
        per_s = len(late) / (over_s - LEARNT_S)
        refused_late = sum(at >= LEARNT_S for at in refused)
        print(
            f"{len(slow) / over_s:.1f} a second, {per_s:.1f} from {LEARNT_S:g} s on, of {PER_S}; "
            f"{len(refused)} refused, {refused_late} from then on; the other took {max(free):.1f} s of {over_s:.1f}"
        )
        assert not nginx.said("free", 429)
        assert len(slow) == 1500
        assert per_s >= 0.95 * PER_S
        assert len(slow) / over_s >= 0.85 * PER_S
        assert max(free) < 0.8 * over_s
        assert len(refused) - refused_late <= 30
        assert refused_late <= 0.02 * len(late) + 1
