"""The segments of JPEG files, and a quick look at those of the ordinary kind."""

from __future__ import annotations

import struct
from typing import NamedTuple

JPEG_START = b"\xff\xd8"
SOI, EOI, SOS, COM = 0xD8, 0xD9, 0xDA, 0xFE
APP0, APP1, APP2, APP14, APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BASELINE = 0xC0
PLAIN_SEGMENTS = frozenset({0xFFC4, 0xFFDB, 0xFFDD, 0xFF00 | APP0, 0xFF00 | APP14, 0xFF00 | COM})
MAX_SIMPLE_SEGMENTS = 50
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
EXIF_START, MPF_START = b"Exif\0\0", b"MPF\0"
_SEGMENT = struct.Struct(">HH")
_FRAME = struct.Struct(">BHHB")


class JpegFrame(NamedTuple):
    """The frame header of a JPEG, and whether the file has metadata that may have an orientation."""

    bits: int
    height: int
    width: int
    components: int
    may_be_turned: bool = False


def simple_frame(content: bytes) -> JpegFrame | None:
    """Return the frame of a JPEG with one scan and no directory of metadata, as most have: a quick test for these."""
    position, frame, may_be_turned = len(JPEG_START), None, False
    try:
        for _ in range(MAX_SIMPLE_SEGMENTS):
            marker, length = _SEGMENT.unpack_from(content, position)
            if marker in PLAIN_SEGMENTS:
                pass
            elif marker == 0xFF00 | BASELINE:
                frame = JpegFrame(*_FRAME.unpack_from(content, position + 4))
            elif marker == 0xFF00 | SOS:
                is_simple = frame is not None and 0 < frame.components <= content[position + 4]
                return frame._replace(may_be_turned=may_be_turned) if frame is not None and is_simple else None
            elif not 0xFFE0 <= marker <= 0xFFEF or content.startswith((EXIF_START, MPF_START), position + 4):
                return None
            else:
                may_be_turned |= marker == 0xFF00 | APP1
            position += 2 + length
    except (struct.error, IndexError):
        pass
    return None
