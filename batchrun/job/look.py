"""A look at endpoints before a job: `GET /models` and one small request to each, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec

from batchrun.job.endpoints import NamedEndpoint
from batchrun.records.outcome import Failure, RateHeaders, Reply, describe
from batchrun.records.request import CHAT, RESPONSES, parse_request
from batchrun.records.words import printable
from batchrun.transport.deadlines import Timeouts
from batchrun.transport.failures import Kind, classify
from batchrun.transport.http import HttpTransport
from batchrun.transport.words import tells_of_money, tells_of_no_model

PATIENCE = Timeouts(attempt_s=60.0, connect_s=10.0, idle_s=60.0)
LARGEST_ANSWER = 8 << 20
LEAST_TOKENS = 16  # the official API takes no smaller limit of /v1/responses
NO_CHAT = ["embed", "whisper", "tts", "dall", "image", "moderation", "audio", "realtime", "transcribe", "rerank"]


class Looked(msgspec.Struct, frozen=True):
    """What one endpoint answered.

    `name`: its name. `is_reachable`: whether anything came back. `key`: `good`, `refused`, `account empty`, or
    `unknown`. `models`: how many it lists; None if it lists none. `missing`: patterns of the file that fit none.
    `asked`: the model that was asked, by its name there. `latency_s`: seconds until its answer was whole, None without
    one. `limits`: what rate headers say. `problem`: what was wrong; empty if it answered.
    """

    name: str
    is_reachable: bool
    key: str
    models: int | None = None
    missing: tuple[str, ...] = ()
    asked: str | None = None
    latency_s: float | None = None
    limits: str = ""
    problem: str = ""


async def look_at(endpoints: Sequence[NamedEndpoint], model: str | None = None, api: str = "responses") -> list[Looked]:
    """Ask all endpoints at once; `model` is the one to ask for, by its name in requests, and None chooses one."""
    secrets = [secret for one in endpoints for secret in one.endpoint.secrets]
    return list(await asyncio.gather(*(_look(one, model, api, secrets) for one in endpoints)))


async def _look(one: NamedEndpoint, model: str | None, api: str, secrets: Sequence[str]) -> Looked:
    client = HttpTransport(one.endpoint, PATIENCE, LARGEST_ANSWER, rename=one.rename, secrets=secrets)
    async with client as transport:
        listed = await transport.models()
        names = [] if isinstance(listed, Failure) else listed
        known = Looked(
            one.name,
            is_reachable=not isinstance(listed, Failure) or listed.status is not None,
            key="unknown",
            models=len(names) or None,
            missing=_missing(one, names),
        )
        asked = model or _choose(one, names)
        if asked is None:
            return msgspec.structs.replace(known, key=_key(listed), problem=_no_model(listed))
        outcome = await transport.send(parse_request(_request(asked, api), 1))
    return _answered(msgspec.structs.replace(known, asked=printable(one.rename.get(asked, asked))), outcome)


def _answered(known: Looked, outcome: Reply | Failure) -> Looked:
    is_failure = isinstance(outcome, Failure)
    return msgspec.structs.replace(
        known,
        is_reachable=not isinstance(outcome, Failure) or outcome.status is not None,
        key=_key(outcome),
        latency_s=None if is_failure else round(outcome.timing.total_s, 3),
        limits=_limits(outcome.rate),
        problem=describe(outcome) if isinstance(outcome, Failure) else "",
    )


def _no_model(listed: object) -> str:
    """Why no model was asked for, and what to type where that helps."""
    if not isinstance(listed, Failure):
        return "it lists no model; pass --model NAME to ask for one"
    is_in_the_way = listed.status is None or _key(listed) in ("refused", "account empty")
    return describe(listed) if is_in_the_way else f"{describe(listed)}; pass --model NAME to ask for one"


def _key(outcome: object) -> str:
    """What an outcome says of the key."""
    if not isinstance(outcome, Failure):
        return "good"
    if outcome.status_for_rules == 402 or tells_of_money(outcome):
        return "account empty"
    if outcome.status_for_rules in (401, 403):
        return "refused"
    is_known = outcome.looks_like_api and classify(outcome).kind in (Kind.FATAL, Kind.THROTTLE)
    is_an_address = outcome.status_for_rules in (404, 405) and not tells_of_no_model(outcome)
    return "good" if is_known and not is_an_address else "unknown"


def _missing(one: NamedEndpoint, names: Sequence[str]) -> tuple[str, ...]:
    """The patterns of the file that fit no model that is listed."""
    there = {*names, *(old for old, new in one.rename.items() if new in names)}
    return tuple(pattern for pattern in one.models if names and not any(fnmatchcase(name, pattern) for name in there))


def _choose(one: NamedEndpoint, names: Sequence[str]) -> str | None:
    """A model to ask: one that the file names, or else the first that is listed, fits, and seems to answer texts."""
    if exact := [name for name in one.models if not set("*?[") & set(name)]:
        return exact[0]
    if one.rename:
        return next(iter(one.rename))
    return next((name for name in names if one.serves(name) and not any(word in name for word in NO_CHAT)), None)


def _request(model: str, api: str) -> bytes:
    if api == "chat":
        body = {"model": model, "messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 1}
        return json.dumps({"custom_id": "look", "url": CHAT, "body": body}).encode()
    body = {"model": model, "input": "Say ok.", "max_output_tokens": LEAST_TOKENS}
    return json.dumps({"custom_id": "look", "url": RESPONSES, "body": body}).encode()


def _limits(rate: RateHeaders | None) -> str:
    """What rate headers say, in words."""
    if rate is None:
        return ""
    known = ((rate.limit_requests, "requests"), (rate.limit_tokens, "tokens"))
    return ", ".join(f"{limit:,.0f} {what}" for limit, what in known if limit is not None)


def render(looked: Sequence[Looked]) -> str:
    """A table for people, ending in a newline, and below it what was wrong."""
    rows = [("endpoint", "reachable", "key", "models", "asked", "latency", "limits by headers")]
    for one in looked:
        latency = "-" if one.latency_s is None else f"{one.latency_s:.2f} s"
        models = "-" if one.models is None else f"{one.models:,}"
        reachable = "yes" if one.is_reachable else "no"
        rows.append((one.name, reachable, one.key, models, one.asked or "-", latency, one.limits or "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for one in looked:
        lines += [f"{one.name}: {one.problem}"] if one.problem else []
        lines += [f"{one.name}: lists no model {', '.join(one.missing)}"] if one.missing else []
    return "\n".join(map(printable, lines)) + "\n"
