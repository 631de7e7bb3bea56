"""What the check of a request file found, in numbers, and what its user may not have meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from batchrun.records.request import Overrides
from batchrun.records.words import counted


@dataclass(slots=True)
class Survey:
    """What the check found in the file.

    `lines` counts the requests (blank lines are none), `body_bytes` the bytes of their bodies, `streams` the lines
    with `"stream": true`, `repeated` the bare bodies that equal an earlier one. `models` and `endpoints` count lines.
    `prompts` counts the lines with a `prompt` and nothing that their endpoint reads; `first_prompt` is the first one.
    `named` has the endpoints that lines name beside their body, each with a model, and the first line that does so.
    """

    lines: int = 0
    body_bytes: int = 0
    streams: int = 0
    repeated: int = 0
    models: Counter[str] = field(default_factory=Counter)
    endpoints: Counter[str] = field(default_factory=Counter)
    prompts: int = 0
    first_prompt: int = 0
    named: dict[tuple[str, str], int] = field(default_factory=dict)

    def count(self, kinds: Mapping[tuple[str, str, bool | None], int]) -> None:
        """Count the lines of each (model, url, `stream`)."""
        for (model, url, stream), lines in kinds.items():
            self.models[model] += lines
            self.endpoints[url] += lines
            self.streams += lines * (stream is True)

    def merge(self, later: Survey) -> None:
        """Add what was found in a later part of the file."""
        self.lines += later.lines
        self.body_bytes += later.body_bytes
        self.streams += later.streams
        self.repeated += later.repeated
        self.models.update(later.models)
        self.endpoints.update(later.endpoints)
        self.prompts += later.prompts
        self.first_prompt = self.first_prompt or later.first_prompt

    def note_prompt(self, number: int) -> None:
        """Count a line with a `prompt` that nobody reads."""
        self.prompts += 1
        self.first_prompt = self.first_prompt or number

    def warnings(self, overrides: Overrides) -> list[str]:
        """What the user may not have meant, in words: a field that nobody reads, options that change nothing."""
        found = []
        if self.prompts:
            lines = f"{counted(self.prompts, 'line')}, the first on line {self.first_prompt}"
            found.append(f'WARNING: "prompt" without "input" ({lines}); write "input", or "messages" for chat')
        if self.models.total() < self.lines:  # what was sent before is not looked at
            return found
        if overrides.model is not None and overrides.model not in self.models:
            instead = f"""--set model='"{overrides.model}"' replaces it"""
            found.append(f"--model {overrides.model} changes nothing: every line names its model; {instead}")
        if overrides.url is not None and overrides.url not in self.endpoints:
            found.append(f'--api {overrides.api} changes nothing: every line names its "url"')
        return found
