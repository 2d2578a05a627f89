"""The files of a release: their names, release.json."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pipeline import storage
from pipeline.errors import InputError
from pipeline.formats.dataset_json import DatasetFile
from pipeline.formats.json_files import decode_json
from pipeline.vocabulary import FORMAT_VERSION, RELEASE_VERSION

RELEASE_FILE, SUMS = "release.json", "SHA256SUMS"
LANDMARKS, REJECTS, TABLE = "landmarks.parquet", "rejects.csv", "attribute_table.toml"
CARD, LICENSE, CROISSANT, CONTACT_SHEET = "README.md", "LICENSE.md", "croissant.json", "contact_sheet.png"


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


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a release.

    Attributes
    ----------
    bytes : int
    sha256 : str
    """

    bytes: int
    sha256: str


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
    row_groups: dict[str, tuple[int, int]]
    files: dict[str, FileEntry]


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
        content = storage.read_bytes(path)
    release = decode_json(content, ReleaseFile, path, InputError)
    found = release.release_version, release.dataset.format_version
    if found != (RELEASE_VERSION, FORMAT_VERSION):
        raise InputError(
            f"{path}: release_version is {found[0]} and format_version {found[1]},"
            f" expected {RELEASE_VERSION} and {FORMAT_VERSION}"
        )
    return release
