"""Searching an image for faces with MediaPipe's detectors: in which patches, and which detections are trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.detection.detectors import Detectors
from pipeline.detection.landmark_map import SeenFace
from pipeline.detection.patches import (
    FaceSquare,
    Patch,
    bbox_patch,
    points_square,
    rotated_patch,
    square_patch,
    tiles,
    whole_patch,
)
from pipeline.images import DecodedImage
from pipeline.vocabulary import FACE_DETECTOR, HINTED_BOX, ROTATED, TILES, WHOLE_IMAGE, LandmarkSource
from regions.boxes import BBox
from regions.landmarks import FloatArray, eye_line_angle, face_size, five_points, landmarks_in_bbox
from regions.quality import hint_mismatch

BOX_MARGINS = (0.25, 0.75)
"""Margins of the patches about a face box, in sizes of the box, tried in order."""
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

SURE = 0.99999
"""Score from which the landmark model's face at five points is believed without a search for faces.

Of 435 photographs, 432 faces have it at their own five points, 425 where these are off by 6 % of the
eye distance; at the five points of three other images each, 4 of 1,305 wrong faces that pass the checks do.
"""
SIZES_AT_POINTS = (1.0, 0.8, 1.2)
"""Relative sizes of the patches in which the landmark model must see a face at five points.

Of 870 places without a face, it sees one in about 10 at one of these sizes, in at most 4 at all of them.
"""

CONFIRMING_SIZES = (1.0, 1.2)
"""Relative sizes of the patches in which the landmark model must be sure of a small or tilted face again."""

FacesOfSource = tuple[LandmarkSource, Iterable[FloatArray]]
"""A landmark source and the landmarks ``(68, 2)`` of the faces it finds, in pixels of the source image."""


class FaceSearch:
    """Searches images for faces with the mesh and the face detector of MediaPipe.

    Parameters
    ----------
    detectors : Detectors
    """

    def __init__(self, detectors: Detectors) -> None:
        self._detectors = detectors

    def about_bbox(self, image: DecodedImage, bbox: FloatArray, tilt: float | None) -> Iterator[FacesOfSource]:
        """Yield the faces about a box, then those in the whole image; each source runs only when reached.

        Parameters
        ----------
        image : DecodedImage
        bbox : ndarray (4,)
            x, y, width, height in pixels of the source image.
        tilt : float or None
            Angle of the face's eye line in degrees, None if unknown.
        """
        if tilt is None or abs(tilt) <= MAX_UPRIGHT_TILT:
            for margin in BOX_MARGINS:
                found = self._find(bbox_patch(image, bbox, margin))
                yield HINTED_BOX, self._upright(image, found) if tilt is None else found
        else:
            yield ROTATED, self._find(rotated_patch(image, bbox, BOX_MARGINS[0], tilt))
        for angle in ROTATIONS:
            yield ROTATED, self._confirm(image, self._find(rotated_patch(image, bbox, BOX_MARGINS[0], angle)))
        whole = whole_patch(image)
        yield WHOLE_IMAGE, self._find(whole)
        yield FACE_DETECTOR, self.in_boxes(image, self._boxes(whole))

    def surely_at_points(self, image: DecodedImage, points: FloatArray) -> Iterator[FloatArray]:
        """Yield the face at five points that the landmark model is sure of: the cheapest look at an image.

        Parameters
        ----------
        image : DecodedImage
        points : ndarray (5, 2)
            Eye centers, nose tip, mouth corners in pixels of the source image.
        """
        seen = self._seen_in(image, points_square(points, 1))
        if seen is not None and seen.score >= SURE:
            yield seen.landmarks

    def at_points(self, image: DecodedImage, points: FloatArray) -> Iterator[FloatArray]:
        """Yield the face that the landmark model sees at five points, if a second pass about it gives the same.

        Parameters
        ----------
        image : DecodedImage
        points : ndarray (5, 2)
            Eye centers, nose tip, mouth corners in pixels of the source image.
        """
        first = self._seen_in(image, points_square(points, 1))
        again = None if first is None else self._seen_in(image, points_square(five_points(first.landmarks), 1))
        if first is not None and again is not None and _change(first.landmarks, again.landmarks) <= MAX_CHANGE:
            yield again.landmarks

    def shows_face_at(self, image: DecodedImage, points: FloatArray) -> bool:
        """Return whether the landmark model sees a face at five points, and agrees with them, from near and from far.

        Parameters
        ----------
        image : DecodedImage
        points : ndarray (5, 2)
            Eye centers, nose tip, mouth corners in pixels of the source image.
        """
        for size in SIZES_AT_POINTS:
            seen = self._seen_in(image, points_square(points, size))
            if seen is None or hint_mismatch(seen.landmarks, points=points) is not None:
                return False
        return True

    def at_a_glance(self, image: DecodedImage) -> Iterator[FloatArray]:
        """Yield the most prominent face if the landmark model is sure of it, of a small or tilted one three times.

        Only this face gets landmarks, of all that are found in the image.
        """
        finder = self._detectors.face_finder
        whole = whole_patch(image)
        squares = [] if finder is None else [whole.square_to_source(square) for square in finder.find(whole.pixels)]
        if squares:
            most = max(squares, key=lambda square: _square_prominence(square, image))
            seen = self._seen_in(image, most)
            if seen is not None and seen.score >= SURE:
                yield from [seen.landmarks] if _is_trusted(seen.landmarks, image) else self._sure_again(image, seen)

    def _sure_again(self, image: DecodedImage, first: SeenFace) -> Iterator[FloatArray]:
        """Yield a face as seen upright, if the landmark model is sure of it there and from farther."""
        square = points_square(five_points(first.landmarks), 1)
        again = [self._seen_in(image, square._replace(side=square.side * size)) for size in CONFIRMING_SIZES]
        faces = [seen.landmarks for seen in again if seen is not None and seen.score >= SURE]
        if len(faces) == len(again) and all(_change(face, first.landmarks) <= MAX_CHANGE for face in faces):
            yield faces[0]

    def _seen_in(self, image: DecodedImage, square: FaceSquare) -> SeenFace | None:
        """Return what the landmark model sees in a square, in source pixels; None if it sees no face there."""
        model = self._detectors.landmark_model
        if model is None:
            return None
        patch = square_patch(image, square)
        seen = model.see(patch.pixels)
        return None if seen is None else SeenFace(patch.to_source(seen.landmarks), seen.score)

    def whole_image(self, image: DecodedImage) -> Iterator[FacesOfSource]:
        """Yield the faces in an image, from the cheapest to the most thorough source; each runs only when reached.

        As no hint supports them, small and tilted faces must be confirmed by a second detection.
        """
        yield WHOLE_IMAGE, self.at_a_glance(image)
        whole = whole_patch(image)
        yield WHOLE_IMAGE, self.prominent(image)
        yield FACE_DETECTOR, self._confirm(image, self.in_boxes(image, self._boxes(whole)))
        for per_side in TILES_PER_SIDE:
            if max(image.pixels.shape) >= per_side * MIN_TILE:
                boxes = [bbox for tile in tiles(image, per_side) for bbox in self._boxes(tile)]
                yield TILES, self._confirm(image, self.in_boxes(image, boxes))
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
            return [_bbox_of(face) for face in self._find(patch)]
        return [patch.bbox_to_source(bbox) for bbox in detector.find(patch.pixels)]

    def in_boxes(self, image: DecodedImage, boxes: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Yield the faces found in patches about boxes, each face once even where several boxes contain it."""
        found: list[FloatArray] = []
        for bbox in boxes:
            for margin in BOX_MARGINS:
                for face in self._find(bbox_patch(image, bbox, margin)):
                    if not any(_change(face, other) <= MAX_CHANGE for other in found):
                        found.append(face)
                        yield face

    def _upright(self, image: DecodedImage, faces: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Yield faces, tilted ones as detected in an upright patch, where FaceMesh is more reliable."""
        for face in faces:
            tilted = abs(_tilt(face)) > MAX_UPRIGHT_TILT
            again = self._look_again(image, face, BOX_MARGINS[0]) if tilted else None
            yield face if again is None else again

    def prominent(self, image: DecodedImage) -> Iterator[FloatArray]:
        """Yield the faces in an image; small and tilted ones only if a second detection confirms them."""
        for face in self._find(whole_patch(image)):
            if _is_trusted(face, image):
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
        patch = rotated_patch(image, _bbox_of(face), margin, _tilt(face))
        return min(self._find(patch), key=lambda other: _change(other, face), default=None)


def _is_trusted(face: FloatArray, image: DecodedImage) -> bool:
    """Return whether a face is so large and upright that one detection is enough without a hint."""
    size = face_size(face) / max(image.width, image.height)
    return size >= MIN_TRUSTED_SIZE and abs(_tilt(face)) <= MAX_UPRIGHT_TILT


def _square_prominence(square: FaceSquare, image: DecodedImage) -> float:
    (x, y), side, _ = square
    mean_face = landmarks_in_bbox(BBox(x - side / 3, y - side / 3, side * 2 / 3, side * 2 / 3))
    return prominence(mean_face, image.width, image.height)


def _bbox_of(face: FloatArray) -> FloatArray:
    low, high = face.min(axis=0), face.max(axis=0)
    return np.concatenate([low, high - low])


def _tilt(face: FloatArray) -> float:
    return eye_line_angle(five_points(face))


def _change(one: FloatArray, other: FloatArray) -> float:
    """Return the mean distance between the landmarks of two detections, in face sizes."""
    return float(np.linalg.norm(one - other, axis=1).mean()) / max(face_size(one), 1e-9)


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
