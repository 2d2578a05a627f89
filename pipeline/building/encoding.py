"""Crops and packed masks as the members of a sample: JPEG and PNG."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

ENCODING_VERSION = 1
"""Increased whenever the encoding changes, so that existing shards are rebuilt."""

JPEG_QUALITY = 95


def encode_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a crop ``(rows, cols, 3)`` RGB as JPEG."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def encode_packed_masks(packed: npt.NDArray[np.uint8]) -> bytes:
    """Encode packed masks ``(bytes, rows, cols)`` as one gray PNG, stacked vertically."""
    stream = io.BytesIO()
    stacked = Image.fromarray(packed.reshape(-1, packed.shape[2]))
    # Run lengths alone: masks are mostly runs, so it is both the smallest and the fastest.
    stacked.save(stream, "PNG", compress_type=zlib.Z_RLE)
    return stream.getvalue()
