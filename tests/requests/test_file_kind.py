"""A file of another kind is named in one sentence, with the way out."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest

from batchrun.errors import InputError
from batchrun.requests.reader import RequestFile

LINES = [json.dumps({"custom_id": f"r-{at}", "body": {"model": "m", "input": "hi"}}) for at in range(50)]
TEXT = "\n".join(LINES) + "\n"


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "x" * 5000)
    return file.getvalue()


def answers(**fields: object) -> bytes:
    return b"".join(json.dumps({"id": "x", "custom_id": f"r-{at}", **fields}).encode() + b"\n" for at in range(50))


KINDS = {
    "a JSON array": ("[" + ",\n".join(LINES) + "]").encode(),
    "a JSON array, indented": json.dumps([json.loads(line) for line in LINES], indent=2).encode(),
    "one JSON object, indented": json.dumps({"requests": [1, 2]}, indent=2).encode(),
    "CSV": b"id,text\n" + b'1,"a, b"\n' * 50,
    "CSV with quotes": b'"id";"text"\n' + b"1;b\n" * 50,
    "TSV": b"id\ttext\n" + b"1\tb\n" * 50,
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16 without a mark": TEXT.encode("utf-16-le"),
    "UTF-16, big": TEXT.encode("utf-16-be"),
    "UTF-32": TEXT.encode("utf-32"),
    "answers of a run": answers(run={}, response={"body": {}}, error=None),
    "answers of a failed batch": answers(response=None, error={"code": "x"}),
    "Anthropic's requests": answers(params={"model": "m"}),
    "a workbook": zipped(),
    "a page": b"<!DOCTYPE html>\n<html>\n",
    "xz": b"\xfd7zXZ\0" + b"\n" * 50,
}
WAYS_OUT = {
    "a JSON array": "is a JSON array; write one object a line: jq -c '.[]' {path} > requests.jsonl",
    "a JSON array, indented": "is a JSON array; write one object a line: jq -c '.[]' {path} > requests.jsonl",
    "one JSON object, indented": "is JSON over several lines; write one object a line: jq -c . {path} > requests.jsonl",
    "CSV": "is a table (CSV or the like); make requests of it: batchrun prepare {path} -p TEMPLATE -o requests.jsonl",
    "CSV with quotes": "is a table (CSV or the like); make requests of it: batchrun prepare {path} ",
    "TSV": "is a table",
    "UTF-16": "is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {path} > requests.jsonl",
    "UTF-16 without a mark": "is UTF-16LE; convert it: iconv -f UTF-16LE",
    "UTF-16, big": "is UTF-16BE; convert it: iconv -f UTF-16BE",
    "UTF-32": "is UTF-32; convert it",
    "answers of a run": "is a file of answers, not of requests; pass the request file, and this one with -o",
    "answers of a failed batch": "is a file of answers",
    "Anthropic's requests": "is a batch file for Anthropic's API",
    "a workbook": "is a zip archive",
    "a page": "is a web page",
    "xz": "is compressed with xz",
}


def problems(path: Path) -> list[str]:
    with RequestFile(str(path)) as file, pytest.raises(InputError) as refused:
        file.check()
    return refused.value.problems


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_of_another_kind_is_named_in_one_sentence(tmp_path: Path, kind: str, packed: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(KINDS[kind]) if packed else KINDS[kind])
    found = problems(path)
    assert len(found) == 1
    assert found[0].startswith(f"{path} " + WAYS_OUT[kind].format(path=path))


@pytest.mark.parametrize("first", ["hello", '{"model": "m"', '{"custom_id": "a"}', '{"input": "hi"}'])
def test_lines_with_mistakes_are_told_one_by_one(tmp_path: Path, first: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(f"{first}\n{TEXT}{first}\n")
    assert [text.split(": ")[0] for text in problems(path)] == [f"{path}:1", f"{path}:52"]


def test_a_byte_order_mark_between_lines_and_windows_text_are_told_by_their_byte(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    body = b'{"model":"m","input":"\xef\xbb\xbf is fine here"}'
    path.write_bytes(body + b"\n\xef\xbb\xbf" + body + b'\n{"model":"m","input":"\x93hi\x94"}\n')
    assert problems(path) == [
        f"{path}:2: byte order mark (U+FEFF) at byte 1, which is not JSON; take out these three bytes",
        f"{path}:3: bad UTF-8 at byte 23 (0x93, in Windows-1252 \u201c); save the file as UTF-8",
    ]
