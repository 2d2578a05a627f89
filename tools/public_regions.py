"""AttParseNet's public outlines, to compare ours with.

The code that the paper's authors published draws the ten regions by other rules than ours
(`regions.polygons`). They are written anew here from what that code does, its faults included:

* landmarks are rounded to whole pixels;
* all steps go along the axes of the image, whatever the tilt of the head;
* the height of the top of the head depends on where in the image the face lies;
* ears narrower than 5 pixels are left out.

One thing is not done here: the public code leaves a region out whole where a single vertex lies outside of
the image. So the outlines alone are compared; on tight images the masks of the public code are worse.
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
"""Width in pixels."""


def region_polygons(landmarks: FloatArray) -> GeometryArray:
    """Return the ten regions of a face as the public code draws them.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image.

    Returns
    -------
    ndarray (10,) of shapely Polygon or MultiPolygon
        In the order of `regions.polygons.REGION_NAMES`; empty if without area.

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
    """Return the area within any of some outlines; one that crosses itself is split where it does."""
    parts = shapely.get_parts(shapely.make_valid([shapely.Polygon(ring) for ring in rings]))
    parts = shapely.get_parts(parts)
    area = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    return shapely.Polygon() if shapely.is_empty(area) else area


def _below_chin(points: FloatArray) -> FloatArray:
    """Draw the lower jaw, and the same line moved down by the distance from nose to lower lip."""
    jaw = points[JAW_BELOW_MOUTH]
    return np.concatenate([jaw, jaw[::-1] + (0, points[58, 1] - points[33, 1])])


def _nose(points: FloatArray) -> FloatArray:
    """Draw bridge, inner eye corners and nostrils, these pushed outwards by a step between nostril points."""
    left_wing, right_wing = points[[31, 35]] * 2 - points[[32, 34]]
    return np.array([left_wing, *points[32:35], right_wing, *points[[42, 27, 39]]])


def _ear(jaw: FloatArray, brow_end: FloatArray) -> list[FloatArray]:
    """Draw the upper jaw ``(4, 2)``, and the same line moved outwards by as much as it stands out from the brow."""
    step = jaw[0, 0] - brow_end[0]
    return [np.concatenate([jaw, jaw[::-1] + (step, 0)])] if abs(step) >= SMALLEST_EAR else []


def _top_of_head(points: FloatArray) -> FloatArray:
    """Draw a box over the middles of the brows, of a height that depends on the distance from the image's top."""
    brows, chin, nose = points[[19, 24]], points[8, 1], points[33, 1]
    raised = brows - (0, int(1.1 * chin) - nose)
    if (raised[:, 1] < 0).any():
        raised = brows - (0, chin - int(1.3 * nose))
    return np.concatenate([brows, raised[::-1]])
