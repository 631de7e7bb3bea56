"""The options of a job. `prepare.py` checks the job, `run.py` sends its lines, `summary.py` sums up the result."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun import checks
from batchrun.engine.error_limit import MaxErrors
from batchrun.engine.retry import RetryPolicy
from batchrun.errors import UsageError
from batchrun.job.endpoints import NamedEndpoint, as_endpoints
from batchrun.job.resume import Changed
from batchrun.limits.options import Limits
from batchrun.records.request import Overrides
from batchrun.transport.deadlines import Timeouts
from batchrun.transport.endpoint import Endpoint

if TYPE_CHECKING:
    from batchrun.simulator.options import GatewayOptions


@dataclass(frozen=True, slots=True)
class Job:
    """One job: which requests are sent where, within which limits, and where the results go.

    `requests`: path of the request file; `-` is standard input. Or the requests themselves: dicts, in a list or from a
    generator, each a body or `{"custom_id": …, "body": …}`; `docs/python.md` says how such a job resumes.
    `results`: path of the result file; None is standard output, and such a job cannot be resumed.
    `endpoint`: the gateway's address, the key, the proxy. None where there are `endpoints`, and only there.
    `overrides`: changes to the body of every request.
    `limits`: requests in flight, requests and tokens a minute, the longest outage.
    `timeouts`: how many seconds an attempt, a connection and the next event of a stream may take.
    `retry`: how often a line is sent, and how long to wait before it is sent again.
    `changed`: what to do with lines that were edited after their answer.
    `retry_errors`: whether all failed lines are sent again, not only the retryable ones.
    `overwrite`: whether existing results are discarded first, without a question.
    `prices`: path of a price file, whose prices win over the list of genai-prices; None uses that list alone.
    `limit`: the most lines that this run sends; None sends all.
    `sample`: how many lines are drawn at random; only these are sent. None sends all.
    `max_errors`: how many lines may go wrong before the job stops; None never stops it.
    `reask`: how often a line whose answer misses its JSON schema is asked again, at most; 0 checks no answer.
    `max_reasks`: the share of the last 1,000 lines, 0 to 1, that may need it; beyond that no line is asked again.
    `max_cost_usd`: the most that all runs of the result file together may cost, in US dollars; None is no cap.
    With a cap, lines whose request does not bound their cost are refused (`UsageError`).
    `max_line_cost_usd`: the most that such a line may cost, in US dollars; None refuses it.
    `grace_s`: seconds that requests in flight get to finish once the job stops.
    `max_response_bytes`: the largest answer that is kept, in bytes; a larger one is a failure.
    `simulate`: a gateway to simulate in this process, in place of `endpoint`; None simulates none.
    `dedup`: whether lines that ask for the same thing are sent once, and the answer is copied to all of them.
    `reuse`: paths of result files whose answers are taken for lines with the same body; one path or several.
    `reuse_batch`: the input and the output file of an OpenAI Batch whose answers are taken so, by id first; one pair or
    several.
    `reuse_any_gateway`: whether these may be the answers of another gateway.
    `no_lock`: whether the result file is not locked, for a disk without locks; then no second run may write to it.
    `endpoints`: several endpoints in place of `endpoint`.
    `sticky`: which lines go to the same one of them: `"prefix"` for those whose prompts begin alike; None for none.

    A path may be a string or a `Path`, money a `Decimal`, a number or a string, `max_errors` also `20`, `0.05` or
    `"5%"`, and `changed` also its value, such as `"resend"`. Raises `UsageError` for a value that is none of these.
    """

    requests: str | Iterable[Mapping[str, object]]
    results: Path | None
    endpoint: Endpoint | None = None
    overrides: Overrides = Overrides()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    changed: Changed = Changed.REFUSE
    retry_errors: bool = False
    overwrite: bool = False
    prices: Path | None = None
    limit: int | None = None
    sample: int | None = None
    max_errors: MaxErrors | None = None
    reask: int = 0
    max_reasks: float = 0.2
    max_cost_usd: Decimal | None = None
    max_line_cost_usd: Decimal | None = None
    grace_s: float = 30.0
    max_response_bytes: int = 64 * 1024 * 1024
    simulate: GatewayOptions | None = None
    no_lock: bool = False
    dedup: bool = False
    reuse: tuple[Path, ...] = ()
    reuse_batch: tuple[tuple[Path, ...], ...] = ()
    reuse_any_gateway: bool = False
    endpoints: tuple[NamedEndpoint, ...] = ()
    sticky: str | None = None

    if TYPE_CHECKING:  # what may be written; the fields say what is read

        def __init__(
            self,
            requests: str | os.PathLike[str] | Iterable[Mapping[str, object]],
            results: str | os.PathLike[str] | None,
            endpoint: Endpoint | None = None,
            overrides: Overrides = Overrides(),
            limits: Limits = Limits(),
            timeouts: Timeouts = Timeouts(),
            retry: RetryPolicy = RetryPolicy(),
            changed: Changed | str = Changed.REFUSE,
            retry_errors: bool = False,
            overwrite: bool = False,
            prices: str | os.PathLike[str] | None = None,
            limit: int | None = None,
            sample: int | None = None,
            max_errors: MaxErrors | int | float | str | None = None,
            reask: int = 0,
            max_reasks: float | str = 0.2,
            max_cost_usd: Decimal | float | str | None = None,
            max_line_cost_usd: Decimal | float | str | None = None,
            grace_s: float = 30.0,
            max_response_bytes: int = 64 * 1024 * 1024,
            simulate: GatewayOptions | None = None,
            no_lock: bool = False,
            dedup: bool = False,
            reuse: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
            reuse_batch: Sequence[str | os.PathLike[str]] | Sequence[Sequence[str | os.PathLike[str]]] = (),
            reuse_any_gateway: bool = False,
            endpoints: Sequence[NamedEndpoint] = (),
            sticky: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Check every value, and read it in its one form."""
        checks.settle(self, requests=_requests(self.requests))
        if str(self.results) == "-":
            raise checks.refused("results", self.results, "None for standard output, or the path of a file")
        for name in ("results", "prices"):
            if (value := getattr(self, name)) is not None:
                checks.settle(self, **{name: checks.path(name, value)})
        if self.endpoints:
            checks.settle(self, endpoints=as_endpoints(self.endpoints))
        if self.endpoints and self.endpoint is not None:
            raise UsageError("endpoint does nothing beside endpoints; leave one out")
        if not self.endpoints:
            checks.instance("endpoint", self.endpoint, Endpoint, "Endpoint(…)")
        if self.sticky not in (None, "prefix"):
            raise checks.refused("sticky", self.sticky, '"prefix", or None')
        if self.sticky is not None and not self.endpoints:
            raise UsageError("sticky does nothing without endpoints; leave it out")
        for name, kind in _KINDS.items():
            checks.instance(name, getattr(self, name), kind, f"{kind.__name__}(…)")
        for name in ("retry_errors", "overwrite", "dedup", "reuse_any_gateway"):
            checks.flag(name, getattr(self, name))
        checks.settle(self, reuse=_paths("reuse", self.reuse), reuse_batch=_pairs("reuse_batch", self.reuse_batch))
        for name, least in (("limit", 0), ("sample", 1)):
            if (value := getattr(self, name)) is not None:
                checks.settle(self, **{name: checks.count(name, value, least=least)})
        for name in ("max_cost_usd", "max_line_cost_usd"):
            if (value := getattr(self, name)) is not None:
                checks.settle(self, **{name: checks.usd(name, value)})
        checks.settle(
            self,
            changed=_changed(self.changed),
            max_errors=None if self.max_errors is None else MaxErrors.of(self.max_errors),
            grace_s=checks.seconds("grace_s", self.grace_s, above=False),
            max_response_bytes=checks.count("max_response_bytes", self.max_response_bytes),
            reask=checks.count("reask", self.reask, least=0),
            max_reasks=_share(self.max_reasks),
        )
        if self.reask and self.results is None:
            raise UsageError(
                "reask keeps earlier answers beside the result file; name a file for the results (-o FILE)"
            )
        if self.simulate is not None:
            from batchrun.simulator.options import GatewayOptions

            checks.instance("simulate", self.simulate, GatewayOptions, "GatewayOptions(…), or None")

    @property
    def has_cap(self) -> bool:
        """Whether the job, or one of its endpoints, has a cap of what it may cost."""
        return self.max_cost_usd is not None or any(one.max_cost_usd is not None for one in self.endpoints)


_KINDS: dict[str, type] = {
    "overrides": Overrides,
    "limits": Limits,
    "timeouts": Timeouts,
    "retry": RetryPolicy,
}


def _requests(value: object) -> object:
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Mapping, os.PathLike)):
        return value
    if value == "-":
        return value
    if isinstance(value, (str, os.PathLike)) and value:
        return str(checks.path("requests", value))
    raise checks.refused("requests", value, "the path of a file, or a list of dicts")


def _share(value: object) -> float:
    """A share such as 0.2, "20%" or "off", which is all."""
    text = "1" if value == "off" else str(value)
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if isinstance(value, bool) or not 0 <= share <= 1:
        raise checks.refused("max_reasks", value, 'a share of the lines, such as "20%" or 0.2, or "off"')
    return share


def _paths(name: str, value: object) -> tuple[Path, ...]:
    """One path, or several, as a tuple."""
    if isinstance(value, (str, os.PathLike)):
        return (checks.path(name, value),)
    if not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray)):
        raise checks.refused(name, value, "the path of a file, or a list of them")
    return tuple(checks.path(name, one) for one in value)


def _pairs(name: str, value: object) -> tuple[tuple[Path, ...], ...]:
    """One pair of paths, or several, as a tuple."""
    if isinstance(value, Sequence) and value and isinstance(value[0], (str, os.PathLike)):
        value = (value,)
    if (
        not isinstance(value, Sequence)
        or isinstance(value, (str, bytes))
        or any(len(_paths(name, one)) != 2 for one in value)
    ):
        raise checks.refused(name, value, 'two paths, ("input.jsonl", "output.jsonl"), or a list of such pairs')
    return tuple(_paths(name, one) for one in value)


def _changed(value: object) -> Changed:
    try:
        return Changed(value)
    except ValueError:
        expected = ", ".join(f"Changed.{one.name}" for one in Changed)
        raise checks.refused("changed", value, f"one of {expected}") from None
