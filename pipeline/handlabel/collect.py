"""``attparse handlabel import``: landmarks annotated in labelme, collected in a CSV file."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import NamedTuple

from pipeline import images, storage
from pipeline.errors import ImageError, InputError
from pipeline.handlabel.index_file import INDEX_FILE, csv_bytes, labels_name, read_index
from pipeline.handlabel.labelme_file import MAX_LABELME_BYTES, LabelError, annotated_landmarks
from pipeline.inputs.openface import LANDMARK_COLUMNS
from regions.messages import counted

log = logging.getLogger("attparse")


class ImportCounts(NamedTuple):
    """Files that were annotated, files unchanged since the export, files no longer there."""

    annotated: int
    untouched: int
    absent: int


def import_labels(folder: str, output: str) -> ImportCounts:
    """Collect the annotated files of an exported folder in a CSV file for ``attparse run --landmarks``.

    Files unchanged since the export are left out. Files that cannot be used are logged; then nothing is written.

    Parameters
    ----------
    folder : str
        Local folder created by `export_rejects`.
    output : str
        CSV file to write: image_name, x_0 to x_67, y_0 to y_67, in pixels of the source image.

    Raises
    ------
    InputError
        If an annotated file cannot be used, nothing is annotated yet, or the CSV file cannot be written.
    """
    index = os.path.join(folder, INDEX_FILE)
    if not output.lower().endswith(".csv") or os.path.realpath(output) == os.path.realpath(index):
        raise InputError(f"{output}: expected a file name ending in .csv, other than {INDEX_FILE} of the folder")
    rows = read_index(folder)
    lines: list[list[str]] = []
    untouched = absent = bad = 0
    for row in rows:
        path = os.path.join(folder, labels_name(row.file))
        try:
            content = _read_labels(path)
            if content is None:
                absent += 1
            elif hashlib.sha256(content).hexdigest() == row.sha256:
                untouched += 1
            else:
                landmarks = annotated_landmarks(content, row.file, _image_size(folder, row.file))
                lines.append([row.image_id, *(f"{value:.3f}" for value in landmarks.T.ravel())])
        except LabelError as error:
            log.error("%s: %s", path, error)
            bad += 1
    if bad:
        found = counted(bad + len(lines), "annotated file")
        raise InputError(f"{folder}: {bad} of {found} cannot be used, nothing was written")
    if not lines:
        missing = f", {absent} missing" if absent else ""
        raise InputError(
            f"{folder}: nothing annotated yet: {counted(untouched, 'file')} unchanged since the export{missing}"
        )
    try:
        storage.write_bytes(output, csv_bytes([["image_name", *LANDMARK_COLUMNS], *lines]))
    except OSError as error:
        raise InputError(f"{output}: cannot write: {error.strerror or error}") from None
    return ImportCounts(len(lines), untouched, absent)


def _read_labels(path: str) -> bytes | None:
    try:
        return storage.read_bytes(path, MAX_LABELME_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LabelError(error.strerror) from None


def _image_size(folder: str, file: str) -> tuple[int, int]:
    """Return height and width of an image after its EXIF rotation."""
    try:
        image = images.decode(storage.read_bytes(os.path.join(folder, file)))
    except OSError as error:
        raise LabelError(f"its image {file}: {error.strerror}") from None
    except ImageError as error:
        raise LabelError(f"its image {file}: {error}") from None
    return image.height, image.width
