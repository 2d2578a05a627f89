"""Small files that cost a decoder much: image bombs, thin and huge sides, odd headers."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

MEGABYTE = 1 << 20
ADLER_BASE = 65521
TIFF_LONG, TIFF_SHORT = 4, 3


@functools.cache
def _zeros(megabytes: int) -> bytes:
    """Return so many megabytes of zeros, deflated: one block of a megabyte, many times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = megabytes * MEGABYTE % ADLER_BASE << 16 | 1
    return b"\x78\x9c" + block * megabytes + b"\x03\0" + struct.pack(">I", checksum)


def png(width: int, height: int, data: bytes, *, before: bytes = b"", depth: int = 8, color: int = 2) -> bytes:
    """Return a PNG with chunks before its pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bmp(width: int, height: int, data: bytes, *, bits: int = 8, compression: int = 1) -> bytes:
    """Return a BMP with a palette of 256 colors."""
    start = 14 + 40 + 1024
    head = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start)
    return (
        head
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 256, 0)
        + bytes(1024)
        + data
    )


def tiff(tags: dict[int, tuple[int, int]], data: bytes) -> bytes:
    """Return a TIFF of one directory; a value of -1 becomes the offset of the data."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 1, start if value == -1 else value)
        for tag, (kind, value) in sorted(tags.items())
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def gray_tiff(width: int, height: int, data: bytes, **places: tuple[int, int]) -> bytes:
    """Return a deflated gray TIFF; `places` are further tags, as ``t322=(kind, value)``."""
    tags = {
        256: (TIFF_LONG, width), 257: (TIFF_LONG, height), 258: (TIFF_SHORT, 8), 259: (TIFF_SHORT, 8),
        262: (TIFF_SHORT, 1), 277: (TIFF_SHORT, 1), **{int(name[1:]): value for name, value in places.items()},
    }  # fmt: skip
    return tiff(tags, data)


def strips(width: int, height: int, rows: int, data: bytes) -> bytes:
    """Return a TIFF whose one strip has so many rows."""
    places = {"t273": (TIFF_LONG, -1), "t278": (TIFF_LONG, rows), "t279": (TIFF_LONG, len(data))}
    return gray_tiff(width, height, data, **places)


def tiles(width: int, height: int, side: int, data: bytes) -> bytes:
    """Return a TIFF with one tile of this side."""
    places = {
        "t322": (TIFF_LONG, side),
        "t323": (TIFF_LONG, side),
        "t324": (TIFF_LONG, -1),
        "t325": (TIFF_LONG, len(data)),
    }
    return gray_tiff(width, height, data, **places)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """Return an image as a file."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def many_scans(side: int, count: int) -> bytes:
    """Return a progressive JPEG that repeats one scan of its coefficients many times."""
    content = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    tables = content.rindex(b"\xff\xc4", 0, last)
    return content[:-2] + content[tables:-2] + content[last:-2] * count + content[-2:]


def huge_header(side: int) -> bytes:
    """Return a small JPEG whose header claims another size."""
    content = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(content)


BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG that unpacks to 900 MB": lambda: png(1, 1, _zeros(900)),
    "PNG with a text of 900 MB": lambda: png(1, 1, _zeros(1), before=chunk(b"zTXt", b"k\0\0" + _zeros(900))),
    "PNG with 500 texts of 1 MB": lambda: png(1, 1, _zeros(1), before=chunk(b"zTXt", b"k\0\0" + _zeros(1)) * 500),
    "PNG with a color profile of 900 MB": lambda: png(1, 1, _zeros(1), before=chunk(b"iCCP", b"k\0\0" + _zeros(900))),
    "PNG of 300,000 chunks": lambda: png(1, 1, _zeros(1), before=chunk(b"abCd", b"") * 300_000),
    "PNG of 33,000,000x1": lambda: png(33_000_000, 1, _zeros(32), color=0),
    "PNG of 1x33,000,000": lambda: png(1, 33_000_000, _zeros(64), color=0),
    "PNG of 40,000x30": lambda: encoded(Image.new("RGB", (40_000, 30)), "PNG"),
    "PNG of 30x70,000": lambda: encoded(Image.new("RGB", (30, 70_000)), "PNG"),
    "PNG of 2^31 pixels a side": lambda: png(2**31 - 1, 2**31 - 1, _zeros(1)),
    "PNG of 33 million pixels of 64 bits": lambda: png(5792, 5792, _zeros(257), depth=16, color=6),
    "PNG without pixels": lambda: png(0, 5, b""),
    "BMP of 33,000,000x1 in one step": lambda: bmp(33_000_000, 1, b"\0\2\xff\xff"),
    "BMP of 5,000x5,000 in steps": lambda: bmp(5000, 5000, b"\0\2\xff\xff" * 300),
    "BMP of lines that end at once": lambda: bmp(5700, 5700, b"\1\5\0\0" * 5700),
    "BMP of 33 million pixels without any": lambda: bmp(5792, 5792, b"", bits=24, compression=0),
    "BMP of negative height": lambda: bmp(100, -(2**31), bytes(100), compression=0),
    "BMP of width 0": lambda: bmp(0, 5, b"", compression=0),
    "TIFF with a tile of 30,000x30,000": lambda: tiles(1, 1, 30_000, _zeros(900)),
    "TIFF with a strip of 900 MB": lambda: strips(1, 1, 1, _zeros(900)),
    "TIFF with a strip of 2^32 rows": lambda: strips(10, 10, 2**32 - 1, _zeros(900)),
    "TIFF whose directory is its own": lambda: tiff({34665: (TIFF_LONG, 8)}, b""),
    "TIFF of width 0": lambda: strips(0, 10, 10, b""),
    "TIFF of 200 pages": lambda: encoded(
        Image.new("L", (8, 8)), "TIFF", save_all=True, append_images=[Image.new("L", (8, 8))] * 200
    ),
    "JPEG of 3,000 scans": lambda: many_scans(2000, 3000),
    "JPEG of 11,000x11,000 with 40 scans": lambda: many_scans(11_000, 40),
    "JPEG that claims 65,500x65,500": lambda: huge_header(65_500),
    "JPEG that claims 9,000x9,000": lambda: huge_header(9_000),
    "JPEG of 65,000x60": lambda: encoded(Image.new("RGB", (65_000, 60)), "JPEG"),
    "JPEG of 60x65,000": lambda: encoded(Image.new("RGB", (60, 65_000)), "JPEG"),
    "JPEG of two bytes": lambda: b"\xff\xd8",
    "WebP of 16,383x2,000": lambda: encoded(Image.new("RGB", (16_383, 2000)), "WEBP", lossless=True, method=0),
    "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n",
    "GIF": lambda: encoded(Image.new("P", (9, 9)), "GIF"),
    "nothing": lambda: b"",
}  # fmt: skip
