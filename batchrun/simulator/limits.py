"""The limits of the gateway: requests and tokens per minute, requests at once."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from statistics import NormalDist

from batchrun.simulator.errors import ApiError, ErrorReply, official, over_capacity, request_too_large
from batchrun.simulator.options import GatewayOptions
from batchrun.simulator.seeds import share_of

_LEARN_MORE = "Visit https://platform.openai.com/account/rate-limits to learn more."
_NORMAL = NormalDist()
_Z_OF_P99 = _NORMAL.inv_cdf(0.99)


def duration_text(seconds: float) -> str:
    """A duration in the form of the official headers: `120ms`, `1s`, `50.529s`, `6m0s`.

    >>> [duration_text(s) for s in (0.12, 1, 50.529, 360, 3661.5)]
    ['120ms', '1s', '50.529s', '6m0s', '1h1m1.5s']
    """
    milliseconds = math.ceil(seconds * 1000 - 1e-6)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes_left = divmod(minutes, 60)
    if minutes:
        text = f"{minutes_left}m{text}"
    return f"{hours}h{text}" if hours else text


class TokenBucket:
    """A token bucket: `per_minute` units come in evenly, and the units of `burst_s` seconds may be spent at once."""

    def __init__(self, per_minute: int, now: float, burst_s: float = 60.0) -> None:
        self.capacity = max(1, round(per_minute * burst_s / 60))
        self._refill_per_s = per_minute / 60
        self._level = float(self.capacity)
        self._updated_s = now

    def level(self, now: float) -> float:
        """How many units may be spent now."""
        self._level = min(self.capacity, self._level + (now - self._updated_s) * self._refill_per_s)
        self._updated_s = now
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be spent; 0 if it may be spent now."""
        # A billionth is ignored, so that float errors do not refuse a client that waited exactly as long as asked.
        missing = amount - self.level(now) - 1e-9 * self.capacity
        return max(0.0, missing / self._refill_per_s)

    def spend(self, amount: float, now: float) -> None:
        """Take `amount`; call `wait_s` first."""
        self._level = max(0.0, self.level(now) - amount)

    def seconds_to_full(self, now: float) -> float:
        """Seconds until the bucket is full."""
        return (self.capacity - self.level(now)) / self._refill_per_s


class RateLimits:
    """The rate limits of each model. A refused request spends nothing."""

    def __init__(self, options: GatewayOptions) -> None:
        self._rpm = options.rpm
        self._tpm = options.tpm
        self._burst_s = options.burst_s
        self._send_retry_after = options.send_retry_after
        self._send_headers = options.send_rate_headers
        self._buckets: dict[tuple[str, str], TokenBucket] = {}

    def admit(self, model: str, tokens: int, now: float) -> dict[str, str]:
        """Spend one request of so many tokens and return the headers of the answer. Raises `ApiError` with a 429."""
        if self._rpm is None and self._tpm is None:
            return {}
        buckets = {
            "requests": self._bucket("requests", model, now),
            "tokens": self._bucket("tokens", model, now),
        }
        for kind, amount in (("requests", 1), ("tokens", tokens)):
            bucket = buckets[kind]
            if bucket is not None and (wait_s := self._wait_s(bucket, model, amount, now)):
                raise ApiError(self._refusal(kind, model, amount, wait_s, buckets, now), "rate_limit_exceeded")
        for kind, amount in (("requests", 1), ("tokens", tokens)):
            bucket = buckets[kind]
            if bucket is not None:
                bucket.spend(amount, now)
        return self._headers(buckets, now)

    def _bucket(self, kind: str, model: str, now: float) -> TokenBucket | None:
        per_minute = self._rpm if kind == "requests" else self._tpm
        if per_minute is None:
            return None
        key = (kind, model)
        if key not in self._buckets:
            self._buckets[key] = TokenBucket(per_minute, now, self._burst_s)
        return self._buckets[key]

    def _wait_s(self, bucket: TokenBucket, model: str, amount: int, now: float) -> float:
        if amount > bucket.capacity:
            raise ApiError(request_too_large(model, bucket.capacity, amount), "rate_limit_exceeded")
        return bucket.wait_s(amount, now)

    def _refusal(
        self,
        kind: str,
        model: str,
        amount: int,
        wait_s: float,
        buckets: dict[str, TokenBucket | None],
        now: float,
    ) -> ErrorReply:
        bucket = buckets[kind]
        assert bucket is not None, "only a limit that is set refuses"
        unit = "requests per min (RPM)" if kind == "requests" else "tokens per min (TPM)"
        used = bucket.capacity - math.floor(bucket.level(now))
        message = (
            f"Rate limit reached for {model} in organization org-sim on {unit}: Limit {bucket.capacity}, "
            f"Used {used}, Requested {amount}. Please try again in {duration_text(wait_s)}. {_LEARN_MORE}"
        )
        headers = self._headers(buckets, now)
        if self._send_retry_after:
            headers["Retry-After"] = str(max(1, math.ceil(wait_s - 1e-6)))
        return replace(official(429, message, kind, "rate_limit_exceeded"), headers=headers)

    def _headers(self, buckets: dict[str, TokenBucket | None], now: float) -> dict[str, str]:
        headers: dict[str, str] = {}
        for kind, bucket in buckets.items():
            if bucket is not None and self._send_headers:
                headers[f"x-ratelimit-limit-{kind}"] = str(bucket.capacity)
                headers[f"x-ratelimit-remaining-{kind}"] = str(math.floor(bucket.level(now) + 1e-9))
                headers[f"x-ratelimit-reset-{kind}"] = duration_text(bucket.seconds_to_full(now))
        return headers


class Capacity:
    """Limits the requests at once; one more waits for a slot or is refused. `limit` may change at any time."""

    def __init__(self, options: GatewayOptions) -> None:
        self._options = options
        self._limit = options.capacity
        self._busy = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int | None:
        """How many requests may be in work at once; None is no limit."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self._limit = limit
        self._let_in()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the slots during the block. Raises `ApiError` if none is free and there is no queue."""
        if self._is_full or self._queue:
            if not self._options.queue:
                raise ApiError(self._refusal(), "slow_down")
            await self._wait()
        else:
            self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._let_in()

    @property
    def _is_full(self) -> bool:
        return self._limit is not None and self._busy >= self._limit

    def _refusal(self) -> ErrorReply:
        reply = over_capacity(self._options.capacity_status)
        return replace(reply, headers={"Retry-After": "1"}) if self._options.send_retry_after else reply

    async def _wait(self) -> None:
        """Wait in the queue; `_let_in` has counted the slot as taken when this returns."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._busy -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._queue and not self._is_full:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                self._busy += 1


@dataclass(frozen=True)
class Latency:
    """How long answers take: log-normal with the median `median_s` seconds; 1 in 100 takes longer than `p99_s`."""

    median_s: float
    p99_s: float | None
    seed: int

    def of(self, sha: bytes, attempt: int) -> float:
        """The seconds that this attempt of this request takes; the same at every call."""
        if not self.median_s or self.p99_s is None or self.p99_s == self.median_s:
            return self.median_s
        sigma = math.log(self.p99_s / self.median_s) / _Z_OF_P99
        return self.median_s * math.exp(sigma * _NORMAL.inv_cdf(share_of(self.seed, b"latency", sha, attempt)))
