"""The ids of rows: made of the cells that the requests use, so that a row keeps its answer wherever it stands.

Equal rows are told apart by their order: `row-…`, then `row-…-2`, `row-…-3`.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from batchrun.records.index import HashTable, digest, hash64

_START = '{"custom_id":"'
_ID = slice(len(_START), len(_START) + 20)  # "row-" and 16 hex digits
_KEY = slice(len(_START) + 4, len(_START) + 20)


class RowKeys:
    """What tells rows apart: the cells of the columns that are used, with the names of these columns."""

    def __init__(self, used: Sequence[str]) -> None:
        self._used = used
        self._names = orjson.dumps(used)

    def key(self, cells: Mapping[str, Any]) -> bytes:
        """Equal for two rows if their used cells are. A cell that is missing is like null."""
        values = [cells.get(name) for name in self._used]
        try:
            return self._names + orjson.dumps(values, option=orjson.OPT_PASSTHROUGH_SUBCLASS, default=_written)
        except TypeError:  # whole numbers beyond 64 bits
            return self._names + json.dumps(values, default=_written).encode()

    @staticmethod
    def custom_id(key: bytes) -> str:
        """The id of the row with this key, not yet told apart from that of an equal row."""
        return "row-" + digest(key)


def given_id(column: str, cell: Any) -> str:
    """The id that a column gives a row: its cell as it stands, blanks and all. Raises `ValueError` in words."""
    if isinstance(cell, (dict, list, bool)) or cell is None or not str(cell).strip():
        raise ValueError(f'the id in "{column}" is empty or no text; write a unique one')
    return str(cell)


def _written(value: Any) -> str:
    """How a value counts that JSON has no word for: bytes by their hash, others as they are written."""
    return digest(value) if isinstance(value, bytes) else str(value)


def with_repeats(custom_id: str, repeat: int) -> Iterable[str]:
    """The ids of the requests of one row: `id#1`, `id#2`, … where it is asked several times."""
    return (custom_id,) if repeat == 1 else [f"{custom_id}#{asked}" for asked in range(1, repeat + 1)]


def numbered(lines: Iterable[bytes], repeat: int, repeated: Container[int]) -> Iterator[bytes]:
    """The request lines of rows whose ids are made of cells, those of equal rows told apart.

    `repeated`: the `hash64` of every id that occurs more than once; only those are counted.
    """
    occurrences = HashTable()
    for line in lines:
        if hash64(line[_ID].decode()) in repeated:
            key = int(line[_KEY], 16) or 1
            count = occurrences.get(key) or 0
            occurrences.set(key, count + 1)
            if (occurrence := count // repeat + 1) > 1:
                line = b"%s-%d%s" % (line[: _KEY.stop], occurrence, line[_KEY.stop :])
        yield line
