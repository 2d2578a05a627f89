"""``attparse handlabel``: rejected images out to labelme, landmarks placed by hand back as a CSV file."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import logging
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from tqdm import tqdm

from pipeline import images, storage
from pipeline.errors import ImageError, InputError
from pipeline.formats.dataset_json import read_dataset_file
from pipeline.formats.manifest import read_manifest
from pipeline.handlabel.labelme_file import LabelError, labelled_landmarks, labelme_file, start_landmarks
from pipeline.inputs.image_ids import IMAGE_SUFFIXES, is_unsafe
from pipeline.inputs.openface import LANDMARK_COLUMNS
from pipeline.vocabulary import HAND_LABEL_REASONS
from regions.landmarks import NUM_LANDMARKS, FloatArray

"""Rejects that landmarks placed by hand can save: the image itself is good."""

INDEX_FILE = "images.csv"
INDEX_COLUMNS = ["file", "image_id", "reason", "sha256"]
FILE_NAME = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z]+")
"""Names of the images in the folder: the sample's key and an ending."""
SUFFIX_OF_FORMAT = {"PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}

log = logging.getLogger("attparse")


class Reject(NamedTuple):
    """A rejected image that can be labeled.

    Attributes
    ----------
    image_id, key, reason : str
    landmarks : ndarray (68, 2) float64
        Where to start, in pixels of the source image; not a number where nothing is known.
    height, width : int
        Size of the source image, as it is shown.
    sha256 : str
        Of the source file.
    """

    image_id: str
    key: str
    reason: str
    landmarks: FloatArray
    height: int
    width: int
    sha256: str


class IndexRow(NamedTuple):
    """A row of the index file: the image's name in the folder, its image, the hash of the exported labels."""

    file: str
    image_id: str
    reason: str
    sha256: str


class ExportCounts(NamedTuple):
    """What an export did: images by reason, those copied and those that can't be labeled."""

    copied: dict[str, int]
    left_out: dict[str, int]


class ImportCounts(NamedTuple):
    """What an import found: files labeled, files as they were exported, files no longer there."""

    labeled: int
    untouched: int
    absent: int


def export_rejects(output: str, to: str, image_folder: str | None = None) -> ExportCounts:
    """Copy the rejected images that can be labeled into a new folder, each with a labelme file.

    Parameters
    ----------
    output : str
        Folder of a finished run, local or remote.
    to : str
        Local folder to make. It appears when it is complete; if nothing can be labeled, it is not made.
    image_folder : str, optional
        Where the images are, if no longer where the run found them.

    Raises
    ------
    InputError
        If the run can't be read, an image is not the one that the run saw, or the folder is there
        already: what was labeled by hand is never overwritten.
    """
    dataset = read_dataset_file(output)
    rejects = dataset.rejects
    exported = ExportCounts(
        {reason: count for reason, count in rejects.items() if reason in HAND_LABEL_REASONS},
        {reason: count for reason, count in rejects.items() if reason not in HAND_LABEL_REASONS},
    )
    if not exported.copied:
        return exported
    source = image_folder or dataset.images
    if not source:
        raise InputError(f"{output}: its dataset.json does not name the image folder, --images does")
    _check_new_folder(to, source)
    total = sum(exported.copied.values())
    shards = [shard.name for shard in dataset.shards if shard.rejected]
    with _made_at_once(to) as folder:
        with tqdm(_read_rejects(output, shards), total=total, unit=" images", desc="export") as bar:
            rows = [_export(reject, source, folder) for reject in bar]
        if len(rows) != total:
            raise InputError(
                f"{output}: damaged: its manifests have {len(rows)} images rejected as"
                f" {' or '.join(HAND_LABEL_REASONS)}, dataset.json has {total} (attparse verify lists all faults)"
            )
        storage.write_bytes(os.path.join(folder, INDEX_FILE), _csv([INDEX_COLUMNS, *rows]))
    return exported


def _check_new_folder(to: str, source: str) -> None:
    if storage.is_remote(to):
        raise InputError(f"{to}: expected a local folder, labelme opens no other")
    if os.path.lexists(to) and (os.path.islink(to) or not os.path.isdir(to) or os.listdir(to)):
        raise InputError(f"{to}: is there already, expected a new or empty folder: labels made by hand may be in it")
    if storage.is_below(to, source):
        raise InputError(f"{to}: lies in the image folder {source}, where its copies would become part of the data")


@contextlib.contextmanager
def _made_at_once(to: str) -> Iterator[str]:
    """Fill a local folder that gets its name only when it is complete; if the block raises, nothing is left."""
    to = os.path.abspath(to)
    parent, name = os.path.split(to)
    temporary = os.path.join(parent, f".{name}.{uuid.uuid4().hex}{storage.TEMPORARY_SUFFIX}")
    try:
        os.mkdir(temporary)
    except OSError as error:
        raise InputError(f"{to}: can't write here: {error.strerror}") from None
    try:
        yield temporary
        os.replace(temporary, to)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_rejects(output: str, shards: Sequence[str]) -> Iterator[Reject]:
    """Yield the images that can be labeled, holding the manifest of one shard at a time."""
    for shard in shards:
        try:
            table = read_manifest(output, shard, list(Reject._fields))
            rows = table.filter(pc.is_in(table["reason"], pa.array(HAND_LABEL_REASONS))).to_pylist()
            rejects = [
                Reject(**{**row, "landmarks": np.array(row["landmarks"], dtype=np.float64).reshape(NUM_LANDMARKS, 2)})
                for row in rows
            ]
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{output}: manifest of {shard}: damaged: {error} (attparse verify tells more)") from None
        yield from rejects


def _export(reject: Reject, source: str, folder: str) -> IndexRow:
    """Copy one image, write its labelme file, and return its row of the index."""
    content = _read_image(reject, source)
    file = reject.key + _suffix(reject.image_id, content)
    if not FILE_NAME.fullmatch(file):
        raise InputError(f"image {reject.image_id!r}: key {reject.key!r}, expected letters, digits, - and _")
    size = reject.height, reject.width
    labels = labelme_file(file, start_landmarks(reject.landmarks, size), size)
    for name, data in ((file, content), (_labels_name(file), labels)):
        try:
            with open(os.path.join(folder, name), "xb") as stream:
                stream.write(data)
        except FileExistsError:
            raise InputError(f"image {reject.image_id!r}: another one's image is named {name!r}, too") from None
    return IndexRow(file, reject.image_id, reject.reason, hashlib.sha256(labels).hexdigest())


def _read_image(reject: Reject, source: str) -> bytes:
    if is_unsafe(reject.image_id):
        raise InputError(f"image {reject.image_id!r}: expected a plain path below the image folder")
    path = storage.join(source, reject.image_id)
    try:
        content = storage.read_bytes(path)
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror or error}, expected the image that the run saw"
            " (where the image folder has moved, --images names it)"
        ) from None
    if hashlib.sha256(content).hexdigest() != reject.sha256:
        raise InputError(f"{path}: not the image that the run saw (its sha256 differs): run again before exporting")
    return content


def _suffix(image_id: str, content: bytes) -> str:
    """Return the ending of an image's name; where it is none of an image's, one that fits the content."""
    suffix = os.path.splitext(image_id)[1]
    if suffix.lower() in IMAGE_SUFFIXES:
        return suffix
    with Image.open(io.BytesIO(content)) as image:
        return SUFFIX_OF_FORMAT.get(image.format or "", ".jpg")


def _labels_name(file: str) -> str:
    return os.path.splitext(file)[0] + ".json"


def import_labels(folder: str, to: str) -> ImportCounts:
    """Turn the labeled files of an exported folder into a CSV file for ``attparse run --landmarks``.

    Files that nobody has saved since the export are left out. A file that can't be used is named in
    the log; then nothing is written.

    Parameters
    ----------
    folder : str
        Local folder that `export_rejects` made.
    to : str
        CSV file to write: image_name, x_0 to x_67, y_0 to y_67, in pixels of the source image.

    Raises
    ------
    InputError
        If a labeled file can't be used, nothing is labeled yet, or the CSV file can't be written.
    """
    index = os.path.join(folder, INDEX_FILE)
    if not to.lower().endswith(".csv") or os.path.realpath(to) == os.path.realpath(index):
        raise InputError(f"{to}: expected the name of a file ending in .csv, other than the folder's {INDEX_FILE}")
    rows = _read_index(folder)
    lines: list[list[str]] = []
    untouched = absent = bad = 0
    for row in rows:
        path = os.path.join(folder, _labels_name(row.file))
        try:
            content = _read_labels(path)
            if content is None:
                absent += 1
            elif hashlib.sha256(content).hexdigest() == row.sha256:
                untouched += 1
            else:
                landmarks = labelled_landmarks(content, row.file, _image_size(folder, row.file))
                lines.append([row.image_id, *(f"{value:.3f}" for value in landmarks.T.ravel())])
        except LabelError as error:
            log.error("%s: %s", path, error)
            bad += 1
    if bad:
        raise InputError(f"{folder}: {bad} of {bad + len(lines)} labeled files can't be used, nothing was written")
    if not lines:
        missing = f", {absent} are not there" if absent else ""
        raise InputError(f"{folder}: nothing labeled yet: {untouched} files are as they were exported{missing}")
    try:
        storage.write_bytes(to, _csv([["image_name", *LANDMARK_COLUMNS], *lines]))
    except OSError as error:
        raise InputError(f"{to}: can't write: {error.strerror or error}") from None
    return ImportCounts(len(lines), untouched, absent)


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode()


def _read_index(folder: str) -> list[IndexRow]:
    path = os.path.join(folder, INDEX_FILE)
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            if header != INDEX_COLUMNS:
                raise InputError(f"{path}:1: {','.join(header)[:60]!r}, expected {','.join(INDEX_COLUMNS)}")
            rows = [_index_row(f"{path}:{reader.line_num}", values) for values in reader]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}, expected a folder made by attparse handlabel export") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid CSV in UTF-8: {error}") from None
    for names in ([_labels_name(row.file) for row in rows], [row.image_id for row in rows]):
        name, count = Counter(names).most_common(1)[0] if names else ("", 0)
        if count > 1:
            raise InputError(f"{path}: {count} rows for {name!r}, expected one")
    return rows


def _index_row(place: str, values: Sequence[str]) -> IndexRow:
    if len(values) != len(INDEX_COLUMNS):
        raise InputError(f"{place}: {len(values)} columns, expected {len(INDEX_COLUMNS)}: {','.join(INDEX_COLUMNS)}")
    row = IndexRow(*values)
    if not FILE_NAME.fullmatch(row.file):
        raise InputError(f"{place}: file {row.file!r}, expected a name of letters, digits, - and _ with an ending")
    return row


def _read_labels(path: str) -> bytes | None:
    try:
        return storage.read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LabelError(error.strerror) from None


def _image_size(folder: str, file: str) -> tuple[int, int]:
    """Return height and width of an image as it is shown."""
    try:
        image = images.decode(storage.read_bytes(os.path.join(folder, file)))
    except OSError as error:
        raise LabelError(f"its image {file}: {error.strerror}") from None
    except ImageError as error:
        raise LabelError(f"its image {file}: {error}") from None
    return image.height, image.width
