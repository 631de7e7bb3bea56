"""`batchrun.label`: whatever kind of table came in comes back, with the labels of its own rows."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path
from typing import Any

import numpy
import pandas
import polars
import pytest

import batchrun
from batchrun import Endpoint, GatewayOptions, Limits, StopError, UsageError
from batchrun.datasets.results import Results
from batchrun.labelling.frames import frame_of
from tests.cli.commands import BATCHRUN
from tests.support import read_records

NOWHERE = Endpoint("http://127.0.0.1:9/v1", "sk-of-the-test")
ROWS: list[dict[str, Any]] = [{"text": f"message {number}", "n": number} for number in range(12)]
SCHEMA = "topic enum(a|b), score int(1..5)"
NEW = ["topic", "score", "_status", "_error"]
KINDS = [lambda rows: rows, pandas.DataFrame, polars.DataFrame]


def labelled(data: Any, folder: Path, schema: Any = SCHEMA, *, prompt: str = "About {{ text }}", **told: Any) -> Any:
    gateway = told.pop("simulate", GatewayOptions())
    return batchrun.label(data, prompt, schema, folder=folder, endpoint=NOWHERE, model="m", simulate=gateway, **told)


def records_of(data: Any) -> list[dict[str, Any]]:
    """The rows of a table of any kind."""
    if isinstance(data, polars.DataFrame):
        return data.to_dicts()
    rows: list[dict[str, Any]] = data.to_dict("records") if isinstance(data, pandas.DataFrame) else data
    return rows


@pytest.mark.parametrize("kind", KINDS, ids=["dicts", "pandas", "polars"])
@pytest.mark.smoke
def test_what_came_in_comes_back_with_labels(tmp_path: Path, kind: Any) -> None:
    given = kind(ROWS)
    found = labelled(given, tmp_path / "job")
    assert type(found) is type(given)
    rows = records_of(found)
    assert list(rows[0]) == ["text", "n", *NEW]
    assert [{"text": row["text"], "n": row["n"]} for row in rows] == ROWS
    said = {result.custom_id: result.parsed for result in Results(tmp_path / "job" / "results.jsonl", "requests")}
    assert [{"topic": row["topic"], "score": row["score"]} for row in rows] == list(said.values())
    assert {row["_status"] for row in rows} == {"ok"}
    assert records_of(given) == ROWS  # it is as it was
    assert not [path for path in (tmp_path / "job").iterdir() if b"sk-of-the-test" in path.read_bytes()]


def test_an_index_and_the_kinds_of_columns_stay() -> None:
    frame = pandas.DataFrame({"text": ["a", "b"], "small": numpy.array([1, 2], "int8")}, index=["x", "y"])
    found = frame_of(frame).extended({"score": [1, 2], "note": ["c", None], "urgent": [True, False]})
    assert list(found.index) == ["x", "y"]
    assert found.dtypes["small"] == "int8"
    assert (found.dtypes["score"], found.dtypes["urgent"]) == ("int64", "bool")
    assert found["note"].tolist() == ["c", None]


def test_whole_numbers_stay_whole_beside_a_row_without_one() -> None:
    found = frame_of(pandas.DataFrame({"text": ["a", "b"]})).extended({"score": [3, None]})
    assert repr(found["score"].tolist()) == "[3, None]"
    assert frame_of(polars.DataFrame({"text": ["a", "b"]})).extended({"score": [3, None]})["score"].to_list() == [
        3,
        None,
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (pandas.NaT, b"null"),
        (pandas.NA, b"null"),
        (float("nan"), b"null"),
        (numpy.int64(3), b"3"),
        (numpy.float32(0.5), b"0.5"),
        (pandas.Timestamp("2026-03-01T10:00"), b'"2026-03-01T10:00:00"'),
        (datetime.date(2026, 3, 1), b'"2026-03-01"'),
        (["x", {"y": 1}], b'["x",{"y":1}]'),
        ("ü\n", '"ü\\n"'.encode()),
    ],
)
def test_a_cell_is_written_as_what_it_is(value: object, written: bytes) -> None:
    assert list(frame_of([{"v": value}]).lines()) == [b'{"v":%b}\n' % written]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("data.csv", "a list of dicts, or a pandas or polars DataFrame"),
        ([1], "a list of dicts"),
        ([], "data has no rows"),
        (pandas.DataFrame({"text": []}), "data has no rows"),
        (pandas.DataFrame([[1]]), "the name of a column is 0"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of data have one name"),
    ],
)
def test_what_is_no_table_is_refused(data: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        frame_of(data)


def test_a_value_without_a_form_in_json_is_told_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data, row 2: .*object"):
        labelled([{"text": "a"}, {"text": object()}], tmp_path / "job")
    assert not (tmp_path / "job" / "results.jsonl").exists()


def test_the_same_call_sends_nothing_again_and_a_larger_table_its_new_rows(tmp_path: Path) -> None:
    first = labelled(ROWS[:8], tmp_path / "job")
    old = (tmp_path / "job" / "results.jsonl").read_bytes()
    assert labelled(ROWS[:8], tmp_path / "job") == first
    assert (tmp_path / "job" / "results.jsonl").read_bytes() == old
    more = labelled(list(reversed(ROWS)), tmp_path / "job")
    assert [row for row in reversed(more) if row["n"] < 8] == first
    new = (tmp_path / "job" / "results.jsonl").read_bytes()
    assert new.startswith(old)
    assert new.count(b"\n") == len(ROWS)


def test_an_edited_prompt_is_refused_until_it_is_said_what_to_do(tmp_path: Path) -> None:
    labelled(ROWS, tmp_path / "job")
    with pytest.raises(UsageError, match="the prompt was edited; 12 answers from before cost"):
        labelled(ROWS, tmp_path / "job", prompt="On {{ text }}")
    assert len(labelled(ROWS, tmp_path / "job", prompt="On {{ text }}", changed="resend")) == len(ROWS)


def test_a_row_whose_answer_misses_the_schema_is_asked_again_once_unless_told_otherwise(tmp_path: Path) -> None:
    gateway = GatewayOptions(mismatch_rate=1.0)  # asked again, it answers right
    assert {row["_status"] for row in labelled(ROWS, tmp_path / "a", simulate=gateway)} == {"ok"}
    assert {row["_status"] for row in labelled(ROWS, tmp_path / "b", simulate=gateway, reask=0)} == {"invalid"}


def test_rows_that_failed_say_so_and_raise_nothing(tmp_path: Path) -> None:
    found = labelled(ROWS, tmp_path / "job", simulate=GatewayOptions(script="ok; ok; 400; ok!"))
    assert sorted({row["_status"] for row in found}) == ["failed", "ok"]
    (failed,) = (row for row in found if row["_status"] == "failed")
    assert (failed["topic"], failed["score"]) == (None, None)


def test_a_job_that_stopped_early_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    limits = Limits(max_outage_s=0.1)
    with pytest.raises(StopError, match=r"the answers so far are in .*job, and the same call goes on"):
        batchrun.label(ROWS, "{{ text }}", folder=tmp_path / "job", endpoint=NOWHERE, model="m", limits=limits)


def test_without_a_schema_the_text_is_the_answer_and_a_dict_is_a_schema(tmp_path: Path) -> None:
    assert list(labelled(ROWS, tmp_path / "a", None)[0]) == ["text", "n", "answer", "_status", "_error"]
    schema = {
        "type": "object",
        "properties": {"x": {"type": "string"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    assert list(labelled(ROWS, tmp_path / "b", schema, prefix="llm_")[0])[2:] == ["llm_x", "llm__status", "llm__error"]


def test_repeats_are_folded(tmp_path: Path) -> None:
    (row,) = labelled(ROWS[:1], tmp_path / "job", "topic enum(a|b)", repeat=3, id_column="n")
    assert (len(row["topic_all"]), row["topic_share"] in (1.0, 2 / 3)) == (3, True)


def test_the_command_goes_on_with_such_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is one of `batchrun label`: prompt, schema, model and ids are kept."""
    monkeypatch.chdir(tmp_path)
    labelled(ROWS, Path("out.csv.job"), id_column="n")
    done = subprocess.run(
        [*BATCHRUN, "label", "-o", "out.csv", "--simulate"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "12 ok: out.csv\n"
    assert len(list(Results("out.csv.job/results.jsonl"))) == len(ROWS)


def test_equal_rows_are_sent_once_unless_all_are_wanted(tmp_path: Path) -> None:
    rows = [{"text": "same"} for _ in range(4)]
    labelled(rows, tmp_path / "once", None)
    labelled(rows, tmp_path / "all", None, dedup=False)
    for folder, sent in (("once", 1), ("all", 4)):
        records = read_records(tmp_path / folder / "results.jsonl")
        assert sum("source" not in record["run"] for record in records) == sent
