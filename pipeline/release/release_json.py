"""The files of a release: their names, release.json."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import msgspec

from pipeline import storage
from pipeline.config import RESOLUTIONS
from pipeline.errors import InputError
from pipeline.formats.dataset_json import DatasetFile
from pipeline.formats.json_files import decode_json, read_json_file
from pipeline.formats.samples import KEY
from pipeline.inputs.image_ids import is_unsafe
from pipeline.vocabulary import FORMAT_VERSION, RELEASE_VERSION
from regions.messages import shown

RELEASE_FILE, SUMS = "release.json", "SHA256SUMS"
LANDMARKS, REJECTS, TABLE = "landmarks.parquet", "rejects.csv", "attribute_table.toml"
CARD, LICENSE, CROISSANT, CONTACT_SHEET = "README.md", "LICENSE.md", "croissant.json", "contact_sheet.png"
FILES = (LANDMARKS, REJECTS, TABLE, CARD, LICENSE, CROISSANT, CONTACT_SHEET)
"""The files that release.json lists beside the mask shards."""


def mask_shard(name: str) -> str:
    """Return where the masks of a shard lie in a release."""
    return f"masks/{name}.tar"


def mask_size(resolution: str, crop: Sequence[int]) -> tuple[int, int]:
    """Return height and width of the masks of an image.

    Parameters
    ----------
    resolution : str
        One of `pipeline.config.RESOLUTIONS`.
    crop : sequence of int
        x0, y0, x1, y1 in pixels of the source image.
    """
    if resolution == "source":
        x0, y0, x1, y1 = crop
        return y1 - y0, x1 - x0
    height, width = resolution.split("x")
    return int(height), int(width)


def is_release(folder: str) -> bool:
    """Return whether a folder is a release rather than a run."""
    return any(storage.exists(storage.join(folder, name)) for name in (RELEASE_FILE, SUMS))


def list_release(folder: str) -> dict[str, int]:
    """Return the files of a release and their sizes; see `pipeline.storage.list_files`.

    Files may be links, as in the cache of a hub. A link to a folder could lead through the whole machine.

    Raises
    ------
    InputError
        If the folder cannot be listed, or has a link to a folder.
    """
    if not storage.is_remote(folder):
        for parent, names, _ in os.walk(folder):
            for path in (os.path.join(parent, name) for name in names):
                if os.path.islink(path):
                    raise InputError(f"{path}: a link to a folder, expected a folder of files")
    return storage.list_files(folder)


Count = Annotated[int, msgspec.Meta(ge=0)]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a release.

    Attributes
    ----------
    bytes : int
    sha256 : str
    """

    bytes: Count
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class ReleaseFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of release.json.

    Attributes
    ----------
    release_version : int
    resolution : str
        Of the masks: one of `pipeline.config.RESOLUTIONS`.
    labels : bool
        Whether the release holds labels and masks.
    dataset : DatasetFile
        Content of the run's dataset.json; its image folder is left out.
    row_groups : dict of str to tuple of int
        For each shard its first row group in landmarks.parquet and their number.
    files : dict of str to FileEntry
        By name.
    """

    release_version: int
    resolution: str
    labels: bool
    dataset: DatasetFile
    row_groups: dict[str, tuple[Count, Count]]
    files: dict[str, FileEntry]

    def mask_shards(self) -> list[str]:
        """Return the names of the mask shards that the release must have."""
        return [mask_shard(shard.name) for shard in self.dataset.shards if shard.samples and self.labels]


def read_release_file(folder: str) -> ReleaseFile:
    """Return the content of release.json.

    Raises
    ------
    InputError
        If there is none, it has another version, or a field is missing or wrong.
    """
    path = storage.join(folder, RELEASE_FILE)
    if not storage.exists(path):
        raise InputError(f"{folder}: no {RELEASE_FILE}, expected a folder that attparse release wrote")
    with storage.explained(path):
        content = read_json_file(path)
    release = decode_json(content, ReleaseFile, path, InputError)
    found = release.release_version, release.dataset.format_version
    if found != (RELEASE_VERSION, FORMAT_VERSION):
        raise InputError(
            f"{path}: release_version is {found[0]} and format_version {found[1]},"
            f" expected {RELEASE_VERSION} and {FORMAT_VERSION}"
        )
    problem = _problem_of(release)
    if problem:
        raise InputError(f"{path}: {problem}")
    return release


def _problem_of(release: ReleaseFile) -> str | None:
    """Return what does not fit together in release.json; of all names, only those that a release can have pass."""
    if release.resolution not in RESOLUTIONS:
        return f"resolution is {release.resolution!r}, expected one of {', '.join(RESOLUTIONS)}"
    shards = release.dataset.shards
    other = {shard.name for shard in shards} ^ set(release.row_groups)
    if other:
        return f"row_groups and shards differ in {min(other)!r}, expected the same names"
    masks = release.mask_shards()
    for name in (LANDMARKS, *masks):
        if name not in release.files:
            return f"files has no {name!r}"
    further = set(release.files) - {*FILES, *masks}
    if further:
        return f"files has {shown(min(further))}, expected only those of a release"
    total = sum(shard.samples for shard in shards)
    if release.dataset.samples != total:
        return f"samples is {release.dataset.samples}, but the sum over its shards is {total}"
    return None


def id_problem(image_ids: Sequence[str | None], keys: Sequence[str | None]) -> str | None:
    """Return what is wrong with the ids and sample keys of landmarks.parquet, which become names of files and members.

    >>> id_problem(["a.jpg"], ["../a"])
    "key '../a' of image 'a.jpg', expected letters, digits, - and _, at most 89"
    >>> id_problem(["../a.jpg"], ["a"])
    "image_id '../a.jpg', expected a plain path below the image folder"
    """
    seen: set[str] = set()
    seen_ids: set[str] = set()
    for row, (image_id, key) in enumerate(zip(image_ids, keys, strict=True)):
        if image_id is None:
            return f"row {row} has no image_id"
        if is_unsafe(image_id):
            return f"image_id {shown(image_id)}, expected a plain path below the image folder"
        if key is None or not KEY.fullmatch(key):
            return f"key {shown(key)} of image {shown(image_id)}, expected letters, digits, - and _, at most 89"
        if key in seen:
            return f"key {key!r} of image {shown(image_id)} is that of another image too, expected one of its own"
        if image_id in seen_ids:
            return f"image_id {shown(image_id)} is there twice, expected each image once"
        seen.add(key)
        seen_ids.add(image_id)
    return None
