"""Read the samples of a shard from its tar file; decode images, packed masks and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, Any

import cv2
import numpy as np
import numpy.typing as npt
import orjson
import simplejpeg

from regions.label_file import UNKNOWN
from regions.messages import counted
from training.cli_common import DataError
from training.dataset_json import MASK_SIZE, Shard
from training.storage import open_read

StoredSample = dict[str, Any]
"""An undecoded sample of a shard: ``jpg``, ``masks.png`` and ``json`` as bytes, ``__key__``, ``__url__``."""

Pixels = npt.NDArray[np.uint8]

BLOCK = 512
"""Bytes of a header of a tar file; contents are padded to a multiple of it."""
END = bytes(BLOCK)


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
                yield {"__url__": shard.url, **sample}
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
        If a sample has a member twice.
    """
    sample: StoredSample = {}
    for name, content in members:
        key, _, ending = name.partition(".")
        if sample.get("__key__") != key:
            if sample:
                yield sample
            sample = {"__key__": key}
        if ending in sample:
            raise ValueError(f"{name!r} appears twice")
        sample[ending] = content
    if sample:
        yield sample


def read_members(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the members of a tar file of plain files, such as the pipeline writes.

    Python's tarfile takes 80 microseconds for the three headers of a sample, a quarter of the time to decode it.

    Raises
    ------
    ValueError
        If the file ends too early, a header is damaged, or a member is not a plain file.
    """
    while (header := _read(stream, BLOCK, "a header")) != END:
        try:
            size, checksum = int(header[124:135], 8), int(header[148:154], 8)
        except ValueError:
            raise ValueError("damaged header") from None
        if checksum != sum(header) - sum(header[148:156]) + 8 * ord(" "):
            raise ValueError("damaged header")
        name = header[:100].rstrip(b"\0").decode()
        if header[156:157] not in (b"0", b"\0") or header[345:346] != b"\0":
            raise ValueError(f"member {name!r} is not a plain file with a name of up to 100 letters")
        yield name, _read(stream, size + -size % BLOCK, name)[:size]


def _read(stream: IO[bytes], size: int, what: str) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise ValueError(f"the file ends within {what}")
    return content


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
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{sample['__url__']}: sample {sample['__key__']!r}: {error}") from None
    return labels


def _read_labels(content: bytes, attributes: tuple[str, ...]) -> list[int]:
    try:
        labels = orjson.loads(content)["labels"]
    except orjson.JSONDecodeError as error:
        raise ValueError(f"json cannot be parsed: {error}") from None
    if tuple(labels) != attributes:
        raise ValueError("labels are not those of dataset.json")
    values = list(labels.values())
    kinds = set(values)
    if not kinds <= {0, 1}:
        if not kinds <= {0, 1, None}:
            raise ValueError("labels are not 0, 1 or null")
        return [UNKNOWN if value is None else value for value in values]
    return values


def _decode_jpeg(content: bytes, image: Pixels) -> None:
    height, width = image.shape[:2]
    try:
        found = simplejpeg.decode_jpeg(content, buffer=image)
    except ValueError as error:
        raise ValueError(f"jpg cannot be decoded to {height}x{width}: {error}") from None
    if found.shape != image.shape:
        raise ValueError(f"jpg of {found.shape[0]}x{found.shape[1]}, expected {height}x{width}")


def _decode_png(content: bytes, packed_masks: Pixels) -> None:
    count, height, width = packed_masks.shape
    stacked = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    if stacked is None:
        raise ValueError("masks.png cannot be decoded")
    if stacked.shape != (count * height, width) or stacked.dtype != np.uint8:
        expected = (count * height, width)
        raise ValueError(f"masks.png of shape {stacked.shape} {stacked.dtype}, expected {expected} uint8")
    packed_masks[...] = stacked.reshape(packed_masks.shape)
