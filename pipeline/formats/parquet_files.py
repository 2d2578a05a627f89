"""Parquet that is not trusted: read in bounded memory, every fault reported in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from regions.landmarks import NUM_LANDMARKS

MAX_ROWS = 1 << 20
"""Rows that are read at once: those of one shard."""
MAX_GROUP_ROWS = 10_000
"""Rows of a row group, written or read."""
MAX_VALUES_PER_ROW = 2 * NUM_LANDMARKS
"""Numbers in a cell: the coordinates of the landmarks are the longest list."""
MAX_CHUNK_BYTES = 1 << 26
"""Bytes of one column of a row group before it is compressed."""
MAX_TEXT_BYTES = 1 << 28
"""Bytes of the texts of one column, written out."""


class ParquetError(ValueError):
    """A Parquet file that cannot be read; the message is one line without the path."""


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
        file = pq.ParquetFile(stream, pre_buffer=False)
        groups = range(file.num_row_groups) if groups is None else groups
        texts = _checked_texts(file.metadata, columns, groups)
        file = pq.ParquetFile(stream, metadata=file.metadata, read_dictionary=texts, pre_buffer=False)
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
    except (pa.ArrowException, UnicodeDecodeError, MemoryError, OverflowError) as error:
        raise ParquetError(f"damaged: {_first_line(error)}") from None
    return table


def count_row_groups(stream: IO[bytes]) -> int:
    """Return the number of row groups of a Parquet file.

    Raises
    ------
    ParquetError
        If the file is damaged.
    OSError
        If the stream cannot be read.
    """
    try:
        return int(pq.read_metadata(stream).num_row_groups)
    except OSError as error:
        if error.errno is not None:
            raise
        raise ParquetError(f"damaged: {_first_line(error)}") from None
    except pa.ArrowException as error:
        raise ParquetError(f"damaged: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _checked_texts(metadata: pq.FileMetaData, columns: Sequence[str] | None, groups: Sequence[int]) -> list[str]:
    """Compare the sizes in the file's metadata with the limits, and return the columns of texts."""
    total = 0
    texts: set[str] = set()
    for number in groups:
        if not 0 <= number < metadata.num_row_groups:
            raise ParquetError(f"{metadata.num_row_groups} row groups, expected at least {number + 1}")
        group = metadata.row_group(number)
        total += group.num_rows
        if not 0 <= group.num_rows <= MAX_GROUP_ROWS:
            raise ParquetError(f"{group.num_rows} rows in one row group, expected at most {MAX_GROUP_ROWS}")
        if total > MAX_ROWS:
            raise ParquetError(f"{total} rows, expected at most {MAX_ROWS}")
        for index in range(group.num_columns):
            column = group.column(index)
            name, _, nested = column.path_in_schema.partition(".")
            if columns is not None and name not in columns:
                continue
            _check_chunk(column, group.num_rows)
            if column.physical_type == "BYTE_ARRAY":
                if nested:
                    raise ParquetError(f"column {name!r} has texts within lists")
                texts.add(name)
    return sorted(texts)


def _check_chunk(column: pq.ColumnChunkMetaData, rows: int) -> None:
    if not 0 <= column.num_values <= rows * MAX_VALUES_PER_ROW:
        raise ParquetError(
            f"column {column.path_in_schema!r} has {column.num_values} values in {rows} rows,"
            f" expected at most {MAX_VALUES_PER_ROW} each"
        )
    if not 0 <= column.total_uncompressed_size <= MAX_CHUNK_BYTES:
        raise ParquetError(
            f"column {column.path_in_schema!r} has {column.total_uncompressed_size} bytes in one row group,"
            f" expected at most {MAX_CHUNK_BYTES}"
        )


def _written_out(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of texts, one per row, from the distinct texts and their numbers."""
    lengths = [pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() for chunk in column.chunks]
    total = sum(filter(None, lengths))
    if total > MAX_TEXT_BYTES:
        raise ParquetError(f"texts of {total} bytes in one column, expected at most {MAX_TEXT_BYTES}")
    return column.cast(column.type.value_type)
