"""Sends a line again after a transient failure: how often, and how long it waits in between.

`transport.failures.classify` decides which failures are transient. tenacity does the waiting and the counting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random_exponential

from batchrun import checks
from batchrun.records.outcome import Failure, Reply
from batchrun.transport.failures import Kind, classify


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a line is sent, and how long it waits in between: full jitter, a random part of a doubling limit.

    `max_attempts`: the most attempts of one line, including the first; 1 means no retry. Throttles and outages do not
    count.
    `first_wait_s`: the longest first wait in seconds; this limit doubles with each attempt.
    `max_wait_s`: the seconds at which the limit stops growing. A `Retry-After` may ask for a longer wait, up to 5 times
    as long.
    """

    max_attempts: int = 6
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a number or a time that is none."""
        checks.settle(
            self,
            max_attempts=checks.count("RetryPolicy.max_attempts", self.max_attempts),
            first_wait_s=checks.seconds("RetryPolicy.first_wait_s", self.first_wait_s, above=False),
            max_wait_s=checks.seconds("RetryPolicy.max_wait_s", self.max_wait_s, above=False),
        )


Attempt = Callable[[], Awaitable[Reply | Failure | None]]


async def retry_transient(
    first: Failure, attempt: Attempt, policy: RetryPolicy, sleep: Callable[[float], Awaitable[None]]
) -> Reply | Failure | None:
    """Retry a line whose first attempt ended in `first`, until the outcome is not transient or no attempt is left.

    Returns the last outcome. `attempt` returns None if the job is stopping; the line then stays undone.
    """
    outcomes: list[Reply | Failure | None] = [first]

    async def next_outcome() -> Reply | Failure | None:
        return outcomes.pop() if outcomes else await attempt()

    retrying = AsyncRetrying(
        retry=retry_if_result(_is_transient),
        stop=lambda state: _used_up(state, policy),
        wait=lambda state: _wait_s(state, policy),
        sleep=sleep,
        retry_error_callback=_last,
    )
    return await retrying(next_outcome)


def _is_transient(outcome: Reply | Failure | None) -> bool:
    return isinstance(outcome, Failure) and classify(outcome).kind is Kind.TRANSIENT


def _last(state: RetryCallState) -> Reply | Failure | None:
    assert state.outcome is not None
    outcome: Reply | Failure | None = state.outcome.result()
    return outcome


def _used_up(state: RetryCallState, policy: RetryPolicy) -> bool:
    failure = _last(state)
    assert isinstance(failure, Failure)
    limit = classify(failure).max_attempts or policy.max_attempts
    return state.attempt_number >= min(limit, policy.max_attempts)


def _wait_s(state: RetryCallState, policy: RetryPolicy) -> float:
    """Seconds to wait: full jitter, but not less than the gateway asked for, up to 5 times `max_wait_s`."""
    failure = _last(state)
    assert isinstance(failure, Failure)
    jitter = wait_random_exponential(multiplier=policy.first_wait_s, max=policy.max_wait_s)(state)
    return max(jitter, min(failure.retry_after_s or 0.0, 5 * policy.max_wait_s))
