"""Synthetic faces: the mean shape placed anywhere, deformed, and a catalog of odd ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from regions.landmarks import mean_shape

Points = npt.NDArray[np.float64]


def face(
    *,
    x: float = 200.0,
    y: float = 240.0,
    eye_distance: float = 60.0,
    angle: float = 0.0,
    jitter: float = 0.0,
    seed: int = 0,
) -> Points:
    """Return 68 points: the mean shape about (x, y), turned by `angle` degrees, each point moved at random."""
    shape = mean_shape() + jitter * np.random.default_rng(seed).standard_normal((68, 2))
    return turned(shape * eye_distance, angle) + (x, y)


def turned(points: Points, angle: float) -> Points:
    """Turn points about the origin by `angle` degrees (clockwise as seen, y being down)."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    rotated: Points = points @ np.array([[cos, sin], [-sin, cos]])
    return rotated


def head_turned(angle: float, **placed: Any) -> Points:
    """Return a face turned sideways by `angle` degrees, its points on an upright cylinder."""
    points = face(**placed)
    middle, radius = points[27, 0], 1.15 * np.abs(points[:, 0] - points[27, 0]).max()
    around = np.arcsin((points[:, 0] - middle) / radius) + np.radians(angle)
    return np.column_stack([middle + radius * np.sin(around), points[:, 1]])


def open_mouth() -> Points:
    """Return a face whose upper lip lies below its lower lip, so that the outlines cross."""
    points = face()
    points[[50, 51, 52]], points[[58, 57, 56]] = points[[58, 57, 56]].copy(), points[[50, 51, 52]].copy()
    return points


def profile() -> Points:
    """Return a face turned so far that its left side lies behind its nose."""
    points = face()
    points[:, 0] = 200 + 0.3 * (points[:, 0] - 200)
    points[[0, 1, 2, 3, 17, 36, 41]] += (60, 0)
    return points


ODD_FACES = {
    "plain": face(),
    "off the image": face(x=-500, y=-700),
    "half out": face(x=2, y=100),
    "upside down": face(angle=180),
    "on one line": np.stack([np.linspace(50, 300, 68), np.linspace(80, 200, 68)], axis=1),
    "one point": np.full((68, 2), 100.0),
    "crossed lips": open_mouth(),
    "profile": profile(),
    "random points": np.random.default_rng(1).uniform(0, 400, (68, 2)),
    "tiny": face(eye_distance=0.5),
    "huge": face(eye_distance=5000),
    "reversed order": face()[::-1].copy(),
}
