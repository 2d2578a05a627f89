"""The ladder: ways to find a face's landmarks, tried in order until one passes the checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from pipeline import detect_mediapipe
from pipeline.images import Picture
from pipeline.records import ImageRow
from regions.landmarks import (
    FloatArray,
    face_size,
    five_points,
    landmarks_from_five_points,
    landmarks_in_box,
)
from regions.quality import disagrees, implausible, points_error

LADDER_VERSION = 1
"""Raised whenever the ladder finds other landmarks, so that shards built before are built again."""

GIVEN = "given"
HINTED_BOX = "hinted_box"
WHOLE_PICTURE = "whole_picture"
FACE_DETECTOR = "face_detector"
FIVE_POINTS = "five_points"
RUNGS = (GIVEN, HINTED_BOX, WHOLE_PICTURE, FACE_DETECTOR, FIVE_POINTS)
WEAK_RUNGS = (FIVE_POINTS,)
"""Rungs that only lay a mean face on a few points."""

BOX_MARGINS = (0.25, 0.75)
"""How far about a face box FaceMesh looks, in box sizes, tried in order."""
BOX_OF_POINTS = 2.2
"""Side of the face box about five points, in multiples of the larger side of the box they span."""


class Found(NamedTuple):
    """Landmarks that passed the checks.

    Attributes
    ----------
    rung : str
        One of `RUNGS`.
    landmarks : ndarray (68, 2)
        In pixels of the source picture.
    """

    rung: str
    landmarks: FloatArray


class NotFound(NamedTuple):
    """No rung gave landmarks that pass the checks.

    Attributes
    ----------
    reason : str
        ``no_face`` if no face was found at all, ``wrong_face`` if those found failed the checks.
    detail : str
        Why the best one failed.
    guess : ndarray (68, 2) or None
        The landmarks that failed, else the mean face laid on the face box, if there is one.
    """

    reason: str
    detail: str
    guess: FloatArray | None


class Ladder:
    """Finds the landmarks of the face that is meant; holds the detectors."""

    def __init__(self) -> None:
        self._mesh = detect_mediapipe.FaceMesh()
        self._faces = detect_mediapipe.FullRangeFaceDetector()

    def close(self) -> None:
        """Free the detectors."""
        self._mesh.close()
        self._faces.close()

    def find(self, picture: Picture, row: ImageRow) -> Found | NotFound:
        """Try the rungs in order.

        Parameters
        ----------
        picture : Picture
        row : ImageRow
            With the hints and the given landmarks of the image, if any.
        """
        failures: list[str] = []
        failed: list[FloatArray] = []
        for rung, candidates in self._rungs(picture, row):
            passing = []
            for landmarks in candidates:
                failure = _failure(rung, landmarks, picture, row)
                if failure is None:
                    passing.append(landmarks)
                else:
                    failures.append(f"{rung}: {failure}")
                    failed.append(landmarks)
            if passing:
                return Found(rung, max(passing, key=lambda face: _fitness(face, picture, row)))
        box = hinted_box(row)
        guess = landmarks_in_box(box) if box is not None else next(iter(failed), None)
        if failures:
            return NotFound("wrong_face", failures[0], guess)
        return NotFound("no_face", "no detector found a face", guess)

    def _rungs(self, picture: Picture, row: ImageRow) -> Iterator[tuple[str, Iterable[FloatArray]]]:
        """Yield each rung with the faces it finds, in source pixels; later rungs run only if asked for."""
        if row.landmarks is not None:
            yield GIVEN, [row.landmarks.astype(np.float64)]
        box = hinted_box(row)
        if box is not None:
            for margin in BOX_MARGINS:
                yield HINTED_BOX, self._in_box(picture, box, margin)
        yield WHOLE_PICTURE, [face / picture.scale for face in self._mesh.find(picture.pixels)]
        for found in self._faces.find(picture.pixels):
            scale = np.tile(picture.scale, 2)
            for margin in BOX_MARGINS:
                yield FACE_DETECTOR, self._in_box(picture, found / scale, margin)
        if row.points is not None:
            yield FIVE_POINTS, [landmarks_from_five_points(row.points.astype(np.float64))]

    def _in_box(self, picture: Picture, box: FloatArray, margin: float) -> list[FloatArray]:
        """Run FaceMesh on a face box (x, y, width, height in source pixels) with a margin about it."""
        reach = margin * box[2:].max()
        low = (box[:2] - reach) * picture.scale
        high = (box[:2] + box[2:] + reach) * picture.scale
        rows, cols = picture.pixels.shape[:2]
        x0, y0 = np.clip(np.floor(low), 0, (cols, rows)).astype(int)
        x1, y1 = np.clip(np.ceil(high), 0, (cols, rows)).astype(int)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return []
        return [(face + (x0, y0)) / picture.scale for face in self._mesh.find(picture.pixels[y0:y1, x0:x1])]


def hinted_box(row: ImageRow) -> FloatArray | None:
    """Return the face box of an image, x, y, width, height: the given one, else one about the five points."""
    if row.box is not None:
        return row.box.astype(np.float64)
    if row.points is None:
        return None
    low, high = row.points.min(axis=0), row.points.max(axis=0)
    side = BOX_OF_POINTS * float((high - low).max())
    return np.array([*((low + high) / 2 - side / 2), side, side])


def _failure(rung: str, landmarks: FloatArray, picture: Picture, row: ImageRow) -> str | None:
    """Tell why landmarks can't be used; given ones need not agree with the hints."""
    failure = implausible(landmarks, picture.width, picture.height)
    if failure is None and rung != GIVEN:
        box = None if row.box is None else row.box.astype(np.float64)
        failure = disagrees(landmarks, box, row.points)
    return failure


def _fitness(landmarks: FloatArray, picture: Picture, row: ImageRow) -> float:
    """Tell the meant face among several: nearest to the hint, else the most prominent."""
    if row.points is not None:
        return -points_error(landmarks, row.points)
    if row.box is not None:
        middle = row.box[:2] + row.box[2:] / 2
        return -float(np.linalg.norm(five_points(landmarks).mean(axis=0) - middle))
    return prominence(landmarks, picture.width, picture.height)


def prominence(landmarks: FloatArray, width: int, height: int) -> float:
    """Return how much a face is the subject of its picture: its size, less the farther it is from the middle.

    A face at the edge of the picture counts half as much as one in the middle, and one that is cut
    off counts by the square of the share of its landmarks that is in the picture.
    """
    size = np.array([width, height])
    inside = ((landmarks >= 0) & (landmarks <= size)).all(axis=1).mean()
    from_middle = np.abs(landmarks.mean(axis=0) / size - 0.5).max() * 2
    return face_size(landmarks) * float(inside**2 * (1 - 0.5 * min(from_middle, 1.0)))
