"""Checks that landmarks are a plausible face, and the face that the data set points to."""

from __future__ import annotations

import functools
import importlib.resources
import math
import operator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from regions.landmarks import (
    MOUTH_CORNERS,
    NOSE_TIP,
    FloatArray,
    eyes_and_size,
    face_size,
    face_sizes,
    five_points,
    lengths,
    mean_shape,
)

QUALITY_VERSION = 3
"""Raised whenever a check changes, so that shards built before are built again."""

MIN_FACE_SIZE = 4.0
"""Minimum face size (`face_sizes`), in pixels."""
MAX_FACE_FRACTION = 1.0
"""Maximum face size, as a fraction of the image's longer side."""
MAX_DEVIATION = 4.0
"""Maximum `ShapeFit.deviation`: real faces have at most 2.0, shuffled points at least 10."""
MAX_RESIDUAL = 0.35
"""Maximum `ShapeFit.residual`: real faces have at most 0.31, faces with swapped mouth corners at least 0.40."""
MAX_POINTS_ERROR = 0.3
"""Maximum distance to the five given points (`points_error`)."""
MAX_BBOX_DISTANCE = 0.25
"""Maximum distance from the center of the landmarks to that of the face box, in box sizes."""
BBOX_SIZES = (1.7, 5.0)
"""Minimum and maximum size of a face box, in face sizes; boxes around real faces have 2.0 to 3.8."""


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """How face shapes vary: principal components of shapes aligned with the mean shape.

    Attributes
    ----------
    components : ndarray (k, 136)
        Orthonormal rows of x0, y0, x1, y1, ..., in eye distances.
    spreads : ndarray (k,)
        Standard deviation along each component, in eye distances.
    mean : ndarray (136,)
        The mean of the shapes.
    """

    components: FloatArray
    spreads: FloatArray
    mean: FloatArray


class ShapeFit(NamedTuple):
    """How well 68 points fit the `ShapeModel`.

    Attributes
    ----------
    deviation : float
        Root mean square of the component scores, in standard deviations: 1 for a typical face.
    residual : float
        Largest distance of a point from its position in the model, in eye distances.
    worst : int
        Index of that point.
    """

    deviation: float
    residual: float
    worst: int


@functools.cache
def shape_model() -> ShapeModel:
    """Load the packaged model.

    Fitted by ``tools/fit_landmark_map.py`` on the HELEN training photographs with the 68 points
    of 300-W (for non-commercial research) and their mirror images.
    """
    resource = importlib.resources.files("regions").joinpath("shape_model.npz")
    with resource.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {name: np.asarray(stored[name], dtype=np.float64) for name in ("components", "spreads", "mean")}
    return ShapeModel(**arrays)


class _ShapeSpace(NamedTuple):
    """The `ShapeModel` as `fit_shape` uses it; points are complex numbers x + iy.

    Attributes
    ----------
    target : ndarray (68,) complex128
        The mean face about its center.
    offset : ndarray (136,)
        From the center of the mean face to the model's mean: x0, y0, x1, y1, ...
    components : ndarray (k, 136)
    squares : ndarray (k,)
        Factors that turn squared scores into shares of the squared deviation.
    """

    target: npt.NDArray[np.complex128]
    offset: FloatArray
    components: FloatArray
    squares: FloatArray


@functools.cache
def _shape_space() -> _ShapeSpace:
    model, center = shape_model(), mean_shape().mean(axis=0)
    target = (mean_shape() - center).view(np.complex128)[:, 0]
    squares = 1 / (model.spreads**2 * len(model.spreads))
    return _ShapeSpace(target, model.mean - np.tile(center, len(target)), model.components, squares)


def fit_shape(landmarks: FloatArray) -> ShapeFit:
    """Fit the shape model to 68 points ``(68, 2)``, which must not all be one point.

    The points are laid on the mean face as `regions.landmarks.fit_similarity` does it. These are many steps on few
    numbers, so their count decides: a point is one complex number, a rotation and scaling one factor.
    """
    target, offset, components, squares = _shape_space()
    points = np.ascontiguousarray(landmarks, dtype=np.float64).view(np.complex128)[:, 0]
    points = points - points.sum() / len(points)
    factor = np.vdot(points, target) / np.vdot(points, points).real
    difference = (points * factor).view(np.float64) - offset
    scores = components @ difference
    unexplained = np.abs((difference - scores @ components).view(np.complex128))
    worst = int(unexplained.argmax())
    return ShapeFit(math.sqrt(scores * scores @ squares), float(unexplained[worst]), worst)


def points_error(landmarks: FloatArray, points: FloatArray) -> float:
    """Return the bits of `points_errors` for a single face ``(68, 2)`` and its points ``(5, 2)``, sooner."""
    eyes = eyes_and_size(landmarks)
    found = (eyes.left, eyes.right, *(landmarks[index].tolist() for index in (NOSE_TIP, *MOUTH_CORNERS)))
    distances = [
        math.sqrt((x - given_x) * (x - given_x) + (y - given_y) * (y - given_y))
        for (x, y), (given_x, given_y) in zip(found, points.tolist(), strict=True)
    ]
    return functools.reduce(operator.add, distances) / len(distances) / max(eyes.size, 1e-9)


def points_errors(landmarks: FloatArray, points: FloatArray) -> FloatArray:
    """Return the mean distance of each face to five given points, in face sizes.

    Parameters
    ----------
    landmarks : ndarray (..., 68, 2)
        In pixels of the image.
    points : ndarray (..., 5, 2)
        Eye centers, nose tip, mouth corners, in the same pixels.

    Returns
    -------
    ndarray (...) float64
    """
    distances = np.moveaxis(lengths(five_points(landmarks) - points), -1, 0)
    errors: FloatArray = functools.reduce(np.add, distances) / len(distances) / np.maximum(face_sizes(landmarks), 1e-9)
    return errors


def hint_distance(landmarks: FloatArray, bbox: FloatArray | None, points: FloatArray | None) -> float | None:
    """Return the distance between a face and the hint of the data set, to select the nearest of several faces.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image.
    bbox : ndarray (4,) or None
        The face box: x, y, width, height.
    points : ndarray (5, 2) or None
        Eye centers, nose tip, mouth corners. Where given, they decide, and the box is ignored.

    Returns
    -------
    float or None
        In face sizes for points, in box sizes for a box; None without a hint.
    """
    if points is not None:
        return points_error(landmarks, points)
    if bbox is not None:
        return _bbox_distance(landmarks, bbox)
    return None


def _bbox_distance(landmarks: FloatArray, bbox: FloatArray) -> float:
    """Return the distance between the center of the landmarks and that of the face box, in box sizes."""
    (left, top), (right, bottom) = landmarks.min(axis=0).tolist(), landmarks.max(axis=0).tolist()
    x, y, width, height = bbox.tolist()
    distance = math.hypot((left + right) / 2 - x - width / 2, (top + bottom) / 2 - y - height / 2)
    return distance / math.sqrt(width * height)


def plausibility_problem(landmarks: FloatArray, width: float, height: float) -> str | None:
    """Return why 68 points are not a plausible face of an image, or None if they are.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image.
    width, height : float
        Size of the image, in pixels.

    Returns
    -------
    str or None
        One line with the value found and what was expected.
    """
    _, _, (x, y), size = eyes_and_size(landmarks)
    if size < MIN_FACE_SIZE:
        return f"face of {size:.1f} pixels between the eyes, expected at least {MIN_FACE_SIZE:.0f}"
    if size > MAX_FACE_FRACTION * max(width, height):
        limit = MAX_FACE_FRACTION * max(width, height)
        return f"face of {size:.0f} pixels between the eyes, expected at most {limit:.0f}, the longer side of the image"
    if not (-size < x < width + size and -size < y < height + size):
        return f"eyes at ({x:.0f}, {y:.0f}), expected a place in or near the image of {width:.0f}x{height:.0f}"
    fit = fit_shape(landmarks)
    if fit.deviation > MAX_DEVIATION:
        return (
            f"not a plausible face shape: {fit.deviation:.1f} standard deviations, expected at most {MAX_DEVIATION:.0f}"
        )
    if fit.residual > MAX_RESIDUAL:
        return (
            f"landmark {fit.worst} is {fit.residual:.2f} eye distances from where the other landmarks put it,"
            f" expected at most {MAX_RESIDUAL}"
        )
    return None


def hint_mismatch(
    landmarks: FloatArray, bbox: FloatArray | None = None, points: FloatArray | None = None
) -> str | None:
    """Return how 68 points contradict the hint of the data set, or None if they agree.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image.
    bbox : ndarray (4,), optional
        The face box: x, y, width, height.
    points : ndarray (5, 2), optional
        Eye centers, nose tip, mouth corners. Where given, they decide, and the box is ignored.

    Returns
    -------
    str or None
        One line with the value found and what was expected.
    """
    if points is not None:
        error = points_error(landmarks, points)
        if error > MAX_POINTS_ERROR:
            return f"{error:.2f} eye distances from the five points, expected at most {MAX_POINTS_ERROR}"
        return None
    if bbox is None:
        return None
    distance = _bbox_distance(landmarks, bbox)
    if distance > MAX_BBOX_DISTANCE:
        return f"{distance:.2f} box sizes from the center of the face box, expected at most {MAX_BBOX_DISTANCE}"
    size = math.sqrt(float(bbox[2] * bbox[3])) / max(face_size(landmarks), 1e-9)
    if not BBOX_SIZES[0] <= size <= BBOX_SIZES[1]:
        return f"face box of {size:.1f} eye distances, expected {BBOX_SIZES[0]} to {BBOX_SIZES[1]}"
    return None
