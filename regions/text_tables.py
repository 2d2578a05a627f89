"""Tables of one row per image, parsed from lines of text: CelebA's text layout, or CSV.

Pure functions: the caller opens the file. Every error is one line, `source:line: what was found,
what was expected`.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

ID_COLUMNS = ("image_id", "image_name", "filename", "file_name", "image", "name_id")
"""Names that the column of image ids may have, in upper or lower case."""
MAX_NUMBER = 1e9
"""The largest absolute value of a number: larger than any image."""
MAX_LINE = 1 << 20
"""The most characters of a line; the 136 coordinates of a face have fewer than 3,000."""
LINE_SPACE = " \t\r\n"
"""What may stand around a text: unlike `str.strip`, without control characters such as the group separator."""

_UNKNOWN_NUMBER = re.compile(
    r"[+-]?(nan(\(.*\))?|inf(inity)?|1\.#(ind|qnan|snan|inf)\d*)|n/?a|<na>|null|none|", re.IGNORECASE
)
"""A blank, and what programs write for a number that they could not compute."""

_Line = tuple[int, str]


class TableFileError(ValueError):
    """A table that can't be used; the message is one line with source, line, what was found and expected."""


class Row(NamedTuple):
    """One row of a table.

    Attributes
    ----------
    line : int
        Number of its first line, counted from 1.
    image_id : str
    values : list of str
    """

    line: int
    image_id: str
    values: list[str]


class Table(NamedTuple):
    """A table of one row per image.

    Attributes
    ----------
    source : str
        Name of the file, for messages.
    columns : list of str
        Names of the values; empty where the table has no header.
    rows : iterator of Row
        Each with as many values as there are columns, each of another image; raises
        `TableFileError` at the first row that is not.
    header_line : int
        Number of the line that holds the names.
    """

    source: str
    columns: list[str]
    rows: Iterator[Row]
    header_line: int = 1


def text_lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a file as `parse_text_table` expects them.

    Bytes that are not UTF-8 are escaped. Of a line of more than `MAX_LINE` characters, only the start is read,
    which `parse_text_table` refuses.
    """
    with io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape") as text:
        while line := text.readline(MAX_LINE + 1):
            yield line


def parse_text_table(lines: Iterable[str], source: str, num_values: int | None = None) -> Table:
    r"""Parse a table in CelebA's text layout or as CSV.

    CelebA's layout is a first line with the number of rows, a second one with the names of the
    values, and rows of an image id and values separated by spaces; without these two lines
    (`num_values` given), rows alone. CSV has a header whose first column is the image id. Lines
    end in LF or CRLF; a byte order mark and empty lines at the end are ignored.

    Parameters
    ----------
    lines : iterable of str
        See `text_lines`; read as the rows are read.
    source : str
        Name of the file, for messages.
    num_values : int, optional
        Number of values per row of a text file that has no header.

    Raises
    ------
    TableFileError
        If the text is neither.

    Examples
    --------
    >>> table = parse_text_table(["2\n", "Bald Young\n", "1.jpg -1 1\n", "my 2.jpg -1 -1\n"], "labels.txt")
    >>> table.columns
    ['Bald', 'Young']
    >>> next(table.rows)
    Row(line=3, image_id='1.jpg', values=['-1', '1'])
    """
    numbered = _numbered_lines(lines, source)
    _, first = next(numbered, (1, ""))
    if not first.strip():
        raise TableFileError(f"{source}:1: empty, expected CelebA's text layout or CSV")
    if "," in first:
        table = _csv_table(source, first, numbered)
    elif re.fullmatch("[0-9]{1,18}", first.strip(LINE_SPACE)):
        table = _counted_table(source, int(first), numbered)
    elif num_values is not None:
        table = Table(source, [], _text_rows(source, itertools.chain([(1, first)], numbered), num_values))
    else:
        found = first.strip(LINE_SPACE)[:60]
        raise TableFileError(f"{source}:1: {found!r}, expected the number of rows (CelebA's layout) or a CSV header")
    return table._replace(rows=_unique_rows(table))


def _numbered_lines(lines: Iterable[str], source: str) -> Iterator[_Line]:
    """Yield the lines of a text, counted from 1; empty ones at its end are left out."""
    empty = 0
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise TableFileError(f"{source}:{number}: line of more than {MAX_LINE:,} characters, expected a text table")
        if "\0" in line or not line.isascii():
            _check_text(source, number, line)
        if not line.strip():
            empty += 1
            continue
        yield from ((number - back, "") for back in range(empty, 0, -1))
        empty = 0
        yield number, line.removeprefix("\ufeff") if number == 1 else line


def _check_text(source: str, number: int, line: str) -> None:
    found = re.search("[\0\udc80-\udcff]", line)
    if found:
        byte = found[0].encode(errors="surrogateescape")
        place = f" after {line[: found.start()][-20:]!r}" if found.start() else ""
        raise TableFileError(f"{source}:{number}: {byte!r}{place}, expected UTF-8 text")


def _counted_table(source: str, expected: int, lines: Iterator[_Line]) -> Table:
    columns = next(lines, (2, ""))[1].split()
    if columns and columns[0].lower() in ID_COLUMNS:
        columns = columns[1:]
    if not columns:
        raise TableFileError(f"{source}:2: empty, expected the names of the values")

    def rows() -> Iterator[Row]:
        found = 0
        for row in _text_rows(source, lines, len(columns)):
            found += 1
            yield row
        if found != expected:
            raise TableFileError(f"{source}:1: {_count(found, 'row')} in the file, expected {expected} as in line 1")

    return Table(source, columns, rows(), header_line=2)


def _text_rows(source: str, lines: Iterable[_Line], num_values: int) -> Iterator[Row]:
    for number, line in lines:
        image_id, *values = line.strip().rsplit(None, num_values) or [""]
        if len(values) != num_values or (len(image_id.split()) > 1 and not _has_suffix(image_id)):
            found = _count(max(len(line.split()) - 1, 0), "value")
            raise TableFileError(f"{source}:{number}: {found}, expected an image id and {_count(num_values, 'value')}")
        yield Row(number, image_id, values)


def _has_suffix(image_id: str) -> bool:
    """Return whether an id with spaces is a file name, rather than an id and surplus values."""
    suffix = os.path.splitext(image_id)[1]
    return len(suffix.split()) == 1 and not suffix[1:].isdigit()


def _csv_table(source: str, first: str, lines: Iterator[_Line]) -> Table:
    try:
        header = [name.strip() for name in next(csv.reader([first], strict=True))]
    except csv.Error as error:
        raise TableFileError(f"{source}:1: not valid CSV: {error}") from None
    if header[0].lower() not in ID_COLUMNS:
        raise TableFileError(
            f"{source}:1: first column is {header[0][:60]!r}, expected the image id: {', '.join(ID_COLUMNS)}"
        )
    return Table(source, header[1:], _csv_rows(source, lines, len(header)))


def _csv_rows(source: str, lines: Iterator[_Line], num_columns: int) -> Iterator[Row]:
    reader = csv.reader((line for _, line in lines), strict=True)
    number = 2
    try:
        for values in reader:
            if len(values) != num_columns:
                found = _count(len(values), "column")
                raise TableFileError(f"{source}:{number}: {found}, expected {num_columns} as in line 1")
            yield Row(number, values[0].strip(), values[1:])
            number = reader.line_num + 2
    except csv.Error as error:
        raise TableFileError(f"{source}:{number}: not valid CSV: {error}") from None


def _unique_rows(table: Table) -> Iterator[Row]:
    line_of: dict[str, int] = {}
    for row in table.rows:
        first = line_of.setdefault(row.image_id, row.line)
        if first != row.line:
            raise TableFileError(
                f"{table.source}:{row.line}: duplicate row for image {row.image_id!r} (first seen in line {first})"
            )
        yield row


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def numbers(table: Table, row: Row, columns: Sequence[int] | None = None) -> list[float]:
    """Return the values of a row, or some of them, as finite numbers.

    Parameters
    ----------
    table : Table
    row : Row
        One of its rows.
    columns : sequence of int, optional
        Indices of the values; by default all.

    Raises
    ------
    TableFileError
        At a value that is not a number, or too large for any image.
    """
    result = _numbers(table, row, columns)
    if isinstance(result, str):
        expected = f"a number of at most {MAX_NUMBER:.0e}" if _is_number(result) else "a number"
        raise TableFileError(f"{table.source}:{row.line}: {result[:60]!r}, expected {expected}")
    return result


def known_numbers(table: Table, row: Row, columns: Sequence[int] | None = None) -> list[float] | None:
    """Return the values of a row, or some of them, as finite numbers; None if one of them is unknown.

    Unknown is a blank, and what programs write for a number that they could not compute, such as
    ``nan``, ``-nan(ind)`` or ``inf``.

    Parameters
    ----------
    table, row, columns
        See `numbers`.

    Raises
    ------
    TableFileError
        At any other value that is not a number, or too large for any image.
    """
    result = _numbers(table, row, columns)
    if not isinstance(result, str):
        return result
    values = row.values if columns is None else [row.values[i] for i in columns]
    known = [i for i, value in enumerate(values) if not _UNKNOWN_NUMBER.fullmatch(value.strip())]
    numbers(table, row._replace(values=values), known)
    return None


def _numbers(table: Table, row: Row, columns: Sequence[int] | None) -> list[float] | str:
    """Return values of a row as numbers, or the first value that is no finite number."""
    values = row.values if columns is None else [row.values[i] for i in columns]
    joined = "".join(values)
    try:
        if not joined.isascii() or "_" in joined:
            raise ValueError
        result = [float(value) for value in values]
    except ValueError:
        return next(value for value in values if not _is_number(value))
    if sum(map(abs, result)) <= MAX_NUMBER:
        return result
    too_large = (text for text, value in zip(values, result, strict=True) if not abs(value) <= MAX_NUMBER)
    return next(too_large, result)


def _is_number(value: str) -> bool:
    """Return whether a text is a number; Python also takes digits of other scripts and ``1_000``."""
    try:
        float(value)
    except ValueError:
        return False
    return value.isascii() and "_" not in value
