"""The options of a simulated gateway: one frozen dataclass, which is checked when it is made."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from batchrun import checks
from batchrun.errors import UsageError
from batchrun.simulator.script import parse_script, parse_words

DEFAULT_MODELS = (
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4.1-nano",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-5",
    "gpt-5-mini",
    "o4-mini",
)
"""The models that `GET /v1/models` lists if `GatewayOptions.models` is None."""

DEFAULT_FAULTS = ("429", "500", "503", "reset", "cut", "eof")
"""The default words that `fault_rate` draws from."""


class GatewayOptionsError(UsageError, ValueError):
    """An option of a simulated gateway is not valid."""


@dataclass(frozen=True)
class GatewayOptions:
    """The behaviour of one `Gateway`. With the defaults it answers every request at once and refuses none.

    `host`, `port`: where it listens; only a loopback address. Port 0 takes a free port.
    `latency_median_s`, `latency_p99_s`: seconds from the request to the last byte of the answer, log-normal.
    Without a p99, every answer takes the median. A stream spreads the time over its events.
    `rpm`, `tpm`: requests and tokens per minute and model; None is no limit.
    `burst_s`: how many seconds' worth of these limits may be spent at once; always at least one request.
    `send_retry_after`: whether a 429 says how long to wait.
    `send_rate_headers`: whether answers report the limits, in `x-ratelimit-*`.
    `fault_retry_after_s`: the seconds in the `Retry-After` of a scripted `429` without `@`.
    `capacity`: requests in work at once; None is no limit. One more is refused with `capacity_status` (429 or 503),
    or waits for a slot if `queue` is set.
    `script`: the faults, a line of words for each request (see `script.py`).
    `fault_rate`, `fault_words`: the share of attempts, 0 to 1, that get one of these words.
    `mismatch_rate`: the share of requests for JSON, 0 to 1, whose answer does not fit the schema.
    `mismatch_again_rate`: the same for requests that are asked again: those that end with the model's own answer and a
    message about its schema.
    `api_keys`: the keys it accepts; None accepts every key, and requests without one.
    `models`: the models it knows; None knows all.
    `answers`: a JSONL or CSV file of right answers, by `input` or `custom_id`; None: all answers are invented.
    `accuracy`: the share of requests, 0 to 1, that get the right answer of this file; the others get a wrong one.
    `requests`: the request file, which tells the inputs of answers by `custom_id`; a job with a request file names it.
    `seed`: changes every random value: answers, latencies, faults.
    `keep_rows`: whether the ledger keeps a row for each request, or only the sums.
    `keep_bodies`: whether these rows contain the bytes of the request.
    `max_body_bytes`: a longer request is refused with 413.

    Raises `GatewayOptionsError`, a `UsageError` and a `ValueError`, if a value is not valid.
    """

    host: str = "127.0.0.1"
    port: int = 0
    latency_median_s: float = 0.0
    latency_p99_s: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    burst_s: float = 60.0
    send_retry_after: bool = True
    send_rate_headers: bool = True
    fault_retry_after_s: float = 0
    capacity: int | None = None
    capacity_status: int = 429
    queue: bool = False
    script: str = ""
    fault_rate: float = 0.0
    fault_words: tuple[str, ...] = DEFAULT_FAULTS
    mismatch_rate: float = 0.0
    mismatch_again_rate: float = 0.0
    api_keys: Collection[str] | None = None
    models: Collection[str] | None = None
    answers: Path | None = None
    accuracy: float = 1.0
    requests: Path | None = None
    seed: int = 0
    keep_rows: bool = True
    keep_bodies: bool = False
    max_body_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        """Raise `GatewayOptionsError` for a value that is not valid."""
        try:
            self._check_types()
            self._check_values()
        except GatewayOptionsError:
            raise
        except (UsageError, ValueError) as error:
            raise GatewayOptionsError(str(error)) from None

    def _check_types(self) -> None:
        for name in ("port", "capacity_status", "seed", "max_body_bytes"):
            checks.count(name, getattr(self, name), least=None)
        for name in ("send_retry_after", "send_rate_headers", "queue", "keep_rows", "keep_bodies"):
            checks.flag(name, getattr(self, name))
        for name in ("answers", "requests"):
            if (value := getattr(self, name)) is not None:
                checks.settle(self, **{name: checks.path(name, value)})
        for name in ("latency_median_s", "fault_retry_after_s", "burst_s", *_RATES):
            checks.number(name, getattr(self, name), "a number, 0 or more")
        if self.latency_p99_s is not None:
            checks.number("latency_p99_s", self.latency_p99_s, "a number of seconds, 0 or more, or None")
        for name in ("rpm", "tpm", "capacity"):
            if (limit := getattr(self, name)) is not None:
                checks.count(name, limit, least=None)
        for name in ("host", "script"):
            if not isinstance(getattr(self, name), str):
                raise checks.refused(name, getattr(self, name), "a string")
        for name in ("fault_words", "api_keys", "models"):
            words = getattr(self, name)
            if isinstance(words, str) or not isinstance(words, Collection | None):
                raise GatewayOptionsError(f"{name} is a {type(words).__name__}; write a list or a set of strings")

    def _check_values(self) -> None:
        if not _is_loopback(self.host):
            raise ValueError(f"the simulated gateway listens on loopback only, not on {self.host!r}")
        for name in _RATES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.answers is None and self.accuracy != 1:
            raise ValueError("accuracy needs answers: a file that says what is right")
        if self.fault_rate and not self.fault_words:
            raise ValueError("fault_rate needs fault_words to draw from")
        parse_script(self.script)
        parse_words(self.fault_words)
        if (self.latency_p99_s or self.latency_median_s) < self.latency_median_s:
            raise ValueError("latencies are not negative, and the p99 is not below the median")
        for name in ("rpm", "tpm", "capacity"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"{name} is at least 1, not {limit}")
        if not 0 < self.burst_s <= 60:
            raise ValueError(f"burst_s is more than 0 and at most 60, not {self.burst_s}")
        if self.capacity_status not in (429, 503):
            raise ValueError(f"capacity_status is 429 or 503, not {self.capacity_status}")


_RATES = ("fault_rate", "accuracy", "mismatch_rate", "mismatch_again_rate")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
