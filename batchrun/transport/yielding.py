"""Yield to the event loop: every other task that is ready runs first.

So the writer writes together what is ready together, and many lines that cannot go hold up no other task.
"""

from __future__ import annotations

import types
from collections.abc import Generator


@types.coroutine
def yield_to_loop() -> Generator[None]:
    """Let every task that is ready run once: `asyncio.sleep(0)`, without its handling of other durations."""
    yield
