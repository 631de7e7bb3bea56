"""The tables of the manual: each names what the code has, all of it, and nothing else."""

from __future__ import annotations

import re
import typing
from dataclasses import fields
from pathlib import Path

import click
import pytest

from batchrun.cli.progress import LIMITED_BY
from batchrun.datasets.prepared import Data, Prepared
from batchrun.engine.error_limit import DEFAULT_KINDS, KINDS
from batchrun.job.job import Job
from batchrun.limits.limited_by import LimitedBy
from batchrun.records.outcome import FAMILIES, FailureCode, Outcome
from batchrun.records.result import RunInfo
from batchrun.records.usage import Usage
from batchrun.report.report import Report
from batchrun.results.last_run import LastRun
from batchrun.results.paths import ResultPaths
from tests.docs.pages import MANUAL
from tests.docs.program import COMMANDS, exit_codes, options, run_log_events, structs_in

FORMATS, FAILURES = MANUAL["formats"], MANUAL["failures"]


# ---------------------------------------------------------------------------------------- result files


def test_every_field_of_a_record_has_its_row_in_order_and_the_reserved_ones_theirs() -> None:
    written = [row[0].strip("`") for row in FORMATS.rows("Results")]
    reserved = FORMATS.names("Reserved fields")
    assert written == [name for name in RunInfo.__struct_fields__ if name not in reserved]
    assert reserved == [name for name in RunInfo.__struct_fields__ if name not in written]


def test_every_outcome_and_every_token_count_is_explained_with_its_field() -> None:
    meaning = {row[0].strip("`"): row[1] for row in FORMATS.rows("Results")}
    told = meaning["outcome"] + FORMATS.section("Reserved fields")
    assert [name for name in typing.get_args(Outcome) if f"`{name}`" not in told] == []
    assert [name for name in Usage.__struct_fields__ if f"`{name}`" not in meaning["usage"]] == []


def test_every_field_of_the_report_has_its_row_in_order() -> None:
    assert FORMATS.names("Report") == list(Report.__struct_fields__)


def test_the_parts_of_the_report_are_named_too() -> None:
    for struct in structs_in(Report):
        for name in struct.__struct_fields__:
            assert f"`{name}`" in FORMATS.section("Report"), f"{struct.__name__}.{name}"


def test_the_events_of_the_run_log_are_those_of_the_code() -> None:
    assert set(FORMATS.names("Run log")) == set(run_log_events())


def test_every_field_of_an_event_is_in_the_row_of_its_event() -> None:
    rows = {name: row[1] for row in FORMATS.rows("Run log") for name in row[0].replace("`", "").split(", ")}
    for event, names in run_log_events().items():
        assert [name for name in names if f"`{name}`" not in rows[event]] == [], event


def test_every_event_of_the_manual_can_be_read_back() -> None:
    names = FORMATS.names("Run log")
    assert LastRun([f'{{"event": "{name}"}}'.encode() for name in names]).stopped in (True, False)


def test_every_field_of_what_stands_beside_prepared_requests_has_its_row_in_order() -> None:
    assert FORMATS.names("Prepared requests") == list(Prepared.__struct_fields__)
    told = FORMATS.section("Prepared requests")
    assert [name for name in (*Data.__struct_fields__, "answer") if f"`{name}`" not in told] == []


def test_every_file_beside_the_results_is_explained() -> None:
    paths = ResultPaths.of(Path("/jobs/results.jsonl"))
    ways = [name for name, value in vars(ResultPaths).items() if isinstance(value, property)]
    names = {getattr(paths, way).name for way in ways}
    assert names == set(FORMATS.names("Other files")) | {"results.jsonl.log", "results.jsonl.report.json"}
    assert all(f"`{name}`" in FORMATS.prose for name in names)


# ---------------------------------------------------------------------------------------------- Python


def test_every_field_of_a_job_has_its_row_in_order() -> None:
    assert MANUAL["python"].names("Fields of Job") == [field.name for field in fields(Job)]


# ------------------------------------------------------------------------------- failures, limits, exits


def test_the_error_codes_of_batchrun_are_those_of_the_code() -> None:
    """The table is generated; here it is held that every code is on the page, with a meaning."""
    assert all(code.meaning for code in FailureCode)
    told = set(re.findall(r"`([a-z0-9_…]+)`", FAILURES.section("Error codes")))
    assert {code.value for code in FailureCode} | {f"{start}…" for start in FAMILIES} <= told


def test_the_kinds_of_max_errors_are_those_of_the_code() -> None:
    rows = FAILURES.rows("Stop when too much goes wrong")
    kinds = {row[0].removesuffix(" (default)").strip("`"): row[0].endswith("(default)") for row in rows}
    assert sorted(kinds) == sorted(KINDS)
    assert sorted(kind for kind, is_default in kinds.items() if is_default) == sorted(DEFAULT_KINDS)


def test_the_command_knows_each_kind_of_max_errors() -> None:
    option = next(option for option in options(COMMANDS["run"]) if "--max-errors-on" in option.opts)
    assert isinstance(option.type, click.Choice)
    assert sorted(option.type.choices) == sorted(KINDS)


def test_what_limits_a_run_is_what_the_code_says() -> None:
    assert set(MANUAL["limits"].names("Limited by")) == {kind.value for kind in LimitedBy}


@pytest.mark.parametrize("row", MANUAL["limits"].rows("Limited by"), ids=lambda row: row[0])
def test_the_bar_says_it_as_the_manual_does(row: list[str]) -> None:
    names = row[0].replace("`", "").split(", ")
    assert [LIMITED_BY.get(name, name) for name in names] == row[1].split(", ")


def test_the_exit_codes_are_those_of_the_code() -> None:
    told = [int(code) for row in FORMATS.rows("Exit codes") for code in row[0].split(", ")]
    assert set(told) == exit_codes()
    promised = next(row for row in MANUAL["stability"].rows("Stable") if row[0] == "exit codes")
    assert promised[1].startswith(", ".join(map(str, told)))
