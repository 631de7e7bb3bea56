"""Keeps the secrets of a job apart from it: what a worker is told of a job holds no key, no header, no proxy.

A worker asks the coordinator for them, whose process has them in memory alone: never in the arguments of a task, which
Ray may keep, log and show; never in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from batchrun.job.job import Job
from batchrun.transport.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Secrets:
    """What of one endpoint is secret. Its `repr` shows none of it."""

    api_key: str = field(repr=False)
    proxy: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def without_secrets(job: Job) -> tuple[Job, tuple[Secrets, ...]]:
    """A job that may be shown to anybody, and its secrets: of its endpoint, or of each of its endpoints in turn."""
    if job.endpoint is not None:
        endpoint, secrets = _bare(job.endpoint)
        return replace(job, endpoint=endpoint), (secrets,)
    bare = [(one, *_bare(one.endpoint)) for one in job.endpoints]
    endpoints = tuple(replace(one, endpoint=endpoint) for one, endpoint, _ in bare)
    return replace(job, endpoints=endpoints), tuple(secrets for _, _, secrets in bare)


def with_secrets(job: Job, secrets: tuple[Secrets, ...]) -> Job:
    """The job as it was."""
    if job.endpoint is not None:
        return replace(job, endpoint=_whole(job.endpoint, secrets[0]))
    endpoints = [
        replace(one, endpoint=_whole(one.endpoint, its)) for one, its in zip(job.endpoints, secrets, strict=True)
    ]
    return replace(job, endpoints=tuple(endpoints))


def _bare(endpoint: Endpoint) -> tuple[Endpoint, Secrets]:
    secrets = Secrets(endpoint.api_key, endpoint.proxy, dict(endpoint.secret_headers))
    return replace(endpoint, api_key="", proxy=None, secret_headers={}), secrets


def _whole(endpoint: Endpoint, secrets: Secrets) -> Endpoint:
    return replace(endpoint, api_key=secrets.api_key, proxy=secrets.proxy, secret_headers=secrets.headers)
