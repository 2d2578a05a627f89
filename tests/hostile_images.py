"""Small files that would cost much to decode, and files with metadata that nothing depends on."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from pipeline.images import decode
from training import face_images

HUGE_TEXT = zlib.compress(bytes(1 << 23), 9)
"""Unpacks to 8 MiB, more than Pillow accepts of a text or a profile."""


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def red(width: int = 6, height: int = 4) -> Image.Image:
    """Return a red image."""
    return Image.new("RGB", (width, height), (255, 0, 0))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes, behind: bool = False, image: Image.Image | None = None) -> bytes:
    """Return a PNG with further chunks before or behind its pixels."""
    content = encoded(image or red(), "PNG")
    place = content.index(b"IEND" if behind else b"IDAT") - 4
    return content[:place] + b"".join(chunks) + content[place:]


def png_of(width: int, height: int, data: bytes, depth: int = 8, color: int = 0, *chunks: bytes) -> bytes:
    """Return a PNG with this header and these compressed pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def animated_masks() -> bytes:
    """Return masks with the chunks of an animation larger than they are, at which OpenCV crashes."""
    frame = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 60_000, 60_000, 0, 0, 1, 1, 0, 0))
    return png_of(
        76, 96, zlib.compress(bytes(77 * 96)), 8, 0, png_chunk(b"acTL", struct.pack(">II", 1_000_000, 0)), frame
    )


def jpeg_segment(marker: int, data: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(*segments: bytes, image: Image.Image | None = None, **options: Any) -> bytes:
    """Return a JPEG that begins with further segments."""
    content = encoded(image or red(), "JPEG", **options)
    return content[:2] + b"".join(segments) + content[2:]


def jpeg_of_scans(count: int, *, progressive: bool = True, **options: Any) -> bytes:
    """Return a JPEG whose only scan, of one of three components, is repeated."""
    content = encoded(red(16, 16), "JPEG", progressive=progressive, **options)
    scan = jpeg_segment(0xDA, bytes([1, 1, 0, 0, 0 if progressive else 63, 0])) + bytes(4)
    return content[: content.index(b"\xff\xda")] + scan * count + b"\xff\xd9"


def jpeg_claiming(content: bytes, width: int, height: int) -> bytes:
    """Return a JPEG whose frame header claims another size."""
    place = next(content.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in content) + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


def overlapping_directory(entries: int = 2000, size: int = 40_000) -> bytes:
    """Return an EXIF block each of whose entries claims nearly the whole block as its value."""
    raw = b"".join(struct.pack("<HHII", 0x9000 + number, 7, size, 8) for number in range(entries))
    return (b"II*\0" + struct.pack("<IH", 8, entries) + raw + bytes(4)).ljust(size + 8, b"\0")


def bmp_of(width: int, height: int, compression: int, data: bytes) -> bytes:
    """Return a BMP of 256 colors."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(data), 0, 0, 1078) + header + bytes(1024) + data


def tiff_of(entries: dict[int, tuple[int, int, int]], data: bytes = b"") -> bytes:
    """Return a TIFF with these entries (type, count, value) and bytes behind them, at the value -1."""
    end = 8 + 2 + 12 * len(entries) + 4
    raw = b"".join(
        struct.pack("<HHII", tag, kind, count, end if value == -1 else value)
        for tag, (kind, count, value) in sorted(entries.items())
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + raw + bytes(4) + data


def gray_tiff(
    width: int, height: int, more: dict[int, tuple[int, int, int]] | None = None, data: bytes = b"\x80" * 100
) -> bytes:
    """Return an uncompressed gray TIFF of one strip with further entries."""
    return tiff_of(
        {
            256: (4, 1, width),
            257: (4, 1, height),
            258: (3, 1, 8),
            259: (3, 1, 1),
            262: (3, 1, 1),
            273: (4, 1, -1),
            277: (3, 1, 1),
            278: (4, 1, height),
            279: (4, 1, len(data)),
            **(more or {}),
        },
        data,
    )


def tiled_tiff(width: int, height: int, tile_width: int, tile_height: int) -> bytes:
    """Return a gray TIFF of compressed tiles."""
    data = zlib.compress(bytes(1000))
    tiles = {322: (4, 1, tile_width), 323: (4, 1, tile_height), 324: (4, 1, -1), 325: (4, 1, len(data))}
    common = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1), 277: (3, 1, 1)}
    return tiff_of(common | tiles, data)


def assert_both_decode(content: bytes, height: int = 4, width: int = 6) -> None:
    """Assert that both packages decode a file to the same pixels."""
    image = decode(content)
    assert image.pixels.shape == (height, width, 3)
    np.testing.assert_array_equal(face_images.decode(content), image.pixels)
