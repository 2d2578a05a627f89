"""The two forms of a box: corners, and corner with size."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A box by its corners, in whole pixels of an image; may reach outside of it.

    Attributes
    ----------
    x0, y0 : int
        Top-left corner.
    x1, y1 : int
        Bottom-right corner, exclusive.
    """

    x0: int
    y0: int
    x1: int
    y1: int


class BBox(NamedTuple):
    """A bounding box by its top-left corner and size, as data sets give it for a face, in pixels of an image.

    Attributes
    ----------
    x, y : float
        Top-left corner.
    width, height : float
    """

    x: float
    y: float
    width: float
    height: float
