"""Why a run ends early, in words that say what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batchrun.engine.routing import Queue
from batchrun.records.outcome import Failure, FailureCode, describe
from batchrun.records.words import counted, duration
from batchrun.transport.words import tells_of_key, tells_of_money, tells_of_no_model


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a run ended early, and the exit code for that."""

    why: str
    exit_code: int


def why_stopped(failure: Failure, address: str) -> str:
    """One line: what came back from `address`, and what to do about it."""
    what, status = describe(failure), failure.status_for_rules
    if failure.code in (FailureCode.DNS_FAILED, FailureCode.CERTIFICATE_REFUSED):
        return f"{what}; is --base-url right?"
    if status == 407:
        return f"the proxy refuses every request ({what}); check the login in --proxy"
    if status == 402 or tells_of_money(failure):
        return f"the account cannot pay for more ({what}); top it up, or use the key of another one"
    if failure.code in (FailureCode.HTML_INSTEAD_OF_JSON, FailureCode.HTML_PAGE) or status in (404, 405, 501):
        return f"{address} answered {what}; is --base-url right?"
    if status == 401 or tells_of_key(failure):
        return f"the gateway refuses the key ({what}); check your API key"
    return f"the gateway refuses every request ({what}); ask whether this key may use this API and model from here"


def why_all_refused(failure: Failure, line_number: int) -> str:
    """One line: what every line of a fresh job got, and what to do about it."""
    way_out = "name a model that it has (--model), or " if tells_of_no_model(failure) else ""
    return (
        f"every line is refused alike, and nothing has succeeded yet ({describe(failure)}; for example line "
        f"{line_number}); {way_out}correct the request file, or send all lines with --max-errors off"
    )


def why_closed(closed: Mapping[Queue, int], recorded: int, now: float) -> str:
    """One line: what is done, and which models' lines wait for a limit of theirs; `now` is by the run's clock.

    Where several endpoints are shut, it is what each of them says.
    """
    shut = {peers.gateway.name: peers.gateway.why for queue in closed for peers in queue.routes if peers.gateway.why}
    if shut:
        return "no endpoint is left: " + "; ".join(f"{name}: {why}" for name, why in shut.items())
    parts = []
    for queue, count in closed.items():
        peers = min(queue.routes, key=lambda peers: peers.lane.back_at)
        back_s = peers.lane.back_at - now
        back = f", back in {duration(back_s)}" if back_s > 1 else ""
        what = describe(peers.throttle) if peers.throttle is not None else "throttled without a break"
        parts.append(f"{counted(count, 'line')} of {queue.model} wait for its limit ({what}{back})")
    return f"{recorded:,} done; {'; '.join(parts)}; run the same command then"
