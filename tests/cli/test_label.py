"""`batchrun label`: from a table to its labels in one command, which goes on from wherever it was stopped."""

from __future__ import annotations

import csv
import json
import random
import shlex
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tests.cli.commands import BATCHRUN, FAST, Command, Terminal, records

ROWS = 40
SCHEMA = "topic enum(billing|delivery|other), urgent bool"
ASKED = ("-p", "About: {{ text }}", "-s", SCHEMA, "--model", "gpt-4.1")
LABEL = ("label", "data.csv", *ASKED, "-o", "out.csv")
JOB = Path("out.csv.job")


def write_data(*, rows: int = ROWS, folder: Path = Path()) -> None:
    lines = [f"{number:03},message {number}\n" for number in range(rows)]
    (folder / "data.csv").write_text("id,text\n" + "".join(lines))


def labelled(path: str = "out.csv") -> list[dict[str, str]]:
    with Path(path).open(newline="") as lines:
        return list(csv.DictReader(lines))


def answered() -> list[str]:
    return [record["custom_id"] for record in records(JOB / "results.jsonl")]


@pytest.mark.smoke
def test_from_a_table_to_its_labels_with_one_command(batchrun: Command) -> None:
    """Without a key, with `--simulate`; the same as the three commands write one after the other."""
    write_data()
    done = batchrun(*LABEL, *FAST, "--yes")
    assert (done.code, done.out) == (0, "40 ok: out.csv\n")
    assert [(row["id"], row["text"]) for row in labelled()] == [(f"{i:03}", f"message {i}") for i in range(ROWS)]
    assert {row["topic"] for row in labelled()} <= {"billing", "delivery", "other"}
    assert {row["urgent"] for row in labelled()} == {"true", "false"}
    batchrun("prepare", "data.csv", *ASKED, "-o", "requests.jsonl")
    batchrun("run", "requests.jsonl", "-o", "results.jsonl", *FAST)
    batchrun("join", "data.csv", "results.jsonl", "-o", "joined.csv")
    assert Path("joined.csv").read_bytes() == Path("out.csv").read_bytes()
    assert Path("requests.jsonl").read_bytes() == (JOB / "requests.jsonl").read_bytes()


def test_the_folder_has_the_command_and_all_that_was_made(batchrun: Command) -> None:
    write_data()
    Path("prompt.txt").write_text('About "{{ text }}"\\\x7f\n\twith ümlaut\n')
    batchrun("label", "data.csv", "-p", "@prompt.txt", "-s", SCHEMA, "--model=gpt-4.1", "-oout.csv", *FAST, "--yes")
    told = tomllib.loads((JOB / "job.toml").read_text())
    assert told["texts"] == {"prompt": 'About "{{ text }}"\\\x7f\n\twith ümlaut', "schema": SCHEMA}
    prepared = json.loads((JOB / "requests.jsonl.prepared.json").read_text())
    assert told["data"] == {"name": "data.csv", "hash": prepared["data"]["hash"]}
    assert set(told["options"]) == {
        *("--prompt=@prompt.txt", f"--schema={SCHEMA}", "--model=gpt-4.1", "--output=out.csv"),
        *("--simulate", "--simulate-latency=0", "--yes"),
    }
    names = {path.name for path in JOB.iterdir()}
    assert names >= {"requests.jsonl", "results.jsonl", "results.jsonl.log", "results.jsonl.report.json", "report.html"}
    assert json.loads((JOB / "results.jsonl.report.json").read_text())["lines"]["total"] == ROWS


def test_without_a_terminal_it_stops_after_the_pilot_and_says_so(batchrun: Command) -> None:
    write_data()
    done = batchrun(*LABEL, *FAST)
    assert done.code == 3
    assert done.err.endswith("batchrun: the pilot is done; this is not a terminal; use --yes to send the rest\n")
    assert not Path("out.csv").exists()
    assert len(answered()) == 10
    assert batchrun("label", "-o", "out.csv").code == 3
    assert len(answered()) == 10
    assert batchrun("label", "-o", "out.csv", "--yes").code == 0
    assert len(answered()) == len(set(answered())) == ROWS
    assert batchrun("label", "-o", "out.csv").code == 0
    assert len(answered()) == ROWS


def test_a_person_sees_the_columns_a_prompt_labelled_rows_and_the_estimate_in_this_order(batchrun: Command) -> None:
    write_data()
    told = batchrun(*LABEL, *FAST).err
    places = [
        told.index(what)
        for what in (
            *(
                "columns used: text\n",
                "first prompt:\n  About: message 0\n",
                "\nAbout: message ",
                "measured 10 of 40 lines",
            ),
            *("cost: ", "the pilot is done"),
        )
    ]
    assert places == sorted(places)
    shown = [line for line in told.splitlines() if line.startswith("About: ")]
    assert len(shown) == 5
    batchrun("label", "-o", "out.csv", "--yes", "-q")
    lines = told.splitlines()
    for row in labelled():
        if (asked := f"About: {row['text']}") in shown:
            label = lines[lines.index(asked) + 1]
            assert label == f"  topic: {row['topic']}, urgent: {row['urgent']}"
            shown.remove(asked)
    assert not shown
    Path("out.csv.job").rename("other.job")
    assert batchrun(*LABEL, *FAST, "--preview", "7").err.count("\nAbout: ") == 7


def test_labels_in_the_preview_stand_beside_their_own_rows_after_the_table_was_sorted(batchrun: Command) -> None:
    write_data()
    batchrun(*LABEL, *FAST)
    first, *lines = Path("data.csv").read_text().splitlines(keepends=True)
    Path("data.csv").write_text("".join([first, *reversed(lines)]))
    told = batchrun("label", "-o", "out.csv").err.splitlines()
    batchrun("label", "-o", "out.csv", "--yes")
    truth = {f"About: {row['text']}": f"  topic: {row['topic']}, urgent: {row['urgent']}" for row in labelled()}
    shown = {line: told[place + 1] for place, line in enumerate(told) if line.startswith("About: ")}
    assert len(shown) == 5
    assert shown.items() <= truth.items()


def test_one_key_press_on_a_terminal(tmp_path: Path) -> None:
    """Whoever said yes is not asked again, unless the table or what is asked was changed."""
    write_data(folder=tmp_path)
    with Terminal(*LABEL, *FAST, cwd=tmp_path) as terminal:
        terminal.read_until("send the rest?")
        assert not (tmp_path / "out.csv").exists()
        terminal.type("y\n")
        assert terminal.exit_code() == 0
    assert "40 ok: out.csv" in terminal.screen
    (tmp_path / "out.csv").unlink()
    results = tmp_path / JOB / "results.jsonl"
    results.write_bytes(b"".join(results.read_bytes().splitlines(keepends=True)[:12]))
    with Terminal("label", "-o", "out.csv", cwd=tmp_path) as terminal:
        assert terminal.exit_code() == 0
    assert "send the rest?" not in terminal.screen
    write_data(rows=ROWS + 20, folder=tmp_path)
    with Terminal("label", "-o", "out.csv", cwd=tmp_path) as terminal:
        terminal.read_until("send the rest?")
        terminal.type("n\n")
        assert terminal.exit_code() == 3
    with Terminal("label", "-o", "out.csv", "--changed", "resend", "-p", "{{ text }}?", cwd=tmp_path) as terminal:
        terminal.read_until("send the rest?")


def test_no_on_a_terminal_sends_nothing_more(tmp_path: Path) -> None:
    write_data(folder=tmp_path)
    with Terminal(*LABEL, *FAST, cwd=tmp_path) as terminal:
        terminal.read_until("send the rest?")
        terminal.type("n\n")
        assert terminal.exit_code() == 3
    assert len(records(tmp_path / JOB / "results.jsonl")) == 10
    assert not tomllib.loads((tmp_path / JOB / "job.toml").read_text())["approved"]


def test_a_table_that_the_pilot_covers_is_no_agreement_to_a_larger_one(batchrun: Command) -> None:
    """Nobody was asked, so nobody has agreed."""
    write_data(rows=3)
    assert batchrun(*LABEL, *FAST).code == 0
    write_data(rows=ROWS)
    assert batchrun("label", "-o", "out.csv").code == 3
    assert len(answered()) < ROWS


def test_a_sample_of_the_rows_and_then_all(batchrun: Command) -> None:
    write_data()
    done = batchrun(*LABEL, *FAST, "--yes", "--sample", "15")
    assert (done.code, done.out) == (1, "15 ok, 25 missing: out.csv\n")
    first = answered()
    assert len(first) == 15
    again = batchrun("label", "-o", "out.csv")
    assert (again.code, again.out) == (1, "15 ok, 25 missing: out.csv\n")
    for shown in (done, again):
        (told,) = [line for line in shown.err.splitlines() if line.startswith("next: batchrun label ")]
        assert told.endswith(" --sample all")
    assert batchrun(*shlex.split(told)[2:]).code == 0  # the command that it says labels the rest
    assert answered()[:15] == first
    assert len(set(answered())) == ROWS


def test_the_rows_that_are_not_ok_and_the_report_go_where_they_are_wanted(batchrun: Command) -> None:
    write_data()
    script = ("--simulate-script", "ok; 400; ok!")
    done = batchrun(*LABEL, *FAST, *script, "--yes", "--failures", "failed.csv", "--report", "report.json")
    assert (done.code, done.out) == (1, "38 ok, 2 failed: out.csv\n")
    failed = [row for row in labelled() if row["_status"] == "failed"]
    assert labelled("failed.csv") == [{"id": row["id"], "text": row["text"]} for row in failed]
    assert json.loads(Path("report.json").read_text())["lines"]["total"] == ROWS
    assert batchrun(*LABEL, *FAST, "--report", str(JOB / "results.jsonl")).code == 2


@pytest.mark.parametrize(
    ("failures", "why"),
    [
        ("new.csv", "new.csv is the joined table; choose another file for those rows (--failures)"),
        ("data.csv", "data.csv is the table that is read; choose another file for those rows (--failures)"),
        ("failed.xlsx", "failed.xlsx: its ending does not tell its format"),
    ],
)
def test_where_failures_cannot_be_written_is_told_before_anything_is_sent(
    batchrun: Command, failures: str, why: str
) -> None:
    write_data()
    done = batchrun(*LABEL[:-1], "new.csv", *FAST, "--yes", "--failures", failures)
    assert done.code == 2
    assert why in done.err
    assert not Path("new.csv.job").exists()


# -------------------------------------------------------------------------------------------- right answers


def write_gold() -> None:
    """A table of which every second row has a right answer, in the column `right`."""
    lines = [f"{number:03},message {number},{'billing' if number % 2 else ''}\n" for number in range(ROWS)]
    Path("data.csv").write_text("id,text,right\n" + "".join(lines))


def test_with_gold_it_ends_with_the_figures_of_eval_and_their_command(batchrun: Command) -> None:
    write_gold()
    done = batchrun(*LABEL, *FAST, "--yes", "--gold", "topic=right")
    assert done.code == 0
    right = sum(row["topic"] == "billing" for row in labelled() if row["right"])
    figures, _, command = done.err.rstrip("\n").rpartition("\nall figures: ")
    assert "\nlook at the rows and correct them: batchrun view " in figures
    counts = f"topic  {right:6}  {20 - right:5}  {0:10}  {20:8}  {0:9}"
    assert [line.split() for line in figures.splitlines()].count(counts.split()) == 1
    assert command == "batchrun eval out.csv.job"
    assert tomllib.loads((JOB / "job.toml").read_text())["gold"] == {"topic": "right"}
    assert "Right and wrong" in (JOB / "report.html").read_text()
    told = batchrun("eval", JOB, "--gold", "data.csv", "--gold-column", "topic=right")
    assert (told.code, batchrun("eval", JOB).out) == (
        0,
        told.out.replace("against data.csv", f"against {Path.cwd()}/data.csv"),
    )


def test_eval_asks_for_gold_where_the_job_has_none(batchrun: Command) -> None:
    write_data()
    batchrun(*LABEL, *FAST, "--yes")
    done = batchrun("eval", JOB)
    assert (done.code, done.err) == (
        2,
        "batchrun: --gold FILE is missing, or --judge FILE with the verdicts of a judge\n",
    )


def test_the_bar_tells_how_the_answers_agree_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_gold()
    with Terminal(*LABEL, "--simulate", "--yes", "--gold", "topic=right", cwd=tmp_path, columns=120) as terminal:
        terminal.read_until(" gold ")
        assert terminal.exit_code() == 0


@pytest.mark.parametrize(
    ("gold", "prompt", "why"),
    [
        ("topic=rihgt", "{{ text }}", "the table has no column 'rihgt'"),
        ("topic=right", "{{ text }} {{ right }}", "the model is told the right answer"),
        ("right", "{{ text }}", "say which field"),
    ],
)
def test_gold_that_cannot_be_right_is_refused_before_anything_is_sent(
    batchrun: Command, gold: str, prompt: str, why: str
) -> None:
    write_gold()
    done = batchrun(*LABEL, "-p", prompt, *FAST, "--yes", "--gold", gold)
    assert (done.code, why in done.err, JOB.exists()) == (2, True, False)


def test_gold_that_the_schema_does_not_allow_is_told_before_anything_is_sent(batchrun: Command) -> None:
    write_gold()
    Path("data.csv").write_text(Path("data.csv").read_text().replace("billing", "biling", 1))
    told = batchrun(*LABEL, *FAST, "--gold", "topic=right").err
    warning = "warning: topic: gold has labels that the schema of the requests does not allow: biling\n"
    assert told.index(warning) < told.index("the pilot is done")


def test_gold_in_a_table_with_a_column_custom_id_is_found_by_what_was_asked(batchrun: Command) -> None:
    """`custom_id` is a column like any other of a table whose rows have ids of their own making."""
    Path("data.csv").write_text("custom_id,text,right\n1,one,billing\n2,two,billing\n")
    done = batchrun(*LABEL, *FAST, "--yes", "--gold", "topic=right")
    assert done.code == 0
    assert "accuracy" in done.err


# ------------------------------------------------------------------------------------------- what is refused


def test_a_field_named_like_a_column_is_refused_before_anything_is_written(batchrun: Command) -> None:
    write_data()
    words = ("label", "data.csv", "-p", "{{ text }}", "-s", "id str", "--model", "gpt-4.1", "-o", "out.csv", *FAST)
    done = batchrun(*words, "--yes")
    assert (done.code, JOB.exists()) == (2, False)
    assert '"id"' in done.err
    assert "--prefix" in done.err
    assert batchrun(*words, "--yes", "--prefix", "llm_").code == 0
    assert list(labelled()[0]) == ["id", "text", "llm_id", "llm__status", "llm__error"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("label", "-o", "out.csv"), "there is no job to go on with"),
        (("label", "-", *ASKED, "--format", "csv", "-o", "out.csv", *FAST), "cannot be standard input"),
        (("label", "data.csv", *ASKED, "-o", "out.txt", *FAST), ".csv"),
        (("label", "data.csv", *ASKED, "-o", "data.csv", *FAST), "is the table that is read"),
        (("label", "data.csv", "-p", "{{ txt }}", "-o", "out.csv", "--model", "m", *FAST), "text"),
        (("label", "data.csv", *ASKED, "-o", "out.csv"), "OPENAI_API_KEY"),
        (("label", "data.csv", "-p", "{{ text }}", "-o", "out.csv", *FAST), "no model is named; pass --model NAME"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_sent(batchrun: Command, words: tuple[str, ...], told: str) -> None:
    write_data()
    done = batchrun(*words)
    assert done.code == 2
    assert told in done.err
    assert not list(Path().rglob("results.jsonl"))


def test_a_job_that_a_row_makes_impossible_leaves_no_folder_unless_it_was_begun(batchrun: Command) -> None:
    """What there is of a job that was begun stays, whatever its table says now."""
    write_data()
    with Path("data.csv").open("a") as file:
        file.write("000,twice\n")
    refused = batchrun(*LABEL, "--id", "id", *FAST, "--yes")
    assert (refused.code, "data.csv:42" in refused.err) == (2, True)
    assert [path.name for path in Path().iterdir()] == ["data.csv"]
    write_data()
    batchrun(*LABEL, "--id", "id", *FAST, "--yes")
    before = {path: path.read_bytes() for path in JOB.iterdir() if path.name != "job.toml"}
    with Path("data.csv").open("a") as file:
        file.write("000,twice\n")
    assert batchrun(*LABEL, "--id", "id", *FAST, "--yes").code == 2
    assert {path: path.read_bytes() for path in JOB.iterdir() if path.name != "job.toml"} == before


def test_the_table_without_a_prompt_says_what_goes_on(batchrun: Command) -> None:
    write_data()
    batchrun(*LABEL, *FAST)
    done = batchrun("label", "data.csv", "-o", "out.csv")
    assert (done.code, "-o out.csv alone goes on with the job that was begun there" in done.err) == (2, True)


def test_a_folder_of_somebody_elses_is_left_alone(batchrun: Command) -> None:
    write_data()
    JOB.mkdir()
    (JOB / "requests.jsonl").write_text("mine\n")
    done = batchrun(*LABEL, *FAST, "--yes")
    assert done.code == 2
    assert "is no folder of `batchrun label`" in done.err
    assert (JOB / "requests.jsonl").read_text() == "mine\n"


def test_a_damaged_job_file_and_one_of_another_version_are_told(batchrun: Command) -> None:
    write_data()
    batchrun(*LABEL, *FAST)
    path = JOB / "job.toml"
    whole = path.read_text()
    for text, told in ((whole[:-9], "is damaged"), (whole[whole.index("[texts]") :], "another version")):
        path.write_text(text)
        done = batchrun("label", "-o", "out.csv")
        assert (done.code, told in done.err) == (2, True), done.err
    path.write_text("v = 1\n")
    assert "is damaged" in batchrun("label", "-o", "out.csv").err
    assert batchrun(*LABEL, *FAST, "--yes").code == 0
    assert batchrun("label", "-o", "out.csv").code == 0


def test_a_job_goes_on_where_it_was_begun(batchrun: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data()
    batchrun(*LABEL, *FAST)
    begun = Path.cwd()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    done = batchrun("label", "-o", "../out.csv", "--yes")
    assert (done.code, done.err) == (2, f"batchrun: the job was begun in {begun}; go on with it there\n")


def test_a_login_is_in_no_file_and_must_be_given_again(batchrun: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-key")
    proxy = "http://me:secret-of-the-proxy@127.0.0.1:1"
    words = ("--base-url", "http://127.0.0.1:1/v1", "--max-outage", "0.1", "--yes")
    assert batchrun(*LABEL, *words, "--proxy", proxy).code == 3
    assert tomllib.loads((JOB / "job.toml").read_text())["left_out"] == ["--proxy"]
    for path in JOB.iterdir():
        assert b"secret" not in path.read_bytes(), path
    done = batchrun("label", "-o", "out.csv")
    assert (done.code, done.err) == (*(2, "batchrun: --proxy is not kept, because it holds a login; pass it again\n"),)
    assert batchrun("label", "-o", "out.csv", "--proxy", proxy).code == 3


# ----------------------------------------------------------------------------------------------- going on


def test_the_prompt_is_as_it_was_unless_it_is_given_again(batchrun: Command) -> None:
    write_data()
    Path("prompt.txt").write_text("About: {{ text }}")
    words = ("label", "data.csv", "-p", "@prompt.txt", *ASKED[2:], "-o", "out.csv", *FAST)
    batchrun(*words)
    requests = (JOB / "requests.jsonl").read_bytes()
    Path("prompt.txt").write_text("On: {{ text }}")
    assert batchrun("label", "-o", "out.csv", "--yes").code == 0
    assert (JOB / "requests.jsonl").read_bytes() == requests
    done = batchrun(*words)
    report = json.loads(batchrun("report", JOB / "results.jsonl", "--json").out)
    cost = report["cost"]["total_usd"]
    assert cost > 0
    told = (
        f"batchrun: the prompt was edited; 40 answers from before cost ${cost}. --changed resend sends their rows "
        "again, --changed keep keeps them; nothing was changed\n"
    )
    assert (done.code, done.err) == (2, told)
    assert (JOB / "requests.jsonl").read_bytes() == requests
    assert batchrun("label", "-o", "out.csv").code == 0
    assert len(answered()) == ROWS
    assert batchrun(*words, "--changed", "keep", "--yes").code == 0
    assert b"On: " in (JOB / "requests.jsonl").read_bytes()


def test_edited_prompts_are_sent_again_with_changed_resend(batchrun: Command) -> None:
    write_data()
    batchrun(*LABEL, *FAST, "--yes")
    old = {record["custom_id"]: record["run"]["body_hash"] for record in records(JOB / "results.jsonl")}
    assert batchrun("label", "-o", "out.csv", "-p", "On: {{ text }}", "--changed", "resend").code == 0
    new = {record["custom_id"]: record["run"]["body_hash"] for record in records(JOB / "results.jsonl")}
    assert old.keys() == new.keys()
    assert not set(old.values()) & set(new.values())


def test_a_schema_that_is_only_written_differently_is_not_edited(batchrun: Command) -> None:
    write_data()
    batchrun(*LABEL, *FAST, "--yes")
    spaced = SCHEMA.replace("|", " | ").replace(", ", "\n")
    assert batchrun("label", "-o", "out.csv", "-s", spaced).code == 0
    done = batchrun("label", "-o", "out.csv", "-s", "topic str", "--instructions", "Be brief.")
    assert (done.code, "the schema and the instructions was" in done.err) == (2, True)


def test_a_prompt_of_other_columns_needs_another_job(batchrun: Command) -> None:
    """The ids are made of the columns that are used: with others, everything would be paid again."""
    write_data()
    batchrun(*LABEL, *FAST, "--yes")
    requests = (JOB / "requests.jsonl").read_bytes()
    words = ("label", "-o", "out.csv", "-p", "{{ id }}: {{ text }}")
    for more in ((), ("--changed", "keep"), ("--changed", "resend"), ("--id", "id")):
        done = batchrun(*words, *more)
        assert (done.code, "no answer is to one of them" in done.err) == (2, True)
    assert (JOB / "requests.jsonl").read_bytes() == requests
    assert batchrun("label", "-o", "out.csv").code == 0
    assert batchrun(*words, "--overwrite").code == 0
    assert len(answered()) == ROWS
    assert batchrun("label", "-o", "out.csv").code == 0
    assert "--overwrite" not in tomllib.loads((JOB / "job.toml").read_text())["options"]


def test_other_settings_of_the_requests_are_found_by_the_run(batchrun: Command) -> None:
    write_data()
    batchrun(*LABEL, *FAST, "--yes")
    done = batchrun("label", "-o", "out.csv", "--set", "temperature=0")
    assert (done.code, "was edited after its answer" in done.err, len(answered())) == (2, True, ROWS)


def test_of_a_table_with_new_rows_only_those_are_sent(batchrun: Command) -> None:
    write_data()
    batchrun(*LABEL, *FAST, "--yes")
    old = (JOB / "results.jsonl").read_bytes()
    first, *lines = Path("data.csv").read_text().splitlines(keepends=True)
    Path("data.csv").write_text("".join([first, "new,at the top\n", *lines[1:]]))
    done = batchrun("label", "-o", "out.csv")
    assert (done.code, done.out) == (0, "40 ok: out.csv\n")
    assert "the table is not as it was" in done.err
    assert (JOB / "results.jsonl").read_bytes().startswith(old)
    assert len(answered()) == ROWS + 1
    assert [row["text"] for row in labelled()] == ["at the top", *(f"message {i}" for i in range(1, ROWS))]


def test_rows_that_fail_are_not_ok_and_the_job_exits_with_1(batchrun: Command) -> None:
    """What to edit is what the requests are made of: they themselves are made anew each time."""
    write_data()
    script = ("--simulate-script", "400; ok; ok; ok", "--max-errors", "off")
    done = batchrun(*LABEL, *FAST, "--yes", *script, "--retry-errors")
    failed = sum(record["error"] is not None for record in records(JOB / "results.jsonl"))
    assert 0 < failed < ROWS
    assert (done.code, done.out) == (1, f"{ROWS - failed} ok, {failed} failed: out.csv\n")
    assert f"correct {failed} lines in DATA, the prompt or the options (" in done.err
    assert "--retry-errors" not in tomllib.loads((JOB / "job.toml").read_text())["options"]
    assert batchrun("label", "-o", "out.csv").code == 1
    assert len(answered()) == ROWS
    assert batchrun("label", "-o", "out.csv", "--retry-errors", "--simulate-script", "ok").code == 0


def test_a_run_that_stops_early_gives_its_exit_code_and_the_labels_so_far(batchrun: Command) -> None:
    write_data()
    done = batchrun(*LABEL, *FAST, "--yes", "--max-cost", "0.004", "--max-line-cost", "0.0003")
    assert done.code == 3
    assert {row["_status"] for row in labelled()} == {"ok", "missing"}
    assert len(labelled()) == ROWS
    assert batchrun("label", "-o", "out.csv", "--max-cost", "5").code == 0
    assert {row["_status"] for row in labelled()} == {"ok"}


def test_repeats_are_folded_into_votes(batchrun: Command) -> None:
    write_data(rows=12)
    batchrun(*LABEL, *FAST, "--yes", "--repeat", "3")
    assert {"topic", "topic_share", "topic_all", "urgent_share"} <= set(labelled()[0])
    assert len(labelled()) == 12
    assert len(answered()) == 36


def test_options_of_prepare_run_and_join_pass(batchrun: Command) -> None:
    write_data()
    done = batchrun(
        *LABEL, *FAST, "--yes", *("--where", "id != '000'", "-n", "20", "--id", "id", "--set", "temperature=0"),
        *("--stream", "-c", "2", "--with", "id,model", "--prefix", "x_"),
    )  # fmt: skip
    assert (done.code, done.out) == (1, "20 ok, 20 missing: out.csv\n")
    assert labelled()[1]["x__id"] == "001"
    bodies = [json.loads(line)["body"] for line in (JOB / "requests.jsonl").read_text().splitlines()]
    assert {body["temperature"] for body in bodies} == {0}
    before = Path("out.csv").read_bytes()
    assert batchrun("label", "-o", "out.csv").code == 1
    assert Path("out.csv").read_bytes() == before


def test_the_folder_of_the_job_is_held_against_gold(batchrun: Command) -> None:
    """Right answers may stand in a further column of the table itself."""
    rows = "".join(f"message {number},billing\n" for number in range(ROWS))
    Path("data.csv").write_text(f"text,right_topic\n{rows}")
    assert batchrun(*LABEL, *FAST, "--yes").code == 0
    right = sum(row["topic"] == "billing" for row in labelled())
    done = batchrun("eval", JOB, "--gold", "data.csv", "--gold-column", "topic=right_topic", "--json")
    assert 0 < right < ROWS
    assert json.loads(done.out)["counts"]["right"] == right


# -------------------------------------------------------------------------------------------------- kills


class Killed:
    """A labelling job of real processes, which are killed with SIGKILL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_data(folder=folder, rows=200)

    def kill_when(self, is_time: Callable[[], object], delay_s: float = 0) -> None:
        """Start the job, or go on with it, and kill it once that is so. It may have ended before."""
        with self.start() as process:
            deadline = time.monotonic() + 20
            while process.poll() is None and not is_time():
                assert time.monotonic() < deadline
            time.sleep(delay_s)
            process.kill()  # SIGKILL; nothing where it has ended
            process.wait()

    def has(self, name: str, count: int = 0) -> Callable[[], bool]:
        path = self.folder / JOB / name
        return lambda: path.exists() and path.read_bytes().count(b"\n") >= count

    def finish(self) -> bytes:
        with self.start() as process:
            assert process.wait(timeout=30) == 0
        return (self.folder / "out.csv").read_bytes()

    def start(self) -> subprocess.Popen[bytes]:
        options = ("--simulate", "--simulate-latency", "0.02", "-c", "8", "--yes")
        is_begun = (self.folder / JOB / "job.toml").exists()
        words = ("label", "-o", "out.csv") if is_begun else (*LABEL, *options)
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*BATCHRUN, *words], cwd=self.folder, stdin=quiet, stdout=quiet, stderr=quiet)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return Killed(tmp_path_factory.mktemp("undisturbed")).finish()


@pytest.mark.slow
def test_it_goes_on_from_wherever_it_is_killed(tmp_path: Path, undisturbed: bytes) -> None:
    """In the order of its files; each next one starts where the one before it died."""
    job = Killed(tmp_path)
    job.kill_when(job.has("job.toml"))
    job.kill_when(job.has("requests.jsonl"))
    for count in (1, 12, 100):
        job.kill_when(job.has("results.jsonl", count))
        assert not (tmp_path / "out.csv").exists()
    job.kill_when(job.has("results.jsonl", 200))
    assert job.finish() == undisturbed
    custom_ids = [record["custom_id"] for record in records(tmp_path / JOB / "results.jsonl")]
    assert len(custom_ids) == len(set(custom_ids)) == 200
    assert not [path.name for path in (tmp_path / JOB).iterdir() if path.suffix in (".draft", ".tmp")]


def test_an_interrupted_job_writes_no_table_and_goes_on(tmp_path: Path, undisturbed: bytes) -> None:
    job = Killed(tmp_path)
    with job.start() as process:
        deadline = time.monotonic() + 20
        while not job.has("results.jsonl", 12)():
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert not (tmp_path / "out.csv").exists()
    assert job.finish() == undisturbed


@pytest.mark.slow
def test_ten_kills_at_random_give_the_same_file(tmp_path: Path, undisturbed: bytes) -> None:
    draw = random.Random(13)
    job = Killed(tmp_path)
    for _ in range(10):
        job.kill_when(lambda: True, draw.uniform(0, 1.0))
    assert job.finish() == undisturbed


def test_two_at_once_do_not_disturb_one_another(tmp_path: Path, batchrun: Command) -> None:
    job = Killed(tmp_path)
    with job.start() as process:
        deadline = time.monotonic() + 20
        while not job.has("results.jsonl", 1)():
            assert time.monotonic() < deadline
        done = batchrun("label", "-o", "out.csv")
        assert process.wait(timeout=30) == 0
    assert (done.code, done.err) == (2, "batchrun: another process works on out.csv.job; wait until it has ended\n")
    assert len(answered()) == 200


def test_equal_rows_are_sent_once_and_each_gets_the_label(batchrun: Command) -> None:
    texts = [f"message {number % 12}" for number in range(ROWS)]
    Path("data.csv").write_text("id,text\n" + "".join(f"{n:03},{text}\n" for n, text in enumerate(texts)))
    done = batchrun(*LABEL, *FAST, "--yes", "--with", "cost,tokens")
    assert (done.code, done.out) == (0, "40 ok: out.csv\n")
    assert "28 copied from equal lines" in done.err
    bill = json.loads((JOB / "results.jsonl.report.json").read_bytes())
    assert sum(int(row["_input_tokens"]) for row in labelled()) == bill["usage"]["input_tokens"]
    assert sum(int(row["_output_tokens"]) for row in labelled()) == bill["usage"]["output_tokens"]
    assert sum(Decimal(row["_cost_usd"]) for row in labelled()) == Decimal(str(bill["cost"]["total_usd"]))
    assert sum("source" not in record["run"] for record in records(JOB / "results.jsonl")) == 12
    by_text: dict[str, str] = {}
    for row in labelled():
        assert by_text.setdefault(row["text"], row["topic"]) == row["topic"]
    batchrun(*LABEL[:-1], "all.csv", *FAST, "--yes", "--no-dedup")
    assert all("source" not in record["run"] for record in records(Path("all.csv.job/results.jsonl")))


def test_a_pair_of_files_to_reuse_is_kept_with_the_job(batchrun: Command) -> None:
    write_data()
    batchrun(*LABEL[:-1], "first.csv", *FAST, "--yes")
    first = Path("first.csv.job")
    (first / "output.jsonl").write_bytes((first / "results.jsonl").read_bytes())
    pair = (str(first / "requests.jsonl"), str(first / "output.jsonl"))
    done = batchrun(*LABEL, *FAST, "--reuse-batch", *pair)
    assert (done.code, len(answered())) == (0, 40), "nobody is asked about what costs nothing"
    (JOB / "results.jsonl").unlink()
    (JOB / "results.jsonl.log").unlink()
    assert batchrun("label", "-o", "out.csv", "--yes").code == 0
    kinds = {record["run"].get("source", {}).get("kind") for record in records(JOB / "results.jsonl")}
    assert kinds == {"reused"}
