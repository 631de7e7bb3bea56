"""`batchrun prepare` and `batchrun schema`: from a table to requests that a run answers."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import BATCHRUN, FAST, Command, Done
from tests.datasets.test_typed_tables import xlsx

TABLE = "text,lang\nhello,en\n\u201ehallo\u201c,de\nhello,en\n"
ASK = ("-p", "Say: {{ text }}", "-s", "topic enum(a|b), urgent bool", "--model", "gpt-4.1")
SCHEMA = {
    "type": "object",
    "properties": {"topic": {"type": "string", "enum": ["a", "b"]}, "urgent": {"type": "boolean"}},
    "required": ["topic", "urgent"],
    "additionalProperties": False,
}


def lines(path: str = "requests.jsonl") -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.smoke
def test_a_table_becomes_requests_that_a_run_answers(batchrun: Command) -> None:
    Path("data.csv").write_text(TABLE)
    expected = "requests.jsonl: 3 requests, {size:,} bytes\nrows: 3\ncolumns used: text\ncolumns not used: lang\n"
    done = batchrun("prepare", "data.csv", "-o", "requests.jsonl", *ASK)
    assert done == Done(0, "", expected.format(size=Path("requests.jsonl").stat().st_size))
    first = lines()[0]
    body_format = {"type": "json_schema", "name": "answer", "strict": True, "schema": SCHEMA}
    assert first == {
        "custom_id": first["custom_id"],
        "method": "POST",
        "url": "/v1/responses",
        "body": {"model": "gpt-4.1", "input": "Say: hello", "text": {"format": body_format}},
    }
    assert batchrun("validate", "requests.jsonl").code == 0
    assert batchrun("run", "requests.jsonl", "-o", "results.jsonl", "-q", *FAST).code == 0
    answers = {line["custom_id"]: line["response"]["body"] for line in lines("results.jsonl")}
    assert set(answers) == {line["custom_id"] for line in lines()}
    for body in answers.values():
        text = body["output"][-1]["content"][0]["text"]
        assert set(json.loads(text)) == {"topic", "urgent"}


def test_standard_input_is_a_table_with_its_format(batchrun: Command) -> None:
    done = batchrun("prepare", "-", "--format", "csv", "-o", "requests.jsonl", *ASK, stdin=TABLE)
    assert done.code == 0
    assert [line["body"]["input"] for line in lines()] == ["Say: hello", "Say: \u201ehallo\u201c", "Say: hello"]


def test_the_sheets_of_a_workbook_that_are_not_read_are_told(batchrun: Command) -> None:
    xlsx(Path("book.xlsx"), First=[["text"], ["hello"]], Second=[["text"], ["hallo"]], Third=[["x"], ["1"]])
    done = batchrun("prepare", "book.xlsx", "-o", "requests.jsonl", *ASK)
    assert "sheets not read: Second, Third (book.xlsx#NAME is one of them)\n" in done.err
    named = batchrun("prepare", "book.xlsx#Second", "-o", "requests.jsonl", *ASK)
    assert (named.code, "sheets" in named.err) == (0, False)
    assert lines()[0]["body"]["input"] == "Say: hallo"


def test_problems_are_printed_one_a_line_and_nothing_is_written(batchrun: Command) -> None:
    Path("data.csv").write_text("text\nhello\na,b\n")
    told = "data.csv:3 (row 2): 2 cells, and the header has 1; quote a cell that holds the delimiter or a line break\n"
    assert batchrun("prepare", "data.csv", "-o", "requests.jsonl", *ASK) == Done(2, "", told)
    assert sorted(path.name for path in Path().iterdir()) == ["data.csv"]


def test_a_misspelt_column_is_refused_before_the_first_row(batchrun: Command) -> None:
    Path("data.csv").write_text("text,lang\nx\n")  # its rows are wrong, too
    told = 'batchrun: -p: no column is named "txt"; did you mean "text"? The columns are: text, lang\n'
    assert batchrun("prepare", "data.csv", "-o", "requests.jsonl", "-p", "{{ txt }}") == Done(2, "", told)


def test_texts_come_from_files_without_their_one_final_newline(batchrun: Command) -> None:
    Path("data.csv").write_text("text\nhello\n")
    Path("prompt.txt").write_bytes(b"\xef\xbb\xbfSay:\r\n  {{ text }} \r\n\r\n")
    Path("schema.txt").write_text("topic enum(a|b)\n\nurgent bool\n")
    Path("rules.txt").write_bytes(b"Be kind.\n")
    asked = ("-p", "@prompt.txt", "-s", "@schema.txt", "--instructions", "@rules.txt")
    done = batchrun("prepare", "data.csv", "-o", "requests.jsonl", *asked)
    assert done.err.endswith("no model is set: pass --model NAME here or to `batchrun run`\n")
    body = lines()[0]["body"]
    assert (body["instructions"], body["input"]) == ("Be kind.", "Say:\r\n  hello \r\n")
    assert body["text"]["format"]["schema"] == SCHEMA


def test_rows_of_json_that_all_are_unusable_are_told_before_the_names_in_a_template(batchrun: Command) -> None:
    Path("data.jsonl").write_text('{"text": "\\ud800"}\n{"text": \n')
    done = batchrun("prepare", "data.jsonl", "-p", "{{ text }}", "-o", "requests.jsonl")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "data.jsonl:1 (row 1): half of a surrogate pair (\\ud800 to \\udfff) in a string; write the whole character",
        "data.jsonl:2 (row 2): not JSON (Expecting value at character 9); write a JSON object for each row",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-p", "@none.txt"), "-p @none.txt: cannot read none.txt: No such file or directory"),
        (("-p", "x", "-s", "a strng"), "schema, at 'strng': no such type; did you mean str?"),
        (("-p", "{{ text"), "-p, line 1: unexpected end of template"),
        (("-p", "x", "--examples", "e.csv"), "--examples and --example-answer go together"),
        (("-p", "x", "--set", "input=1"), "--set input: pass -p instead"),
        (("-p", "x", "--set", "background=true"), 'the requests could not be run: "background": true answers'),
        (("-p", "x", "--id", "ide"), '--id: no column is named "ide"; the columns are: text'),
        (("-p", "x", "--where", "lang"), '--where: no column is named "lang"'),
        (("-p", "x", "--where", "text =="), "--where: "),
        (("-p", "x", "--where", "text == 'none'"), "--where text == 'none': no row meets it (1 row read)"),
        (("-p", "x", "--set", "text.format=1"), "--set text.format: only a top-level field can be set"),
        (("-p", "x", "-o", "-"), "-o -: name a file"),
        (("-p", "caf\udce9"), "-p: it is not UTF-8; put it into a file, and write @FILE"),
        (("-p", "x", "-o", "data.csv"), "data.csv is read; choose another file for the requests (-o)"),
        (("-p", "x", "-o", "none/requests.jsonl"), "cannot write "),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(batchrun: Command, words: tuple[str, ...], told: str) -> None:
    Path("data.csv").write_text("text\nhello\n")
    done = batchrun("prepare", "data.csv", "-o", "requests.jsonl", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"batchrun: {told}")
    assert sorted(path.name for path in Path().iterdir()) == ["data.csv"]


def test_a_template_without_a_column_is_said(batchrun: Command) -> None:
    Path("data.csv").write_text(TABLE)
    done = batchrun("prepare", "data.csv", "-o", "requests.jsonl", "-p", "Say: { text }", "--model", "gpt-4.1")
    assert "\ncolumns used: none, so every row is asked the same\n" in done.err


def test_a_csv_given_to_run_is_named_with_the_way_out(batchrun: Command) -> None:
    Path("data.csv").write_text(TABLE)
    told = "make requests of it: batchrun prepare data.csv -p TEMPLATE -o requests.jsonl\n"
    for words in (("validate", "data.csv"), ("run", "data.csv", "-o", "results.jsonl", *FAST)):
        done = batchrun(*words)
        assert (done.code, done.err.endswith(told)) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_was_there_stays_when_it_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """A kill leaves its draft behind, Ctrl-C not even that."""
    (tmp_path / "data.csv").write_text("text\n" + "".join(f"text {number}\n" for number in range(300_000)))
    (tmp_path / "requests.jsonl").write_text("what was there\n")
    words = ("prepare", "data.csv", "-o", "requests.jsonl", *ASK)
    with subprocess.Popen([*BATCHRUN, *words], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        while not any(path.stat().st_size for path in tmp_path.glob(".*.draft")):
            assert process.poll() is None
        process.send_signal(number)
        code = process.wait(timeout=20)
    assert code == (130 if number == signal.SIGINT else -number)
    assert (tmp_path / "requests.jsonl").read_text() == "what was there\n"
    left = [path for path in tmp_path.iterdir() if path.name not in ("data.csv", "requests.jsonl")]
    assert len(left) == (0 if number == signal.SIGINT else 1)
    others = [tmp_path / f".{16 * '0'}.draft", tmp_path / "notes.draft"]
    for path in others:
        path.write_text("of another program")
    command = [*BATCHRUN, *words[:3], "requests.jsonl", *ASK, "-n", "1"]
    subprocess.run(command, cwd=tmp_path, stderr=subprocess.DEVNULL, check=True)
    made = {"data.csv", "requests.jsonl", "requests.jsonl.prepared.json"}
    assert {path.name for path in tmp_path.iterdir()} == {*made, *(path.name for path in others)}


# --------------------------------------------------------------------------------------------------- schema


@pytest.mark.smoke
def test_schema_prints_the_schema_and_what_may_not_be_enforced(batchrun: Command) -> None:
    done = batchrun("schema", "score int(1..5), tags list(str)")
    assert done.code == 0
    assert json.loads(done.out)["properties"] == {
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    assert done.err == "strict mode may not enforce score: minimum 1, maximum 5\n"


def test_a_schema_that_strict_mode_refuses_is_sent_without_and_said_so(batchrun: Command) -> None:
    Path("schema.json").write_text('{"type": "object", "properties": {"a": {"type": "string"}}}')
    Path("data.csv").write_text("text\nhello\n")
    why = 'the answer: write "additionalProperties": false'
    assert batchrun("schema", "@schema.json").err == f"strict mode refuses it, so it is sent without: {why}\n"
    done = batchrun("prepare", "data.csv", "-o", "requests.jsonl", "-p", "x", "-s", "@schema.json")
    assert done.err.startswith(f'batchrun: the schema is sent without "strict": {why}\n')
    assert lines()[0]["body"]["text"]["format"]["strict"] is False
