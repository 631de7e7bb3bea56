"""The words of `batchrun label`: those of the command line, and before them those that the job was told earlier."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.verb import Verb
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from batchrun.labelling.job_file import JobFile

_ONCE = ("retry_errors", "overwrite")  # what is meant for one run, not for those that go on with it
_LOGINS = ("proxy",)  # options whose address may hold a login; that of the gateway must not
_NO_OPTIONS = ("data", "help")


@dataclass(frozen=True, slots=True)
class Begun:
    """What a job goes on with. `options`: all its words but the table; `left_out`: options that are not kept.

    `texts`: the prompt and the like as they were, where they were not given again. `before`: all of them as they were,
    and `data_hash`: that of the table when the job was last begun; None where it was not. `is_approved`: somebody has
    agreed to the job, and nothing is said now that might change it.
    """

    options: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, str] | None = None
    data_hash: str | None = None
    is_approved: bool = False

    def job_file(self, data: str, data_hash: str, texts: Mapping[str, str], gold: Mapping[str, str]) -> JobFile:
        """What is kept of it."""
        from batchrun.labelling.job_file import JobFile

        return JobFile(data, data_hash, self.options, self.left_out, str(Path.cwd()), texts, gold)


class LabelVerb(Verb):
    """A verb that takes its words from the job that it goes on with, where only that is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words, those of the job before them. Raises `UsageError` where it cannot go on."""
        given = self._given(ctx, args)
        old = self._begun(given)
        if old is not None and "data" not in given:
            args = [*old.options, *self._words(ctx, given), "--", old.data]
        elif old is not None and "prompt" not in given:
            alone = f"-o {given['out']} alone goes on with the job that was begun there"
            raise UsageError(f"-p is missing; {alone}, and -p asks the rows something else")
        told = self._given(ctx, args)
        rest = super().parse_args(ctx, args)
        left_out = tuple(f"--{name.replace('_', '-')}" for name in _LOGINS if "@" in told.get(name, ""))
        kept = {name: value for name, value in told.items() if name not in _LOGINS or "@" not in value}
        texts = {} if old is None or "data" in given else {n: t for n, t in old.texts.items() if n not in given}
        words = tuple(self._words(ctx, {name: value for name, value in kept.items() if name not in _ONCE}))
        is_approved = old is not None and old.is_approved and not set(given) - {"out", *_LOGINS}
        was = (old.texts, old.data_hash, is_approved) if old is not None else ()
        ctx.params["begun"] = Begun(words, left_out, texts, *was)
        return rest

    def _given(self, ctx: click.Context, args: list[str]) -> dict[str, Any]:
        """What the words say, by the names of the parameters, as it is written."""
        found, _, _ = self.make_parser(ctx).parse_args(list(args))
        return {name: value for name, value in found.items() if isinstance(value, (str, list, tuple, bool))}

    def _begun(self, given: Mapping[str, Any]) -> JobFile | None:
        """What the job was told; None where it has not begun. Raises `UsageError` where it can only go on."""
        from batchrun.labelling.job_file import JobFile
        from batchrun.labelling.paths import LabelPaths

        if "out" not in given or "help" in given:
            return None
        paths = LabelPaths.beside(Path(given["out"]))
        if "data" in given:
            with contextlib.suppress(UsageError):  # the whole command is there, and takes the place of what is damaged
                return JobFile.read(paths.job)
            return None
        old = JobFile.read(paths.job)
        if old is None:
            raise UsageError(f"{paths.job} is not there, so there is no job to go on with; name DATA and -p")
        if old.directory != str(Path.cwd()):
            raise UsageError(f"the job was begun in {old.directory}; go on with it there")
        given_names = [f"--{name.replace('_', '-')}" for name in given]
        if lacking := [name for name in old.left_out if name not in given_names]:
            raise UsageError(f"{lacking[0]} is not kept, because it holds a login; pass it again")
        return old

    def _words(self, ctx: click.Context, given: Mapping[str, Any]) -> Iterator[str]:
        """Options as one word each, whichever way they were written."""
        for param in self.get_params(ctx):
            if param.name in _NO_OPTIONS or param.name not in given:
                continue
            value, name = given[param.name], max(param.opts, key=len)
            if isinstance(value, bool):
                yield name if value else param.secondary_opts[0]
            else:
                for one in [value] if isinstance(value, str) else value:
                    yield from (name, *one) if isinstance(one, tuple) else (f"{name}={one}",)
