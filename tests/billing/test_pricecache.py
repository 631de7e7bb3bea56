"""Prices that are kept between runs: never out of date, never somebody else's, and whole whoever writes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batchrun.billing import pricecache, pricelist
from batchrun.billing.pricecache import PriceCache, cache_folder
from batchrun.billing.pricelist import PriceList

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="nothing is kept on Windows")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "prices"


def kept_list(folder: Path) -> PriceList:
    return PriceList(PriceCache(folder, pricelist._Reply))


def asked_anew(folder: Path, name: str = "gpt-4.1") -> bool:
    """Whether a second process had to be asked; what was found is right in any case."""
    prices = kept_list(folder)
    try:
        found, expected = prices.find(name), PriceList()
        try:
            assert found == expected.find(name)
        finally:
            expected.close()
        return prices._process is not None
    finally:
        prices.close()


@pytest.mark.parametrize("name", ["gpt-4.1", "o3", "deepseek-chat", "nobody's", "../../x", "模型"])
def test_a_name_is_asked_for_once_in_all_runs(folder: Path, name: str) -> None:
    """Dated prices, unlisted names and names that are no names of files included."""
    assert asked_anew(folder, name)
    assert not asked_anew(folder, name)
    (file,) = folder.iterdir()
    assert file.suffix == ".json"


@pytest.mark.smoke
def test_a_short_job_starts_no_second_process_once_the_price_is_known(tmp_path: Path) -> None:
    code = (
        "from batchrun.billing.pricelist import SHARED\n"
        "SHARED.find('gpt-4.1')\nprint(SHARED._process is None)\nSHARED.close()\n"
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    told = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    ]
    assert told == ["False\n", "True\n"]


@pytest.mark.parametrize(
    "poison",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 5000,
        b'{"model":"gpt-4.1"}',
        b'{"model":"gpt-4.1","answer":{"is_listed":1}}',
        b'{"model":"gpt-4o","answer":{"is_listed":false}}',
        b'{"model":"gpt-4.1","answer":{"is_listed":false}}' + b" " * (1 << 16),
    ],
)
def test_a_file_that_is_something_else_is_replaced(folder: Path, poison: bytes) -> None:
    assert asked_anew(folder)
    (file,) = folder.iterdir()
    file.write_bytes(poison)
    assert asked_anew(folder)
    assert not asked_anew(folder)


FREE = b'{"model":"gpt-4.1","answer":{"is_listed":false}}'


@pytest.mark.parametrize("how", ["group", "others", "folder", "link", "folder link", "fifo"])
def test_what_others_may_write_is_not_believed(folder: Path, tmp_path: Path, how: str) -> None:
    assert asked_anew(folder)
    (file,) = folder.iterdir()
    file.write_bytes(FREE)
    if how == "folder":
        folder.chmod(0o777)
    elif how == "folder link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    elif how == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    elif how == "fifo":
        file.unlink()
        os.mkfifo(file)
    else:
        file.chmod(0o620 if how == "group" else 0o602)
    assert asked_anew(folder)


def test_what_belongs_to_somebody_else_is_not_believed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_anew(folder)
    (file,) = folder.iterdir()
    file.write_bytes(FREE)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert asked_anew(folder)


def test_where_nothing_can_be_kept_it_is_asked_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert asked_anew(tmp_path / "file" / "prices")
    assert asked_anew(tmp_path / "file" / "prices")
    none = PriceCache(None, int)
    none.put("a", 1)
    assert none.get("a") is None


def test_a_disk_without_room_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    PriceCache(folder, int).put("a", 1)
    assert list(folder.iterdir()) == []


def test_many_writers_and_readers_see_whole_files(folder: Path) -> None:
    cache, text = PriceCache(folder, str), "x" * 60_000

    def turn(number: int) -> bool:
        cache.put("a", text)
        return cache.get("a") == text

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(turn, range(400)))
    assert len(list(folder.iterdir())) == 1


def test_another_list_of_prices_has_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version, or the same version with another file: what was kept is that of the list as it is installed."""
    import genai_prices

    installed = Path(genai_prices.__file__).parent
    copy = tmp_path / "site" / "genai_prices"
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    (tmp_path / "site" / "genai_prices-1.dist-info").mkdir()
    folders = [cache_folder()]
    (tmp_path / "site" / "genai_prices-1.dist-info").rename(tmp_path / "site" / "genai_prices-2.dist-info")
    folders.append(cache_folder())
    os.utime(copy / "data.py", ns=(1, 1))
    folders.append(cache_folder())
    with (copy / "data.py").open("a") as file:
        file.write("\n")
    os.utime(copy / "data.py", ns=(1, 1))
    folders.append(cache_folder())
    monkeypatch.setattr(pricecache, "__version__", "0")  # another batchrun may read the list in another way
    folders.append(cache_folder())
    reader = tmp_path / "reader.py"
    reader.write_text("")
    monkeypatch.setattr(pricecache, "_READERS", [reader])  # as may the same version of it, in development
    folders.append(cache_folder())
    assert len({*folders}) == 6
    assert cache_folder() == folders[-1]
    shutil.rmtree(copy)
    assert cache_folder() is None
