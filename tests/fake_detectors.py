"""Fake detectors: they know where the faces of an image are, and find those that are easy to see in a patch.

The image is a chart: its red and green encode the location of each pixel, so a patch of it,
however it was cut, enlarged or rotated, reveals which part of the image it shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.detection.detectors import Detectors
from pipeline.detection.fallback_chain import FallbackChain
from pipeline.images import DecodedImage
from pipeline.records import ImageRow
from regions.landmarks import eye_line_angle, face_size, five_points
from tests.faces import Points
from tests.synthetic import image_row

Pixels = npt.NDArray[np.uint8]


def chart(rows: int = 250, cols: int = 250, *, reduction: float = 1) -> DecodedImage:
    """Return an image whose colors encode the location of each pixel, decoded at reduced size."""
    pixels = np.full((rows, cols, 3), 255, dtype=np.uint8)
    pixels[..., 0] = np.round(255 * (np.arange(cols) + 0.5) / cols)
    pixels[..., 1] = np.round(255 * (np.arange(rows) + 0.5) / rows)[:, None]
    return DecodedImage(pixels, round(rows * reduction), round(cols * reduction))


def place_of(pixels: Pixels, image: DecodedImage) -> Points:
    """Return the matrix ``(2, 3)`` from pixels of a patch of a chart to pixels of the source image."""
    rows, cols = np.nonzero(pixels[..., 2] == 255)
    at = np.stack([cols + 0.5, rows + 0.5, np.ones(len(rows))], axis=1)
    source = pixels[rows, cols, :2] / 255 * (image.width, image.height)
    matrix: Points = np.linalg.lstsq(at, source, rcond=None)[0].T
    return matrix


def in_patch(points: Points, matrix: Points) -> Points:
    """Return points of the source image in pixels of a patch, given the patch's matrix."""
    shift: Points = matrix[:, 2]
    mapped: Points = (points - shift) @ np.linalg.inv(matrix[:, :2]).T
    return mapped


def rotation_of(matrix: Points) -> float:
    """Return by how many degrees a patch is rotated."""
    return float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))


class FakeMesh:
    """Sees the faces whose middle it is shown, if they are large and upright enough.

    Parameters
    ----------
    image : DecodedImage
        A chart.
    faces : sequence of ndarray (68, 2)
        In source pixels.
    shares : pair of float
        Smallest and largest face that it sees, as a share of the longer side of what it is shown.
    tilt : float
        Largest tilt at which it sees a face, in degrees.
    wobble : float
        How far a face moves from one look to the next, in face sizes.
    tilt_error : float
        How far off a face is that is seen at that tilt, in face sizes.
    looks : int
        How many times it sees anything.
    """

    def __init__(
        self,
        image: DecodedImage,
        faces: Sequence[Points],
        *,
        shares: tuple[float, float] = (0.1, 1.0),
        tilt: float = 25,
        wobble: float = 0,
        tilt_error: float = 0,
        looks: int = 1000,
    ) -> None:
        self._image, self._faces, self._shares, self._tilt = image, faces, shares, tilt
        self._wobble, self._tilt_error, self._looks = wobble, tilt_error, looks
        self.places: list[Points] = []
        """Of what was shown to it."""
        self.shapes: list[tuple[int, ...]] = []
        self.closed = False

    def find(self, pixels: Pixels) -> list[Points]:
        matrix = place_of(pixels, self._image)
        self.places.append(matrix)
        self.shapes.append(pixels.shape)
        seen = [self._see(in_patch(face, matrix), pixels) for face in self._faces]
        return [face for face in seen if face is not None and len(self.places) <= self._looks]

    def _see(self, face: Points, pixels: Pixels) -> Points | None:
        size, angle = face_size(face), eye_line_angle(five_points(face))
        middle, sides = face.mean(axis=0), np.array(pixels.shape[1::-1])
        small, large = np.array(self._shares) * sides.max()
        if not (
            small <= size <= large and abs(angle) <= self._tilt and (middle >= 0).all() and (middle <= sides).all()
        ):
            return None
        error = self._wobble * len(self.places) + self._tilt_error * abs(angle) / self._tilt
        return face + (0, error * size)

    def close(self) -> None:
        self.closed = True


class FakeFaces:
    """Sees the boxes of upright faces of at least so many pixels between the eyes."""

    def __init__(self, image: DecodedImage, faces: Sequence[Points], *, smallest: float = 30, tilt: float = 25) -> None:
        self._image, self._faces, self._smallest, self._tilt = image, faces, smallest, tilt
        self.places: list[Points] = []
        self.closed = False

    def find(self, pixels: Pixels) -> list[Points]:
        matrix = place_of(pixels, self._image)
        self.places.append(matrix)
        boxes = []
        for face in self._faces:
            seen = in_patch(face, matrix)
            low, high = seen.min(axis=0), seen.max(axis=0)
            upright = abs(eye_line_angle(five_points(seen))) <= self._tilt
            whole = (low >= 0).all() and (high <= pixels.shape[1::-1]).all()
            if upright and whole and face_size(seen) >= self._smallest:
                boxes.append(np.concatenate([low, high - low]))
        return boxes

    def close(self) -> None:
        self.closed = True


class FakeDlib:
    """Returns the same faces for every image, in decoded pixels."""

    def __init__(self, *faces: Points) -> None:
        self._faces = list(faces)
        self.asked = 0
        self.closed = False

    def find(self, pixels: Pixels) -> list[Points]:
        self.asked += 1
        return self._faces

    def close(self) -> None:
        self.closed = True


class NotAsked:
    """Must not be asked."""

    def find(self, pixels: Pixels) -> list[Points]:
        raise AssertionError("used, though an earlier landmark source has found the face")

    def close(self) -> None:
        pass


def chain_of(
    mesh: Any = None,
    faces: Any = None,
    dlib: Any = None,
    names: Sequence[str] = ("mediapipe",),
    *,
    landmark_model: Any = None,
    face_finder: Any = None,
) -> FallbackChain:
    """Return a fallback chain of the given detectors; `mesh`, `faces` and `dlib` must not be used if left out."""
    mesh, faces, dlib = (NotAsked() if detector is None else detector for detector in (mesh, faces, dlib))
    return FallbackChain(detectors_of(mesh, faces, dlib, names, landmark_model=landmark_model, face_finder=face_finder))


def detectors_of(
    mesh: Any,
    faces: Any,
    dlib: Any,
    names: Sequence[str] = ("mediapipe",),
    *,
    landmark_model: Any = None,
    face_finder: Any = None,
) -> Detectors:
    """Return these detectors as if each had been opened at its first use."""
    return Detectors(
        tuple(names),
        open_mesh=lambda: mesh,
        open_faces=lambda: faces,
        open_face_finder=lambda: face_finder,
        open_landmark_model=lambda: landmark_model,
        open_dlib=lambda: dlib,
    )


def box_about(points: Points, margin: float = 0.1) -> Points:
    """Return a face box as data sets have it: x, y, width, height."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([low - margin * (high - low), (1 + 2 * margin) * (high - low)])


def hinted_row(*, box: Any = None, five: Any = None, given: Any = None) -> ImageRow:
    """Return a row with face box, five points and given landmarks, as far as they are given."""
    bbox, points, landmarks = (None if hint is None else np.asarray(hint, np.float32) for hint in (box, five, given))
    return dataclasses.replace(image_row(), bbox=bbox, points=points, landmarks=landmarks)
