"""The .pts files of iBUG's data sets: 68 points of one face, annotated by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from pipeline.errors import InputError
from pipeline.inputs import text_tables
from pipeline.inputs.files_per_image import parsed_files
from pipeline.inputs.landmark_reader import LandmarkPath, ListedImages, log_unknown
from regions.landmarks import NUM_LANDMARKS, FloatArray

FIRST_PIXEL = 0.5
"""The center of the top-left pixel is 1 in a .pts file and 0.5 here."""
COUNT_NAMES = ("n_points", "npoints")
SUFFIX = ".pts"

Line = tuple[int, str]


class PtsReader:
    """Reads a .pts file, or a folder of them."""

    description: ClassVar[str] = ".pts files with 68 points"
    suffix: ClassVar[str | None] = SUFFIX

    def recognizes(self, path: LandmarkPath) -> bool:
        """Return whether the path is a .pts file, or a folder that has some."""
        return bool(path.files(SUFFIX)) if path.is_folder else path.path.lower().endswith(SUFFIX)

    def read(self, path: LandmarkPath, images: ListedImages) -> Iterator[tuple[str, FloatArray]]:
        """Yield the ids of images of the run and their landmarks ``(68, 2)``."""
        num_files = num_unknown = 0
        for image_id, landmarks in parsed_files(path, SUFFIX, images, parse_pts):
            num_files += 1
            if landmarks is None:
                num_unknown += 1
            else:
                yield image_id, landmarks
        log_unknown(path.path, num_unknown, "file", num_files)


def parse_pts(text: str, path: str) -> FloatArray | None:
    """Read the 68 points of a .pts file, with or without its header and braces.

    Parameters
    ----------
    text : str
    path : str
        For messages.

    Returns
    -------
    ndarray (68, 2) float64, or None
        In pixels of the image, from the top-left corner of its top-left pixel: the numbers of the
        file minus half a pixel. None where a coordinate is unknown, such as nan.

    Raises
    ------
    InputError
        If the text has another layout or number of points, or a coordinate that is no number,
        or too large for any image.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    table = text_tables.Table(path, ["x", "y"], iter(()))
    points: list[list[float] | None] = []
    for number, line in _between_braces(lines, path):
        values = line.split()
        if len(values) != 2:
            raise InputError(f"{path}:{number}: {line[:60]!r}, expected x and y")
        points.append(text_tables.known_numbers(table, text_tables.Row(number, "", values)))
    if len(points) != NUM_LANDMARKS:
        last = lines[-1][0] if lines else 1
        raise InputError(f"{path}:{last}: {len(points)} points, expected {NUM_LANDMARKS}")
    known = [point for point in points if point is not None]
    return np.array(known) - FIRST_PIXEL if len(known) == NUM_LANDMARKS else None


def _between_braces(lines: Sequence[Line], path: str) -> Sequence[Line]:
    """Check the header and the braces, and return the lines between them; all lines if there are no braces."""
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
