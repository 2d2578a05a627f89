"""Tables of one row per image, read from local or remote files: `regions.text_tables` with a file behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from pipeline import storage
from pipeline.errors import InputError
from regions import text_tables
from regions.text_tables import ID_COLUMNS, MAX_NUMBER, Row, Table, TableFileError, text_lines

__all__ = [
    "ID_COLUMNS",
    "MAX_NUMBER",
    "Row",
    "Table",
    "input_errors",
    "known_numbers",
    "numbers",
    "read_lines",
    "read_table",
]


def read_table(path: str, num_values: int | None = None) -> Table:
    """Open a table in CelebA's text layout or as CSV: see `regions.text_tables.parse_text_table`.

    Parameters
    ----------
    path : str
        Local or remote.
    num_values : int, optional
        Number of values per row of a text file that has no header.

    Raises
    ------
    InputError
        If the file can't be read or is neither; so do the rows of the table.
    """
    with input_errors():
        table = text_tables.parse_text_table(read_lines(path), path, num_values)
    return table._replace(rows=_explained_rows(table.rows))


def read_lines(path: str) -> Iterator[str]:
    """Yield the lines of a text file, with bytes that are not UTF-8 escaped.

    Raises
    ------
    InputError
        If the file can't be read.
    """
    with storage.explained(path), storage.open_read(path) as stream:
        yield from text_lines(stream)


def numbers(table: Table, row: Row, columns: Sequence[int] | None = None) -> list[float]:
    """Return the values of a row, or some of them, as finite numbers.

    Raises
    ------
    InputError
        At a value that is not a number, or too large for any image.
    """
    with input_errors():
        return text_tables.numbers(table, row, columns)


def known_numbers(table: Table, row: Row, columns: Sequence[int] | None = None) -> list[float] | None:
    """Return the values of a row, or some of them, as finite numbers; None if one is blank or, such as nan, unknown.

    Raises
    ------
    InputError
        At any other value that is not a number, or too large for any image.
    """
    with input_errors():
        return text_tables.known_numbers(table, row, columns)


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Turn a `TableFileError` into an `InputError` with the same message."""
    try:
        yield
    except TableFileError as error:
        raise InputError(str(error)) from None


def _explained_rows(rows: Iterable[Row]) -> Iterator[Row]:
    with input_errors():
        yield from rows
