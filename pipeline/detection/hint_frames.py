"""Hints of images that are stored rotated or mirrored: in the frame as displayed, or as stored."""

from __future__ import annotations

import dataclasses

import numpy as np

from pipeline.images import DecodedImage
from pipeline.records import FloatRows, ImageRow


def row_as_stored(row: ImageRow, image: DecodedImage) -> ImageRow | None:
    """Return a row with its hints moved from the image as stored to the image as displayed.

    Tools that ignore the EXIF orientation annotate the stored image.

    Parameters
    ----------
    row : ImageRow
    image : DecodedImage

    Returns
    -------
    ImageRow or None
        None without hints, or where the image is stored as it is displayed.
    """
    if image.orientation == 1 or (row.bbox is None and row.points is None):
        return None
    return dataclasses.replace(
        row,
        bbox=None if row.bbox is None else _upright_bbox(row.bbox, image),
        points=None if row.points is None else _upright_points(row.points, image),
    )


def upright(points: FloatRows, orientation: int, height: int, width: int) -> FloatRows:
    """Return points of a stored image in pixels of the image as displayed.

    Parameters
    ----------
    points : ndarray (n, 2)
        x, y in pixels of the stored image.
    orientation : int
        EXIF orientation, 1 to 8.
    height, width : int
        Size of the image as displayed.

    Returns
    -------
    ndarray (n, 2) float32
    """
    x, y = points.T
    at = {
        1: (x, y),
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (width - y, x),
        7: (width - y, height - x),
        8: (y, height - x),
    }
    moved: FloatRows = np.stack(at[orientation], axis=1).astype(np.float32)
    return moved


def _upright_bbox(bbox: FloatRows, image: DecodedImage) -> FloatRows:
    corners = upright(np.stack([bbox[:2], bbox[:2] + bbox[2:]]), image.orientation, image.height, image.width)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return np.concatenate([low, high - low])


def _upright_points(points: FloatRows, image: DecodedImage) -> FloatRows:
    """Return five points as displayed, the left eye first: in a mirrored image, left and right are swapped."""
    moved = upright(points, image.orientation, image.height, image.width)
    return moved if moved[0, 0] <= moved[1, 0] else np.take(moved, [1, 0, 2, 4, 3], axis=0)
