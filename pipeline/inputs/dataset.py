"""Reading a data set: label file, partition, face boxes, five points, and the listing of the image folder."""

from __future__ import annotations

import contextlib
import logging
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.config import RunConfig
from pipeline.errors import InputError
from pipeline.inputs import text_tables
from pipeline.inputs.hints import read_bboxes, read_points
from pipeline.inputs.image_ids import IMAGE_SUFFIXES, is_image_name, is_unsafe, sample_keys
from pipeline.inputs.image_names import KnownNames, known_spellings
from pipeline.inputs.landmark_files import read_landmarks
from pipeline.local_files import ABSENT
from pipeline.records import Dataset, ImageTable
from pipeline.vocabulary import MISSING, SPLITS, UNLABELLED, UNSAFE_ID, RejectReason
from regions.file_names import as_text
from regions.label_file import UNKNOWN, LabelTable, parse_labels
from regions.messages import counted

log = logging.getLogger("attparse")

SPLIT_NAMES: dict[str, int] = {
    **{str(index): index for index in range(len(SPLITS))},
    **{str(name): index for index, name in enumerate(SPLITS)},
    "training": SPLITS.index("train"),
    "valid": SPLITS.index("val"),
    "validation": SPLITS.index("val"),
    "testing": SPLITS.index("test"),
}
WHOLE_NUMBER = re.compile(r"^\+?([0-9])(\.0*)?$")
"""A split as a decimal number, such as 0.0."""
SPLIT_COLUMNS = ("partition", "split", "set", "subset")
"""Names of the column of splits in a table with several columns."""


@contextlib.contextmanager
def held_messages() -> Iterator[None]:
    """Log what the block notices when it ends: where it refuses the input, the error is the only line."""
    held: list[logging.LogRecord] = []

    def hold(record: logging.LogRecord) -> bool:
        held.append(record)
        return False

    log.addFilter(hold)
    try:
        yield
    finally:
        log.removeFilter(hold)
    for record in held:
        log.handle(record)


def read_dataset(config: RunConfig) -> Dataset:
    """Read all that is known of a data set without opening an image.

    Raises
    ------
    InputError
        If a file or folder can't be used: one line with file, line, what was found and what was expected.
    """
    labels = read_labels(config.labels)
    files = storage.list_versions(config.images, named=labels.image_ids)
    labels = _with_file_names(labels, files, config.labels)
    check_match(config.labels, labels.image_ids, config.images, files)
    rows = _selected_rows(labels, files, skip_missing=config.skip_missing)
    skipped = len(labels.image_ids) - len(rows)
    unlabelled = [] if config.skip_unlabelled else _unlabelled_images(labels, files)
    if config.limit is not None:
        rows, unlabelled = rows[: config.limit], []
    labelled = [labels.image_ids[row] for row in rows]
    image_ids = [*labelled, *unlabelled]
    versions = [files.get(image_id, ABSENT) for image_id in image_ids]
    names = KnownNames({image_id: row for row, image_id in enumerate(labels.image_ids)}, files)
    bboxes = read_bboxes(config.bboxes, image_ids, names)
    points = read_points(config.points, image_ids, names)
    images = ImageTable(
        image_ids=image_ids,
        keys=sample_keys(image_ids),
        reasons=[_reject_reason(image_id, files) for image_id in labelled] + [UNLABELLED] * len(unlabelled),
        splits=_read_splits(config.partition, image_ids, len(labelled), names),
        labels=_labels_with_unknown(labels.values[rows], len(unlabelled)),
        sizes=np.array([version.size for version in versions], dtype=np.int64),
        modified=np.array([version.modified for version in versions], dtype=np.int64),
        bboxes=bboxes,
        points=points,
        landmarks=read_landmarks(config.landmarks, image_ids, bboxes, points, names),
    )
    return Dataset(labels.names, images, skipped)


def check_match(source: str, image_ids: Sequence[str], folder: str, files: storage.FileVersions) -> None:
    """Refuse a folder without images, and one that has none of the given images.

    Parameters
    ----------
    source : str
        File that lists the images.
    image_ids : sequence of str
    folder : str
    files : mapping of str to FileVersion
        The files in the folder.

    Raises
    ------
    InputError
    """
    names = list(filter(is_image_name, files))
    if not names:
        raise InputError(f"{folder}: no image files, expected names ending in {', '.join(IMAGE_SUFFIXES)}")
    if image_ids and not any(image_id in files for image_id in image_ids):
        similar = [name for name in names if _stem(name) == _stem(image_ids[0])]
        raise InputError(
            f"{source}: none of {counted(len(image_ids), 'image id')} is a file in {folder}:"
            f" found {image_ids[0]!r}, expected names such as {as_text(min(similar or names))!r}"
        )


def _stem(name: str) -> str:
    return posixpath.splitext(posixpath.basename(name))[0].lower()


def _with_file_names(labels: LabelTable, files: storage.FileVersions, source: str) -> LabelTable:
    """Return the labels with the names of the files as ids, where the label file spells them in another way."""
    found = known_spellings(labels.image_ids, files)
    if not found:
        return labels
    other, name = next(iter(found.items()))
    count = counted(len(found), "name")
    log.info("%s: %s spelled in another way than the files, such as %r for %r", source, count, other, name)
    return replace(labels, image_ids=[found.get(image_id, image_id) for image_id in labels.image_ids])


def _selected_rows(labels: LabelTable, files: storage.FileVersions, *, skip_missing: bool) -> list[int]:
    """Return the indices of the label rows of a run; unsafe ids stay in, to be reported."""
    image_ids = labels.image_ids
    return [i for i, name in enumerate(image_ids) if not skip_missing or name in files or is_unsafe(name)]


def _unlabelled_images(labels: LabelTable, files: storage.FileVersions) -> list[str]:
    return sorted(map(as_text, set(filter(is_image_name, files)) - set(labels.image_ids)))


def _labels_with_unknown(values: npt.NDArray[np.int8], count: int) -> npt.NDArray[np.int8]:
    """Append rows of unknown labels, for `count` images without a label row."""
    return np.concatenate([values, np.full((count, values.shape[1]), UNKNOWN, dtype=np.int8)])


def _reject_reason(image_id: str, files: storage.FileVersions) -> RejectReason | None:
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
        labels = parse_labels(text_tables.read_lines(path), path)
    unknown = int((labels.values == UNKNOWN).sum())
    if unknown:
        total = counted(labels.values.size, "label")
        log.info("%s: %s of %s unknown: empty, or 0 in a file of -1 and 1", path, f"{unknown:,}", total)
    return labels


def _read_splits(
    path: str | None, image_ids: Sequence[str], num_labelled: int, names: KnownNames
) -> npt.NDArray[np.uint8]:
    """Return the index of each image's split; images without a label row need no split and count as training."""
    if path is None:
        return np.zeros(len(image_ids), dtype=np.uint8)
    table = text_tables.read_table(path, num_values=1)
    column = _split_column(table)
    splits = {row.image_id: _split_of(table, row, column) for row in table.rows}
    for other, image_id in names.spellings(splits).items():
        splits[image_id] = splits.pop(other)
    for image_id in image_ids[:num_labelled]:
        if image_id not in splits:
            raise InputError(f"{path}: no row for image {image_id!r}, expected one for each image of the label file")
    return np.array([splits.get(image_id, 0) for image_id in image_ids], dtype=np.uint8)


def _split_column(table: text_tables.Table) -> int:
    """Return the position of the splits among the values of a row: the only one, or the one that has their name."""
    if len(table.columns) < 2:
        return 0
    found = [index for index, name in enumerate(table.columns) if name.lower() in SPLIT_COLUMNS]
    if len(found) != 1:
        shown = " ".join(table.columns)[:120]
        expected = f"one column of splits, or one named {', '.join(SPLIT_COLUMNS)}"
        raise InputError(f"{table.source}:{table.header_line}: columns {shown!r}, expected {expected}")
    return found[0]


def _split_of(table: text_tables.Table, row: text_tables.Row, column: int) -> int:
    split = SPLIT_NAMES.get(row.values[column])
    if split is None:
        split = SPLIT_NAMES.get(WHOLE_NUMBER.sub(r"\1", row.values[column].strip()).lower())
    if split is None:
        place = f"{table.source}:{row.line}"
        raise InputError(f"{place}: split {row.values[column][:60]!r}, expected 0, 1, 2 or {', '.join(SPLITS)}")
    return split
