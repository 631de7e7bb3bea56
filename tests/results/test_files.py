"""Files that are written whole or not at all, and what becomes of a draft."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batchrun.results import files
from batchrun.results.files import NoLocksError, drafting, writing_whole


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(".")}


def left_by_a_kill(path: Path) -> None:
    """Leave the draft of a process that was killed while it wrote `path`."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom batchrun.results.files import writing_whole\n"
        "with writing_whole(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half')\n    file.flush()\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL


def test_the_draft_that_a_kill_left_goes_with_the_next_writing_of_the_same_file(tmp_path: Path) -> None:
    left_by_a_kill(tmp_path / "out.csv")
    left_by_a_kill(tmp_path / "other.csv")
    assert len(hidden(tmp_path)) == 2
    with writing_whole(tmp_path / "out.csv") as file:
        file.write(b"whole")
    assert (tmp_path / "out.csv").read_bytes() == b"whole"
    assert len(hidden(tmp_path)) == 1
    with writing_whole(tmp_path / "other.csv"):
        pass
    assert not hidden(tmp_path)


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with writing_whole(pipe) as file:
        file.write(b"whole")
    assert os.read(reader, 100) == b"whole"
    os.close(reader)
    assert pipe.is_fifo()
    assert not hidden(tmp_path)


def test_a_device_is_written_to_and_stays_one() -> None:
    with writing_whole(Path(f"/dev/fd/{os.open(os.devnull, os.O_WRONLY)}")) as file:
        file.write(b"gone")


def test_nothing_takes_the_place_of_what_is_in_dev(tmp_path: Path) -> None:
    """Standard output may lead to a plain file, by a link that root could replace."""
    assert files.is_no_place(Path("/dev/stdout"))
    assert not files.is_no_place(tmp_path / "out.csv")


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_draft_that_is_being_written_stays(tmp_path: Path, is_closed: bool) -> None:
    """Even where its file is closed already, and about to take its place."""
    path = tmp_path / "out.csv"
    with drafting(path, "tmp") as (draft, file):
        file.write(b"slow")
        if is_closed:
            file.close()
        with writing_whole(path) as other:
            other.write(b"fast")
        assert hidden(tmp_path) == {draft.name}
        file.close()
        draft.replace(path)
    assert path.read_bytes() == b"slow"
    assert not hidden(tmp_path)


def test_a_draft_that_is_taken_for_a_stale_one_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = files.lock, list[Path]()

    def late(file: object) -> bool:
        if not removed:
            removed.extend(tmp_path.glob(".*"))
            removed[0].unlink()
        return real(file)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "lock", late)
    with writing_whole(tmp_path / "out.csv") as file:
        file.write(b"whole")
    assert len(removed) == 1
    assert (tmp_path / "out.csv").read_bytes() == b"whole"


def test_without_locks_a_draft_stays_as_nobody_knows_whether_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(file: object) -> bool:
        raise NoLocksError

    left_by_a_kill(tmp_path / "out.csv")
    monkeypatch.setattr(files, "lock", none)
    with writing_whole(tmp_path / "out.csv") as file:
        file.write(b"whole")
    assert (tmp_path / "out.csv").read_bytes() == b"whole"
    assert len(hidden(tmp_path)) == 1
