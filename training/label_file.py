"""Label files of other data sets (LFWA, UMD-AED): CelebA's text layout or CSV, some labels may be unknown."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.cli_common import DataError
from training.metrics import UNKNOWN
from training.storage import read_bytes


class Labels(NamedTuple):
    """What a label file tells.

    Attributes
    ----------
    attributes : tuple of str
    image_ids : list of str
        Paths below the image folder.
    values : ndarray (images, attributes) uint8
        0, 1 or `UNKNOWN`.
    """

    attributes: tuple[str, ...]
    image_ids: list[str]
    values: npt.NDArray[np.uint8]


def read_labels(path: str) -> Labels:
    """Read a label file.

    Either CelebA's layout (number of images, attribute names, one line per image) or CSV (a header of
    ``image_id`` and attribute names, one row per image). Labels are 1 and -1, or 1 and 0; in a file that has a -1,
    a 0 is unknown. An empty cell of a CSV file is unknown.

    Raises
    ------
    DataError
        With file, line, what was found and what was expected.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file in UTF-8") from None
    lines = text.splitlines()
    if not lines:
        raise DataError(f"{path}: empty, expected labels")
    rows = _celeba_rows(path, lines) if lines[0].strip().isdigit() else _csv_rows(path, text)
    _, header = next(rows)
    attributes = tuple(header[1:])
    if not attributes or len(set(attributes)) != len(attributes):
        raise DataError(f"{path}: no attribute names, or one of them twice: {', '.join(attributes)}")
    image_ids, values = [], []
    for number, (image_id, *cells) in rows:
        if len(cells) != len(attributes):
            raise DataError(f"{path}, line {number}: {len(cells)} labels, expected {len(attributes)}")
        image_ids.append(_plain_path(path, number, image_id))
        values.append([_value(path, number, cell) for cell in cells])
    if not image_ids:
        raise DataError(f"{path}: no images")
    if len(set(image_ids)) != len(image_ids):
        double = next(image_id for image_id in image_ids if image_ids.count(image_id) > 1)
        raise DataError(f"{path}: {double!r} stands there more than once")
    return Labels(attributes, image_ids, _zero_or_one(np.array(values, dtype=np.float32)))


def _celeba_rows(path: str, lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    if len(lines) < 2:
        raise DataError(f"{path}, line 2: missing, expected the attribute names")
    yield 2, ["image_id", *lines[1].split()]
    rows = [(number, line.split()) for number, line in enumerate(lines[2:], start=3) if line.strip()]
    if len(rows) != int(lines[0]):
        raise DataError(f"{path}, line 1: {int(lines[0])} images are announced, {len(rows)} follow")
    yield from rows


def _csv_rows(path: str, text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader)
    if header[:1] != ["image_id"]:
        raise DataError(
            f"{path}, line 1: first column is {header[:1]}, expected image_id (or a number: CelebA's layout)"
        )
    yield 1, header
    for row in reader:
        if row:
            yield reader.line_num, row


def _plain_path(path: str, number: int, image_id: str) -> str:
    name = image_id.replace("\\", "/")
    if not name or name.startswith("/") or ".." in name.split("/") or ":" in name:
        raise DataError(f"{path}, line {number}: image {image_id!r}, expected a path below the image folder")
    return name


def _value(path: str, number: int, cell: str) -> float:
    if not cell.strip():
        return float("nan")
    if cell.strip() not in ("-1", "0", "1"):
        raise DataError(f"{path}, line {number}: label {cell!r}, expected -1, 0 or 1")
    return float(cell)


def _zero_or_one(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    unknown = np.isnan(values)
    if (values == -1).any():
        unknown |= values == 0
    return np.where(unknown, UNKNOWN, values > 0).astype(np.uint8)


def match_attributes(wanted: Sequence[str], known: Sequence[str]) -> dict[str, int]:
    """Return where each wanted attribute stands among the known ones, whatever the case and spaces of its name."""
    places = {_folded(name): index for index, name in enumerate(known)}
    return {name: places[_folded(name)] for name in wanted if _folded(name) in places}


def _folded(name: str) -> str:
    return name.strip().replace(" ", "_").casefold()


def image_path(folder: str, image_id: str) -> str:
    """Return where an image lies.

    Raises
    ------
    DataError
        If it is not there, or not below the folder.
    """
    path = os.path.join(folder, image_id)
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such image, though the label file lists it")
    if Path(folder).resolve() not in Path(path).resolve().parents:
        raise DataError(f"{path}: leads out of {folder}")
    return path
