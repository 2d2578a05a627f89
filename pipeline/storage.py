"""Files, local or remote (gs://, s3://), through Beam's FileSystems."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias

from pipeline import local_files
from pipeline.errors import FileTooLargeError, InputError
from pipeline.local_files import FileVersion
from regions.file_names import is_foreign

CHUNK = 1 << 20
UNCOMPRESSED = "uncompressed"
"""The bytes as they are, whatever the suffix of the name."""

FileVersions: TypeAlias = Mapping[str, FileVersion]
"""The files of a folder by relative path."""


def _filesystems() -> Any:
    """Return Beam's file systems, which are imported only for remote paths: Beam takes seconds to load."""
    from pipeline.beam_imports import import_whole_beam  # noqa: PLC0415

    import_whole_beam()
    from apache_beam.io.filesystems import FileSystems  # noqa: PLC0415

    return FileSystems


def is_remote(path: str) -> bool:
    """Return whether a path is a URL of an object store."""
    return "://" in path


def join(folder: str, *parts: str) -> str:
    """Join a folder and the parts of a relative path."""
    return "/".join([folder.rstrip("/") or "/", *parts]) if is_remote(folder) else os.path.join(folder, *parts)


def is_below(path: str, folder: str) -> bool:
    """Return whether a path is a folder or inside it."""
    if is_remote(path) or is_remote(folder):
        return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
    real = Path(os.path.realpath(path))  # of a link to itself, too, where `Path.resolve` raises
    return Path(os.path.realpath(folder)) in (real, *real.parents)


def open_read(path: str) -> IO[bytes]:
    """Open a file for reading, its bytes as they are.

    Raises
    ------
    FileNotFoundError
        If there is none.
    NotRegularFileError
        If it is a pipe, a device or a socket.
    """
    if not is_remote(path):
        return open(path, "rb", opener=local_files.open_regular)
    try:
        stream: IO[bytes] = _filesystems().open(path, compression_type=UNCOMPRESSED)
    except Exception:
        if _filesystems().exists(path):
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    return stream


def read_bytes(path: str, limit: int | None = None) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    path : str
    limit : int, optional
        Largest number of bytes that are read into memory.

    Raises
    ------
    OSError
        If it can't be read; a FileTooLargeError if it has more than `limit` bytes.
    """
    with open_read(path) as stream:
        return stream.read() if limit is None else _read_limited(stream, path, limit)


def _read_limited(stream: IO[bytes], path: str, limit: int) -> bytes:
    count = 0 if is_remote(path) else max(local_files.size_of(path), 0)
    if 0 < count <= limit:
        return stream.read()
    pieces = []
    while count <= limit and (piece := stream.read(CHUNK)):  # remote and virtual files have no known size
        pieces.append(piece)
        count += len(piece)
    if count > limit:
        raise FileTooLargeError(errno.EFBIG, f"more than {limit} bytes", path)
    return b"".join(pieces)


@contextlib.contextmanager
def explained(path: str, expected: str = "") -> Iterator[None]:
    """Turn a failure to read a file into an InputError that names it, and what was expected."""
    end = f", expected {expected}" if expected else ""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}{end}") from None
    except (InputError, UnicodeDecodeError):
        raise
    except Exception as error:  # object stores have errors of their own
        if not is_remote(path):
            raise
        raise InputError(f"{path}: can't be read: {error}{end}") from None


def exists(path: str) -> bool:
    """Return whether there is a file or folder of this name."""
    return bool(_filesystems().exists(path)) if is_remote(path) else os.path.lexists(path)


def size_of(path: str) -> int:
    """Return the size of a file in bytes, -1 where there is no regular file."""
    if not is_remote(path):
        return local_files.size_of(path)
    return int(_filesystems().match([path])[0].metadata_list[0].size_in_bytes) if exists(path) else -1


def sha256_of(path: str) -> str:
    """Return the hash of a file, read in pieces."""
    digest = hashlib.sha256()
    with open_read(path) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def list_files(folder: str, named: Collection[str] = ()) -> dict[str, int]:
    """Return the files below a folder as `list_versions` does, with their sizes alone."""
    return {name: version.size for name, version in list_versions(folder, named).items()}


def list_versions(folder: str, named: Collection[str] = ()) -> dict[str, FileVersion]:
    """Return the files below a folder, as relative paths with forward slashes, each with its size and time.

    Left out are files that are not of a data set (`regions.file_names.is_foreign`), pipes, devices and
    sockets, links to nothing, and folders that contain themselves by a link.

    Parameters
    ----------
    folder : str
    named : collection of str
        Relative paths that a user named, for example in a label file: listed even where they look foreign;
        a pipe, a device or a socket among them as `pipeline.local_files.ABSENT`, so that whoever reads it finds out.

    Raises
    ------
    InputError
        If the folder does not exist or can't be read.
    """
    if is_remote(folder):
        return _list_remote(folder, set(named))
    try:
        return local_files.list_versions(folder, set(named))
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}") from None


def _list_remote(folder: str, named: Collection[str]) -> dict[str, FileVersion]:
    prefix = folder.rstrip("/") + "/"
    try:
        found = _filesystems().match([prefix + "**"])[0].metadata_list
    except Exception as error:
        raise InputError(f"{folder}: can't be listed: {error}") from None
    versions = {
        file.path[len(prefix) :]: FileVersion(int(file.size_in_bytes), int(file.last_updated_in_seconds * 1e9))
        for file in found
    }
    return {name: version for name, version in versions.items() if not is_foreign(name) or name in named}


def make_folder(path: str) -> None:
    """Make a local folder and its parents; object stores need none.

    Raises
    ------
    InputError
        If it can't be made or written to.
    """
    if is_remote(path):
        try:
            _filesystems().get_filesystem(path)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
        return
    try:
        local_files.make_folder(path)
    except OSError as error:
        raise InputError(f"{path}: can't write here: {error.strerror}") from None


def delete(path: str) -> None:
    """Delete a file if it is there."""
    if is_remote(path):
        if _filesystems().exists(path):
            _filesystems().delete([path])
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def delete_empty_folder(path: str) -> None:
    """Delete a local folder if it is empty; object stores have no folders."""
    if not is_remote(path):
        with contextlib.suppress(OSError):
            os.rmdir(path)


@contextlib.contextmanager
def create(path: str) -> Iterator[BinaryIO]:
    """Write a file that gets its name only when it is complete.

    Local files are written beside their place, flushed to disk and renamed, so that no power failure
    leaves half a file; remote ones are sent when the block ends. If the block raises, nothing is left
    and a former file of that name stays as it was.

    Raises
    ------
    OSError
        If it cannot be written, for example because the disk is full; the error names the file.
    NotRegularFileError
        If there is a pipe, a device or a socket at its place.
    """
    if is_remote(path):
        with tempfile.TemporaryFile() as spool:
            yield spool
            spool.seek(0)
            with _filesystems().create(path, compression_type=UNCOMPRESSED) as target:
                shutil.copyfileobj(spool, target, CHUNK)
        return
    with local_files.create(path) as stream:
        yield stream


def sync(path: str) -> None:
    """Flush a local file or folder to disk, so that a power failure does not undo what was written."""
    if not is_remote(path):
        local_files.sync(path)


def write_bytes(path: str, content: bytes) -> None:
    """Write a whole file under its name at once."""
    with create(path) as stream:
        stream.write(content)


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Keep a local folder to this process: a second run at the same time is refused.

    Where the file system knows no locks, a warning takes their place.

    Raises
    ------
    InputError
        If another process holds it.
    """
    if is_remote(folder):
        yield
        return
    try:
        descriptor = local_files.lock(folder)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from None
    try:
        yield
    finally:
        os.close(descriptor)


def delete_temporaries(folder: str) -> None:
    """Delete what a killed run left of `create` in a local folder."""
    if not is_remote(folder):
        local_files.delete_temporaries(folder)


class HashingWriter:
    """A stream that counts and hashes what is written to it.

    Parameters
    ----------
    stream : binary stream
        Where the bytes go.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any) -> int:
        """Write bytes."""
        self._digest.update(data)
        self.bytes += len(data)
        return self._stream.write(data)

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.bytes

    @property
    def sha256(self) -> str:
        """The hash of all bytes written, in hexadecimal."""
        return self._digest.hexdigest()
