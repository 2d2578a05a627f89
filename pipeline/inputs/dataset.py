"""Reading a data set: label file, partition, face boxes, five points, and the listing of the image folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.config import RunConfig
from pipeline.errors import InputError
from pipeline.inputs import text_tables
from pipeline.inputs.image_ids import IMAGE_SUFFIXES, is_image_name, is_unsafe, sample_keys
from pipeline.inputs.landmark_files import read_landmarks
from pipeline.records import Dataset, FloatRows, ImageTable
from pipeline.vocabulary import MISSING, SPLITS, UNLABELLED, UNSAFE_ID, RejectReason
from regions.file_names import as_text
from regions.label_file import UNKNOWN, LabelTable, parse_labels
from regions.messages import counted

SPLIT_NAMES: dict[str, int] = {
    **{str(index): index for index in range(len(SPLITS))},
    **{str(name): index for index, name in enumerate(SPLITS)},
    "valid": SPLITS.index("val"),
    "validation": SPLITS.index("val"),
}


def read_dataset(config: RunConfig) -> Dataset:
    """Read all that is known of a data set without opening an image.

    Raises
    ------
    InputError
        If a file or folder can't be used: one line with file, line, what was found and what was expected.
    """
    labels = read_labels(config.labels)
    files = storage.list_files(config.images, named=labels.image_ids)
    check_match(config.labels, labels.image_ids, config.images, files)
    rows = _selected_rows(labels, files, skip_missing=config.skip_missing)
    skipped = len(labels.image_ids) - len(rows)
    unlabelled = [] if config.skip_unlabelled else _unlabelled_images(labels, files)
    if config.limit is not None:
        rows, unlabelled = rows[: config.limit], []
    labelled = [labels.image_ids[row] for row in rows]
    image_ids = [*labelled, *unlabelled]
    bboxes = _read_numbers(config.bboxes, image_ids, (4,), "face boxes (x, y, width, height)")
    points = _read_numbers(config.points, image_ids, (5, 2), "five points (x, y each)")
    images = ImageTable(
        image_ids=image_ids,
        keys=sample_keys(image_ids),
        reasons=[_reject_reason(image_id, files) for image_id in labelled] + [UNLABELLED] * len(unlabelled),
        splits=_read_splits(config.partition, image_ids, len(labelled)),
        labels=_labels_with_unknown(labels.values[rows], len(unlabelled)),
        sizes=np.array([files.get(image_id, -1) for image_id in image_ids], dtype=np.int64),
        bboxes=bboxes,
        points=points,
        landmarks=read_landmarks(config.landmarks, image_ids, bboxes, points, labels.image_ids),
    )
    return Dataset(labels.names, images, skipped)


def check_match(source: str, image_ids: Sequence[str], folder: str, files: Mapping[str, int]) -> None:
    """Refuse a folder without images, and one that has none of the given images.

    Parameters
    ----------
    source : str
        File that lists the images.
    image_ids : sequence of str
    folder : str
    files : mapping of str to int
        Bytes of each file in the folder.

    Raises
    ------
    InputError
    """
    names = filter(is_image_name, files)
    first = as_text(min(names, default=""))
    if not first:
        raise InputError(f"{folder}: no image files, expected names ending in {', '.join(IMAGE_SUFFIXES)}")
    if image_ids and not any(image_id in files for image_id in image_ids):
        raise InputError(
            f"{source}: none of {counted(len(image_ids), 'image id')} is a file in {folder}:"
            f" found {image_ids[0]!r}, expected names such as {first!r}"
        )


def _selected_rows(labels: LabelTable, files: Mapping[str, int], *, skip_missing: bool) -> list[int]:
    """Return the indices of the label rows of a run; unsafe ids stay in, to be reported."""
    image_ids = labels.image_ids
    return [i for i, name in enumerate(image_ids) if not skip_missing or name in files or is_unsafe(name)]


def _unlabelled_images(labels: LabelTable, files: Mapping[str, int]) -> list[str]:
    return sorted(map(as_text, set(filter(is_image_name, files)) - set(labels.image_ids)))


def _labels_with_unknown(values: npt.NDArray[np.int8], count: int) -> npt.NDArray[np.int8]:
    """Append rows of unknown labels, for `count` images without a label row."""
    return np.concatenate([values, np.full((count, values.shape[1]), UNKNOWN, dtype=np.int8)])


def _reject_reason(image_id: str, files: Mapping[str, int]) -> RejectReason | None:
    """Return why an image can't be read, judging by its id and the listing of the folder alone."""
    if is_unsafe(image_id):
        return UNSAFE_ID
    return None if image_id in files else MISSING


def read_labels(path: str) -> LabelTable:
    """Read a label file: see `regions.label_file.parse_labels`.

    Raises
    ------
    InputError
        If the file can't be read or is not a label file.
    """
    with text_tables.input_errors():
        return parse_labels(text_tables.read_lines(path), path)


def _read_splits(path: str | None, image_ids: Sequence[str], num_labelled: int) -> npt.NDArray[np.uint8]:
    """Return the index of each image's split; images without a label row need no split and count as training."""
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
            raise InputError(f"{path}: no row for image {image_id!r}, expected one for each image of the label file")
    return np.array([splits.get(image_id, 0) for image_id in image_ids], dtype=np.uint8)


def _read_numbers(path: str | None, image_ids: Sequence[str], shape: tuple[int, ...], what: str) -> FloatRows:
    """Return numbers per image ``(n, *shape)``, NaN where the file has no row for it."""
    result = np.full((len(image_ids), *shape), np.nan, dtype=np.float32)
    if path is None:
        return result
    table = text_tables.read_table(path)
    if len(table.columns) != np.prod(shape):
        raise InputError(f"{path}: {len(table.columns)} values per row, expected {np.prod(shape)}: {what}")
    rows = {row.image_id: text_tables.numbers(table, row) for row in table.rows}
    found = [i for i, image_id in enumerate(image_ids) if image_id in rows]
    if found:
        result[found] = np.array([rows[image_ids[i]] for i in found], dtype=np.float32).reshape(-1, *shape)
    if shape == (4,):
        result[~(result[:, 2:] > 0).all(axis=1)] = np.nan
    return result
