"""How many connections this process may open files for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from batchrun.limits.options import Limits

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]
OTHER_FILES = 64  # open besides the connections: results, log, input, the loop's own


def open_files_for(connections: int) -> int:
    """Raise the limit of open files for so many connections; returns how many are possible (0: all of them)."""
    if resource is None:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    return 0 if soft == resource.RLIM_INFINITY or soft >= wanted else max(1, soft - OTHER_FILES)


def within_open_files(limits: Limits, lines: int, files_each: int, notice: Callable[[str], None]) -> Limits:
    """The limits, lowered to as many connections of `files_each` files as this process may open for its lines."""
    wanted = min(limits.bounds.most, lines)
    allowed = open_files_for(files_each * wanted) // files_each
    if not allowed or allowed >= wanted:
        return limits
    notice(f"only {allowed:,} in flight: this process may open no more files (ulimit -n)")
    return replace(limits, concurrency=limits.bounds.at_most(allowed))
