"""What an image file may cost: limits that are checked before it is decoded, by its headers alone.

A small file can unpack to gigabytes or keep a decoder busy for minutes. Both packages give a decoder only what
`inspect_file` lets pass: a file within the limits, without the metadata that no pixel depends on.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from regions.jpeg_files import (
    APP0,
    APP1,
    APP2,
    APP14,
    APP15,
    COM,
    EOI,
    EXIF_START,
    FRAMES,
    JPEG_START,
    MPF_START,
    PROGRESSIVE,
    SOI,
    SOS,
    simple_frame,
)
from regions.tiff_files import MAX_TIFF_PARTS, TIFF_STARTS, directory_overlaps, inspect_tiff

MAX_FILE_BYTES = 1 << 28
"""Size of an image file."""
MAX_SIDE = 65_535
"""Width and height in pixels: the most that JPEG knows."""
MAX_JPEG_PIXELS = 1 << 27
MAX_OTHER_PIXELS = 1 << 25
"""Width times height; the limits differ because only JPEG can be decoded at a reduced size."""
MAX_DECODER_BYTES = 1 << 29
"""Memory that a decoder may need besides the file and its pixels: the coefficients of a JPEG of several scans, the
unpacked strips or tiles of a TIFF."""
MAX_JPEG_SCANS = 100
MAX_SCANNED_PIXELS = 1 << 31
"""Scans times pixels of a JPEG: each scan goes through the whole image again."""
MAX_JPEG_SEGMENTS = 1 << 16
MAX_PNG_CHUNKS = 1 << 17
MAX_RLE_BYTES = 1 << 21
"""Bytes and pixels of a run-length encoded BMP, which is decoded slowly."""

MAX_DECODED_PIXELS = 1 << 23
MAX_DECODED_SIDE = (1 << 15) - 2
"""Larger images are decoded at 1/2, 1/4 or 1/8 of their size; at longer sides MediaPipe ends the whole process."""
REDUCTIONS = (1, 2, 4, 8)
LARGE_DECODER_BYTES = 1 << 26
"""Files whose decoder needs more are decoded one at a time, as images above `MAX_DECODED_PIXELS` are."""

_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
"""A marker other than the restart markers within a scan."""

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = PNG_START + b"\0\0\0\rIHDR"
ORIENTATION_TEXTS = (b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Keywords of the texts of a PNG that may have the orientation."""
MAX_TEXT = 1 << 20


class CostlyFileError(ValueError):
    """A file whose decoding would cost too much; the message states what was found and what was expected."""


class InspectedFile(NamedTuple):
    """A file that may be decoded.

    Attributes
    ----------
    content : bytes
        The file, of PNG and TIFF without metadata.
    decoder_bytes : int
        Memory that the decoder needs besides the file and its pixels, 0 if it is little.
    """

    content: bytes
    decoder_bytes: int = 0

    @property
    def is_large(self) -> bool:
        """Whether it should be decoded alone."""
        return self.decoder_bytes > LARGE_DECODER_BYTES


def inspect_file(content: bytes) -> InspectedFile:
    """Check what decoding an image file would cost, apart from its size in pixels, for which see `check_size`.

    Parameters
    ----------
    content : bytes
        Of any file. What is not an image, or is damaged, passes: the decoder has the message.

    Raises
    ------
    CostlyFileError
        If it is beyond a limit.

    Examples
    --------
    >>> inspect_file(b"no image")
    InspectedFile(content=b'no image', decoder_bytes=0)
    """
    if len(content) > MAX_FILE_BYTES:
        raise CostlyFileError(f"file of {len(content)} bytes, expected at most {MAX_FILE_BYTES}")
    if content.startswith(JPEG_START):
        return _inspect_jpeg(content)
    if content.startswith(PNG_START):
        return InspectedFile(_without_png_metadata(content))
    if content.startswith(TIFF_STARTS):
        return _inspect_tiff(content)
    if content.startswith(b"BM"):
        _check_bmp(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        _check_webp(content[:30].ljust(30, b"\0"))
    return InspectedFile(content)


def check_size(kind: str, width: int, height: int) -> None:
    """Check the size of an image.

    Parameters
    ----------
    kind : str
        Pillow's name of the format.
    width, height : int
        In pixels.

    Raises
    ------
    CostlyFileError
        If it is beyond a limit.

    Examples
    --------
    >>> check_size("PNG", 8000, 8000)
    Traceback (most recent call last):
    regions.image_files.CostlyFileError: PNG of 8000x8000 pixels, expected at most 34 million
    """
    found = f"{kind} of {width}x{height} pixels"
    limit = MAX_JPEG_PIXELS if is_jpeg(kind) else MAX_OTHER_PIXELS
    if width * height > limit:
        raise CostlyFileError(f"{found}, expected at most {limit / 1e6:.0f} million")
    if max(width, height) > MAX_SIDE:
        raise CostlyFileError(f"{found}, expected sides of at most {MAX_SIDE}")


def is_jpeg(kind: str | None) -> bool:
    """Return whether a format of Pillow is JPEG, or MPO: a JPEG followed by further images."""
    return kind in ("JPEG", "MPO")


def reduction_of(width: int, height: int) -> int:
    """Return by what an image is reduced when it is decoded: 1, 2, 4 or 8.

    >>> reduction_of(4000, 2000), reduction_of(4000, 4000), reduction_of(60000, 100)
    (1, 2, 2)
    """
    return next(
        (
            reduction
            for reduction in REDUCTIONS
            if width * height <= MAX_DECODED_PIXELS * reduction * reduction
            and max(width, height) <= MAX_DECODED_SIDE * reduction
        ),
        REDUCTIONS[-1],
    )


def exif_is_usable(exif: bytes) -> bool:
    """Return whether an EXIF block can be read in memory of about its own size.

    Parameters
    ----------
    exif : bytes
        With or without ``Exif`` before it.
    """
    return not directory_overlaps(exif[len(EXIF_START) :] if exif.startswith(EXIF_START) else exif)


def png_size(content: bytes) -> tuple[int, int] | None:
    """Return height and width of a PNG by its header, None if it has none.

    >>> png_size(b"no image") is None
    True
    """
    if not content.startswith(PNG_HEADER) or len(content) < 24:
        return None
    width, height = struct.unpack_from(">II", content, 16)
    return height, width


def plain_gray_png(content: bytes) -> bytes:
    """Return an 8-bit gray PNG without metadata: OpenCV can crash at the chunks of an animation.

    Parameters
    ----------
    content : bytes
        A PNG whose size is checked already.

    Raises
    ------
    CostlyFileError
        If it has far more bytes than pixels: OpenCV unpacks those that follow the pixels too.
    """
    height, width = png_size(content) or (0, 0)
    most = 4096 + 2 * height * (width + 1)
    plain = _without_png_metadata(content)
    if len(plain) > most:
        raise CostlyFileError(f"{len(plain)} bytes for {height}x{width} pixels, expected at most {most}")
    return plain


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield marker, start, start of the data and end of each segment of a JPEG, and of the header of each scan."""
    position = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        found = _MARKER.search(content, position)
        if found is None:
            return
        marker, position = content[found.start(1)], found.end()
        if marker in (SOI, EOI):
            yield marker, found.start(), position, position
            continue
        end = position + max(2, int.from_bytes(content[position : position + 2], "big"))
        yield marker, found.start(), position + 2, end
        position = end
    raise CostlyFileError(f"JPEG of more than {MAX_JPEG_SEGMENTS} segments")


def ordinary_jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return height and width of a JPEG that needs neither `inspect_file` nor `check_size`; None for any other file.

    It has one scan of 8 bits, gray or in color, and no metadata that could turn it; it is decoded at full size.

    >>> ordinary_jpeg_size(b"no image") is None
    True
    """
    frame = simple_frame(content) if content.startswith(JPEG_START) and len(content) <= MAX_FILE_BYTES else None
    if frame is None or frame.may_be_turned or frame.bits != 8 or frame.components not in (1, 3):
        return None
    height, width = frame.height, frame.width
    return (height, width) if width * height > 0 and reduction_of(width, height) == 1 else None


def _inspect_jpeg(content: bytes) -> InspectedFile:
    if simple_frame(content) is not None:
        return InspectedFile(content)
    frame, scans, in_several_scans = b"", 0, False
    exif, mpf = b"", b""
    for marker, _, start, end in _jpeg_segments(content):
        if marker in FRAMES and not scans:
            frame, in_several_scans = content[start:end], marker in PROGRESSIVE
        elif marker == APP1 and content.startswith(EXIF_START, start):
            exif += content[start + len(EXIF_START) : end]
        elif marker == APP2 and content.startswith(MPF_START, start):
            mpf = content[start + len(MPF_START) : end]
        elif marker == SOS:
            scans += 1
            in_several_scans |= content[start : start + 1] < frame[5:6]  # components of the scan and of the frame
            if not in_several_scans:
                break
        elif marker == EOI and scans:
            break
    if directory_overlaps(exif) or directory_overlaps(mpf):
        content = without_metadata(content)
    return InspectedFile(content, _coefficient_bytes(frame, scans) if in_several_scans else 0)


def _coefficient_bytes(frame: bytes, scans: int) -> int:
    """Return the memory for the coefficients of a JPEG of several scans, from the data of its frame header."""
    if len(frame) < 9 or not 0 < 3 * frame[5] <= len(frame) - 6:
        return 0
    height, width = struct.unpack_from(">HH", frame, 1)
    if scans > MAX_JPEG_SCANS:
        raise CostlyFileError(f"JPEG of {scans} scans, expected at most {MAX_JPEG_SCANS}")
    if scans * width * height > MAX_SCANNED_PIXELS:
        limit = MAX_SCANNED_PIXELS // (width * height)
        raise CostlyFileError(f"JPEG of {width}x{height} pixels in {scans} scans, expected at most {limit}")
    sampling = [(factors >> 4, factors & 15) for factors in frame[7 : 6 + 3 * frame[5] : 3]]
    most = max(1, max(x for x, _ in sampling) * max(y for _, y in sampling))
    coefficients: int = sum(2 * width * height * x * y // most for x, y in sampling)
    if coefficients > MAX_DECODER_BYTES:
        found = f"JPEG of {width}x{height} pixels in several scans that takes {coefficients >> 20} MiB to decode"
        raise CostlyFileError(f"{found}, expected at most {MAX_DECODER_BYTES >> 20}")
    return coefficients


def without_metadata(content: bytes) -> bytes:
    """Return a JPEG without comments and application data that no color depends on; any other file as it is."""
    if not content.startswith(JPEG_START):
        return content
    parts, kept = [], 0
    for marker, begin, start, end in _jpeg_segments(content):
        if marker == SOS:
            break
        decides_colors = (marker == APP0 and end - start >= 14) or (marker == APP14 and end - start >= 12)
        if marker == COM or (APP0 <= marker <= APP15 and not decides_colors):
            parts.append(content[kept:begin])
            kept = end
    return b"".join([*parts, content[kept:]])


def _without_png_metadata(content: bytes) -> bytes:
    """Return a PNG without the chunks that no pixel depends on; what follows a damaged chunk stays as it is."""
    parts, kept, position = [], 0, len(PNG_START)
    texts: set[bytes] = set()
    for _ in range(MAX_PNG_CHUNKS):
        header = content[position : position + 8]
        end = position + 12 + int.from_bytes(header[:4], "big")
        if len(header) < 8 or end > len(content):
            break
        kind = header[4:]
        if kind[0] & 0x20 and not _is_needed(kind, content[position + 8 : end - 4], texts):
            parts.append(content[kept:position])
            kept = end
        position = end
        if kind == b"IEND":
            break
    else:
        raise CostlyFileError(f"PNG of more than {MAX_PNG_CHUNKS} chunks")
    return b"".join([*parts, content[kept:]]) if parts else content


def _is_needed(kind: bytes, data: bytes, texts: set[bytes]) -> bool:
    """Return whether pixels or their orientation depend on an ancillary chunk of a PNG, the first of its kind."""
    if kind == b"tRNS":
        return True
    if kind == b"eXIf":
        return exif_is_usable(data)
    keyword = data[:80].partition(b"\0")[0]
    if kind not in (b"tEXt", b"zTXt", b"iTXt") or keyword not in ORIENTATION_TEXTS or keyword in texts:
        return False
    texts.add(keyword)
    text = data[len(keyword) + 1 :]
    if kind == b"zTXt" or (kind == b"iTXt" and text[:1] == b"\1"):
        start = 1 if kind == b"zTXt" else 2 + len(b"\0".join(text[2:].split(b"\0", 2)[:2])) + 1
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(text[start:], MAX_TEXT)
        except zlib.error:
            return False
        return not unpacker.unconsumed_tail
    return len(text) <= MAX_TEXT


def _check_bmp(content: bytes) -> None:
    header = content[14:34]
    if len(header) < 20 or int.from_bytes(header[:4], "little") < 40:
        return
    width, height, _, _, compression = struct.unpack_from("<iiHHI", header, 4)
    found = f"run-length encoded BMP of {width}x{abs(height)} pixels in {len(content)} bytes"
    if compression in (1, 2) and (abs(width * height) > MAX_RLE_BYTES or len(content) > MAX_RLE_BYTES):
        raise CostlyFileError(f"{found}, expected at most {MAX_RLE_BYTES} of both")


def _check_webp(header: bytes) -> None:
    """Check the size of a WebP: its decoder takes memory for all pixels when it is opened."""
    if header[12:16] == b"VP8X":
        width, height = (1 + int.from_bytes(header[start : start + 3], "little") for start in (24, 27))
    elif header[12:16] == b"VP8L":
        bits = int.from_bytes(header[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", header, 26))
    check_size("WEBP", width, height)


def _inspect_tiff(content: bytes) -> InspectedFile:
    cleaned, parts, part_bytes = inspect_tiff(content)
    if parts > MAX_TIFF_PARTS:
        raise CostlyFileError(f"TIFF of {parts} strips or tiles, expected at most {MAX_TIFF_PARTS}")
    if parts * part_bytes > MAX_DECODER_BYTES:
        found = f"TIFF whose strips or tiles unpack to {parts * part_bytes >> 20} MiB"
        raise CostlyFileError(f"{found}, expected at most {MAX_DECODER_BYTES >> 20}")
    return InspectedFile(cleaned, part_bytes)
