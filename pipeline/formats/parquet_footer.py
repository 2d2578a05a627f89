"""What a Parquet file states of itself: rows, columns and sizes of its row groups.

pyarrow has them too, but its accessor of a column's sizes ends the process at some damaged footers (pyarrow 23: the C++
exception is not caught), so the few fields are read here. Source: Apache Parquet, ``parquet.thrift``; Apache Thrift,
"Thrift compact protocol".
"""

from __future__ import annotations

import functools
import struct
from typing import IO, Any, NamedTuple

import pyarrow as pa

MAX_FOOTER_BYTES = 1 << 25
"""Bytes of a footer that is read; it has about 250 for each column of each row group."""
MAX_DEPTH = 16
MAGIC = b"PAR1"
BYTE_ARRAY = 6
"""The physical type of texts."""

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
"""Types of the compact protocol."""


class ParquetError(ValueError):
    """A Parquet file that cannot be read; the message is one line without the path."""


class ColumnChunk(NamedTuple):
    """What a file states of a column of a row group.

    Attributes
    ----------
    path : tuple of str
        The column, and what is nested in it.
    is_text : bool
    values : int
    uncompressed_bytes : int
    """

    path: tuple[str, ...]
    is_text: bool
    values: int
    uncompressed_bytes: int


class RowGroup(NamedTuple):
    """What a file states of a row group: its number of rows, its columns."""

    rows: int
    columns: tuple[ColumnChunk, ...]


def read_footer(stream: IO[bytes] | pa.BufferReader) -> tuple[RowGroup, ...]:
    """Read what a Parquet file states of its row groups.

    Raises
    ------
    ParquetError
        If the file is damaged.
    OSError
        If the stream cannot be read.
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - 8))
    end = stream.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != MAGIC or length > size - 12:
        raise ParquetError("damaged: the end is not that of a Parquet file")
    if length > MAX_FOOTER_BYTES:
        raise ParquetError(f"a footer of {length} bytes, expected at most {MAX_FOOTER_BYTES}")
    stream.seek(size - 8 - length)
    return _row_groups(stream.read(length))


@functools.lru_cache(maxsize=1)  # the shards of a release are row groups of one file
def _row_groups(footer: bytes) -> tuple[RowGroup, ...]:
    try:
        groups = _Reader(footer).struct().get(4, [])
        return tuple(RowGroup(_number(group[3]), tuple(map(_chunk, group[1]))) for group in groups)
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError, struct.error):
        raise ParquetError("damaged: a footer that cannot be read") from None


def _chunk(chunk: dict[int, Any]) -> ColumnChunk:
    stated = chunk[3]
    path = tuple(part.decode() for part in stated[3])
    if not path:
        raise IndexError
    return ColumnChunk(path, stated[1] == BYTE_ARRAY, _number(stated[5]), _number(stated[6]))


def _number(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError
    return value


class _Reader:
    """Reads Thrift's compact protocol; every element takes a byte at least, so memory is bounded by the footer."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Return the fields of a struct by their numbers."""
        if depth > MAX_DEPTH:
            raise IndexError
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self._signed()
            kind = header & 15
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (I16, I32, I64):
            return self._signed()
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind in (LIST, SET):
            return self._list(depth)
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        if kind == DOUBLE:
            return self._bytes(8)
        raise IndexError  # no field of Parquet's is a map

    def _list(self, depth: int) -> list[Any]:
        header = self._byte()
        count = header >> 4 if header >> 4 < 15 else self._varint()
        if count > len(self._content) - self._place or depth > MAX_DEPTH:
            raise IndexError
        return [self._value(header & 15, depth + 1) for _ in range(count)]

    def _byte(self) -> int:
        value = self._content[self._place]
        self._place += 1
        return value

    def _bytes(self, size: int) -> bytes:
        start, self._place = self._place, self._place + size
        if self._place > len(self._content):
            raise IndexError
        return self._content[start : self._place]

    def _varint(self) -> int:
        result = shift = 0
        while (byte := self._byte()) & 0x80:
            result |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise IndexError
        return result | byte << shift

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
