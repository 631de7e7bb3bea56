"""Why a run ends before its time, in words that say what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.records.outcome import Failure, describe


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a run ended before its time, and the exit code for that."""

    why: str
    exit_code: int


def why_stopped(failure: Failure, address: str) -> str:
    """One line: what came back from `address`, and what to do about it."""
    what = describe(failure)
    if failure.code in ("html_instead_of_json", "html_page") or failure.status in (404, 405):
        return f"{address} answered {what}; is --base-url right?"
    if failure.code in ("dns_failed", "certificate_refused"):
        return f"{what}; is --base-url right?"
    if failure.status == 401:
        return f"the gateway refuses the key ({what}); check your API key"
    return f"the gateway refuses every request ({what}); top up the account or change the key"
