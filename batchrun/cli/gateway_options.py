"""The options that name a gateway: its address, its key and headers, the way to it; or a simulated one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.options import PATH
from batchrun.cli.types import FiniteRange
from batchrun.cli.verb import Option, OptionGroup
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from batchrun.billing.pricing import PriceBook


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Where requests go, and with which key. With `simulate`, to a gateway in this process.

    `headers` are `Name: value`, `header_envs` are `NAME=VAR`.
    """

    base_url: str | None
    endpoints: Path | None
    sticky: str | None
    api_key_env: str | None
    api_key_file: Path | None
    auth: str | None
    headers: tuple[str, ...]
    header_envs: tuple[str, ...]
    env_file: Path | None
    proxy: str | None
    insecure_http: bool
    no_keepalive: bool
    simulate: bool
    simulate_latency_s: float | None
    simulate_script: str
    simulate_answers: Path | None
    simulate_accuracy: float | None
    simulate_mismatches: float

    def refuse_idle(self) -> None:
        """Raise `UsageError` for options that have no effect beside others."""
        real = {
            "--base-url": self.base_url,
            "--api-key-env": self.api_key_env,
            "--api-key-file": self.api_key_file,
            "--auth": self.auth,
            "--header": self.headers,
            "--header-env": self.header_envs,
            "--env-file": self.env_file,
            "--proxy": self.proxy,
            "--insecure-http": self.insecure_http,
            "--no-keepalive": self.no_keepalive,
        }
        real["--endpoints"] = self.endpoints
        if self.simulate and (idle := [name for name, value in real.items() if value]):
            raise UsageError(f"{', '.join(idle)} does nothing with --simulate, which sends nothing; leave one out")
        self._refuse_beside_endpoints()
        if self.sticky is not None and self.endpoints is None:
            raise UsageError("--sticky does nothing without --endpoints; pass --endpoints FILE, too")
        if self.api_key_env and self.api_key_file:
            raise UsageError("--api-key-env does nothing with --api-key-file; leave one out")
        if self.auth == "none" and (self.api_key_env or self.api_key_file):
            raise UsageError("--auth none sends no key; leave out --api-key-env and --api-key-file")

    def _refuse_beside_endpoints(self) -> None:
        """Raise `UsageError` for an option that names a gateway, where a file names several."""
        beside = {
            "--base-url": self.base_url,
            "--api-key-env": self.api_key_env,
            "--api-key-file": self.api_key_file,
            "--auth": self.auth,
            "--header": self.headers,
            "--header-env": self.header_envs,
            "--proxy": self.proxy,
            "--no-keepalive": self.no_keepalive,
        }
        if self.endpoints is not None and (idle := [name for name, value in beside.items() if value]):
            raise UsageError(f"{', '.join(idle)} does nothing beside --endpoints; the file says that of each endpoint")


GATEWAY = OptionGroup(
    "Gateway",
    "gateway",
    GatewayOptions,
    (
        Option(
            ["--base-url"],
            metavar="URL",
            default_note="$OPENAI_BASE_URL",
            help="Base URL of the gateway; the official API if none is given.",
        ),
        Option(
            ["--endpoints"],
            metavar="FILE",
            type=PATH,
            help="Send to several gateways, or with several keys, that a TOML file names.",
        ),
        Option(
            ["--sticky"],
            type=click.Choice(["prefix"]),
            metavar="prefix",
            help="Send lines whose prompts begin alike to one of the endpoints, for its prompt cache.",
        ),
        Option(
            ["--api-key-env"], metavar="NAME", default_note="OPENAI_API_KEY", help="Variable that holds the API key."
        ),
        Option(["--api-key-file"], metavar="FILE", type=PATH, help="File that holds the API key."),
        Option(
            ["--auth"],
            type=click.Choice(["bearer", "api-key", "none"]),
            metavar="bearer|api-key|none",
            default_note="bearer",
            help="Send the key as Authorization: Bearer, as the header api-key (Azure), or not at all.",
        ),
        Option(
            ["--header", "headers"], metavar="'NAME: VALUE'", multiple=True, help="Send one more header; repeatable."
        ),
        Option(
            ["--header-env", "header_envs"],
            metavar="NAME=VAR",
            multiple=True,
            help="Send a secret header: its value is in the variable VAR; repeatable.",
        ),
        Option(
            ["--env-file"],
            metavar="FILE",
            type=PATH,
            help="Read variables from a .env file; those that are set already win.",
        ),
        Option(["--proxy"], metavar="URL", help="HTTP proxy. Proxies named in the environment are ignored."),
        Option(
            ["--insecure-http"], is_flag=True, help="Allow http:// to a public host: the API key is sent unencrypted."
        ),
        Option(["--no-keepalive"], is_flag=True, help="Use every connection for one request only."),
        Option(["--simulate"], is_flag=True, help="Simulate a gateway in this process: no key, no network, no cost."),
        Option(
            ["--simulate-latency", "simulate_latency_s"],
            type=FiniteRange(0),
            metavar="S",
            default_note="0.3",
            help="Median latency of that gateway, in seconds.",
        ),
        Option(
            ["--simulate-script"],
            default="",
            metavar="WORDS",
            help='Faults of that gateway, such as "429 ok; reset ok".',
        ),
        Option(
            ["--simulate-answers"],
            metavar="FILE",
            type=PATH,
            default_note="answers are invented",
            help="JSONL or CSV file with the right answers, by custom_id or by input, for that gateway.",
        ),
        Option(
            ["--simulate-accuracy"],
            type=FiniteRange(0, 1),
            metavar="SHARE",
            default_note="1",
            help="Share of lines that get the right answer of that file, from 0 to 1.",
        ),
        Option(
            ["--simulate-mismatches"],
            type=FiniteRange(0, 1),
            default=0.0,
            metavar="SHARE",
            help="Share of requests whose answer does not fit its schema; asked again, it does.",
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class EndpointPrices:
    """The file that names the endpoints of a job, for the prices of each."""

    endpoints: Path | None

    def books(self) -> dict[str, PriceBook]:
        """The prices of the endpoints that have their own, by name. No key is read. Raises `UsageError`."""
        if self.endpoints is None:
            return {}
        from batchrun.job.endpoints import books_of, read_endpoints

        return books_of(read_endpoints(self.endpoints, environ=None))


ENDPOINT_PRICES = OptionGroup(
    "Spending",
    "endpoint_prices",
    EndpointPrices,
    (
        Option(
            ["--endpoints"],
            metavar="FILE",
            type=PATH,
            help="The endpoints that the job was run with, for their prices.",
        ),
    ),
)
