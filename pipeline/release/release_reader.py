"""What a release holds of a shard, checked before it is used: ``join`` and ``verify`` refuse the same."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.errors import InputError, ShardError
from pipeline.formats.dataset_json import ShardEntry
from pipeline.formats.manifest import landmark_rows
from pipeline.formats.parquet_files import read_parquet
from pipeline.formats.parquet_footer import ParquetError, read_footer
from pipeline.formats.samples import JSON, MASKS, SampleDescription, parse_description, read_members
from pipeline.records import FloatRows
from pipeline.release.geoparquet import COLUMNS, PLAIN_SCHEMA
from pipeline.release.release_json import LANDMARKS, RELEASE_FILE, ReleaseFile, id_problem, mask_size
from pipeline.verify import mask_problems
from pipeline.vocabulary import LANDMARK_SOURCES
from regions.landmarks import face_sizes
from regions.messages import counted, shown

MAX_SIDE = 1 << 20
"""Pixels of a side of a source image."""
REACH = 10.0
"""Farthest that landmarks and crops reach from the image's corner, in longer sides of the image."""
MIN_FACE_SIZE = 2.0
"""Smallest face size (`regions.landmarks.face_sizes`), in pixels; a run writes none below 4."""
SHA256 = re.compile("[0-9a-f]{64}")
COMPARED = ("key", "image_id", "split", "landmark_source", "crop")
"""Columns that the samples of the mask shards have, too."""


def check_all_rows(folder: str, release: ReleaseFile, image_ids: Sequence[str], keys: Sequence[str]) -> None:
    """Check the rows of all shards together: none is another's too, and there are no others.

    Parameters
    ----------
    folder : str
    release : ReleaseFile
    image_ids, keys : sequence of str
        Of all rows, as `read_rows` returns them.

    Raises
    ------
    InputError
        If an image or a key is there twice, or landmarks.parquet has further rows or is damaged.
    """
    path = storage.join(folder, LANDMARKS)
    expected = sum(count for _, count in release.row_groups.values())
    problem = id_problem(image_ids, keys)
    try:
        with storage.explained(path), storage.open_read(path) as stream:
            found = len(read_footer(stream))
        if found != expected:
            problem = problem or f"{counted(found, 'row group')}, expected {expected} as in {RELEASE_FILE}"
    except ParquetError as error:
        problem = str(error)
    if problem:
        raise InputError(f"{path}: {problem}")


def read_rows(folder: str, release: ReleaseFile, shard: ShardEntry) -> pa.Table:
    """Read the rows of a shard from landmarks.parquet, without the polygons.

    Raises
    ------
    InputError
        If they are damaged, not those that release.json describes, or not landmarks in images.
    OSError
        If the file cannot be read.
    """
    path = storage.join(folder, LANDMARKS)
    first, count = release.row_groups[shard.name]
    try:
        with storage.open_read(path) as stream:
            rows = read_parquet(stream, COLUMNS, range(first, first + count))
        problem = _row_problem(rows, shard)
    except ParquetError as error:
        problem = str(error)
    if problem is not None:
        raise InputError(f"{path}: shard {shard.name}: {problem}")
    return rows


def _row_problem(rows: pa.Table, shard: ShardEntry) -> str | None:
    """Return what is wrong with the rows of a shard."""
    for name in COLUMNS:
        if rows.schema.names.count(name) != 1:
            return f"{counted(rows.schema.names.count(name), 'column')} {name!r}, expected one"
        if rows.schema.field(name).type != PLAIN_SCHEMA.field(name).type:
            return f"column {name!r} of type {rows.schema.field(name).type}, expected {PLAIN_SCHEMA.field(name).type}"
        if rows[name].null_count and name not in ("image_id", "key"):
            return f"column {name!r} without a value in {counted(rows[name].null_count, 'row')}"
    if len(rows) != shard.samples:
        return f"{counted(len(rows), 'row')} for shard {shard.name}, expected {shard.samples}"
    image_ids = rows["image_id"].to_pylist()
    problem = id_problem(image_ids, rows["key"].to_pylist())
    if problem:
        return problem
    wrong = next(_wrong_rows(rows, shard), None)
    return None if wrong is None else f"image {image_ids[wrong[0]]!r}: {wrong[1]}"


def _wrong_rows(rows: pa.Table, shard: ShardEntry) -> Iterator[tuple[int, str]]:
    """Yield the first row that each check refuses, and why."""
    for name, known in (("split", [shard.split]), ("shard", [shard.name]), ("landmark_source", [*LANDMARK_SOURCES])):
        others = np.flatnonzero(~np.asarray(pc.is_in(rows[name], pa.array(known))))
        if len(others):
            yield (
                int(others[0]),
                f"{name} is {shown(rows[name][int(others[0])].as_py())}, expected {' or '.join(known)}",
            )
    for index, sha256 in enumerate(rows["sha256"].to_pylist()):
        if not SHA256.fullmatch(sha256):
            yield index, f"sha256 is {shown(sha256)}, expected 64 hexadecimal digits"
            break
    sides = np.stack([np.asarray(rows[name], dtype=np.float64) for name in ("width", "height")], axis=1)
    landmarks = landmark_rows(rows).astype(np.float64)
    crops = np.asarray(rows["crop"].combine_chunks().flatten(), dtype=np.float64).reshape(-1, 4)
    limit = REACH * sides.max(axis=1, initial=0)
    with np.errstate(invalid="ignore", over="ignore"):
        checks = {
            f"width and height of an image, at most {MAX_SIDE}": ((sides >= 1) & (sides <= MAX_SIDE)).all(axis=1),
            "landmarks in or near the image": (np.abs(landmarks).max(axis=(1, 2), initial=0) <= limit),
            f"a face of at least {MIN_FACE_SIZE:.0f} pixels": face_sizes(landmarks) >= MIN_FACE_SIZE,
            "a crop with an area, in or near the image": (
                (crops[:, 0] < crops[:, 2])
                & (crops[:, 1] < crops[:, 3])
                & (np.abs(crops).max(axis=1, initial=0) <= limit)
            ),
        }
    for expected, passed in checks.items():
        if not passed.all():
            index = int(np.flatnonzero(~passed)[0])
            yield index, f"{_numbers_of(rows, index)}, expected {expected}"


def _numbers_of(rows: pa.Table, index: int) -> str:
    """Return the sizes, the range of the landmarks and the crop of a row."""
    width, height, crop, landmarks = (rows[name][index].as_py() for name in ("width", "height", "crop", "landmarks"))
    return f"{width}x{height} pixels, landmarks from {min(landmarks):g} to {max(landmarks):g}, crop {crop}"


def read_samples(
    path: str, release: ReleaseFile, rows: pa.Table, with_masks: bool
) -> Iterator[tuple[SampleDescription, bytes]]:
    """Yield description and packed masks of each sample of a mask shard, in the order of its rows.

    Parameters
    ----------
    path : str
        Of the mask shard.
    release : ReleaseFile
    rows : pyarrow.Table
        Of the shard, as `read_rows` returns them.
    with_masks : bool
        Whether the masks are used, and so checked.

    Raises
    ------
    ShardError
        If the samples are not those of the rows.
    """
    expected = ExpectedSamples(release, rows)
    with contextlib.closing(read_members(path, (MASKS, JSON))) as samples:
        for index in range(len(rows)):
            key, members = next(samples, ("", {}))
            if not members:
                raise ShardError(f"{path}: {counted(index, 'sample')}, expected {len(rows)}")
            description = parse_description(path, key, members[JSON])
            for problem in expected.problems(index, key, description, members[MASKS] if with_masks else None):
                raise ShardError(f"{path}: sample {key!r}: {problem}")
            if index + 1 == len(rows) and next(samples, None) is not None:
                raise ShardError(f"{path}: more samples than the {len(rows)} of {LANDMARKS}")
            yield description, members[MASKS]


class ExpectedSamples:
    """What the samples of a mask shard must be, by their rows in landmarks.parquet.

    Parameters
    ----------
    release : ReleaseFile
    rows : pyarrow.Table
        Of the shard.
    """

    def __init__(self, release: ReleaseFile, rows: pa.Table) -> None:
        self._attributes = release.dataset.attributes
        self._resolution = release.resolution
        self._columns: dict[str, list[Any]] = {name: rows[name].to_pylist() for name in COMPARED}
        self._landmarks: FloatRows = landmark_rows(rows)

    def problems(self, index: int, key: str, description: SampleDescription, png: bytes | None) -> Iterator[str]:
        """Yield how the sample of a row differs from it; its masks are looked at where they are given."""
        crop = list(description.crop)
        values = (key, description.image_id, description.split, description.landmark_source, crop)
        for name, value in zip(COMPARED, values, strict=True):
            expected = self._columns[name][index]
            if value != expected:
                yield f"{name} is {shown(value)}, expected {shown(expected)} as in {LANDMARKS}"
        landmarks: npt.NDArray[np.float32] = np.array(description.landmarks, dtype=np.float32)
        if not np.array_equal(landmarks, self._landmarks[index]):
            yield f"landmarks are not those of {LANDMARKS}"
        if png is not None:
            size = mask_size(self._resolution, description.crop)
            yield from mask_problems(png, description, self._attributes, size, RELEASE_FILE)
        elif tuple(description.labels) != self._attributes:
            yield f"labels are not those of {RELEASE_FILE}"
