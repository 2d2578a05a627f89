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

Pixels = npt.NDArray[np.uint8]

IMAGE_HEIGHT, IMAGE_WIDTH = 218, 178
MAX_PADDED_PIXELS = 1 << 22

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


def cut(pixels: Pixels, box: FloatArray) -> Pixels:
    """Cut a box out of an image and resize it; pixels beyond the image repeat its edge.

    To shrink to half or less, blocks of 2x2, 4x4 ... pixels are averaged first; the remaining resizing is bilinear.

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
    step = min(step_x, step_y)
    block = 1 << max(0, int(step).bit_length() - 1)
    whole = Box(round(x0), round(y0), round(x1), round(y1))
    if step < 1 or not all(value.is_integer() for value in (x0, y0, x1, y1)) or not _is_padded_easily(whole, pixels):
        return _cut_anywhere(pixels, x0, y0, x1, y1, block)
    part = _padded(pixels, whole, block)
    if block > 1:
        size = (part.shape[1] // block, part.shape[0] // block)
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    resized = cv2.resize(part, None, fx=block / step_x, fy=block / step_y, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized[:IMAGE_HEIGHT, :IMAGE_WIDTH], dtype=np.uint8)


def _is_padded_easily(box: Box, pixels: Pixels) -> bool:
    """Return whether a box has a part of the image, and a copy of all of it takes little memory."""
    height, width = pixels.shape[:2]
    meets = box.x0 < width and box.y0 < height and box.x1 > 0 and box.y1 > 0
    return meets and (box.x1 - box.x0) * (box.y1 - box.y0) <= MAX_PADDED_PIXELS


def _padded(pixels: Pixels, box: Box, block: int) -> Pixels:
    """Return a box of the image that becomes whole blocks by up to `block` - 1 pixels to the right and below."""
    x1, y1 = box.x1 + (box.x0 - box.x1) % block, box.y1 + (box.y0 - box.y1) % block
    height, width = pixels.shape[:2]
    top, bottom, left, right = max(0, -box.y0), max(0, y1 - height), max(0, -box.x0), max(0, x1 - width)
    part = pixels[max(0, box.y0) : y1, max(0, box.x0) : x1]
    if not (top or bottom or left or right):
        return part
    return np.asarray(cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE), dtype=np.uint8)


def _cut_anywhere(pixels: Pixels, x0: float, y0: float, x1: float, y1: float, block: int) -> Pixels:
    """Cut as `cut` does, but slower: any box, in memory of no more than the image.

    The blocks start at any pixel, not at the corner of the box.
    """
    block = min(block, *pixels.shape[:2])
    step_x, step_y = (x1 - x0) / IMAGE_WIDTH, (y1 - y0) / IMAGE_HEIGHT
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
