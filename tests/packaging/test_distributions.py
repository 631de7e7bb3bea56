"""The wheel and the sdist: what is in them, and that each runs where it is installed, away from the checkout."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath

import pytest

from batchrun.version import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "batchrun", "pyproject.toml"}
TOP_LEVEL |= {"samples", "tests"}
LEFT_OVERS = [  # what a work tree holds beside what belongs to it
    "build/lib/batchrun/runner.py",
    "batchrun.egg-info/SOURCES.txt",
    "batchrun/__pycache__/runner.cpython-311.pyc",
    "results-labelling.jsonl",
    "samples/evaluation/results.jsonl",
    ".venv/lib/python3.11/site-packages/other.py",
    "scratch/notes.txt",
]


def do(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end without what this process has of Python and of a gateway in its environment."""
    ours = ("OPENAI_", "PYTHON", "PIP_", "VIRTUAL_ENV")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean | {"PYTHONUTF8": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@dataclass(frozen=True)
class Built:
    """The distributions of a tree that holds left-overs, and the sdist unpacked."""

    wheel: Path
    sdist: Path
    unpacked: Path

    def wheel_files(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def sdist_files(self) -> set[str]:
        paths = (path.relative_to(self.unpacked) for path in self.unpacked.rglob("*") if path.is_file())
        return {path.as_posix() for path in paths}

    def metadata(self) -> Message:
        with zipfile.ZipFile(self.wheel) as archive:
            text = archive.read(f"batchrun-{__version__}.dist-info/METADATA").decode()
        return email.message_from_string(text)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both distributions, built from a copy of the tree as somebody works in it."""
    folder = tmp_path_factory.mktemp("distributions")
    tree = folder / "tree"
    shutil.copytree(
        ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__")
    )
    for name in LEFT_OVERS:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("a left-over\n")
    do(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", folder / "dist", cwd=tree)
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return Built(wheel, sdist, folder / f"batchrun-{__version__}")


# ------------------------------------------------------------------------------------------- what is in them


def source_files(folder: str) -> set[str]:
    """The files of a folder of the checkout, left-overs of running and of testing aside."""
    paths = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    ours = (path for path in paths if "__pycache__" not in path.parts and not _is_left_over(path))
    return {path.as_posix() for path in ours}


def _is_left_over(path: Path) -> bool:
    """Result files of samples that were run from the checkout."""
    return path.name.startswith("results") and path.suffix != ".py"


def test_the_wheel_is_the_package_with_its_manual_and_nothing_else(built: Built) -> None:
    files = built.wheel_files()
    assert {name for name in files if ".dist-info/" not in name} == source_files("batchrun")
    assert {"batchrun/py.typed", "batchrun/docs/guide.md", "batchrun/version.py"} <= files
    assert not [name for name in files if PurePosixPath(name).parts[0] in ("tests", "samples", "build")]
    assert f"batchrun-{__version__}.dist-info/licenses/LICENSE" in files


def test_the_sdist_has_what_building_and_testing_need_and_no_left_overs(built: Built) -> None:
    files = built.sdist_files()
    assert {PurePosixPath(name).parts[0] for name in files} == TOP_LEVEL
    assert files >= source_files("batchrun") | source_files("tests") | source_files("samples")
    assert {"tests/conftest.py", "tests/inputs/.gitattributes", ".ci/run", "samples/labelling/messages.csv"} <= files
    assert not files & set(LEFT_OVERS)


def test_the_sdist_has_each_file_that_is_under_version_control(built: Built) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a checkout")
    tracked = do("git", "ls-files", cwd=ROOT).stdout.splitlines()
    assert built.sdist_files() >= {name for name in tracked if (ROOT / name).exists()}


def test_the_metadata_say_what_it_is_and_where_to_ask(built: Built) -> None:
    told = built.metadata()
    assert (told["Name"], told["Version"], told["License-Expression"]) == ("batchrun", __version__, "MIT")
    assert (told["Author"], told["Requires-Python"]) == ("batchrun developers", ">=3.11")
    links = [link.split(", ")[0] for link in told.get_all("Project-URL", [])]
    assert links == ["Homepage", "Documentation", "Changelog", "Issues", "Source"]
    assert "Typing :: Typed" in told.get_all("Classifier", [])
    assert told.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")


def test_each_extra_is_tested_too() -> None:
    """What an extra needs the tests install as well, in the same versions; three are parts of CI of their own."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    own_parts = {"oracle": "oracle", "browser": "browser", "ray": "cluster"}  # by the marker of their tests
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert all(f"[test,{extra}]" in ci and f"pytest -m {marker}" in ci for extra, marker in own_parts.items())
    needed = {need for name, needs in extras.items() if name not in ("test", *own_parts) for need in needs}
    assert needed <= set(extras["test"])


# ------------------------------------------------------------------------------------------ that they install


@pytest.fixture(scope="module", params=[pytest.param("wheel", marks=pytest.mark.smoke), "sdist"])
def installed(request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a fresh environment in which the distribution is installed, without the network.

    What batchrun depends on is that of the environment of the tests: a line of a .pth file makes it importable, and
    does not heed the .pth file there by which an editable install would bring the checkout in.
    """
    folder = tmp_path_factory.mktemp(request.param)
    do(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    scripts = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--no-cache-dir", "-q"]
    offline = ["--no-deps", "--no-index"]
    wheel = built.wheel
    if request.param == "sdist":
        do(*pip, "wheel", *offline, "--no-build-isolation", built.sdist, "-w", folder / "wheels", cwd=folder)
        (wheel,) = (folder / "wheels").glob("*.whl")
    do(*pip, "--python", scripts / "python", "install", *offline, wheel, cwd=folder)
    (packages,) = (folder / "env").rglob("site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def test_it_is_the_installed_package_that_runs(installed: Path, tmp_path: Path) -> None:
    where = "import batchrun, importlib.resources as r; print(batchrun.__file__, (r.files(batchrun) / 'docs').is_dir())"
    file, has_manual = do(installed / "python", "-c", where, cwd=tmp_path).stdout.split()
    assert Path(file).is_relative_to(installed.parent)
    assert has_manual == "True"
    assert do(installed / "batchrun", "--version", cwd=tmp_path).stdout == f"batchrun, version {__version__}\n"


def test_the_sample_runs_from_an_installed_distribution(installed: Path, built: Built, tmp_path: Path) -> None:
    shutil.copytree(built.unpacked / "samples", tmp_path / "samples")
    requests = "samples/evaluation/requests.jsonl"
    job = ["run", requests, "-o", "results.jsonl", "--simulate", "--simulate-latency", "0.01"]
    assert do(installed / "batchrun", *job, cwd=tmp_path).stderr.startswith("model ")
    records = [json.loads(line) for line in (tmp_path / "results.jsonl").read_bytes().splitlines()]
    assert len(records) == len((tmp_path / requests).read_bytes().splitlines())
    assert all(record["error"] is None for record in records)
    do(installed / "batchrun", "verify", requests, "results.jsonl", cwd=tmp_path)
    asked = ["-p", "@samples/labelling/prompt.txt", "-s", "@samples/labelling/schema.txt", "--model", "m"]
    words = ["label", "samples/labelling/messages.csv", *asked, "--prefix", "llm_", "-o", "labelled.csv"]
    simulated = ["--simulate", "--simulate-latency", "0.01", "--yes"]
    done = do(installed / "batchrun", *words, *simulated, cwd=tmp_path)
    assert done.stdout == "292 ok: labelled.csv\n"
