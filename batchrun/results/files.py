"""File operations for a journal: locking, writes that succeed whole or not at all, syncing to disk."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


class NoLocksError(OSError):
    """The disk has no file locks, as some network file systems."""


def no_link(path: str, flags: int) -> int:
    """An opener that opens the file itself, never what a symbolic link leads to. Its mode follows the umask.

    Raises `OSError` for a link: whoever may write to the directory could have anything overwritten.
    """
    try:
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) and Path(path).is_symlink():
            raise OSError(error.errno, "it is a symbolic link; remove it", path) from None
        raise


def open_unlocked(path: Path) -> IO[bytes]:
    """The file at `path`, created if necessary, opened to append."""
    return open(path, "a+b", buffering=0, opener=no_link)


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[IO[bytes]]:
    """Write a file piece by piece. It takes the place of what is at `path` once the block has ended without an error.

    Raises `OSError`.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb", opener=no_link) as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_whole(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, in place of what is there. Raises `OSError`."""
    with writing_whole(path) as file:
        file.write(data)


def lock(file: IO[bytes]) -> bool:
    """Lock an open file for this process until it is closed; False if another process has the lock.

    Raises `NoLocksError` if the disk has no locks.
    """
    if fcntl is None:
        return True  # no flock: the user must see to it that only one run uses a file
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            raise NoLocksError(error.errno, error.strerror) from error
        raise
    return True


def open_locked(path: Path) -> IO[bytes] | None:
    """The file at `path`, created if necessary, opened to append and locked; None if another process has the lock."""
    while True:
        file = open_unlocked(path)
        try:
            is_ours = lock(file)
        except OSError:
            file.close()
            raise
        if not is_ours:
            file.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # removed or replaced between the opening and the locking


def is_running(log: Path) -> bool:
    """Whether a process has the lock of the run log at `log`."""
    try:
        with log.open("rb") as file:
            return fcntl is None or not lock(file)
    except NoLocksError:
        return True  # for all that can be known
    except OSError:
        return False  # no run has begun, or one ended before it sent anything and removed its log


def write_whole(file: IO[bytes], data: bytes) -> None:
    """Append all of `data` to an unbuffered file; if that raises `OSError`, none of it stays in the file."""
    written = 0
    try:
        while written < len(data):
            written += file.write(data[written:])
    except OSError:
        if written:
            with contextlib.suppress(OSError):
                file.truncate(os.fstat(file.fileno()).st_size - written)
        raise


PIECE_BYTES = 1 << 20
datasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


def read_pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to `end`, a piece at a time. Raises `OSError` if the file has become shorter."""
    while start < end:
        os.lseek(fd, start, os.SEEK_SET)  # appends ignore the position (O_APPEND)
        piece = os.read(fd, min(PIECE_BYTES, end - start))
        if not piece:
            raise OSError(errno.EIO, "it became shorter while it was read")
        start += len(piece)
        yield piece


def sync_directory(directory: Path) -> None:
    """Make a file's name durable; does nothing on systems where directories cannot be opened or synced."""
    try:
        fd = os.open(directory, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # the file system does not sync directories
            raise
    finally:
        os.close(fd)
