"""A table of the landmarks of all images, as AttParseNet's authors wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from pipeline.errors import InputError
from pipeline.inputs import text_tables
from pipeline.inputs.landmark_reader import LandmarkPath, ListedImages, of_listed_images
from pipeline.inputs.openface import LANDMARK_COLUMNS
from pipeline.records import FloatRows
from regions.csv_cells import original
from regions.landmarks import NUM_LANDMARKS, FloatArray


class CsvReader:
    """Reads a table of all images, as CSV or in CelebA's text layout."""

    description: ClassVar[str] = "a table of all images (image_name, x_0 to x_67, y_0 to y_67)"
    suffix: ClassVar[str | None] = None

    def recognizes(self, path: LandmarkPath) -> bool:
        """Return whether the first line is the header of a table, or the number of its rows."""
        first = path.header.partition(",")[0].strip()
        return first in text_tables.ID_COLUMNS or path.header.strip().isdecimal()

    def read(self, path: LandmarkPath, images: ListedImages) -> Iterator[tuple[str, FloatArray]]:
        """Yield the ids of images of the run and their landmarks ``(68, 2)``."""
        return of_listed_images(path.path, _rows(path.path), images)


def read_landmark_csv(path: str) -> dict[str, FloatRows]:
    """Return the landmarks ``(68, 2)`` of each image of a table: image_name, x_0 to x_67, y_0 to y_67.

    Images with a coordinate that is blank or nan are left out.

    Raises
    ------
    InputError
        If the file is not such a table.
    """
    return {image_id: landmarks for image_id, landmarks in _rows(path) if landmarks is not None}


def _rows(path: str) -> Iterator[tuple[str, FloatRows | None]]:
    table = text_tables.read_table(path)
    absent = next((name for name in LANDMARK_COLUMNS if name not in table.columns), None)
    if absent is not None:
        raise InputError(f"{path}:1: no column {absent!r}, expected image_name, x_0 to x_67, y_0 to y_67")
    columns = [table.columns.index(name) for name in LANDMARK_COLUMNS]
    for row in table.rows:
        values = text_tables.known_numbers(table, row, columns)
        known = None if values is None else np.array(values, dtype=np.float32).reshape(2, NUM_LANDMARKS).T
        yield original(row.image_id), known
