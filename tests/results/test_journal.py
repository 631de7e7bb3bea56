"""The result file: made whole after anything, appended to or left as it was, and nobody else's is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from batchrun.errors import DiskError, PipeError, ResultFileError
from batchrun.records.result import ResultHead
from batchrun.results import journal as journal_module
from batchrun.results.files import open_locked
from batchrun.results.journal import Journal
from batchrun.results.paths import ResultPaths
from batchrun.results.store import StreamStore
from tests.support import FailingFile, Faults, file_size_limit, mounted, record

THREE = [record(f"r-{number}", number) for number in (1, 2, 3)]
NEXT = record("r-4", 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def records_of(journal: Journal) -> Iterator[ResultHead]:
    return chain.from_iterable(journal.batches())


def taken_up(path: Path, *appended: bytes) -> list[str]:
    """Open as a run does, append, and return the ids that were there before."""
    with Journal(ResultPaths.of(path)) as journal:
        found = [head.custom_id for head in records_of(journal)]
        for line in appended:
            journal.append([line])
    return found


# --------------------------------------------------------------------------------------------- torn tails


def test_every_prefix_recovers_and_takes_the_next_record(path: Path) -> None:
    """Wherever a kill cuts the file: whole records stay, the torn one goes, the next one stands alone."""
    data = b"".join(THREE)
    ends = [len(b"".join(THREE[: count + 1])) for count in range(3)]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = sum(cut >= end - 1 for end in ends)  # a missing newline costs no record
        assert taken_up(path, NEXT) == ["r-1", "r-2", "r-3"][:whole], cut
        assert path.read_bytes() == b"".join(THREE[:whole]) + NEXT, cut
    assert not list(path.parent.glob("*.quarantine"))


def test_a_new_file_goes_again_only_where_it_is_to_be_forgotten(path: Path) -> None:
    Journal(ResultPaths.of(path)).close()
    assert path.read_bytes() == b""
    Journal(ResultPaths.of(path)).close(forget=True)
    assert path.exists(), "it was there before"
    path.unlink()
    Journal(ResultPaths.of(path)).close(forget=True)
    assert not path.exists()


# ------------------------------------------------------------------------------------------------ damage


def edited(old: bytes, new: bytes) -> bytes:
    assert THREE[1].count(old) == 1
    return THREE[1].replace(old, new)


DAMAGE = {
    "NULs": b"\0" * 4096 + b"\n",
    "half a record": THREE[1][:200] + b"\n",
    "two halves": THREE[1][:200] + THREE[1][150:],
    "bad UTF-8": edited("ü".encode(), b"\xfc"),
    "a blank line": b"\n",
    "other JSON": b'{"custom_id":"r-2"}\n',
    "an edited hash": edited(b'"body_hash":"0123456789abcdef', b'"body_hash":"forged'),
    "a longer hash": edited(b'"body_hash":"0', b'"body_hash":"00'),
    "no such date": edited(b"2026-01-02T", b"2026-02-31T"),
    "no date": edited(b"2026-01-02T", b"20xx-01-02T"),
    "a date without zone": edited(b".678Z", b".678"),
    "negative tokens": edited(b'"output_tokens":20', b'"output_tokens":-20'),
    "absurd tokens": edited(b'"output_tokens":20', b'"output_tokens":1' + b"0" * 60),
    "absurd seconds": edited(b'"elapsed_s":1.5', b'"elapsed_s":1e300'),
    "no outcome": edited(b'"outcome":"succeeded"', b'"outcome":"maybe"'),
    "deep nesting": edited(b'"request_id"', b'"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"request_id"'),
    "a lone surrogate": edited(b'"custom_id":"r-2"', b'"custom_id":"\\ud800"'),
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.smoke
def test_a_damaged_line_is_set_aside_wherever_it_stands(path: Path, name: str, place: int) -> None:
    lines = [THREE[0], THREE[2]]
    path.write_bytes(b"".join([*lines[:place], DAMAGE[name], *lines[place:]]))
    with Journal(ResultPaths.of(path)) as journal:
        assert [head.custom_id for head in records_of(journal)] == ["r-1", "r-3"]
        assert journal.quarantined == 1
        assert [head.custom_id for head in records_of(journal)] == ["r-1", "r-3"]
        assert journal.quarantined == 1, "it is set aside once"
        journal.append([NEXT])
    assert path.read_bytes() == THREE[0] + THREE[2] + NEXT
    assert path.with_name("results.jsonl.quarantine").read_bytes() == DAMAGE[name]


def test_damage_among_many_costs_no_record_beside_it(path: Path) -> None:
    """Records are read many at a time; where one of them is damaged the others stand all the same."""
    lines = [record(f"r-{number}", number, text="x" * 600) for number in range(1, 501)]
    for number in (1, 250, 251, 500):
        lines[number - 1] = lines[number - 1].replace(b'"outcome":', b'"outcome"')
    path.write_bytes(b"".join(lines))
    with Journal(ResultPaths.of(path)) as journal:
        sizes = [len(heads) for heads in journal.batches()]
        assert sum(sizes) == 496
        assert max(sizes) > 50
        assert journal.quarantined == 4
    assert path.with_name("results.jsonl.quarantine").read_bytes() == b"".join(lines[at] for at in (0, 249, 250, 499))


@pytest.mark.parametrize("tail", [b"\0" * 300, b"scribbled", b'{"id":"batch_req_1","custom_id":"r-9"}', b'["x"]'])
def test_a_tail_that_no_kill_leaves_is_set_aside_and_not_cut_off(path: Path, tail: bytes) -> None:
    path.write_bytes(THREE[0] + tail)
    assert taken_up(path, NEXT) == ["r-1"]
    assert path.read_bytes() == THREE[0] + NEXT
    assert path.with_name("results.jsonl.quarantine").read_bytes() == tail + b"\n"


def test_later_damage_is_added_to_the_quarantine(path: Path) -> None:
    for damage in (b"one\n", b"two\n"):
        path.write_bytes(THREE[0] + damage + THREE[1])
        assert taken_up(path) == ["r-1", "r-2"]
    assert path.with_name("results.jsonl.quarantine").read_bytes() == b"one\ntwo\n"


# ----------------------------------------------------------------------------------------- what is not ours

_BATCH = (
    b'{"id":"batch_req_1","custom_id":"r-1","response":{"status_code":200,"request_id":"x","body":{}},"error":null}'
)


@pytest.mark.parametrize(
    "content",
    [
        b"notes\n",
        b"notes",
        b"a,b\n1,2\n",
        b"\n\n\n",
        b"\0" * 5000,
        b'{"custom_id":"r-1","body":{"model":"m"}}\n{"custom_id":"r-2","body":{"model":"m"}}',
        _BATCH,  # OpenAI's own batch output, written without spaces
        _BATCH + b"\n",
        _BATCH + b"\n" + _BATCH[:60],
        b"notes\n" + THREE[0][:60],
    ],
)
def test_a_foreign_file_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    before = path.stat()
    with (
        Journal(ResultPaths.of(path)) as journal,
        pytest.raises(ResultFileError, match="contains no batchrun results"),
    ):
        list(records_of(journal))
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def _folder(place: Path) -> Path:
    place.mkdir()
    return place


def _fifo(place: Path) -> Path:
    os.mkfifo(place)
    return place


def _through_a_file(place: Path) -> Path:
    place.write_bytes(b"x")
    return place / "results.jsonl"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_folder, "not a regular file"),
        (_fifo, "not a regular file"),
        (_through_a_file, "Not a directory"),
        (lambda place: place / "missing" / "results.jsonl", "No such file or directory"),
        (lambda place: Path("/proc/results.jsonl"), "No such file or directory"),
        (lambda place: Path("/dev/full"), "not a regular file"),
    ],
    ids=["directory", "FIFO", "path through a file", "missing directory", "/proc", "/dev/full"],
)
def test_a_path_that_cannot_hold_results(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(ResultFileError, match=f"{says}.*choose another -o"):
        Journal(ResultPaths.of(make(tmp_path / "place")))


def test_a_read_only_file_system(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro") as disk, pytest.raises(ResultFileError, match="Read-only file system"):
        Journal(ResultPaths.of(disk / "results.jsonl"))


def test_a_symlink_is_followed_and_stays_one(tmp_path: Path, path: Path) -> None:
    for target in (tmp_path / "elsewhere.jsonl", tmp_path / "not-yet.jsonl"):
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        if target.name == "elsewhere.jsonl":
            target.write_bytes(THREE[0] + b"damage\n")
        taken_up(path, NEXT)
        assert path.is_symlink()
        assert target.read_bytes().endswith(NEXT)
    assert (tmp_path / "elsewhere.jsonl.quarantine").read_bytes() == b"damage\n"


# ----------------------------------------------------------------------------------------------- rewriting


@pytest.mark.smoke
def test_removed_records_go_and_the_rest_stays_byte_for_byte(path: Path) -> None:
    path.write_bytes(b"".join(THREE))
    path.chmod(0o640)
    with Journal(ResultPaths.of(path)) as journal:
        assert journal.remove(lambda head: head.custom_id == "r-2") == 1
        assert path.read_bytes() == THREE[0] + THREE[2]
        journal.append([NEXT])
        assert journal.remove(lambda head: head.custom_id == "r-9") == 0
        journal.sync()
    assert path.read_bytes() == THREE[0] + THREE[2] + NEXT
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_records_larger_than_a_piece_survive_a_rewrite(path: Path) -> None:
    large = [record(f"r-{number}", number, text="x" * 3_000_000) for number in (1, 2, 3)]
    path.write_bytes(b"".join(large) + large[0][:2_500_000])
    with Journal(ResultPaths.of(path)) as journal:
        assert len(list(records_of(journal))) == 3
        journal.remove(lambda head: head.custom_id == "r-2")
    assert path.read_bytes() == large[0] + large[2]


def test_what_a_killed_rewrite_left_is_cleared_away(path: Path) -> None:
    path.write_bytes(THREE[0])
    leftover = path.with_name("results.jsonl.rewrite")
    leftover.write_bytes(THREE[1])
    assert taken_up(path) == ["r-1"]
    assert not leftover.exists()


def test_cleared(path: Path) -> None:
    path.write_bytes(b"".join(THREE))
    path.with_name("results.jsonl.rescue").write_bytes(THREE[0])
    with Journal(ResultPaths.of(path)) as journal:
        journal.clear()
        assert list(records_of(journal)) == []
        journal.append([NEXT])
    assert path.read_bytes() == NEXT


_SECOND = (
    "import sys, pathlib; from batchrun.results.journal import Journal; from batchrun.results.paths import ResultPaths;"
    " Journal(ResultPaths.of(pathlib.Path(sys.argv[1])))"
)


def test_a_second_process_is_refused_before_and_after_a_rewrite(path: Path) -> None:
    path.write_bytes(b"".join(THREE))
    command = [sys.executable, "-c", _SECOND, str(path)]
    with Journal(ResultPaths.of(path)) as journal:
        journal.remove(lambda head: head.custom_id == "r-2")
        done = subprocess.run(command, capture_output=True, text=True)
        assert "being written by another run" in done.stderr
    assert subprocess.run(command).returncode == 0


def test_the_lock_is_on_the_file_that_has_the_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened, then replaced by another run's rewrite before it is locked: the new file is the one to lock."""
    path.write_bytes(THREE[0])
    replacement = path.with_name("other")
    replacement.write_bytes(THREE[1])

    def lock_too_late(file: object) -> bool:
        if replacement.exists():
            replacement.replace(path)
        return True

    monkeypatch.setattr("batchrun.results.files.lock", lock_too_late)
    file = open_locked(path)
    assert file is not None
    with file:
        assert os.path.samestat(os.fstat(file.fileno()), path.stat())


# ------------------------------------------------------------------------------------------- full disks


def test_a_file_size_limit_at_every_byte(path: Path) -> None:
    """EFBIG from the kernel, after a short write or at once: the file ends where it did before, and goes on."""
    path.write_bytes(THREE[0])
    with Journal(ResultPaths.of(path)) as journal:
        list(records_of(journal))
        for size in range(len(THREE[0]), len(THREE[0]) + len(NEXT)):
            with file_size_limit(size), pytest.raises(DiskError, match="File too large"):
                journal.append([NEXT])
            assert path.stat().st_size == len(THREE[0]), size
        journal.append([NEXT])
    assert path.read_bytes() == THREE[0] + NEXT


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """ENOSPC from a real file system of 64 KiB; there is room again once something else is gone."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        path, ballast = disk / "results.jsonl", disk / "ballast"
        ballast.write_bytes(bytes(50_000))
        with Journal(ResultPaths.of(path)) as journal:
            lines = [record(f"r-{number}", number) for number in range(1000)]
            with pytest.raises(DiskError, match=r"No space left on device; what is in it is whole\. Make room"):
                journal.append([b"".join(lines)])
            assert path.read_bytes() == b""
            for line in lines[:20]:
                journal.append([line])
            with pytest.raises(DiskError, match=r"No space left on device"):
                journal.append([b"".join(lines)])
            assert path.read_bytes() == b"".join(lines[:20])
            with pytest.raises(DiskError, match=r"cannot rewrite .* No space left"):
                journal.remove(lambda head: head.custom_id == "r-3")
            assert sorted(file.name for file in disk.iterdir()) == ["ballast", "results.jsonl"]
            ballast.unlink()
            journal.remove(lambda head: head.custom_id == "r-3")
            journal.append([lines[3]])
        assert path.read_bytes() == b"".join([*lines[:3], *lines[4:20], lines[3]])


def test_of_records_that_do_not_fit_together_those_that_fit_are_kept(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k") as disk:
        path = disk / "results.jsonl"
        lines = [record(f"r-{number}", number) for number in range(1000)]
        with Journal(ResultPaths.of(path)) as journal:
            with pytest.raises(DiskError) as caught:
                journal.append(lines)
            assert 10 < caught.value.written < 1000
            assert path.read_bytes() == b"".join(lines[: caught.value.written])
            with pytest.raises(DiskError):
                journal.append([lines[0]])


def test_half_a_record_that_cannot_be_taken_back_is_nobodys_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk refuses the rest of a record, and to be shortened: the next answers must not be glued to the half."""
    faults = Faults("short", when=2)

    class Stubborn(FailingFile):
        def truncate(self, size: int) -> None:
            faults.fail("EIO")

    with monkeypatch.context() as patched:
        patched.setattr(journal_module, "open_locked", lambda place: Stubborn(open_locked(place), faults))
        with Journal(ResultPaths.of(path)) as journal:
            journal.append([THREE[0]])
            with pytest.raises(DiskError, match="No space left"):
                journal.append([THREE[1]])
            with pytest.raises(DiskError, match=r"saved in results\.jsonl\.rescue"):
                journal.append([THREE[2]])
    assert taken_up(path) == ["r-1", "r-2", "r-3"]
    assert path.read_bytes() == b"".join(THREE)


def test_a_failed_sync_is_never_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(ResultPaths.of(path)) as journal:
        journal.append([NEXT])
        faults = Faults("EIO", when=1)
        monkeypatch.setattr(journal_module, "datasync", lambda fd: faults.call("sync"))
        for _ in range(3):
            with pytest.raises(DiskError, match=r"cannot sync .* Input/output error"):
                journal.sync()
        assert len(faults.calls) == 1


# ------------------------------------------------------------------------------------------------ torture

_DOUBLE = record("r-1", 1, text="again")
_TORN = THREE[0] + b"damage\n" + record("r-2", 2, failed=True) + _DOUBLE + THREE[2] + NEXT[:100]


def _job(path: Path) -> list[str]:
    """What a run does to its file, in the order in which it does it; returns the ids that it appended."""
    with Journal(ResultPaths.of(path)) as journal:
        seen: set[str] = set()
        list(records_of(journal))

        def is_again(head: ResultHead) -> bool:
            was_seen = head.custom_id in seen
            seen.add(head.custom_id)
            return was_seen

        journal.remove(is_again, to_quarantine=True)
        journal.remove(lambda head: head.error is not None)
        done = {head.custom_id for head in records_of(journal)}
        missing = [number for number in range(1, 6) if f"r-{number}" not in done]
        for number in missing:
            journal.append([record(f"r-{number}", number)])
            journal.sync()
    return [f"r-{number}" for number in missing]


def _tortured(path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Run the job with one call failing; returns the message of the error that ended it."""

    def opened(place: Path) -> object:
        faults.call("open")
        file = open_locked(place)
        return file and FailingFile(file, faults)

    with monkeypatch.context() as patched:
        patched.setattr(journal_module, "open_locked", opened)
        patched.setattr(os, "fsync", faults.before("fsync", os.fsync))
        patched.setattr(journal_module, "datasync", lambda fd: faults.call("fdatasync"))
        patched.setattr(Path, "replace", faults.before("rename", Path.replace))
        try:
            _job(path)
        except (DiskError, ResultFileError) as error:
            return str(error)
    return None


@pytest.mark.parametrize("what", ["ENOSPC", "EIO", "EDQUOT", "short"])
def test_the_nth_call_fails_for_every_n(path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file never loses a record that was there, never holds half of one, and the next run finishes the job."""
    quarantine = path.with_name("results.jsonl.quarantine")
    everything = Faults(what, when=10**9)
    path.write_bytes(_TORN)
    assert _tortured(path, everything, monkeypatch) is None
    assert {"open", "write", "fsync", "fdatasync", "rename"} <= set(everything.calls)
    for when in range(1, len(everything.calls) + 1):
        path.write_bytes(_TORN)
        quarantine.unlink(missing_ok=True)
        faults = Faults(what, when)
        message = _tortured(path, faults, monkeypatch)
        assert str(path) in (message or ""), f"call {when} failed and nobody noticed"
        assert len(faults.calls) >= when
        before = path.read_bytes()
        assert THREE[0] in before
        assert THREE[2] in before
        assert before.endswith((b"\n", NEXT[:100]))
        for moved in (b"damage\n", _DOUBLE):
            assert moved in before or moved in quarantine.read_bytes(), "what is moved is never in neither file"
        assert not path.with_name("results.jsonl.rewrite").exists()
        written = {f"r-{number}" for number in (4, 5) if record(f"r-{number}", number) in before}
        assert not written & set(_job(path)), "what was there is not written again"
        assert sorted(taken_up(path)) == ["r-1", "r-2", "r-3", "r-4", "r-5"]


# ----------------------------------------------------------------------- somebody else at the file meanwhile


def _removed(path: Path) -> None:
    path.unlink()


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(THREE[1])
    other.replace(path)


def _truncated(path: Path) -> None:
    os.truncate(path, 10)


def _grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(THREE[1])


@pytest.mark.parametrize(
    ("happens", "says", "left"),
    [
        (_removed, "was removed while running", ["r-1", "r-4", "r-5"]),
        (_replaced, "was replaced while running", ["r-2", "r-1", "r-4", "r-5"]),
        (_truncated, "was changed by another program", ["r-4", "r-5"]),
        (_grown, "was changed by another program", ["r-1", "r-2", "r-4", "r-5"]),
    ],
)
def test_answers_that_lost_their_file_are_saved_and_taken_in(
    path: Path, happens: Callable[[Path], None], says: str, left: list[str]
) -> None:
    with Journal(ResultPaths.of(path)) as journal:
        journal.append([THREE[0]])
        happens(path)
        for line in (NEXT, record("r-5", 5)):
            with pytest.raises(DiskError, match=f"{says}.*saved in results.jsonl.rescue"):
                journal.append([line])
    with Journal(ResultPaths.of(path)) as journal:
        assert not journal.is_new
        assert [head.custom_id for head in records_of(journal)] == left
        assert journal.rescued == (3 if happens in (_removed, _replaced) else 2)
    assert not path.with_name("results.jsonl.rescue").exists()
    assert taken_up(path) == left


def test_a_rescue_is_not_taken_into_somebody_elses_file(path: Path) -> None:
    rescue = path.with_name("results.jsonl.rescue")
    rescue.write_bytes(NEXT)
    path.write_bytes(b"notes\n")
    with Journal(ResultPaths.of(path)) as journal, pytest.raises(ResultFileError):
        list(records_of(journal))
    assert path.read_bytes() == b"notes\n"
    assert rescue.read_bytes() == NEXT


def test_a_full_disk_leaves_the_rescue_where_it_is(path: Path) -> None:
    rescue = path.with_name("results.jsonl.rescue")
    rescue.write_bytes(NEXT + THREE[2])
    path.write_bytes(THREE[0])
    with file_size_limit(len(THREE[0]) + len(NEXT) + 5), Journal(ResultPaths.of(path)) as journal:
        with pytest.raises(DiskError, match="cannot take"):
            list(records_of(journal))
        assert path.read_bytes() == THREE[0]
        assert rescue.read_bytes() == NEXT + THREE[2]
    assert taken_up(path) == ["r-1", "r-4", "r-3"]


def test_where_nothing_can_be_saved_it_still_says_what_happened(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with Journal(ResultPaths.of(folder / "results.jsonl")) as journal:
        (folder / "results.jsonl").unlink()
        folder.rmdir()
        with pytest.raises(DiskError, match="was removed while running; run the same command again"):
            journal.append([NEXT])


# -------------------------------------------------------------------------------------------------- pipes


def test_a_pipe_gets_whole_records_and_tells_when_its_reader_has_gone() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        stream = StreamStore(file)
        stream.append([NEXT])
        stream.sync()
        assert os.read(reader, 10_000) == NEXT
        os.close(reader)
        with pytest.raises(PipeError, match="cannot write standard output: Broken pipe"):
            stream.append([NEXT])


def test_a_full_pipe_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    script = "import sys; d = sys.stdin.buffer.read(); print(len(d))"
    with os.fdopen(writer, "wb") as file, os.fdopen(reader, "rb") as pipe:
        child = subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=subprocess.PIPE)
        pipe.close()
        stream = StreamStore(file)
        for _ in range(20):
            stream.append([b"x" * 100_000])
        file.close()
        assert json.loads(child.communicate(timeout=10)[0]) == 2_000_000


def test_a_full_device_is_no_broken_pipe() -> None:
    with Path("/dev/full").open("wb") as file, pytest.raises(DiskError, match="No space left on device"):
        StreamStore(file).append([NEXT])


def test_sigxfsz_does_not_kill() -> None:
    """Python ignores the signal of a file size limit; without that EFBIG would be a death."""
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
