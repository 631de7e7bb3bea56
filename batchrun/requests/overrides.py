"""Refuses changes to requests that cannot be what was meant."""

from __future__ import annotations

import re

from batchrun.errors import UsageError
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
