"""Read label files of other data sets (LFWA, UMD-AED) and match their attributes with those of a checkpoint."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from regions.label_file import LabelTable, parse_labels
from regions.text_tables import TableFileError, text_lines
from training.cli_common import DataError
from training.storage import read_bytes


def read_labels(path: str) -> LabelTable:
    """Read a label file; its image ids are paths below the image folder, with slashes.

    Raises
    ------
    DataError
        If it is invalid; the message states file, line, what was found and what was expected.
    """
    try:
        table = parse_labels(text_lines(io.BytesIO(read_bytes(path))), path)
    except TableFileError as error:
        raise DataError(str(error)) from None
    image_ids = [image_id.replace("\\", "/") for image_id in table.image_ids]
    seen: set[str] = set()
    for image_id in image_ids:
        if not image_id or image_id.startswith("/") or ".." in image_id.split("/") or ":" in image_id:
            raise DataError(f"{path}: found image {image_id!r}, expected a path below the image folder")
        if image_id in seen:
            raise DataError(f"{path}: found image {image_id!r} twice, with a slash and with a backslash, expected once")
        seen.add(image_id)
    return replace(table, image_ids=image_ids)


def match_attributes(wanted: Sequence[str], known: Sequence[str]) -> dict[str, int]:
    """Return the index of each wanted attribute among the known ones, in any case, with spaces or underscores."""
    places = {_folded(name): index for index, name in enumerate(known)}
    return {name: places[_folded(name)] for name in wanted if _folded(name) in places}


def _folded(name: str) -> str:
    return name.strip().replace(" ", "_").casefold()


def image_path(folder: str, image_id: str) -> str:
    """Return the path of an image.

    Raises
    ------
    DataError
        If there is no such file, or it is outside the folder.
    """
    path = os.path.join(folder, image_id)
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such image, though the label file lists it")
    if Path(os.path.realpath(folder)) not in Path(os.path.realpath(path)).parents:
        raise DataError(f"{path}: found a link out of {folder}, expected an image inside it")
    return path
