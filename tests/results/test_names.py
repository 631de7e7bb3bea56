"""Where the files of a job lie: names that clash or are too long, links, locks that a disk has not, modes."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
from pathlib import Path

import pytest

from batchrun import Endpoint, Job, run
from batchrun.errors import DiskError, ResultFileError, UsageError
from batchrun.job import tune
from batchrun.results.journal import Journal
from batchrun.results.last_run import LastRun
from batchrun.results.paths import ResultPaths
from batchrun.results.store import FileStore
from batchrun.simulator.options import GatewayOptions
from tests.cli.commands import FAST, Command
from tests.results.test_journal import taken_up
from tests.support import ids, record, write_prices, write_requests

COMPANIONS = ["log", "quarantine", "rescue", "rewrite", "tune", "report.json"]


@pytest.fixture
def batchrun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    return Command(monkeypatch, capsys)


def simulated(requests: Path, results: Path, *, no_lock: bool = False) -> Job:
    gateway = GatewayOptions(keep_rows=False)
    return Job(str(requests), results, Endpoint("http://127.0.0.1"), simulate=gateway, no_lock=no_lock)


# -------------------------------------------------------------------------------------------------- clashes


@pytest.mark.parametrize("ending", ["", *(f".{companion}" for companion in COMPANIONS)])
@pytest.mark.parametrize("link", ["", "symbolic", "hard"])
@pytest.mark.parametrize("what", ["requests", "prices", "key", "report"])
def test_no_file_is_read_and_written(batchrun: Command, tmp_path: Path, what: str, link: str, ending: str) -> None:
    """Refused before anything is opened: the folder is as it was."""
    clash = f"r.jsonl{ending}"
    name = "alias" if link else clash
    if what == "report" and ending == ".report.json":
        pytest.skip("that is where it belongs")
    write_requests(tmp_path / ("q.jsonl" if what != "requests" else name), 2)
    if what == "prices":
        name = f"{name}.json" if link else name
        (tmp_path / name).write_bytes(write_prices(tmp_path).read_bytes())
    if what == "key":
        (tmp_path / name).write_text("sk-0123456789")
    if what == "report" and link:
        pytest.skip("a report is not read")
    if link == "symbolic":
        (tmp_path / clash).symlink_to(tmp_path / name)
    elif link == "hard":
        (tmp_path / clash).hardlink_to(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    words = {
        "requests": [],
        "prices": ["--prices", name],
        "key": ["--api-key-file", name],
        "report": ["--report", name],
    }
    where = ["--base-url", "http://127.0.0.1:1/v1"] if what == "key" else list(FAST)
    done = batchrun("run", name if what == "requests" else "q.jsonl", "-o", "r.jsonl", *words[what], *where)
    assert done.code == 2, done
    assert name in done.err
    assert "Traceback" not in done.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_python_interface_refuses_them_as_well(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "r.jsonl.log", 2)
    before = requests.read_bytes()
    with pytest.raises(UsageError, match="is the request file; the run log would be written there"):
        run(simulated(requests, tmp_path / "r.jsonl"))
    assert requests.read_bytes() == before


@pytest.mark.parametrize("length", [243, 244, 245, 255, 300])
def test_a_long_name_works_or_is_refused_in_words(batchrun: Command, tmp_path: Path, length: int) -> None:
    write_requests(tmp_path / "q.jsonl", 2)
    name = "ü" * ((length - 6) // 2) + "a" * (length % 2) + ".jsonl"
    assert len(os.fsencode(name)) == length
    done = batchrun("run", "q.jsonl", "-o", name, *FAST)
    assert "Traceback" not in done.err
    if length <= 243:
        assert done.code == 0
        assert (tmp_path / f"{name}.report.json").exists()
        assert batchrun("report", name).code == 0
        assert batchrun("tune", name).code == 2, "no run is active, and its request would have a name that fits"
    else:
        assert (done.code, "is too long by" in done.err) == (2, True)
        assert [path.name for path in tmp_path.iterdir()] == ["q.jsonl"]
        assert batchrun("tune", name).code == 2
        assert batchrun("estimate", "q.jsonl", "-o", name).code in (0, 2)


# ---------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("companion", ["log", "quarantine", "rescue", "rewrite"])
def test_no_companion_follows_a_link(tmp_path: Path, companion: str) -> None:
    """Whoever may write to the directory could have any file of the user's overwritten, or taken for answers."""
    victim, results = tmp_path / "victim", tmp_path / "r.jsonl"
    victim.write_bytes(before := record("r-9", 9))
    results.write_bytes(record("r-1") + b"damaged\n" + record("r-2", 2))
    (tmp_path / f"r.jsonl.{companion}").symlink_to(victim)
    try:
        store = FileStore(ResultPaths.of(results))
        try:
            assert [head.custom_id for heads in store.heads() for head in heads] == ["r-1", "r-2"]
        finally:
            store.close()
    except (DiskError, ResultFileError) as error:
        told = str(error)
    else:
        told = "the link itself was removed"
    assert "link" in told
    assert victim.read_bytes() == before
    assert "r-9" not in results.read_text()


def test_a_report_replaces_a_link_and_leaves_its_target(batchrun: Command, tmp_path: Path) -> None:
    write_requests(tmp_path / "q.jsonl", 1)
    (tmp_path / "victim").write_text("mine")
    for name in ("r.jsonl.report.json", "r.jsonl.report.json.tmp"):
        (tmp_path / name).symlink_to("victim")
    assert batchrun("run", "q.jsonl", "-o", "r.jsonl", *FAST).code == 0
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "r.jsonl.report.json").is_symlink()


def test_modes_follow_the_umask(batchrun: Command, tmp_path: Path) -> None:
    write_requests(tmp_path / "q.jsonl", 2)
    before = os.umask(0o027)
    try:
        assert batchrun("run", "q.jsonl", "-o", "r.jsonl", *FAST).code == 0
        (tmp_path / "r.jsonl").write_bytes((tmp_path / "r.jsonl").read_bytes() + b"damaged\n")
        assert batchrun("run", "q.jsonl", "-o", "r.jsonl", *FAST).code == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("r.jsonl*")}
    assert set(modes) == {"r.jsonl", "r.jsonl.log", "r.jsonl.quarantine", "r.jsonl.report.json"}
    assert set(modes.values()) == {0o640}


# ---------------------------------------------------------------------------------------------------- disks


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_told_of_and_works_with_no_lock(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, results = write_requests(tmp_path / "q.jsonl", 3), tmp_path / "r.jsonl"

    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ResultFileError, match=r"has no file locks \(.*--no-lock"):
        run(simulated(requests, results))
    assert run(simulated(requests, results, no_lock=True)).exit_code == 0
    assert ids(results) == ["r-1", "r-2", "r-3"]
    results.write_bytes(results.read_bytes() + b"damaged\n")
    assert run(simulated(requests, results, no_lock=True)).exit_code == 0
    assert (tmp_path / "r.jsonl.quarantine").exists()
    assert LastRun.read(ResultPaths.of(results).log) is not None
    with pytest.raises(Exception, match="no answer within"):
        tune.ask(results, tune.Tuning(), patience_s=0.2)


def test_a_file_that_may_not_be_written_any_more_gives_its_answers_to_the_rescue_file(tmp_path: Path) -> None:
    """`chattr +i` in the middle of a run; the next one adds what was rescued."""
    results = tmp_path / "r.jsonl"
    with Journal(ResultPaths.of(results)) as journal:
        journal.append([record("r-1")])
        if subprocess.run(["chattr", "+i", results], capture_output=True, check=False).returncode:
            pytest.skip("this file system has no such attribute")
        try:
            with pytest.raises(DiskError, match=r"Operation not permitted; .*saved in r\.jsonl\.rescue"):
                journal.append([record("r-2", 2), record("r-3", 3)])
            with pytest.raises(ResultFileError, match="Operation not permitted"):
                Journal(ResultPaths.of(results))
        finally:
            subprocess.run(["chattr", "-i", results], check=True)
    assert taken_up(results) == ["r-1", "r-2", "r-3"]
