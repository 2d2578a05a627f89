"""The CSV files of OpenFace: for each image one file, with one row for each face."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.inputs import text_tables
from regions.landmarks import NUM_LANDMARKS, FloatArray
from regions.quality import hint_distance, hint_mismatch

LANDMARK_COLUMNS = [f"{axis}_{index}" for axis in "xy" for index in range(NUM_LANDMARKS)]
"""Of the 2-D landmarks; AttParseNet's authors kept these names in their table of all images."""
FIRST_COLUMNS = ("face", "frame")
"""What the header of FaceLandmarkImg starts with, and that of FeatureExtraction."""


class Faces(NamedTuple):
    """The faces that OpenFace found in an image.

    Attributes
    ----------
    landmarks : ndarray (n, 68, 2) float64
        As OpenFace wrote them, in pixels of the image.
    confidences : list of float
        From 0 to 1.
    """

    landmarks: FloatArray
    confidences: list[float]


def is_openface(header: str) -> bool:
    """Tell whether a CSV file with this first line comes from OpenFace."""
    return header.partition(",")[0].strip() in FIRST_COLUMNS


def parse_faces(text: str, path: str) -> Faces:
    """Read the faces of one image; rows that OpenFace marks as failures are left out.

    Parameters
    ----------
    text : str
        What FaceLandmarkImg wrote for an image, or FeatureExtraction for a single frame.
    path : str
        For messages.

    Raises
    ------
    InputError
        If the text is something else, has several frames, lacks the 2-D landmarks, or has a
        coordinate that is not a finite number.
    """
    table = _open_table(text, path)
    columns = _columns(table)
    landmarks: list[FloatArray] = []
    confidences: list[float] = []
    frame = None
    for row in table.rows:
        if "frame" in columns:
            row_frame = row.values[columns["frame"]].strip()
            if frame not in (None, row_frame):
                raise InputError(
                    f"{path}:{row.line}: frame {row_frame!r} behind frame {frame!r}: of a video or an image sequence,"
                    " which names no images; expected the output of FaceLandmarkImg, one CSV file for each image"
                )
            frame = row_frame
        if "success" in columns and text_tables.numbers(table, row, [columns["success"]]) == [0.0]:
            continue
        values = text_tables.numbers(table, row, [columns[name] for name in LANDMARK_COLUMNS])
        landmarks.append(np.array(values).reshape(2, NUM_LANDMARKS).T)
        confidences += text_tables.numbers(table, row, [columns["confidence"]])
    return Faces(np.array(landmarks).reshape(-1, NUM_LANDMARKS, 2), confidences)


def choose_face(faces: Faces, bbox: FloatArray | None, points: FloatArray | None) -> FloatArray | None:
    """Return the face that is meant.

    Parameters
    ----------
    faces : Faces
    bbox : ndarray (4,) or None
        The face box of the data set: x, y, width, height, in pixels.
    points : ndarray (5, 2) or None
        Its five points, in pixels. Where given they decide, and the box is not asked.

    Returns
    -------
    ndarray (68, 2) or None
        Of the faces that agree with the five points or the box, the nearest; without either, the
        face of the highest confidence. None if no face agrees.
    """
    agreeing = [i for i, face in enumerate(faces.landmarks) if hint_mismatch(face, bbox, points) is None]
    if not agreeing:
        return None

    def fitness(index: int) -> float:
        distance = hint_distance(faces.landmarks[index], bbox, points)
        return faces.confidences[index] if distance is None else -distance

    chosen: FloatArray = faces.landmarks[max(agreeing, key=fitness)]
    return chosen


def _open_table(text: str, path: str) -> text_tables.Table:
    lines = text.splitlines()
    if not lines or not is_openface(lines[0]):
        found = lines[0][:60] if lines else ""
        raise InputError(
            f"{path}:1: {found!r}, expected the header of an OpenFace CSV file: face, confidence, ... or frame, ..."
        )
    names = lines[0].split(",")

    def rows() -> Iterator[text_tables.Row]:
        for number, line in enumerate(lines[1:], 2):
            if not line.strip():
                continue
            values = line.split(",")
            if len(values) != len(names):
                raise InputError(f"{path}:{number}: {len(values)} columns, expected {len(names)} as in line 1")
            yield text_tables.Row(number, "", values)

    return text_tables.Table(path, names, rows())


def _columns(table: text_tables.Table) -> dict[str, int]:
    """Return where each column stands."""
    columns = _positions(tuple(table.columns))
    if "confidence" not in columns:
        raise InputError(f"{table.source}:1: no column 'confidence', which OpenFace writes always")
    absent = next((name for name in LANDMARK_COLUMNS if name not in columns), None)
    if absent is not None:
        raise InputError(
            f"{table.source}:1: no column {absent!r}, expected the 2-D landmarks x_0 to x_67 and y_0 to y_67:"
            " run OpenFace with -2Dfp"
        )
    return columns


@functools.lru_cache(maxsize=4)
def _positions(names: tuple[str, ...]) -> dict[str, int]:
    """Return the position of each column, whose name may have spaces about it."""
    return {name.strip(): position for position, name in enumerate(names)}
