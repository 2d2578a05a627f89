"""The Parquet sidecar of a shard: one row per source image, and the record that the shard is complete."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.formats.run_folder import RunFolder
from pipeline.records import FloatRows, RejectedImage, ShardSummary, WrittenSample
from pipeline.vocabulary import REJECTED, WRITTEN, LandmarkSource, RejectReason, Status
from regions.boxes import Box
from regions.landmarks import NUM_LANDMARKS

ROWS_PER_GROUP = 10_000
SUMMARY_KEY = b"attparse.shard"
POINTS_TYPE = pa.list_(pa.float32())


class ManifestRow(NamedTuple):
    """What is kept of one image."""

    image_id: str
    key: str
    status: Status
    reason: RejectReason | None
    detail: str | None
    landmark_source: LandmarkSource | None
    landmarks: FloatRows | None
    points: FloatRows | None
    crop: Box | None
    height: int
    width: int
    sha256: str


def manifest_row(result: WrittenSample | RejectedImage) -> ManifestRow:
    """Return what is kept of an image."""
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
        crop=None,
        height=result.height,
        width=result.width,
        sha256=result.sha256,
    )
    if isinstance(result, RejectedImage):
        return kept._replace(status=REJECTED, reason=result.reason, detail=result.detail, landmarks=result.guess)
    return kept._replace(landmark_source=result.landmark_source, landmarks=result.landmarks, crop=result.crop)


def write_manifest(
    output: str,
    rows: list[ManifestRow],
    labels: npt.NDArray[np.bool_],
    attributes: list[str],
    summary: ShardSummary,
) -> None:
    """Write the manifest of a shard, its summary in the file's metadata.

    Parameters
    ----------
    output : str
        Folder of the run.
    rows : list of ManifestRow
    labels : ndarray (rows, attributes) bool
    attributes : list of str
    summary : ShardSummary
    """
    metadata = {SUMMARY_KEY: json.dumps(dataclasses.asdict(summary), sort_keys=True)}
    schema = _table(summary, rows[:0], labels[:0], attributes).schema.with_metadata(metadata)
    stream = io.BytesIO()
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for start in range(0, len(rows), ROWS_PER_GROUP):
            part = slice(start, start + ROWS_PER_GROUP)
            group = _table(summary, rows[part], labels[part], attributes)
            writer.write_table(group.replace_schema_metadata(metadata))
    storage.write_bytes(RunFolder(output).manifest(summary.name), stream.getvalue())


def _table(
    shard: ShardSummary, rows: list[ManifestRow], labels: npt.NDArray[np.bool_], attributes: list[str]
) -> pa.Table:
    columns = np.ascontiguousarray(labels.T)
    return pa.table(
        {
            "image_id": pa.array([row.image_id for row in rows], pa.string()),
            "key": pa.array([row.key for row in rows], pa.string()),
            "split": pa.array([shard.split] * len(rows), pa.string()),
            "shard": pa.array([shard.name] * len(rows), pa.string()),
            "status": pa.array([row.status for row in rows], pa.string()),
            "reason": pa.array([row.reason for row in rows], pa.string()),
            "detail": pa.array([row.detail for row in rows], pa.string()),
            "landmark_source": pa.array([row.landmark_source for row in rows], pa.string()),
            "landmarks": pa.FixedSizeListArray.from_arrays(_landmarks(rows).ravel(), 2 * NUM_LANDMARKS),
            "points": pa.array([None if row.points is None else row.points.ravel() for row in rows], POINTS_TYPE),
            "crop": pa.array([row.crop for row in rows], pa.list_(pa.int32())),
            "labels": pa.StructArray.from_arrays([pa.array(column) for column in columns], names=attributes),
            "height": pa.array([row.height for row in rows], pa.int32()),
            "width": pa.array([row.width for row in rows], pa.int32()),
            "sha256": pa.array([row.sha256 for row in rows], pa.string()),
        }
    )


def _landmarks(rows: list[ManifestRow]) -> FloatRows:
    """Return the landmarks of all rows ``(n, 68, 2)``, not a number where there are none."""
    result = np.full((len(rows), NUM_LANDMARKS, 2), np.nan, dtype=np.float32)
    for index, row in enumerate(rows):
        if row.landmarks is not None:
            result[index] = row.landmarks
    return result


def read_summary(output: str, name: str) -> ShardSummary | None:
    """Return the summary of a shard, or None where there is no readable manifest."""
    try:
        with storage.open_read(RunFolder(output).manifest(name)) as stream:
            metadata = pq.read_metadata(stream).metadata or {}
            return ShardSummary(**json.loads(metadata[SUMMARY_KEY]))
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
        return None


def read_manifest(output: str, name: str, columns: list[str] | None = None) -> pa.Table:
    """Read all rows of a shard's manifest; all columns or those named.

    Raises
    ------
    OSError, pyarrow.ArrowException
        If there is none or it is damaged.
    """
    return read_manifest_file(RunFolder(output).manifest(name), columns)


def read_manifest_file(path: str, columns: list[str] | None = None) -> pa.Table:
    """Read all rows of a manifest by its path, as `read_manifest` does."""
    content = pa.BufferReader(storage.read_bytes(path))
    # With pyarrow's threads and pre-buffering, a process that ends soon after may abort (pyarrow 23).
    return pq.ParquetFile(content, pre_buffer=False).read(columns, use_threads=False)


def landmark_rows(table: pa.Table) -> FloatRows:
    """Return the landmarks of all rows of a manifest ``(n, 68, 2)``, not a number where there are none."""
    flat = table["landmarks"].combine_chunks().flatten()
    return np.asarray(flat, dtype=np.float32).reshape(-1, NUM_LANDMARKS, 2)


def completed_shard(output: str, name: str, fingerprint: str, tar_path: str) -> ShardSummary | None:
    """Return the summary of a shard that need not be built again, else None.

    Its manifest must have the fingerprint, and its tar file the recorded size; a local tar file
    must have the recorded hash, too (object stores check their content themselves).
    """
    summary = read_summary(output, name)
    if summary is None or summary.fingerprint != fingerprint or storage.size_of(tar_path) != summary.bytes:
        return None
    if not storage.is_remote(tar_path) and storage.sha256_of(tar_path) != summary.sha256:
        return None
    return summary
