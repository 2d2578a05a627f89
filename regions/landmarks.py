"""The 68 iBUG landmarks: their groups, the face frame they span, and the mean shape."""

from __future__ import annotations

import functools
import importlib.resources
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from regions.boxes import BBox

FloatArray = npt.NDArray[np.floating[Any]]

NUM_LANDMARKS = 68

LEFT_EYE, RIGHT_EYE = np.arange(36, 42), np.arange(42, 48)
NOSE_TIP = 30
LEFT_EYE_OUTER, RIGHT_EYE_OUTER = 36, 45
MOUTH_CORNERS = LEFT_MOUTH_CORNER, RIGHT_MOUTH_CORNER = 48, 54

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
    """A coordinate system fixed to the face, whose unit is the eye distance; or those of many faces.

    Attributes
    ----------
    origin : ndarray (..., 2)
        Midpoint of the two eye centers, in pixels of the image.
    axes : ndarray (..., 2, 2)
        Rows: the direction along the eye line, to the right, and the one from the eyes to the
        chin. Both have the same length.
    squared_length : float or ndarray (...)
        The square of that length.
    scale : float or ndarray (...)
        One unit of the frame, in lengths of an axis.
    """

    origin: FloatArray
    axes: FloatArray
    squared_length: FloatArray | float = 1.0
    scale: FloatArray | float = 1.0

    @property
    def right(self) -> FloatArray:
        """Unit vector ``(..., 2)`` along the eye line."""
        direction: FloatArray = self.axes[..., 0, :] / np.sqrt(self.squared_length)[..., None]
        return direction

    @property
    def down(self) -> FloatArray:
        """Unit vector ``(..., 2)`` from the eyes to the chin."""
        direction: FloatArray = self.axes[..., 1, :] / np.sqrt(self.squared_length)[..., None]
        return direction

    @property
    def eye_distance(self) -> FloatArray | float:
        """The unit of the frame, in pixels of the image."""
        unit: FloatArray | float = self.scale * np.sqrt(self.squared_length)
        return unit

    def to_face(self, points: FloatArray) -> FloatArray:
        """Convert image points ``(..., n, 2)``, in pixels, to face coordinates, in eye distances."""
        axes = np.swapaxes(self.axes, -1, -2)
        unit = np.multiply(self.scale, self.squared_length)[..., None, None]
        converted: FloatArray = _times(points - self.origin[..., None, :], axes) / unit
        return converted

    def to_image(self, points: FloatArray) -> FloatArray:
        """Convert face coordinates ``(..., n, 2)`` to image points, in pixels."""
        scale = np.asarray(self.scale)[..., None, None]
        return self.origin[..., None, :] + _times(points * scale, self.axes)


def _times(points: FloatArray, matrix: FloatArray) -> FloatArray:
    """Multiply points ``(..., n, 2)`` by matrices ``(..., 2, 2)``, elementwise: the same bits on every platform."""
    parts = (points[..., axis : axis + 1] * matrix[..., None, axis, :] for axis in (0, 1))
    product: FloatArray = np.add(*parts)
    return product


def check_landmarks(landmarks: FloatArray) -> FloatArray:
    """Return landmarks as float64 if they are 68 finite points for each face.

    Parameters
    ----------
    landmarks : ndarray (..., 68, 2)
        Columns x and y, in pixels.

    Raises
    ------
    ValueError
        If the last two axes are not (68, 2) or a coordinate is not finite.
    """
    points = np.asarray(landmarks, dtype=np.float64, order="C")
    if points.shape[-2:] != (NUM_LANDMARKS, 2):
        raise ValueError(f"landmarks have shape {points.shape}, expected ({NUM_LANDMARKS}, 2) for each face")
    if not np.isfinite(points).all():
        bad = np.argwhere(~np.isfinite(points).all(axis=-1))[0]
        raise ValueError(f"landmark {bad[-1]} is {points[tuple(bad)].tolist()}, expected finite numbers")
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
    left, right : ndarray (..., 2) float64
    """
    points = np.asarray(landmarks, dtype=np.float64)
    left, right = (np.take(points, eye, axis=-2).sum(axis=-2) / 6 for eye in (LEFT_EYE, RIGHT_EYE))
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
    corners = np.take(landmarks, [NOSE_TIP, *MOUTH_CORNERS], axis=-2)
    return np.concatenate([np.stack(eye_centers(landmarks), axis=-2), corners], axis=-2)


def eye_line_angle(points: FloatArray) -> float:
    """Return the direction from the left to the right eye of five points ``(5, 2)``, in degrees clockwise."""
    x, y = points[1] - points[0]
    return math.degrees(math.atan2(y, x))


class EyesAndSize(NamedTuple):
    """Where the eyes of a face are, and the size of the face, in pixels.

    Attributes
    ----------
    left, right, middle : tuple of float
        x and y of the eye centers, and of the point midway between them.
    size : float
        See `face_sizes`.
    """

    left: tuple[float, float]
    right: tuple[float, float]
    middle: tuple[float, float]
    size: float


def eyes_and_size(landmarks: FloatArray) -> EyesAndSize:
    """Measure a single face ``(68, 2)``: the bits of `eye_centers` and `face_sizes`, in a fraction of their time."""
    (a, b, c, d, e, f), (g, h, i, j, k, m) = landmarks[36:42].tolist(), landmarks[42:48].tolist()
    left_x, left_y = (a[0] + b[0] + c[0] + d[0] + e[0] + f[0]) / 6, (a[1] + b[1] + c[1] + d[1] + e[1] + f[1]) / 6
    right_x, right_y = (g[0] + h[0] + i[0] + j[0] + k[0] + m[0]) / 6, (g[1] + h[1] + i[1] + j[1] + k[1] + m[1]) / 6
    (p, q), (r, s) = landmarks[LEFT_MOUTH_CORNER].tolist(), landmarks[RIGHT_MOUTH_CORNER].tolist()
    x, y = (left_x + right_x) / 2, (left_y + right_y) / 2
    across_x, across_y, down_x, down_y = right_x - left_x, right_y - left_y, (p + r) / 2 - x, (q + s) / 2 - y
    eye_distance = math.sqrt(across_x * across_x + across_y * across_y)
    to_mouth = math.sqrt(down_x * down_x + down_y * down_y) / EYE_TO_MOUTH
    return EyesAndSize((left_x, left_y), (right_x, right_y), (x, y), max(eye_distance, to_mouth))


def face_size(landmarks: FloatArray) -> float:
    """Return `face_sizes` of a single face ``(68, 2)``."""
    return eyes_and_size(landmarks).size


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
    mouth = np.take(np.asarray(landmarks, dtype=np.float64), MOUTH_CORNERS, axis=-2).sum(axis=-2) / 2
    sizes: FloatArray = np.maximum(lengths(right - left), lengths(mouth - (left + right) / 2) / EYE_TO_MOUTH)
    return sizes


def lengths(vectors: FloatArray) -> FloatArray:
    """Return the lengths ``(...)`` of vectors ``(..., 2)``; unlike those of `numpy.hypot`, the same bits everywhere."""
    x, y = vectors[..., 0], vectors[..., 1]
    found: FloatArray = np.sqrt(x * x + y * y)
    return found


def face_frame(landmarks: FloatArray) -> FaceFrame:
    """Return the coordinate system of each face.

    Its direction is that of the similarity transform that best fits the mean shape to the 68
    points. Unlike the eye line alone, it hardly changes with a misplaced point or a rotated head.

    Parameters
    ----------
    landmarks : ndarray (..., 68, 2)
        In pixels.
    """
    scale_rotation, _ = fit_similarity(mean_shape(), landmarks)
    norm = lengths(scale_rotation)[..., None]
    right = np.where(norm > 0, scale_rotation / np.where(norm > 0, norm, 1.0), (1.0, 0.0))
    left_eye, right_eye = eye_centers(landmarks)
    size = face_sizes(landmarks)
    return FaceFrame(
        origin=(left_eye + right_eye) / 2,
        axes=np.stack([right, np.stack([-right[..., 1], right[..., 0]], axis=-1)], axis=-2),
        scale=np.where(size > 0, size, 1.0),
    )


def fit_similarity(source: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit the rotation, scale and shift from `source` to `target` by least squares.

    Parameters
    ----------
    source, target : ndarray (..., n, 2)
        Corresponding points, n at least 2.

    Returns
    -------
    scale_rotation : ndarray (..., 2)
        ``(s cos t, s sin t)`` for scale s and angle t.
    shift : ndarray (..., 2)
        Added after scaling and rotating.
    """
    count = source.shape[-2]
    source_mean, target_mean = source.sum(axis=-2) / count, target.sum(axis=-2) / count
    a, b = source - source_mean[..., None, :], target - target_mean[..., None, :]
    products = (a * b).sum(axis=-1), a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    norm = (a * a).sum(axis=-1).sum(axis=-1)
    scale_rotation = np.stack([product.sum(axis=-1) for product in products], axis=-1) / norm[..., None]
    shift = target_mean - apply_similarity(source_mean[..., None, :], scale_rotation, np.zeros(2))[..., 0, :]
    return scale_rotation, shift


def apply_similarity(points: FloatArray, scale_rotation: FloatArray, shift: FloatArray) -> FloatArray:
    """Apply the transforms of `fit_similarity` to points ``(..., n, 2)``."""
    cos, sin = scale_rotation[..., 0], scale_rotation[..., 1]
    matrix = np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=-2)
    return _times(points, matrix) + shift[..., None, :]


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
