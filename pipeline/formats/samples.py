"""The samples of a shard: the tar file that holds them is written and read here."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.errors import ShardError
from pipeline.records import WrittenSample
from pipeline.vocabulary import Split
from regions.masks import MASK_HEIGHT, MASK_WIDTH

JPEG, MASKS, JSON = "jpg", "masks.png", "json"
"""Endings of a sample's members, in the order in which they stand in the tar file."""


@dataclass(frozen=True)
class StoredSample:
    """A sample as it is read back.

    Attributes
    ----------
    key : str
    jpeg, png : bytes
    description : dict
        The JSON member.
    """

    key: str
    jpeg: bytes
    png: bytes
    description: dict[str, Any]


def read_samples(path: str) -> Generator[StoredSample, None, None]:
    """Yield the samples of a tar file in order.

    Raises
    ------
    ShardError
        If the file is no tar file, or a sample lacks a member or has an unknown one.
    """
    for key, members in read_members(path, (JPEG, MASKS, JSON)):
        yield StoredSample(key, members[JPEG], members[MASKS], parse_description(path, key, members[JSON]))


def read_members(path: str, endings: Sequence[str]) -> Generator[tuple[str, dict[str, bytes]], None, None]:
    """Yield key and members, by ending, of the samples of a tar file in order.

    Parameters
    ----------
    path : str
    endings : sequence of str
        Of the members of each sample, in their order.

    Raises
    ------
    ShardError
        If the file is no tar file, or a sample lacks a member or has an unknown one.
    """
    try:
        with storage.open_read(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            yield from _group_members(path, tar, endings)
    except (tarfile.TarError, OSError) as error:
        raise ShardError(f"{path}: {error}") from None


def _group_members(
    path: str, tar: tarfile.TarFile, endings: Sequence[str]
) -> Generator[tuple[str, dict[str, bytes]], None, None]:
    members: dict[str, bytes] = {}
    last_key = ""
    for info in tar:
        key, _, ending = info.name.partition(".")
        expected = endings[len(members)]
        content = tar.extractfile(info)
        if ending != expected or content is None:
            raise ShardError(f"{path}: member {info.name!r}, expected one ending in .{expected}")
        if members and key != last_key:
            raise ShardError(f"{path}: member {info.name!r}, expected .{expected} of sample {last_key!r}")
        last_key = key
        members[ending] = content.read()
        if len(members) == len(endings):
            yield key, members
            members = {}
    if members:
        raise ShardError(f"{path}: sample {last_key!r} has no .{endings[len(members)]}")


def parse_description(path: str, key: str, text: bytes) -> dict[str, Any]:
    """Parse the JSON member of a sample.

    Raises
    ------
    ShardError
        If it is not valid.
    """
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError):
        raise ShardError(f"{path}: sample {key!r}: {JSON} is not valid JSON") from None


def decode_packed_masks(png: bytes, size: tuple[int, int] = (MASK_HEIGHT, MASK_WIDTH)) -> npt.NDArray[np.uint8]:
    """Decode the packed masks of a sample: ``(planes, height, width)`` uint8.

    Parameters
    ----------
    png : bytes
    size : tuple of int
        Height and width of a mask.

    Raises
    ------
    ValueError
        If the bytes are no gray PNG of such planes.
    """
    height, width = size
    stacked = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if stacked is None:
        raise ValueError("masks are not a PNG")
    if stacked.ndim != 2 or stacked.dtype != np.uint8 or stacked.shape[1] != width or stacked.shape[0] % height:
        raise ValueError(f"masks have shape {stacked.shape}, expected (n * {height}, {width}) gray")
    return np.asarray(stacked, dtype=np.uint8).reshape(-1, height, width)


class SampleWriter:
    """Writes samples to a tar file whose bytes depend on nothing but the samples.

    Parameters
    ----------
    stream : binary stream
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = storage.HashingWriter(stream)
        self._tar = tarfile.TarFile(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)  # type: ignore[arg-type]

    def add(self, sample: WrittenSample, split: Split, attributes: list[str]) -> None:
        """Append the three members of a sample."""
        description = {
            "image_id": sample.row.image_id,
            "split": split,
            "labels": dict(zip(attributes, sample.row.labels.astype(int).tolist(), strict=True)),
            "landmarks": sample.landmarks.tolist(),
            "crop": list(sample.crop),
            "landmark_source": sample.landmark_source,
        }
        text = json.dumps(description, separators=(",", ":")).encode()
        self.add_members(sample.row.key, {JPEG: sample.jpeg, MASKS: sample.png, JSON: text})

    def add_members(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append the members of a sample, given by their endings."""
        for ending, content in members.items():
            self._member(f"{key}.{ending}", content)

    def _member(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        info.mode = 0o644
        self._tar.addfile(info, io.BytesIO(content))

    def close(self) -> None:
        """Write the end of the tar file."""
        self._tar.close()

    @property
    def bytes(self) -> int:
        """Size of the tar file."""
        return self._stream.bytes

    @property
    def sha256(self) -> str:
        """Hash of the tar file."""
        return self._stream.sha256
