"""Parquet that is not trusted: read in bounded memory, every fault reported in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.formats.parquet_footer import ColumnChunk, ParquetError, RowGroup, read_footer
from regions.landmarks import NUM_LANDMARKS
from regions.messages import counted, shown

MAX_ROWS = 1 << 20
"""Rows that are read at once: those of one shard."""
MAX_GROUP_ROWS = 10_000
"""Rows of a row group, written or read."""
MAX_VALUES_PER_ROW = 2 * NUM_LANDMARKS
"""Numbers in a cell: the coordinates of the landmarks are the longest list."""
BYTES, BYTES_PER_ROW = 1 << 20, 1 << 11
"""Bytes of one column, and further ones for each row: before it is compressed, and of its texts when written out."""


def read_parquet(
    stream: IO[bytes] | pa.BufferReader, columns: Sequence[str] | None = None, groups: Sequence[int] | None = None
) -> pa.Table:
    """Read columns of a Parquet file, all or some of its row groups.

    A few hundred bytes can stand for gigabytes, because values are compressed and repeated. So sizes are compared
    with limits before anything is read, and texts are written out last, when their length is known.

    Parameters
    ----------
    stream : binary stream
    columns : sequence of str, optional
        Names to read, all by default; names that do not exist are left out.
    groups : sequence of int, optional
        Numbers of the row groups to read, all by default.

    Raises
    ------
    ParquetError
        If the file is damaged, has other row groups, exceeds a limit, or has text that is not UTF-8.
    OSError
        If the stream cannot be read.
    """
    try:
        # With pyarrow's threads and pre-buffering, a process that ends soon after may abort (pyarrow 23).
        footer = read_footer(stream)
        groups = range(len(footer)) if groups is None else groups
        texts = _checked_texts(footer, columns, groups)
        stream.seek(0)
        file = pq.ParquetFile(stream, read_dictionary=texts, pre_buffer=False)
        table = file.read_row_groups(list(groups), None if columns is None else list(columns), use_threads=False)
        for index, column in enumerate(table.columns):
            if pa.types.is_dictionary(column.type):
                table = table.set_column(index, table.schema.names[index], _written_out(column))
        table.validate(full=True)
    except OSError as error:
        if error.errno is not None:  # pyarrow's own errors of damaged content have no number
            raise
        raise ParquetError(f"damaged: {_first_line(error)}") from None
    except ParquetError:
        raise
    except Exception as error:  # pyarrow's are of many kinds, KeyError and UnicodeDecodeError among them
        raise ParquetError(f"damaged: {_first_line(error)}") from None
    return table


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _checked_texts(footer: Sequence[RowGroup], columns: Sequence[str] | None, groups: Sequence[int]) -> list[str]:
    """Compare the sizes that a file states with the limits, and return the columns of texts."""
    total = 0
    texts: set[str] = set()
    for number in groups:
        if number >= len(footer):
            raise ParquetError(f"{counted(len(footer), 'row group')}, expected at least {number + 1}")
        group = footer[number]
        total += group.rows
        if group.rows > MAX_GROUP_ROWS:
            raise ParquetError(f"{group.rows} rows in one row group, expected at most {MAX_GROUP_ROWS}")
        if total > MAX_ROWS:
            raise ParquetError(f"{total} rows, expected at most {MAX_ROWS}")
        for column in group.columns:
            name = column.path[0]
            if columns is None or name in columns:
                _check_chunk(column, group.rows)
                if column.is_text:
                    texts.add(name)
    return sorted(texts)


def _check_chunk(column: ColumnChunk, rows: int) -> None:
    name = ".".join(column.path)
    if column.values > rows * MAX_VALUES_PER_ROW:
        raise ParquetError(
            f"column {shown(name)} has {column.values} values in {counted(rows, 'row')},"
            f" expected at most {MAX_VALUES_PER_ROW} each"
        )
    if column.uncompressed_bytes > _limit(rows):
        raise ParquetError(
            f"column {shown(name)} has {column.uncompressed_bytes} bytes in one row group,"
            f" expected at most {_limit(rows)}"
        )
    if column.is_text and len(column.path) > 1:
        raise ParquetError(f"column {shown(name)} has texts within lists")


def _limit(rows: int) -> int:
    """Return how many bytes a column of this many rows may have."""
    return BYTES + BYTES_PER_ROW * rows


def _written_out(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of texts, one per row, from the distinct texts and their numbers."""
    lengths = [pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() for chunk in column.chunks]
    total = sum(filter(None, lengths))
    if total > _limit(len(column)):
        raise ParquetError(f"texts of {total} bytes in one column, expected at most {_limit(len(column))}")
    return column.cast(column.type.value_type)
