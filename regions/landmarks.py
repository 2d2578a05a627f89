"""The 68 iBUG landmarks: their groups, the face frame they span, and the mean shape."""

from __future__ import annotations

import functools
import importlib.resources
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regions.boxes import BBox

FloatArray = npt.NDArray[np.floating[Any]]

NUM_LANDMARKS = 68

LEFT_EYE, RIGHT_EYE = np.arange(36, 42), np.arange(42, 48)
NOSE_TIP = 30
LEFT_EYE_OUTER, RIGHT_EYE_OUTER = 36, 45
LEFT_MOUTH_CORNER, RIGHT_MOUTH_CORNER = 48, 54

PARTS = {
    "jaw": slice(0, 17), "brows": slice(17, 27), "nose": slice(27, 36), "eyes": slice(36, 48), "mouth": slice(48, 68),
}  # fmt: skip
"""The landmarks of each part of the face."""
MIRROR = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
"""Index of each landmark in the mirrored image; its own inverse."""

EYE_TO_MOUTH = 1.2
"""Distance from the eyes to the mouth, in eye distances, that few frontal faces exceed
(on 331 photographs of frontal faces with ground-truth landmarks: median 1.07, 95th percentile 1.20)."""

COORDINATE_STEP = 1 / 64
"""Landmarks are rounded to multiples of this many pixels: the last bits of a detector's arithmetic,
which differ between CPU families, then hardly ever reach the outputs."""


@dataclass(frozen=True, eq=False)
class FaceFrame:
    """A coordinate system fixed to the face, whose unit is the eye distance.

    Attributes
    ----------
    origin : ndarray (2,)
        Midpoint of the two eye centers, in pixels of the image.
    axes : ndarray (2, 2)
        Rows: the direction along the eye line, to the right, and the one from the eyes to the
        chin. Both have the same length.
    squared_length : float
        The square of that length.
    scale : float
        One unit of the frame, in lengths of an axis.
    """

    origin: FloatArray
    axes: FloatArray
    squared_length: float = 1.0
    scale: float = 1.0

    @property
    def right(self) -> FloatArray:
        """Unit vector ``(2,)`` along the eye line."""
        direction: FloatArray = self.axes[0] / math.sqrt(self.squared_length)
        return direction

    @property
    def down(self) -> FloatArray:
        """Unit vector ``(2,)`` from the eyes to the chin."""
        direction: FloatArray = self.axes[1] / math.sqrt(self.squared_length)
        return direction

    @property
    def eye_distance(self) -> float:
        """The unit of the frame, in pixels of the image."""
        return self.scale * math.sqrt(self.squared_length)

    def to_face(self, points: FloatArray) -> FloatArray:
        """Convert image points ``(..., 2)``, in pixels, to face coordinates, in eye distances."""
        return ((points - self.origin) @ np.ascontiguousarray(self.axes.T)) / (self.scale * self.squared_length)

    def to_image(self, points: FloatArray) -> FloatArray:
        """Convert face coordinates ``(..., 2)`` to image points, in pixels."""
        return self.origin + (points * self.scale) @ self.axes


def check_landmarks(landmarks: FloatArray) -> FloatArray:
    """Return the landmarks as float64 if they are 68 finite points.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        Columns x and y, in pixels.

    Raises
    ------
    ValueError
        If the shape is not (68, 2) or a coordinate is not finite.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (NUM_LANDMARKS, 2):
        raise ValueError(f"landmarks have shape {points.shape}, expected ({NUM_LANDMARKS}, 2)")
    if not np.isfinite(points).all():
        bad = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ValueError(f"landmark {bad} is {points[bad].tolist()}, expected finite numbers")
    return points


def round_landmarks(landmarks: FloatArray) -> npt.NDArray[np.float32]:
    """Round landmarks ``(68, 2)`` to multiples of `COORDINATE_STEP` pixels, as float32."""
    steps = np.round(np.asarray(landmarks, dtype=np.float64) / COORDINATE_STEP)
    return np.asarray(steps * COORDINATE_STEP, dtype=np.float32)


def eye_centers(landmarks: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the means of the six points of the left and of the right eye.

    Parameters
    ----------
    landmarks : ndarray (..., 68, 2)

    Returns
    -------
    left, right : ndarray (..., 2)
    """
    left, right = (np.take(landmarks, eye, axis=-2).sum(axis=-2) / 6 for eye in (LEFT_EYE, RIGHT_EYE))
    return left, right


def outer_eye_distance(landmarks: FloatArray) -> float:
    """Return the distance between the outer eye corners (points 36 and 45), in pixels."""
    return math.hypot(*(landmarks[RIGHT_EYE_OUTER] - landmarks[LEFT_EYE_OUTER]))


def five_points(landmarks: FloatArray) -> FloatArray:
    """Return eye centers, nose tip and mouth corners, in the order of CelebA's file.

    Parameters
    ----------
    landmarks : ndarray (..., 68, 2)

    Returns
    -------
    ndarray (..., 5, 2)
    """
    corners = np.take(landmarks, [NOSE_TIP, LEFT_MOUTH_CORNER, RIGHT_MOUTH_CORNER], axis=-2)
    return np.concatenate([np.stack(eye_centers(landmarks), axis=-2), corners], axis=-2)


def eye_line_angle(points: FloatArray) -> float:
    """Return the direction from the left to the right eye of five points ``(5, 2)``, in degrees clockwise."""
    x, y = points[1] - points[0]
    return math.degrees(math.atan2(y, x))


def face_size(landmarks: FloatArray) -> float:
    """Return `face_sizes` of a single face ``(68, 2)``."""
    return float(face_sizes(landmarks))


def face_sizes(landmarks: FloatArray) -> FloatArray:
    """Return the size of each face: the eye distance that it would have in a frontal view, in pixels.

    The eye distance shrinks as the head turns sideways, the distance from the eyes to the mouth
    does not. So the size is the larger of the two, the latter divided by `EYE_TO_MOUTH`.

    Parameters
    ----------
    landmarks : ndarray (..., 68, 2)
        In pixels.

    Returns
    -------
    ndarray (...) float64
    """
    left, right = eye_centers(landmarks)
    mouth = (landmarks[..., LEFT_MOUTH_CORNER, :] + landmarks[..., RIGHT_MOUTH_CORNER, :]) / 2
    sizes: FloatArray = np.maximum(_lengths(right - left), _lengths(mouth - (left + right) / 2) / EYE_TO_MOUTH)
    return sizes


def _lengths(vectors: FloatArray) -> FloatArray:
    """Return the lengths ``(...)`` of vectors ``(..., 2)`` by `math.hypot`, the same bits on every platform."""
    return np.asarray(_hypot(vectors[..., 0], vectors[..., 1]), dtype=np.float64)


_hypot = np.frompyfunc(math.hypot, 2, 1)


def face_frame(landmarks: FloatArray) -> FaceFrame:
    """Return the coordinate system of a face.

    Its direction is that of the similarity transform that best fits the mean shape to the 68
    points. Unlike the eye line alone, it hardly changes with a misplaced point or a rotated head.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels.
    """
    scale_rotation, _ = fit_similarity(mean_shape(), landmarks)
    norm = math.hypot(*scale_rotation)
    right = scale_rotation / norm if norm > 0 else np.array([1.0, 0.0])
    left_eye, right_eye = eye_centers(landmarks)
    size = face_size(landmarks)
    return FaceFrame(
        origin=(left_eye + right_eye) / 2,
        axes=np.array([right, [-right[1], right[0]]]),
        scale=size if size > 0 else 1.0,
    )


def fit_similarity(source: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit the rotation, scale and shift from `source` to `target` by least squares.

    Parameters
    ----------
    source, target : ndarray (n, 2)
        Corresponding points, n at least 2.

    Returns
    -------
    scale_rotation : ndarray (2,)
        ``(s cos t, s sin t)`` for scale s and angle t.
    shift : ndarray (2,)
        Added after scaling and rotating.
    """
    source_mean, target_mean = source.sum(axis=0) / len(source), target.sum(axis=0) / len(target)
    a, b = source - source_mean, target - target_mean
    norm = float((a * a).sum())
    cos = float((a * b).sum()) / norm
    sin = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / norm
    scale_rotation = np.array([cos, sin])
    return scale_rotation, target_mean - apply_similarity(source_mean, scale_rotation, np.zeros(2))


def apply_similarity(points: FloatArray, scale_rotation: FloatArray, shift: FloatArray) -> FloatArray:
    """Apply the transform of `fit_similarity` to points ``(..., 2)``."""
    cos, sin = scale_rotation
    moved: FloatArray = points @ np.array([[cos, sin], [-sin, cos]]) + shift
    return moved


@functools.cache
def mean_shape() -> npt.NDArray[np.float64]:
    """Return the mean face ``(68, 2)``: eye centers at (-0.5, 0) and (0.5, 0), y down.

    Fitted by ``tools/fit_landmark_map.py`` on the HELEN training photographs with the 68 points
    of 300-W (for non-commercial research), then made symmetric.
    """
    table = importlib.resources.files("regions").joinpath("mean_shape.csv")
    with table.open() as lines:
        shape: npt.NDArray[np.float64] = np.loadtxt(lines, delimiter=",", skiprows=1)
    return shape


def landmarks_from_five_points(points: FloatArray) -> npt.NDArray[np.float64]:
    """Fit the mean shape to CelebA's five points: a weak estimate of the 68 landmarks.

    Parameters
    ----------
    points : ndarray (5, 2)
        Eye centers, nose tip, mouth corners, in pixels.

    Returns
    -------
    ndarray (68, 2)
        In pixels.
    """
    shape = mean_shape()
    return apply_similarity(shape, *fit_similarity(five_points(shape), points))


def landmarks_in_bbox(bbox: BBox) -> npt.NDArray[np.float64]:
    """Fit the mean shape into a face box: a start for placing landmarks by hand.

    Parameters
    ----------
    bbox : BBox
        In pixels.

    Returns
    -------
    ndarray (68, 2) float64
        In pixels: the largest mean face that fits into the box, at its center.
    """
    shape = mean_shape()
    low, high = shape.min(axis=0), shape.max(axis=0)
    corner, size = np.array(bbox[:2]), np.array(bbox[2:])
    scale = float((size / (high - low)).min())
    placed: npt.NDArray[np.float64] = (shape - (low + high) / 2) * scale + corner + size / 2
    return placed
