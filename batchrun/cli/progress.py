"""What a person sees while a job runs: a bar on a terminal or in a notebook, elsewhere a line now and then.

All of it goes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from batchrun.engine.observer import Status
from batchrun.limits.limited_by import LimitedBy
from batchrun.records.money import usd_for_a_glance
from batchrun.records.words import clock_time, printable

if TYPE_CHECKING:
    from tqdm import tqdm

LOG_EVERY_S = 30.0
SHORTEST_BAR = 4
# What limits a run (`LimitedBy`), in at most 12 letters; the names that are not here are short themselves.
LIMITED_BY = {
    "tail_of_the_run": "tail of run",
    "slow_start": "slow start",
    "concurrency_limit": "-c",
    "gateway_concurrency": "gateway cap",
    "gateway_speed": "gateway busy",
    "gateway_requests": "gateway rpm",
    "gateway_tokens": "gateway tpm",
    "rpm": "--rpm",
    "tpm": "--tpm",
    "budget": "--max-cost",
    "lower_tier": "lower tier",
    "no_lines": "no lines",
}
NOTEBOOK_COLUMNS = 110
NAMES_COLUMNS = 16  # of names with the same limit: more are counted
SPARE_COLUMNS = 2  # the `^C` that a terminal echoes stays on the bar's line


class Progress:
    """Draws `Status`es and prints notices. `close` leaves the last state on the screen.

    `detail` lines are printed only when `verbose`; with `quiet` nothing is printed at all. `fact()`: what else to
    tell, shortly; "" is nothing.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        fact: Callable[[], str] = str,
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet, self._verbose = quiet, verbose
        self._is_terminal = self._stream.isatty()
        self._is_notebook = not self._is_terminal and _is_notebook()
        self._bar: tqdm[Any] | None = None
        self._clock = clock
        self._last_line = clock()
        self._rate = _Rate()
        self._fact, self._told = fact, ""

    def notice(self, text: str) -> None:
        """Print a line above the bar."""
        if not self._quiet:
            with contextlib.suppress(OSError, ValueError):  # a lost terminal, or a full disk, must not cost an answer
                write = print if self._bar is None else self._bar.write
                write(f"batchrun: {printable(text)}", file=self._stream)

    def detail(self, text: str) -> None:
        """Print a line that only `-v` asks for."""
        if self._verbose:
            self.notice(text)

    def tick(self, status: Status) -> None:
        """Draw the state of now; off a terminal a line every half minute."""
        if self._quiet:
            return
        self._rate.note(status.recorded_now, status.elapsed_s)
        self._told = self._fact()
        if self._is_terminal or self._is_notebook:
            with contextlib.suppress(OSError):
                self._draw(status)
        elif self._clock() - self._last_line >= LOG_EVERY_S:
            self._last_line = self._clock()
            self.notice(self._line(status))

    def close(self) -> None:
        """End the bar's line."""
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()

    def _draw(self, status: Status) -> None:
        columns = NOTEBOOK_COLUMNS if self._is_notebook else _columns(self._stream) - SPARE_COLUMNS
        head = f"{status.done:,}/{status.total:,} {100 * status.done // max(1, status.total):3d}%"
        bar_format = _laid_out(head, self._facts(status), columns)
        if self._bar is None:
            self._bar = self._opened(status, columns, bar_format)
            return
        self._bar.n, self._bar.ncols, self._bar.bar_format = status.done, columns, bar_format
        self._bar.refresh()

    def _opened(self, status: Status, columns: int, bar_format: str) -> tqdm[Any]:
        """A new bar; in a notebook it is a widget, where ipywidgets is installed."""
        total, done, file = status.total, status.done, self._stream
        if self._is_notebook:
            from tqdm.auto import tqdm as notebook_tqdm

            return notebook_tqdm(total=total, initial=done, file=file, dynamic_ncols=True, bar_format=bar_format)
        from tqdm import tqdm  # takes 1.6 MB, which a run without a bar does not need

        return tqdm(total=total, initial=done, file=file, ncols=columns, bar_format=bar_format)

    def _line(self, status: Status) -> str:
        facts = (wordings[0] for wordings in self._facts(status))
        return ", ".join([f"{status.done:,}/{status.total:,} done", *facts])

    def _facts(self, status: Status) -> list[tuple[str, ...]]:
        """What is worth knowing, the most important first, in full and shorter: a narrow window leaves out more."""
        facts: list[tuple[str, ...]] = [(f"{_three_digits(self._rate.per_s)}/s",)]
        if status.eta_s is not None:
            facts.append((f"ETA {clock_time(status.eta_s)}",))
        if status.failed:
            facts.append((f"{status.failed:,} failed",))
        if self._told:
            facts.append((self._told,))
        if status.cost_usd:
            facts.append((f"${usd_for_a_glance(status.cost_usd)} of ~${usd_for_a_glance(status.projected_usd)}",))
        limited_by, in_flight = _limit(status.limited_by), f"{status.in_flight:,} in flight"
        of_models = "".join(f"; {of_model}" for of_model in _limits_of_models(status.limited_by_model))
        wordings = (f"{in_flight} ({limited_by}{of_models})", f"{in_flight} ({limited_by})", limited_by, in_flight)
        facts.append(tuple(dict.fromkeys(wordings)))
        tokens_per_s = status.tokens_now / max(status.elapsed_s, 0.001)
        facts.append((f"{_three_digits(tokens_per_s)} tokens/s",))
        return facts


def _limit(name: str) -> str:
    return LIMITED_BY.get(name, name)


def _limits_of_models(limited_by: Mapping[str, str]) -> list[str]:
    """What limits endpoints, and models that have limits of their own: `gpt-x: gateway rpm`, `4 more: gateway rpm`."""
    names: dict[str, list[str]] = {}
    for name, limit in limited_by.items():
        if limit not in (LimitedBy.TAIL.value, LimitedBy.STOPPING.value):  # its lines are done; all are stopping
            names.setdefault(limit, []).append(printable(name))
    named = {limit: ", ".join(of) for limit, of in names.items()}
    shown = {limit: of if len(of) <= NAMES_COLUMNS else f"{len(names[limit])} more" for limit, of in named.items()}
    return [f"{of if len(names[limit]) > 1 else names[limit][0]}: {_limit(limit)}" for limit, of in shown.items()]


def _is_notebook() -> bool:
    """Whether this is a Jupyter kernel, by the same signs as tqdm's own."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # a terminal that does not tell, or a stream without a file
        return 80


def _laid_out(head: str, facts: list[tuple[str, ...]], columns: int) -> str:
    """tqdm's format of the bar: `head`, a bar, and the facts that there is room for."""
    room = columns - len(head) - len("|| ") - SHORTEST_BAR
    shown = ""
    for wordings in facts:
        longer = [f"{shown}, {fact}" if shown else fact for fact in wordings]
        shown = next((words for words in longer if len(words) <= room), shown)
    return f"{head}|{{bar}}| {shown}"


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


def _three_digits(number: float) -> str:
    """A rate for a glance: `0.0421`, `4.21`, `421`, `42,100`."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
