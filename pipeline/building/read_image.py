"""Reading the file of an image, with more tries where the error may pass."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable

from pipeline import storage
from pipeline.errors import ImageError, ReadError
from pipeline.vocabulary import MISSING, UNREADABLE

PAUSES = (0.1, 0.4, 1.6)
"""Seconds before the second, third and fourth try."""
PERMANENT_ERRORS = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
"""Numbers of errors that no further try changes; all others may pass."""


def read_image_bytes(path: str, *, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """Read the file of an image.

    Parameters
    ----------
    path : str
        Local or remote.
    sleep : callable
        Waits for a number of seconds.

    Raises
    ------
    ImageError
        If the file cannot be read for a reason that stays: ``missing`` or ``unreadable``.
    ReadError
        If every try fails for a reason that may pass: a device error, a time-out, a refused connection.
    """
    for pause in PAUSES:
        try:
            return _read(path)
        except ReadError:
            sleep(pause)
    return _read(path)


def _read(path: str) -> bytes:
    try:
        if not storage.is_remote(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise ImageError(UNREADABLE, "not a regular file")
        return storage.read_bytes(path)
    except FileNotFoundError as error:
        raise ImageError(MISSING, _text(error)) from None
    except OSError as error:
        if error.errno in PERMANENT_ERRORS:
            raise ImageError(UNREADABLE, _text(error)) from None
        raise ReadError(_text(error)) from error
    except ImageError:
        raise
    except Exception as error:  # object stores have errors of their own
        if not storage.is_remote(path):
            raise
        raise ReadError(_text(error)) from error


def _text(error: Exception) -> str:
    """Return an error in one line, without the path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
