"""The request file: what is a line, what is refused, what happens when it changes, and how much memory it takes."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from batchrun.cli import main as cli
from batchrun.errors import InputError, StopError, UsageError
from batchrun.records.index import digest
from batchrun.records.request import MAX_LINE_BYTES, Overrides, RequestLine, parse_request
from batchrun.requests import batches, reader
from batchrun.requests.batches import Batch
from batchrun.requests.reader import RequestFile
from batchrun.requests.survey import Survey

INPUTS = Path(__file__).parents[1] / "inputs"
BARE = b'{"model":"m","input":"hi"}'


def batch(custom_id: object, **body: Any) -> bytes:
    return json.dumps({"custom_id": custom_id, "body": {"model": "gpt-4.1", "input": "hi"} | body}).encode()


BATCH = [batch(f"r-{number}") for number in range(1, 601)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "requests.jsonl"


def written(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read(path: Path | str, *without: int) -> list[RequestLine]:
    """The lines of a file as a run takes them: checked, then read again."""
    with RequestFile(str(path)) as file:
        checked: list[RequestLine] = []
        file.check(checked.append)
        lines = list(file.requests(without))
        assert [line for line in checked if line.line_number not in without] == lines
        return lines


def ids(path: Path) -> list[str]:
    return [line.custom_id for line in read(path)]


def problems(path: Path) -> list[str]:
    """What is printed about a file, less its name."""
    with RequestFile(str(path)) as file, pytest.raises(InputError) as refused:
        file.check()
    return str(refused.value).replace(f"{path}:", "").split("\n")


# ------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("data", "numbers"),
    [
        (b"%s\n%s\n", [1, 2]),
        (b"%s\n%s", [1, 2]),
        (b"\xef\xbb\xbf%s\n%s\n", [1, 2]),
        (b"\xef\xbb\xbf\r\n%s\r\n%s\r\n", [2, 3]),
        (b"\n \t\r\n%s\n\n\n%s\n\n \n", [3, 6]),
        (b" %s \n\t%s\r", [1, 2]),
    ],
    ids=["plain", "no final newline", "BOM", "BOM and CRLF", "blank lines", "white space"],
)
def test_lines_and_their_numbers(path: Path, data: bytes, numbers: list[int]) -> None:
    path.write_bytes(data % (BATCH[0], BATCH[1]))
    lines = read(path)
    assert [line.line_number for line in lines] == numbers
    assert [line.custom_id for line in lines] == ["r-1", "r-2"]
    assert [line.body for line in lines] == [json.dumps({"model": "gpt-4.1", "input": "hi"}).encode()] * 2


def test_a_line_ends_at_the_newline_byte_alone(path: Path) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    body = json.dumps(
        {"model": "m", "input": text.replace("\x0b", "").replace("\x0c", "").replace("\x1c", "")}, ensure_ascii=False
    )
    written(path, body.encode(), BARE)
    assert [line.body for line in read(path)] == [body.encode(), BARE]


def test_a_bom_is_one_at_the_start_only(path: Path) -> None:
    written(path, BATCH[0], b"\xef\xbb\xbf" + BATCH[1])
    assert problems(path) == ["2: byte order mark (U+FEFF) at byte 1, which is not JSON; take out these three bytes"]


def test_the_survey_sums_up_what_is_there(path: Path) -> None:
    chat = json.dumps({"custom_id": "c", "url": "/v1/chat/completions", "body": {"model": "b"}}).encode()
    written(path, BARE, BARE, b"", batch("s", stream=True), chat)
    with RequestFile(str(path)) as file:
        survey = file.check()
        assert file.survey is survey
    assert survey == Survey(
        lines=4,
        body_bytes=2 * len(BARE)
        + len(json.dumps({"model": "gpt-4.1", "input": "hi", "stream": True}))
        + len('{"model": "b"}'),
        streams=1,
        repeated=1,
        models={"m": 2, "gpt-4.1": 1, "b": 1},  # type: ignore[arg-type]
        endpoints={"/v1/responses": 3, "/v1/chat/completions": 1},  # type: ignore[arg-type]
    )


def test_overrides_reach_every_line_in_both_passes(path: Path) -> None:
    written(path, b'{"input":"hi"}', BARE)
    with RequestFile(str(path), Overrides(model="filled", stream=True)) as file:
        assert file.check().streams == 2
        lines = list(file.requests())
    assert [line.body for line in lines] == [
        b'{"input":"hi","stream":true,"model":"filled"}',
        b'{"model":"m","input":"hi","stream":true}',
    ]


def test_the_lines_that_are_done_are_left_out(path: Path) -> None:
    written(path, *BATCH)
    assert [line.line_number for line in read(path, *range(1, 500))] == list(range(500, 601))


# --------------------------------------------------------------------------------------------------- ids


def test_equal_bodies_are_told_apart_by_their_occurrence(path: Path) -> None:
    name = "req-" + digest(BARE)
    written(path, BARE, BATCH[0], BARE, BARE)
    assert ids(path) == [name, "r-1", f"{name}-2", f"{name}-3"]
    assert [line.custom_id for line in read(path, 1, 3)] == ["r-1", f"{name}-3"], "whatever is done already"


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_ids_of_bare_bodies_survive_inserting_and_reordering(numbers: list[int], shuffle: random.Random) -> None:
    """The same bodies in any order, among others, have the same ids."""
    lines = [b'{"model":"m","input":"%d"}' % number for number in numbers]
    moved = [*lines, b'{"model":"m","input":"new"}']
    shuffle.shuffle(moved)
    with tempfile.TemporaryDirectory() as folder:
        before = ids(written(Path(folder) / "a", *lines))
        after = ids(written(Path(folder) / "b", *moved))
    assert len(set(before)) == len(before)
    assert set(before) < set(after)
    assert len(set(after) - set(before)) == 1


def test_an_id_that_stands_twice_is_named_with_its_first_line(path: Path) -> None:
    written(path, BATCH[0], b"", BATCH[1], BATCH[0], BATCH[1], BATCH[0])
    again = '"custom_id" duplicates line {}; give each line its own'
    assert problems(path) == [f"4: {again.format(1)}", f"5: {again.format(3)}", f"6: {again.format(1)}"]


def test_ids_that_stand_twice_are_told_between_the_other_problems_in_order(path: Path) -> None:
    written(path, BATCH[0], b"x", BATCH[0], b"y", *[BATCH[0]] * 30, b"z")
    told = problems(path)
    assert [line.partition(":")[0] for line in told[:20]] == [*map(str, range(2, 22))]
    assert told[20:] == ["… and 14 more problems"]


def test_different_ids_that_share_a_hash_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume could not tell them apart."""
    monkeypatch.setattr(reader, "hash64", lambda text: 7)
    written(path, batch("a"), batch("b"))
    assert problems(path) == ['2: "custom_id" duplicates line 1; give each line its own']


def test_derived_ids_are_the_same_in_every_process(path: Path) -> None:
    code = "import sys, tests.requests.test_reader as test; print(test.ids(sys.argv[1]))"
    written(path, BARE, BATCH[0], BARE)
    said = subprocess.check_output([sys.executable, "-c", code, path], text=True, cwd=INPUTS.parent.parent)
    assert said.strip() == str(ids(path))


def test_a_given_id_may_not_be_a_derived_one_of_another_line(path: Path) -> None:
    written(path, BARE, batch(f"req-{digest(BARE)}-2"), BARE)
    assert problems(path) == ['3: "custom_id" duplicates line 2; give each line its own']


# ---------------------------------------------------------------------------------------------- problems


def test_twenty_problems_are_shown_and_the_rest_counted(path: Path) -> None:
    written(path, *[b"x"] * 20)
    assert len(problems(path)) == 20
    written(path, *[b"x"] * 15, *BATCH, *[b"y"] * 12)
    shown = problems(path)
    assert [line.partition(":")[0] for line in shown[:20]] == [*map(str, range(1, 16)), *map(str, range(616, 621))]
    assert shown[20:] == ["… and 7 more problems"]


def test_good_lines_are_visited_even_in_a_bad_file(path: Path) -> None:
    written(path, BATCH[0], b"x", BATCH[1])
    visited: list[RequestLine] = []
    with RequestFile(str(path)) as file, pytest.raises(InputError):
        file.check(visited.append)
    assert [line.line_number for line in visited] == [1, 3]


@pytest.mark.parametrize("data", [b"", b"\n\n \r\n", b"\xef\xbb\xbf"], ids=["nothing", "blank lines", "a BOM"])
def test_a_file_without_requests_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with RequestFile(str(path)) as file, pytest.raises(InputError) as refused:
        file.check()
    assert str(refused.value) == f"{path}: no requests in it; write one JSON object a line"


# ------------------------------------------------------------------------------- places that are no files


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        RequestFile(str(tmp_path))
    assert str(refused.value) == f"cannot read {tmp_path}: Is a directory"
    with pytest.raises(UsageError) as refused:
        RequestFile(str(tmp_path / "none"))
    assert str(refused.value) == f"cannot read {tmp_path}/none: No such file or directory"


def test_a_fifo_is_read_to_its_end(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: written(fifo, *BATCH))
    writer.start()
    lines = read(fifo)
    writer.join()
    assert len(lines) == 600


@contextlib.contextmanager
def standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> Iterator[None]:
    """Standard input as a real pipe that holds `data`."""
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "wb") as sink:
        sink.write(data)
    with os.fdopen(ours) as source:
        monkeypatch.setattr(sys, "stdin", source)
        yield


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_standard_input_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    with standard_input(monkeypatch, pack(b"\n".join(BATCH[:9]))):
        assert len(read("-")) == 9


def test_standard_input_may_be_no_file_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BARE)))
    assert len(read("-")) == 1


def test_problems_of_standard_input_are_named_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with standard_input(monkeypatch, b"x\n"), RequestFile("-") as file, pytest.raises(InputError) as refused:
        file.check()
    assert refused.value.problems[0].startswith("standard input:1: not JSON")


# ------------------------------------------------------------------------------------------- compression


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


DATA = b"\n".join(BATCH)
PACKED = {"gz": gzip.compress(DATA), "zst": zstd(DATA)}


@pytest.mark.parametrize("name", ["requests.jsonl.gz", "requests.jsonl"])
@pytest.mark.parametrize(
    "packed",
    [*PACKED.values(), gzip.compress(DATA[:999]) + gzip.compress(DATA[999:]), zstd(DATA[:999]) + zstd(DATA[999:])],
    ids=["gzip", "zstd", "two gzip members", "two zstd frames"],
)
@pytest.mark.smoke
def test_compressed_files_are_known_by_their_content(tmp_path: Path, name: str, packed: bytes) -> None:
    (tmp_path / name).write_bytes(packed)
    lines = read(tmp_path / name)
    assert [line.custom_id for line in lines] == [f"r-{number}" for number in range(1, 601)]


@pytest.mark.parametrize("kind", PACKED)
def test_a_compressed_file_that_was_cut_off_is_refused_wherever_it_ends(path: Path, kind: str) -> None:
    """Half of the requests would be the wrong ones to send."""
    packed = PACKED[kind]
    for end in [*range(5, len(packed), 7), len(packed) - 1]:
        path.write_bytes(packed[:end])
        with pytest.raises(UsageError, match=r"^cannot read .*requests\.jsonl: .*end"):
            RequestFile(str(path))


@pytest.mark.parametrize("kind", PACKED)
def test_a_compressed_file_that_is_damaged_never_ends_in_a_traceback(path: Path, kind: str) -> None:
    packed = PACKED[kind]
    said: list[str] = []
    for at in range(4, len(packed), 5):
        path.write_bytes(packed[:at] + bytes([packed[at] ^ 0x55]) + packed[at + 1 :])
        try:
            read(path)
        except UsageError as error:
            said.append(str(error))
    assert len(said) > 20
    assert all(text.startswith((f"cannot read {path}: ", f"{path}:")) for text in said)


def test_without_zstandard_a_zst_file_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(PACKED["zst"])
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UsageError) as refused:
        RequestFile(str(path))
    assert str(refused.value) == f"{path} is zstd-compressed; pip install zstandard, or unpack it first"


# ---------------------------------------------------------------------------- the results in the same place


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_results_may_not_be_written_over_the_requests(path: Path, pack: Any) -> None:
    path.write_bytes(pack(DATA))
    other = path.with_name("results.jsonl")
    other.hardlink_to(path)
    with RequestFile(str(path)) as file:
        file.refuse_same_file(path.with_name("new.jsonl"))
        for results in (path, other, path.parent / "." / path.name):
            with pytest.raises(UsageError) as refused:
                file.refuse_same_file(results)
            assert str(refused.value) == f"{results} is the request file; choose another file for the results (-o)"


def test_results_may_not_be_written_over_standard_input(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with written(path, BARE).open() as source:
        monkeypatch.setattr(sys, "stdin", source)
        with RequestFile("-") as file, pytest.raises(UsageError, match="is the request file"):
            file.refuse_same_file(path)


# ------------------------------------------------------------------------------- a file that does not stay


def checked(path: Path) -> RequestFile:
    file = RequestFile(str(path))
    file.check()
    return file


def test_a_file_that_grows_is_read_as_far_as_it_was_checked(path: Path) -> None:
    path.write_bytes(b"\n".join(BATCH[:300]))
    with checked(path) as file:
        with path.open("ab") as more:
            more.write(b"}\nnot json\n")
        assert [line.custom_id for line in file.requests()] == [f"r-{number}" for number in range(1, 301)]


def test_a_file_replaced_by_an_editor_is_read_as_it_was(path: Path) -> None:
    with checked(written(path, *BATCH)) as file:
        written(path.with_name("new"), b"not json").replace(path)
        assert len(list(file.requests())) == 600


def test_a_file_that_was_only_touched_goes_on(path: Path) -> None:
    with checked(written(path, *BATCH)) as file:
        os.utime(path, (1, 1))
        assert len(list(file.requests())) == 600


@pytest.mark.parametrize("size", [0, 10, len(DATA) // 2, len(DATA) - 1])
def test_a_file_that_shrinks_stops_the_job_before_a_torn_line_is_sent(path: Path, size: int) -> None:
    path.write_bytes(DATA)
    with checked(path) as file:
        os.truncate(path, size)
        sent: list[RequestLine] = []
        with pytest.raises(StopError, match="while running; run the same command again"):
            sent.extend(line for line in _noting(file.requests(), sent))
    assert [line.custom_id for line in sent] == [f"r-{number}" for number in range(1, len(sent) + 1)]
    assert len(sent) == DATA[:size].count(b"\n")


def _noting(lines: Iterator[RequestLine], seen: list[RequestLine]) -> Iterator[RequestLine]:
    for line in lines:
        seen.append(line)
    yield from ()


@pytest.mark.parametrize("start", [1, 2, 100, 101, 102, 599, 600, 601, 700])
def test_lines_below_the_start_are_left_out(path: Path, start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "STRIDE", 100)
    lines = [*BATCH]
    lines[1:1] = [b"", b" "]
    with checked(written(path, *lines)) as file:
        found = [line.line_number for line in file.requests(start=start)]
    assert found == [number for number in range(1, 603) if number not in (2, 3) and number >= start]


def test_of_the_lines_below_the_start_most_are_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "STRIDE", 100)
    with checked(written(path, *BATCH)) as file:
        with path.open("r+b") as other:
            other.write(b"!")
        assert [line.line_number for line in file.requests(start=101)] == list(range(101, 601))
        with pytest.raises(StopError, match="1 changed while running"):
            list(file.requests(start=100))
    with checked(written(path, *BATCH)) as file:
        written(path, *BATCH[1:], BATCH[0])
        with pytest.raises(StopError, match="501 changed while running"):
            list(file.requests(start=501))


def test_equal_bodies_below_the_start_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "STRIDE", 2)
    with checked(written(path, *[BARE] * 9)) as file:
        assert [line.custom_id.rpartition("-")[2] for line in file.requests(start=8)] == ["8", "9"]


@pytest.mark.parametrize("number", [1, 2, 256, 257, 300, 600])
@pytest.mark.parametrize("done", [(), range(1, 200)], ids=["from the start", "resumed"])
def test_an_edited_line_is_never_sent_unchecked(path: Path, number: int, done: range) -> None:
    """Neither at the same size nor in a file that has grown as well."""
    for addition in (b"", b"\n" + batch("new")):
        path.write_bytes(DATA)
        with checked(path) as file:
            lines = list(BATCH)
            lines[number - 1] = lines[number - 1].replace(b'"hi"', b'"ho"')
            path.write_bytes(b"\n".join(lines) + addition)
            sent: list[RequestLine] = []
            with pytest.raises(StopError) as stopped:
                list(_noting(file.requests(done), sent))
        assert str(stopped.value) == f"{path}:{number} changed while running; run the same command again"
        assert [line.line_number for line in sent] == [line for line in range(1, number) if line not in done]


@pytest.mark.parametrize("size", [1000, 40_000])
def test_some_lines_are_read_ahead_but_no_more_than_64_kb(
    path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def noted(raw: bytes, number: int, overrides: Overrides) -> RequestLine:
        read.append(number)
        return parse_request(raw, number, overrides)

    monkeypatch.setattr(reader, "parse_request", noted)
    data = [batch(f"r-{number:03}", input="x" * size) for number in range(200)]
    with checked(written(path, *data)) as file:
        lines = file.requests()
        next(lines)
        assert len(read) == 1 + 65_536 // (len(data[0]) + 1)
        assert len(list(lines)) == 199


def test_where_few_lines_are_wanted_the_first_does_not_wait_for_the_next(path: Path) -> None:
    """A sample of a million lines: the event loop would be held until the whole file has been read."""
    with checked(written(path, *[batch(f"r-{number:06}") for number in range(20_000)])) as file:
        lines = file.requests(without=range(2, 20_000))
        assert next(lines).line_number == 1
        assert file._file.tell() < 2 * 65_536
        assert next(lines).line_number == 20_000


def test_the_file_can_be_read_as_often_as_needed(path: Path) -> None:
    with checked(written(path, *BATCH)) as file:
        first = file.requests()
        next(first)
        assert len(list(file.requests())) == 600
        file.check()
        assert len(list(file.requests())) == 600


# -------------------------------------------------------------------------------- lines that are known


def known(*names: str) -> Callable[[Batch], list[str]]:
    """Tells lines by the text in them, which is their id, too."""
    return lambda some: [next((name for name in names if name.encode() in raw), "") for raw in some.lines]


def test_a_line_that_is_known_is_counted_and_not_checked(path: Path) -> None:
    lines = [batch("r-1"), b"", b'"r-2", which no check would pass', batch("r-3"), batch("r-4")]
    visited: list[RequestLine] = []
    with RequestFile(str(written(path, *lines))) as file:
        survey = file.check(visited.append, known("r-2", "r-3"))
        assert (survey.lines, survey.models) == (4, {"gpt-4.1": 2})
        assert [line.line_number for line in visited] == [1, 5]
        assert [line.line_number for line in file.requests({3})] == [1, 4, 5]


def test_known_lines_are_given_with_the_number_of_the_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "STRIDE", 3)
    given: list[tuple[int, list[bytes]]] = []
    lines = [BATCH[0], b"", *BATCH[1:5]]

    def known(some: Batch) -> list[str]:
        given.append((some.first, list(some.lines)))
        return [""] * len(some.lines)

    with RequestFile(str(written(path, *lines))) as file:
        file.check(None, known)
    assert given == [(1, lines[:3]), (4, lines[3:])]


@pytest.mark.parametrize("names", [["r-1"], ["r-1", "r-2"]])
def test_an_id_of_a_known_line_must_not_stand_twice(path: Path, names: list[str]) -> None:
    with RequestFile(str(written(path, batch("r-1"), batch("r-2"), batch("r-1"), batch("r-2")))) as file:
        with pytest.raises(InputError) as refused:
            file.check(None, known(*names))
        assert str(refused.value).count("duplicates line") == 2


@pytest.mark.parametrize("overrides", [Overrides(stream=True), Overrides(fields={"temperature": b"0"})])
def test_no_line_is_known_where_another_body_is_sent(path: Path, overrides: Overrides) -> None:
    with RequestFile(str(written(path, *BATCH)), overrides) as file:
        assert file.check(None, known("r-")).models == {"gpt-4.1": 600}


# ------------------------------------------------------------------------------------------------ memory

CHECK_UNDER_A_LIMIT = """
import resource, sys
from batchrun.errors import InputError, UsageError
from batchrun.requests.reader import RequestFile

def peak_mb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024

before = peak_mb()
try:
    with RequestFile(sys.argv[1]) as file:
        survey = file.check()
        assert sum(1 for _ in file.requests()) == survey.lines
        print(survey.lines, "lines", file=sys.stderr)
except UsageError as error:
    print(error, file=sys.stderr)
print(peak_mb() - before)
"""


def check_apart(path: Path, memory_mb: int = 1200) -> tuple[str, float]:
    """Check a file in a process of its own; what it says, and the megabytes that it took beyond its start."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))

    done = subprocess.run(
        [sys.executable, "-c", CHECK_UNDER_A_LIMIT, path], capture_output=True, text=True, check=True, preexec_fn=limit
    )
    return done.stderr.strip().replace(f"{path}:", ""), float(done.stdout)


TOO_LONG = "the line is longer than 67,108,864 bytes; split the request"


@pytest.mark.parametrize("size", [200 << 20, 1 << 30], ids=["200 MB", "a gigabyte without a newline"])
def test_an_endless_line_takes_bounded_memory(path: Path, size: int) -> None:
    written(path, BATCH[0])
    os.truncate(path, size)  # a hole: it takes no disk
    with path.open("ab") as file:
        file.write(b"\n" + BATCH[1] + b"\nx\n")
    said, took_mb = check_apart(path)
    assert said == f"2: {TOO_LONG}\n4: not JSON (invalid character (byte 0)); write one JSON object a line"
    assert took_mb < 2.5 * (MAX_LINE_BYTES >> 20)


def zstd_in_one_frame(pieces: list[bytes]) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return b"".join(map(packer.compress, pieces)) + packer.flush()


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(bytes(1 << 20)) * 96, zstd_in_one_frame([bytes(1 << 20)] * 256)],
    ids=["gzip", "zstd"],
)
def test_a_compressed_endless_line_takes_bounded_memory(path: Path, packed: bytes) -> None:
    path.write_bytes(packed)
    said, took_mb = check_apart(path)
    assert said == f"1: {TOO_LONG}"
    assert took_mb < 2.5 * (MAX_LINE_BYTES >> 20)


def test_a_line_of_10_mb_is_sent_whole(path: Path) -> None:
    written(path, batch("long", input="é" * (5 << 20)), BATCH[0])
    (line, _) = read(path)
    assert json.loads(line.body)["input"] == "é" * (5 << 20)


def test_many_lines_take_tens_of_bytes_each(path: Path) -> None:
    count = 100_000
    with path.open("wb") as file:
        for number in range(count):
            file.write(b'{"custom_id":"r-%d","body":{"model":"m","input":"%s"}}\n' % (number, b"x" * 200))
    said, took_mb = check_apart(path)
    assert said == f"{count} lines"
    assert took_mb * (1 << 20) / count < 100


# ----------------------------------------------------------------------------- the corpus, through the CLI

GOOD = {  # name → lines
    "bom.jsonl": 2,
    "crlf.jsonl": 2,
    "blank_lines.jsonl": 2,
    "no_final_newline.jsonl": 2,
    "line_separators.jsonl": 2,
    "duplicate_keys.jsonl": 1,
    "equal_bodies.jsonl": 3,
    "odd_ids.jsonl": 7,
    "compressed.jsonl.gz": 2,
    "compressed.jsonl.zst": 2,
    "compressed_under_a_plain_name.jsonl": 2,
}
ONE_OBJECT = "write one JSON object a line"
NOT_AN_OBJECT = "not an object; write one JSON object a line, {…}"
ITS_OWN = 'not a string with text; write "custom_id": "a unique name"'
NUL = "NUL bytes, not JSON; was the file cut off by a crash, or saved as UTF-16?"
ONE_URL = "write one of /v1/responses, /v1/chat/completions, /v1/embeddings"
BAD = {  # name → what is printed, {} standing for the path
    "nul_in_a_string.jsonl": ["{}:2: " + NUL],
    "nul_tail.jsonl": ["{}:2: " + NUL],
    "bad_utf8.jsonl": ["{}:2: bad UTF-8 at byte 58 (0xE9, in Windows-1252 é); save the file as UTF-8"],
    "utf16.jsonl": ["{} is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {} > requests.jsonl"],
    "nan.jsonl": ["{}:2: not JSON: NaN is not a JSON value; write null or a number"],
    "infinity.jsonl": ["{}:1: not JSON: -Infinity is not a JSON value; write null or a number"],
    "half_a_surrogate_pair.jsonl": [
        "{}:1: half of a surrogate pair (\\ud800 to \\udfff) in a string; write the whole character"
    ],
    "duplicate_id.jsonl": ['{}:3: "custom_id" duplicates line 1; give each line its own'],
    "number_as_id.jsonl": ['{}:2: "custom_id" is 2, not a string with text; write "custom_id": "2"'],
    "null_as_id.jsonl": [f'{{}}:1: "custom_id" is null, {ITS_OWN}'],
    "empty_id.jsonl": [f'{{}}:1: "custom_id" is "", {ITS_OWN}'],
    "no_id.jsonl": ['{}:1: it has a "body" but no "custom_id"; write "custom_id": "a unique name"'],
    "url_to_a_host.jsonl": [f'{{}}:1: "url" is "//evil.example/v1/responses"; {ONE_URL}'],
    "url_absolute.jsonl": [f'{{}}:1: "url" is "https://evil.example/v1/responses"; {ONE_URL}'],
    "url_with_backslashes.jsonl": [f'{{}}:1: "url" is "\\\\\\\\evil.example\\\\v1"; {ONE_URL}'],
    "url_with_a_user.jsonl": [f'{{}}:1: "url" is "@evil.example"; {ONE_URL}'],
    "url_with_dots.jsonl": [f'{{}}:1: "url" is "/v1/../admin"; {ONE_URL}'],
    "url_encoded.jsonl": [f'{{}}:1: "url" is "/v1/%72esponses"; {ONE_URL}'],
    "method_get.jsonl": ['{}:1: "method" is "GET"; write "POST"'],
    "no_body.jsonl": ['{}:1: it has no "body"; write {"custom_id": …, "body": {"model": …, "input": …}}'],
    "no_model.jsonl": ['{}:1: no "model"; write "model": "gpt-4.1" into the body, or pass --model NAME'],
    "not_json.jsonl": ["{} is a table (CSV or the like); make requests of it: batchrun prepare {} -p TEMPLATE"],
    "not_objects.jsonl": [f"{{}}:{number}: {NOT_AN_OBJECT}" for number in (1, 2, 3)],
    "one_json_array.jsonl": ["{} is a JSON array; write one object a line: jq -c '.[]' {} > requests.jsonl"],
    "cut_off.jsonl": [f"{{}}:2: not JSON (Input data was truncated); {ONE_OBJECT}"],
    "two_on_a_line.jsonl": [f"{{}}:1: not JSON (trailing characters (byte 69)); {ONE_OBJECT}"],
    "conversation_twice.jsonl": ['{}:1: "previous_response_id" and "conversation" exclude each other; keep one'],
    "empty.jsonl": [f"{{}}: no requests in it; {ONE_OBJECT}"],
    "only_blank_lines.jsonl": [f"{{}}: no requests in it; {ONE_OBJECT}"],
    "cut_off.jsonl.gz": ["cannot read {}: Compressed file ended before the end-of-stream marker was reached"],
    "cut_off.jsonl.zst": ["cannot read {}: the zstd data ends too early; is the file complete?"],
    "damaged.jsonl.gz": ["cannot read {}: Error -3 while decompressing data: "],
    "damaged.jsonl.zst": ["cannot read {}: zstd decompressor error: Data corruption detected"],
}


class Validated:
    """`batchrun validate` as its entry point runs it."""

    def __init__(self, path: Path | str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["batchrun", "validate", str(path)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        self.exit_code = ended.value.code
        self.out, self.err = capsys.readouterr()


def test_the_corpus_and_its_table_are_the_same() -> None:
    assert {path.name for path in INPUTS.iterdir() if not path.name.startswith(".")} == set(GOOD) | set(BAD)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.smoke
def test_a_good_file_is_summed_up(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Validated(INPUTS / name, monkeypatch, capsys)
    assert (done.exit_code, done.err) == (0, "")
    assert done.out.startswith(
        f"{INPUTS / name}: {GOOD[name]} line{'s' * (GOOD[name] != 1)}, all valid\nmodels: gpt-4.1 {GOOD[name]}\n"
    )


@pytest.mark.parametrize("name", BAD)
@pytest.mark.smoke
def test_a_bad_file_is_refused_with_exit_code_2(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Validated(INPUTS / name, monkeypatch, capsys)
    assert (done.exit_code, done.out) == (2, "")
    said = done.err.removeprefix("batchrun: ").splitlines()
    expected = [problem.replace("{}", str(INPUTS / name)) for problem in BAD[name]]
    assert [line[: len(problem)] for line, problem in zip(said, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            lambda path: written(path, b"[" * 100_000 + b"]" * 100_000),
            f"{{}}:1: {NOT_AN_OBJECT}",
        ),
        (
            lambda path: written(path, b'{"model":"m","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
            "{}:1: nested deeper than 500 levels; flatten it",
        ),
        (lambda path: written(path, b"x" * (65 << 20)), f"{{}}:1: {TOO_LONG}"),
        (lambda path: path.mkdir(), "cannot read {}: Is a directory"),
        (lambda path: None, "cannot read {}: No such file or directory"),
    ],
    ids=["a deep array", "a deep body", "a 65 MB line", "a directory", "no file"],
)
def test_what_is_too_large_to_be_kept_is_refused_too(
    make: Any, problem: str, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(path)
    done = Validated(path, monkeypatch, capsys)
    program = "batchrun: " if problem.startswith("cannot") else ""  # a problem of a line names file and line instead
    assert (done.exit_code, done.err) == (2, f"{program}{problem.replace('{}', str(path))}\n")


def test_a_huge_id_is_an_id(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    written(path, batch("x" * (4 << 20)))
    assert Validated(path, monkeypatch, capsys).exit_code == 0


def test_a_signal_that_interrupts_no_read_is_heeded_all_the_same(tmp_path: Path) -> None:
    """As one that comes just before a read blocks: here another thread gets it, and the read is not broken off."""
    fifo = tmp_path / "requests"
    os.mkfifo(fifo)

    class HeededError(Exception):
        pass

    def heed(number: int, frame: object) -> None:
        raise HeededError

    def send_signal() -> None:
        with fifo.open("wb"):  # opens once the reader does
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
            time.sleep(0.05)
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            if not is_heeded.wait(3):
                has_ended.set()

    is_heeded, has_ended = threading.Event(), threading.Event()
    before = signal.signal(signal.SIGUSR1, heed)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    sender = threading.Thread(target=send_signal)
    try:
        sender.start()
        with pytest.raises(HeededError):
            RequestFile(str(fifo))
        assert not has_ended.is_set(), "heeded only once the pipe had ended"
    finally:
        is_heeded.set()
        sender.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGUSR1, before)
