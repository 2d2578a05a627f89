"""Ten base-region polygons from 68 landmarks.

Every outline is drawn in the face's own frame (`regions.landmarks.FaceFrame`), so the regions
shift, scale and turn with the landmarks. Outlines after Thom & Hand, section 3, with the faults
of the public rules left out: nothing depends on where the face lies in the picture, and nothing
is dropped because a vertex lies outside of it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from regions.landmarks import FloatArray, check_landmarks, face_frame

RULES_VERSION = 1
"""Raised whenever an outline changes, so that shards built before are built again."""

REGION_NAMES = (
    "below_chin",
    "chin",
    "cheeks",
    "mouth",
    "above_mouth",
    "nose",
    "eyes",
    "eyebrows",
    "ears",
    "top_of_head",
)

GeometryArray = npt.NDArray[Any]
"""Object array of shapely geometries."""

Vertex = int | Mapping[str, float]
"""A landmark index, or weights by landmark index that add up to 1: ``{"27": 0.5, "39": 0.5}`` lies half-way between
two landmarks, ``{"19": 2, "37": -1}`` as far beyond the first as the second is before it."""
FurtherRegions = Mapping[str, Sequence[Sequence[Vertex]]]
"""For each region beside the ten its outlines, as lists of vertices."""

CHIN = [5, 6, 7, 8, 9, 10, 11, 54, 55, 56, 57, 58, 59, 48]
CHEEKS = (
    [0, 1, 2, 3, 4, 5, 48, 31, 39, 40, 41, 36],
    [16, 15, 14, 13, 12, 11, 54, 35, 42, 47, 46, 45],
)
ABOVE_MOUTH = [48, 31, 32, 33, 34, 35, 54, 53, 52, 51, 50, 49]
MOUTH = list(range(48, 60))
EYES = (list(range(36, 42)), list(range(42, 48)))
BROWS = ([17, 18, 19, 20, 21], [26, 25, 24, 23, 22])

EARS = (([0, 1, 2, 3], 17), ([16, 15, 14, 13], 26))

# Lengths in eye distances (see FaceFrame).
NECK_LENGTH = 0.6
BROW_ABOVE, BROW_BELOW = 0.05, 0.10
EAR_WIDTH = 0.28
# The eyes lie half-way between chin and top of the head, and the forehead is nearly as high as the nose is long.
HAIRLINE_ABOVE_BROWS, CROWN_ABOVE_BROWS = 0.7, 1.65
CROWN_SIDE = 0.5
ARCH = np.array([(np.cos(angle), np.sin(angle)) for angle in np.linspace(np.pi, 0, 13)])
"""Half a unit circle over the origin, from left to right."""


def region_polygons(landmarks: FloatArray, further: FurtherRegions | None = None) -> GeometryArray:
    """Return the base regions of a face as valid polygons.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the picture; points may lie outside of it.
    further : mapping, optional
        More regions by name: for each its outlines, as lists of vertices.

    Returns
    -------
    ndarray (10 + len(further),) of shapely Polygon or MultiPolygon
        In the order of `REGION_NAMES`, then that of `further`; pixels of the picture. A region
        without area (points on one line) is an empty polygon.

    Raises
    ------
    ValueError
        If the landmarks are not 68 finite points.
    """
    points = check_landmarks(landmarks)
    frame = face_frame(points)
    face = frame.to_face(points)
    outlines = [*_base_outlines(face), *_further_outlines(face, further or {})]
    vertices = frame.to_picture(np.concatenate([ring for region in outlines for ring in region]))
    return _valid_regions(vertices, tuple(tuple(map(len, region)) for region in outlines))


def _base_outlines(face: FloatArray) -> list[list[FloatArray]]:
    """Return the rings of each base region in face coordinates, in the order of `REGION_NAMES`."""
    return [
        [_below_chin(face)],
        [face[CHIN]],
        [face[side] for side in CHEEKS],
        [face[MOUTH]],
        [face[ABOVE_MOUTH]],
        [_nose(face)],
        [face[side] for side in EYES],
        [_brow(face[side]) for side in BROWS],
        [_ear(face[side], face[brow_end]) for side, brow_end in EARS],
        [_top_of_head(face)],
    ]


def _further_outlines(face: FloatArray, further: FurtherRegions) -> list[list[FloatArray]]:
    return [[np.array([_vertex(face, vertex) for vertex in ring]) for ring in rings] for rings in further.values()]


def _vertex(face: FloatArray, vertex: Vertex) -> FloatArray:
    weights = {vertex: 1.0} if isinstance(vertex, int) else vertex
    point: FloatArray = np.array(list(weights.values())) @ face[list(map(int, weights))]
    return point


def _below_chin(face: FloatArray) -> FloatArray:
    r"""Draw the neck: the lower jaw, and the same line moved down.

    ::

        5         11
         \_     _/
        |   \_8_/  |
        |          |  NECK_LENGTH
         \_     _/
            \___/
    """
    jaw = face[5:12]
    return np.concatenate([jaw, jaw[::-1] + [0.0, NECK_LENGTH]])


def _nose(face: FloatArray) -> FloatArray:
    r"""Draw the nose: half the way from the bridge to the inner eye corners, and around the wings.

    ::

            . 27 .
           /      \
          /        \
        31'32 33 34 35'    31' and 35': pushed outwards by the step between nostril points
    """
    left_wing = 2 * face[31] - face[32]
    right_wing = 2 * face[35] - face[34]
    bridge_left, bridge_right = (face[27] + face[39]) / 2, (face[27] + face[42]) / 2
    return np.array([bridge_left, left_wing, *face[32:35], right_wing, bridge_right])


def _brow(line: FloatArray) -> FloatArray:
    """Draw an eyebrow as a band about its five points, which lie along its upper half."""
    return np.concatenate([line - [0.0, BROW_ABOVE], line[::-1] + [0.0, BROW_BELOW]])


def _ear(jaw: FloatArray, brow_end: FloatArray) -> FloatArray:
    """Draw an ear: a band outside the upper jaw line ``(4, 2)``.

    It is as wide as the jaw line stands out from the end of the eyebrow, and at most `EAR_WIDTH`:
    as the head turns away, both come together and the ear is no longer seen.
    """
    side = np.sign(jaw[0, 0]) or 1.0
    width = np.clip(side * (jaw[0, 0] - brow_end[0]), 0.0, EAR_WIDTH)
    return np.concatenate([jaw, jaw[::-1] + [side * width, 0.0]])


def _top_of_head(face: FloatArray) -> FloatArray:
    r"""Draw the hair: the part of an arch over the head that lies above the forehead.

    ::

             ______
           /        \      CROWN_ABOVE_BROWS
          /  ______  \
         /  /      \  \    HAIRLINE_ABOVE_BROWS
        |  |        |  |
           0        16     temples: the upper ends of the jaw line
    """
    left, right = face[0], face[16]
    brows = face[17:27, 1].sum() / 10
    middle, half_width = (left + right) / 2, (right - left) / 2

    def arch(side: float, above_brows: float) -> FloatArray:
        height = middle[1] - brows + above_brows
        x = middle[0] + ARCH[:, 0] * (half_width[0] + side)
        y = middle[1] + ARCH[:, 0] * half_width[1] - ARCH[:, 1] * height
        return np.stack([x, y], axis=1)

    return np.concatenate([arch(CROWN_SIDE, CROWN_ABOVE_BROWS), arch(0.0, HAIRLINE_ABOVE_BROWS)[::-1]])


def _valid_regions(vertices: FloatArray, ring_lengths: tuple[tuple[int, ...], ...]) -> GeometryArray:
    """Build one valid geometry per region; outlines that cross themselves are split there.

    Parameters
    ----------
    vertices : ndarray (n, 2)
        Of all rings of all regions, in order.
    ring_lengths : tuple of tuple of int
        For each region the numbers of vertices of its rings.
    """
    ring_of_vertex, first_rings, further_rings = _ring_indices(ring_lengths)
    polygons = shapely.polygons(shapely.linearrings(vertices, indices=ring_of_vertex))
    invalid = np.flatnonzero(~shapely.is_valid(polygons))
    if len(invalid):
        polygons[invalid] = _areas_only(shapely.make_valid(polygons[invalid]))
    regions: GeometryArray = polygons[first_rings]
    for region, ring in further_rings:
        regions[region] = shapely.union(regions[region], polygons[ring])
    return regions


@functools.lru_cache(maxsize=8)
def _ring_indices(
    ring_lengths: tuple[tuple[int, ...], ...],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], list[tuple[int, int]]]:
    """Return the ring of each vertex, the first ring of each region, and (region, ring) of the further ones."""
    lengths = [length for region in ring_lengths for length in region]
    first_rings = np.cumsum([0, *map(len, ring_lengths[:-1])])
    further = [
        (region, int(first_rings[region]) + number)
        for region, own in enumerate(ring_lengths)
        for number in range(1, len(own))
    ]
    return np.repeat(np.arange(len(lengths)), lengths), first_rings, further


def _areas_only(geometries: GeometryArray) -> GeometryArray:
    """Drop the points and lines that making an outline valid or clipping it leaves behind."""
    result = np.empty(len(geometries), dtype=object)
    for index, geometry in enumerate(geometries):
        parts = shapely.get_parts(shapely.get_parts(geometry))
        result[index] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
        if shapely.is_empty(result[index]):
            result[index] = shapely.Polygon()
    return result


def clip_to_frame(polygons: GeometryArray, width: float, height: float) -> GeometryArray:
    """Cut off what lies outside the picture.

    Parameters
    ----------
    polygons : ndarray of shapely geometries
        In pixels of the picture.
    width, height : float
        Size of the picture, in pixels.

    Returns
    -------
    ndarray of shapely Polygon or MultiPolygon
        A region that lies wholly outside is an empty polygon.
    """
    left, top, right, bottom = shapely.bounds(polygons).T
    crossing = np.flatnonzero((left < 0) | (top < 0) | (right > width) | (bottom > height))
    if not len(crossing):
        return polygons
    clipped = polygons.copy()
    clipped[crossing] = _areas_only(shapely.intersection(polygons[crossing], shapely.box(0, 0, width, height)))
    return clipped
