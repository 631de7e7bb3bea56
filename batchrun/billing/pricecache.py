"""What the price list says about the names that were asked for, kept from one run to the next.

1. One small file a name, in the cache directory of the user's home. Not on Windows, where nobody can tell whose it is.
2. The name of its folder follows from genai-prices as it is installed: another version, or another file of prices,
   means another folder. So does another version of the code here that reads the prices. So nothing in it can be out
   of date, and nothing has to be removed from it to be right.
3. A file appears whole (temporary file, rename), whoever else writes it. What cannot be written is not kept.
4. Only what this user alone can write is read: a file or a folder of somebody else, or one that others may write, a
   link, or anything that does not decode, is as good as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from batchrun.version import __version__

LARGEST_BYTES = 1 << 16
_T = TypeVar("_T")


class _Kept(msgspec.Struct, Generic[_T], frozen=True):
    """A file: the name that was asked for, whose hash is the name of the file, and what the list says about it."""

    model: str
    answer: _T


class PriceCache(Generic[_T]):
    """Answers of the type `kind` by name, in `folder`; None keeps nothing."""

    def __init__(self, folder: Path | None, kind: type[_T]) -> None:
        self._folder = folder if folder is not None and hasattr(os, "getuid") else None
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(_Kept[kind]).decode  # type: ignore[valid-type]

    def get(self, model: str) -> _T | None:
        """What was kept about a model; None without."""
        if self._folder is None or not _is_ours(self._folder):
            return None
        try:
            kept = self._decode(_read(self._folder / _file_name(model)))
        except (OSError, ValueError, RecursionError):
            return None
        return kept.answer if kept.model == model else None

    def put(self, model: str, answer: _T) -> None:
        """Keep what the list says about a model, if that is possible."""
        folder, content = self._folder, self._encode(_Kept(model, answer))
        if folder is None or len(content) > LARGEST_BYTES:
            return
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(folder):
                return
            descriptor, name = tempfile.mkstemp(dir=folder, prefix=".")  # is this user's alone
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                Path(name).replace(folder / _file_name(model))
            except OSError:
                Path(name).unlink(missing_ok=True)


def cache_folder() -> Path | None:
    """The folder for the prices of genai-prices as it is installed; None without a home or without genai-prices."""
    try:
        installed = _mark_of_installed()
        return _user_caches() / "batchrun" / "prices" / installed
    except (OSError, RuntimeError):
        return None


def _user_caches() -> Path:
    """The user's cache directory. Raises `RuntimeError` if there is no home directory."""
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


_READERS = [Path(__file__).with_name(name) for name in ("pricelist.py", "prices.py")]


def _mark_of_installed() -> str:
    """A name that changes with genai-prices: its version, and the size and time of each of its files."""
    spec = PathFinder.find_spec("genai_prices")  # finds it without importing it
    if spec is None or spec.origin is None:
        raise OSError("genai-prices is not installed")
    package = Path(spec.origin).parent
    parts = [__version__, str(package), *sorted(path.name for path in package.parent.glob("genai_prices-*"))]
    for path in [*sorted(package.glob("*.py")), *_READERS]:
        status = path.stat()
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _file_name(model: str) -> str:
    return hashlib.blake2b(model.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() + ".json"


def _is_ours(folder: Path) -> bool:
    """Whether this user owns it, nobody else may write it, and it is no link."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and _is_private(status)


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(path: Path) -> bytes:
    """A file of this user. Raises `OSError` if it is anything else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not _is_private(status) or status.st_size > LARGEST_BYTES:
            raise OSError(f"{path} is not a file of this user alone")
        return file.read(LARGEST_BYTES + 1)
