"""Outlines to binary masks by the pixel-center rule, and 40 masks packed into 5 bit planes."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from regions.boxes import Box
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH
from regions.landmarks import FloatArray
from regions.outlines import REGION_NAMES, Outlines, region_of_outline

MASK_VERSION = 2
"""Raised whenever masks of the same outlines change, so that shards built before are built again."""

MASK_HEIGHT, MASK_WIDTH = 96, 76

MIN_PERSON = 0.3
"""Pixels below this score are background. The limit keeps more hair than 0.5 and hardly more background."""
MAY_REACH_BACKGROUND = ("below_chin", "ears", "top_of_head")
"""The regions whose outlines may reach beyond the person."""

OutlineMap = npt.NDArray[np.uint8]
"""(ceil(outlines / 8), faces, height, width): bit i % 8 of byte i // 8 is set where outline i is around the pixel."""
Indices = npt.NDArray[np.intp]


class Grid(NamedTuple):
    """The points that the pixels of a mask sample: centers of pixels of a frame that is laid over a box of the image.

    Attributes
    ----------
    xs : ndarray (columns,)
    ys : ndarray (rows,)
        Ascending, in pixels of the frame.
    width, height : int
        Size of the frame.
    """

    xs: FloatArray
    ys: FloatArray
    width: int
    height: int


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


def crop_grid(height: int = MASK_HEIGHT, width: int = MASK_WIDTH) -> Grid:
    """Return the points of the crop that the pixels of a mask sample.

    A mask is defined at the size of the crop, 218x178, and resized to its own size by nearest
    neighbor, so each of its pixels samples the center of one pixel of the crop.

    Parameters
    ----------
    height, width : int
        Size of the mask.
    """
    xs, ys = nearest_centers(IMAGE_WIDTH, width), nearest_centers(IMAGE_HEIGHT, height)
    return Grid(xs, ys, IMAGE_WIDTH, IMAGE_HEIGHT)


def sample_points(box: Box, height: int = MASK_HEIGHT, width: int = MASK_WIDTH) -> tuple[FloatArray, FloatArray]:
    """Return the points of the image that the pixels of a mask sample: a `crop_grid` laid over the crop.

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
    return _laid_over(crop_grid(height, width), np.array(box))


def _laid_over(grid: Grid, boxes: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Return the columns and rows of a grid, ``(..., n)`` each, in pixels of the image; boxes ``(..., 4)``."""
    x0, y0, x1, y1 = np.moveaxis(boxes, -1, 0)[..., None]
    return x0 + grid.xs * (x1 - x0) / grid.width, y0 + grid.ys * (y1 - y0) / grid.height


class Edges(NamedTuple):
    """Edges of outlines, in the pixels in which the grid is given.

    Attributes
    ----------
    start, end : ndarray (faces, n, 2)
    outline : ndarray (n,)
        The outline of each edge.
    """

    start: FloatArray
    end: FloatArray
    outline: Indices


class Window(NamedTuple):
    """The part of the grid inside the image: the first and the last column and row, the last ones not included.

    Attributes
    ----------
    left, right, top, bottom : ndarray (faces,)
    """

    left: Indices
    right: Indices
    top: Indices
    bottom: Indices


def draw_outlines(
    outlines: Outlines, boxes: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], grid: Grid
) -> OutlineMap:
    """Return for each pixel of each face's masks the outlines that are around it an odd number of times.

    Parameters
    ----------
    outlines : Outlines
        Of the faces, in pixels of the image.
    boxes : ndarray (faces, 4)
        What the grid is laid over, in pixels of each face's image: x0, y0, x1, y1.
    sizes : ndarray (faces, 2)
        Width and height of the images; a point outside its image is in no outline.
    grid : Grid

    Returns
    -------
    ndarray (ceil(outlines / 8), faces, rows, columns) uint8
    """
    start, following, outline = _ring_edges(outlines.lengths)
    corner, extent = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    vertices = (outlines.vertices - corner) * (np.array([grid.width, grid.height]) / extent)
    edges = Edges(vertices[:, start], vertices[:, following], outline)
    return fill(edges, grid.xs, grid.ys, window_of(*_laid_over(grid, boxes), *sizes.T))


def _ring_edges(lengths: tuple[tuple[int, ...], ...]) -> tuple[Indices, Indices, Indices]:
    """Return the vertices at which each edge starts and ends, and its outline."""
    counts = np.array([length for region in lengths for length in region])
    outline = np.repeat(np.arange(len(counts)), counts)
    start = np.arange(len(outline))
    following = start + 1
    following[np.cumsum(counts) - 1] -= counts
    return start, following, outline


def window_of(xs: FloatArray, ys: FloatArray, width: npt.ArrayLike, height: npt.ArrayLike) -> Window:
    """Return the part of grids with columns and rows ``(faces, n)`` that lies inside images of some sizes."""
    within = ((points < limit).sum(axis=1) for points, limit in (
        (xs, 0), (xs, np.reshape(width, (-1, 1))), (ys, 0), (ys, np.reshape(height, (-1, 1)))
    ))  # fmt: skip
    return Window(*within)


def fill(edges: Edges, xs: FloatArray, ys: FloatArray, window: Window) -> OutlineMap:
    """Return for each point of a grid the outlines that are around it an odd number of times.

    All edges of all faces are processed at once: in the rows that it spans, an edge flips all points to its right.
    Edges beyond the left or the right of the window count at its side: so they flip all of its columns, or none, and
    behind its last column, where all outlines are closed, nothing is inside.

    Parameters
    ----------
    edges : Edges
        Of closed outlines.
    xs : ndarray (columns,)
    ys : ndarray (rows,)
        Ascending.
    window : Window
        Points outside of it are in no outline.

    Returns
    -------
    ndarray (ceil(outlines / 8), faces, rows, columns) uint8
    """
    faces, per_face = edges.start.shape[:2]
    planes, bits = edges.outline // 8, np.left_shift(1, edges.outline % 8).astype(np.uint8)
    flips = np.zeros((len(xs) + 1, int(planes.max(initial=0)) + 1, faces, len(ys)), dtype=np.uint8)
    edge, row = _rows_of_edges(edges, ys, window)
    x, y = edges.start[..., 0].ravel(), edges.start[..., 1].ravel()
    across, down = (edges.end - edges.start).reshape(-1, 2).T
    slope = np.divide(across, down, out=np.zeros_like(down), where=down != 0)
    crossing = x[edge] + (ys[row] - y[edge]) * slope[edge]
    face, of_face = np.divmod(edge, per_face)
    column = np.clip(count_below(xs, crossing), window.left[face], window.right[face])
    place = ((column * flips.shape[1] + planes[of_face]) * faces + face) * len(ys) + row
    np.bitwise_xor.at(flips.reshape(-1), place, bits[of_face])
    columns = flips[:-1].reshape(len(xs), -1)
    for before, after in itertools.pairwise(columns):
        np.bitwise_xor(before, after, out=after)
    return np.asarray(cv2.transpose(columns), dtype=np.uint8).reshape(*flips.shape[1:], len(xs))


def _rows_of_edges(edges: Edges, ys: FloatArray, window: Window) -> tuple[Indices, Indices]:
    """Return each pair of an edge, counted through all faces, and a row of the window that it spans."""
    limits = window.top[:, None], window.bottom[:, None]
    start, end = (np.clip(count_below(ys, points[..., 1]), *limits).ravel() for points in (edges.start, edges.end))
    spans = np.abs(start - end)
    edge = np.repeat(np.arange(len(spans)), spans)
    to_row = np.minimum(start, end) - (np.cumsum(spans) - spans)
    return edge, np.arange(len(edge)) + to_row[edge]


def count_below(centers: FloatArray, values: FloatArray) -> Indices:
    """Return how many of some ascending centers are below each value: a faster `numpy.searchsorted`.

    The centers are counted by buckets that hold at most one; only that one is compared.
    """
    buckets_per_pixel = 2 / float(np.diff(centers).min(initial=1.0))
    of_centers = ((centers - centers[0]) * buckets_per_pixel + 1).astype(np.intp)
    below_bucket = np.searchsorted(of_centers, np.arange(of_centers[-1] + 2))
    bucket = np.clip((values - centers[0]) * buckets_per_pixel + 1, 0, of_centers[-1] + 1).astype(np.intp)
    below = below_bucket[bucket]
    counted: Indices = below + (np.append(centers, np.inf)[below] < values)
    return counted


def clear_background(outline_map: OutlineMap, person: npt.NDArray[np.floating[Any]]) -> None:
    """Clear the bits of top_of_head, ears and below_chin where an image shows its background, in place.

    These outlines are drawn at typical positions, so they may extend beyond the person.

    Parameters
    ----------
    outline_map : ndarray (ceil(outlines / 8), height, width) uint8
        Of one face, on a `crop_grid`.
    person : ndarray (218, 178)
        Score of each pixel of the crop for showing a person, 0 to 1.
    """
    rows, cols = (
        nearest_centers(size, target).astype(np.intp)
        for size, target in zip(person.shape, outline_map.shape[1:], strict=True)
    )
    bits = _bits_that_may_reach_background()
    outline_map[: len(bits), person[np.ix_(rows, cols)] < MIN_PERSON] &= ~bits[:, None]


@functools.cache
def _bits_that_may_reach_background() -> npt.NDArray[np.uint8]:
    """Return the outlines of `MAY_REACH_BACKGROUND` as bits, eight outlines a byte."""
    regions = [REGION_NAMES.index(name) for name in MAY_REACH_BACKGROUND]
    return np.packbits(np.isin(region_of_outline(), regions), bitorder="little")


class AttributeMasks:
    """Union of the regions of each attribute that an image has, packed eight masks to a bit plane.

    Parameters
    ----------
    region_bits : ndarray (attributes,) uint64
        Regions of each attribute, bit i for region i (`AttributeTable.region_bits`).
    outline_regions : ndarray (outlines,)
        Region of each outline (`regions.outlines.region_of_outline`).
    """

    def __init__(self, region_bits: npt.NDArray[np.uint64], outline_regions: Indices) -> None:
        bytes_needed = -(-len(outline_regions) // 8)
        outline_counts = np.zeros((8 * bytes_needed, len(region_bits)), dtype=np.uint8)
        outline_counts[: len(outline_regions)] = (region_bits >> outline_regions[:, None].astype(np.uint64)) & 1
        bits_of_byte = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
        touched = bits_of_byte @ outline_counts.reshape(bytes_needed, 8, -1) != 0
        self._packed_of_byte = np.ascontiguousarray(np.packbits(touched, axis=2).transpose(2, 0, 1))
        """(bit planes, bytes, 256): for each value of a byte of an outline map, the attributes of its outlines."""

    def __call__(self, outline_map: OutlineMap, labels: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """Return the packed masks of some images.

        Parameters
        ----------
        outline_map : ndarray (ceil(outlines / 8), faces, height, width) uint8
            From `draw_outlines`.
        labels : ndarray (faces, attributes) bool
            The attributes that each image has; the masks of all others are empty.

        Returns
        -------
        ndarray (faces, ceil(attributes / 8), height, width) uint8
            The first attribute is the highest bit of the first bit plane, the order of `numpy.packbits`.
        """
        faces, height, width = outline_map.shape[1:]
        present = np.packbits(labels, axis=1).T
        packed = np.zeros((len(present), faces, height, width), dtype=np.uint8)
        for plane, tables in zip(packed.reshape(len(present), -1, width), self._packed_of_byte, strict=True):
            for outlines, table in zip(outline_map.reshape(len(tables), -1, width), tables, strict=True):
                np.bitwise_or(plane, cv2.LUT(outlines, table), out=plane)
        packed &= present[:, :, None, None]
        return packed.swapaxes(0, 1)


def unpack_masks(packed: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """Unpack the first `count` masks: ``(count, height, width)`` uint8, 0 or 1."""
    return np.unpackbits(packed, axis=0, count=count)
