"""The tables of benchmarks.md, made from the JSON that `python -m tests.benchmarks --json FILE` wrote.

A file that holds one kind of rows alone (those of one of `TABLES`) leaves the other tables as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from tests.docs.generate import replace_part
from tests.docs.pages import MANUAL

TABLES = ("benchmarks", "large", "view", "pace", "found_out", "cluster")
_IN_TABLE = {"resume_bare": "large", "one_line": "large"}
HEAD = "| what | goal | measured |\n|---|---|---|"


class Figure(msgspec.Struct, frozen=True):
    """A row of the benchmarks: `value` in `unit`, held to `goal`, which is the least where `more_is_better`."""

    workload: str
    what: str
    value: float
    unit: str
    goal: float
    more_is_better: bool
    is_met: bool

    @property
    def table(self) -> str:
        name = _IN_TABLE.get(self.workload, self.workload)
        return name if name in TABLES else "benchmarks"

    @property
    def row(self) -> str:
        goal = f"{'≥' if self.more_is_better else '≤'} {in_words(self.goal)} {self.unit}"
        measured = f"{in_words(self.value)} {self.unit}{'' if self.is_met else ' (not met)'}"
        return f"| {self.what} | {goal} | {measured} |"


class Figures(msgspec.Struct, frozen=True):
    """One run of the benchmarks, and the machine it ran on."""

    machine: str
    rows: list[Figure]

    def table(self, name: str) -> str:
        """The table of that name; empty where nothing of it was measured."""
        rows = [figure.row for figure in self.rows if figure.table == name]
        machine = re.sub(r"(Linux \d+\.\d+)\S*?(?=,)", r"\1", self.machine)
        return "\n".join([f"Measured on: {machine}.", "", HEAD, *rows]) if rows else ""


def in_words(value: float) -> str:
    """A number for people: whole from 100 on, else with four digits at most."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def with_figures(text: str, figures: Figures) -> str:
    """The page with each table that was measured."""
    for name in TABLES:
        if table := figures.table(name):
            text = replace_part(text, name, table)
    return text


def write_figures(file: Path) -> None:
    """Write the tables of benchmarks.md. Raises `msgspec.ValidationError` where the file is something else."""
    figures = msgspec.json.decode(file.read_bytes(), type=Figures)
    page = MANUAL["benchmarks"].path
    page.write_text(with_figures(page.read_text("utf-8"), figures), encoding="utf-8")
