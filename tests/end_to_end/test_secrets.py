"""A canary key on every way in which a run can fail: afterwards nothing that it left behind holds the key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import UsageError
from batchrun.simulator.options import GatewayOptions
from batchrun.transport.endpoint import Endpoint, check_base_url, check_key, check_proxy
from tests import hostile
from tests.hostile import KEY, RESPONSE, Answer, Hostile, event, http, sse, whole_stream
from tests.support import GatewayThread, RunProcess, has_event, until, write_prices, write_requests

# The start of the key is enough to know that it was there.
CANARY = KEY[:9].encode()


class HostileThread:
    """A hostile server with an event loop of its own, for a client in another process."""

    def __init__(self, *answers: Answer, ssl: Any = None) -> None:
        self.server = Hostile(*answers, ssl=ssl)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Hostile:
        self._thread.start()
        assert self._ready.wait(10)
        return self.server

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with self.server:
            self._ready.set()
            await self._over.wait()


def spoilt(folder: Path) -> list[str]:
    """The files of a folder, and their names, that hold the canary."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "key.txt"]
    return [str(path) for path in files if CANARY in path.read_bytes() or CANARY.decode() in path.name]


def run(folder: Path, base_url: str, *options: str, lines: int = 4, **env: str) -> tuple[int, str]:
    """The exit code and the screen of a whole run; nothing it leaves behind holds the key."""
    requests = write_requests(folder / "requests.jsonl", lines)
    prices = ("--prices", str(write_prices(folder)))
    process = RunProcess(base_url, requests, folder / "results.jsonl", "-v", *prices, *options, env=key_env(**env))
    with process:
        code = process.wait()
        screen = process.screen
    assert spoilt(folder) == []
    return code, screen


def key_env(**env: str) -> dict[str, str]:
    return {"OPENAI_API_KEY": KEY, "PYTHONASYNCIODEBUG": "1", **env}


ECHO = f"Incorrect API key provided: {KEY}. Header was: Authorization: Bearer {KEY}"
ERROR = json.dumps({"error": {"message": ECHO, "type": KEY, "param": KEY, "code": "invalid_api_key"}}).encode()
STOPS: dict[str, Answer] = {
    "a wrong key, echoed": http(ERROR, 401),
    "a page that echoes it": http(f"<html><title>{ECHO}</title></html>".encode(), 200, "text/html"),
    "an error page that echoes it": http(f"<html><title>{ECHO}</title></html>".encode(), 404, "text/html"),
}
FAILURES: dict[str, Answer] = {
    "an error": http(ERROR.replace(b"invalid_api_key", b"invalid_prompt"), 400),
    "a server error": http(ERROR.replace(b"invalid_api_key", b"server_error"), 500),
    "an error page": http(f"<html><title>{ECHO}</title></html>".encode(), 502, "text/html"),
    "a redirect": http(b"", 307, Location=f"https://elsewhere.example/{KEY}"),
    "a stream that breaks off": sse(*whole_stream(f"it is {KEY}")[:-1]),
    "an error event": sse(event("error", code="invalid_prompt", message=ECHO)),
    "bytes that are no text": http(b"\xff" + ECHO.encode(), 400),
    "a broken head": f"HTTP/1.1 200 OK\r\nno colon {KEY}\r\n\r\n".encode(),
    "a reset": hostile.reset,
}
ANSWERS: dict[str, Answer] = {
    "a service tier": http(json.dumps({**RESPONSE, "service_tier": KEY}).encode()),
    "an answer": http(json.dumps({**RESPONSE, "user": KEY, "model": KEY}).encode()),
    "a stream": sse(*whole_stream(f"it is {KEY}", output=[], model=KEY)),
    "a header": http(x_request_id=KEY),
}


@pytest.mark.parametrize("fault", STOPS)
def test_a_job_that_stops_does_not_let_the_key_out(tmp_path: Path, fault: str) -> None:
    with HostileThread(STOPS[fault]) as server:
        code, screen = run(tmp_path, server.base_url)
        assert server.asked[0].header("Authorization") == f"Bearer {KEY}"
    assert (code, "Traceback" in screen) == (3, False)
    assert "[the api key]" in screen


SENT: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    "the key": ("Authorization", (), {}),
    "Azure's header": ("api-key", ("--auth", "api-key"), {}),
    "a secret header": (
        "X-Gateway-Auth",
        ("--header-env", "X-Gateway-Auth=TEAM_KEY", "--header", "X-Team: a"),
        {"OPENAI_API_KEY": "another-0123456789", "TEAM_KEY": f"Basic {KEY}"},
    ),
}


@pytest.mark.parametrize("sent", SENT)
@pytest.mark.smoke
def test_no_failure_and_no_answer_lets_the_key_out(tmp_path: Path, sent: str) -> None:
    """One line each, one attempt each, and a good answer after each, so that nothing looks like an outage."""
    header, options, env = SENT[sent]
    echoes = [*FAILURES.values(), *ANSWERS.values()]
    with HostileThread(*(answer for echo in echoes for answer in (echo, http()))) as server:
        one_each = ("-c", "1", "--max-attempts", "1", *options)
        code, screen = run(tmp_path, server.base_url, *one_each, lines=2 * len(echoes), **env)
        assert len(server.asked) == 2 * len(echoes), screen
        assert (server.asked[0].header(header) or "").endswith(KEY)
        assert server.asked[0].header("X-Team") == ("a" if "--header" in options else None)
    assert (code, "Traceback" in screen) == (1, False)
    report = json.loads((tmp_path / "results.jsonl.report.json").read_text())
    assert report["lines"]["failed"] == len(FAILURES)
    assert (tmp_path / "results.jsonl").read_text().count("[the api key]") >= len(echoes) - 2


def test_the_keys_of_all_endpoints_are_redacted_whichever_repeats_them(tmp_path: Path) -> None:
    """Each of two gateways repeats both keys: in answers, in failures, of a dead key, when looked at."""
    other = f"{KEY[:9]}-of-the-other-endpoint"
    both = f"keys {KEY} and {other}"
    bad = json.dumps({"error": {"message": both, "type": other, "code": "invalid_prompt"}}).encode()
    dead = json.dumps({"error": {"message": both, "code": "invalid_api_key"}}).encode()
    echoes = [http(json.dumps({**RESPONSE, "user": both}).encode()), http(bad, 400), http(x_request_id=other), http()]
    endpoints = tmp_path / "endpoints.toml"
    with HostileThread(*echoes) as one, HostileThread(http(dead, 401)) as two:
        tables = [("a", one.base_url, "KEY_A"), ("b", two.base_url, "KEY_B")]
        endpoints.write_text(
            "".join(
                f'[[endpoint]]\nname="{name}"\nbase_url="{url}"\napi_key_env="{key}"\n' for name, url, key in tables
            )
        )
        requests = write_requests(tmp_path / "requests.jsonl", 12)
        command = [sys.executable, "-m", "batchrun"]
        words = [
            "run",
            str(requests),
            "-o",
            str(tmp_path / "results.jsonl"),
            "--endpoints",
            str(endpoints),
            "-v",
            "-c",
            "2",
        ]
        env = {**os.environ, "KEY_A": KEY, "KEY_B": other}
        for arguments in (
            [*words, "--prices", str(write_prices(tmp_path))],
            ["endpoints", str(endpoints), "--model", "m"],
        ):
            done = subprocess.run(
                [*command, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
            )
            assert CANARY.decode() not in done.stdout + done.stderr
            assert "Traceback" not in done.stderr
        assert one.asked[0].header("Authorization") == f"Bearer {KEY}"
        assert two.asked[0].header("Authorization") == f"Bearer {other}"
    assert spoilt(tmp_path) == []
    assert (tmp_path / "results.jsonl").read_text().count("[the api key]") >= 4


def test_a_refused_connection_and_a_proxy_do_not_let_it_out(tmp_path: Path) -> None:
    port = hostile.free_port()
    code, screen = run(tmp_path, f"http://127.0.0.1:{port}", "--max-outage", "0.5")
    assert (code, f"127.0.0.1:{port}" in screen, "proxy" in screen) == (3, True, False)
    unused: dict[str, Any] = {"http_proxy": f"http://user:{KEY}@proxy.example:3128", "no_proxy": ""}
    code, screen = run(tmp_path, f"http://127.0.0.1:{port}", "--max-outage", "0.5", **unused)
    assert (code, "(the environment's proxy proxy.example:3128 is not used; --proxy URL uses one)" in screen) == (
        3,
        True,
    )
    unused["no_proxy"] = "127.0.0.1"
    code, screen = run(tmp_path, f"http://127.0.0.1:{port}", "--max-outage", "0.5", **unused)
    assert (code, "proxy.example" in screen) == (3, False)
    proxy = ("--proxy", f"http://user:{KEY}@127.0.0.1:{port}", "--max-outage", "0.5")
    code, screen = run(tmp_path, "http://127.0.0.1:1", *proxy)
    assert (code, "the proxy" in screen) == (3, True)


def make_certificate(folder: Path, *options: str) -> Path:
    """A key and the certificate that it has signed itself, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate with")
    key, signed, both = folder / "key.pem", folder / "signed.pem", folder / "both.pem"
    command = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *options]
    subprocess.run([openssl, *command, "-keyout", key, "-out", signed], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + signed.read_bytes())
    return both


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.smoke
def test_a_bad_certificate_stops_the_job_with_the_hosts_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    certificate = make_certificate(tmp_path_factory.mktemp("tls"), "-subj", "/CN=wrong.example")
    with HostileThread(http(), ssl=server_context(certificate)) as server:
        code, screen = run(tmp_path_factory.mktemp("run"), server.base_url)
        assert server.asked == []
    assert (code, "127.0.0.1's certificate is not valid" in screen) == (3, True)
    assert "; SSL_CERT_FILE=FILE names another file)" in screen


class Tunnel:
    """A proxy that lets through what it is asked to CONNECT to, and keeps all that it can read of it."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.read = b""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Tunnel:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        host, _, port = head.split()[1].decode().rpartition(":")
        their_reader, their_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(self._pass_on(reader, their_writer), self._pass_on(their_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1 << 16):
                self.read += piece
                writer.write(piece)
        writer.close()


@pytest.mark.parametrize("login", ["", "user:password@"])
def test_a_proxy_that_tunnels_never_sees_the_key_and_the_gateway_has_it_each_time(tmp_path: Path, login: str) -> None:
    """A whole run over TLS through a proxy: the header goes to the gateway alone, and a login to the proxy alone."""
    folder = tmp_path / "tls"
    folder.mkdir()
    certificate = make_certificate(folder, "-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1")
    with HostileThread(http(), ssl=server_context(certificate)) as server, Tunnel() as proxy:
        address = f"http://{login}127.0.0.1:{proxy.port}"
        code, screen = run(tmp_path, server.base_url, "--proxy", address, SSL_CERT_FILE=str(folder / "signed.pem"))
        assert (code, len(server.asked)) == (0, 4), screen
        assert [asked.header("Authorization") for asked in server.asked] == [f"Bearer {KEY}"] * 4
        assert [asked.header("Proxy-Authorization") for asked in server.asked] == [None] * 4
    assert proxy.heads
    assert all(head.startswith(b"CONNECT 127.0.0.1:") for head in proxy.heads)
    assert all((b"Proxy-Authorization: Basic " in head) == bool(login) for head in proxy.heads)
    assert all(head.lower().count(b"authorization") == bool(login) for head in proxy.heads)
    assert len(proxy.read) > 1000
    assert CANARY not in b"".join(proxy.heads) + proxy.read


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGKILL]])
def test_a_signal_does_not_let_it_out_and_the_process_never_shows_it(
    tmp_path: Path, signals: list[signal.Signals]
) -> None:
    requests = write_requests(tmp_path / "requests.jsonl", 200)
    results = tmp_path / "results.jsonl"
    with (
        GatewayThread(GatewayOptions(script="500 ok; ok; stall; ok", latency_median_s=0.01)) as gateway,
        RunProcess(gateway.base_url, requests, results, "-v", "--grace", "0.2", env=key_env()) as process,
    ):
        until(lambda: has_event(results, "sent", 20))
        with contextlib.suppress(FileNotFoundError):
            assert CANARY not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        for number in signals:
            process.signal(number)
        process.wait()
    assert spoilt(tmp_path) == []


MISTAKES = {
    "before aiohttp": "transport._session.post = None",
    "inside aiohttp, with the request's headers": "aiohttp.TCPConnector.connect = None",
    "inside aiohttp, with the request": "aiohttp.ClientRequest.update_body_from_data = None",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_program_shows_its_traceback_without_the_key(mistake: str) -> None:
    """Even with every local variable's repr, as debuggers and error reporters print them."""
    code = f"""
import aiohttp, asyncio, sys, traceback
from batchrun import Endpoint, Job
from batchrun.transport.deadlines import Timeouts
from batchrun.transport.http import HttpTransport
from batchrun.records.request import parse_request
key, endpoint = None, Endpoint("http://127.0.0.1:1/v1", sys.stdin.read())

async def main():
    async with HttpTransport(endpoint, Timeouts(), 1000) as transport:
        {MISTAKES[mistake]}
        await transport.send(parse_request(b'{{"model":"m","input":"x"}}', 1))

try:
    asyncio.run(main())
except TypeError as error:
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    print("".join(report.format()))
print(Job("a", None, endpoint))
"""
    done = subprocess.run([sys.executable, "-c", code], input=KEY, capture_output=True, text=True, timeout=30)
    assert "TypeError" in done.stdout, done.stderr
    assert "Endpoint(" in done.stdout
    assert ("'Authorization': '[the api key]'" in done.stdout) == mistake.startswith("inside"), done.stdout
    assert CANARY.decode() not in done.stdout + done.stderr


# ------------------------------------------------------------------------------ where the key comes from


def cli(tmp_path: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    requests = write_requests(tmp_path / "requests.jsonl", 1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    command = [sys.executable, "-m", "batchrun", "run", str(requests), "-o", str(tmp_path / "results.jsonl")]
    return subprocess.run([*command, *options], env={**environment, **env}, capture_output=True, text=True, timeout=30)


BAD_KEYS = [f"{KEY}\nX-Evil: 1", f"{KEY}\r\n{KEY}", f"{KEY} {KEY}", f"{KEY}é", f"{KEY}\x7f", "", "  \n"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_cannot_be_one_is_refused_unprinted(key: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_key(key, "$OPENAI_API_KEY")
    assert "$OPENAI_API_KEY" in str(refused.value)
    assert KEY not in str(refused.value)


def test_white_space_around_a_key_is_no_part_of_it() -> None:
    assert check_key(f"  {KEY}\r\n", "key.txt") == KEY


def test_a_bad_key_ends_the_command_before_anything_is_sent(tmp_path: Path) -> None:
    done = cli(tmp_path, "--base-url", "http://127.0.0.1:1", OPENAI_API_KEY=f"{KEY}\n{KEY}")
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in done.stderr
    assert CANARY.decode() not in done.stderr + done.stdout
    assert spoilt(tmp_path) == []


@pytest.mark.parametrize("content", [f"{KEY}\n", f"{KEY}\n{KEY}\n", f"{KEY}\xff"])
def test_a_key_file_holds_one_key(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key.txt"
    file.write_bytes(content.encode("latin-1"))
    with HostileThread(http()) as server:
        done = cli(tmp_path, "--base-url", server.base_url, "--api-key-file", str(file), OPENAI_API_KEY="another-key")
        if content == f"{KEY}\n":
            assert done.returncode == 0, done.stderr
            assert server.asked[0].header("Authorization") == f"Bearer {KEY}"
        else:
            assert (done.returncode, server.asked) == (2, [])
            assert "key.txt" in done.stderr
    assert CANARY.decode() not in done.stderr + done.stdout
    assert spoilt(tmp_path) == []


def test_a_key_in_another_variable(tmp_path: Path) -> None:
    with HostileThread(http()) as server:
        options = ("--base-url", server.base_url, "--api-key-env", "MY_KEY")
        assert cli(tmp_path, *options, OPENAI_API_KEY="another-key").returncode == 2
        assert cli(tmp_path, *options, MY_KEY=KEY).returncode == 0
        assert [asked.header("Authorization") for asked in server.asked] == [f"Bearer {KEY}"]


def test_an_endpoint_does_not_show_its_secrets() -> None:
    shown = repr(Endpoint("https://gateway.example/v1", KEY, f"http://user:{KEY}@proxy.example"))
    assert "gateway.example" in shown
    assert KEY not in shown


# ------------------------------------------------------------------------------- where the key may go


@pytest.mark.parametrize(
    "url",
    [
        "https://gateway.example/v1",
        "https://8.8.8.8",
        "http://127.0.0.1:8080/v1",
        "http://127.1.2.3",
        "http://localhost:8080",
        "http://[::1]:8080/v1",
    ],
)
def test_these_addresses_are_used_without_a_word(url: str) -> None:
    assert check_base_url(url) is None


@pytest.mark.parametrize(
    "url", ["http://10.1.2.3/v1", "http://192.168.0.7:3000", "http://172.16.0.1", "http://[fd00::1]"]
)
def test_a_private_address_warns_that_the_key_is_in_the_clear(url: str) -> None:
    warning = check_base_url(url)
    assert warning is not None
    assert "in the clear" in warning


PUBLIC = [
    "http://gateway.example/v1",
    "http://8.8.8.8",
    "http://[2001:4860::8]",
    "http://localhost.example",
    "http://10.1",
]


@pytest.mark.parametrize("url", PUBLIC)
def test_a_public_host_wants_https_unless_told_otherwise(url: str) -> None:
    with pytest.raises(UsageError, match="--insecure-http"):
        check_base_url(url)
    assert check_base_url(url, insecure_http=True) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway.example",
        "ftp://gateway.example",
        "file:///etc/passwd",
        "https://",
        "https://gateway.example:99999",
        "https://[::1",
        "https://gateway.example\\v1",
        "http://。",
        "https://gateway..example",
        f"https://{'x' * 64}.example",
        f"https://user:{KEY}@gateway.example",
        f"https://{KEY}@gateway.example",
        f"https://gateway.example/v1?key={KEY}",
        f"https://gateway.example/v1#{KEY}",
        "https://gateway.example/v1\r\nX-Evil: 1",
        "https://gate way.example",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_a_secret(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_base_url(url, insecure_http=True)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "proxy.example:3128", f"socks5://u:{KEY}@proxy.example", f"http://u:{KEY}@", "http://p:0"]
)
def test_what_is_no_proxy_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_proxy(url)
    assert KEY not in str(refused.value)


def test_http_to_a_public_host_is_refused_by_the_command(tmp_path: Path) -> None:
    done = cli(tmp_path, "--base-url", "http://gateway.example/v1", OPENAI_API_KEY=KEY)
    assert (done.returncode, "--insecure-http" in done.stderr) == (2, True)
    assert spoilt(tmp_path) == []


def test_the_warning_of_a_private_address_is_printed(tmp_path: Path) -> None:
    quick = ("--max-outage", "0.2", "--connect-timeout", "0.2", "--attempt-timeout", "0.3")
    done = cli(tmp_path, "--base-url", "http://10.255.255.1:9/v1", *quick, OPENAI_API_KEY=KEY)
    assert done.returncode == 3
    assert "warning: the key goes to 10.255.255.1 in the clear" in done.stderr


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("OPENAI_"):
            monkeypatch.delenv(name)


def test_a_line_that_is_asked_again_does_not_send_or_keep_the_key(tmp_path: Path) -> None:
    """The last answer and its errors go back to the gateway, without a key that it has echoed."""
    wanted = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object", "required": ["label"]}}}
    texts = [f"it is {KEY}", json.dumps({"not": KEY})]
    content = [[{"type": "output_text", "text": text, "annotations": []}] for text in texts]
    answers = [
        http(json.dumps({**RESPONSE, "output": [{"type": "message", "role": "assistant", "content": one}]}).encode())
        for one in content
    ]
    requests = write_requests(tmp_path / "requests.jsonl", 1, text=wanted)
    words = ("-v", "--prices", str(write_prices(tmp_path)), "--reask", "2", "-c", "1")
    with (
        HostileThread(*answers, answers[0]) as server,
        RunProcess(server.base_url, requests, tmp_path / "results.jsonl", *words, env=key_env()) as process,
    ):
        code, asked = process.wait(), list(server.asked)
    assert code == 1, process.screen
    assert len(asked) == 3
    assert len((tmp_path / "results.jsonl.tries").read_bytes().splitlines()) == 2
    for one in asked:
        assert CANARY not in one.body
    assert "[the api key]" in asked[1].body.decode()
    assert spoilt(tmp_path) == []
