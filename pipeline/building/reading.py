"""What workers read: with more tries where an error may pass, and never a final result where it stays."""

from __future__ import annotations

import contextlib
import errno
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pipeline import storage
from pipeline.errors import FileTooLargeError, ImageError, InputError, ReadError, ShardError, ShardReadError
from pipeline.local_files import NotRegularFileError
from pipeline.vocabulary import TOO_LARGE, UNREADABLE
from regions.image_files import MAX_FILE_BYTES

T = TypeVar("T")

PAUSES = (0.1, 0.4, 1.6)
"""Seconds before the second, third and fourth try."""
PERMANENT_ERRORS = frozenset({errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
"""Numbers of errors that no further try changes; all others may pass."""


def read_image_bytes(path: str, *, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """Read the file of an image that the listing of its folder has.

    Parameters
    ----------
    path : str
        Local or remote.
    sleep : callable
        Waits for a number of seconds.

    Raises
    ------
    ImageError
        If the file cannot be read for a reason that stays: ``unreadable``, or ``too_large``.
    ReadError
        If every try fails for a reason that may pass: a device error, a time-out, a refused connection.
        So does a file that is gone: the listing had it, and a folder that was unmounted comes back.
    """
    return read_with_retries(path, lambda: _read_image_file(path), sleep=sleep)


def _read_image_file(path: str) -> bytes:
    try:
        return storage.read_bytes(path, MAX_FILE_BYTES)
    except FileTooLargeError as error:
        raise ImageError(TOO_LARGE, _text(error)) from None
    except (IsADirectoryError, NotRegularFileError):
        raise ImageError(UNREADABLE, "not a regular file") from None
    except OSError as error:
        if error.errno in PERMANENT_ERRORS:
            raise ImageError(UNREADABLE, _text(error)) from None
        raise


def read_with_retries(path: str, read: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what `read` returns, called again after a pause where it fails for a reason that may pass.

    Parameters
    ----------
    path : str
        Of the file that `read` reads.
    read : callable
    sleep : callable
        Waits for a number of seconds.

    Raises
    ------
    ReadError
        If every try fails; the message names the file.
    """
    (content,) = iterate_with_retries(path, lambda: [read()], sleep=sleep)
    return content


def iterate_with_retries(
    path: str, read: Callable[[], Iterable[T]], *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[T]:
    """Yield what `read` yields; where it fails for a reason that may pass, it is called again, and goes on there.

    Parameters
    ----------
    path : str
        Of the file that `read` reads, the same at each call.
    read : callable
    sleep : callable
        Waits for a number of seconds.

    Raises
    ------
    ReadError
        If every try fails; the message names the file.
    """
    given = 0
    for pause in (*PAUSES, None):
        try:
            with read_errors(path):
                for item in itertools.islice(read(), given, None):
                    given += 1
                    yield item
                return
        except ReadError:
            if pause is None:
                raise
            sleep(pause)


@contextlib.contextmanager
def read_errors(path: str) -> Iterator[None]:
    """Turn a failure to read a file into a ReadError that names it."""
    try:
        yield
    except (OSError, ShardReadError) as error:
        raise ReadError(f"{path}: {_text(error)}") from error
    except (ImageError, InputError, ReadError, ShardError):
        raise
    except Exception as error:  # object stores have errors of their own
        if not storage.is_remote(path):
            raise
        raise ReadError(f"{path}: {_text(error)}") from error


def _text(error: Exception) -> str:
    """Return an error in one line, without the path."""
    if isinstance(error, ShardReadError):
        return error.problem
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
