"""``attparse handlabel export``: rejected images copied for annotation with labelme."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import InputError, ShardError
from pipeline.formats.dataset_json import read_dataset_file
from pipeline.formats.manifest import read_manifest
from pipeline.handlabel.index_file import FILE_NAME, INDEX_FILE, IndexRow, labels_name, write_index
from pipeline.handlabel.labelme_file import labelme_file, start_landmarks
from pipeline.images import FORMATS
from pipeline.inputs.image_ids import IMAGE_SUFFIXES, is_unsafe
from pipeline.local_files import TEMPORARY_SUFFIX
from pipeline.vocabulary import HAND_LABEL_REASONS, RejectReason
from regions.file_names import is_foreign
from regions.image_files import MAX_FILE_BYTES
from regions.landmarks import NUM_LANDMARKS, FloatArray
from regions.messages import counted

SUFFIX_OF_FORMAT = {"PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}


class ExportedReject(NamedTuple):
    """A rejected image that can be annotated.

    Attributes
    ----------
    image_id, key, reason : str
    landmarks : ndarray (68, 2) float64
        Initial position, in pixels of the source image; NaN where unknown.
    height, width : int
        Size of the source image, after its EXIF rotation.
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


class ExportCounts(NamedTuple):
    """Images by reject reason: those copied, and those that cannot be annotated."""

    copied: dict[RejectReason, int]
    left_out: dict[RejectReason, int]


def export_rejects(run: str, output: str, image_folder: str | None = None) -> ExportCounts:
    """Copy the rejected images that can be annotated into a new folder, each with a labelme file.

    Parameters
    ----------
    run : str
        Folder of a finished run, local or remote.
    output : str
        Local folder to create. It appears when it is complete; if nothing can be annotated, it is not created.
    image_folder : str, optional
        Folder of the images, if it is no longer the one that the run recorded.

    Raises
    ------
    InputError
        If the run cannot be read, an image differs from the one that the run read, or the folder exists: annotations
        are never overwritten.
    """
    dataset = read_dataset_file(run)
    rejects = dataset.rejects
    exported = ExportCounts(
        {reason: count for reason, count in rejects.items() if reason in HAND_LABEL_REASONS},
        {reason: count for reason, count in rejects.items() if reason not in HAND_LABEL_REASONS},
    )
    if not exported.copied:
        return exported
    source = image_folder or dataset.images
    if not source:
        raise InputError(f"{run}: dataset.json does not name the image folder, expected --images DIR")
    _check_new_folder(output, source)
    total = sum(exported.copied.values())
    shards = [shard.name for shard in dataset.shards if shard.rejected]
    with _created_at_once(output) as folder:
        with tqdm(_read_rejects(run, shards), total=total, unit=" images", desc="export") as bar:
            rows = [_export(reject, source, folder) for reject in bar]
        if len(rows) != total:
            raise InputError(
                f"{run}: damaged: its manifests have {counted(len(rows), 'image')} rejected as"
                f" {' or '.join(HAND_LABEL_REASONS)}, dataset.json has {total} (attparse verify lists all faults)"
            )
        write_index(folder, rows)
    return exported


def _check_new_folder(output: str, source: str) -> None:
    if storage.is_remote(output):
        raise InputError(f"{output}: expected a local folder, which labelme can open")
    if os.path.lexists(output) and (
        os.path.islink(output) or not os.path.isdir(output) or not all(map(is_foreign, os.listdir(output)))
    ):
        raise InputError(f"{output}: exists, expected a new or empty folder: it may contain annotations")
    if storage.is_below(output, source):
        raise InputError(f"{output}: expected a folder outside the image folder {source}: its files would become data")


@contextlib.contextmanager
def _created_at_once(output: str) -> Iterator[str]:
    """Fill a local folder that gets its name only when it is complete; if the block raises, nothing is left."""
    output = os.path.abspath(output)
    parent = os.path.dirname(output)
    temporary = os.path.join(parent, f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        os.mkdir(temporary)
    except OSError as error:
        raise InputError(f"{output}: cannot write here: {error.strerror}") from None
    try:
        yield temporary
        for file in os.listdir(temporary):
            storage.sync(os.path.join(temporary, file))
        storage.sync(temporary)
        _move(temporary, output)
        storage.sync(parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(folder: str, target: str) -> None:
    """Give a folder its name; where a folder of that name holds files of the system, move the files, the index last."""
    if not os.path.isdir(target) or not os.listdir(target):
        os.replace(folder, target)
        return
    for file in sorted(os.listdir(folder), key=lambda file: file == INDEX_FILE):
        os.replace(os.path.join(folder, file), os.path.join(target, file))
    storage.sync(target)


def _read_rejects(run: str, shards: Sequence[str]) -> Iterator[ExportedReject]:
    """Yield the images that can be annotated, with the manifest of one shard in memory at a time."""
    for shard in shards:
        try:
            table = read_manifest(run, shard, list(ExportedReject._fields))
            rows = table.filter(pc.is_in(table["reason"], pa.array(HAND_LABEL_REASONS))).to_pylist()
            rejects = [
                ExportedReject(
                    **{**row, "landmarks": np.array(row["landmarks"], dtype=np.float64).reshape(NUM_LANDMARKS, 2)}
                )
                for row in rows
            ]
        except (OSError, ShardError) as error:
            raise InputError(
                f"{run}: manifest of {shard}: damaged: {error} (attparse verify lists all faults)"
            ) from None
        yield from rejects


def _export(reject: ExportedReject, source: str, folder: str) -> IndexRow:
    """Copy one image, write its labelme file, and return its row of the index."""
    content = _read_image(reject, source)
    file = reject.key + _suffix(reject.image_id, content)
    if not FILE_NAME.fullmatch(file):
        raise InputError(f"image {reject.image_id!r}: key {reject.key!r}, expected letters, digits, - and _")
    size = reject.height, reject.width
    labels = labelme_file(file, start_landmarks(reject.landmarks, size), size)
    for name, data in ((file, content), (labels_name(file), labels)):
        try:
            with open(os.path.join(folder, name), "xb") as stream:
                stream.write(data)
        except FileExistsError:
            raise InputError(f"image {reject.image_id!r}: another image has the file name {name!r} too") from None
    return IndexRow(file, reject.image_id, reject.reason, hashlib.sha256(labels).hexdigest())


def _read_image(reject: ExportedReject, source: str) -> bytes:
    if is_unsafe(reject.image_id):
        raise InputError(f"image {reject.image_id!r}: expected a plain path below the image folder")
    path = storage.join(source, reject.image_id)
    try:
        content = storage.read_bytes(path, MAX_FILE_BYTES)
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror or error}, expected the image that the run read"
            " (if the image folder has moved, pass --images)"
        ) from None
    if hashlib.sha256(content).hexdigest() != reject.sha256:
        raise InputError(f"{path}: not the image that the run read (its sha256 differs): run again before exporting")
    return content


def _suffix(image_id: str, content: bytes) -> str:
    """Return the suffix of an image id; if it is not one of an image, one that fits the content."""
    suffix = os.path.splitext(image_id)[1]
    if suffix.lower() in IMAGE_SUFFIXES:
        return suffix
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        return SUFFIX_OF_FORMAT.get(image.format or "", ".jpg")
