"""The directories of TIFF files and of EXIF blocks: what they cost, and a TIFF without its metadata."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

TIFF_STARTS = (b"II\x2a\0", b"MM\0\x2a", b"MM\x2a\0", b"II\0\x2a", b"II\x2b\0", b"MM\0\x2b")
"""Those that Pillow reads."""
MAX_TIFF_PARTS = 1 << 17
"""Strips or tiles of a TIFF, each of which takes its own call of the decoder."""

WIDTH, HEIGHT, BITS, SAMPLES, ROWS_PER_STRIP, PLANAR = 256, 257, 258, 277, 278, 284
STRIP_OFFSETS, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS = 273, 322, 323, 324
ORIENTATION, XMP = 274, 700
MAX_ENTRIES = 1 << 16
"""Of a directory; further ones are ignored."""
DECODED_TAGS = frozenset(
    {WIDTH, HEIGHT, BITS, SAMPLES, ROWS_PER_STRIP, PLANAR, STRIP_OFFSETS, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS}
    | {ORIENTATION, XMP}
    | {259, 262, 266, 279, 325}  # compression, photometric interpretation, fill order, byte counts
    | {292, 293, 317, 320, 332, 333, 334, 338, 339, 347}  # options of codecs, color map, inks, samples, JPEG tables
    | {*range(512, 522), 529, 530, 531, 532}  # JPEG of the old style, YCbCr
)
"""Tags that the pixels or their orientation depend on."""

DIRECTORY_TAGS = frozenset({330, 34665, 34853, 40965})
"""Tags of further directories, which Pillow reads."""
MAX_SMALL = 1 << 10
"""Bytes of other tags that need not be removed."""

TYPE_CODES = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 16: "Q", 17: "q"}
"""struct's codes of the integer types."""
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


class Entry(NamedTuple):
    """An entry of a directory.

    Attributes
    ----------
    tag, kind, values : int
        Tag, type, and number of values.
    size : int
        Of its values in bytes.
    place : int
        Of its values in the file, 0 where they are in the entry.
    raw : bytes
        The entry as it is in the file.
    """

    tag: int
    kind: int
    values: int
    size: int
    place: int
    raw: bytes


class Layout(NamedTuple):
    """How the numbers of a TIFF file are stored.

    Attributes
    ----------
    order : str
        struct's code of the byte order.
    entry : Struct
        Tag, type, count, and the value or its place.
    number, place : Struct
        The number of entries of a directory, and a place in the file.
    directory : int
        Place of the directory.
    """

    order: str
    entry: struct.Struct
    number: struct.Struct
    place: struct.Struct
    directory: int


FORMS = {
    (order, is_big): tuple(
        struct.Struct(order + codes) for codes in (("HHQ8s", "Q", "Q") if is_big else ("HHL4s", "H", "L"))
    )
    for order in "<>"
    for is_big in (False, True)
}
"""Entry, number and place by byte order and whether it is a BigTIFF."""


def read_layout(content: bytes) -> Layout | None:
    """Return the layout of a TIFF file or an EXIF block, None if it has none."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 16:
        return None
    is_big = content[2] == 43
    entry, number, place = FORMS[order, is_big]
    return Layout(order, entry, number, place, *place.unpack_from(content, 8 if is_big else 4))


def read_entries(content: bytes, layout: Layout) -> Iterator[Entry]:
    """Yield the entries of the first directory, up to the end of the file."""
    form = layout.entry
    start = layout.directory + layout.number.size
    if start > len(content):
        return
    count = min(layout.number.unpack_from(content, layout.directory)[0], MAX_ENTRIES)
    for position in range(start, min(start + count * form.size, len(content) - form.size + 1), form.size):
        tag, kind, values, value = form.unpack_from(content, position)
        size = TYPE_SIZES.get(kind, 0) * values
        place = 0 if size <= len(value) else layout.place.unpack(value)[0]
        yield Entry(tag, kind, values, size, place, content[position : position + form.size])


def directory_overlaps(content: bytes) -> bool:
    """Return whether the values of a directory are together longer than the block: some are stored twice.

    Parameters
    ----------
    content : bytes
        An EXIF block: a TIFF file without pixels.
    """
    layout = read_layout(content)
    if layout is None:
        return False
    return sum(min(entry.size, len(content)) for entry in read_entries(content, layout)) > len(content)


def inspect_tiff(content: bytes) -> tuple[bytes, int, int]:
    """Remove what no pixel depends on from a TIFF file where that is large, repeated or cut off.

    Returns
    -------
    content : bytes
        The file as Pillow may read it. Pillow and libtiff take BigTIFF of the Motorola byte order for different
        things, so of these nothing is left.
    parts : int
        Number of strips or tiles.
    part_bytes : int
        Size of each, unpacked.
    """
    layout = read_layout(content)
    if layout is None:
        return content, 0, 0
    if content.startswith(b"MM\0\x2b"):
        return b"", 0, 0
    entries = list(read_entries(content, layout))
    kept: dict[int, Entry] = {}
    for entry in entries:
        is_needed = entry.tag in DECODED_TAGS or (entry.size <= MAX_SMALL and entry.tag not in DIRECTORY_TAGS)
        if is_needed and entry.place + entry.size <= len(content):
            kept.setdefault(entry.tag, entry)
    parts = _parts(content, layout, kept)
    if len(kept) == len(entries) < MAX_ENTRIES:
        return content, *parts
    raw = layout.number.pack(len(kept)) + b"".join(entry.raw for entry in kept.values()) + layout.place.pack(0)
    end = layout.directory + len(raw)
    return b"".join((content[: layout.directory], raw, content[end:])), *parts


def _parts(content: bytes, layout: Layout, entries: dict[int, Entry]) -> tuple[int, int]:
    """Return the number of strips or tiles, and the size of each in bytes, unpacked."""

    def value(tag: int, default: int) -> int:
        entry = entries.get(tag)
        if entry is None or entry.kind not in TYPE_CODES or not entry.values:
            return default
        source, place = (content, entry.place) if entry.place else (entry.raw, len(entry.raw) - layout.place.size)
        return max(0, int(struct.unpack_from(layout.order + TYPE_CODES[entry.kind], source, place)[0]))

    width, height, samples = value(WIDTH, 0), value(HEIGHT, 0), value(SAMPLES, 1)
    planes = samples if value(PLANAR, 1) == 2 else 1
    bits = max(8, value(BITS, 1)) * samples // max(planes, 1)
    parts, part_bytes = 0, 0
    for tag, columns, rows in (
        (STRIP_OFFSETS, width, min(value(ROWS_PER_STRIP, height), height)),
        (TILE_OFFSETS, value(TILE_WIDTH, width), value(TILE_HEIGHT, height)),
    ):
        if tag in entries:
            needed = planes * -(-width // max(columns, 1)) * -(-height // max(rows, 1))
            parts = max(parts, needed, entries[tag].values)
            part_bytes = max(part_bytes, columns * rows * bits // 8)
    return parts, part_bytes
