"""The built-in photograph, whole and parts of it, and how well two detections of its face agree."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.demo import HEAD, load_photograph
from regions.landmarks import outer_eye_distance
from tests.faces import Points

Pixels = npt.NDArray[np.uint8]


class Detector(Protocol):
    """Finds faces, the main one first."""

    def find(self, pixels: Pixels) -> list[Points]: ...


def photograph() -> Pixels:
    """Return the photograph ``(512, 512, 3)``."""
    return np.array(load_photograph())


def portrait() -> Pixels:
    """Return head and shoulders ``(270, 240, 3)``."""
    x0, y0, x1, y1 = HEAD
    return np.ascontiguousarray(photograph()[y0:y1, x0:x1])


def distance(found: Points, expected: Points) -> float:
    """Return the mean distance of the landmarks, in outer-eye distances of those expected."""
    return float(np.linalg.norm(found - expected, axis=1).mean()) / outer_eye_distance(expected)


def shift_when_enlarged(detector: Detector) -> Points:
    """Return by how many pixels a face moves, right and down, when its image is enlarged four times.

    It is zero if the detector counts pixels from the corner of the first one, and 0.375 if its
    points lack half a pixel. The mean of several images, as each look is a little off.
    """
    shifts = []
    for side in (120, 135, 150, 165):
        small = cv2.resize(portrait(), (side, round(side * 270 / 240)), interpolation=cv2.INTER_AREA)
        for cut in (0, 1, 2):
            part: Pixels = np.ascontiguousarray(small[cut:, cut:], dtype=np.uint8)
            large: Pixels = np.asarray(
                cv2.resize(part, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC), dtype=np.uint8
            )
            shifts.append((detector.find(large)[0] / 4 - detector.find(part)[0]).mean(axis=0))
    mean: Points = np.mean(shifts, axis=0)
    return mean
