"""What limits a run: the names that stand in reports, in the run log and on the bar."""

from __future__ import annotations

from enum import Enum


class LimitedBy(Enum):
    """What limits a run; the values stand in logs and reports."""

    TAIL = "tail_of_the_run"  # no lines are left to send; what is in flight is finished
    SLOW_START = "slow_start"  # finding out what the gateway takes
    MAXIMUM = "concurrency_limit"  # -c
    CAPACITY = "gateway_concurrency"  # it refuses more at once
    PLATEAU = "gateway_speed"  # more at once bring no more answers
    REQUESTS = "gateway_requests"  # it refuses more a second, or its headers say so
    TOKENS = "gateway_tokens"  # its headers say so
    THROTTLED = "throttled"  # a pause that it asked for
    OWN_REQUESTS = "rpm"  # --rpm
    OWN_TOKENS = "tpm"  # --tpm
    OUTAGE = "outage"  # the circuit breaker
    BUDGET = "budget"  # --max-cost: all that is left is reserved for what is in flight
    CLIENT = "processor"  # this process can do no more
    STOPPING = "stopping"  # what is in flight is finished
    PAUSED = "paused"  # batchrun tune --pause
