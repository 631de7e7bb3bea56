"""`batchrun` in a test: called in this process, or started on a terminal of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batchrun.cli import main as cli

BATCHRUN = [sys.executable, "-m", "batchrun"]
FAST = ("--simulate", "--simulate-latency", "0")
ALL_DONE = "batchrun: nothing to send: 3 of 3 done\n"


@dataclass
class Done:
    """A command that has ended."""

    code: object
    out: str
    err: str


class Command:
    """`batchrun` in this process: `main()` as the entry point calls it, in a directory of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str | Path, stdin: str = "") -> Done:
        self._monkeypatch.setattr(sys, "argv", ["batchrun", *map(str, words)])
        with tempfile.TemporaryFile("w+") as typed:
            typed.write(stdin)
            typed.seek(0)
            self._monkeypatch.setattr(sys, "stdin", typed)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        out, err = self._capsys.readouterr()
        return Done(ended.value.code, out, err)


def write_requests(path: Path, count: int = 3, **fields: object) -> Path:
    bodies = ({"model": "gpt-4.1", "input": f"question {i}", **fields} for i in range(count))
    lines = [json.dumps({"custom_id": f"r-{i}", "body": body}) for i, body in enumerate(bodies)]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


class Terminal:
    """A command on a pseudo-terminal of a given width. Closed, it kills what still runs."""

    def __init__(self, *words: str | Path, cwd: Path, columns: int = 80) -> None:
        self._fd, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        self._process = subprocess.Popen(
            [*BATCHRUN, *map(str, words)], stdin=slave, stdout=slave, stderr=slave, cwd=cwd, start_new_session=True
        )
        os.close(slave)
        self.screen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def read_until(self, text: str, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.screen:
            assert time.monotonic() < deadline, self.screen
            if not self._read():
                raise AssertionError(self.screen)

    def exit_code(self) -> int:
        while self._read():
            pass
        return self._process.wait(timeout=20)

    def _read(self) -> bool:
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            if piece := os.read(self._fd, 65536):
                self.screen += piece.decode()
                return True
        return False
