"""What a person sees while a job runs: a bar on a terminal, a line now and then elsewhere. All on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TextIO

from tqdm import tqdm

from batchrun.job import Status
from batchrun.pricing import usd

LOG_EVERY_S = 30.0


class Progress:
    """Draws `Status`es and prints notices. `close` leaves the last state on the screen.

    `detail` lines are printed only when `verbose`; with `quiet` nothing is printed at all.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet, self._verbose = quiet, verbose
        self._is_terminal = self._stream.isatty()
        self._bar: tqdm[Any] | None = None
        self._clock = clock
        self._last_line = clock()
        self._rate = _Rate()

    def notice(self, text: str) -> None:
        """Print a line above the bar."""
        if not self._quiet:
            tqdm.write(f"batchrun: {text}", file=self._stream)

    def detail(self, text: str) -> None:
        """Print a line that only `-v` asks for."""
        if self._verbose:
            self.notice(text)

    def tick(self, status: Status) -> None:
        """Draw the state of now; off a terminal a line every half minute."""
        if self._quiet:
            return
        self._rate.note(status.recorded_now, status.elapsed_s)
        if self._is_terminal:
            self._draw(status)
        elif self._clock() - self._last_line >= LOG_EVERY_S:
            self._last_line = self._clock()
            self.notice(self._line(status))

    def close(self) -> None:
        """End the bar's line."""
        if self._bar is not None:
            self._bar.close()

    def _draw(self, status: Status) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=status.total,
                initial=status.done,
                file=self._stream,
                dynamic_ncols=True,
                mininterval=0,
                miniters=0,
                bar_format="{n_fmt}/{total_fmt} {percentage:3.0f}%|{bar}| {postfix}",
            )
        self._bar.n = status.done
        self._bar.set_postfix_str(self._facts(status), refresh=False)
        self._bar.refresh()

    def _line(self, status: Status) -> str:
        return f"{status.done:,}/{status.total:,} done, {self._facts(status)}"

    def _facts(self, status: Status) -> str:
        """What matters, the most important first, since a narrow window cuts the end off."""
        facts = [f"{self._rate.per_s:.3g}/s"]
        left = status.total - status.done
        if self._rate.per_s > 0 and left:
            facts.append(f"ETA {tqdm.format_interval(left / self._rate.per_s)}")
        if status.failed:
            facts.append(f"{status.failed:,} failed")
        facts.append(f"{status.in_flight:,} in flight")
        if status.cost_usd:
            facts.append(f"${usd(_short(status.cost_usd))} of ~${usd(_short(status.projected_usd))}")
        tokens_per_s = status.tokens_now / max(status.elapsed_s, 0.001)
        facts.append(f"{tqdm.format_sizeof(tokens_per_s)} tokens/s")
        return ", ".join(facts)


class _Rate:
    """Lines a second over the last half minute or so."""

    WINDOW_S = 30.0

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = [(0.0, 0)]
        self.per_s = 0.0

    def note(self, count: int, now_s: float) -> None:
        self._points.append((now_s, count))
        while len(self._points) > 2 and now_s - self._points[0][0] > self.WINDOW_S:
            self._points.pop(0)
        start_s, start = self._points[0]
        if now_s > start_s:
            self.per_s = (count - start) / (now_s - start_s)


def _short(amount: Decimal) -> Decimal:
    """Money for a glance: cents, or three digits where it is less than a dollar."""
    return round(amount, 2) if amount >= 1 else amount
