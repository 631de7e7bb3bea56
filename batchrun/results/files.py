"""File operations for a journal: locking, writes that succeed whole or not at all, syncing to disk."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


DRAFT_BUFFER_BYTES = 1 << 17
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

    A pipe, a device and what else is in /dev is written to as it is. Raises `OSError`.
    """
    if is_no_place(path):
        with open(path, "wb", opener=_append) as file:
            yield file
        return
    with drafting(path, "tmp") as (draft, file):
        yield file
        file.close()
        draft.replace(path)


def is_no_place(path: Path) -> bool:
    """Whether something is there that a file cannot take the place of."""
    if os.path.realpath(path.parent) == "/dev":
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _append(path: str, flags: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND)


@contextlib.contextmanager
def drafting(path: Path, ending: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """A hidden file beside `path` with this ending, to be written and moved to its place; else it is removed.

    It is locked until then. Drafts of `path` that nobody has locked were left by a kill, and are removed first. On a
    disk without locks they stay: they may be still in the making. Raises `OSError`.
    """
    start = f".{blake2b(os.fsencode(path.name), digest_size=4).hexdigest()}"
    for left in path.parent.glob(f"{start}{8 * '[0-9a-f]'}.{ending}") if fcntl is not None else ():
        with contextlib.suppress(OSError), open(left, "rb", opener=no_link) as stale:
            if lock(stale):
                left.unlink()
    draft = path.with_name(f"{start}{secrets.token_hex(4)}.{ending}")
    with contextlib.ExitStack() as stack:
        stack.callback(draft.unlink, missing_ok=True)
        file = stack.enter_context(_locked_draft(draft))
        if fcntl is not None:  # elsewhere an open file cannot be moved
            stack.callback(os.close, os.dup(file.fileno()))  # keeps the lock when the file is closed
        yield draft, file


def _locked_draft(draft: Path) -> IO[bytes]:
    """A new file, locked where the disk has locks."""
    while True:
        file = open(draft, "xb", DRAFT_BUFFER_BYTES, opener=no_link)  # noqa: SIM115
        with contextlib.suppress(NoLocksError):
            lock(file)
        if draft.exists():
            return file
        file.close()  # between the opening and the locking it looked as if left by a kill, and was removed


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


def is_running(log: Path, *, if_unknown: bool = True) -> bool:
    """Whether a process has the lock of the run log at `log`; where there are no locks, `if_unknown`."""
    try:
        with log.open("rb") as file:
            return if_unknown if fcntl is None else not lock(file)
    except NoLocksError:
        return if_unknown
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
