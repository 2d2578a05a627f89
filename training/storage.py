"""Read files, local or remote (http(s)://, gs://, s3://), and write local ones atomically."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from typing import IO

from training.cli_common import DataError

BUFFER = 1 << 20
"""Bytes per read: each read releases Python's global lock, and waiting for it again takes time."""
TEMPORARY_SUFFIX = ".tmp"
WITHOUT_SYNC = frozenset(
    {errno.EACCES, errno.EBADF, errno.EINVAL, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
)
"""Numbers of the errors of file systems that cannot flush a file or a folder to disk: network drives, FUSE."""


def is_remote(path: str) -> bool:
    """Return whether a path is a URL."""
    return "://" in path


def join(folder: str, *parts: str) -> str:
    """Join a folder and the parts of a relative path."""
    return "/".join([folder.rstrip("/"), *parts]) if is_remote(folder) else os.path.join(folder, *parts)


def open_read(path: str) -> IO[bytes]:
    """Open a file as a stream of bytes.

    Raises
    ------
    DataError
        If it cannot be opened.
    """
    try:
        if not is_remote(path):
            return open(path, "rb", buffering=BUFFER, opener=_open_regular)
        import smart_open  # noqa: PLC0415 - takes a second, and most runs read local files

        stream: IO[bytes] = smart_open.open(path, "rb", compression="disable")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except ImportError:
        raise DataError(
            f"{path}: no library that reads it is installed: pip install 'smart_open[gcs,http,s3]'"
        ) from None
    except Exception as error:  # each object store's client raises its own exceptions
        raise DataError(f"{path}: {_one_line(error)}") from None
    return stream


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file; a pipe, a device or a socket is neither opened (which can have effects) nor waited for."""
    _check_regular(path, os.stat(path).st_mode)
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    try:
        _check_regular(path, os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", path)


def read_bytes(path: str, limit: int | None = None) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    path : str
    limit : int, optional
        Largest number of bytes that are read into memory.

    Raises
    ------
    DataError
        If it cannot be read, or has more than `limit` bytes.
    """
    with open_read(path) as stream:
        try:
            if limit is None:
                return stream.read()
            if is_remote(path) or os.fstat(stream.fileno()).st_size <= limit:
                pieces, left = [], limit
                while left >= 0 and (piece := stream.read(BUFFER)):  # read(limit) would take all memory at once
                    pieces.append(piece)
                    left -= len(piece)
                if left >= 0:
                    return b"".join(pieces)
        except Exception as error:  # as above
            raise DataError(f"{path}: {_one_line(error)}") from None
    raise DataError(f"{path}: found more than {limit:,} bytes, expected a smaller file")


@contextlib.contextmanager
def create(path: str) -> Iterator[IO[bytes]]:
    """Write a local file that gets its name only when it is complete and on disk; its folder is made if need be.

    Raises
    ------
    OSError
        If it cannot be written; the error names the file.
    """
    with contextlib.suppress(FileNotFoundError):
        _check_regular(path, os.stat(path).st_mode)  # no file takes the place of /dev/null
    folder = os.path.dirname(path) or os.curdir
    make_folder(folder)
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            _sync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(folder)
    except OSError as error:
        if error.filename not in (None, temporary):
            raise
        raise OSError(error.errno, error.strerror or str(error), path) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def make_folder(path: str) -> None:
    """Make a local folder and its parents, if need be, and flush the new names to disk."""
    new = []
    folder = os.path.abspath(path)
    while not os.path.lexists(folder):
        new.append(folder)
        folder = os.path.dirname(folder)
    os.makedirs(path, exist_ok=True)
    for made in new:
        _sync_folder(os.path.dirname(made))


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Keep a local folder to this process, and delete what a killed one left of `create`; it is made if need be.

    Where the file system knows no locks, a warning takes their place.

    Raises
    ------
    DataError
        If another process holds it.
    OSError
        If it cannot be made or written to.
    """
    make_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{folder}: another training is writing here; use another --output") from None
        except OSError as error:
            print(
                f"{folder}: can't be locked ({error.strerror}): make sure that no other training writes here",
                file=sys.stderr,
            )
        delete_temporaries(folder)
        _check_writable(folder)
        yield
    finally:
        os.close(descriptor)


def _check_writable(folder: str) -> None:
    """Raise the error of a folder that no file can be made in, before hours of work that cannot be saved."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, folder) from None


def delete_temporaries(folder: str) -> None:
    """Delete what a killed process left of `create` in a local folder."""
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(TEMPORARY_SUFFIX):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(os.path.join(folder, name))


def _sync_folder(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError as error:  # a folder that may be written to, but not listed
        _warn_of_sync(error.strerror)
        return
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in WITHOUT_SYNC:
            raise
        _warn_of_sync(error.strerror)


@functools.cache
def _warn_of_sync(problem: str) -> None:
    print(
        f"the output can't be flushed to disk ({problem}): a power failure may undo what was written last",
        file=sys.stderr,
    )


def write_text(path: str, text: str) -> None:
    """Write a text file atomically; what cannot be encoded (names that are not UTF-8) is escaped."""
    with create(path) as stream:
        stream.write(text.encode(errors="backslashreplace"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
