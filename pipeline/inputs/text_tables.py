"""Row-by-row reading of CelebA's text files and of CSV, with the file and line in every message."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import InputError

ID_COLUMNS = ("image_id", "image_name", "filename", "file_name", "image")


MAX_NUMBER = 1e9


class Row(NamedTuple):
    """One line of a table."""

    line: int
    image_id: str
    values: list[str]


class Table(NamedTuple):
    """A table of one row per image.

    Attributes
    ----------
    path : str
    columns : list of str
        Names of the values; empty where the file has no header.
    rows : iterator of Row
        Each with as many values as there are columns; raises InputError at the line that has not.
    """

    path: str
    columns: list[str]
    rows: Iterator[Row]


def read_table(path: str, num_values: int | None = None) -> Table:
    """Open a table in CelebA's text layout or as CSV.

    CelebA's layout is a first line with the number of rows, a second one with the names of the
    values, and rows of an image id and values between spaces; without these two lines
    (`num_values` given), rows alone. CSV has a header whose first column is the image id. Lines
    end in LF or CRLF.

    Parameters
    ----------
    path : str
    num_values : int, optional
        Number of values per row of a text file that has no header.

    Raises
    ------
    InputError
        If the file can't be read or is neither.
    """
    lines = _numbered_lines(path)
    _, first = next(lines, (1, ""))
    if not first.strip():
        raise InputError(f"{path}:1: empty, expected CelebA's text layout or CSV")
    if "," in first:
        return _csv_table(path, first, lines)
    if re.fullmatch("[0-9]{1,18}", first.strip()):
        return _counted_table(path, int(first), lines)
    if num_values is None:
        raise InputError(
            f"{path}:1: {first.strip()[:60]!r}, expected the number of rows (CelebA's layout) or a CSV header"
        )
    return Table(path, [], _text_rows(path, itertools.chain([(1, first)], lines), num_values))


def _numbered_lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file, counted from 1; empty ones at its end are left out."""
    with storage.explained(path), storage.open_read(path) as stream:
        empty = 0
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
        for number, line in enumerate(text, 1):
            _check_utf8(path, number, line)
            if not line.strip():
                empty += 1
                continue
            yield from ((number - back, "") for back in range(empty, 0, -1))
            empty = 0
            yield number, line


def _check_utf8(path: str, number: int, line: str) -> None:
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte = line[error.start].encode(errors="surrogateescape")
        raise InputError(
            f"{path}:{number}: {byte!r} behind {line[: error.start][-20:]!r}, expected UTF-8 text"
        ) from None


def _counted_table(path: str, expected: int, lines: Iterator[tuple[int, str]]) -> Table:
    columns = next(lines, (2, ""))[1].split()
    if columns and columns[0] in ID_COLUMNS:
        columns = columns[1:]
    if not columns:
        raise InputError(f"{path}:2: empty, expected the names of the values")

    def rows() -> Iterator[Row]:
        found = 0
        for row in _text_rows(path, lines, len(columns)):
            found += 1
            yield row
        if found != expected:
            raise InputError(f"{path}:1: says {expected} rows, but {found} follow")

    return Table(path, columns, rows())


def _text_rows(path: str, lines: Iterable[tuple[int, str]], num_values: int) -> Iterator[Row]:
    for number, line in lines:
        image_id, *values = line.strip().rsplit(None, num_values) or [""]
        if len(values) != num_values or (len(image_id.split()) > 1 and not _looks_like_file(image_id)):
            found = max(len(line.split()) - 1, 0)
            raise InputError(f"{path}:{number}: {found} values, expected an image id and {num_values} values")
        yield Row(number, image_id, values)


def _looks_like_file(image_id: str) -> bool:
    """Tell an id with spaces from an id and a value too many."""
    suffix = os.path.splitext(image_id)[1]
    return len(suffix.split()) == 1 and not suffix[1:].isdigit()


def _csv_table(path: str, first: str, lines: Iterator[tuple[int, str]]) -> Table:
    try:
        header = [name.strip() for name in next(csv.reader([first], strict=True))]
    except csv.Error as error:
        raise InputError(f"{path}:1: not valid CSV: {error}") from None
    if header[0] not in ID_COLUMNS:
        raise InputError(f"{path}:1: first column is {header[0]!r}, expected the image id: {', '.join(ID_COLUMNS)}")
    return Table(path, header[1:], _csv_rows(path, lines, len(header)))


def _csv_rows(path: str, lines: Iterator[tuple[int, str]], num_columns: int) -> Iterator[Row]:
    reader = csv.reader((line for _, line in lines), strict=True)
    try:
        for values in reader:
            number = reader.line_num + 1
            if len(values) != num_columns:
                raise InputError(f"{path}:{number}: {len(values)} columns, expected {num_columns} as in line 1")
            yield Row(number, values[0].strip(), values[1:])
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num + 1}: not valid CSV: {error}") from None


def numbers(table: Table, row: Row, columns: list[int] | None = None) -> list[float]:
    """Return the values of a row, or some of them, as finite numbers.

    Raises
    ------
    InputError
        At a value that is not a number, or too large for any image.
    """
    values = row.values if columns is None else [row.values[i] for i in columns]
    try:
        result = [float(value) for value in values]
    except ValueError:
        wrong = next(value for value in values if not _is_number(value))
        raise InputError(f"{table.path}:{row.line}: {wrong!r}, expected a number") from None
    if not all(abs(value) <= MAX_NUMBER for value in result):
        wrong = next(text for text, value in zip(values, result, strict=True) if not abs(value) <= MAX_NUMBER)
        raise InputError(f"{table.path}:{row.line}: {wrong!r}, expected a number of at most {MAX_NUMBER:.0e}")
    return result


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
