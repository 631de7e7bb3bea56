"""What limits a run: the names that reports, the run log and the bar use."""

from __future__ import annotations

from enum import Enum


class LimitedBy(Enum):
    """What limits a run; run logs and reports contain the values."""

    TAIL = "tail_of_the_run"  # no lines are left to send, and fewer are in flight than may be
    SLOW_START = "slow_start"  # finding out what the gateway accepts
    MAXIMUM = "concurrency_limit"  # -c
    CAPACITY = "gateway_concurrency"  # the gateway refuses more at once
    PLATEAU = "gateway_speed"  # more at once bring no more answers
    REQUESTS = "gateway_requests"  # the gateway refuses more a second, or its headers say so
    TOKENS = "gateway_tokens"  # its headers say so
    THROTTLED = "throttled"  # a pause that the gateway asked for
    OWN_REQUESTS = "rpm"  # --rpm
    OWN_TOKENS = "tpm"  # --tpm
    OUTAGE = "outage"  # the circuit breaker is open
    BUDGET = "budget"  # --max-cost: all that is left is reserved for requests in flight
    MEMORY = "memory"  # --max-in-flight-bytes
    CLIENT = "processor"  # this process can do no more
    SHUT = "shut"  # of one of several endpoints: its key, its account, its address or its cap lets no line past
    LOWER_TIER = "lower_tier"  # of one of several endpoints: those of a lower tier get the lines
    NO_LINES = "no_lines"  # of one of several endpoints: no line that is left goes there, or not now
    SHARDS = "shards"  # on a cluster: a shard begins, ends, or waits for its share of what the job may send
    STOPPING = "stopping"  # nothing more is sent; requests in flight are finishing
    PAUSED = "paused"  # batchrun tune --pause
