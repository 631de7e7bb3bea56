"""The gateway that the options name: its address and key, from the environment or a file; or a simulated one.

A key never stands in an option, a message or a log.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.cli import console
from batchrun.cli.options import GatewayOptions
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from batchrun.simulator.options import GatewayOptions as Simulated
    from batchrun.transport.endpoint import Endpoint

_LATENCY_S = 0.3


def make_endpoint(options: GatewayOptions) -> Endpoint:
    """Where requests go. Warns of a key that is sent unencrypted. Raises `UsageError`."""
    from batchrun.transport.endpoint import Endpoint, check_base_url, check_proxy

    if options.simulate:
        return Endpoint("http://127.0.0.1")
    base_url = options.base_url or os.environ.get("OPENAI_BASE_URL", "")
    if not base_url:
        raise UsageError("no address: set OPENAI_BASE_URL or pass --base-url https://…/v1 (or try --simulate)")
    warning = check_base_url(base_url, insecure_http=options.insecure_http)
    if warning:
        console.say(f"batchrun: {warning}")
    if options.proxy:
        check_proxy(options.proxy)
    key = _key(options.api_key_env, options.api_key_file)
    return Endpoint(base_url, key, options.proxy, not options.no_keepalive)


def _key(name: str, file: Path | None) -> str:
    """The key in a file, or else in the environment variable `name`."""
    from batchrun.transport.endpoint import check_key

    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name, re.IGNORECASE):
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
        if options.simulate_script or options.simulate_latency_s is not None:
            raise UsageError("--simulate-script and --simulate-latency need --simulate; without it requests cost money")
        return None
    latency_s = _LATENCY_S if options.simulate_latency_s is None else options.simulate_latency_s
    from batchrun.simulator.options import GatewayOptions as Simulated

    try:
        return Simulated(
            latency_median_s=latency_s,
            latency_p99_s=4 * latency_s,
            script=options.simulate_script,
            keep_rows=False,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def key_in(name: str) -> str:
    """The key that an environment variable holds, for a simulated gateway to accept. Raises `UsageError`."""
    if name not in os.environ:
        raise UsageError(f"--api-key-env {name}: there is no such variable")
    return os.environ[name]
