"""Parts of a picture that a detector looks at: about a box, tiles, turned; and back to the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images import Picture
from regions.landmarks import FloatArray

SMALLEST_VIEW = 192
"""Views are enlarged to this many pixels on their longer side: what FaceMesh's model takes."""
LARGEST_TURNED_VIEW = 1024
"""Turned views are made at most this large, in pixels."""
TILE_OVERLAP = 0.5
"""Of neighbouring tiles, as a share of their side."""


@dataclass(frozen=True, eq=False)
class View:
    """Part of a picture, perhaps enlarged or turned.

    Attributes
    ----------
    pixels : ndarray (rows, cols, 3) uint8
        RGB.
    matrix : ndarray (2, 3)
        Takes (x, y, 1) in pixels of the view to pixels of the source picture.
    """

    pixels: npt.NDArray[np.uint8]
    matrix: FloatArray

    def to_source(self, points: FloatArray) -> FloatArray:
        """Turn points ``(n, 2)`` of the view into points of the source picture."""
        moved: FloatArray = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved

    def box_to_source(self, box: FloatArray) -> FloatArray:
        """Turn a box (x, y, width, height) of the view into one about the same place in the source picture."""
        corners = box[:2] + box[2:] * np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
        low, high = np.sort(self.to_source(corners), axis=0)[[0, -1]]
        return np.concatenate([low, high - low])


def whole_view(picture: Picture) -> View:
    """Return all of a picture."""
    return _slice(picture, 0, 0, picture.pixels.shape[1], picture.pixels.shape[0])


def box_view(picture: Picture, box: FloatArray, margin: float) -> View | None:
    """Return the part of a picture about a box, small ones enlarged.

    Parameters
    ----------
    picture : Picture
    box : ndarray (4,)
        x, y, width, height in pixels of the source picture.
    margin : float
        How much is added on each side, in longer sides of the box.

    Returns
    -------
    View or None
        None where hardly anything of it is in the picture.
    """
    reach = margin * box[2:].max()
    rows, cols = picture.pixels.shape[:2]
    low, high = (box[:2] - reach) * picture.scale, (box[:2] + box[2:] + reach) * picture.scale
    x0, y0 = np.clip(np.floor(low), 0, (cols, rows)).astype(int)
    x1, y1 = np.clip(np.ceil(high), 0, (cols, rows)).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    view = _slice(picture, x0, y0, x1, y1)
    enlargement = SMALLEST_VIEW / max(x1 - x0, y1 - y0)
    return _resized(view, enlargement) if enlargement > 1 else view


def turned_view(picture: Picture, box: FloatArray, margin: float, angle: float) -> View:
    """Return a square part of a picture about a box, turned so that a face tilted by `angle` is upright in it.

    Parameters
    ----------
    picture : Picture
    box : ndarray (4,)
        x, y, width, height in pixels of the source picture.
    margin : float
        As in `box_view`.
    angle : float
        In degrees, clockwise as seen: the direction of the tilted face's eye line.
    """
    middle = box[:2] + box[2:] / 2
    side = max(float(box[2:].max()) * (1 + 2 * margin), 2.0)
    size = round(min(max(side * float(picture.scale.max()), SMALLEST_VIEW), LARGEST_TURNED_VIEW))
    cos, sin = math.cos(math.radians(angle)) * side / size, math.sin(math.radians(angle)) * side / size
    turn = np.array([[cos, -sin], [sin, cos]])
    matrix = np.column_stack([turn, middle - turn @ (size / 2, size / 2)])
    # OpenCV counts pixels from the centre of the first one.
    decoded = np.diag(picture.scale) @ matrix
    decoded[:, 2] += decoded[:, :2] @ (0.5, 0.5) - 0.5
    pixels = cv2.warpAffine(picture.pixels, decoded, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return View(np.asarray(pixels, dtype=np.uint8), matrix)


def tiles(picture: Picture, number: int) -> Iterator[View]:
    """Yield square tiles that overlap by half and cover a picture, small ones enlarged.

    Parameters
    ----------
    picture : Picture
    number : int
        How many sides of a tile make the longer side of the picture.
    """
    rows, cols = picture.pixels.shape[:2]
    side = -(-max(rows, cols) // number)
    for y in _starts(rows, side):
        for x in _starts(cols, side):
            view = _slice(picture, x, y, min(x + side, cols), min(y + side, rows))
            enlargement = SMALLEST_VIEW / side
            yield _resized(view, enlargement) if enlargement > 1 else view


def _starts(length: int, side: int) -> list[int]:
    """Return where tiles begin along a side of the picture.

    >>> _starts(1000, 400), _starts(300, 400)
    ([0, 200, 400, 600], [0])
    """
    steps = math.ceil(max(length - side, 0) / (side * (1 - TILE_OVERLAP)))
    return [round(max(length - side, 0) * step / max(steps, 1)) for step in range(steps + 1)]


def _slice(picture: Picture, x0: int, y0: int, x1: int, y1: int) -> View:
    """Return a part of the decoded pixels as it is."""
    matrix = np.column_stack([np.diag(1 / picture.scale), np.array([x0, y0]) / picture.scale])
    return View(np.ascontiguousarray(picture.pixels[y0:y1, x0:x1]), matrix)


def _resized(view: View, factor: float) -> View:
    rows, cols = view.pixels.shape[:2]
    size = (max(1, round(cols * factor)), max(1, round(rows * factor)))
    pixels = cv2.resize(view.pixels, size, interpolation=cv2.INTER_CUBIC)
    matrix = view.matrix.copy()
    matrix[:, :2] *= np.array([cols, rows]) / size
    return View(np.asarray(pixels, dtype=np.uint8), matrix)
