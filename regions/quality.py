"""Checks that landmarks are a plausible face, and the face that was meant."""

from __future__ import annotations

import math

import numpy as np

from regions.landmarks import (
    EYE_TO_MOUTH,
    LEFT_EYE,
    LEFT_MOUTH_CORNER,
    NOSE_TIP,
    RIGHT_EYE,
    RIGHT_MOUTH_CORNER,
    FloatArray,
    apply_similarity,
    eye_centres,
    face_size,
    fit_similarity,
    five_points,
    mean_shape,
)

QUALITY_VERSION = 1
"""Raised whenever a check changes, so that shards built before are built again."""

MIN_FACE_SIZE = 4.0
"""Smallest face, as the distance between the eye centres seen from the front, in pixels."""
MAX_FACE_SHARE = 1.0
"""Largest face size as a share of the picture's longer side."""
MAX_SHAPE_ERROR = 0.45
"""Largest distance to the mean shape (`shape_error`)."""
MAX_POINTS_ERROR = 0.3
"""Largest distance to the five given points (`points_error`)."""
BOX_SIZES = (0.3, 1.6)
"""Smallest and largest ratio of the landmarks' extent to the given box."""


def shape_error(landmarks: FloatArray) -> float:
    """Return how far 68 points are from the mean shape laid on them, in face sizes (root mean square)."""
    shape = mean_shape()
    residual = landmarks - apply_similarity(shape, *fit_similarity(shape, landmarks))
    return math.sqrt(float((residual**2).sum(axis=1).mean())) / max(face_size(landmarks), 1e-9)


def points_error(landmarks: FloatArray, points: FloatArray) -> float:
    """Return the mean distance to five given points ``(5, 2)``, in face sizes."""
    distance = np.linalg.norm(five_points(landmarks) - points, axis=1).mean()
    return float(distance) / max(face_size(landmarks), 1e-9)


def points_errors(landmarks: FloatArray, points: FloatArray) -> FloatArray:
    """Return `points_error` of many faces ``(n,)``, of landmarks ``(n, 68, 2)`` and points ``(n, 5, 2)``."""
    eyes = landmarks[:, [LEFT_EYE, RIGHT_EYE]].mean(axis=2)
    corners = landmarks[:, [NOSE_TIP, LEFT_MOUTH_CORNER, RIGHT_MOUTH_CORNER]]
    own = np.concatenate([eyes, corners], axis=1)
    eye_distance = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1)
    eye_to_mouth = np.linalg.norm(own[:, 3:].mean(axis=1) - eyes.mean(axis=1), axis=1)
    sizes = np.maximum(eye_distance, eye_to_mouth / EYE_TO_MOUTH)
    errors: FloatArray = np.linalg.norm(own - points, axis=2).mean(axis=1) / np.maximum(sizes, 1e-9)
    return errors


def implausible(landmarks: FloatArray, width: float, height: float) -> str | None:
    """Tell what speaks against 68 points being a face of a picture.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the picture.
    width, height : float
        Size of the picture, in pixels.

    Returns
    -------
    str or None
        One line with the value and what was expected, or None for a plausible face.
    """
    size = face_size(landmarks)
    if size < MIN_FACE_SIZE:
        return f"face of {size:.1f} pixels between the eyes, expected at least {MIN_FACE_SIZE:.0f}"
    if size > MAX_FACE_SHARE * max(width, height):
        return f"face of {size:.0f} pixels between the eyes in a picture of {width:.0f}x{height:.0f}"
    left, right = eye_centres(landmarks)
    x, y = (left + right) / 2
    if not (-size < x < width + size and -size < y < height + size):
        return f"eyes at ({x:.0f}, {y:.0f}), outside of the picture of {width:.0f}x{height:.0f}"
    error = shape_error(landmarks)
    if error > MAX_SHAPE_ERROR:
        return f"shape differs from a face by {error:.2f} eye distances, expected at most {MAX_SHAPE_ERROR}"
    return None


def disagrees(landmarks: FloatArray, box: FloatArray | None = None, points: FloatArray | None = None) -> str | None:
    """Tell where 68 points disagree with what the data set says of the face.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the picture.
    box : ndarray (4,), optional
        The face box: x, y, width, height.
    points : ndarray (5, 2), optional
        Eye centres, nose tip, mouth corners. Where given they decide, and the box is not asked.

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
    if box is None:
        return None
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    middle = (low + high) / 2
    if (middle < box[:2]).any() or (middle > box[:2] + box[2:]).any():
        return f"centre at ({middle[0]:.0f}, {middle[1]:.0f}), outside of the face box {box.round().tolist()}"
    ratio = math.sqrt(float(np.prod(high - low)) / float(np.prod(box[2:])))
    if not BOX_SIZES[0] <= ratio <= BOX_SIZES[1]:
        return f"{ratio:.2f} times as large as the face box, expected {BOX_SIZES[0]} to {BOX_SIZES[1]}"
    return None
