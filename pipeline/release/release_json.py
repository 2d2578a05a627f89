"""The files of a release: their names, release.json, the attribute table as TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import storage
from pipeline.building.plan import FORMAT_VERSION
from pipeline.records import InputError

RELEASE_VERSION = 1
RESOLUTIONS = ("96x76", "218x178", "source")
"""Height and width of the masks: as in the shards, as the crops in them, as the crop in the source image."""
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
        One of `RESOLUTIONS`.
    crop : sequence of int
        x0, y0, x1, y1 in pixels of the source image.
    """
    if resolution == "source":
        x0, y0, x1, y1 = crop
        return y1 - y0, x1 - x0
    height, width = resolution.split("x")
    return int(height), int(width)


def is_release(folder: str) -> bool:
    """Tell whether a folder is a release rather than a run."""
    return any(storage.exists(storage.join(folder, name)) for name in (RELEASE_FILE, SUMS))


def read_release_file(folder: str) -> dict[str, Any]:
    """Return the content of release.json.

    Raises
    ------
    InputError
        If there is none, or it is of another version.
    """
    path = storage.join(folder, RELEASE_FILE)
    if not storage.exists(path):
        raise InputError(f"{folder}: no {RELEASE_FILE}, expected what attparse release wrote")
    with storage.explained(path):
        content = storage.read_bytes(path)
    try:
        document = json.loads(content)
        version, format_version = document["release_version"], document["dataset"]["format_version"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: damaged, expected what attparse release wrote") from None
    if (version, format_version) != (RELEASE_VERSION, FORMAT_VERSION):
        raise InputError(
            f"{path}: release_version is {version!r} and format_version {format_version!r},"
            f" expected {RELEASE_VERSION} and {FORMAT_VERSION}"
        )
    return dict(document)


def table_as_toml(table: Mapping[str, Any]) -> str:
    """Return the attribute table of dataset.json as a file for ``--attribute_table``.

    Parameters
    ----------
    table : mapping
        ``name``, ``attributes``, ``further_regions``.
    """
    lines = [f"name = {json.dumps(table['name'])}", "", "[attributes]"]
    lines += [f"{json.dumps(name)} = {json.dumps(list(regions))}" for name, regions in table["attributes"].items()]
    if table["further_regions"]:
        lines += ["", "[regions]"]
    for name, outlines in table["further_regions"].items():
        rings = ", ".join(f"[{', '.join(map(_vertex, outline))}]" for outline in outlines)
        lines.append(f"{json.dumps(name)} = [{rings}]")
    return "\n".join(lines) + "\n"


def _vertex(vertex: int | Mapping[str, float]) -> str:
    if isinstance(vertex, int):
        return str(vertex)
    weights = ", ".join(f"{json.dumps(index)} = {float(weight)!r}" for index, weight in vertex.items())
    return f"{{ {weights} }}"
