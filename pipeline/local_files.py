"""Files of this machine: listed, opened without waiting, written whole and flushed to disk; folders made and locked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import os
import stat
import tempfile
import uuid
from collections.abc import Collection, Iterator
from typing import BinaryIO, NamedTuple

from regions.file_names import is_foreign

TEMPORARY_SUFFIX = ".tmp"
BUFFER = 1 << 20
"""Bytes per write."""
WITHOUT_SYNC = frozenset(
    {errno.EACCES, errno.EBADF, errno.EINVAL, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
)
"""Numbers of the errors of file systems that cannot flush a file or a folder to disk: network drives, FUSE."""

log = logging.getLogger("attparse")


class FileVersion(NamedTuple):
    """What a listing knows of a file's content: where a file is replaced, one of the two changes, as a rule.

    Attributes
    ----------
    size : int
        Bytes.
    modified : int
        Nanoseconds since 1970, as the file system or the object store has it.
    """

    size: int
    modified: int


ABSENT = FileVersion(-1, -1)
"""Of a file that is not there, or is no regular one."""


class NotRegularFileError(OSError):
    """A pipe, a device or a socket: reading it could wait, or go on, for ever."""


def open_regular(path: str, flags: int) -> int:
    """Open a regular file, as the `opener` of `open`.

    A pipe, a device or a socket is not opened, which could have effects, and not waited for.

    Raises
    ------
    IsADirectoryError, NotRegularFileError
    """
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
        raise NotRegularFileError(errno.EINVAL, "not a regular file", path)


def list_versions(folder: str, named: Collection[str]) -> dict[str, FileVersion]:
    """Return the files below a folder, foreign and irregular ones only if in `named`: see `storage.list_versions`."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
    kept = {name for name in named if is_foreign(name)}
    kept |= {name[:end] for name in kept for end, character in enumerate(name) if character == "/"}
    versions: dict[str, FileVersion] = {}
    pending: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(folder),))]
    while pending:
        below, parents = pending.pop()
        with os.scandir(os.path.join(folder, below)) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                status = None if is_foreign(name) and name not in kept else _status(entry)
                if status is not None and stat.S_ISREG(status.st_mode):
                    versions[name] = FileVersion(status.st_size, status.st_mtime_ns)
                elif status is not None and stat.S_ISDIR(status.st_mode):
                    target = os.path.join(parents[-1], entry.name)
                    target = os.path.realpath(target) if entry.is_symlink() else target
                    if target not in parents:
                        pending.append((name, (*parents, target)))
                elif status is not None and name in named:
                    versions[name] = ABSENT
    return versions


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return the status of what an entry of a folder is or links to; None if it links to nothing or to itself."""
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise


def size_of(path: str) -> int:
    """Return the size of a file in bytes, -1 where there is no regular file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def make_folder(path: str) -> None:
    """Make a folder and its parents, and check that it can be written to: see `storage.make_folder`."""
    new = []
    folder = os.path.abspath(path)
    while not os.path.lexists(folder):
        new.append(folder)
        folder = os.path.dirname(folder)
    os.makedirs(path, exist_ok=True)
    for made in new:
        sync(os.path.dirname(made))
    with tempfile.TemporaryFile(dir=path):
        pass


@contextlib.contextmanager
def create(path: str) -> Iterator[BinaryIO]:
    """Write a file that gets its name only when it is complete and on disk: see `storage.create`."""
    with contextlib.suppress(FileNotFoundError):
        _check_regular(path, os.stat(path).st_mode)  # no file takes the place of /dev/null
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "wb", buffering=BUFFER) as stream:
            yield stream
            stream.flush()
            _sync(stream.fileno())
        os.replace(temporary, path)
        sync(folder or os.curdir)
    except OSError as error:
        if error.filename not in (None, temporary):
            raise
        raise OSError(error.errno, error.strerror or str(error), path) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def sync(path: str) -> None:
    """Flush a file or folder to disk: see `storage.sync`."""
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
    log.warning("the output can't be flushed to disk (%s): a power failure may undo what was written last", problem)


def lock(folder: str) -> int:
    """Keep a folder to this process until the returned descriptor is closed: see `storage.locked`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BlockingIOError(errno.EWOULDBLOCK, "another run is writing here", folder) from None
    except OSError as error:
        log.warning("%s: can't be locked (%s): make sure that no other run writes here", folder, error.strerror)
    return descriptor


def delete_temporaries(folder: str) -> None:
    """Delete what a killed run left of `create` in a folder."""
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(TEMPORARY_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
