"""Whether words about money are about the quota of one model, or about the whole account.

1. While lines of other models may be answered by the same endpoint, it is the model's: its lane is closed there, and
   nothing else. Where no other model is left, it is the account: the endpoint is shut, or the job stops.
2. Once something has succeeded, two lines of the model must say so without an answer to what was sent for it later.
3. From the first of them on, until something is answered, one request at a time is sent to that endpoint. One of
   several endpoints that refuses two more models meanwhile is shut.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum, auto

from batchrun.engine.attribution import Peers
from batchrun.engine.dispatcher import Dispatcher, Next
from batchrun.engine.gateways import Gateway
from batchrun.engine.observer import Observer
from batchrun.limits.controller import Sent
from batchrun.records.outcome import Failure, describe
from batchrun.transport.words import is_about_money

MORE_MODELS = 2  # refused by one of several endpoints since anything was answered, beside those in flight: it is empty


class About(Enum):
    """What words about money are about."""

    ACCOUNT = auto()  # or nothing of the kind was said
    MODEL = auto()
    UNSURE = auto()  # another line must say so, too


class SpentQuotas:
    """Judges words about money, and closes the lanes of models whose quota is spent."""

    def __init__(self, dispatcher: Dispatcher, observer: Observer, now: Callable[[], float]) -> None:
        self._dispatcher, self._observer, self._now = dispatcher, observer, now
        self._untold: dict[Gateway, list[str]] = {}  # until something is answered

    def answered(self, gateway: Gateway, sent: Sent) -> None:
        """An answer came although it was said that no line can get past."""
        gateway.limiter.lanes.doubt(is_over=True)
        for notice in self._untold.pop(gateway, ()) if gateway.shut_since is None else ():
            self._observer.notice(notice)
        if sent.at > gateway.refusals.barred_at:
            gateway.refusals.unbar()

    def about(self, one: Next, sent: Sent, failure: Failure) -> About:
        """What a failure that no line can get past is about, which came for a request that was sent so."""
        peers, case, now = one.peers, one.case, self._now()
        gateway, lane = peers.gateway, peers.lane
        lanes, refusals = gateway.limiter.lanes, gateway.refusals
        if not is_about_money(failure) or gateway.shut_since is not None or not self._has_other_models(peers):
            return About.ACCOUNT
        was_in_doubt = lanes.is_doubted and sent.at >= refusals.barred_at
        if refusals.barred_at == math.inf:
            lanes.doubt()
            gateway.more_models = 0
            self._untold[gateway] = []
        refusals.bar(case.number, now)
        if lane.is_closed:
            return About.MODEL
        is_said_again = peers.is_barred_again(case.number, now, is_last=case.queue.left == 1)
        if not (refusals.is_fresh or was_in_doubt or is_said_again):
            return About.UNSURE
        gateway.more_models += was_in_doubt
        if gateway.name is not None and gateway.more_models >= MORE_MODELS:
            return About.ACCOUNT
        gateway.spent.append(lane)
        gateway.limiter.close_lane(lane)
        lane.back_at = now + (failure.retry_after_s or 0.0)
        peers.throttle = failure
        where, rest = ("", "wait") if gateway.name is None else (f" at {gateway.name}", "go elsewhere")
        notice = f"the quota of {peers.model}{where} is spent ({describe(failure)}); its lines {rest}"
        if lanes.is_doubted:
            self._untold[gateway].append(notice)
        else:
            self._observer.notice(notice)
        return About.MODEL

    def _has_other_models(self, peers: Peers) -> bool:
        """Whether lines of other models may still be answered by the endpoint of these peers."""
        is_read, queues = self._dispatcher.is_read, self._dispatcher.queues
        if not is_read and queues.may_be_more:
            return True
        others = [other for queue in (self._dispatcher.remaining() if is_read else queues) for other in queue.routes]
        return any(
            other.gateway is peers.gateway and other.lane is not peers.lane and not other.is_closed for other in others
        )
