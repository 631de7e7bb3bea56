"""Changes to requests as options: refused if they cannot be what was meant, and compared with those of another run."""

from __future__ import annotations

import re
from collections.abc import Mapping

from batchrun.errors import UsageError
from batchrun.records.index import digest
from batchrun.records.request import APIS, Overrides

_INSIDE = re.compile(r"(\w+)[.\[](\w+)")


def check_overrides(overrides: Overrides) -> None:
    """Raise `UsageError` for an API that there is not, and for a field inside a field: only whole ones are set."""
    if overrides.api is not None and overrides.api not in APIS:
        raise UsageError(f"--api {overrides.api}: write one of {', '.join(APIS)}")
    for name, value in overrides.fields.items():
        if inside := _INSIDE.match(name):
            whole = f"""{inside[1]}='{{"{inside[2]}": {value.decode(errors="replace")[:60]}}}'"""
            raise UsageError(f"--set {name}: only a top-level field can be set; set the whole of it, such as {whole}")


_SHOWN = 60


def as_options(overrides: Overrides) -> dict[str, str]:
    """Overrides as options with their values, ready to be logged: a long value stands as its hash."""
    options = {f"--set {name}": value.decode(errors="replace") for name, value in sorted(overrides.fields.items())}
    if overrides.model is not None:
        options["--model"] = overrides.model
    if overrides.stream is not None:
        options["--stream"] = "" if overrides.stream else "off"
    if overrides.api is not None:
        options["--api"] = overrides.api
    return {name: value if len(value) <= _SHOWN else f"…{digest(value.encode())}" for name, value in options.items()}


def from_options(options: Mapping[str, str]) -> Overrides | None:
    """The overrides that `as_options` made these of; None if one of them was too long to be logged."""
    if any(value.startswith("…") for value in options.values()):
        return None
    named = {name: value.encode() for name, value in options.items()}
    fields = {name.removeprefix("--set "): value for name, value in named.items() if name.startswith("--set ")}
    stream = options["--stream"] != "off" if "--stream" in options else None
    return Overrides(options.get("--model"), fields, stream, options.get("--api"))


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between the options of the last run and those of this one, each in a few words."""
    found = [
        f"{_option(name, value)} is missing now" if name not in now else f"{_option(name, value)} is now {now[name]}"
        for name, value in before.items()
        if now.get(name) != value
    ]
    return found + [f"{_option(name, value)} is new" for name, value in now.items() if name not in before]


def _option(name: str, value: str) -> str:
    """An option as it is written: `--set temperature=0`, `--model gpt-4.1`, `--stream`."""
    if name.startswith("--set "):
        return f"{name}={value}"
    return f"{name} {value}".rstrip()
