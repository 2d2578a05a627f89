"""Polygons to binary masks by the pixel-center rule, and 40 masks packed into 5 bit planes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from regions.boxes import Box
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH
from regions.landmarks import FloatArray
from regions.polygons import REGION_NAMES, GeometryArray

MASK_VERSION = 1
"""Raised whenever masks of the same polygons change, so that shards built before are built again."""

MASK_HEIGHT, MASK_WIDTH = 96, 76

MIN_PERSON = 0.3
"""Pixels below this score are background. The limit keeps more hair than 0.5 and hardly more background."""
MAY_REACH_BACKGROUND = np.uint64(sum(1 << REGION_NAMES.index(name) for name in ("below_chin", "ears", "top_of_head")))
"""Bits of the regions whose outlines may reach beyond the person."""

RegionMap = npt.NDArray[np.uint64]
"""(height, width): bit i is set where region i covers the pixel."""


def nearest_centers(source_size: int, target_size: int) -> FloatArray:
    """Return the centers of the source pixels that nearest-neighbor resizing selects.

    Each target pixel takes the source pixel whose cell contains the target pixel's center.

    Returns
    -------
    ndarray (target_size,) float64
        In source pixels, ascending.
    """
    target_centers = (np.arange(target_size) + 0.5) * source_size / target_size
    centers: FloatArray = np.floor(target_centers) + 0.5
    return centers


def sample_points(box: Box, height: int = MASK_HEIGHT, width: int = MASK_WIDTH) -> tuple[FloatArray, FloatArray]:
    """Return the points of the image that the pixels of a mask sample.

    A mask is defined at the size of the crop, 218x178, and resized to its own size by nearest
    neighbor, so each of its pixels samples the center of one pixel of the crop.

    Parameters
    ----------
    box : Box
        The crop, in pixels of the image.
    height, width : int
        Size of the mask.

    Returns
    -------
    xs : ndarray (width,) float64
    ys : ndarray (height,) float64
        Pixels of the image, ascending.
    """
    x0, y0, x1, y1 = box
    xs = x0 + nearest_centers(IMAGE_WIDTH, width) * (x1 - x0) / IMAGE_WIDTH
    ys = y0 + nearest_centers(IMAGE_HEIGHT, height) * (y1 - y0) / IMAGE_HEIGHT
    return xs, ys


def rasterize(polygons: GeometryArray, xs: FloatArray, ys: FloatArray) -> RegionMap:
    """Return for each point of a grid the polygons that contain it.

    All edges of all polygons are processed at once: in the rows that it spans, an edge flips all
    points to its right; a point that a polygon flips an odd number of times is inside.

    Parameters
    ----------
    polygons : ndarray (n,) of shapely Polygon or MultiPolygon
        Valid geometries, at most 64.
    xs : ndarray (width,)
    ys : ndarray (height,)
        Coordinates of the grid's columns and rows, ascending.

    Returns
    -------
    ndarray (height, width) uint64
        Bit i is set where the point lies inside polygon i.
    """
    start, end, owner = _edges(polygons)
    first = np.searchsorted(ys, np.minimum(start[:, 1], end[:, 1]))
    count = np.searchsorted(ys, np.maximum(start[:, 1], end[:, 1])) - first
    edge = np.repeat(np.arange(len(first)), count)
    row = np.arange(len(edge)) + np.repeat(first - np.cumsum(count) + count, count)
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    crossing = x0 + (ys[row] - y0) * ((x1 - x0) / (y1 - y0))
    column = np.searchsorted(xs, crossing)
    flips = np.zeros((len(ys), len(xs) + 1), dtype=np.uint64)
    bit = np.left_shift(np.uint64(1), owner[edge].astype(np.uint64))
    np.bitwise_xor.at(flips.ravel(), row * flips.shape[1] + column, bit)
    inside: RegionMap = np.bitwise_xor.accumulate(flips, axis=1)[:, :-1]
    return inside


def clear_outside(region_map: RegionMap, xs: FloatArray, ys: FloatArray, width: float, height: float) -> None:
    """Clear the bits of all points outside the image, in place.

    The result equals that of rasterizing polygons clipped to the image, in a fraction of the time.

    Parameters
    ----------
    region_map : ndarray (len(ys), len(xs)) uint64
    xs, ys : ndarray
        Coordinates of the grid, in pixels of the image.
    width, height : float
        Size of the image.
    """
    region_map[(ys < 0) | (ys >= height)] = 0
    region_map[:, (xs < 0) | (xs >= width)] = 0


def clear_background(region_map: RegionMap, person: npt.NDArray[np.floating[Any]]) -> None:
    """Clear the bits of top_of_head, ears and below_chin where an image shows its background, in place.

    These outlines are drawn at typical positions, so they may extend beyond the person.

    Parameters
    ----------
    region_map : ndarray (height, width) uint64
        On a grid of `sample_points`.
    person : ndarray (218, 178)
        Score of each pixel of the crop for showing a person, 0 to 1.
    """
    rows, cols = (
        nearest_centers(size, target).astype(np.intp)
        for size, target in zip(person.shape, region_map.shape, strict=True)
    )
    region_map[person[np.ix_(rows, cols)] < MIN_PERSON] &= ~MAY_REACH_BACKGROUND


def region_masks(region_map: RegionMap, count: int) -> npt.NDArray[np.bool_]:
    """Unpack a region map ``(height, width)`` into one mask per region ``(count, height, width)``."""
    shifts = np.arange(count, dtype=np.uint64)[:, None, None]
    return ((region_map >> shifts) & np.uint64(1)).astype(np.bool_)


def _edges(polygons: GeometryArray) -> tuple[FloatArray, FloatArray, npt.NDArray[np.intp]]:
    """Return start and end ``(m, 2)`` of all edges, and the polygon ``(m,)`` each one belongs to."""
    parts, part_owner = shapely.get_parts(polygons, return_index=True)
    rings, ring_part = shapely.get_rings(parts, return_index=True)
    points, point_ring = shapely.get_coordinates(rings, return_index=True)
    same_ring = point_ring[1:] == point_ring[:-1]
    owner = part_owner[ring_part[point_ring[:-1][same_ring]]]
    return points[:-1][same_ring], points[1:][same_ring], owner


class AttributeMasks:
    """Union of the regions of each attribute that an image has, packed eight masks to a bit plane.

    Parameters
    ----------
    region_bits : ndarray (attributes,) uint64
        Regions of each attribute, bit i for region i (`AttributeTable.region_bits`).
    """

    def __init__(self, region_bits: npt.NDArray[np.uint64]) -> None:
        groups = max(1, -(-int(region_bits.max(initial=0)).bit_length() // 8))
        shifts = np.arange(groups, dtype=np.uint64) * np.uint64(8)
        of_group = (region_bits >> shifts[:, None]) & np.uint64(255)
        touched = (np.arange(256, dtype=np.uint64)[:, None] & of_group[:, None, :]) != 0
        packed = np.packbits(touched, axis=2)
        self._packed_of_byte = np.ascontiguousarray(packed.transpose(0, 2, 1))
        """(groups, bit planes, 256): for each byte of a region map's value, the attributes of its regions."""

    def __call__(self, region_map: RegionMap, labels: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """Return the packed masks of one image.

        Parameters
        ----------
        region_map : ndarray (height, width) uint64
            From `rasterize`.
        labels : ndarray (attributes,) bool
            The attributes that the image has; the masks of all others are empty.

        Returns
        -------
        ndarray (ceil(attributes / 8), height, width) uint8
            The first attribute is the highest bit of the first bit plane, the order of `numpy.packbits`.
        """
        present = np.packbits(labels)
        packed = np.zeros((len(present), *region_map.shape), dtype=np.uint8)
        for group, table in enumerate(self._packed_of_byte & present[:, None]):
            byte = (region_map >> np.uint64(8 * group)).astype(np.uint8)
            packed |= np.take(table, byte, axis=1)
        return packed


def unpack_masks(packed: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """Unpack the first `count` masks: ``(count, height, width)`` uint8, 0 or 1."""
    return np.unpackbits(packed, axis=0, count=count)
