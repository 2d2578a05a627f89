"""The fallback chain: sources of a face's landmarks, tried in order until one gives landmarks that pass the checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from pipeline.detection.detectors import DLIB, MEDIAPIPE, Detectors
from pipeline.detection.patches import Patch, box_patch, rotated_patch, tiles, whole_patch
from pipeline.images import DecodedImage
from pipeline.records import ImageRow
from pipeline.vocabulary import (
    DLIB_DETECTOR,
    FACE_DETECTOR,
    FIVE_POINTS,
    GIVEN,
    HINTED_BOX,
    NO_FACE,
    ROTATED,
    TILES,
    WHOLE_IMAGE,
    WRONG_FACE,
    LandmarkSource,
    RejectReason,
)
from regions.landmarks import (
    FloatArray,
    eye_line_angle,
    face_size,
    five_points,
    landmarks_from_five_points,
    landmarks_in_box,
)
from regions.quality import hint_distance, hint_mismatch, plausibility_problem

DETECTION_VERSION = 2
"""Increased whenever the fallback chain finds other landmarks, so that existing shards are rebuilt."""

BOX_MARGINS = (0.25, 0.75)
"""Margins of the patches about a face box, in sizes of the box, tried in order."""
POINTS_BOX_SIDE = 2.2
"""Side of the face box about five points, in multiples of the longer side of the box they span."""
TILES_PER_SIDE = (2, 4, 8)
"""Tile sizes, as the number of tile sides in the longer side of the image, tried in order."""
MIN_TILE = 96
"""Side of the smallest tile, in pixels of the image: a face in a smaller one is too small to use."""
ROTATIONS = (30, -30, 60, -60)
"""Rotations of an image in degrees, tried in order."""
MAX_UPRIGHT_TILT = 25
"""A face that is tilted by more, in degrees, is detected again in a patch where it is upright."""
ROTATED_MARGIN = 0.2
"""Margin about a rotated image, in its longer sides, so that no corner is cut off."""
MIN_TRUSTED_SIZE = 0.12
"""Without a hint, a smaller face must be confirmed. In longer sides of the image."""
MAX_CHANGE = 0.12
"""Largest mean distance between two detections of the same face, in face sizes.

In photographs reduced to 12 pixels between the eyes, all true faces change by less when they are
detected again; of the detections in noise, one in thirty does.
"""


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
    guess : ndarray (68, 2) or None
        The mean face in the face box, if there is a box; else the first landmarks that failed.
    """

    reason: RejectReason
    detail: str
    guess: FloatArray | None


class FallbackChain:
    """Finds the landmarks of the face that the hints select.

    Parameters
    ----------
    detectors : Detectors
    """

    def __init__(self, detectors: Detectors) -> None:
        self._detectors = detectors

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
        problems: list[str] = []
        failed: list[FloatArray] = []
        for landmark_source, candidates in self._sources(image, row):
            passing = []
            for landmarks in candidates:
                problem = _problem(landmark_source, landmarks, image, row)
                if problem is None:
                    passing.append(landmarks)
                else:
                    problems.append(f"{landmark_source}: {problem}")
                    failed.append(landmarks)
            if len(passing) == 1:
                return DetectedFace(landmark_source, passing[0])
            if passing:
                return DetectedFace(landmark_source, max(passing, key=lambda face: _fitness(face, image, row)))
        box = hinted_box(row)
        guess = landmarks_in_box(box) if box is not None else next(iter(failed), None)
        if problems:
            return DetectionFailure(WRONG_FACE, problems[0], guess)
        return DetectionFailure(NO_FACE, "no detector found a face", guess)

    def _sources(self, image: DecodedImage, row: ImageRow) -> Iterator[tuple[LandmarkSource, Iterable[FloatArray]]]:
        """Yield each landmark source and the faces it finds, in source pixels; each source runs only when reached."""
        if row.landmarks is not None:
            yield GIVEN, [row.landmarks.astype(np.float64)]
        for detector in self._detectors.names:
            if detector == MEDIAPIPE:
                yield from self._mediapipe_sources(image, row)
            if detector == DLIB:
                yield DLIB_DETECTOR, [face / image.scale for face in self._detectors.dlib.find(image.pixels)]
        if row.points is not None:
            yield FIVE_POINTS, [landmarks_from_five_points(row.points.astype(np.float64))]

    def _mediapipe_sources(
        self, image: DecodedImage, row: ImageRow
    ) -> Iterator[tuple[LandmarkSource, Iterable[FloatArray]]]:
        box = hinted_box(row)
        if box is None:
            yield from self._search(image)
            return
        tilt = 0.0 if row.points is None else eye_line_angle(row.points)
        upright = abs(tilt) <= MAX_UPRIGHT_TILT
        if upright:
            for margin in BOX_MARGINS:
                found = self._find(box_patch(image, box, margin))
                yield HINTED_BOX, found if row.points is not None else self._upright(image, found)
        for angle in ROTATIONS if upright else (tilt, *ROTATIONS):
            yield ROTATED, self._find(rotated_patch(image, box, BOX_MARGINS[0], angle))
        whole = whole_patch(image)
        yield WHOLE_IMAGE, self._find(whole)
        yield FACE_DETECTOR, self._find_in_boxes(image, self._boxes(whole))

    def _search(self, image: DecodedImage) -> Iterator[tuple[LandmarkSource, Iterable[FloatArray]]]:
        """Search the whole image, from the cheapest to the most thorough source; doubtful faces must be confirmed."""
        whole = whole_patch(image)
        yield WHOLE_IMAGE, self._confirm_doubtful(image, whole)
        yield FACE_DETECTOR, self._confirm(image, self._find_in_boxes(image, self._boxes(whole)))
        for per_side in TILES_PER_SIDE:
            if max(image.pixels.shape) >= per_side * MIN_TILE:
                boxes = [box for tile in tiles(image, per_side) for box in self._boxes(tile)]
                yield TILES, self._confirm(image, self._find_in_boxes(image, boxes))
        for angle in ROTATIONS:
            patch = rotated_patch(image, np.array([0, 0, image.width, image.height]), ROTATED_MARGIN, angle)
            yield ROTATED, self._confirm(image, self._find(patch))

    def _find(self, patch: Patch | None) -> list[FloatArray]:
        """Return the landmarks of the faces in a patch, in source pixels."""
        return [] if patch is None else [patch.to_source(face) for face in self._detectors.mesh.find(patch.pixels)]

    def _boxes(self, patch: Patch) -> list[FloatArray]:
        """Return the boxes of the faces in a patch, in source pixels."""
        detector = self._detectors.faces
        if detector is None:
            return [_box_about(face) for face in self._find(patch)]
        return [patch.box_to_source(box) for box in detector.find(patch.pixels)]

    def _find_in_boxes(self, image: DecodedImage, boxes: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Yield the faces found in patches about boxes, each face once even where several boxes contain it."""
        found: list[FloatArray] = []
        for box in boxes:
            for margin in BOX_MARGINS:
                for face in self._find(box_patch(image, box, margin)):
                    if not any(_change(face, other) <= MAX_CHANGE for other in found):
                        found.append(face)
                        yield face

    def _upright(self, image: DecodedImage, faces: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Yield faces, tilted ones as detected in an upright patch, where FaceMesh is more reliable."""
        for face in faces:
            tilted = abs(_tilt(face)) > MAX_UPRIGHT_TILT
            again = self._look_again(image, face, BOX_MARGINS[0]) if tilted else None
            yield face if again is None else again

    def _confirm_doubtful(self, image: DecodedImage, patch: Patch) -> Iterator[FloatArray]:
        """Yield the faces in a patch; small and tilted ones only if a second detection confirms them."""
        for face in self._find(patch):
            size = face_size(face) / max(image.width, image.height)
            if size >= MIN_TRUSTED_SIZE and abs(_tilt(face)) <= MAX_UPRIGHT_TILT:
                yield face
            else:
                yield from self._confirm(image, [face])

    def _confirm(self, image: DecodedImage, faces: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Yield faces as detected upright in a narrow patch, if detection in a wider patch gives the same landmarks."""
        for face in faces:
            near = self._look_again(image, face, BOX_MARGINS[0])
            far = None if near is None else self._look_again(image, near, BOX_MARGINS[1])
            if near is not None and far is not None and _change(near, far) <= MAX_CHANGE:
                yield near

    def _look_again(self, image: DecodedImage, face: FloatArray, margin: float) -> FloatArray | None:
        """Return a face as detected in a patch where it is upright, None if it is not detected there."""
        patch = rotated_patch(image, _box_about(face), margin, _tilt(face))
        return min(self._find(patch), key=lambda other: _change(other, face), default=None)


def hinted_box(row: ImageRow) -> FloatArray | None:
    """Return the face box x, y, width, height of an image: the given one, else one about the five points."""
    if row.box is not None:
        return row.box.astype(np.float64)
    if row.points is None:
        return None
    low, high = row.points.min(axis=0), row.points.max(axis=0)
    side = POINTS_BOX_SIDE * float((high - low).max())
    return np.array([*((low + high) / 2 - side / 2), side, side])


def _box_about(face: FloatArray) -> FloatArray:
    low, high = face.min(axis=0), face.max(axis=0)
    return np.concatenate([low, high - low])


def _tilt(face: FloatArray) -> float:
    return eye_line_angle(five_points(face))


def _change(one: FloatArray, other: FloatArray) -> float:
    """Return the mean distance between the landmarks of two detections, in face sizes."""
    return float(np.linalg.norm(one - other, axis=1).mean()) / max(face_size(one), 1e-9)


def _problem(landmark_source: LandmarkSource, landmarks: FloatArray, image: DecodedImage, row: ImageRow) -> str | None:
    """Return why landmarks can't be used, None if they can; given ones need not agree with the hints."""
    problem = plausibility_problem(landmarks, image.width, image.height)
    if problem is None and landmark_source != GIVEN:
        box = None if row.box is None else row.box.astype(np.float64)
        problem = hint_mismatch(landmarks, box, row.points)
    return problem


def _fitness(landmarks: FloatArray, image: DecodedImage, row: ImageRow) -> float:
    """Return a score that is highest for the face nearest to the hint; without a hint, for the most prominent face."""
    distance = hint_distance(landmarks, row.box, row.points)
    return prominence(landmarks, image.width, image.height) if distance is None else -distance


def prominence(landmarks: FloatArray, width: int, height: int) -> float:
    """Return how likely a face is the subject of its image: its size, weighted by its location.

    The weight falls from 1 at the center of the image to 1/2 at its edge, and is multiplied by the
    square of the fraction of landmarks inside the image.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image.
    width, height : int
        Size of the image.
    """
    size = np.array([width, height])
    inside = ((landmarks >= 0) & (landmarks <= size)).all(axis=1).mean()
    from_center = np.abs(landmarks.mean(axis=0) / size - 0.5).max() * 2
    return face_size(landmarks) * float(inside**2 * (1 - 0.5 * min(from_center, 1.0)))
