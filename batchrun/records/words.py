"""How counts and durations are written for people."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 attempt`, `2,000 attempts`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """A length of time: `4.2 s`, `1m 06s`, `2h 03m 04s`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m {left:02}s" if hours else f"{minutes}m {left:02}s"


def clock_time(seconds: float) -> str:
    """A time that is left, for a glance: `05:12`, or `27:46:40` where it takes hours."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes:02}:{left:02}"
