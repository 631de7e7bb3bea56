"""Real parts for the tests of durability: a gateway in a thread, `batchrun run` in a process, faults by the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ParamSpec, Self, TypeVar

import pytest

from batchrun.records.result import ErrorInfo, ResultHead, RunInfo, encode_result
from batchrun.records.usage import Usage
from batchrun.results.runlog import EventLog, NoLog
from batchrun.simulator.app import Gateway
from batchrun.simulator.options import GatewayOptions

MODEL = "gpt-4.1"
KEY = "sk-test-0123456789abcdef"
Json = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


def until(holds: Callable[[], Any], deadline_s: float = 20.0) -> None:
    """Wait for something that can be observed; fail once the deadline has passed."""
    give_up = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < give_up, f"not within {deadline_s} s"
        time.sleep(0.002)


def near(expected: float, **tolerance: Any) -> Any:
    """`pytest.approx`, for a place whose type is that of a plain number."""
    return pytest.approx(expected, **tolerance)


# --------------------------------------------------------------------------------------------------- files


def write_requests(path: Path, count: int, first: int = 1, **fields: Any) -> Path:
    """A request file of `count` lines, whose ids are `r-1`, `r-2`, …"""
    body = {"model": MODEL, "input": "", "max_output_tokens": 5000} | fields
    lines = [
        {"custom_id": f"r-{number}", "body": body | {"input": f"question {number}"}}
        for number in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_prices(folder: Path) -> Path:
    """A price file, so that no run has to load a list of prices first."""
    path = folder / "prices.json"
    path.write_text(json.dumps({MODEL: {"input": 2, "cached": 0.5, "output": 8}}))
    return path


def run_info(**facts: Any) -> RunInfo:
    """How a line was run: an ordinary success, but for what is given."""
    plain: Json = {
        "v": 1,
        "line": 1,
        "total_lines": 10,
        "body_hash": "0123456789abcdef" * 2,
        "started": "2026-01-02T03:04:05.678Z",
        "elapsed_s": 1.5,
        "outcome": "succeeded",
        "requested_model": MODEL,
        "path": "/v1/responses",
        "gateway": "gateway.example",
        "attempts": 1,
        "latency_s": 0.5,
    }
    return RunInfo(**plain | facts)


def record(
    custom_id: str = "r-1",
    line: int = 1,
    *,
    text: str = "Grüße\n\u2028",
    failed: bool = False,
    retryable: bool = False,
    body_hash: str = "0123456789abcdef" * 2,
    started: str = "2026-01-02T03:04:05.678Z",
) -> bytes:
    """One result line, newline included."""
    run = run_info(
        line=line,
        body_hash=body_hash,
        started=started,
        outcome="failed" if failed else "succeeded",
        retryable=retryable,
        model=None if failed else MODEL,
        usage=None if failed else Usage(10, 0, 20, 0, 30),
    )
    error = ErrorInfo("server_error", "it broke") if failed else None
    body = json.dumps({"output_text": text}, ensure_ascii=False).encode()
    return encode_result(ResultHead(custom_id, run, error), 500 if failed else 200, "req_1", body)


def read_records(path: Path) -> list[Json]:
    """All records of a result file that must be whole: every line a record, every id once."""
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    records = [json.loads(line) for line in data.split(b"\n")[:-1]]
    ids = [record["custom_id"] for record in records]
    assert len(ids) == len(set(ids)), "a line has two records"
    return records


def ids(path: Path) -> list[str]:
    """The ids of a whole result file, sorted."""
    return sorted(record["custom_id"] for record in read_records(path))


def events(path: Path) -> list[Json]:
    """What the run log of a result file says, torn lines left out."""
    found = []
    log = path.with_name(path.name + ".log")
    for line in log.read_bytes().split(b"\n") if log.exists() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def has_event(path: Path, event: str, times: int = 1) -> bool:
    """Whether the run log holds an event that often."""
    return [found["event"] for found in events(path)].count(event) >= times


def has_records(path: Path, count: int) -> bool:
    """Whether a result file holds so many records."""
    return path.exists() and path.read_bytes().count(b"\n") >= count


class MemoryStore:
    """A result store whose records are kept nowhere; `writes` are the records, write by write."""

    paths = None

    def __init__(self, log: EventLog | None = None) -> None:
        self.log: EventLog = log or NoLog()
        self.writes: list[list[bytes]] = []
        self.tries: list[list[bytes]] = []

    def heads(self) -> Iterator[Sequence[ResultHead]]:
        return iter(())

    def append(self, records: Sequence[bytes]) -> None:
        self.writes.append(list(records))

    def append_tries(self, records: Sequence[bytes]) -> None:
        self.tries.append(list(records))

    def remove(self, is_unwanted: Callable[[ResultHead], bool], *, to_quarantine: bool = False) -> int:
        return 0

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


# ----------------------------------------------------------------------------------------------- processes


class GatewayThread:
    """A simulated gateway with an event loop of its own, for clients in other processes."""

    def __init__(self, options: GatewayOptions | None = None) -> None:
        self.gateway = Gateway(options)
        self.ledger = self.gateway.ledger
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    @property
    def base_url(self) -> str:
        return self.gateway.base_url

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with self.gateway:
            self._ready.set()
            await self._over.wait()


class RunProcess:
    """`batchrun run REQUESTS -o RESULTS …` in a process of its own, killed at the latest when the block ends.

    Without a `base_url` the options say where requests go.
    """

    def __init__(
        self,
        base_url: str | None,
        requests: Path | str,
        results: Path | str,
        *options: str,
        wrapper: Sequence[str] = (),
        **popen: Any,
    ) -> None:
        where = [] if base_url is None else ["--base-url", base_url]
        arguments = ["run", str(requests), "-o", str(results), *where, *options]
        folder = Path(requests).parent
        self._screen = folder / f"screen-{time.monotonic_ns()}.txt"
        environment = {**os.environ, "OPENAI_API_KEY": KEY, **popen.pop("env", {})}
        with self._screen.open("wb") as screen:
            streams: Json = {"stdin": subprocess.DEVNULL, "stdout": screen, "stderr": screen}
            command = [*wrapper, sys.executable, "-m", "batchrun", *arguments]
            self.process: subprocess.Popen[Any] = subprocess.Popen(command, **streams | {"env": environment} | popen)
        self.pid = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def screen(self) -> str:
        """What it has printed so far."""
        return self._screen.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def wait(self, deadline_s: float = 30.0) -> int:
        """The exit code."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {deadline_s} s:\n{self.screen}") from None


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# -------------------------------------------------------------------------------------------------- faults


class Faults:
    """Counts the calls that may fail and lets the one of number `when` fail (curl's torture, SQLite's I/O errors).

    `what` names the fault: an errno, as in "ENOSPC", or "short", a write that takes half and then has no room.
    """

    def __init__(self, what: str, when: int) -> None:
        self.what = what
        self.when = when
        self.calls: list[str] = []
        self._no_room = False

    def call(self, name: str) -> None:
        """A call that may fail; raises where it does."""
        self.calls.append(name)
        if len(self.calls) == self.when:
            self.fail("ENOSPC" if self.what == "short" else self.what)

    def before(self, name: str, really: Callable[P, T]) -> Callable[P, T]:
        """`really`, as a call that may fail before it does anything."""

        def call(*arguments: P.args, **named: P.kwargs) -> T:
            self.call(name)
            return really(*arguments, **named)

        return call

    def write(self, really: Callable[[bytes], int], data: bytes) -> int:
        if self._no_room:
            self._no_room = False
            self.fail("ENOSPC")
        if self.what == "short" and len(self.calls) + 1 == self.when and len(data) > 1:
            self.calls.append("write")
            self._no_room = True
            return really(data[: len(data) // 2])
        self.call("write")
        return really(data)

    @staticmethod
    def fail(name: str) -> None:
        number = getattr(errno, name)
        raise OSError(number, os.strerror(number))


class FailingFile:
    """An unbuffered file whose writes, and whose truncation, may fail."""

    def __init__(self, file: IO[bytes] | None, faults: Faults) -> None:
        assert file is not None, "another process has it"
        self._file, self._faults = file, faults

    def write(self, data: bytes) -> int:
        return self._faults.write(self._file.write, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process grows past `size` bytes: the kernel cuts writes short, then says EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs of its own at `folder`; skips the test where that is not allowed."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@cache
def _why_no_strace() -> str | None:
    if shutil.which("strace") is None:
        return "strace is not installed"
    inject = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fsync:error=EIO:when=1", "true"]
    done = subprocess.run(inject, capture_output=True, text=True)
    return f"strace cannot trace here: {done.stderr.strip()[-200:]}" if done.returncode else None


def strace(*faults: str, path: Path | None = None, log: Path | None = None) -> list[str]:
    """The command to put before another so that its system calls fail, as in `write:error=ENOSPC:when=3`.

    With `path` only calls on that file count; `log` gets a line for each call. Skips the test where strace does not
    work.
    """
    if why := _why_no_strace():
        pytest.skip(why)
    where = [] if path is None else ["-P", str(path)]
    return ["strace", "-f", "-q", "-o", str(log or "/dev/null"), *where, *(f"-einject={fault}" for fault in faults)]
