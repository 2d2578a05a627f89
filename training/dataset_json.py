"""Read dataset.json, the contract between a run of the pipeline and its readers, and check the shards against it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm import tqdm

from regions.messages import shown
from training.cli_common import DataError
from training.storage import is_remote, join, open_read, read_bytes

FORMAT_VERSION = 2
IMAGE_SIZE, MASK_SIZE = (218, 178), (96, 76)
"""Height and width of AttParseNet's input and output."""
SPLITS = ("train", "val", "test")
CROPS = ("face", "none")
SHARD_NAME = re.compile(f"({'|'.join(SPLITS)})-[0-9]{{6,}}")
MAX_JSON_BYTES = 1 << 28
"""Bytes of a dataset.json, which has 250 for each shard."""
MAX_COUNT = 1 << 53
"""Samples or bytes of a shard: larger numbers are not exact in every reader of JSON."""
CHUNK = 1 << 20
EXCERPT = 60
"""Number of characters of a wrong value that a message shows."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Shard:
    """A tar file of samples.

    Attributes
    ----------
    url : str
        Path or URL.
    samples, bytes : int
    sha256 : str
    """

    url: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """The contents of dataset.json that training uses.

    Attributes
    ----------
    folder : str
        Folder of the run, local or a URL.
    attributes : tuple of str
        In the order of labels and masks.
    crop : str
        ``face`` or ``none``.
    shards : dict of str to tuple of Shard
        By split: train, val, test.
    """

    folder: str
    attributes: tuple[str, ...]
    crop: str
    shards: dict[str, tuple[Shard, ...]]

    def shards_of(self, split: str) -> tuple[Shard, ...]:
        """Return the shards of a split that hold samples.

        Raises
        ------
        DataError
            If there are none.
        """
        shards = tuple(shard for shard in self.shards.get(split, ()) if shard.samples)
        if not shards:
            known = ", ".join(name for name, own in self.shards.items() if any(shard.samples for shard in own))
            raise DataError(
                f"{self.folder}: no samples in split {split!r}, expected one of: {known or 'no split has any'}"
            )
        return shards


def read_dataset(folder: str) -> Dataset:
    """Read the dataset.json of a finished run.

    Parameters
    ----------
    folder : str
        Folder of the run: local, http(s)://, gs:// or s3://.

    Raises
    ------
    DataError
        If there is none, or its format version or sizes are not those that AttParseNet expects.
    """
    path = join(folder, "dataset.json")
    if not is_remote(folder):
        if not os.path.exists(path):
            raise DataError(f"{folder}: no dataset.json, expected the folder of a finished run of attparse")
        if os.path.getsize(path) > MAX_JSON_BYTES:
            raise DataError(f"{path}: found {os.path.getsize(path)} bytes, expected at most {MAX_JSON_BYTES}")
    try:
        document = json.loads(read_bytes(path), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise DataError(f"{path}: not a JSON object: {_excerpt(document)}")
    for field, expected in (
        ("format_version", FORMAT_VERSION),
        ("image_size", list(IMAGE_SIZE)),
        ("mask_size", list(MASK_SIZE)),
    ):
        found = document.get(field, MISSING)
        if found != expected:
            raise DataError(f"{path}: field {field!r}: found {_excerpt(found)}, expected {expected!r}")
    return _Reader(path).dataset(folder, document)


MISSING = object()
"""Marks an absent field."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON whose names are each there once: of two, other readers may take the other one."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        repeated = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise ValueError(f"{shown(repeated)} is there twice in one object, expected each name once")
    return fields


def _excerpt(value: object) -> str:
    try:
        text = "nothing" if value is MISSING else json.dumps(value)
    except RecursionError:
        text = "deeply nested JSON"
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}..."


@dataclass(frozen=True)
class _Reader:
    """Reads the fields of a dataset.json; the first wrong one raises DataError.

    Attributes
    ----------
    path : str
        Path or URL of the file, for messages.
    """

    path: str

    def dataset(self, folder: str, document: dict[str, Any]) -> Dataset:
        attributes = self._field(document, "attributes", list, "a list of names")
        texts = [name for name in attributes if isinstance(name, str) and name]
        if not texts or len(texts) < len(attributes) or len(set(texts)) < len(texts):
            raise self._wrong("'attributes'", attributes, "different names, at least one")
        crop = self._field(document, "crop", str, "'face' or 'none'")
        if crop not in CROPS:
            raise self._wrong("'crop'", crop, "'face' or 'none'")
        shards: dict[str, list[Shard]] = {}
        urls: set[str] = set()
        for index, entry in enumerate(self._field(document, "shards", list, "a list of shards")):
            if not isinstance(entry, dict):
                raise self._wrong(f"'shards', entry {index + 1}", entry, "an object")
            split, shard = self._shard(folder, entry, f"shard {index + 1}")
            if shard.url in urls:
                raise self._wrong(f"'name' of shard {index + 1}", entry["name"], "each shard once")
            urls.add(shard.url)
            shards.setdefault(split, []).append(shard)
        return Dataset(folder, tuple(texts), crop, {split: tuple(own) for split, own in shards.items()})

    def _shard(self, folder: str, entry: dict[str, Any], owner: str) -> tuple[str, Shard]:
        name = self._field(entry, "name", str, "a name such as 'train-000000'", owner)
        if not SHARD_NAME.fullmatch(name):
            raise self._wrong(f"'name' of {owner}", name, "a name such as 'train-000000'")
        owner = f"shard {name!r}"
        split = self._field(entry, "split", str, "'train', 'val' or 'test'", owner)
        if split not in SPLITS:
            raise self._wrong(f"'split' of {owner}", split, "'train', 'val' or 'test'")
        samples = self._count(entry, "samples", owner)
        size = self._count(entry, "bytes", owner)
        sha256 = self._field(entry, "sha256", str, "64 hexadecimal digits", owner)
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise self._wrong(f"'sha256' of {owner}", sha256, "64 hexadecimal digits")
        return split, Shard(join(folder, "shards", f"{name}.tar"), samples, size, sha256)

    def _count(self, entry: dict[str, Any], name: str, owner: str) -> int:
        count = self._field(entry, name, int, "a whole number of at least 0", owner)
        if not 0 <= count <= MAX_COUNT or isinstance(count, bool):
            raise self._wrong(f"{name!r} of {owner}", count, "a whole number of at least 0")
        return count

    def _field(
        self, fields: dict[str, Any], name: str, kind: type[Value], expected: str, owner: str | None = None
    ) -> Value:
        value = fields.get(name, MISSING)
        if not isinstance(value, kind):
            raise self._wrong(f"{name!r} of {owner}" if owner else repr(name), value, expected)
        return value

    def _wrong(self, field: str, value: object, expected: str) -> DataError:
        return DataError(f"{self.path}: field {field}: found {_excerpt(value)}, expected {expected}")


def check_shards(shards: tuple[Shard, ...], *, checksums: bool) -> None:
    """Check that the shards exist as dataset.json lists them.

    Parameters
    ----------
    shards : tuple of Shard
    checksums : bool
        Read all shards and compare their checksums; otherwise compare only the sizes of local files.

    Raises
    ------
    DataError
        If a shard is missing or differs; the message names the first one.
    """
    for shard in shards:
        if not is_remote(shard.url):
            if not os.path.exists(shard.url):
                raise DataError(f"{shard.url}: missing, expected as dataset.json lists it")
            found = os.path.getsize(shard.url)
            if found != shard.bytes:
                raise DataError(f"{shard.url}: found {found} bytes, expected {shard.bytes} as in dataset.json")
    if checksums:
        for shard in tqdm(shards, desc="checksums", unit=" shards"):
            if _sha256(shard.url) != shard.sha256:
                raise DataError(f"{shard.url}: found another sha256, expected that in dataset.json")


def _sha256(url: str) -> str:
    digest = hashlib.sha256()
    with open_read(url) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
