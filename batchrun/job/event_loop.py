"""The event loop of a run, in the command line as in a worker of a cluster: uvloop where there is one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

# Objects between two looks for unreachable ones. A request in flight holds some forty, so that the usual 700 look at
# the same living ones over and over: a sixth of the processor time.
COLLECT_EVERY = 20_000


def run_loop() -> asyncio.Runner:
    """A runner with an event loop for a run, to which the process belongs: what there is by now lives as long."""
    gc.freeze()  # so that no look for garbage looks at all modules again
    gc.set_threshold(COLLECT_EVERY)
    return asyncio.Runner(loop_factory=_loop_factory())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
