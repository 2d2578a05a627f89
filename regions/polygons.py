"""Ten base-region polygons from 68 landmarks.

Every outline is drawn in the face's own frame (`regions.landmarks.FaceFrame`), so the regions
shift, scale and rotate with the landmarks. The outlines follow Thom & Hand, section 3, without the
faults of the public rules: they do not depend on the position of the face in the image, and no
region is dropped because a vertex lies outside the image.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from regions.landmarks import FloatArray, check_landmarks, face_frame

RULES_VERSION = 2
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
"""A landmark index, or weights by landmark index with sum 1: ``{"27": 0.5, "39": 0.5}`` is the midpoint of two
landmarks, ``{"19": 2, "37": -1}`` the reflection of landmark 37 in landmark 19."""
FurtherRegions = Mapping[str, Sequence[Sequence[Vertex]]]
"""The outlines of each region beyond the ten, as lists of vertices."""

JAW_BELOW_MOUTH = [5, 6, 7, 8, 9, 10, 11]
JAW_EDGE_BELOW_CHIN = [4, *JAW_BELOW_MOUTH, 12]
JAW_SIDES = np.array([[0, 1, 2, 3, 4, 5], [16, 15, 14, 13, 12, 11]])
MOUTH = list(range(48, 60))
NOSE_BASE = [32, 33, 34]
NOSTRIL_ENDS, NEXT_TO_THEM, INNER_EYE_CORNERS = [31, 35], [32, 34], [39, 42]
LIDS = np.array([[36, 37, 38, 39], [45, 44, 43, 42], [39, 40, 41, 36], [42, 47, 46, 45]])
"""The upper lids from the outer to the inner corner, the lower lids back."""
BROWS = np.array([[17, 18, 19, 20, 21], [26, 25, 24, 23, 22]])
"""From the outer to the inner end."""

OUTWARDS = np.array([[-1.0], [1.0]])
"""Sign of x towards the outside of the face, for its left and its right side."""

# All lengths are in eye distances (see FaceFrame). See docs/regions.md for their origin.

MOUTH_GROWTH = np.array([1.02, 1.05])
"""Factors of width and height: the points lie on the lips' edge or just inside, and straight lines cut its curves."""

WING_WIDTH = 0.75
"""Extent of a wing beyond the end of its nostril, in steps between two nostril points."""
WING_HEIGHT = 0.08
"""Height of the widest part of the wings, in lengths of the nose."""
BRIDGE = 0.45
"""Half the width of the nose at the bridge, as a fraction of the distance to the inner eye corner."""

BROW_ABOVE, BROW_BELOW = np.linspace(0.035, 0.05, 5), np.linspace(0.075, 0.12, 5)
"""Distances of the edges from the points, which follow the upper half of the hair; brows are thin at the outer end."""
BROW_ENDS = np.array([0.05, 0.0, 0.0, 0.0, -0.02])
"""Distance of the ends of the hair inwards from the end points."""

EAR_WIDTH = 0.20
"""Width of an ear in a frontal view; on the side facing the viewer it is wider by the shift of the ears."""
EAR_SHAPE = np.array([0.85, 1.08, 1.0, 0.88, 0.65])
"""Width of an ear from top to lobe, as fractions of `EAR_WIDTH`."""

BELOW_CHIN_LENGTH, BELOW_CHIN_HALF_WIDTH = 0.9, 0.6
"""The part that collars and shoulders usually leave visible."""
BELOW_CHIN_BEHIND = 2.0
"""Horizontal shift of the lower edge from the chin, as a multiple of the shift of the ears."""

HAIRLINE_ABOVE_BROWS, TOP_OF_HEAD_ABOVE_BROWS = 0.75, 2.0
"""The forehead is nearly as high as the nose is long; the skull ends about 1.65 above the brows, the hair above it."""
TOP_OF_HEAD_SIDE = 0.5
"""Width of the hair beside the temples."""
TOP_OF_HEAD_BEHIND = 0.7
"""Shift of the back of the head, which lies behind the ears, as a multiple of the shift of the ears."""
TOP_OF_HEAD_BELOW_TEMPLES = 0.4
"""Hair beside the face extends down to the ears."""


def _along_jaw(first: float, last: float, count: int) -> FloatArray:
    """Return weights ``(count, 4)`` of points along the first four points of a side of the jaw."""
    at = np.linspace(first, last, count)
    return np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(4)))


def _cubic_curve(count: int) -> FloatArray:
    """Return weights ``(count, 4)`` of points along the cubic curve through four points."""
    at, nodes = np.linspace(0, 1, count), np.linspace(0, 1, 4)
    bases = [np.poly1d(np.poly(np.delete(nodes, i))) for i in range(4)]
    return np.stack([base(at) / base(node) for base, node in zip(bases, nodes, strict=True)], axis=1)


EAR_FRONT = _along_jaw(0.2, 2.3, len(EAR_SHAPE))
LID_CURVE = _cubic_curve(7)
ARCH = np.array([(np.cos(angle), np.sin(angle)) for angle in np.linspace(np.pi, 0, 15)])
"""Upper half of the unit circle, from left to right."""


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
    points = check_landmarks(landmarks)
    frame = face_frame(points)
    face = frame.to_face(points)
    outlines = [*_base_outlines(face), *_further_outlines(face, further or {})]
    vertices = frame.to_image(np.concatenate([ring for region in outlines for ring in region]))
    return _valid_regions(vertices, tuple(tuple(map(len, region)) for region in outlines))


def _base_outlines(face: FloatArray) -> list[list[FloatArray]]:
    """Return the rings of each base region in face coordinates, in the order of `REGION_NAMES`."""
    ears = (face[0] + face[16]) / 2
    mouth = _mouth(face)
    noses = _sides_of_nose(face)
    lids = LID_CURVE @ face[LIDS]
    return [
        [_below_chin(face, ears)],
        [np.concatenate([face[JAW_BELOW_MOUTH], mouth[6:], mouth[:1]])],
        _cheeks(face, mouth, noses, lids),
        [mouth],
        [np.concatenate([noses[0, 3:], face[NOSE_BASE], noses[1, 3:], mouth[6::-1]])],
        [np.concatenate([noses[0], face[NOSE_BASE], noses[1, ::-1]])],
        [np.concatenate([upper, lower[1:-1]]) for upper, lower in zip(lids[:2], lids[2:], strict=True)],
        list(_brows(face)),
        list(_ears(face, ears)),
        [_top_of_head(face, ears)],
    ]


def _further_outlines(face: FloatArray, further: FurtherRegions) -> list[list[FloatArray]]:
    return [[_draw(face, ring) for ring in rings] for rings in further.values()]


def _draw(face: FloatArray, ring: Sequence[Vertex]) -> FloatArray:
    weighted = [[(vertex, 1.0)] if isinstance(vertex, int) else list(vertex.items()) for vertex in ring]
    landmarks = [int(landmark) for vertex in weighted for landmark, _ in vertex]
    weights = np.array([[weight] for vertex in weighted for _, weight in vertex])
    starts = list(itertools.accumulate(map(len, weighted[:-1]), initial=0))
    points: FloatArray = np.add.reduceat(face[landmarks] * weights, starts)
    return points


def _mouth(face: FloatArray) -> FloatArray:
    """Draw the lips: the outer 12 points, moved a little outwards. chin and above_mouth end at this outline."""
    points = face[MOUTH]
    middle = points.sum(axis=0) / len(MOUTH)
    grown: FloatArray = middle + (points - middle) * MOUTH_GROWTH
    return grown


def _sides_of_nose(face: FloatArray) -> FloatArray:
    r"""Draw the two sides of the nose ``(2, 4, 2)`` from top to wing, narrow along the bridge and wide at the wings.

    ::

             a27a       a: BRIDGE of the distance from 27 to the inner eye corner
            b 28 b      b: the same from 28
            /    \
           c      c     c: WING_HEIGHT above d
           d31  35d     d: WING_WIDTH beyond the nostril's end
    """
    corners = face[INNER_EYE_CORNERS]
    wings = face[NOSTRIL_ENDS] + WING_WIDTH * (face[NOSTRIL_ENDS] - face[NEXT_TO_THEM])
    above = wings + WING_HEIGHT * (face[27] - face[33])
    beside_bridge = [point + BRIDGE * (corners - point) for point in face[27:29]]
    return np.stack([*beside_bridge, above, wings], axis=1)


def _cheeks(face: FloatArray, mouth: FloatArray, noses: FloatArray, lids: FloatArray) -> list[FloatArray]:
    """Draw each cheek: from the jaw to the corner of the mouth, the side of the nose and the lower lid."""
    corners = (mouth[:1], mouth[6:7])
    return [
        np.concatenate([face[JAW_SIDES[side]], corners[side], noses[side, :1:-1], lids[2 + side]])
        for side in (0, 1)
    ]  # fmt: skip


def _brows(face: FloatArray) -> FloatArray:
    """Draw each eyebrow ``(2, 10, 2)`` as a band around its five points, thicker at the inner end."""
    x, y = face[BROWS, 0] - OUTWARDS * BROW_ENDS, face[BROWS, 1]
    return _bands((x, y - BROW_ABOVE), (x, y + BROW_BELOW))


def _ears(face: FloatArray, ears: FloatArray) -> FloatArray:
    """Draw each ear ``(2, 10, 2)`` outside the upper jaw line.

    As the head turns, both ears shift to the side facing the viewer. The ear on that side becomes wider; the other
    one becomes narrower, and is hidden where the upper end of the jaw no longer protrudes beyond that of the brow.
    """
    front = EAR_FRONT @ face[JAW_SIDES[:, :4]]
    protrusion = OUTWARDS * (face[JAW_SIDES[:, :1], 0] - face[BROWS[:, :1], 0])
    width = np.maximum(np.minimum(EAR_WIDTH + OUTWARDS * ears[0], protrusion), 0.0)
    x, y = front[:, :, 0], front[:, :, 1]
    return _bands((x, y), (x + OUTWARDS * width * EAR_SHAPE, y))


def _bands(one: tuple[FloatArray, FloatArray], other: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Join two edges, each x and y ``(n, points)``, to rings ``(n, 2 * points, 2)``."""
    x = np.concatenate([one[0], other[0][:, ::-1]], axis=1)
    y = np.concatenate([one[1], other[1][:, ::-1]], axis=1)
    return np.stack([x, y], axis=2)


def _below_chin(face: FloatArray, ears: FloatArray) -> FloatArray:
    r"""Draw the region from the jaw down to a straight edge, which moves less than the chin as the head turns.

    ::

        4                12
         \ 5          11/
          \  \__8___/  /
           \          /    BELOW_CHIN_LENGTH below 8
            ----------     2 BELOW_CHIN_HALF_WIDTH
    """
    chin = face[8]
    middle = chin[0] + BELOW_CHIN_BEHIND * (ears[0] - chin[0])
    bottom = chin[1] + BELOW_CHIN_LENGTH
    edge = np.array([[middle + BELOW_CHIN_HALF_WIDTH, bottom], [middle - BELOW_CHIN_HALF_WIDTH, bottom]])
    return np.concatenate([face[JAW_EDGE_BELOW_CHIN], edge])


def _top_of_head(face: FloatArray, ears: FloatArray) -> FloatArray:
    r"""Draw the hair: between an arch over the head and an arch over the forehead, and down beside the temples.

    ::

              ________
            /          \     TOP_OF_HEAD_ABOVE_BROWS
           /   ______   \
          |  /        \  |   HAIRLINE_ABOVE_BROWS
          | 0          16|   temples: the upper ends of the jaw line
          |_|          |_|   TOP_OF_HEAD_BELOW_TEMPLES
    """
    half_width, slope = (face[16] - face[0]) / 2
    brows = face[17:27, 1].sum() / 10

    def arch(left_side: float, right_side: float, above_brows: float) -> FloatArray:
        reach = half_width + np.where(ARCH[:, 0] < 0, left_side, right_side)
        x = ears[0] + ARCH[:, 0] * np.maximum(reach, 0.0)
        y = ears[1] + ARCH[:, 0] * slope - ARCH[:, 1] * (ears[1] - brows + above_brows)
        return np.stack([x, y], axis=1)

    behind = TOP_OF_HEAD_BEHIND * ears[0]
    hair = arch(TOP_OF_HEAD_SIDE - behind, TOP_OF_HEAD_SIDE + behind, TOP_OF_HEAD_ABOVE_BROWS)
    forehead = arch(0.0, 0.0, HAIRLINE_ABOVE_BROWS)[::-1]
    down = (0.0, TOP_OF_HEAD_BELOW_TEMPLES)
    return np.concatenate(
        [hair[:1] + down, hair, hair[-1:] + down, forehead[:1] + down, forehead, forehead[-1:] + down]
    )


def _valid_regions(vertices: FloatArray, ring_lengths: tuple[tuple[int, ...], ...]) -> GeometryArray:
    """Build one valid geometry per region; self-crossing outlines are split at the crossing.

    Parameters
    ----------
    vertices : ndarray (n, 2)
        Vertices of all rings of all regions, in order.
    ring_lengths : tuple of tuple of int
        Numbers of vertices of the rings of each region.
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
