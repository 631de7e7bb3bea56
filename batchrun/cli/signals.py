"""A run under signals: they are obeyed in every phase, and stay ignored where they were ignored (`nohup`)."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from batchrun.errors import BatchrunError

if TYPE_CHECKING:
    from batchrun.job.run import Ended, Run

KILLS = (signal.SIGTERM, signal.Signals(getattr(signal, "SIGHUP", signal.SIGTERM)))


class SignalError(BatchrunError):
    """A signal came while nothing was being sent."""

    def __init__(self, number: signal.Signals) -> None:
        self.exit_code = 128 + number
        super().__init__(f"interrupted ({number.name}); nothing is lost")


def obeyed_signals(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those of the signals that were not ignored when the process started."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def leaving_on_signal() -> Iterator[None]:
    """While a job is prepared, a signal ends it as Ctrl-C does: tidily, with a message."""

    def leave(number: int, _: object) -> NoReturn:
        raise SignalError(signal.Signals(number))

    before = {number: signal.signal(number, leave) for number in obeyed_signals(*KILLS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def drive(run: Run) -> Ended:
    """Send what a run has to send, in an event loop. The first signal drains, the second leaves at once."""
    from batchrun.job.event_loop import run_loop

    with run_loop() as runner:
        loop = runner.get_loop()
        for number in obeyed_signals(signal.SIGINT, *KILLS):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
                loop.add_signal_handler(number, run.interrupt, number)
        return runner.run(run.send())
