"""Tar files that are not trusted: plain files alone, one in memory at a time, none of unbounded size."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO

MAX_MEMBER_BYTES = 1 << 26
"""Bytes of a member; crops, masks and descriptions have thousands, masks of large images a few million."""
END = bytes(tarfile.BLOCKSIZE)


class TarError(ValueError):
    """A tar file that cannot be read; the message is one line without the path."""


def read_tar(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the members of a tar file, in order.

    Only what `SampleWriter` writes is read: plain files with names of up to 100 bytes. Python's `tarfile` holds
    extended headers, links and sparse files in memory before a caller can refuse them.

    Raises
    ------
    TarError
        If the file ends too early, a header is damaged, or a member is not a plain file or too large.
    OSError
        If the stream cannot be read.
    """
    while (header := _read(stream, tarfile.BLOCKSIZE, "a header")) != END:
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace")
        except tarfile.HeaderError as error:
            raise TarError(f"not a tar file: {error}") from None
        if header[156:157] not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.isdir():
            raise TarError(f"member {member.name!r} is not a plain file")
        if not 0 <= member.size <= MAX_MEMBER_BYTES:
            raise TarError(f"member {member.name!r} of {member.size} bytes, expected at most {MAX_MEMBER_BYTES}")
        padded = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        yield member.name, _read(stream, padded, f"member {member.name!r}")[: member.size]


def _read(stream: IO[bytes], size: int, what: str) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise TarError(f"the file ends within {what}")
    return content
