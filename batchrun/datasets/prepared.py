"""What stands beside prepared requests, `requests.jsonl.prepared.json`: how they were made of which table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import orjson

from batchrun.errors import UsageError

VERSION = 1


class Data(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table: its name as it was given, its format, the hash of its content, and how it is to be read."""

    name: str
    format: str
    hash: str
    encoding: str | None = None
    delimiter: str | None = None


class PreparedExamples(msgspec.Struct, frozen=True):
    """The examples before each row: their table, and the column that has the answers; "" of a file of corrections."""

    data: Data
    answer: str


class JudgedFile(msgspec.Struct, frozen=True):
    """The result file whose answers the requests ask about: its name, and the hash of its content."""

    name: str
    hash: str


class Prepared(msgspec.Struct, frozen=True, omit_defaults=True):
    """How requests were made. `columns` are those that they use, in the order of the table.

    `id_column` None: the ids are made of the cells of `columns`. `prompt`, `instructions` and `developer` are
    templates. `format` is the `text.format` of the requests. `rows` were taken, of which `requests` were made.
    `judged`: of requests to a judge, the answers that are judged.
    """

    v: int
    data: Data
    columns: list[str]
    rows: int
    requests: int
    prompt: str
    id_column: str | None = None
    instructions: str | None = None
    developer: str | None = None
    format: dict[str, Any] | None = None
    model: str | None = None
    set: dict[str, msgspec.Raw] = {}
    examples: PreparedExamples | None = None
    images: list[str] = []
    where: str | None = None
    limit: int | None = None
    repeat: int = 1
    missing_is_empty: bool = False
    judged: JudgedFile | None = None

    def to_json(self) -> bytes:
        """It as indented JSON."""
        return orjson.dumps(orjson.Fragment(msgspec.json.format(msgspec.json.encode(self), indent=2))) + b"\n"


def prepared_path(requests: Path) -> Path:
    """Where it stands beside a request file."""
    return requests.with_name(f"{requests.name}.prepared.json")


def read_prepared(requests: Path) -> Prepared | None:
    """How a request file was made; None where nothing stands beside it. Raises `UsageError` where it cannot be read."""
    path = prepared_path(requests)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        if msgspec.json.decode(data, type=_Version).v != VERSION:
            raise UsageError(f"{path} was made by another version of batchrun; prepare the requests again")
        return msgspec.json.decode(data, type=Prepared)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({error}); prepare the requests again") from None


class _Version(msgspec.Struct):
    v: int
