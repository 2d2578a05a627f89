"""Checks that landmarks are a plausible face, and the face that was meant."""

from __future__ import annotations

import functools
import importlib.resources
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from regions.landmarks import (
    FloatArray,
    apply_similarity,
    eye_centers,
    face_size,
    face_sizes,
    fit_similarity,
    five_points,
    mean_shape,
)

QUALITY_VERSION = 2
"""Raised whenever a check changes, so that shards built before are built again."""

MIN_FACE_SIZE = 4.0
"""Smallest face, as the distance between the eye centers seen from the front, in pixels."""
MAX_FACE_SHARE = 1.0
"""Largest face size as a share of the image's longer side."""
MAX_DEVIATION = 4.0
"""Largest `ShapeFit.deviation`: true faces have up to 2.0, shuffled points from 10 on (`ShapeFit`)."""
MAX_RESIDUAL = 0.35
"""Largest `ShapeFit.residual`: true faces have up to 0.31, two mouth corners mistaken for each other from 0.40 on."""
MAX_POINTS_ERROR = 0.3
"""Largest distance to the five given points (`points_error`)."""
MAX_BBOX_DISTANCE = 0.25
"""Largest distance from the middle of the landmarks to that of the face box, in box sizes."""
BBOX_SIZES = (1.7, 5.0)
"""Smallest and largest face box, in face sizes; those about true faces have 2.0 to 3.8."""


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """How the shapes of faces vary: principal components of shapes laid on the mean shape.

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
        Root mean square of the component scores, in standard deviations: 1 for a usual face.
    residual : float
        Distance of the point that is farthest from where the model has it, in eye distances.
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


def fit_shape(landmarks: FloatArray) -> ShapeFit:
    """Fit the shape model to 68 points ``(68, 2)``, which must not all be one point."""
    model = shape_model()
    laid = apply_similarity(landmarks, *fit_similarity(landmarks, mean_shape()))
    difference = laid.ravel() - model.mean
    scores = model.components @ difference
    unexplained = np.linalg.norm((difference - scores @ model.components).reshape(-1, 2), axis=1)
    worst = int(unexplained.argmax())
    deviation = math.sqrt(float(((scores / model.spreads) ** 2).mean()))
    return ShapeFit(deviation, float(unexplained[worst]), worst)


def points_error(landmarks: FloatArray, points: FloatArray) -> float:
    """Return `points_errors` of a single face ``(68, 2)`` and its points ``(5, 2)``."""
    return float(points_errors(landmarks, points))


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
    distances = np.linalg.norm(five_points(landmarks) - points, axis=-1).mean(axis=-1)
    errors: FloatArray = distances.astype(np.float64) / np.maximum(face_sizes(landmarks), 1e-9)
    return errors


def hint_distance(landmarks: FloatArray, bbox: FloatArray | None, points: FloatArray | None) -> float | None:
    """Return how far a face is from what the data set says of it: to choose the nearest of several.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image.
    bbox : ndarray (4,) or None
        The face box: x, y, width, height.
    points : ndarray (5, 2) or None
        Eye centers, nose tip, mouth corners. Where given they decide, and the box is not asked.

    Returns
    -------
    float or None
        None where nothing is said.
    """
    if points is not None:
        return points_error(landmarks, points)
    if bbox is not None:
        return _bbox_distance(landmarks, bbox)
    return None


def _bbox_distance(landmarks: FloatArray, bbox: FloatArray) -> float:
    """Return how far the middle of the landmarks is from that of the face box, in box sizes."""
    middle = (landmarks.min(axis=0) + landmarks.max(axis=0)) / 2
    return math.hypot(*(middle - bbox[:2] - bbox[2:] / 2)) / math.sqrt(float(bbox[2] * bbox[3]))


def plausibility_problem(landmarks: FloatArray, width: float, height: float) -> str | None:
    """Tell what speaks against 68 points being a face of an image.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image.
    width, height : float
        Size of the image, in pixels.

    Returns
    -------
    str or None
        One line with the value and what was expected, or None for a plausible face.
    """
    size = face_size(landmarks)
    if size < MIN_FACE_SIZE:
        return f"face of {size:.1f} pixels between the eyes, expected at least {MIN_FACE_SIZE:.0f}"
    if size > MAX_FACE_SHARE * max(width, height):
        return f"face of {size:.0f} pixels between the eyes in an image of {width:.0f}x{height:.0f}"
    left, right = eye_centers(landmarks)
    x, y = (left + right) / 2
    if not (-size < x < width + size and -size < y < height + size):
        return f"eyes at ({x:.0f}, {y:.0f}), outside of the image of {width:.0f}x{height:.0f}"
    fit = fit_shape(landmarks)
    if fit.deviation > MAX_DEVIATION:
        return f"shape of no face: {fit.deviation:.1f} standard deviations, expected at most {MAX_DEVIATION:.0f}"
    if fit.residual > MAX_RESIDUAL:
        return (
            f"landmark {fit.worst} is {fit.residual:.2f} eye distances from where the others say,"
            f" expected at most {MAX_RESIDUAL}"
        )
    return None


def hint_mismatch(
    landmarks: FloatArray, bbox: FloatArray | None = None, points: FloatArray | None = None
) -> str | None:
    """Tell where 68 points disagree with what the data set says of the face.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image.
    bbox : ndarray (4,), optional
        The face box: x, y, width, height.
    points : ndarray (5, 2), optional
        Eye centers, nose tip, mouth corners. Where given they decide, and the box is not asked.

    Returns
    -------
    str or None
        One line with the value and what was expected, or None where all agree.
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
        return f"{distance:.2f} box sizes from the middle of the face box, expected at most {MAX_BBOX_DISTANCE}"
    size = math.sqrt(float(bbox[2] * bbox[3])) / max(face_size(landmarks), 1e-9)
    if not BBOX_SIZES[0] <= size <= BBOX_SIZES[1]:
        return f"face box of {size:.1f} eye distances, expected {BBOX_SIZES[0]} to {BBOX_SIZES[1]}"
    return None
