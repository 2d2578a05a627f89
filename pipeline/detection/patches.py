"""Patches: the parts of an image that a detector is run on, with the map from each patch back to the image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images import DecodedImage
from regions.landmarks import FloatArray

MODEL_SIDE = 192
"""Side of the input of FaceMesh's landmark model, in pixels."""
MIN_PATCH = MODEL_SIDE
"""Patches are enlarged to this many pixels on their longer side."""
MAX_ROTATED_PATCH = 1024
"""Largest side of a rotated patch, in pixels."""
POINTS_SIDE = 3.6
"""Side of the patch about five points, in multiples of the longer of eye distance and eye-to-mouth distance."""
POINTS_CENTER = 0.443
"""Center of that patch, as a fraction of the way from the middle of the eyes to the middle of the mouth.

Both were fitted to the regions that FaceMesh itself cuts out about the faces of 400 photographs.
"""
TILE_OVERLAP = 0.5
"""Of neighboring tiles, as a fraction of their side."""


class FaceSquare(NamedTuple):
    """The square about a face that FaceMesh's landmark model looks at.

    Attributes
    ----------
    center : (float, float)
        x and y in pixels.
    side : float
        In pixels.
    angle : float
        Of the face's eye line, in radians clockwise.
    """

    center: tuple[float, float]
    side: float
    angle: float


@dataclass(frozen=True, eq=False)
class Patch:
    """Part of an image, possibly enlarged or rotated.

    Attributes
    ----------
    pixels : ndarray (rows, cols, 3) uint8
        RGB.
    matrix : ndarray (2, 3)
        Maps (x, y, 1) in pixels of the patch to pixels of the source image.
    """

    pixels: npt.NDArray[np.uint8]
    matrix: FloatArray

    def to_source(self, points: FloatArray) -> FloatArray:
        """Map points ``(n, 2)`` of the patch to points of the source image."""
        mapped: FloatArray = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return mapped

    def square_to_source(self, square: FaceSquare) -> FaceSquare:
        """Return a square of this upright patch in pixels of the source image."""
        x, y = self.to_source(np.array(square.center)).tolist()
        return FaceSquare((x, y), square.side * float(self.matrix[0, 0]), square.angle)

    def bbox_to_source(self, bbox: FloatArray) -> FloatArray:
        """Return the box (x, y, width, height) in the source image that encloses a box of the patch."""
        corners = bbox[:2] + bbox[2:] * np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
        low, high = np.sort(self.to_source(corners), axis=0)[[0, -1]]
        return np.concatenate([low, high - low])


def whole_patch(image: DecodedImage) -> Patch:
    """Return the whole image as one patch."""
    return _slice(image, 0, 0, image.pixels.shape[1], image.pixels.shape[0])


def bbox_patch(image: DecodedImage, bbox: FloatArray, margin: float) -> Patch | None:
    """Return the part of an image about a box; a small one is enlarged.

    Parameters
    ----------
    image : DecodedImage
    bbox : ndarray (4,)
        x, y, width, height in pixels of the source image.
    margin : float
        Added on each side, in longer sides of the box.

    Returns
    -------
    Patch or None
        None if it overlaps the decoded image by less than two rows or columns.
    """
    reach = margin * bbox[2:].max()
    rows, cols = image.pixels.shape[:2]
    low, high = (bbox[:2] - reach) * image.scale, (bbox[:2] + bbox[2:] + reach) * image.scale
    x0, y0 = np.clip(np.floor(low), 0, (cols, rows)).astype(int)
    x1, y1 = np.clip(np.ceil(high), 0, (cols, rows)).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    patch = _slice(image, x0, y0, x1, y1)
    enlargement = MIN_PATCH / max(x1 - x0, y1 - y0)
    return _resized(patch, enlargement) if enlargement > 1 else patch


def rotated_patch(image: DecodedImage, bbox: FloatArray, margin: float, angle: float) -> Patch:
    """Return a square patch about a box, rotated so that a face tilted by `angle` is upright in it.

    Parameters
    ----------
    image : DecodedImage
    bbox : ndarray (4,)
        x, y, width, height in pixels of the source image.
    margin : float
        As in `bbox_patch`.
    angle : float
        In degrees, clockwise as seen: the direction of the tilted face's eye line.

    Returns
    -------
    Patch
        Black outside of the image.
    """
    center = bbox[:2] + bbox[2:] / 2
    side = max(float(bbox[2:].max()) * (1 + 2 * margin), 2.0)
    size = round(min(max(side * float(image.scale.max()), MIN_PATCH), MAX_ROTATED_PATCH))
    return _upright_square(image, FaceSquare((float(center[0]), float(center[1])), side, math.radians(angle)), size)


def square_patch(image: DecodedImage, square: FaceSquare) -> Patch:
    """Return a square about a face in source pixels as the patch that FaceMesh's landmark model looks at."""
    return _upright_square(image, square, MODEL_SIDE)


def points_square(points: FloatArray, size: float) -> FaceSquare:
    """Return the square about five points that FaceMesh's landmark model looks at.

    Parameters
    ----------
    points : ndarray (5, 2)
        Eye centers, nose tip, mouth corners in pixels of the source image.
    size : float
        In sizes of the region that FaceMesh looks at.
    """
    (left_x, left_y), (right_x, right_y), _, (corner_x, corner_y), (other_x, other_y) = points.tolist()
    eyes_x, eyes_y = (left_x + right_x) / 2, (left_y + right_y) / 2
    down_x, down_y = (corner_x + other_x) / 2 - eyes_x, (corner_y + other_y) / 2 - eyes_y
    longer = max(math.hypot(right_x - left_x, right_y - left_y), math.hypot(down_x, down_y))
    center = (eyes_x + POINTS_CENTER * down_x, eyes_y + POINTS_CENTER * down_y)
    angle = math.atan2(right_y - left_y, right_x - left_x)
    return FaceSquare(center, size * POINTS_SIDE * longer, angle)


def tiles(image: DecodedImage, per_side: int) -> Iterator[Patch]:
    """Yield square tiles that overlap by half and cover an image; small ones are enlarged.

    Parameters
    ----------
    image : DecodedImage
    per_side : int
        Number of tile sides in the longer side of the image.
    """
    rows, cols = image.pixels.shape[:2]
    side = -(-max(rows, cols) // per_side)
    for y in _offsets(rows, side):
        for x in _offsets(cols, side):
            patch = _slice(image, x, y, min(x + side, cols), min(y + side, rows))
            enlargement = MIN_PATCH / side
            yield _resized(patch, enlargement) if enlargement > 1 else patch


def _upright_square(image: DecodedImage, square: FaceSquare, size: int) -> Patch:
    """Return a square as an upright patch of size x size pixels."""
    center, side, angle = square
    cos, sin = math.cos(angle) * side / size, math.sin(angle) * side / size
    x0, y0 = center[0] - (cos - sin) * size / 2, center[1] - (sin + cos) * size / 2
    x_scale, y_scale = image.scale.tolist()
    # OpenCV counts pixels from the center of the first one.
    decoded = np.array(
        [
            [x_scale * cos, -x_scale * sin, x_scale * (x0 + (cos - sin) / 2) - 0.5],
            [y_scale * sin, y_scale * cos, y_scale * (y0 + (sin + cos) / 2) - 0.5],
        ]
    )
    pixels = cv2.warpAffine(image.pixels, decoded, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return Patch(np.asarray(pixels, dtype=np.uint8), np.array([[cos, -sin, x0], [sin, cos, y0]]))


def _offsets(length: int, side: int) -> list[int]:
    """Return the offsets of the tiles along a side of the image.

    >>> _offsets(1000, 400), _offsets(300, 400)
    ([0, 200, 400, 600], [0])
    """
    steps = math.ceil(max(length - side, 0) / (side * (1 - TILE_OVERLAP)))
    return [round(max(length - side, 0) * step / max(steps, 1)) for step in range(steps + 1)]


def _slice(image: DecodedImage, x0: int, y0: int, x1: int, y1: int) -> Patch:
    """Return a part of the decoded pixels unchanged."""
    matrix = np.column_stack([np.diag(1 / image.scale), np.array([x0, y0]) / image.scale])
    return Patch(np.ascontiguousarray(image.pixels[y0:y1, x0:x1]), matrix)


def _resized(patch: Patch, factor: float) -> Patch:
    rows, cols = patch.pixels.shape[:2]
    size = (max(1, round(cols * factor)), max(1, round(rows * factor)))
    pixels = cv2.resize(patch.pixels, size, interpolation=cv2.INTER_CUBIC)
    matrix = patch.matrix.copy()
    matrix[:, :2] *= np.array([cols, rows]) / size
    return Patch(np.asarray(pixels, dtype=np.uint8), matrix)
