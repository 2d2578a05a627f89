"""Read files, local or remote (http(s)://, gs://, s3://), and write local ones atomically."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from typing import IO

from training.cli_common import DataError

BUFFER = 1 << 20
"""Bytes per read: each read releases Python's global lock, and waiting for it again takes time."""


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


def read_bytes(path: str) -> bytes:
    """Read a whole file.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    with open_read(path) as stream:
        try:
            return stream.read()
        except Exception as error:  # as above
            raise DataError(f"{path}: {_one_line(error)}") from None


@contextlib.contextmanager
def create(path: str) -> Iterator[IO[bytes]]:
    """Write a local file atomically: under a temporary name, flushed to disk and renamed when the block ends."""
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_text(path: str, text: str) -> None:
    """Write a text file atomically."""
    with create(path) as stream:
        stream.write(text.encode())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
