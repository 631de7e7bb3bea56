"""Several endpoints for one job, as the user names them in a TOML file (`--endpoints FILE`) or in Python.

Everything wrong with the file is a `UsageError` that names the endpoint and the key. No message repeats an API key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from batchrun import checks
from batchrun.billing.pricing import PriceBook
from batchrun.errors import InputError, UsageError
from batchrun.limits.options import Concurrency, Limits
from batchrun.records.words import counted, printable
from batchrun.requests.problems import Problems
from batchrun.transport.endpoint import AUTHS, Endpoint, check_endpoint, check_key, check_proxy, is_secret

LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """One of several endpoints of a job.

    `name`: how records, reports and messages call it: letters, digits, `-`, `_` and `.`, at most 40.
    `endpoint`: its address and key.
    `weight`: its share of the lines while others have room, too; above 0.
    `tier`: from 1; a higher tier is used only while no endpoint of a lower one is open.
    `limits`: requests in flight, requests and tokens a minute at this endpoint alone.
    `max_cost_usd`: the most that lines sent here may cost, over all runs, in US dollars; None is no cap.
    `models`: the models that it serves, as patterns such as `gpt-4.1*`; without any, it serves all.
    `rename`: what it calls models, by their names in the requests.
    `prices`: path of a price file for what is sent here; None uses the job's prices.

    Raises `UsageError` for a value that is none of these.
    """

    name: str
    endpoint: Endpoint
    weight: float = 1.0
    tier: int = 1
    limits: Limits = Limits()
    max_cost_usd: Decimal | None = None
    models: Sequence[str] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    prices: Path | None = None

    def __post_init__(self) -> None:
        """Check every value, and read it in its one form."""
        name = checks.text("NamedEndpoint.name", self.name, 'a name such as "a"')
        if len(name) > LONGEST_NAME or not name.isascii() or not all(char.isalnum() or char in "-_." for char in name):
            raise checks.refused("NamedEndpoint.name", name, "letters, digits, - _ and ., 40 at most")
        checks.instance("NamedEndpoint.endpoint", self.endpoint, Endpoint, "Endpoint(…)")
        checks.instance("NamedEndpoint.limits", self.limits, Limits, "Limits(…)")
        checks.settle(
            self,
            weight=checks.number("NamedEndpoint.weight", self.weight, "a number above 0, such as 2", above=True),
            tier=checks.count("NamedEndpoint.tier", self.tier),
            models=tuple(checks.text("a model of NamedEndpoint", one, "a name or pattern") for one in self.models),
        )
        if self.max_cost_usd is not None:
            checks.settle(self, max_cost_usd=checks.usd("NamedEndpoint.max_cost_usd", self.max_cost_usd))
        if self.prices is not None:
            checks.settle(self, prices=checks.path("NamedEndpoint.prices", self.prices))
        for old, new in self.rename.items():
            checks.text(f"NamedEndpoint.rename[{old!r}]", new, "the name of a model")

    def serves(self, model: str) -> bool:
        """Whether it has that model, by its name in the requests."""
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)


def as_endpoints(value: object) -> tuple[NamedEndpoint, ...]:
    """Endpoints from a list of them. Raises `UsageError`."""
    expected = 'a list of NamedEndpoint("a", Endpoint(…))'
    if not isinstance(value, (list, tuple)) or not value:
        raise checks.refused("endpoints", value, expected)
    endpoints = tuple(checks.instance("endpoints", one, NamedEndpoint, expected) for one in value)
    _refuse_doubles(endpoints)
    return endpoints


def read_endpoints(path: Path, environ: Mapping[str, str] | None) -> tuple[NamedEndpoint, ...]:
    """The endpoints that a TOML file names; their keys come from `environ`, or from files. None leaves the keys out.

    Raises `UsageError` for a file that cannot be read, or anything in it that is not as it should be.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    if unknown := [name for name in tables if name != "endpoint"]:
        raise UsageError(f"{path}: unknown {unknown[0]!r}; write each endpoint as [[endpoint]]")
    found = tables.get("endpoint")
    if not isinstance(found, list) or not found or not all(isinstance(table, dict) for table in found):
        raise UsageError(f"{path} names no endpoint; write each of them as [[endpoint]], with name and base_url")
    endpoints = tuple(_Table(path, number, table, environ).endpoint() for number, table in enumerate(found, 1))
    _refuse_doubles(endpoints, f"{path}: ")
    return endpoints


def _refuse_doubles(endpoints: Sequence[NamedEndpoint], where: str = "") -> None:
    names = [one.name for one in endpoints]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{where}two endpoints are called {double!r}; give each a name of its own")


def lowest_tier(endpoints: Sequence[NamedEndpoint], model: str) -> list[NamedEndpoint]:
    """Those that serve a model first: those of the lowest tier that has it."""
    serving = [one for one in endpoints if one.serves(model)]
    lowest = min((one.tier for one in serving), default=1)
    return [one for one in serving if one.tier == lowest]


def books_of(endpoints: Sequence[NamedEndpoint]) -> dict[str, PriceBook]:
    """The prices of those that have their own. Raises `UsageError` for a price file that is not valid."""
    return {one.name: PriceBook.load(one.prices) for one in endpoints if one.prices is not None}


def refuse_unserved(endpoints: Sequence[NamedEndpoint], models: Mapping[str, int]) -> None:
    """Raise `UsageError` if lines are for a model that no endpoint serves. `models`: lines by model."""
    unserved = [model for model in models if endpoints and not any(one.serves(model) for one in endpoints)]
    if unserved:
        lines = counted(models[unserved[0]], "line")
        raise UsageError(f"no endpoint serves {printable(unserved[0])} ({lines}); add it to the models of one")


def refuse_misnamed(endpoints: Sequence[NamedEndpoint], named: Mapping[tuple[str, str], int], file: str) -> None:
    """Raise `InputError` if a line of `file` names an endpoint that there is not, or that does not serve its model.

    `named`: the first line that names each endpoint with each model.
    """
    problems, by_name = Problems(file), {one.name: one for one in endpoints}
    for (name, model), number in named.items():
        if not endpoints:
            problems.add(number, f'"endpoint" is "{name}"; name the endpoints with --endpoints FILE, or take it out')
        elif name not in by_name:
            problems.add(number, f'"endpoint" is "{name}", which there is not; there are {", ".join(by_name)}')
        elif not by_name[name].serves(model):
            problems.add(number, f'"endpoint" is "{name}", which does not serve {model}; add that to its models')
    if problems:
        raise InputError(*problems.first())


@dataclass(frozen=True, slots=True)
class _Table:
    """One `[[endpoint]]` of a file. Its methods raise `UsageError`."""

    path: Path
    number: int
    values: dict[str, Any]
    environ: Mapping[str, str] | None

    @property
    def _who(self) -> str:
        name = self.values.get("name")
        return f"{self.path}: endpoint {name if isinstance(name, str) and name else self.number}"

    def endpoint(self) -> NamedEndpoint:
        """The endpoint that the table describes."""
        for key in self.values:
            if key not in _EXPECTED:
                close = get_close_matches(key, _EXPECTED, 1)
                meant = f"did you mean {close[0]!r}?" if close else f"write one of {', '.join(_EXPECTED)}"
                raise UsageError(f"{self._who}: unknown key {key!r}; {meant}")
            self._check(key)
        for key in ("name", "base_url"):
            if key not in self.values:
                raise UsageError(f'{self._who} has no {key}; write {key} = "{_EXPECTED[key][1]}"')
        try:
            return self._made()
        except UsageError as error:
            raise UsageError(f"{self._who}: {error}") from None

    def _check(self, key: str) -> None:
        is_as_expected, example = _EXPECTED[key]
        if not is_as_expected(self.values[key]):
            shown = f" is a {_kind(self.values[key])}" if key in _MAY_BE_SECRET else f" is {self.values[key]!r}"
            raise UsageError(f"{self._who}: {key}{shown[:80]}; write it like {key} = {_written(example)}")

    def _made(self) -> NamedEndpoint:
        given, with_keys = self.values, self.environ is not None
        concurrency, max_cost_usd = given.get("concurrency", "auto"), given.get("max_cost_usd")
        if with_keys and given.get("proxy"):
            check_proxy(given["proxy"])
        endpoint = Endpoint(
            base_url=given["base_url"],
            api_key=self._key() if with_keys else "",
            proxy=given.get("proxy"),
            auth=given.get("auth", "bearer"),
            headers=self._headers(),
            secret_headers=self._secret_headers() if with_keys else {},
        )
        check_endpoint(endpoint)
        return NamedEndpoint(
            name=given["name"],
            endpoint=endpoint,
            weight=given.get("weight", 1.0),
            tier=given.get("tier", 1),
            limits=Limits(Concurrency.of(concurrency), given.get("rpm"), given.get("tpm")),
            max_cost_usd=None if max_cost_usd is None else Decimal(str(max_cost_usd)),
            models=given.get("models", ()),
            rename=given.get("rename", {}),
            prices=self._beside(given["prices"]) if "prices" in given else None,
        )

    def _beside(self, name: str) -> Path:
        """A path, which is relative to the folder of the file."""
        return self.path.parent / name

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = self.values.get("headers", {})
        if secret := next((name for name in headers if is_secret(name)), None):
            raise UsageError(f"the header {secret} is a secret; put it into a variable, and write header_env")
        return headers

    def _secret_headers(self) -> dict[str, str]:
        return {name: self._variable(variable, f"header {name}") for name, variable in self._header_envs.items()}

    @property
    def _header_envs(self) -> dict[str, str]:
        headers: dict[str, str] = self.values.get("header_env", {})
        return headers

    def _key(self) -> str:
        given = self.values
        if "api_key_env" in given and "api_key_file" in given:
            raise UsageError("api_key_env does nothing beside api_key_file; leave one out")
        if given.get("auth") == "none" or any(name.lower() == "authorization" for name in self._header_envs):
            return ""
        if "api_key_file" not in given:
            return check_key(self._variable(given.get("api_key_env", "OPENAI_API_KEY"), "key"), "its variable")
        file = self._beside(given["api_key_file"])
        try:
            return check_key(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"cannot read the key from {file}: {reason}") from None

    def _variable(self, name: str, what: str) -> str:
        value = (self.environ or {}).get(name, "").strip()
        if value:
            return value
        shown = name if name.isupper() and len(name) <= LONGEST_NAME else "the variable that it names"  # may be a key
        raise UsageError(f"no {what}: set {shown}, or name another variable or a file (api_key_env, api_key_file)")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_concurrency(value: Any) -> bool:
    try:
        Concurrency.of(value)
    except UsageError:
        return False
    return isinstance(value, (int, str))


_EXPECTED: dict[str, tuple[Callable[[Any], bool], Any]] = {
    "name": (_is_text, "a"),
    "base_url": (_is_text, "https://gateway.example/v1"),
    "api_key_env": (_is_text, "KEY_A"),
    "api_key_file": (_is_text, "key-a.txt"),
    "auth": (lambda value: value in AUTHS, "api-key"),
    "header_env": (_is_table, {"x-team-key": "TEAM_KEY"}),
    "headers": (_is_table, {"x-team": "batch"}),
    "proxy": (_is_text, "http://proxy.example:3128"),
    "weight": (_is_number, 2),
    "tier": (lambda value: type(value) is int and value >= 1, 1),
    "concurrency": (_is_concurrency, "auto"),
    "rpm": (_is_number, 3000),
    "tpm": (_is_number, 2000000),
    "max_cost_usd": (_is_number, 20),
    "models": (_is_texts, ["gpt-4.1*"]),
    "rename": (_is_table, {"gpt-4.1": "openai/gpt-4.1"}),
    "prices": (_is_text, "prices-a.toml"),
}
"""The keys of an endpoint: what a value must be, and an example."""

_MAY_BE_SECRET = ("api_key_env", "api_key_file", "header_env", "headers", "proxy", "base_url")


def _kind(value: Any) -> str:
    return {str: "text", dict: "table", list: "list", bool: "boolean"}.get(type(value), "number")


def _written(example: Any) -> str:
    """An example as TOML."""
    if isinstance(example, dict):
        return "{ " + ", ".join(f'"{name}" = "{value}"' for name, value in example.items()) + " }"
    if isinstance(example, list):
        return "[" + ", ".join(f'"{value}"' for value in example) + "]"
    return f'"{example}"' if isinstance(example, str) else str(example)
