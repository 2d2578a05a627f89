"""Crops and packed masks as the members of a sample: JPEG and PNG."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt

ENCODING_VERSION = 2
"""Increased whenever the encoding changes, so that existing shards are rebuilt."""

JPEG_QUALITY = 95
_GRAY_8_BITS = (8, 0, 0, 0, 0)
"""Bit depth, color type, compression, filter and interlace methods of a PNG."""


def encode_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a crop ``(rows, cols, 3)`` RGB as JPEG."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def encode_packed_masks(packed: npt.NDArray[np.uint8]) -> bytes:
    """Encode packed masks ``(bytes, rows, cols)`` as one gray PNG, stacked vertically.

    Masks are mostly runs, so run lengths alone are small and fast; and every zlib finds the same ones.
    """
    width = packed.shape[2]
    rows = np.zeros((packed.shape[0] * packed.shape[1], 1 + width), dtype=np.uint8)  # each begins with filter 0
    rows[:, 1:] = packed.reshape(-1, width)
    compressor = zlib.compressobj(strategy=zlib.Z_RLE)
    data = compressor.compress(rows.data) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, len(rows), *_GRAY_8_BITS)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    content = kind + data
    return len(data).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
