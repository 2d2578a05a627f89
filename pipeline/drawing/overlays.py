"""Regions, landmarks and masks drawn over face crops."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import shapely

from pipeline import images
from pipeline.formats.samples import StoredSample, decode_packed_masks
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH
from regions.landmarks import FloatArray
from regions.masks import unpack_masks
from regions.outlines import FurtherRegions
from regions.polygons import clip_to_frame, region_polygons

Color = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

Pixels = npt.NDArray[np.uint8]

REGION_COLORS: dict[str, Color] = {
    "below_chin": (47, 107, 255),
    "chin": (255, 138, 31),
    "cheeks": (240, 50, 230),
    "mouth": (227, 18, 47),
    "above_mouth": (255, 225, 25),
    "nose": (34, 177, 76),
    "eyes": (63, 224, 255),
    "eyebrows": (122, 31, 214),
    "ears": (182, 255, 59),
    "top_of_head": (0, 133, 125),
}
MASK_COLOR: Color = (255, 40, 110)
LANDMARK_COLOR: Color = (255, 255, 255)
POINT_COLOR: Color = (255, 60, 0)
DARK: Color = (15, 15, 20)

Rings = tuple[tuple[float, Color], ...]
"""A dot, from its outline to its center: radii in pixels of the drawing, and colors."""
LANDMARK_RINGS: Rings = ((2.3, DARK), (1.5, LANDMARK_COLOR))
SMALL_RINGS: Rings = ((1.5, DARK), (0.9, (60, 255, 130)))
"""The dots of landmarks on a thumbnail."""

CROSS_ARM = 8.0
CROSS_LINES: Rings = ((2.7, (255, 255, 255)), (1.4, POINT_COLOR))
"""The crosses of the five points: half the line width in pixels of the drawing, and colors."""

SCALE = 2
"""Pixels of a drawing per pixel of the crop."""
FILL = 0.35
"""Opacity of regions and masks."""

SUBPIXEL_BITS = 4
"""OpenCV takes coordinates as integers in 1/16 pixel."""


def region_colors(names: Sequence[str]) -> dict[str, Color]:
    """Return a color for each region: that of `REGION_COLORS`, or another hue for a further region."""
    colors = {}
    for index, name in enumerate(names):
        red, green, blue = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.55, 0.95)
        further = (round(255 * red), round(255 * green), round(255 * blue))
        colors[name] = REGION_COLORS.get(name, further)
    return colors


def draw_regions(
    sample: StoredSample,
    further: FurtherRegions | None = None,
    image_size: tuple[int, int] | None = None,
    only: str | None = None,
) -> Pixels:
    """Draw the regions and the 68 landmarks over the crop of a sample.

    Parameters
    ----------
    sample : StoredSample
    further : mapping, optional
        Regions in addition to the ten, as `regions.polygons.region_polygons` takes them.
    image_size : tuple of int, optional
        Height and width of the source image, in pixels. The regions are clipped to it, as in the masks.
    only : str, optional
        Draw only this region.

    Returns
    -------
    ndarray (436, 356, 3) uint8
        RGB.
    """
    landmarks = np.array(sample.description.landmarks, dtype=np.float64)
    polygons = region_polygons(landmarks, further)
    if image_size is not None:
        polygons = clip_to_frame(polygons, image_size[1], image_size[0])
    box = sample.description.crop
    canvas = enlarged_crop(sample)
    colors = region_colors([*REGION_COLORS, *(further or {})])
    for polygon, (name, color) in zip(polygons, colors.items(), strict=True):
        if only in (None, name):
            _draw_polygon(canvas, _to_drawing(polygon, box), color)
    draw_dots(canvas, shapely.get_coordinates(_to_drawing(shapely.points(landmarks), box)))
    return canvas


def draw_dots(canvas: Pixels, points: FloatArray, rings: Rings = LANDMARK_RINGS) -> None:
    """Draw a dot at each point, except at points that are NaN or outside the canvas.

    Parameters
    ----------
    canvas : ndarray (rows, cols, 3) uint8
        RGB; modified in place.
    points : ndarray (n, 2)
        In pixels of the canvas.
    rings : sequence of pairs of float and tuple of int
    """
    dots = shapely.points(_inside(canvas, points))
    for radius, color in rings:
        _fill_each(canvas, shapely.buffer(dots, radius), color)


def draw_crosses(canvas: Pixels, points: FloatArray, box: Sequence[int]) -> None:
    """Draw a cross at each point of the source image that lies inside the drawing of a sample.

    Parameters
    ----------
    canvas : ndarray (436, 356, 3) uint8
        RGB; modified in place.
    points : ndarray (n, 2)
        In pixels of the source image.
    box : sequence of int
        The crop: x0, y0, x1, y1, in pixels of the source image.
    """
    inside = _inside(canvas, shapely.get_coordinates(_to_drawing(shapely.points(points), box)))
    arms = CROSS_ARM * math.sqrt(0.5) * np.array([[[-1, -1], [1, 1]], [[-1, 1], [1, -1]]])
    lines = shapely.linestrings(inside[:, None, None] + arms)
    for half_width, color in CROSS_LINES:
        _fill_each(canvas, shapely.buffer(lines, half_width).ravel(), color)


def _inside(canvas: Pixels, points: FloatArray) -> FloatArray:
    inside: FloatArray = points[((points >= 0) & (points <= canvas.shape[1::-1])).all(axis=1)]
    return inside


def draw_mask(sample: StoredSample, attribute: int) -> Pixels:
    """Draw the mask of one attribute over the crop of a sample, with its pixels as stored.

    Parameters
    ----------
    sample : StoredSample
    attribute : int
        Its index in the label file.

    Returns
    -------
    ndarray (436, 356, 3) uint8
        RGB.
    """
    mask = unpack_masks(decode_packed_masks(sample.png), attribute + 1)[attribute]
    canvas = enlarged_crop(sample)
    rows, cols = (
        ((np.arange(size) + 0.5) * mask_size / size).astype(int)
        for size, mask_size in zip(canvas.shape[:2], mask.shape, strict=True)
    )
    enlarged = np.ascontiguousarray(mask[np.ix_(rows, cols)])
    _blend(canvas, enlarged * np.uint8(255), MASK_COLOR, FILL + 0.1)
    outlines, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, MASK_COLOR, 2)
    return canvas


def enlarged_crop(sample: StoredSample) -> Pixels:
    """Return the crop of a sample at the size of a drawing: ``(436, 356, 3)`` uint8, RGB."""
    crop = images.decode(sample.jpeg).pixels
    size = (SCALE * IMAGE_WIDTH, SCALE * IMAGE_HEIGHT)
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _to_drawing(geometry: Any, box: Sequence[int]) -> Any:
    """Map a geometry from pixels of the source image to pixels of the drawing."""
    low, high = np.array(box[:2]), np.array(box[2:])
    scale = SCALE * np.array([IMAGE_WIDTH, IMAGE_HEIGHT]) / (high - low)
    return shapely.transform(geometry, lambda points: (points - low) * scale)


def _fixed_point(geometry: Any) -> npt.NDArray[np.int32]:
    """Return the vertices ``(n, 2)`` as OpenCV takes them: (0, 0) is the center of the first pixel."""
    points: FloatArray = shapely.get_coordinates(geometry) - 0.5
    fixed: npt.NDArray[np.int32] = np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    return fixed


def _draw_polygon(canvas: Pixels, geometry: Any, color: Color) -> None:
    """Fill and outline a Polygon or MultiPolygon, except for its holes."""
    rings = [_fixed_point(ring) for ring in shapely.get_rings(shapely.get_parts(geometry))]
    if not rings:
        return
    coverage = np.zeros(canvas.shape[:2], dtype=np.uint8)
    _fill(coverage, rings, (255, 255, 255))
    _blend(canvas, coverage, color, FILL)
    cv2.polylines(canvas, rings, True, color, 2, cv2.LINE_AA, SUBPIXEL_BITS)


def _blend(canvas: Pixels, coverage: Pixels, color: Color, opacity: float) -> None:
    """Blend a color into the canvas, weighted by `coverage` (0 to 255)."""
    x, y, width, height = cv2.boundingRect(coverage)
    window = (slice(y, y + height), slice(x, x + width))
    weight = coverage[window][:, :, None] * np.float32(opacity / 255)
    canvas[window] = np.round(canvas[window] * (1 - weight) + np.array(color, dtype=np.float32) * weight)


def _fill(canvas: Pixels, rings: Sequence[npt.NDArray[np.int32]], color: Color) -> None:
    cv2.fillPoly(canvas, rings, color, cv2.LINE_AA, SUBPIXEL_BITS)


def _fill_each(canvas: Pixels, polygons: Iterable[Any], color: Color) -> None:
    """Fill polygons without holes one by one: filled at once, overlaps would cancel out."""
    for polygon in polygons:
        _fill(canvas, [_fixed_point(polygon)], color)
