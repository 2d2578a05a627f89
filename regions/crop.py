"""The face crop: its box in the image, cutting, and resizing to 218x178."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from regions.boxes import Box
from regions.landmarks import FloatArray, eyes_and_size

CROP_VERSION = 2
"""Raised whenever the crop changes, so that shards built before are built again."""

IMAGE_HEIGHT, IMAGE_WIDTH = 218, 178

EYES_X, EYES_Y = 0.50, 0.51
"""Position of the midpoint of the eyes, in widths and heights of the crop, as in CelebA's official aligned images."""
EYE_DISTANCE = 39 / IMAGE_WIDTH
"""Eye distance of a frontal face, as a fraction of the crop's width."""


def face_crop_box(landmarks: FloatArray) -> Box:
    """Return the upright crop box around a face, with the aspect ratio 178:218.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels of the image.

    Returns
    -------
    Box
        At least one pixel wide and high.
    """
    _, _, (x, y), size = eyes_and_size(landmarks)
    width = size / EYE_DISTANCE
    height = width * IMAGE_HEIGHT / IMAGE_WIDTH
    x0 = round(x - EYES_X * width)
    y0 = round(y - EYES_Y * height)
    return Box(x0, y0, x0 + max(1, round(width)), y0 + max(1, round(height)))


def cut(pixels: npt.NDArray[np.uint8], box: FloatArray) -> npt.NDArray[np.uint8]:
    """Cut a box out of an image and resize it; pixels beyond the image repeat its edge.

    To shrink, blocks of pixels are averaged first; the remaining resizing is bilinear.

    Parameters
    ----------
    pixels : ndarray (height, width, 3) uint8
        The image.
    box : ndarray (4,)
        x0, y0, x1, y1, in pixels of `pixels`; may reach outside.

    Returns
    -------
    ndarray (218, 178, 3) uint8

    Raises
    ------
    ValueError
        If the box has no area.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"crop box {(x0, y0, x1, y1)} has no area, expected x0 < x1 and y0 < y1")
    step_x, step_y = (x1 - x0) / IMAGE_WIDTH, (y1 - y0) / IMAGE_HEIGHT
    block = max(1, min(round(min(step_x, step_y)), *pixels.shape[:2]))
    left, cols = _blocks(x0, x1, pixels.shape[1], block)
    top, rows = _blocks(y0, y1, pixels.shape[0], block)
    part = pixels[top : top + rows * block, left : left + cols * block]
    if block > 1:
        part = np.asarray(cv2.resize(part, (cols, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    # Index i of the result has its center at x0 + (i + 0.5) * step_x in the image.
    to_part = np.array(
        [
            [step_x / block, 0, (x0 + 0.5 * step_x - left) / block - 0.5],
            [0, step_y / block, (y0 + 0.5 * step_y - top) / block - 0.5],
        ]
    )
    return np.asarray(
        cv2.warpAffine(
            part,
            to_part,
            (IMAGE_WIDTH, IMAGE_HEIGHT),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        dtype=np.uint8,
    )


def _blocks(start: float, stop: float, size: int, block: int) -> tuple[int, int]:
    """Return the first pixel and the number of the whole blocks that cover the part of a range inside the image."""
    first = min(max(math.floor(start) - block, 0), size - block)
    last = min(max(math.ceil(stop) + block, first + block), size)
    return first, (last - first) // block
