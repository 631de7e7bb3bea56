"""`batchrun.label`: a table in memory to the same table with labels: prepare, run and join, as the command does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson

from batchrun import checks
from batchrun.api import run
from batchrun.billing.pricing import PriceBook
from batchrun.datasets.join import Joined, join
from batchrun.datasets.output import Wanted
from batchrun.datasets.prepare import prepare, used_columns
from batchrun.datasets.recipe import Recipe
from batchrun.datasets.schema import Schema
from batchrun.datasets.tables import Source
from batchrun.engine.observer import Observer, Silent
from batchrun.errors import StopError
from batchrun.job.job import Job
from batchrun.job.resume import Changed
from batchrun.labelling.check import check
from batchrun.labelling.edited import refuse_edited, refuse_other_ids
from batchrun.labelling.frames import Frame, frame_of
from batchrun.labelling.job_file import JobFile
from batchrun.labelling.paths import LabelPaths
from batchrun.results.files import writing_whole
from batchrun.transport.endpoint import Endpoint

T = TypeVar("T")


def label(
    data: T,
    prompt: str,
    schema: str | Mapping[str, object] | None = None,
    *,
    folder: str | os.PathLike[str],
    endpoint: Endpoint,
    model: str | None = None,
    instructions: str | None = None,
    developer: str | None = None,
    id_column: str | None = None,
    repeat: int = 1,
    prefix: str = "",
    observer: Observer | None = None,
    progress: bool = False,
    **settings: Any,
) -> T:
    """Label every row of a table, and give back a copy of it with the labels.

    `data`: a list of dicts, a pandas or a polars DataFrame; the copy is of the same kind, its rows in the same order.
    Its new columns are the fields of the schema, or `answer` without one, then `_status` (`ok`, or why there is no
    label) and `_error`. `prefix` begins their names.

    `prompt`, `instructions`, `developer`: templates, in which columns are variables. `schema`: the short form, or a
    JSON schema as a text or a dict. `id_column`: the column with an id for each row; None makes ids of the cells that
    the requests use. `repeat`: how often each row is asked; the answers are folded into one.

    `folder`: where all that is sent and answered is kept, as the command keeps it. It is made if it is not there. The
    same call goes on from there, whenever it was stopped: rows that have an answer are not sent again.

    `settings`: any further fields of `Job`, such as `limits`, `max_cost_usd`, `changed` or `simulate`. `observer`,
    `progress`: as in `run`.

    Raises what `run` raises where the job cannot begin, `StopError` where it stopped early; then the answers so far
    are in the folder. Rows that failed raise nothing: their `_status` says so.
    """
    frame, watcher = frame_of(data), observer or Silent()
    paths = LabelPaths(Path(checks.path("folder", folder)).absolute())
    recipe = Recipe(
        prompt=checks.text("prompt", prompt, "a template, such as 'Which team? {{ text }}'"),
        instructions=instructions,
        developer=developer,
        schema=None if schema is None else Schema.parse(_text(schema)),
        model=model,
        id_column=id_column,
        repeat=checks.count("repeat", repeat),
    )
    job = Job(paths.requests, paths.results, endpoint, **settings)
    source = Source(str(paths.folder / "data.jsonl"))
    wanted = Wanted(paths.folder / "labelled.jsonl", (), prefix, PriceBook.load(job.prices), watcher.notice)
    with paths.held(locks=not job.no_lock):
        before = JobFile.read(paths.job)
        with writing_whole(Path(source.path)) as file:
            file.writelines(frame.lines())
        data_hash = check(source, recipe, wanted, paths).data_hash
        told = JobFile(source.path, data_hash, _words(recipe), (), str(Path.cwd()), _texts(recipe, schema), {}, True)
        if not job.overwrite:
            refuse_other_ids(paths, used_columns(source, recipe), id_column)
            if before is not None and job.changed is Changed.REFUSE:
                refuse_edited(paths, before.texts, told.texts, wanted.prices)
        told.write(paths.job)
        prepare(source, recipe, paths.requests)
        report = run(job, observer, progress=progress).report
        if report.stopped is not None:
            raise StopError(f"{report.stopped}; the answers so far are in {paths.folder}, and the same call goes on")
        join(Joined(source, paths.results, paths.requests, votes=repeat > 1), wanted)
        labelled: T = frame.extended(_new_columns(frame, wanted.out))
        return labelled


def _text(schema: str | Mapping[str, object]) -> str:
    return schema if isinstance(schema, str) else orjson.dumps(dict(schema)).decode()


def _texts(recipe: Recipe, schema: str | Mapping[str, object] | None) -> dict[str, str]:
    """The texts of the job, by the names under which `job.toml` keeps them."""
    texts = {
        "prompt": recipe.prompt,
        "schema": None if schema is None else _text(schema),
        "instructions": recipe.instructions,
        "developer": recipe.developer,
    }
    return {name: text for name, text in texts.items() if text is not None}


def _words(recipe: Recipe) -> tuple[str, ...]:
    """The options with which the command would go on with this job."""
    options = {"--prompt": "", "--schema": "" if recipe.schema else None, "--instructions": recipe.instructions}
    options |= {"--developer": recipe.developer, "--model": recipe.model, "--id": recipe.id_column}
    return tuple(f"{name}={value}" for name, value in options.items() if value is not None) + (
        (f"--repeat={recipe.repeat}",) if recipe.repeat > 1 else ()
    )


def _new_columns(frame: Frame, labelled: Path) -> dict[str, list[Any]]:
    """The columns of the labelled table that the one that was given does not have."""
    given, columns = set(frame.columns), dict[str, list[Any]]()
    with labelled.open("rb") as lines:
        for line in lines:
            for name, value in orjson.loads(line).items():
                if name not in given:
                    columns.setdefault(name, []).append(value)
    return columns
