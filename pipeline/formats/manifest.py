"""The manifest of a shard, a Parquet file: one row per source image, and the record that the shard is complete."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import ShardError
from pipeline.formats.parquet_files import MAX_GROUP_ROWS, read_parquet
from pipeline.formats.parquet_footer import ParquetError
from pipeline.formats.run_folder import RunFolder
from pipeline.records import FloatRows, RejectedImage, ShardSummary, WrittenSample
from pipeline.vocabulary import (
    GIVEN,
    LANDMARK_SOURCES,
    REJECT_REASONS,
    REJECTED,
    SPLITS,
    STATUSES,
    WRITTEN,
    LandmarkSource,
    RejectReason,
    Status,
)
from regions.boxes import Box
from regions.label_file import UNKNOWN
from regions.landmarks import NUM_LANDMARKS
from regions.messages import counted
from regions.text_tables import MAX_NUMBER

SUMMARY_KEY = b"attparse.shard"
MAX_MANIFEST_BYTES = 1 << 30
"""Bytes of a manifest that is read; a row has about 700."""

OPTIONAL_COLUMNS = frozenset({"reason", "detail", "landmark_source", "points", "crop", "hint_agrees"})
"""Columns that may be null; all others have a value in every row."""
WORDS: Mapping[str, Iterable[str]] = MappingProxyType(
    {"split": SPLITS, "status": STATUSES, "reason": REJECT_REASONS, "landmark_source": LANDMARK_SOURCES}
)
"""Columns of words, and the words."""
LENGTHS: Mapping[str, int] = MappingProxyType({"points": 10, "crop": 4})
"""Columns of lists, and their lengths."""
GIVEN_WHERE: Mapping[str, Status] = MappingProxyType({"reason": REJECTED, "landmark_source": WRITTEN, "crop": WRITTEN})
"""Columns that have a value in the rows of one status, and null in the others."""


def manifest_schema(attributes: Sequence[str]) -> pa.Schema:
    """Return the columns of a manifest and their types.

    Parameters
    ----------
    attributes : sequence of str
        The fields of the column ``labels``: true, false, or null where unknown.
    """
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("key", pa.string()),
            ("split", pa.string()),
            ("shard", pa.string()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("detail", pa.string()),
            ("landmark_source", pa.string()),
            ("landmarks", pa.list_(pa.float32(), 2 * NUM_LANDMARKS)),
            ("points", pa.list_(pa.float32())),
            ("hint_agrees", pa.bool_()),
            ("crop", pa.list_(pa.int32())),
            ("labels", pa.struct([(name, pa.bool_()) for name in attributes])),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("sha256", pa.string()),
        ]
    )


class ManifestRow(NamedTuple):
    """The row of one image, but for its labels, split and shard.

    Attributes
    ----------
    image_id, key : str
    status : Status
    reason : RejectReason or None
        None where the image was written.
    detail : str or None
        What was found in a rejected image.
    landmark_source : LandmarkSource or None
        None where the image was rejected.
    landmarks : ndarray (68, 2) float32 or None
        In pixels of the source image; those of a rejected image failed the checks.
    points : ndarray (5, 2) float32 or None
        The five points of the data set, in pixels of the source image.
    hint_agrees : bool or None
        Whether the detected face is where the face box or the five points are: true in a sample, false in a
        reject whose plausible faces all lie elsewhere; None without a hint, with given landmarks or without a face.
    crop : Box or None
        In pixels of the source image; may reach outside of it.
    height, width : int
        Size of the source image, 0 where unknown.
    sha256 : str
        Of the source file, empty where it could not be read.
    """

    image_id: str
    key: str
    status: Status
    reason: RejectReason | None
    detail: str | None
    landmark_source: LandmarkSource | None
    landmarks: FloatRows | None
    points: FloatRows | None
    hint_agrees: bool | None
    crop: Box | None
    height: int
    width: int
    sha256: str


def manifest_row(result: WrittenSample | RejectedImage) -> ManifestRow:
    """Return the row of an image, written or rejected."""
    row = result.row
    kept = ManifestRow(
        image_id=row.image_id,
        key=row.key,
        status=WRITTEN,
        reason=None,
        detail=None,
        landmark_source=None,
        landmarks=None,
        points=row.points,
        hint_agrees=None,
        crop=None,
        height=result.height,
        width=result.width,
        sha256=result.sha256,
    )
    if isinstance(result, RejectedImage):
        return kept._replace(
            status=REJECTED,
            reason=result.reason,
            detail=result.detail,
            landmarks=result.guess,
            hint_agrees=result.hint_agrees,
        )
    has_hint = row.bbox is not None or row.points is not None
    return kept._replace(
        landmark_source=result.landmark_source,
        landmarks=result.landmarks,
        hint_agrees=True if has_hint and result.landmark_source != GIVEN else None,
        crop=result.crop,
    )


def write_manifest(
    output: str,
    rows: Sequence[ManifestRow],
    labels: npt.NDArray[np.int8],
    attributes: Sequence[str],
    summary: ShardSummary,
) -> None:
    """Write the manifest of a shard, its summary in the file's metadata.

    Parameters
    ----------
    output : str
        Folder of the run.
    rows : sequence of ManifestRow
    labels : ndarray (rows, attributes) int8
        1 yes, 0 no, -1 unknown, which is null in the file.
    attributes : sequence of str
    summary : ShardSummary
    """
    schema = manifest_schema(attributes).with_metadata(_metadata(summary))
    tables = (_table(summary, rows[part], labels[part], schema) for part in _row_groups(len(rows)))
    _write_tables(output, summary.name, schema, tables)


def write_sources(output: str, summary: ShardSummary, sources: str) -> None:
    """Write a manifest again with another hash of its shard's image files; all else stays as it is.

    Parameters
    ----------
    output : str
        Folder of the run.
    summary : ShardSummary
        Of the manifest as it is.
    sources : str

    Raises
    ------
    OSError
        If the file cannot be read or written.
    ShardError
        If it is damaged.
    """
    table = read_manifest(output, summary.name)
    metadata = _metadata(dataclasses.replace(summary, sources=sources))
    schema = manifest_schema([field.name for field in table.schema.field("labels").type]).with_metadata(metadata)
    table = pa.Table.from_arrays([table[name] for name in schema.names], schema=schema)
    _write_tables(output, summary.name, schema, (table[part] for part in _row_groups(len(table))))


def _metadata(summary: ShardSummary) -> dict[bytes, str]:
    return {SUMMARY_KEY: json.dumps(dataclasses.asdict(summary), sort_keys=True)}


def _row_groups(count: int) -> Iterator[slice]:
    return (slice(start, start + MAX_GROUP_ROWS) for start in range(0, count, MAX_GROUP_ROWS))


def _write_tables(output: str, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    stream = io.BytesIO()
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
    storage.write_bytes(RunFolder(output).manifest(name), stream.getvalue())


def _table(
    shard: ShardSummary, rows: Sequence[ManifestRow], labels: npt.NDArray[np.int8], schema: pa.Schema
) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in ManifestRow._fields}
    columns["split"] = [shard.split] * len(rows)
    columns["shard"] = [shard.name] * len(rows)
    columns["landmarks"] = pa.FixedSizeListArray.from_arrays(_landmarks(rows).ravel(), 2 * NUM_LANDMARKS)
    columns["points"] = [None if row.points is None else row.points.ravel() for row in rows]
    columns["labels"] = pa.StructArray.from_arrays(
        [pa.array(column == 1, mask=column == UNKNOWN) for column in labels.T], fields=list(schema.field("labels").type)
    )
    return pa.Table.from_pydict(columns, schema=schema)


def _landmarks(rows: Sequence[ManifestRow]) -> FloatRows:
    """Return the landmarks of all rows ``(n, 68, 2)``, NaN where there are none."""
    result = np.full((len(rows), NUM_LANDMARKS, 2), np.nan, dtype=np.float32)
    for index, row in enumerate(rows):
        if row.landmarks is not None:
            result[index] = row.landmarks
    return result


def read_summary(output: str, name: str) -> ShardSummary | None:
    """Return the summary of a shard, or None where there is no manifest, or it is damaged."""
    try:
        with storage.open_read(RunFolder(output).manifest(name)) as stream:
            metadata = pq.read_metadata(stream).metadata or {}
            return msgspec.json.decode(metadata[SUMMARY_KEY], type=ShardSummary)
    except (OSError, KeyError, ValueError, RecursionError, pa.ArrowException):
        return None


def read_manifest(output: str, name: str, columns: list[str] | None = None) -> pa.Table:
    """Read all rows of a shard's manifest, with all columns or those in `columns`.

    Raises
    ------
    OSError
        If the file cannot be read.
    ShardError
        If it is damaged, or a column is missing or wrong.
    """
    return read_manifest_file(RunFolder(output).manifest(name), columns)


def read_manifest_file(path: str, columns: list[str] | None = None) -> pa.Table:
    """Read all rows of a manifest by its path, as `read_manifest` does."""
    content = pa.BufferReader(storage.read_bytes(path, MAX_MANIFEST_BYTES))
    try:
        table = read_parquet(content, columns)
        fault = next(_faults(table, columns), None)
    except ParquetError as error:
        fault = str(error)
    if fault is not None:
        raise ShardError(f"{path}: {fault}, expected a manifest of attparse")
    return table


def _faults(table: pa.Table, columns: Sequence[str] | None) -> Iterator[str]:
    """Yield what is wrong with the columns of a manifest; the first fault may be the cause of others."""
    labels = table.schema.field("labels").type if "labels" in table.schema.names else None
    names = [field.name for field in labels] if labels is not None and pa.types.is_struct(labels) else []
    schema = manifest_schema(names)
    for name in schema.names if columns is None else columns:
        if name not in table.schema.names:
            yield f"no column {name!r}"
        elif table.schema.names.count(name) > 1:
            yield f"several columns {name!r}"
        elif table.schema.field(name).type != schema.field(name).type:
            yield f"column {name!r} of type {table.schema.field(name).type}"
        else:
            yield from _value_faults(name, table[name])
    if "status" in table.schema.names:
        yield from _row_faults(table)


def _value_faults(name: str, values: pa.ChunkedArray) -> Iterator[str]:
    """Yield which value of a column is missing, unknown or of another length."""
    if name not in OPTIONAL_COLUMNS and values.null_count:
        yield f"column {name!r} without a value in {counted(values.null_count, 'row')}"
    known = WORDS.get(name)
    if known is not None:
        unknown = set(values.unique().to_pylist()) - {None, *known}
        if unknown:
            yield f"{name} {min(unknown)!r}"
    length = LENGTHS.get(name)
    if length is not None:
        other = set(pc.list_value_length(values).unique().to_pylist()) - {None, length}
        if other:
            yield f"{name} of {counted(min(other), 'number')}"


def _row_faults(table: pa.Table) -> Iterator[str]:
    """Yield which column has a value in rows whose status excludes it, or none in rows whose status requires it."""
    for name, status in GIVEN_WHERE.items():
        if name in table.schema.names:
            other = pc.xor(pc.is_valid(table[name]), pc.equal(table["status"], status))
            if pc.any(other).as_py():
                yield f"column {name!r} that disagrees with status"
    if "landmarks" in table.schema.names:
        written = np.asarray(pc.equal(table["status"], WRITTEN))
        if not (np.abs(landmark_rows(table)[written]) <= MAX_NUMBER).all():
            yield f"a landmark of a written image that is nan or above {MAX_NUMBER:.0e}"


def landmark_rows(table: pa.Table) -> FloatRows:
    """Return the landmarks of all rows of a manifest ``(n, 68, 2)``, NaN where there are none."""
    flat = table["landmarks"].combine_chunks().flatten()
    return np.asarray(flat, dtype=np.float32).reshape(-1, NUM_LANDMARKS, 2)


def completed_shard(output: str, name: str, fingerprint: str, tar_path: str) -> ShardSummary | None:
    """Return the summary of a shard that need not be built again, else None.

    Its manifest must be intact and have the fingerprint, and its tar file the recorded size. A local tar
    file must also have the recorded hash; object stores check their content themselves. What cannot be
    read is not trusted.
    """
    summary = read_summary(output, name)
    if summary is None or (summary.name, summary.fingerprint) != (name, fingerprint):
        return None
    try:
        equal = storage.size_of(tar_path) == summary.bytes and (
            storage.is_remote(tar_path) or storage.sha256_of(tar_path) == summary.sha256
        )
        rows = read_manifest(output, name) if equal else []
    except (OSError, ShardError):
        return None
    return summary if equal and len(rows) == summary.samples + summary.rejected else None
