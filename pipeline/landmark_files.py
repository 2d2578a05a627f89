"""Reading landmarks made elsewhere (``--landmarks``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline import tables
from pipeline.records import FloatRows, InputError
from regions.landmarks import NUM_LANDMARKS

LANDMARK_COLUMNS = [f"{axis}_{index}" for axis in "xy" for index in range(NUM_LANDMARKS)]


def read_landmark_files(paths: Sequence[str]) -> dict[str, FloatRows]:
    """Read the landmarks of all files; where two name an image, the later file counts.

    Returns
    -------
    dict of image id to ndarray (68, 2) float32
        Pixels of the source picture.

    Raises
    ------
    InputError
        If a file can't be used.
    """
    landmarks: dict[str, FloatRows] = {}
    for path in paths:
        landmarks.update(read_landmark_csv(path))
    return landmarks


def read_landmark_csv(path: str) -> dict[str, FloatRows]:
    """Read the layout of AttParseNet's authors: image_name, x_0 to x_67, y_0 to y_67."""
    table = tables.read_table(path)
    absent = [name for name in LANDMARK_COLUMNS if name not in table.columns]
    if absent:
        raise InputError(f"{path}:1: no column {absent[0]!r}, expected image_name, x_0 to x_67, y_0 to y_67")
    columns = [table.columns.index(name) for name in LANDMARK_COLUMNS]
    return {
        row.image_id: np.array(tables.numbers(table, row, columns), dtype=np.float32).reshape(2, NUM_LANDMARKS).T
        for row in table.rows
    }
