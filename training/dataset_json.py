"""dataset.json, what a run of the pipeline promises to its readers: reading it and checking the shards against it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from training.cli_common import DataError
from training.storage import is_remote, join, open_read, read_bytes

FORMAT_VERSION = 2
IMAGE_SIZE, MASK_SIZE = (218, 178), (96, 76)
"""Height and width that AttParseNet takes and gives."""
CHUNK = 1 << 20


@dataclass(frozen=True)
class Shard:
    """A tar file of samples.

    Attributes
    ----------
    url : str
        Where it lies.
    samples, bytes : int
    sha256 : str
    """

    url: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """What dataset.json tells.

    Attributes
    ----------
    folder : str
        Of the run, local or a URL.
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
            raise DataError(f"{self.folder}: no samples in split {split!r}, expected one of: {known or 'none has any'}")
        return shards


def read_dataset(folder: str) -> Dataset:
    """Read the dataset.json of a finished run.

    Parameters
    ----------
    folder : str
        Of the run: local, http(s)://, gs:// or s3://.

    Raises
    ------
    DataError
        If there is none, or it is of another format or size than AttParseNet takes.
    """
    path = join(folder, "dataset.json")
    if not is_remote(folder) and not os.path.exists(path):
        raise DataError(f"{folder}: no dataset.json, expected the folder of a finished run of attparse")
    try:
        document = json.loads(read_bytes(path))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise DataError(f"{path}: not a JSON object")
    for field, expected in (
        ("format_version", FORMAT_VERSION),
        ("image_size", list(IMAGE_SIZE)),
        ("mask_size", list(MASK_SIZE)),
    ):
        if document.get(field) != expected:
            raise DataError(f"{path}: {field} is {document.get(field)!r}, expected {expected!r}")
    try:
        return _dataset(folder, document)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not as expected: {error!r}") from None


def _dataset(folder: str, document: dict[str, Any]) -> Dataset:
    attributes = tuple(str(name) for name in document["attributes"])
    if not attributes or len(set(attributes)) != len(attributes):
        raise ValueError("attributes are empty or repeated")
    shards: dict[str, list[Shard]] = {}
    for entry in document["shards"]:
        name = str(entry["name"])
        if not name.replace("-", "").isalnum():
            raise ValueError(f"shard name {name!r}")
        url = join(folder, "shards", f"{name}.tar")
        shard = Shard(url, int(entry["samples"]), int(entry["bytes"]), str(entry["sha256"]))
        shards.setdefault(str(entry["split"]), []).append(shard)
    return Dataset(folder, attributes, str(document["crop"]), {split: tuple(own) for split, own in shards.items()})


def check_shards(shards: tuple[Shard, ...], *, checksums: bool) -> None:
    """Check that the shards are there as dataset.json lists them.

    Parameters
    ----------
    shards : tuple of Shard
    checksums : bool
        Whether to read them all and compare their hashes; without, the sizes of local files are compared.

    Raises
    ------
    DataError
        For the first shard that differs.
    """
    for shard in shards:
        if not is_remote(shard.url):
            if not os.path.exists(shard.url):
                raise DataError(f"{shard.url}: missing, though dataset.json lists it")
            found = os.path.getsize(shard.url)
            if found != shard.bytes:
                raise DataError(f"{shard.url}: {found} bytes, dataset.json says {shard.bytes}")
    if checksums:
        for shard in tqdm(shards, desc="checksums", unit=" shards"):
            if _sha256(shard.url) != shard.sha256:
                raise DataError(f"{shard.url}: sha256 differs from the one in dataset.json")


def _sha256(url: str) -> str:
    digest = hashlib.sha256()
    with open_read(url) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
