"""AttParseNet's public outlines, for comparison with ours.

The code that the paper's authors published draws the ten regions by other rules than ours
(`regions.outlines`). They are reimplemented here with the behavior of that code, including its faults:

* landmarks are rounded to whole pixels;
* all steps follow the axes of the image, regardless of the tilt of the head;
* the height of top_of_head depends on the position of the face in the image;
* ears narrower than 5 pixels are omitted.

One fault is not reproduced: the public code drops a whole region if a single vertex lies outside the image. So
only the outlines are compared; on tightly cropped images the masks of the public code are worse.
"""

from __future__ import annotations

import numpy as np
import shapely

from regions.landmarks import FloatArray, check_landmarks
from regions.polygons import GeometryArray

CHIN = [5, 6, 7, 8, 9, 10, 11, 54, 55, 56, 57, 58, 59, 48]
CHEEKS = ([0, 1, 2, 3, 4, 5, 48, 31, 39, 40, 41, 36], [16, 15, 14, 13, 12, 11, 54, 35, 42, 47, 46, 45])
ABOVE_MOUTH = [48, 31, 32, 33, 34, 35, 54, 53, 52, 51, 50, 49]
MOUTH = list(range(48, 60))
EYES = (list(range(36, 42)), list(range(42, 48)))
BROWS = (list(range(17, 22)), list(range(22, 27)))
JAW_BELOW_MOUTH = list(range(5, 12))
EARS = (([0, 1, 2, 3], 17), ([16, 15, 14, 13], 26))
SMALLEST_EAR = 5
"""Minimum width of an ear, in pixels."""


def region_polygons(landmarks: FloatArray) -> GeometryArray:
    """Return the ten regions of a face as the public code draws them.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image.

    Returns
    -------
    ndarray (10,) of shapely Polygon or MultiPolygon
        In the order of `regions.outlines.REGION_NAMES`; empty if without area.

    Raises
    ------
    ValueError
        If the landmarks are not 68 finite points.
    """
    points = np.rint(check_landmarks(landmarks))
    regions = [
        [_below_chin(points)],
        [points[CHIN]],
        [points[side] for side in CHEEKS],
        [points[MOUTH]],
        [points[ABOVE_MOUTH]],
        [_nose(points)],
        [points[side] for side in EYES],
        [points[side] for side in BROWS],
        [ring for jaw, brow_end in EARS for ring in _ear(points[jaw], points[brow_end])],
        [_top_of_head(points)],
    ]
    polygons = np.empty(len(regions), dtype=object)
    for index, rings in enumerate(regions):
        polygons[index] = _joined(rings)
    return polygons


def _joined(rings: list[FloatArray]) -> shapely.Geometry:
    """Return the union of some outlines; self-crossing outlines are split at the crossing."""
    parts = shapely.get_parts(shapely.make_valid([shapely.Polygon(ring) for ring in rings]))
    parts = shapely.get_parts(parts)
    area = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    return shapely.Polygon() if shapely.is_empty(area) else area


def _below_chin(points: FloatArray) -> FloatArray:
    """Draw the lower jaw, and the same line moved down by the distance from nose to lower lip."""
    jaw = points[JAW_BELOW_MOUTH]
    return np.concatenate([jaw, jaw[::-1] + (0, points[58, 1] - points[33, 1])])


def _nose(points: FloatArray) -> FloatArray:
    """Draw bridge, inner eye corners and nostrils; the nostrils are moved outwards by a step between their points."""
    left_wing, right_wing = points[[31, 35]] * 2 - points[[32, 34]]
    return np.array([left_wing, *points[32:35], right_wing, *points[[42, 27, 39]]])


def _ear(jaw: FloatArray, brow_end: FloatArray) -> list[FloatArray]:
    """Draw the upper jaw ``(4, 2)``, and the same line moved outwards by its distance from the end of the brow."""
    step = jaw[0, 0] - brow_end[0]
    return [np.concatenate([jaw, jaw[::-1] + (step, 0)])] if abs(step) >= SMALLEST_EAR else []


def _top_of_head(points: FloatArray) -> FloatArray:
    """Draw a box above the middles of the brows, whose height depends on the distance from the top of the image."""
    brows, chin, nose = points[[19, 24]], points[8, 1], points[33, 1]
    raised = brows - (0, int(1.1 * chin) - nose)
    if (raised[:, 1] < 0).any():
        raised = brows - (0, chin - int(1.3 * nose))
    return np.concatenate([brows, raised[::-1]])
