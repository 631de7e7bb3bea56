"""The gateway that the options name: its address and key, from the environment or a file; or a simulated one.

A key never stands in an option, a message or a log.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchrun.cli import console
from batchrun.cli.gateway_options import GatewayOptions
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from batchrun.job.endpoints import NamedEndpoint
    from batchrun.simulator.options import GatewayOptions as Simulated
    from batchrun.transport.endpoint import Endpoint

_LATENCY_S = 0.3
_VARIABLE = r"[A-Z_][A-Z0-9_]*"


def make_endpoint(options: GatewayOptions, *, quiet: bool = False) -> Endpoint:
    """Where requests go. Says where, if nobody named it; warns of a key sent unencrypted. Raises `UsageError`."""
    from batchrun.transport.endpoint import OFFICIAL, Endpoint, check_base_url, check_endpoint, check_proxy

    options.refuse_idle()
    if options.simulate:
        return Endpoint("http://127.0.0.1")
    if options.env_file is not None:
        from batchrun.cli.env_file import load_env_file

        load_env_file(options.env_file)
    base_url = options.base_url if options.base_url is not None else os.environ.get("OPENAI_BASE_URL")
    base_url = None if base_url is None else base_url.strip()
    if base_url is None and not quiet:
        console.say(f"batchrun: OPENAI_BASE_URL is not set; sending to the official API, {OFFICIAL}")
    if base_url == "" and options.base_url is None:  # a script's variable that was not set: no key for others
        raise UsageError("OPENAI_BASE_URL is empty; set it to https://…/v1, or unset it to use the official API")
    warning = check_base_url(OFFICIAL if base_url is None else base_url, insecure_http=options.insecure_http)
    if warning:
        console.say(f"batchrun: {warning}")
    if options.proxy:
        check_proxy(options.proxy)
    secret_headers = dict(map(_secret_header, options.header_envs))
    has_key = options.auth != "none" and not any(name.lower() == "authorization" for name in secret_headers)
    endpoint = Endpoint(
        base_url=OFFICIAL if base_url is None else base_url,
        api_key=_key(options.api_key_env or "OPENAI_API_KEY", options.api_key_file) if has_key else "",
        proxy=options.proxy,
        keepalive=not options.no_keepalive,
        auth=options.auth or "bearer",
        headers=_headers(options.headers),
        secret_headers=secret_headers,
    )
    check_endpoint(endpoint)
    return endpoint


def make_target(options: GatewayOptions, *, quiet: bool = False) -> dict[str, Any]:
    """Where a job sends, as a field of `Job`: one endpoint, or those of `--endpoints`. Raises `UsageError`."""
    if options.endpoints is None:
        return {"endpoint": make_endpoint(options, quiet=quiet)}
    options.refuse_idle()
    endpoints = read_endpoint_file(options.endpoints, options.env_file, insecure_http=options.insecure_http)
    return {"endpoints": endpoints, "sticky": options.sticky}


def read_endpoint_file(path: Path, env_file: Path | None, *, insecure_http: bool) -> tuple[NamedEndpoint, ...]:
    """The endpoints of a file, with their keys. Warns of keys sent unencrypted. Raises `UsageError`."""
    from batchrun.job.endpoints import read_endpoints
    from batchrun.transport.endpoint import check_base_url

    if env_file is not None:
        from batchrun.cli.env_file import load_env_file

        load_env_file(env_file)
    endpoints = read_endpoints(path, os.environ)
    for one in endpoints:
        try:
            warning = check_base_url(one.endpoint.base_url, insecure_http=insecure_http)
        except UsageError as error:
            raise UsageError(f"{path}: endpoint {one.name}: {error}") from None
        if warning:
            console.say(f"batchrun: {one.name}: {warning}")
    return endpoints


def _headers(written: tuple[str, ...]) -> dict[str, str]:
    """The headers that the options and the variables of the official client name. Raises `UsageError`."""
    from batchrun.transport.endpoint import is_secret

    headers: dict[str, str] = {}
    for text in written:
        name, colon, value = text.partition(":")
        if not colon:
            raise UsageError("--header takes 'Name: value', with a colon")
        if is_secret(name.strip()):
            raise UsageError(f"--header {name.strip()}: every user of this machine can read it; use --header-env")
        headers[name.strip()] = value.strip()
    given = {name.lower() for name in headers}
    for name, variable in (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")):
        if os.environ.get(variable) and name.lower() not in given:
            headers[name] = os.environ[variable].strip()
    return headers


def _secret_header(written: str) -> tuple[str, str]:
    """A header and its value, which is in a variable. Raises `UsageError`, which does not repeat what was written."""
    name, _, variable = written.partition("=")
    if not re.fullmatch(_VARIABLE, variable, re.IGNORECASE):
        raise UsageError("--header-env takes NAME=VAR, a header and the variable with its value, and never the value")
    if not os.environ.get(variable, "").strip():
        raise UsageError(f"--header-env {name}: the variable that it names is not set, or empty")
    return name, os.environ[variable].strip()


def _key(name: str, file: Path | None) -> str:
    """The key in a file, or else in the environment variable `name`."""
    from batchrun.transport.endpoint import check_key

    if not re.fullmatch(_VARIABLE, name, re.IGNORECASE):
        raise UsageError("--api-key-env takes the name of a variable, such as MY_KEY, and never a key itself")
    if file is not None:
        try:
            return check_key(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"cannot read the key from {file}: {reason}") from None
    if name in os.environ:
        return check_key(os.environ[name], f"${name}")
    shown = name if name.isupper() and len(name) <= 40 else "the variable that --api-key-env names"  # it may be a key
    raise UsageError(f"no key: set {shown}, or name another variable (--api-key-env) or a file (--api-key-file)")


def make_simulated(options: GatewayOptions) -> Simulated | None:
    """The simulated gateway of a run; None where requests go to a real one. Raises `UsageError`."""
    if not options.simulate:
        told = {
            "--simulate-script": options.simulate_script,
            "--simulate-latency": options.simulate_latency_s is not None,
            "--simulate-mismatches": options.simulate_mismatches,
            "--simulate-answers": options.simulate_answers,
            "--simulate-accuracy": options.simulate_accuracy is not None,
        }
        if idle := next((name for name, value in told.items() if value), None):
            raise UsageError(f"{idle} needs --simulate; without it requests cost money")
        return None
    latency_s = _LATENCY_S if options.simulate_latency_s is None else options.simulate_latency_s
    from batchrun.simulator.options import GatewayOptions as Simulated

    try:
        return Simulated(
            latency_median_s=latency_s,
            latency_p99_s=4 * latency_s,
            script=options.simulate_script,
            answers=options.simulate_answers,
            accuracy=1.0 if options.simulate_accuracy is None else options.simulate_accuracy,
            mismatch_rate=options.simulate_mismatches,
            keep_rows=False,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def key_in(name: str) -> str:
    """The key that an environment variable holds, for a simulated gateway to accept. Raises `UsageError`."""
    if name not in os.environ:
        raise UsageError(f"--api-key-env {name}: there is no such variable")
    return os.environ[name]
