"""How the requests of a result file were made, as far as the files beside it tell: ids, schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from batchrun.datasets.labels import LabelReader
from batchrun.datasets.prepared import Prepared, read_prepared
from batchrun.datasets.requests_of import find_requests, sent_as
from batchrun.datasets.row import Row
from batchrun.datasets.row_ids import RowKeys, given_id
from batchrun.errors import InputError, UsageError
from batchrun.evaluation.as_text import as_text
from batchrun.evaluation.fields import scorer_of_schema
from batchrun.evaluation.scorers import JSON, Scorer
from batchrun.records.index import HashTable, hash64
from batchrun.records.request import RESPONSES, Overrides
from batchrun.requests.reader import RequestFile
from batchrun.results.parts import is_directory_of_results
from batchrun.validation.schema import wanted_schema

RESULTS_OF_JOB = "results.jsonl"


def results_in(path: Path) -> Path:
    """The result file itself, a directory of results, or the file of the folder of a job.

    Raises `UsageError` for another folder.
    """
    if not path.is_dir() or is_directory_of_results(path):
        return path
    inside = path / RESULTS_OF_JOB
    if not inside.is_file():
        raise UsageError(f"{path} is a folder without {RESULTS_OF_JOB}; name a result file")
    return inside


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known: how the requests were `prepared`, None where they were not; `schema` of the answers, if any.

    `is_found`: whether there is a request file.
    """

    prepared: Prepared | None = None
    schema: Mapping[str, Any] | None = None
    is_found: bool = True

    @classmethod
    def of(cls, results: Path, requests: Path | None = None) -> Asked:
        """From the files beside a result file. `requests`: the file of its requests, None to find it.

        Raises `UsageError` where what was prepared is damaged, or the named file does not exist.
        """
        requests = find_requests(results, requests)
        if requests is None:
            return cls(is_found=False)
        prepared = read_prepared(requests)
        schema = _first_schema(requests) if prepared is None else (prepared.format or {}).get("schema")
        return cls(prepared, schema if isinstance(schema, dict) else None)

    def scorers(self) -> dict[str, Scorer | None]:
        """The scorer of each field and object of the schema, None where the schema does not say what it is."""
        return {name: scorer_of_schema(told) for name, told in members(self.schema or {})}

    @property
    def is_closed(self) -> bool:
        """Whether the schema tells of every field, so that no answer that fits has another one."""
        schemas = [self.schema or {}, *(told for _, told in members(self.schema or {}))]
        objects = [told for told in schemas if "properties" in told]
        return (
            bool(objects)
            and None not in self.scorers().values()
            and JSON not in [scorer_of_schema(told) for told in schemas if "properties" not in told]
            and all(told.get("additionalProperties") is False for told in objects)
        )

    def reader(self) -> LabelReader | None:
        """Reads answers as `join` does: one that misses its schema is none. None where not all have the schema."""
        if self.prepared is None or self.schema is None:
            return None
        return LabelReader(orjson.dumps(self.schema), lambda text: None)

    def labels(self, field: str) -> list[str]:
        """The labels of a field in the order of its enum; none where the schema has no enum for it."""
        for name, told in leaves(self.schema or {}):
            if name == field and isinstance(told.get("enum"), list):
                return [as_text(label) or "" for label in told["enum"] if label is not None]
        return []

    def order(self, field: str) -> list[str]:
        """The same, for a field that must have an enum. Raises `UsageError` where it has none."""
        if not (labels := self.labels(field)):
            raise UsageError(
                f"--ordinal {field}: the schema of the requests has no enum for it, whose order would count"
            )
        return labels


def members(schema: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The members of a schema of objects, and theirs: `a`, and `a.b` where they are nested."""
    properties = schema.get("properties")
    for name, told in properties.items() if isinstance(properties, dict) else ():
        if isinstance(told, dict):
            yield f"{prefix}{name}", told
            yield from members(told, f"{prefix}{name}.")


def leaves(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The fields of a schema of objects, without those that have fields themselves."""
    return (pair for pair in members(schema) if not isinstance(pair[1].get("properties"), dict))


def ids_of_requests(results: Path) -> list[str]:
    """The ids of the requests of a result file; none where its request file is not known, or not as it was any more."""
    if (requests := find_requests(results, None)) is None:
        return []
    found, sent = list[str](), sent_as(results) or Overrides()
    try:
        with RequestFile(str(requests), replace(sent, model=sent.model or "any")) as file:  # nothing is sent
            file.check(lambda line: found.append(line.custom_id))
    except (InputError, UsageError):
        return []
    return found


def _first_schema(requests: Path) -> Any:
    """The schema that the first request asks its answer to fit; None where none can be read."""
    try:
        with requests.open("rb") as file:
            line = orjson.loads(file.readline())
        body = line.get("body", line)
        return orjson.loads(wanted_schema(line.get("url", RESPONSES), orjson.dumps(body)) or b"null")
    except (OSError, ValueError, AttributeError):  # compressed, or no request file any more
        return None


# -------------------------------------------------------------------------------------------------- the ids


class IdColumn:
    """The ids of rows as a column has them, as `prepare --id` takes them. `rule`: equal where two give the same ids."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rule: tuple[object, ...] = (name,)

    def of(self, row: Row) -> str:
        """The id of a row. Raises `ValueError` in words for one without."""
        try:
            return given_id(self.name, row.cells.get(self.name))
        except ValueError:
            raise ValueError(f"{self.name} is empty or no text; write the custom_id of its request") from None


class IdOfCells:
    """The ids of rows as `prepare` makes them of the cells that the requests use; equal rows are told apart.

    `rule`: equal where two give the same ids.
    """

    name = "id"

    def __init__(self, prepared: Prepared) -> None:
        self._keys = RowKeys(prepared.columns)
        self._has_where = prepared.where is not None
        self.rule: tuple[object, ...] = (prepared.columns, self._has_where)
        self._counts = HashTable()  # how many rows are equal so far, by the hash of their id

    def of(self, row: Row) -> str:
        """The id of a row. Raises `ValueError` in words where it cannot be told."""
        custom_id = RowKeys.custom_id(self._keys.key(row.cells))
        key = hash64(custom_id)
        count = (self._counts.get(key) or 0) + 1
        self._counts.set(key, count)
        if count == 1:
            return custom_id
        if self._has_where:
            raise ValueError("it equals an earlier row in what was asked, and --where chose among them; pass --key")
        return f"{custom_id}-{count}"
