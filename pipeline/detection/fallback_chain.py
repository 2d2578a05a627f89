"""The chain: ways to find a face's landmarks, tried in order until one passes the checks."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.detection.model_files import DLIB, MEDIAPIPE, check_installed
from pipeline.detection.patches import Patch, box_patch, rotated_patch, tiles, whole_patch
from pipeline.images import DecodedImage
from pipeline.records import DetectorSettings, ImageRow
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
from regions.boxes import BBox
from regions.landmarks import (
    FloatArray,
    eye_line_angle,
    face_size,
    five_points,
    landmarks_from_five_points,
    landmarks_in_bbox,
)
from regions.quality import hint_distance, hint_mismatch, plausibility_problem

if TYPE_CHECKING:
    from pipeline.detection import dlib_detector, mediapipe_detectors

DETECTION_VERSION = 2
"""Raised whenever the fallback chain finds other landmarks, so that shards built before are built again."""

BOX_MARGINS = (0.25, 0.75)
"""How far about a face box FaceMesh looks, in box sizes, tried in order."""
BOX_OF_POINTS = 2.2
"""Side of the face box about five points, in multiples of the larger side of the box they span."""
TILE_NUMBERS = (2, 4, 8)
"""How many tiles' sides make the longer side of the image, tried in order."""
SMALLEST_TILE = 96
"""In pixels of the image: smaller tiles show no face that could be used."""
ROTATIONS = (30, -30, 60, -60)
"""By how many degrees images are turned, tried in order."""
LARGE_TILT = 25
"""If the five points say that the face is tilted by more, in degrees, it is looked at upright."""
ROTATED_MARGIN = 0.2
"""About a turned image, in its longer sides: no corner is lost."""
SMALL_FACE = 0.12
"""A face smaller than this share of the image's longer side is doubtful where no hint tells of it."""
MAX_CHANGE = 0.12
"""Largest mean distance between two finds of the same face, in face sizes.

On photographs reduced to 12 pixels between the eyes, all true faces change by less when they are
looked at again; of what is found in noise, one in thirty does.
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
    """No landmark_source gave landmarks that pass the checks.

    Attributes
    ----------
    reason : str
        ``no_face`` if no face was found at all, ``wrong_face`` if those found failed the checks.
    detail : str
        Why the best one failed.
    guess : ndarray (68, 2) or None
        The mean face laid on the face box, where there is one; else the landmarks that failed.
    """

    reason: RejectReason
    detail: str
    guess: FloatArray | None


class FallbackChain:
    """Finds the landmarks of the face that is meant; opens each detector when it is first needed.

    Parameters
    ----------
    settings : DetectorSettings
    """

    def __init__(self, settings: DetectorSettings) -> None:
        check_installed(settings)
        self._settings = settings

    def open(self) -> None:
        """Open all detectors now."""
        for name in self._settings.names:
            _ = (self._mesh, self._faces) if name == MEDIAPIPE else self._dlib

    @functools.cached_property
    def _mesh(self) -> mediapipe_detectors.MeshDetector:
        from pipeline.detection import mediapipe_detectors  # noqa: PLC0415 - takes a second

        return mediapipe_detectors.open_mesh_detector(self._settings.landmarker)

    @functools.cached_property
    def _faces(self) -> mediapipe_detectors.FullRangeFaceDetector | None:
        from pipeline.detection import mediapipe_detectors  # noqa: PLC0415

        return mediapipe_detectors.open_face_detector()

    @functools.cached_property
    def _dlib(self) -> dlib_detector.DlibLandmarks:
        from pipeline.detection import dlib_detector  # noqa: PLC0415 - an extra

        return dlib_detector.DlibLandmarks(self._settings.dlib_model)

    def close(self) -> None:
        """Free the detectors that were opened."""
        for name in ("_mesh", "_faces"):
            if self.__dict__.get(name) is not None:
                getattr(self, name).close()

    def find(self, image: DecodedImage, row: ImageRow) -> DetectedFace | DetectionFailure:
        """Try the landmark_sources in order.

        Parameters
        ----------
        image : DecodedImage
        row : ImageRow
            With the hints and the given landmarks of the image, if any.
        """
        failures: list[str] = []
        failed: list[FloatArray] = []
        for landmark_source, candidates in self._sources(image, row):
            passing = []
            for landmarks in candidates:
                failure = _failure(landmark_source, landmarks, image, row)
                if failure is None:
                    passing.append(landmarks)
                else:
                    failures.append(f"{landmark_source}: {failure}")
                    failed.append(landmarks)
            if len(passing) == 1:
                return DetectedFace(landmark_source, passing[0])
            if passing:
                return DetectedFace(landmark_source, max(passing, key=lambda face: _fitness(face, image, row)))
        box = hinted_box(row)
        guess = landmarks_in_bbox(BBox(*box.tolist())) if box is not None else next(iter(failed), None)
        if failures:
            return DetectionFailure(WRONG_FACE, failures[0], guess)
        return DetectionFailure(NO_FACE, "no detector found a face", guess)

    def _sources(self, image: DecodedImage, row: ImageRow) -> Iterator[tuple[LandmarkSource, Iterable[FloatArray]]]:
        """Yield each landmark source with the faces it finds, in source pixels; later ones run only on demand."""
        if row.landmarks is not None:
            yield GIVEN, [row.landmarks.astype(np.float64)]
        for detector in self._settings.names:
            if detector == MEDIAPIPE:
                yield from self._mediapipe_sources(image, row)
            if detector == DLIB:
                yield DLIB_DETECTOR, [face / image.scale for face in self._dlib.find(image.pixels)]
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
        if abs(tilt) <= LARGE_TILT:
            for margin in BOX_MARGINS:
                found = self._find(box_patch(image, box, margin))
                yield HINTED_BOX, found if row.points is not None else self._upright(image, found)
        for turn in (tilt, *ROTATIONS) if abs(tilt) > LARGE_TILT else ROTATIONS:
            yield ROTATED, self._find(rotated_patch(image, box, BOX_MARGINS[0], turn))
        whole = whole_patch(image)
        yield WHOLE_IMAGE, self._find(whole)
        yield FACE_DETECTOR, self._find_in_boxes(image, self._boxes(whole))

    def _search(self, image: DecodedImage) -> Iterator[tuple[LandmarkSource, Iterable[FloatArray]]]:
        """Look for faces all over an image, harder and harder, but trust only what is found again."""
        whole = whole_patch(image)
        yield WHOLE_IMAGE, self._confirm_doubtful(image, whole)
        yield FACE_DETECTOR, self._confirm(image, self._find_in_boxes(image, self._boxes(whole)))
        for number in TILE_NUMBERS:
            if max(image.pixels.shape) >= number * SMALLEST_TILE:
                boxes = [box for tile in tiles(image, number) for box in self._boxes(tile)]
                yield TILES, self._confirm(image, self._find_in_boxes(image, boxes))
        for turn in ROTATIONS:
            patch = rotated_patch(image, np.array([0, 0, image.width, image.height]), ROTATED_MARGIN, turn)
            yield ROTATED, self._confirm(image, self._find(patch))

    def _find(self, patch: Patch | None) -> list[FloatArray]:
        """Return the faces that FaceMesh finds in a patch, in source pixels."""
        return [] if patch is None else [patch.to_source(face) for face in self._mesh.find(patch.pixels)]

    def _boxes(self, patch: Patch) -> list[FloatArray]:
        """Return the boxes of the faces in a patch, in source pixels."""
        if self._faces is None:
            return [_box_about(face) for face in self._find(patch)]
        return [patch.box_to_source(box) for box in self._faces.find(patch.pixels)]

    def _find_in_boxes(self, image: DecodedImage, boxes: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Yield the faces that FaceMesh finds about boxes, those that several boxes show only once."""
        found: list[FloatArray] = []
        for box in boxes:
            for margin in BOX_MARGINS:
                for face in self._find(box_patch(image, box, margin)):
                    if not any(_change(face, other) <= MAX_CHANGE for other in found):
                        found.append(face)
                        yield face

    def _upright(self, image: DecodedImage, faces: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Yield faces, tilted ones as they look upright: FaceMesh is surer of these."""
        for face in faces:
            tilted = abs(_tilt(face)) > LARGE_TILT
            again = self._look_again(image, face, BOX_MARGINS[0]) if tilted else None
            yield face if again is None else again

    def _confirm_doubtful(self, image: DecodedImage, patch: Patch) -> Iterator[FloatArray]:
        """Yield the faces that FaceMesh finds in a patch; small and tilted ones only if they are found again."""
        for face in self._find(patch):
            share = face_size(face) / max(image.width, image.height)
            if share >= SMALL_FACE and abs(_tilt(face)) <= LARGE_TILT:
                yield face
            else:
                yield from self._confirm(image, [face])

    def _confirm(self, image: DecodedImage, faces: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Yield faces as they look upright and from near, those that look the same from a little farther."""
        for face in faces:
            near = self._look_again(image, face, BOX_MARGINS[0])
            far = None if near is None else self._look_again(image, near, BOX_MARGINS[1])
            if near is not None and far is not None and _change(near, far) <= MAX_CHANGE:
                yield near

    def _look_again(self, image: DecodedImage, face: FloatArray, margin: float) -> FloatArray | None:
        """Return a face as FaceMesh finds it when it is upright and fills the patch."""
        patch = rotated_patch(image, _box_about(face), margin, _tilt(face))
        return min(self._find(patch), key=lambda other: _change(other, face), default=None)


def hinted_box(row: ImageRow) -> FloatArray | None:
    """Return the face box of an image, x, y, width, height: the given one, else one about the five points."""
    if row.bbox is not None:
        return row.bbox.astype(np.float64)
    if row.points is None:
        return None
    low, high = row.points.min(axis=0), row.points.max(axis=0)
    side = BOX_OF_POINTS * float((high - low).max())
    return np.array([*((low + high) / 2 - side / 2), side, side])


def _box_about(face: FloatArray) -> FloatArray:
    low, high = face.min(axis=0), face.max(axis=0)
    return np.concatenate([low, high - low])


def _tilt(face: FloatArray) -> float:
    return eye_line_angle(five_points(face))


def _change(one: FloatArray, other: FloatArray) -> float:
    """Return the mean distance between the landmarks of two finds, in face sizes."""
    return float(np.linalg.norm(one - other, axis=1).mean()) / max(face_size(one), 1e-9)


def _failure(landmark_source: LandmarkSource, landmarks: FloatArray, image: DecodedImage, row: ImageRow) -> str | None:
    """Tell why landmarks can't be used; given ones need not agree with the hints."""
    failure = plausibility_problem(landmarks, image.width, image.height)
    if failure is None and landmark_source != GIVEN:
        bbox = None if row.bbox is None else row.bbox.astype(np.float64)
        failure = hint_mismatch(landmarks, bbox, row.points)
    return failure


def _fitness(landmarks: FloatArray, image: DecodedImage, row: ImageRow) -> float:
    """Tell the meant face among several: nearest to the hint, else the most prominent."""
    distance = hint_distance(landmarks, row.bbox, row.points)
    return prominence(landmarks, image.width, image.height) if distance is None else -distance


def prominence(landmarks: FloatArray, width: int, height: int) -> float:
    """Return how much a face is the subject of its image: its size, less the farther it is from the middle.

    A face at the edge of the image counts half as much as one in the middle, and one that is cut
    off counts by the square of the share of its landmarks that is in the image.
    """
    size = np.array([width, height])
    inside = ((landmarks >= 0) & (landmarks <= size)).all(axis=1).mean()
    from_middle = np.abs(landmarks.mean(axis=0) / size - 0.5).max() * 2
    return face_size(landmarks) * float(inside**2 * (1 - 0.5 * min(from_middle, 1.0)))
