"""The labelling of a table in memory: all of it but the sending, which `batchrun.label` does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from batchrun.billing.pricing import PriceBook
from batchrun.datasets.join import Joined, join
from batchrun.datasets.output import Wanted
from batchrun.datasets.prepare import prepare, used_columns
from batchrun.datasets.recipe import Recipe
from batchrun.datasets.schema import Schema
from batchrun.datasets.tables import Source
from batchrun.job.job import Job
from batchrun.job.resume import Changed
from batchrun.labelling.check import check
from batchrun.labelling.edited import refuse_edited, refuse_other_ids
from batchrun.labelling.frames import Frame
from batchrun.labelling.job_file import JobFile
from batchrun.labelling.paths import LabelPaths
from batchrun.results.files import writing_whole


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of each row: the templates, the schema as a text, and what tells rows apart."""

    prompt: str
    schema: str | None = None
    instructions: str | None = None
    developer: str | None = None
    model: str | None = None
    id_column: str | None = None
    repeat: int = 1

    @property
    def texts(self) -> dict[str, str]:
        """The texts, by the names under which `job.toml` keeps them."""
        names = ("prompt", "schema", "instructions", "developer")
        return {name: text for name in names if (text := getattr(self, name)) is not None}

    @property
    def words(self) -> tuple[str, ...]:
        """The options with which the command goes on with the job; the texts are in `job.toml`."""
        told = {"model": self.model, "id": self.id_column, "repeat": self.repeat if self.repeat > 1 else None}
        options = dict.fromkeys(self.texts, "") | {name: value for name, value in told.items() if value is not None}
        return tuple(f"--{name}={value}" for name, value in options.items())

    @property
    def recipe(self) -> Recipe:
        """How requests are made. Raises `UsageError` for a schema that cannot be used."""
        return Recipe(
            prompt=self.prompt,
            instructions=self.instructions,
            developer=self.developer,
            schema=None if self.schema is None else Schema.parse(self.schema),
            model=self.model,
            id_column=self.id_column,
            repeat=self.repeat,
        )


@contextlib.contextmanager
def asked(
    frame: Frame, question: Question, job: Job, paths: LabelPaths, prefix: str, notice: Callable[[str], None]
) -> Iterator[Callable[[], Any]]:
    """Make the requests for a table in the folder of a job, and hold that; gives what reads the labels once it is sent.

    Raises `UsageError` where answers are there already to a question that was edited, and what `prepare` raises.
    """
    recipe, source = question.recipe, Source(str(paths.folder / "data.jsonl"))
    wanted = Wanted(paths.folder / "labelled.jsonl", (), prefix, PriceBook.load(job.prices), notice)
    with paths.held(locks=not job.no_lock):
        before = JobFile.read(paths.job)
        with writing_whole(Path(source.path)) as file:
            file.writelines(frame.lines())
        data_hash = check(source, recipe, wanted, paths).data_hash
        if not job.overwrite:
            refuse_other_ids(paths, used_columns(source, recipe), question.id_column)
            if before is not None and job.changed is Changed.REFUSE:
                refuse_edited(paths, before.texts, question.texts, wanted.prices)
        told = JobFile(source.path, data_hash, question.words, (), str(Path.cwd()), question.texts, is_approved=True)
        told.write(paths.job)
        prepare(source, recipe, paths.requests)

        def labelled() -> Any:
            join(Joined(source, paths.results, paths.requests, votes=question.repeat > 1), wanted)
            return frame.extended(_new_columns(frame, wanted.out))

        yield labelled


def schema_text(schema: str | Mapping[str, object] | None) -> str | None:
    """The schema as a text: the short form, or JSON."""
    return schema if schema is None or isinstance(schema, str) else orjson.dumps(dict(schema)).decode()


def _new_columns(frame: Frame, labelled: Path) -> dict[str, list[Any]]:
    """The columns of the labelled table that the one that was given does not have."""
    given, columns = set(frame.columns), dict[str, list[Any]]()
    with labelled.open("rb") as lines:
        for line in lines:
            for name, value in orjson.loads(line).items():
                if name not in given:
                    columns.setdefault(name, []).append(value)
    return columns
