"""Why a run ends early, in words that say what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from batchrun.engine.attribution import Peers
from batchrun.engine.routing import Queue
from batchrun.records.outcome import Failure, FailureCode, describe
from batchrun.records.words import counted, duration
from batchrun.transport.words import is_about_money, tells_of_key, tells_of_no_model


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a run ended early, and the exit code for that."""

    why: str
    exit_code: int


def why_stopped(failure: Failure, address: str, endpoint: str | None = None) -> str:
    """One line: what came back from `address`, and what to do about it. `endpoint`: its name, if there are several."""
    what, status = describe(failure), failure.status_for_rules
    base_url, proxy, key = "--base-url", "--proxy", "your API key"
    if endpoint is not None:
        base_url, proxy, key = "its base_url", "its proxy", "its key"
    if failure.code in (FailureCode.DNS_FAILED, FailureCode.CERTIFICATE_REFUSED):
        return f"{what}; is {base_url} right?"
    if status == 407:
        return f"the proxy refuses every request ({what}); check the login in {proxy}"
    if is_about_money(failure):
        if failure.retry_after_s:
            back = f"back in {duration(failure.retry_after_s)}"
            return f"the account cannot pay for more ({what}, {back}); run the same command then, or use another key"
        return f"the account cannot pay for more ({what}); top it up, or use the key of another one"
    if failure.code in (FailureCode.HTML_INSTEAD_OF_JSON, FailureCode.HTML_PAGE) or status in (404, 405, 501):
        return f"{address} answered {what}; is {base_url} right?"
    if status == 401 or tells_of_key(failure):
        return f"the gateway refuses the key ({what}); check {key}"
    return f"the gateway refuses every request ({what}); ask whether this key may use this API and model from here"


def why_all_refused(failure: Failure, line_number: int) -> str:
    """One line: what every line of a fresh job got, and what to do about it."""
    way_out = "name a model that it has (--model), or " if tells_of_no_model(failure) else ""
    return (
        f"every line is refused alike, and nothing has succeeded yet ({describe(failure)}; for example line "
        f"{line_number}); {way_out}correct the request file, or send all lines with --max-errors off"
    )


def why_none_is_left(queues: Iterable[Queue], now: float) -> str:
    """One line: what is wrong with each of several endpoints that the lines of these queues could go to."""
    faults = dict[str | None, dict[str, None]]()
    for queue in queues:
        for peers in queue.routes:
            faults.setdefault(peers.gateway.name, {})[_fault_of(peers, now)] = None
    each = [f"{name}: {', and '.join(of_it)}." for name, of_it in faults.items()]
    one = "it" if len(each) == 1 else "one of them"
    return (
        f"no endpoint is left for the lines that remain: {' '.join(each)} Mend {one} (`batchrun endpoints FILE` looks "
        "at each), then run the same command again"
    )


def _fault_of(peers: Peers, now: float) -> str:
    """Why an endpoint takes no lines of a model."""
    if peers.gateway.why:
        return peers.gateway.why
    if peers.missing is not None:
        return f"it has no {peers.model} ({describe(peers.missing)})"
    if peers.lane.is_closed:
        return f"{peers.model} waits for its limit ({_limit_of(peers, now)})"
    return f"it does not answer ({peers.breaker.why})"


def _limit_of(peers: Peers, now: float) -> str:
    """Which limit a closed lane waits for, and how long."""
    back_s = peers.lane.back_at - now
    back = f", back in {duration(back_s)}" if back_s > 1 else ""
    return (describe(peers.throttle) if peers.throttle is not None else "throttled without a break") + back


def why_closed(closed: Mapping[Queue, int], recorded: int, now: float) -> str:
    """One line: what is done, and which models' lines wait for a limit of theirs; `now` is by the run's clock.

    Where not only limits are waited for at several endpoints, it is what is wrong with each.
    """
    routes = [peers for queue in closed for peers in queue.routes if peers.missing is None]
    if any(peers.gateway.name is not None and not peers.lane.is_closed for peers in routes):
        return why_none_is_left(closed, now)
    waiting, then = Counter[str](), "run the same command then"
    for queue, count in closed.items():
        there = [peers for peers in queue.routes if peers.missing is None]
        peers = min(there, key=lambda peers: (peers.lane.back_at <= now, peers.lane.back_at))
        is_of_money = peers.throttle is not None and is_about_money(peers.throttle)
        limit = "quota" if is_of_money else "limit"
        waiting[f"of {queue.model} wait for its {limit} ({_limit_of(peers, now)})"] += count
        if is_of_money and peers.lane.back_at <= now:
            then = "raise it or top up the account, then run the same command"
    parts = [f"{counted(count, 'line')} {what}" for what, count in waiting.items()]
    return f"{recorded:,} done; {'; '.join(parts)}; {then}"
