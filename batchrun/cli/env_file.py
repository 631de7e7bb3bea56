"""Variables from a .env file, as python-dotenv reads it. Nothing in it is executed or filled in."""

from __future__ import annotations

import os
import re
from pathlib import Path

from batchrun.errors import UsageError

_ENTRY = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*
    (?: '(?P<single>(?:[^'\\]|\\.)*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<plain>(?!['"])[^\n]*?) )
    (?:(?:^|(?<=['"])|(?<=[ \t]))[ \t]*\#[^\n]*|[ \t]*)(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_SKIPPED = re.compile(r"[ \t]*(?:\#[^\n]*|(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_.-]*[ \t]*)?(?:\n|\Z)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def load_env_file(path: Path) -> None:
    """Set the variables of a file that are not set yet. Raises `UsageError`, which repeats no value."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"cannot read {path}: it is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    for name, value in read_env(text, str(path)).items():
        os.environ.setdefault(name, value)


def read_env(text: str, source: str) -> dict[str, str]:
    """The variables of a .env file. Raises `UsageError` with the line that cannot be read, and not its value."""
    text, found, at = text.replace("\r\n", "\n"), dict[str, str](), 0
    while at < len(text):
        match = _SKIPPED.match(text, at) or _ENTRY.match(text, at)
        if match is None or "\0" in match[0]:
            line = text.count("\n", 0, at) + 1
            raise UsageError(f"{source}:{line}: write NAME=VALUE, and close its quotes if it has some")
        at = match.end()
        if match.re is _ENTRY:
            found[match["name"]] = _value(match)
    return found


def _value(match: re.Match[str]) -> str:
    if match["single"] is not None:
        return re.sub(r"\\(['\\])", r"\1", match["single"])
    if match["double"] is not None:
        return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), match["double"], flags=re.DOTALL)
    return match["plain"].rstrip()
