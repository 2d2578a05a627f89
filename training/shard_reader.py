"""Read the samples of a shard from its tar file; decode images, packed masks and labels."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import simplejpeg

from regions.image_files import PNG_HEADER, CostlyFileError, plain_gray_png, png_size
from regions.label_file import UNKNOWN
from regions.messages import counted
from regions.tar_files import read_members
from training.cli_common import DataError
from training.dataset_json import MASK_SIZE, Shard
from training.storage import open_read

StoredSample = dict[str, Any]
"""An undecoded sample of a shard: ``jpg``, ``masks.png`` and ``json`` as bytes, ``__key__``, ``__url__``."""

Pixels = npt.NDArray[np.uint8]

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
PNG_FRAME_BYTES = 57
"""Bytes of a PNG of one piece besides its compressed pixels."""
_CHUNK = struct.Struct(">I4s")

MAX_JPEG_BYTES = 1 << 19
"""Several times the pixels of a crop: more is a file made to be slow, with thousands of scans."""


class _Description(msgspec.Struct, gc=False):
    """What is read of a sample's JSON; the rest is only parsed."""

    labels: dict[str, Literal[0, 1] | None]


_DESCRIPTION = msgspec.json.Decoder(_Description)


def read_shard(shard: Shard) -> Iterator[StoredSample]:
    """Yield the samples of a shard, undecoded.

    Raises
    ------
    DataError
        If it cannot be read to its end, or its number of samples is not that in dataset.json.
    """
    count, last = 0, "the start"
    with open_read(shard.url) as stream:
        try:
            for sample in group_by_key(read_members(stream)):
                count, last = count + 1, f"sample {sample['__key__']!r}"
                yield {**sample, "__url__": shard.url}
        except Exception as error:  # besides ValueError, those of an object store's client
            what = str(error.args[0]) if error.args else type(error).__name__
            raise DataError(f"{shard.url}: cannot be read past {last}: {what}") from None
    if count != shard.samples:
        found = f"{counted(count, 'sample')} (the last is {last})"
        raise DataError(f"{shard.url}: found {found}, expected {shard.samples} as in dataset.json")


def group_by_key(members: Iterable[tuple[str, bytes]]) -> Iterator[StoredSample]:
    """Group consecutive members whose names are equal up to the first dot, as WebDataset does.

    Raises
    ------
    ValueError
        If a sample has a member twice, or another sample has the same key.
    """
    sample: StoredSample = {}
    keys: set[str] = set()
    for name, content in members:
        key, _, ending = name.partition(".")
        if sample.get("__key__") != key:
            if sample:
                yield sample
            if key in keys:
                raise ValueError(f"sample {key!r} appears twice")
            keys.add(key)
            sample = {"__key__": key}
        if ending in sample:
            raise ValueError(f"{name!r} appears twice")
        sample[ending] = content
    if sample:
        yield sample


def packed_shape(attributes: int) -> tuple[int, int, int]:
    """Return the shape of a sample's packed masks: eight to a byte."""
    return -(-attributes // 8), *MASK_SIZE


def decode(sample: StoredSample, attributes: tuple[str, ...], image: Pixels, packed_masks: Pixels) -> list[int]:
    """Decode a sample, and return its labels: 1, 0, or -1 where unknown.

    Parameters
    ----------
    sample : dict
    attributes : tuple of str
    image : ndarray (218, 178, 3) uint8
        Filled with RGB.
    packed_masks : ndarray (ceil(attributes / 8), 96, 76) uint8
        Filled with the packed masks; (0, 96, 76) where masks are not needed.

    Raises
    ------
    DataError
        If a member is missing or invalid; the message names shard and sample.
    """
    try:
        _decode_jpeg(sample["jpg"], image)
        if len(packed_masks):
            _decode_png(sample["masks.png"], packed_masks)
        labels = _read_labels(sample["json"], attributes)
    except KeyError as error:
        raise DataError(f"{sample['__url__']}: sample {sample['__key__']!r}: no {error.args[0]}") from None
    except ValueError as error:
        raise DataError(f"{sample['__url__']}: sample {sample['__key__']!r}: {error}") from None
    return labels


def _read_labels(content: bytes, attributes: tuple[str, ...]) -> list[int]:
    try:
        labels = _DESCRIPTION.decode(content).labels
    except (ValueError, RecursionError):  # ValueError: also msgspec's
        raise ValueError(_description_problem(content)) from None
    if tuple(labels) != attributes:
        raise ValueError("labels are not those of dataset.json")
    values = list(labels.values())
    return [UNKNOWN if value is None else value for value in values] if None in values else values  # type: ignore[return-value]


def _description_problem(content: bytes) -> str:
    """Return why a sample's JSON has no valid labels."""
    try:
        description = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        return f"json cannot be parsed: {error}"
    if not isinstance(description, dict) or not isinstance(description.get("labels"), dict):
        return "json has no labels by name"
    return "labels are not 0, 1 or null"


def _decode_jpeg(content: bytes, image: Pixels) -> None:
    height, width = image.shape[:2]
    if len(content) > MAX_JPEG_BYTES:
        raise ValueError(f"jpg of {len(content)} bytes, expected at most {MAX_JPEG_BYTES}")
    try:
        found = simplejpeg.decode_jpeg(content, buffer=image)
    except ValueError as error:
        raise ValueError(f"jpg cannot be decoded to {height}x{width}: {error}") from None
    if found.shape != image.shape:
        raise ValueError(f"jpg of {found.shape[0]}x{found.shape[1]}, expected {height}x{width}")


def _decode_png(content: bytes, packed_masks: Pixels) -> None:
    if not _decode_unfiltered_png(content, packed_masks):
        _decode_any_png(content, packed_masks)


def _decode_unfiltered_png(content: bytes, packed_masks: Pixels) -> bool:
    """Decode a gray PNG of one piece without filters, such as the pipeline writes: three times faster than OpenCV.

    Returns
    -------
    bool
        False for any other PNG, and for a damaged one.
    """
    count, height, width = packed_masks.shape
    rows = count * height
    size = rows * (width + 1)
    start, length = len(_png_start(rows, width)), len(content) - PNG_FRAME_BYTES
    view = memoryview(content)
    if not (
        0 <= length <= size
        and view[:start] == _png_start(rows, width)
        and view[start : start + 8] == _CHUNK.pack(length, b"IDAT")
        and view[start + 8 + length :] == zlib.crc32(view[start + 4 : start + 8 + length]).to_bytes(4, "big") + PNG_END
    ):
        return False
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(view[start + 8 : start + 8 + length], size + 1)
    except zlib.error:
        return False
    if len(unpacked) != size or not unpacker.eof or unpacker.unused_data or unpacked[:: width + 1].count(0) != rows:
        return False
    packed_masks.reshape(rows, width)[...] = np.frombuffer(unpacked, dtype=np.uint8).reshape(rows, width + 1)[:, 1:]
    return True


@functools.cache
def _png_start(height: int, width: int) -> bytes:
    """Return all that precedes the pixels of an 8-bit gray PNG."""
    header = PNG_HEADER + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return header + zlib.crc32(header[12:]).to_bytes(4, "big")


def _decode_any_png(content: bytes, packed_masks: Pixels) -> None:
    count, height, width = packed_masks.shape
    size = png_size(content)
    if size != (count * height, width):
        found = size or "unknown, as it is not a PNG"
        raise ValueError(f"masks.png of shape {found}, expected {(count * height, width)} uint8")
    try:
        plain = np.frombuffer(plain_gray_png(content), dtype=np.uint8)
    except CostlyFileError as error:
        raise ValueError(f"masks.png of {error}") from None
    stacked = cv2.imdecode(plain, cv2.IMREAD_UNCHANGED)
    if stacked is None:
        raise ValueError("masks.png cannot be decoded")
    if stacked.shape != (count * height, width) or stacked.dtype != np.uint8:
        expected = (count * height, width)
        raise ValueError(f"masks.png of shape {stacked.shape} {stacked.dtype}, expected {expected} uint8")
    packed_masks[...] = stacked.reshape(packed_masks.shape)
