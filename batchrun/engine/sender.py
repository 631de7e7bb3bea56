"""One attempt: a permit from the limiter, a note in the run log, the request, and what it cost."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from decimal import Decimal

from batchrun.engine.attribution import Peers
from batchrun.engine.observer import Observer
from batchrun.engine.writer import Writer
from batchrun.limits.permit import Permit
from batchrun.records.outcome import Failure, Reply, describe
from batchrun.records.request import RequestLine
from batchrun.results.events import Unmeasured


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends lines."""

    writer: Writer
    observer: Observer

    def acquire(self, line: RequestLine, upper_usd: Decimal, peers: Peers) -> Awaitable[Permit | None]:
        """Wait for a permit; None if the run stops, the budget will never have room for the line, or its lane waits."""
        limiter = peers.gateway.limiter
        return limiter.acquire(self._tokens_at_most(line) if limiter.counts_tokens else 0.0, upper_usd, peers.lane)

    async def send(
        self, line: RequestLine, peers: Peers, permit: Permit, attempt: int, ask: int = 1, *, is_control: bool = False
    ) -> Reply | Failure | None:
        """Log the attempt, send it and return its outcome; None if the job is stopping by then."""
        gateway, spending = peers.gateway, peers.gateway.spending
        reserved_usd = spending.reserved(permit.upper_usd)
        if not await self.writer.may_send(line, attempt, reserved_usd, ask, gateway.name, is_control=is_control):
            return None
        if not gateway.limiter.may_go:  # the lease has run out since: the process may have stood still
            self.writer.unsent(line, is_control=is_control)
            return None
        outcome = await gateway.transport.send(line)
        permit.cost_usd, unbilled_usd = spending.settled(line, outcome, permit.upper_usd)
        if not isinstance(outcome, Reply):
            self.writer.ended(line, outcome, unbilled_usd, gateway.name, is_control=is_control)
            what = "control request" if is_control else f"attempt {attempt}"
            what += f" of ask {ask}" if ask > 1 else ""
            where = "" if gateway.name is None else f" at {gateway.name}"
            self.observer.detail(f"line {line.line_number}, {what}{where}: {describe(outcome)}")
        elif unbilled_usd:
            self.writer.log(Unmeasured(line.line_number, unbilled_usd, gateway.name))
        return outcome

    def _tokens_at_most(self, line: RequestLine) -> float:
        """A guess of the tokens that a request uses: one for four bytes, plus its output limit or the mean so far."""
        if line.max_output_tokens is not None:
            return len(line.body) / 4 + line.max_output_tokens
        return len(line.body) / 4 + self.writer.mean_output_tokens
