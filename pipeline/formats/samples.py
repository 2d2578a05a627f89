"""The samples of a shard: what their members hold, how they are encoded, and how a tar file is read back."""

from __future__ import annotations

import itertools
import json
import re
import tarfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Literal

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.errors import ShardError, ShardReadError
from pipeline.formats.json_files import decode_json
from pipeline.records import WrittenSample
from pipeline.vocabulary import LandmarkSource, Split
from regions.boxes import Box
from regions.image_files import MAX_OTHER_PIXELS, CostlyFileError, plain_gray_png, png_size
from regions.label_file import UNKNOWN
from regions.landmarks import NUM_LANDMARKS
from regions.masks import MASK_HEIGHT, MASK_WIDTH
from regions.tar_files import read_members as read_tar

JPEG, MASKS, JSON = "jpg", "masks.png", "json"
"""Endings of a sample's members, in their order in the tar file."""

KEY = re.compile("[A-Za-z0-9_-]{1,89}")
"""A sample key: a name in a tar file that leads nowhere, and short enough for a tar header."""

MAX_COORDINATE = 1 << 31
"""Coordinates are below this: those of crops are stored in 32 bits."""
_is_in_range = float(MAX_COORDINATE).__gt__

Label = Literal[0, 1, None]
"""A label in JSON: 1 yes, 0 no, null unknown."""


class SampleDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON member of a sample.

    Attributes
    ----------
    image_id : str
        Path below the image folder.
    split : Split
    labels : dict of str to Label
        By attribute, in the order of the label file.
    landmarks : tuple of (float, float)
        x and y of each of the 68, in pixels of the source image.
    crop : Box
        In pixels of the source image; may reach outside of it.
    landmark_source : LandmarkSource
    """

    image_id: str
    split: Split
    labels: dict[str, Label]
    landmarks: Annotated[
        tuple[tuple[float, float], ...], msgspec.Meta(min_length=NUM_LANDMARKS, max_length=NUM_LANDMARKS)
    ]
    crop: Box
    landmark_source: LandmarkSource

    def __post_init__(self) -> None:
        """Check that the crop has an area, and that all coordinates are in range."""
        x0, y0, x1, y1 = self.crop
        if x0 >= x1 or y0 >= y1:
            raise ValueError(f"crop is {list(self.crop)}, expected x0 < x1 and y0 < y1")
        for field, values in (("crop", self.crop), ("landmarks", tuple(itertools.chain(*self.landmarks)))):
            if not all(map(_is_in_range, map(abs, values))):
                value = next(value for value in values if not abs(value) < MAX_COORDINATE)
                raise ValueError(f"{field} has coordinate {value}, expected less than {MAX_COORDINATE} either way")

    def label_values(self) -> npt.NDArray[np.int8]:
        """Return the labels as an array ``(attributes,)``: 1 yes, 0 no, `UNKNOWN`."""
        return np.array([UNKNOWN if value is None else value for value in self.labels.values()], dtype=np.int8)


def describe_sample(sample: WrittenSample, split: Split, attributes: Sequence[str]) -> SampleDescription:
    """Return the description of a sample, `attributes` being the names of its labels."""
    labels: list[Label] = [None if value == UNKNOWN else 1 if value else 0 for value in sample.row.labels.tolist()]
    return SampleDescription(
        image_id=sample.row.image_id,
        split=split,
        labels=dict(zip(attributes, labels, strict=True)),
        landmarks=tuple((x, y) for x, y in sample.landmarks.tolist()),
        crop=sample.crop,
        landmark_source=sample.landmark_source,
    )


def encode_description(description: SampleDescription) -> bytes:
    """Encode the JSON member of a sample, in ASCII.

    msgspec is the faster, but leaves letters beyond ASCII as they are. The text of landmarks, whole 64ths of a pixel,
    is the same.
    """
    text = msgspec.json.encode(description)
    return text if text.isascii() else json.dumps(msgspec.structs.asdict(description), separators=(",", ":")).encode()


def parse_description(path: str, key: str, text: bytes) -> SampleDescription:
    """Parse the JSON member of a sample.

    Parameters
    ----------
    path : str
        Of the tar file, for messages.
    key : str
        Of the sample, for messages.
    text : bytes

    Raises
    ------
    ShardError
        If it is not valid JSON, or a field is missing or wrong.
    """
    return decode_json(text, SampleDescription, f"{path}: sample {key!r}: {JSON}", ShardError)


@dataclass(frozen=True)
class StoredSample:
    """A sample as it is read back.

    Attributes
    ----------
    key : str
    jpeg, png : bytes
        The encoded crop, and the encoded packed masks.
    description : SampleDescription
        The JSON member.
    """

    key: str
    jpeg: bytes
    png: bytes
    description: SampleDescription


def read_samples(path: str) -> Generator[StoredSample, None, None]:
    """Yield the samples of a tar file in order.

    Raises
    ------
    ShardError
        If the file is not a tar file, a sample lacks a member or has an unknown one, or its
        description is not valid.
    """
    for key, members in read_members(path, (JPEG, MASKS, JSON)):
        yield StoredSample(key, members[JPEG], members[MASKS], parse_description(path, key, members[JSON]))


def read_members(path: str, endings: Sequence[str]) -> Generator[tuple[str, dict[str, bytes]], None, None]:
    """Yield the key and the members, by ending, of each sample of a tar file, in order.

    Parameters
    ----------
    path : str
    endings : sequence of str
        Endings of the members of each sample, in their order.

    Raises
    ------
    ShardError
        If the file is not a tar file, or a sample lacks a member or has an unknown one.
    ShardReadError
        If the file cannot be read.
    """
    try:
        with storage.open_read(path) as stream:
            yield from _group_members(path, read_tar(stream), endings)
    except OSError as error:
        raise ShardReadError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise ShardError(f"{path}: {error}") from None


def _group_members(
    path: str, contents: Iterable[tuple[str, bytes]], endings: Sequence[str]
) -> Generator[tuple[str, dict[str, bytes]], None, None]:
    members: dict[str, bytes] = {}
    last_key = ""
    for name, content in contents:
        key, _, ending = name.partition(".")
        expected = endings[len(members)]
        if ending != expected:
            raise ShardError(f"{path}: member {name!r}, expected one ending in .{expected}")
        if not KEY.fullmatch(key):
            raise ShardError(f"{path}: member {name!r}, expected a key of letters, digits, - and _, at most 89")
        if members and key != last_key:
            raise ShardError(f"{path}: member {name!r}, expected .{expected} of sample {last_key!r}")
        last_key = key
        members[ending] = content
        if len(members) == len(endings):
            yield key, members
            members = {}
    if members:
        raise ShardError(f"{path}: sample {last_key!r} has no .{endings[len(members)]}")


def decode_packed_masks(png: bytes, size: tuple[int, int] = (MASK_HEIGHT, MASK_WIDTH)) -> npt.NDArray[np.uint8]:
    """Decode the packed masks of a sample.

    Parameters
    ----------
    png : bytes
    size : tuple of int
        Height and width of a mask.

    Returns
    -------
    ndarray (ceil(attributes / 8), height, width) uint8
        See `regions.masks.unpack_masks`.

    Raises
    ------
    ValueError
        If the bytes are not a grayscale PNG of packed masks of this size.
    """
    height, width = size
    expected = f"(n * {height}, {width}) grayscale"
    found = png_size(png)
    if found is None:
        raise ValueError("masks are not a PNG")
    if height < 1 or found[1] != width or found[0] % height or found[0] * width > MAX_OTHER_PIXELS:
        raise ValueError(f"masks have shape {found}, expected {expected}")
    try:
        plain = np.frombuffer(plain_gray_png(png), dtype=np.uint8)
    except CostlyFileError as error:
        raise ValueError(f"masks have {error}") from None
    stacked = cv2.imdecode(plain, cv2.IMREAD_UNCHANGED)
    if stacked is None:
        raise ValueError("masks are not a PNG")
    if stacked.shape != found or stacked.dtype != np.uint8:
        raise ValueError(f"masks have shape {stacked.shape}, expected {expected}")
    return np.asarray(stacked, dtype=np.uint8).reshape(-1, height, width)


class SampleWriter:
    """Writes samples to a tar file whose bytes depend on nothing but the samples.

    Parameters
    ----------
    stream : binary stream
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = storage.HashingWriter(stream)

    def add(self, sample: WrittenSample, split: Split, attributes: list[str]) -> None:
        """Append the three members of a sample."""
        text = encode_description(describe_sample(sample, split, attributes))
        self.add_members(sample.row.key, {JPEG: sample.jpeg, MASKS: sample.png, JSON: text})

    def add_members(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append the members of a sample, given by their endings."""
        pieces = []
        for ending, content in members.items():
            padding = bytes(-len(content) % tarfile.BLOCKSIZE)
            pieces += [_tar_header(f"{key}.{ending}".encode("ascii"), len(content)), content, padding]
        self._stream.write(b"".join(pieces))

    def close(self) -> None:
        """Write the end of the tar file."""
        end = 2 * tarfile.BLOCKSIZE
        self._stream.write(bytes(end + -(self._stream.bytes + end) % tarfile.RECORDSIZE))

    @property
    def bytes(self) -> int:
        """Size of the tar file."""
        return self._stream.bytes

    @property
    def sha256(self) -> str:
        """Hash of the tar file."""
        return self._stream.sha256


_EMPTY_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
"""Of a file without name and content, mode 644."""


def _tar_header(name: bytes, size: int) -> bytes:
    """Return the header that tarfile writes for a member, for a fifth of its time."""
    if len(name) > tarfile.LENGTH_NAME:
        raise ValueError(f"member {name.decode()!r} of a tar file, expected at most {tarfile.LENGTH_NAME} letters")
    header = bytearray(_EMPTY_HEADER)
    header[: len(name)] = name
    header[124:135] = b"%011o" % size
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)
