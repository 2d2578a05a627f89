"""The .pts files of iBUG's data sets: 68 points of one face, hand-made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import InputError
from pipeline.inputs import text_tables
from regions.landmarks import NUM_LANDMARKS, FloatArray

FIRST_PIXEL = 0.5
"""A .pts file has 1 for the middle of the first pixel, which is at 0.5 here."""
COUNT_NAMES = ("n_points", "npoints")

Line = tuple[int, str]


def parse_pts(text: str, path: str) -> FloatArray:
    """Read the 68 points of a .pts file, with or without its header and braces.

    Parameters
    ----------
    text : str
    path : str
        For messages.

    Returns
    -------
    ndarray (68, 2) float64
        In pixels of the image, from the top-left corner of its first pixel: what the file says,
        less half a pixel.

    Raises
    ------
    InputError
        If the text has another layout or number of points, or a coordinate that is not a finite number.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    table = text_tables.Table(path, ["x", "y"], iter(()))
    points = []
    for number, line in _between_braces(lines, path):
        values = line.split()
        if len(values) != 2:
            raise InputError(f"{path}:{number}: {line[:60]!r}, expected x and y")
        points.append(text_tables.numbers(table, text_tables.Row(number, "", values)))
    if len(points) != NUM_LANDMARKS:
        last = lines[-1][0] if lines else 1
        raise InputError(f"{path}:{last}: {len(points)} points, expected {NUM_LANDMARKS}")
    return np.array(points) - FIRST_PIXEL


def _between_braces(lines: Sequence[Line], path: str) -> Sequence[Line]:
    """Return the lines between the braces after checking those about them; all lines if there are no braces."""
    start = next((i for i, (_, line) in enumerate(lines) if line == "{"), None)
    if start is None:
        return lines
    for number, line in lines[:start]:
        name, colon, value = line.partition(":")
        if not colon:
            raise InputError(f"{path}:{number}: {line[:60]!r}, expected 'version: 1', 'n_points: 68' or '{{'")
        if name.strip() in COUNT_NAMES and value.strip() != str(NUM_LANDMARKS):
            raise InputError(f"{path}:{number}: {value.strip()[:60]!r} points, expected {NUM_LANDMARKS}")
    number, line = lines[-1]
    if line != "}":
        raise InputError(f"{path}:{number}: {line[:60]!r}, expected '}}' as the last line")
    return lines[start + 1 : -1]
