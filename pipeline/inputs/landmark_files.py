"""``--landmarks``: landmarks made elsewhere, in any of the formats of `READERS`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline.errors import InputError
from pipeline.inputs.former_run import FormerRunReader
from pipeline.inputs.image_names import KnownNames
from pipeline.inputs.landmark_csv import CsvReader
from pipeline.inputs.landmark_reader import LandmarkPath, LandmarkReader, ListedImages, landmark_path
from pipeline.inputs.openface import OpenFaceReader
from pipeline.inputs.pts import PtsReader
from pipeline.records import FloatRows
from regions.landmarks import NUM_LANDMARKS, FloatArray
from regions.messages import counted
from regions.quality import hint_mismatch

log = logging.getLogger("attparse")

MAX_COMPARED = 1000
"""Images of each path whose landmarks are compared with their hints."""
MAX_DISAGREEING = 0.1
"""Fraction of them above which landmarks and hints are not of the same images."""

READERS: tuple[LandmarkReader, ...] = (FormerRunReader(), PtsReader(), OpenFaceReader(), CsvReader())
"""One reader for each format; the first that recognizes a path reads it."""


def read_landmarks(
    paths: Sequence[str],
    image_ids: Sequence[str],
    bboxes: FloatRows,
    points: FloatRows,
    names: KnownNames | None = None,
) -> FloatRows:
    """Read given landmarks; if several paths have landmarks of an image, those of the last path are used.

    Parameters
    ----------
    paths : sequence of str
        Files or folders, local or remote, in any of the formats of `READERS`.
    image_ids : sequence of str
    bboxes : ndarray (n, 4)
        Face boxes x, y, width, height in pixels of the source image; NaN where unknown.
    points : ndarray (n, 5, 2)
        Five points in pixels of the source image; NaN where unknown.
    names : KnownNames, optional
        Of all images of the data set, if `image_ids` is only a part of them. Landmarks of other
        images of the label file are skipped without a message.

    Returns
    -------
    ndarray (n, 68, 2) float32
        In pixels of the source image; NaN where not given. Without paths, the shape is (n, 0, 2).

    Raises
    ------
    InputError
        If a file can't be used, or a path has landmarks of no image of the label file.
    """
    if not paths:
        return np.full((len(image_ids), 0, 2), np.nan, dtype=np.float32)
    landmarks = np.full((len(image_ids), NUM_LANDMARKS, 2), np.nan, dtype=np.float32)
    rows = {image_id: row for row, image_id in enumerate(image_ids)}
    images = ListedImages(rows, names or KnownNames(rows), bboxes, points)
    for path in map(landmark_path, paths):
        for image_id, found in _compared_with_hints(path.path, _reader_of(path).read(path, images), images):
            landmarks[rows[image_id]] = found
    return landmarks


def _compared_with_hints(
    path: str, found: Iterable[tuple[str, FloatArray]], images: ListedImages
) -> Iterator[tuple[str, FloatArray]]:
    """Yield landmarks as they are, and warn if many of the first ones lie elsewhere than the hints of their images.

    Hand labels may correct a hint, so they are used; but landmarks of another image size or data set
    contradict most hints.
    """
    compared = elsewhere = 0
    for image_id, landmarks in found:
        yield image_id, landmarks
        hints = images.hints(image_id) if compared < MAX_COMPARED else (None, None)
        if any(hint is not None for hint in hints):
            compared += 1
            elsewhere += hint_mismatch(landmarks, *hints) is not None
    if elsewhere > MAX_DISAGREEING * compared:
        log.warning(
            "%s: in %d of %s with hints, the landmarks lie elsewhere than the face box or the five points;"
            " the landmarks are used, so make sure that they are of these images in their present size",
            path,
            elsewhere,
            counted(compared, "image"),
        )


def _reader_of(path: LandmarkPath) -> LandmarkReader:
    """Return the first reader that recognizes a path."""
    reader = next((reader for reader in READERS if reader.recognizes(path)), None)
    if reader is None or (reader.suffix is not None and _is_mixed(path)):
        raise InputError(_format_problem(path))
    return reader


def _is_mixed(path: LandmarkPath) -> bool:
    """Return whether a folder has the files of several formats."""
    return path.is_folder and sum(reader.suffix is not None and reader.recognizes(path) for reader in READERS) > 1


def _format_problem(path: LandmarkPath) -> str:
    """Return the message about a path in no format, or in several ones."""
    if not path.is_folder:
        expected = " or ".join(reader.description for reader in READERS)
        return f"{path.path}:1: {path.header.strip()[:60]!r}, expected {expected}"
    of_images = {reader.suffix: reader.description for reader in READERS if reader.suffix is not None}
    found = " and ".join(counted(len(path.files(suffix)), f"{suffix} file") for suffix in of_images)
    return f"{path.path}: {found}, expected one of these for each image: {' or '.join(of_images.values())}"
