"""The fallback chain: sources of a face's landmarks, tried in order until one gives landmarks that pass the checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.detection.detectors import DLIB, MEDIAPIPE, Detectors
from pipeline.detection.face_search import FaceSearch, FacesOfSource, prominence
from pipeline.images import DecodedImage
from pipeline.records import ImageRow, is_sampled
from pipeline.vocabulary import (
    DLIB_DETECTOR,
    FIVE_POINTS,
    GIVEN,
    HINTED_BOX,
    NO_FACE,
    WHOLE_IMAGE,
    WRONG_FACE,
    LandmarkSource,
    RejectReason,
)
from regions.boxes import BBox
from regions.landmarks import (
    FloatArray,
    eye_line_angle,
    face_size,
    landmarks_from_five_points,
    landmarks_in_bbox,
)
from regions.quality import hint_distance, hint_mismatch, plausibility_problem

DETECTION_VERSION = 4
"""Increased whenever the fallback chain finds other landmarks, so that existing shards are rebuilt."""

POINTS_BOX_SIDE = 2.2
"""Side of the face box about five points, in multiples of the longer side of the box they span."""


class DetectedFace(NamedTuple):
    """Landmarks that passed the checks.

    Attributes
    ----------
    landmark_source : str
        One of `LANDMARK_SOURCES`.
    landmarks : ndarray (68, 2)
        In pixels of the source image.
    """

    landmark_source: LandmarkSource
    landmarks: FloatArray


class DetectionFailure(NamedTuple):
    """No source gave landmarks that pass the checks.

    Attributes
    ----------
    reason : str
        ``no_face`` if no face was found at all, ``wrong_face`` if those found failed the checks.
    detail : str
        Why the first one failed.
    contradicts_hint : bool
        Whether there is a hint, and the only plausible faces that were detected lie elsewhere.
    guess : ndarray (68, 2) or None
        The mean face in the face box, if there is a box; else the first landmarks that failed.
    """

    reason: RejectReason
    detail: str
    guess: FloatArray | None
    contradicts_hint: bool = False


class FallbackChain:
    """Finds the landmarks of the face that the hints select.

    Parameters
    ----------
    detectors : Detectors
    """

    def __init__(self, detectors: Detectors) -> None:
        self._detectors = detectors
        self._search = FaceSearch(detectors)

    def close(self) -> None:
        """Free the detectors that have been opened."""
        self._detectors.close()

    def find(self, image: DecodedImage, row: ImageRow) -> DetectedFace | DetectionFailure:
        """Try the landmark sources in order.

        Parameters
        ----------
        image : DecodedImage
        row : ImageRow
            With the hints and the given landmarks of the image, if any.

        Returns
        -------
        DetectedFace or DetectionFailure
            Of several faces that pass the checks, the one nearest to the hint; without a hint, the
            most prominent one.
        """
        failed: list[_FailedFace] = []
        for landmark_source, candidates in self._sources(image, row):
            passing = []
            for landmarks in candidates:
                problem = plausibility_problem(landmarks, image.width, image.height)
                mismatch = None if problem or landmark_source == GIVEN else _mismatch(landmarks, row)
                if problem is None and mismatch is None:
                    passing.append(landmarks)
                else:
                    failed.append(_FailedFace(landmark_source, landmarks, problem, mismatch))
            if len(passing) == 1:
                return DetectedFace(landmark_source, passing[0])
            if passing:
                return DetectedFace(landmark_source, max(passing, key=lambda face: _fitness(face, image, row)))
        return self._at_points(image, row, failed) or _failure(row, failed)

    def _at_points(self, image: DecodedImage, row: ImageRow, failed: Sequence[_FailedFace]) -> DetectedFace | None:
        """Return the face at the five points that no detector finds, or None if nothing supports it.

        The landmark model must see a face there from near and from farther, and no detector may have
        found a plausible face that covers the same place and disagrees with the points. Where the
        landmarks of the model fail the checks or change in a second pass, the mean face is used.
        """
        if row.points is None or MEDIAPIPE not in self._detectors.names:
            return None
        points = row.points.astype(np.float64)
        mean_face = landmarks_from_five_points(points)
        contradicted = any(face.mismatch and overlap(face.landmarks, mean_face) for face in failed)
        if contradicted or not self._search.shows_face_at(image, points):
            return None
        for source, faces in ((HINTED_BOX, self._search.at_points(image, points)), (FIVE_POINTS, [mean_face])):
            for face in faces:
                if not plausibility_problem(face, image.width, image.height) and not _mismatch(face, row):
                    return DetectedFace(source, face)
        return None

    def _sources(self, image: DecodedImage, row: ImageRow) -> Iterator[FacesOfSource]:
        """Yield each landmark source and the faces it finds, in source pixels; each source runs only when reached."""
        if row.landmarks is not None:
            yield GIVEN, [row.landmarks.astype(np.float64)]
        for detector in self._detectors.names:
            if detector == MEDIAPIPE:
                yield from self._mediapipe_sources(image, row)
            if detector == DLIB:
                yield DLIB_DETECTOR, [face / image.scale for face in self._detectors.dlib.find(image.pixels)]

    def _mediapipe_sources(self, image: DecodedImage, row: ImageRow) -> Iterator[FacesOfSource]:
        bbox = hinted_bbox(row)
        if bbox is None:
            yield from self._search.whole_image(image)
            return
        if row.points is not None:
            if is_sampled(row.image_id):
                yield WHOLE_IMAGE, self._search.prominent(image)
            else:
                yield HINTED_BOX, self._search.surely_at_points(image, row.points.astype(np.float64))
        yield from self._search.about_bbox(image, bbox, None if row.points is None else eye_line_angle(row.points))


def hinted_bbox(row: ImageRow) -> FloatArray | None:
    """Return the face box x, y, width, height of an image: the given one, else one about the five points."""
    if row.bbox is not None:
        return row.bbox.astype(np.float64)
    if row.points is None:
        return None
    low, high = row.points.min(axis=0), row.points.max(axis=0)
    side = POINTS_BOX_SIDE * float((high - low).max())
    return np.array([*((low + high) / 2 - side / 2), side, side])


class _FailedFace(NamedTuple):
    """A face that is implausible, or plausible but not the one that the hint points to."""

    landmark_source: LandmarkSource
    landmarks: FloatArray
    problem: str | None
    mismatch: str | None


def _mismatch(landmarks: FloatArray, row: ImageRow) -> str | None:
    return hint_mismatch(landmarks, None if row.bbox is None else row.bbox.astype(np.float64), row.points)


def _failure(row: ImageRow, failed: Sequence[_FailedFace]) -> DetectionFailure:
    bbox = hinted_bbox(row)
    guess = landmarks_in_bbox(BBox(*bbox.tolist())) if bbox is not None else None
    if not failed:
        return DetectionFailure(NO_FACE, "no detector found a face", guess)
    first = failed[0]
    detail = f"{first.landmark_source}: {first.problem or first.mismatch}"
    elsewhere = any(face.mismatch for face in failed)
    return DetectionFailure(WRONG_FACE, detail, first.landmarks if guess is None else guess, elsewhere)


def overlap(one: FloatArray, other: FloatArray) -> bool:
    """Return whether two faces ``(68, 2)`` cover the same place: their centers are nearer than either's size."""
    distance = np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))
    return bool(distance < max(face_size(one), face_size(other)))


def _fitness(landmarks: FloatArray, image: DecodedImage, row: ImageRow) -> float:
    """Return a score that is highest for the face nearest to the hint; without a hint, for the most prominent face."""
    distance = hint_distance(landmarks, row.bbox, row.points)
    return prominence(landmarks, image.width, image.height) if distance is None else -distance
