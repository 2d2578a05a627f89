"""images.csv: the images of an exported folder, written and read."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import InputError

INDEX_FILE = "images.csv"
INDEX_COLUMNS = ["file", "image_id", "reason", "sha256"]
FILE_NAME = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z]+")
"""File names in the folder: the key of the sample and a suffix."""


class IndexRow(NamedTuple):
    """A row of the index: file name in the folder, image id, reject reason, sha256 of the exported labelme file."""

    file: str
    image_id: str
    reason: str
    sha256: str


def write_index(folder: str, rows: Sequence[IndexRow]) -> None:
    """Write the index of an exported folder."""
    storage.write_bytes(os.path.join(folder, INDEX_FILE), csv_bytes([INDEX_COLUMNS, *rows]))


def read_index(folder: str) -> list[IndexRow]:
    """Read the index of an exported folder.

    Raises
    ------
    InputError
        If it is missing, damaged, or has a row twice.
    """
    path = os.path.join(folder, INDEX_FILE)
    try:
        text = storage.read_bytes(path).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        if header != INDEX_COLUMNS:
            raise InputError(f"{path}:1: {','.join(header)[:60]!r}, expected {','.join(INDEX_COLUMNS)}")
        rows = [_index_row(f"{path}:{reader.line_num}", values) for values in reader]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}, expected a folder created by attparse handlabel export") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid CSV in UTF-8: {error}") from None
    for names in ([labels_name(row.file) for row in rows], [row.image_id for row in rows]):
        name, count = Counter(names).most_common(1)[0] if names else ("", 0)
        if count > 1:
            raise InputError(f"{path}: {count} rows for {name!r}, expected one")
    return rows


def _index_row(place: str, values: Sequence[str]) -> IndexRow:
    if len(values) != len(INDEX_COLUMNS):
        raise InputError(f"{place}: {len(values)} columns, expected {len(INDEX_COLUMNS)}: {','.join(INDEX_COLUMNS)}")
    row = IndexRow(*values)
    if not FILE_NAME.fullmatch(row.file):
        raise InputError(f"{place}: file {row.file!r}, expected a name of letters, digits, - and _ with a suffix")
    return row


def labels_name(file: str) -> str:
    """Return the name of the labelme file of an image."""
    return os.path.splitext(file)[0] + ".json"


def csv_bytes(rows: Sequence[Sequence[str]]) -> bytes:
    """Return rows as CSV."""
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode()
