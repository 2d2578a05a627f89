"""The outlines of ten base regions from 68 landmarks, for many faces at once.

Every outline is drawn in the face's own frame (`regions.landmarks.FaceFrame`), so the regions
shift, scale and rotate with the landmarks. The outlines follow Thom & Hand, section 3, without the
faults of the public rules: they do not depend on the position of the face in the image, and no
region is dropped because a vertex lies outside the image.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from regions.landmarks import FloatArray, check_landmarks, face_frame

RULES_VERSION = 3
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

OUTLINES_OF_REGION = (1, 1, 2, 1, 1, 1, 2, 2, 2, 1)
"""Number of outlines of each base region: one, or one on each side of the face."""

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
    weights: FloatArray = np.stack([base(at) / base(node) for base, node in zip(bases, nodes, strict=True)], axis=1)
    return weights.round(12)


EAR_FRONT = _along_jaw(0.2, 2.3, len(EAR_SHAPE))
LID_CURVE = _cubic_curve(7)
ARCH = np.array([(np.cos(angle), np.sin(angle)) for angle in np.linspace(np.pi, 0, 15)]).round(12)
"""Upper half of the unit circle, from left to right."""


class Outlines(NamedTuple):
    """The outlines of the regions of several faces.

    Attributes
    ----------
    vertices : ndarray (faces, n, 2) float64
        Of all outlines of all regions, in order; pixels of the image. The last vertex of an outline joins its first.
    lengths : tuple of tuple of int
        Number of vertices of each outline of each region.
    """

    vertices: FloatArray
    lengths: tuple[tuple[int, ...], ...]


def face_outlines(landmarks: FloatArray, further: FurtherRegions | None = None) -> Outlines:
    """Draw the regions of faces as outlines, which may cross themselves.

    A point is in a region if one of its outlines is around it an odd number of times. All arithmetic is elementwise
    or a sum in a fixed order, so a face has the same vertices, to the last bit, alone and among others.

    Parameters
    ----------
    landmarks : ndarray (faces, 68, 2)
        In pixels of the image; points may lie outside the image.
    further : mapping, optional
        Outlines of more regions by name, as lists of vertices.

    Returns
    -------
    Outlines
        Of the ten regions in the order of `REGION_NAMES`, then of `further`.

    Raises
    ------
    ValueError
        If the landmarks of a face are not 68 finite points.
    """
    points = check_landmarks(landmarks)
    frame = face_frame(points)
    face = frame.to_face(points)
    outlines = [*_base_outlines(face), *_further_outlines(face, further or {})]
    vertices = frame.to_image(np.concatenate([ring for region in outlines for ring in region], axis=1))
    return Outlines(vertices, tuple(tuple(ring.shape[1] for ring in region) for region in outlines))


def region_of_outline(further: FurtherRegions | None = None) -> npt.NDArray[np.intp]:
    """Return the index of the region ``(outlines,)`` of each outline that `face_outlines` draws."""
    counts = [*OUTLINES_OF_REGION, *map(len, (further or {}).values())]
    return np.repeat(np.arange(len(counts)), counts)


def _base_outlines(face: FloatArray) -> list[list[FloatArray]]:
    """Return the outlines ``(faces, n, 2)`` of each base region in face coordinates, in the order of `REGION_NAMES`."""
    ears = (face[:, 0] + face[:, 16]) / 2
    mouth = _mouth(face)
    left, right = _sides_of_nose(face)
    lids = _blend(LID_CURVE, face, LIDS)
    jaw, base = _points(face, JAW_BELOW_MOUTH), _points(face, NOSE_BASE)
    upper_lip = mouth[:, 6::-1]
    return [
        [_below_chin(face, ears)],
        [_joined(jaw, mouth[:, 6:], mouth[:, :1])],
        _cheeks(face, mouth, (left, right), lids),
        [mouth],
        [_joined(left[:, 3:], base, right[:, 3:], upper_lip)],
        [_joined(left, base, right[:, ::-1])],
        [_joined(lids[:, side], lids[:, 2 + side, 1:-1]) for side in (0, 1)],
        _brows(face),
        _ears(face, ears),
        [_top_of_head(face, ears)],
    ]


def _points(face: FloatArray, landmarks: npt.ArrayLike) -> FloatArray:
    """Return some landmarks ``(faces, *landmarks.shape, 2)``."""
    chosen: FloatArray = np.take(face, np.asarray(landmarks), axis=1)
    return chosen


def _joined(*parts: FloatArray) -> FloatArray:
    """Join parts ``(faces, n, 2)`` of an outline."""
    return np.concatenate(parts, axis=1)


def _blend(weights: FloatArray, face: FloatArray, landmarks: npt.NDArray[np.intp]) -> FloatArray:
    """Return the points ``(faces, curves, n, 2)`` with weights ``(n, k)`` between landmarks ``(curves, k)``."""
    nodes = _points(face, landmarks)
    parts = (weights[:, k, None] * nodes[:, :, None, k] for k in range(weights.shape[1]))
    return functools.reduce(np.add, parts)


def _further_outlines(face: FloatArray, further: FurtherRegions) -> list[list[FloatArray]]:
    return [[_draw(face, ring) for ring in rings] for rings in further.values()]


def _draw(face: FloatArray, ring: Sequence[Vertex]) -> FloatArray:
    weighted = [[(vertex, 1.0)] if isinstance(vertex, int) else list(vertex.items()) for vertex in ring]
    landmarks = [int(landmark) for vertex in weighted for landmark, _ in vertex]
    weights = np.array([[weight] for vertex in weighted for _, weight in vertex])
    starts = list(itertools.accumulate(map(len, weighted[:-1]), initial=0))
    points: FloatArray = np.add.reduceat(_points(face, landmarks) * weights, starts, axis=1)
    return points


def _mouth(face: FloatArray) -> FloatArray:
    """Draw the lips: the outer 12 points, moved a little outwards. chin and above_mouth end at this outline."""
    points = _points(face, MOUTH)
    middle = points.sum(axis=1, keepdims=True) / len(MOUTH)
    grown: FloatArray = middle + (points - middle) * MOUTH_GROWTH
    return grown


def _sides_of_nose(face: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""Draw the two sides of the nose ``(faces, 4, 2)`` from top to wing, narrow along the bridge, wide at the wings.

    ::

             a27a       a: BRIDGE of the distance from 27 to the inner eye corner
            b 28 b      b: the same from 28
            /    \
           c      c     c: WING_HEIGHT above d
           d31  35d     d: WING_WIDTH beyond the nostril's end
    """
    corners, ends = _points(face, INNER_EYE_CORNERS), _points(face, NOSTRIL_ENDS)
    wings = ends + WING_WIDTH * (ends - _points(face, NEXT_TO_THEM))
    above = wings + WING_HEIGHT * (face[:, 27] - face[:, 33])[:, None]
    beside_bridge = [point + BRIDGE * (corners - point) for point in (face[:, 27:28], face[:, 28:29])]
    sides = np.stack([*beside_bridge, above, wings], axis=2)
    return sides[:, 0], sides[:, 1]


def _cheeks(
    face: FloatArray, mouth: FloatArray, noses: tuple[FloatArray, FloatArray], lids: FloatArray
) -> list[FloatArray]:
    """Draw each cheek: from the jaw to the corner of the mouth, the side of the nose and the lower lid."""
    corners = (mouth[:, :1], mouth[:, 6:7])
    return [
        _joined(_points(face, JAW_SIDES[side]), corners[side], noses[side][:, :1:-1], lids[:, 2 + side])
        for side in (0, 1)
    ]


def _brows(face: FloatArray) -> list[FloatArray]:
    """Draw each eyebrow ``(faces, 10, 2)`` as a band around its five points, thicker at the inner end."""
    points = _points(face, BROWS)
    x, y = points[..., 0] - OUTWARDS * BROW_ENDS, points[..., 1]
    return _bands((x, y - BROW_ABOVE), (x, y + BROW_BELOW))


def _ears(face: FloatArray, ears: FloatArray) -> list[FloatArray]:
    """Draw each ear ``(faces, 10, 2)`` outside the upper jaw line.

    As the head turns, both ears shift to the side facing the viewer. The ear on that side becomes wider; the other
    one becomes narrower, and is hidden where the upper end of the jaw no longer protrudes beyond that of the brow.
    """
    front = _blend(EAR_FRONT, face, JAW_SIDES[:, :4])
    protrusion = OUTWARDS * (_points(face, JAW_SIDES[:, :1]) - _points(face, BROWS[:, :1]))[..., 0]
    width = np.maximum(np.minimum(EAR_WIDTH + OUTWARDS * ears[:, :1, None], protrusion), 0.0)
    x, y = front[..., 0], front[..., 1]
    return _bands((x, y), (x + OUTWARDS * width * EAR_SHAPE, y))


def _bands(one: tuple[FloatArray, FloatArray], other: tuple[FloatArray, FloatArray]) -> list[FloatArray]:
    """Join two edges, each x and y ``(faces, 2, points)``, to two outlines ``(faces, 2 * points, 2)``."""
    x = np.concatenate([one[0], other[0][..., ::-1]], axis=2)
    y = np.concatenate([one[1], other[1][..., ::-1]], axis=2)
    bands = np.stack([x, y], axis=3)
    return [bands[:, 0], bands[:, 1]]


def _below_chin(face: FloatArray, ears: FloatArray) -> FloatArray:
    r"""Draw the region from the jaw down to a straight edge, which moves less than the chin as the head turns.

    ::

        4                12
         \ 5          11/
          \  \__8___/  /
           \          /    BELOW_CHIN_LENGTH below 8
            ----------     2 BELOW_CHIN_HALF_WIDTH
    """
    x, y = face[:, 8, 0], face[:, 8, 1]
    middle = x + BELOW_CHIN_BEHIND * (ears[:, 0] - x)
    bottom = y + BELOW_CHIN_LENGTH
    right, left = (np.stack([middle + side * BELOW_CHIN_HALF_WIDTH, bottom], axis=1)[:, None] for side in (1, -1))
    return _joined(_points(face, JAW_EDGE_BELOW_CHIN), right, left)


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
    half_width, slope = ((face[:, 16] - face[:, 0]) / 2).T[:, :, None]
    ears_x, ears_y = ears.T[:, :, None]
    brows = face[:, 17:27].sum(axis=1)[:, 1:] / 10

    def arch(left_side: FloatArray | float, right_side: FloatArray | float, above_brows: float) -> FloatArray:
        reach = half_width + np.where(ARCH[:, 0] < 0, left_side, right_side)
        x = ears_x + ARCH[:, 0] * np.maximum(reach, 0.0)
        y = ears_y + ARCH[:, 0] * slope - ARCH[:, 1] * (ears_y - brows + above_brows)
        return np.stack([x, y], axis=2)

    behind = TOP_OF_HEAD_BEHIND * ears_x
    hair = arch(TOP_OF_HEAD_SIDE - behind, TOP_OF_HEAD_SIDE + behind, TOP_OF_HEAD_ABOVE_BROWS)
    forehead = arch(0.0, 0.0, HAIRLINE_ABOVE_BROWS)[:, ::-1]
    down = (0.0, TOP_OF_HEAD_BELOW_TEMPLES)
    return _joined(
        hair[:, :1] + down, hair, hair[:, -1:] + down, forehead[:, :1] + down, forehead, forehead[:, -1:] + down
    )
