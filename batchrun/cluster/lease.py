"""What a shard may do for a while (`Lease`), and what it tells at each beat (`Report`): the values on the wire.

1. A lease rules from the moment at which the shard *sent* the beat that it answers, for `lifetime_s` seconds of the
   shard's own clock. So it has run out at the shard before the coordinator counts it as run out.
2. Amounts that grow (requests and tokens sent, money) are totals, not differences: a report that is lost, or that
   comes twice, changes nothing.
3. Clocks of machines differ. Times on the wire are seconds before the report was sent, or after the beat was.
"""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec

from batchrun.records.money import NOTHING

LIFETIME_S = 2.0


class Lease(msgspec.Struct, frozen=True, gc=False):
    """What a shard may do until `lifetime_s` after it sent the beat. With version 0 nothing is granted: the shard keeps
    the lease that it has until that runs out.

    `epoch`: of the coordinator; another one is a coordinator that has come back. `beat_s`: seconds to the next beat.
    `slots`: requests in flight; 0 is a pause. `requests`: how many this incarnation may have sent in all, and
    `per_s` how many a second; infinite where nobody limits them.
    `tokens`: the same for tokens, as they are reserved at sending.
    `usd`: what the files of the shard may cost in all, what is in flight at its worst included; None without a cap.
    `usd_left`: what is left of the cap of the job, for all that is known: a line that may cost more never fits.
    `usd_margin`: how many times its bound is reserved for a request; `is_usd_sure`: an answer has shown what bounds are
    worth. `errors_left`: how many more lines may go wrong; infinite without a limit.
    `pause_s`: nothing is sent for so long. `wants_events`: the reports are to have `sends` and `ended`.
    `is_outage`: the gateway is gone, for all that is known; one shard has slots, and probes.
    `is_paused`: by the user. `stop`: why the job ends; empty while it goes on. `wants_all`: the next report must have
    `everything`.
    """

    epoch: int
    version: int = 0
    lifetime_s: float = LIFETIME_S
    beat_s: float = 0.2
    slots: int = 0
    requests: float = math.inf
    per_s: float = math.inf
    tokens: float = math.inf
    usd: Decimal | None = None
    usd_left: Decimal | None = None
    usd_margin: int = 1
    is_usd_sure: bool = True
    errors_left: float = math.inf
    pause_s: float = 0.0
    wants_events: bool = False
    is_outage: bool = False
    is_paused: bool = False
    stop: str = ""
    wants_all: bool = False


class Ended(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A request that ended: its number in the order of sending, and how long ago it ended.

    `outcome`: "a" answered, "t" throttled, "f" failed in a way that says nothing about limits. `asked_s`: the wait that
    the gateway asked for.
    """

    number: int
    ended_s: float
    outcome: str
    asked_s: float | None = None


class Everything(msgspec.Struct, frozen=True, gc=False):
    """What a coordinator that has come back needs to know of a shard.

    `lease`: the one that the shard holds, and `expires_s` in how many seconds it runs out; None if it holds none.
    `recent`: what was sent in the last minute, by this incarnation and those before it, as (seconds ago, requests,
    tokens): the seconds rounded down.
    """

    lease: Lease | None = None
    expires_s: float = 0.0
    recent: tuple[tuple[float, int, float], ...] = ()


class Report(msgspec.Struct, frozen=True, gc=False):
    """What a shard tells at each beat.

    `incarnation`: a name of this process's run of the shard; it holds the lock of the result file before its first
    beat, so the one before it is dead. `beat`: its number, from 1. `epoch` and `version`: of the lease that it holds.
    `in_flight`: requests now, and `peak` the most since the last beat. `left`: lines that are not done, those in flight
    included. `sent`: requests that this incarnation has sent, `tokens` what it reserved for them, and `corrections`
    what they used more or less than that, as far as it came out since the last beat: (the number of the beat whose
    report was the first to count them as sent, tokens).
    `needs_tokens` and `needs_usd`: what the next request needs, where it waits for that.
    `spent_usd`: the bill of its files and what may have been spent beyond it; `reserved_usd`: for what is in flight.
    `usd_margin`, `is_usd_sure`: as in the lease, as this shard has found out.
    `lines`, `errors`: recorded by this incarnation, and how many of them went wrong. `answered`: how many answers came.
    `sends`: the requests that were sent since the last beat, from number `first_send` on, as (seconds ago, version of
    the lease); `ended`: those that ended since then. Both where a lease wants events; throttles always.
    `is_outage`: nothing but probes can be sent. `stop`: why its run stops. `is_done`: no line is left.
    `everything`: asked for by `Lease.wants_all`.
    """

    shard: int
    incarnation: str
    beat: int
    epoch: int = 0
    version: int = 0
    in_flight: int = 0
    peak: int = 0
    left: int = 0
    sent: int = 0
    tokens: float = 0.0
    corrections: tuple[tuple[int, float], ...] = ()
    needs_tokens: float = 0.0
    spent_usd: Decimal = NOTHING
    reserved_usd: Decimal = NOTHING
    needs_usd: Decimal = NOTHING
    usd_margin: int = 1
    is_usd_sure: bool = False
    lines: int = 0
    errors: int = 0
    answered: int = 0
    first_send: int = 1
    sends: tuple[tuple[float, int], ...] = ()
    ended: tuple[Ended, ...] = ()
    is_outage: bool = False
    stop: str = ""
    is_done: bool = False
    everything: Everything | None = None
