"""Reading a data set: label file, partition, face boxes, five points, and the folder of images."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.config import RunConfig
from pipeline.errors import InputError
from pipeline.inputs import text_tables
from pipeline.inputs.landmark_files import read_landmarks
from pipeline.records import FloatRows, ImageTable
from pipeline.vocabulary import MISSING, SPLITS, UNLABELLED, UNSAFE_ID, RejectReason
from regions.label_file import LabelTable, parse_labels

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLIT_NAMES: dict[str, int] = {
    **{str(index): index for index in range(len(SPLITS))},
    **{str(name): index for index, name in enumerate(SPLITS)},
    "valid": SPLITS.index("val"),
    "validation": SPLITS.index("val"),
}
MAX_KEY_LENGTH = 72
"""With a hash and the longest ending, a name of 100 bytes: what a tar file holds."""


@dataclass(frozen=True)
class Dataset:
    """A data set as it is listed, before any image is read.

    Attributes
    ----------
    attribute_names : list of str
    images : ImageTable
        In the order of the label file; then images without a label row, by name.
    skipped : int
        Label rows left out because their image is missing.
    """

    attribute_names: list[str]
    images: ImageTable
    skipped: int


def read_dataset(config: RunConfig) -> Dataset:
    """Read everything that is known of a data set without opening an image.

    Raises
    ------
    InputError
        If a file or folder can't be used: one line with file, line, what was found and expected.
    """
    labels = read_labels(config.labels)
    files = storage.list_files(config.images)
    if not any(map(_is_image, files)):
        raise InputError(f"{config.images}: no image files, expected names ending in {', '.join(IMAGE_SUFFIXES)}")
    image_ids, values, skipped = labels.image_ids, labels.values == 1, 0
    if config.skip_missing:
        present = [i for i, image_id in enumerate(image_ids) if image_id in files or is_unsafe(image_id)]
        skipped = len(image_ids) - len(present)
        image_ids, values = [image_ids[i] for i in present], values[present]
    unlabelled = sorted(map(_as_text, set(filter(_is_image, files)) - set(labels.image_ids)))
    if config.limit is not None:
        image_ids, values, unlabelled = image_ids[: config.limit], values[: config.limit], []
    values = np.concatenate([values, np.zeros((len(unlabelled), values.shape[1]), dtype=np.bool_)])
    reasons: list[RejectReason | None] = [_reason(image_id, files) for image_id in image_ids] + [UNLABELLED] * len(
        unlabelled
    )
    image_ids = [*image_ids, *unlabelled]
    bboxes = _read_numbers(config.bboxes, image_ids, (4,), "face boxes (x, y, width, height)")
    points = _read_numbers(config.points, image_ids, (5, 2), "five points (x, y each)")
    images = ImageTable(
        image_ids=image_ids,
        keys=sample_keys(image_ids),
        reasons=reasons,
        splits=_read_splits(config.partition, image_ids, len(image_ids) - len(unlabelled)),
        labels=values,
        sizes=np.array([files.get(image_id, -1) for image_id in image_ids], dtype=np.int64),
        bboxes=bboxes,
        points=points,
        landmarks=read_landmarks(config.landmarks, image_ids, bboxes, points, labels.image_ids),
    )
    return Dataset(list(labels.names), images, skipped)


def read_labels(path: str) -> LabelTable:
    """Read a label file: see `regions.label_file.parse_labels`.

    Raises
    ------
    InputError
        If the file can't be read or is no label file.
    """
    with text_tables.input_errors():
        return parse_labels(text_tables.read_lines(path), path)


def _read_splits(path: str | None, image_ids: Sequence[str], num_labelled: int) -> npt.NDArray[np.uint8]:
    """Return the split of each image; images without a label may lack one and count as training."""
    if path is None:
        return np.zeros(len(image_ids), dtype=np.uint8)
    table = text_tables.read_table(path, num_values=1)

    def parse(row: text_tables.Row) -> int:
        if row.values[0].strip() not in SPLIT_NAMES:
            raise InputError(f"{path}:{row.line}: split {row.values[0]!r}, expected 0, 1, 2 or {', '.join(SPLITS)}")
        return SPLIT_NAMES[row.values[0].strip()]

    splits = {row.image_id: parse(row) for row in table.rows}
    for image_id in image_ids[:num_labelled]:
        if image_id not in splits:
            raise InputError(f"{path}: no row for image {image_id!r} of the label file")
    return np.array([splits.get(image_id, 0) for image_id in image_ids], dtype=np.uint8)


def _read_numbers(path: str | None, image_ids: Sequence[str], shape: tuple[int, ...], what: str) -> FloatRows:
    """Return numbers per image, not a number where the file has none for it."""
    result = np.full((len(image_ids), *shape), np.nan, dtype=np.float32)
    if path is None:
        return result
    table = text_tables.read_table(path)
    if len(table.columns) != np.prod(shape):
        raise InputError(f"{path}: {len(table.columns)} values a row, expected {np.prod(shape)}: {what}")
    rows = {row.image_id: text_tables.numbers(table, row) for row in table.rows}
    found = [i for i, image_id in enumerate(image_ids) if image_id in rows]
    if found:
        result[found] = np.array([rows[image_ids[i]] for i in found], dtype=np.float32).reshape(-1, *shape)
    if shape == (4,):
        result[~(result[:, 2:] > 0).all(axis=1)] = np.nan
    return result


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _as_text(name: str) -> str:
    """Return a file's name with bytes that are not UTF-8 written out."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _reason(image_id: str, files: Mapping[str, int]) -> RejectReason | None:
    """Tell what speaks against reading an image, as far as its id and the folder's listing tell."""
    if is_unsafe(image_id):
        return UNSAFE_ID
    return None if image_id in files else MISSING


def is_unsafe(image_id: str) -> bool:
    """Tell whether an id is anything but a plain relative path below the image folder."""
    parts = image_id.split("/")
    return (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in image_id
        or "://" in image_id
        or any(not character.isprintable() for character in image_id)
    )


def sample_keys(image_ids: Sequence[str]) -> list[str]:
    """Return the name of each image's sample: its id without extension, in letters, digits, - and _.

    Ids that would get the same key, or too long a one, have a hash of the id added; so have those
    that look as if they had one, lest they meet it.
    """
    keys = [re.sub(r"[^A-Za-z0-9_-]", "_", re.sub(r"\.[^./]*$", "", image_id)) for image_id in image_ids]
    seen: set[str] = set()
    twice = {key for key in keys if key in seen or seen.add(key)}  # type: ignore[func-returns-value]
    return [
        f"{key[:MAX_KEY_LENGTH]}-{hashlib.sha256(image_id.encode()).hexdigest()[:16]}"
        if key in twice or len(key) > MAX_KEY_LENGTH or re.fullmatch("(.*-[0-9a-f]{16})?", key)
        else key
        for key, image_id in zip(keys, image_ids, strict=True)
    ]
