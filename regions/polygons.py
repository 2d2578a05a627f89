"""The regions of a face as valid polygons, for drawings and releases."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from regions.landmarks import FloatArray
from regions.masks import Edges, fill, window_of
from regions.outlines import FurtherRegions, Outlines, face_outlines

GeometryArray = npt.NDArray[Any]
"""Object array of shapely geometries."""


def region_polygons(landmarks: FloatArray, further: FurtherRegions | None = None) -> GeometryArray:
    """Return the base regions of a face as valid polygons.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image; points may lie outside the image.
    further : mapping, optional
        Outlines of more regions by name, as lists of vertices.

    Returns
    -------
    ndarray (10 + len(further),) of shapely Polygon or MultiPolygon
        In the order of `REGION_NAMES`, then that of `further`; pixels of the image. A region
        without area (collinear points) is an empty polygon.

    Raises
    ------
    ValueError
        If the landmarks are not 68 finite points.
    """
    return _valid_regions(face_outlines(np.asarray(landmarks)[None], further))


def _valid_regions(outlines: Outlines) -> GeometryArray:
    """Build one valid geometry per region of the first face; self-crossing outlines are split at the crossing."""
    lengths = [length for region in outlines.lengths for length in region]
    outline_of_vertex = np.repeat(np.arange(len(lengths)), lengths)
    polygons = shapely.polygons(shapely.linearrings(outlines.vertices[0], indices=outline_of_vertex))
    invalid = np.flatnonzero(~shapely.is_valid(polygons))
    if len(invalid):
        polygons[invalid] = _areas_only(shapely.make_valid(polygons[invalid]))
    regions = np.empty(len(outlines.lengths), dtype=object)
    own = iter(polygons)
    for region, counts in enumerate(outlines.lengths):
        first, *others = itertools.islice(own, len(counts))
        regions[region] = functools.reduce(shapely.union, others, first)
    return regions


def _areas_only(geometries: GeometryArray) -> GeometryArray:
    """Drop the points and lines that remain after making an outline valid or clipping it."""
    result = np.empty(len(geometries), dtype=object)
    for index, geometry in enumerate(geometries):
        parts = shapely.get_parts(shapely.get_parts(geometry))
        result[index] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
        if shapely.is_empty(result[index]):
            result[index] = shapely.Polygon()
    return result


def clip_to_frame(polygons: GeometryArray, width: float, height: float) -> GeometryArray:
    """Clip polygons to the image.

    Parameters
    ----------
    polygons : ndarray of shapely geometries
        In pixels of the image.
    width, height : float
        Size of the image, in pixels.

    Returns
    -------
    ndarray of shapely Polygon or MultiPolygon
        A region entirely outside is an empty polygon.
    """
    left, top, right, bottom = shapely.bounds(polygons).T
    crossing = np.flatnonzero((left < 0) | (top < 0) | (right > width) | (bottom > height))
    if not len(crossing):
        return polygons
    clipped = polygons.copy()
    clipped[crossing] = _areas_only(shapely.intersection(polygons[crossing], shapely.box(0, 0, width, height)))
    return clipped


def polygon_masks(
    polygons: GeometryArray, xs: FloatArray, ys: FloatArray, width: float = math.inf, height: float = math.inf
) -> npt.NDArray[np.bool_]:
    """Return the points of a grid inside each polygon, by the same rasterizer as the masks of shards.

    Parameters
    ----------
    polygons : ndarray (n,) of shapely Polygon or MultiPolygon
        Valid geometries, in pixels of the image.
    xs : ndarray (columns,)
    ys : ndarray (rows,)
        Of the grid, ascending, in pixels of the image.
    width, height : float
        Size of the image; points outside are in no polygon.

    Returns
    -------
    ndarray (n, rows, columns) bool
    """
    parts, part_owner = shapely.get_parts(polygons, return_index=True)
    rings, ring_part = shapely.get_rings(parts, return_index=True)
    points, point_ring = shapely.get_coordinates(rings, return_index=True)
    same_ring = point_ring[1:] == point_ring[:-1]
    owner = part_owner[ring_part[point_ring[:-1][same_ring]]]
    edges = Edges(points[:-1][same_ring][None], points[1:][same_ring][None], owner)
    bits = fill(edges, xs, ys, window_of(xs[None], ys[None], width, height))[:, 0]
    return np.unpackbits(bits, axis=0, count=len(polygons), bitorder="little").astype(np.bool_)
