"""The CSV files of OpenFace: one file for each image, one row for each face."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.inputs import text_tables
from pipeline.inputs.files_per_image import parsed_files
from pipeline.inputs.landmark_reader import LandmarkPath, ListedImages
from regions.landmarks import NUM_LANDMARKS, FloatArray
from regions.messages import counted
from regions.quality import hint_distance, hint_mismatch

log = logging.getLogger("attparse")

SUFFIX = ".csv"
LANDMARK_COLUMNS = [f"{axis}_{index}" for axis in "xy" for index in range(NUM_LANDMARKS)]
"""Columns of the 2-D landmarks; the table of all images by AttParseNet's authors has the same names."""
FIRST_COLUMNS = ("face", "frame")
"""First column of the files of FaceLandmarkImg, and of FeatureExtraction."""


class Faces(NamedTuple):
    """The faces in the file of an image.

    Attributes
    ----------
    landmarks : ndarray (n, 68, 2) float64
        In pixels of the image.
    confidences : list of float
        From 0 to 1.
    """

    landmarks: FloatArray
    confidences: list[float]


class OpenFaceReader:
    """Reads a CSV file of OpenFace, or a folder of them.

    If a file has several faces, the one that matches the five points or the face box is used. If
    none does, the image has no landmarks of this path.
    """

    description: ClassVar[str] = "CSV files of OpenFace (face, confidence, ... x_0 to x_67, y_0 to y_67)"
    suffix: ClassVar[str | None] = SUFFIX

    def recognizes(self, path: LandmarkPath) -> bool:
        """Return whether the path is a file with OpenFace's header, or a folder that has CSV files."""
        return bool(path.files(SUFFIX)) if path.is_folder else is_openface(path.header)

    def read(self, path: LandmarkPath, images: ListedImages) -> Iterator[tuple[str, FloatArray]]:
        """Yield the ids of images of the run and their landmarks ``(68, 2)``."""
        unused: Counter[bool] = Counter()
        for image_id, faces in parsed_files(path, SUFFIX, images, parse_faces):
            face = choose_face(faces, *images.hints(image_id))
            if face is None:
                unused[bool(faces.confidences)] += 1
            else:
                yield image_id, face
        if unused:
            log.info(
                "%s: %s without a face, %d without one that matches the five points or the face box;"
                " the detectors search these images",
                path.path,
                counted(unused[False], "file"),
                unused[True],
            )


def is_openface(header: str) -> bool:
    """Return whether a CSV file with this first line is one of OpenFace."""
    return header.partition(",")[0].strip() in FIRST_COLUMNS


def parse_faces(text: str, path: str) -> Faces:
    """Read the faces of one image; rows that OpenFace marks as failures, or with a number such as nan, are no faces.

    Parameters
    ----------
    text : str
        The file of FaceLandmarkImg for an image, or of FeatureExtraction for a single frame.
    path : str
        For messages.

    Raises
    ------
    InputError
        If the text has another layout or several frames, lacks the 2-D landmarks, or has a
        coordinate that is no number, or too large for any image.
    """
    table = _open_table(text, path)
    columns = _columns(table)
    used = [columns[name] for name in ("confidence", *LANDMARK_COLUMNS)]
    landmarks: list[FloatArray] = []
    confidences: list[float] = []
    frame = None
    for row in table.rows:
        if "frame" in columns:
            row_frame = row.values[columns["frame"]].strip()
            if frame not in (None, row_frame):
                raise InputError(
                    f"{path}:{row.line}: frame {row_frame!r} after frame {frame!r}: a video or an image sequence, where"
                    " no row names its image; expected the output of FaceLandmarkImg, one CSV file for each image"
                )
            frame = row_frame
        if "success" in columns and text_tables.known_numbers(table, row, [columns["success"]]) in ([0.0], None):
            continue
        values = text_tables.known_numbers(table, row, used)
        if values is None:
            continue
        landmarks.append(np.array(values[1:]).reshape(2, NUM_LANDMARKS).T)
        confidences.append(values[0])
    return Faces(np.array(landmarks).reshape(-1, NUM_LANDMARKS, 2), confidences)


def choose_face(faces: Faces, bbox: FloatArray | None, points: FloatArray | None) -> FloatArray | None:
    """Return the face that the hints select.

    Parameters
    ----------
    faces : Faces
    bbox : ndarray (4,) or None
        The face box of the data set: x, y, width, height, in pixels.
    points : ndarray (5, 2) or None
        Its five points, in pixels; if given, the box is not used.

    Returns
    -------
    ndarray (68, 2) or None
        Of the faces that match the five points or the box, the nearest one; without either, the
        face of highest confidence. None if no face matches.
    """
    matching = [i for i, face in enumerate(faces.landmarks) if hint_mismatch(face, bbox, points) is None]
    if not matching:
        return None

    def fitness(index: int) -> float:
        distance = hint_distance(faces.landmarks[index], bbox, points)
        return faces.confidences[index] if distance is None else -distance

    best: FloatArray = faces.landmarks[max(matching, key=fitness)]
    return best


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
    """Return the position of each column."""
    columns = _positions(tuple(table.columns))
    if "confidence" not in columns:
        raise InputError(f"{table.source}:1: no column 'confidence', expected the columns of OpenFace")
    absent = next((name for name in LANDMARK_COLUMNS if name not in columns), None)
    if absent is not None:
        raise InputError(
            f"{table.source}:1: no column {absent!r}, expected the 2-D landmarks x_0 to x_67 and y_0 to y_67:"
            " run OpenFace with -2Dfp"
        )
    return columns


@functools.lru_cache(maxsize=4)
def _positions(names: tuple[str, ...]) -> dict[str, int]:
    """Return the position of each column; OpenFace 2.0 wrote spaces before the names."""
    return {name.strip(): position for position, name in enumerate(names)}
