"""The observer of a run, and the status that it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is, at one moment.

    `total`: lines that will have a record when this run is done: those of earlier runs, and those that it is to send.
    With `limit` or `sample`, it does not send the whole file.
    `done`: lines that have a record, including those of earlier runs.
    `failed`: the part of them whose record is an error.
    `in_flight`: requests that are sent and not yet answered.
    `slots`: requests that may be in flight now.
    `limited_by`: what limits the run now, a value of `LimitedBy` such as `slow_start`.
    `cost_usd`: US dollars, exact: what the records cost so far.
    `projected_usd`: US dollars: what `total` lines will cost if the rest is like the lines that are done.
    `recorded_now`: lines that this run has recorded.
    `tokens_now`: tokens of these lines, input and output.
    `elapsed_s`: seconds since sending began.
    `eta_s`: seconds until the run is done, by its pace of late; it stands still in an outage and in a pause. None while
    nothing tells, where what is left is held up, and once the run is stopping.
    `limited_by_model`: what limits each model that has limits of its own now, as `limited_by` does.
    """

    total: int
    done: int
    failed: int
    in_flight: int
    slots: int
    limited_by: str
    cost_usd: Decimal
    projected_usd: Decimal
    recorded_now: int
    tokens_now: int
    elapsed_s: float
    eta_s: float | None = None
    limited_by_model: Mapping[str, str] = field(default_factory=dict)


class Observer(Protocol):
    """Watches a run. Its methods are called in the event loop and must return at once."""

    def notice(self, text: str) -> None:
        """Take one line of text that every user should see."""

    def detail(self, text: str) -> None:
        """Take one line of text that helps to find the cause of a problem: each failed attempt."""

    def tick(self, status: Status) -> None:
        """Show the status: called four times a second, and once at the end."""


class Guarded:
    """Passes everything on to an observer. An error of the observer is told once and can never end the sending."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._has_failed = False

    def notice(self, text: str) -> None:
        """Pass it on."""
        self._call(self._observer.notice, text)

    def detail(self, text: str) -> None:
        """Pass it on."""
        self._call(self._observer.detail, text)

    def tick(self, status: Status) -> None:
        """Pass it on."""
        self._call(self._observer.tick, status)

    def _call(self, show: Callable[[T], None], what: T) -> None:
        try:
            show(what)
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                self.notice(f"what shows this run has failed ({type(error).__name__}: {error}); the run goes on")


class Silent:
    """An observer that ignores everything."""

    def notice(self, text: str) -> None:
        """Ignore it."""

    def detail(self, text: str) -> None:
        """Ignore it."""

    def tick(self, status: Status) -> None:
        """Ignore it."""


class Together:
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def notice(self, text: str) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.notice(text)

    def detail(self, text: str) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.detail(text)

    def tick(self, status: Status) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.tick(status)
