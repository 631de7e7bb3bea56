"""`job.toml`: what a labelling job was told, so that it can go on without being told again. No secret is in it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from batchrun.errors import UsageError
from batchrun.results.files import replace_whole

VERSION = 1


@dataclass(frozen=True, slots=True)
class JobFile:
    """What a job was told. `data`: the table, as it was named; `data_hash`: the hash of its content.

    `options`: the words of the command, without the table. `left_out`: options that may hold a secret, and are to be
    given again. `directory`: where relative paths begin. `texts`: the prompt, the schema and the like as they were, by
    name. `gold`: by field, the column of the table that has its right answers. `is_approved`: somebody has seen the
    preview of this job as it is, and agreed.
    """

    data: str
    data_hash: str
    options: tuple[str, ...]
    left_out: tuple[str, ...]
    directory: str
    texts: Mapping[str, str]
    gold: Mapping[str, str] = field(default_factory=dict)
    is_approved: bool = False

    def approved(self) -> JobFile:
        """The same, for a job that need not ask any more."""
        return replace(self, is_approved=True)

    def write(self, path: Path) -> None:
        """Write it, whole or not at all. Raises `UsageError`."""
        try:
            replace_whole(path, self._to_toml().encode())
        except UnicodeEncodeError:
            raise UsageError("a name or an option is not UTF-8, so that the job could not go on; rename it") from None
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error

    def _to_toml(self) -> str:
        return "\n".join(
            [
                f"v = {VERSION}",
                f"options = {_list(self.options)}",
                f"left_out = {_list(self.left_out)}",
                f"directory = {_text(self.directory)}",
                f"approved = {'true' if self.is_approved else 'false'}",
                "",
                "[data]",
                f"name = {_text(self.data)}",
                f"hash = {_text(self.data_hash)}",
                "",
                "[gold]",
                *(f"{_text(name)} = {_text(column)}" for name, column in self.gold.items()),
                "",
                "[texts]",
                *(f"{name} = {_text(text)}" for name, text in self.texts.items()),
                "",
            ]
        )

    @classmethod
    def read(cls, path: Path) -> JobFile | None:
        """What a job was told; None where there is no such file. Raises `UsageError` where it cannot be used."""
        try:
            told = tomllib.loads(path.read_bytes().decode())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise _damaged(path, str(error)) from None
        if told.get("v") != VERSION:
            raise UsageError(f"{path} was written by another version of batchrun; give the whole command again")
        try:
            return cls._of(told)
        except (KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, f"{error}") from None

    @classmethod
    def _of(cls, told: dict[str, Any]) -> JobFile:
        data = told["data"]
        options, left_out = tuple(map(str, told["options"])), tuple(map(str, told["left_out"]))
        texts = {name: str(text) for name, text in told["texts"].items()}
        gold = {name: str(column) for name, column in told.get("gold", {}).items()}
        directory, is_approved = str(told["directory"]), told["approved"] is True
        return cls(str(data["name"]), str(data["hash"]), options, left_out, directory, texts, gold, is_approved)


def _damaged(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} is damaged ({why}); give the whole command again")


def _text(text: str) -> str:
    """A basic string of TOML: that of JSON, but for one character that JSON need not escape."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(texts: Sequence[str]) -> str:
    if not texts:
        return "[]"
    return "[\n" + "".join(f"  {_text(text)},\n" for text in texts) + "]"
