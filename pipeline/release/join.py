"""``attparse join``: the training set again, from a release and the reader's own images; no detector is run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import images, storage
from pipeline.building import progress
from pipeline.building.annotate import SampleMaker, Stopwatch
from pipeline.building.complete import finish
from pipeline.building.plan import versions
from pipeline.building.run import check_former_shards, prepared_output
from pipeline.building.shard import summarize
from pipeline.errors import ImageError, InputError, ShardError
from pipeline.formats import manifest
from pipeline.formats.dataset_json import DatasetFile, read_dataset_file
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import JSON, MASKS, SampleWriter, parse_description, read_members
from pipeline.inputs.dataset import read_labels
from pipeline.inputs.image_ids import is_unsafe
from pipeline.records import BuildSettings, DetectorSettings, FloatRows, ImageRow, RejectedImage, WrittenSample
from pipeline.release.geoparquet import COLUMNS
from pipeline.release.release_json import (
    LANDMARKS,
    RELEASE_FILE,
    RESOLUTIONS,
    ReleaseFile,
    mask_shard,
    read_release_file,
)
from pipeline.vocabulary import DIFFERS, MISSING, UNLABELLED, UNREADABLE, UNSAFE_ID, LandmarkSource
from regions.attributes import TableError
from regions.label_file import UNKNOWN

DECIDING = (
    "format",
    "rules",
    "crop",
    "masks",
    "images",
    "encoding",
    "numpy",
    "opencv-contrib-python",
    "pillow",
    "shapely",
)
"""Versions that decide the bytes of a shard, once the landmarks are known."""

log = logging.getLogger("attparse")

Labels = Mapping[str, npt.NDArray[np.int8]]


@dataclass(frozen=True)
class Release:
    """A release that is read, and what it is joined with.

    Attributes
    ----------
    folder : str
    description : dict
        Content of release.json.
    settings : BuildSettings
        Of the joined run.
    labels : mapping of str to ndarray (attributes,) int8, or None
        The reader's own, by image id; without them, the labels and masks are the release's.
    """

    folder: str
    description: ReleaseFile
    settings: BuildSettings
    labels: Labels | None

    @property
    def has_masks(self) -> bool:
        """Whether the masks of the release can be taken as they are."""
        return self.labels is None and self.description.resolution == RESOLUTIONS[0]


def join(folder: str, images_folder: str, output: str, label_file: str | None) -> tuple[DatasetFile, int]:
    """Build the shards of a release with the reader's images; those that are complete already are kept.

    Returns
    -------
    document : dict
        Content of the dataset.json written.
    equal : int
        Number of shards that are the publisher's, byte for byte.

    Raises
    ------
    InputError
        If the release is damaged or the arguments can't be used.
    """
    release = _open(folder, images_folder, output, label_file)
    _tell_other_versions(release.description.dataset.versions)
    names = [shard.name for shard in release.description.dataset.shards]
    sizes = storage.list_files(images_folder)
    with prepared_output(output):
        check_former_shards(output, names)
        pending: dict[str, str] = {}
        counts: dict[str, int] = {}
        for name in names:
            rows = _read_rows(release, name)
            fingerprint = _fingerprint(release, name, rows, sizes)
            if manifest.completed_shard(output, name, fingerprint, RunFolder(output).shard(name)) is None:
                pending[name], counts[name] = fingerprint, len(rows)
        if pending:
            storage.delete(RunFolder(output).dataset_json)
        log.info("%d of %d shards are done already", len(names) - len(pending), len(names))
        cv2.setNumThreads(1)  # the workers are the threads
        with progress.show(counts, output, in_process=True), ThreadPoolExecutor(os.cpu_count()) as threads:
            for _ in threads.map(lambda item: _build(release, *item), pending.items()):
                pass
        finish(release.settings, names)
    return read_dataset_file(output), _count_equal(release)


def _open(folder: str, images_folder: str, output: str, label_file: str | None) -> Release:
    description = read_release_file(folder)
    dataset = description.dataset
    _check_file(folder, description, LANDMARKS)
    if storage.is_below(output, folder) or storage.is_below(folder, output):
        raise InputError(f"--output {output}: expected a folder apart from the release, {folder}")
    if label_file is None and not description.labels:
        raise InputError(f"{folder}: the release holds no labels, expected --labels FILE")
    table = dataset.table()
    labels = None
    if label_file is not None:
        read = read_labels(label_file)
        try:
            table = table.for_attributes(read.names)
        except TableError as error:
            raise InputError(str(error)) from None
        labels = dict(zip(read.image_ids, read.values, strict=True))
    known = versions(DetectorSettings(()))
    detectors = DetectorSettings(
        tuple(str(dataset.versions["detectors"]).split(",")),
        versions={name: str(value) for name, value in dataset.versions.items() if name not in known},
    )
    settings = BuildSettings(
        images_folder,
        output,
        table,
        dataset.crop,
        dataset.seed,
        dataset.skipped_missing,
        detectors,
        refine=dataset.refine,
    )
    return Release(folder, description, settings, labels)


def _check_file(folder: str, description: ReleaseFile, name: str) -> None:
    path = storage.join(folder, name)
    if not storage.exists(path):
        raise InputError(f"{path}: missing, though the release lists it")
    if storage.sha256_of(path) != description.files[name].sha256:
        raise InputError(f"{path}: damaged, its sha256 differs from the one in {RELEASE_FILE}")


def _tell_other_versions(published: Mapping[str, Any]) -> None:
    own = versions(DetectorSettings(()))
    other = [f"{name} {published[name]} there, {own[name]} here" for name in DECIDING if own[name] != published[name]]
    if other:
        log.warning("made with other versions, so shards may differ in their bytes: %s", "; ".join(other))


def _read_rows(release: Release, name: str) -> pa.Table:
    """Return the rows of a shard out of landmarks.parquet."""
    first, count = release.description.row_groups[name]
    with storage.open_read(storage.join(release.folder, LANDMARKS)) as stream:
        file = pq.ParquetFile(stream, pre_buffer=False)
        return file.read_row_groups(list(range(first, first + count)), list(COLUMNS), use_threads=False)


def _fingerprint(release: Release, name: str, rows: pa.Table, sizes: Mapping[str, int]) -> str:
    """Return the hash of all that decides a joined shard: a resumed join builds those for which it differs."""
    image_ids = rows["image_id"].to_pylist()
    own_labels = None
    if release.labels is not None:
        own_labels = [release.labels[i].tolist() if i in release.labels else None for i in image_ids]
    parts = [
        {file: entry.sha256 for file, entry in release.description.files.items()},
        name,
        versions(release.settings.detectors),
        [sizes.get(image_id, -1) for image_id in image_ids],
        list(release.settings.table.attributes),
        own_labels,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _build(release: Release, name: str, fingerprint: str) -> None:
    """Build one shard: its tar file, then its manifest as the record of completion."""
    settings = release.settings
    (split,) = (shard.split for shard in release.description.dataset.shards if shard.name == name)
    attributes = list(settings.table.attributes)
    maker = SampleMaker(settings.table, settings.crop, settings.refine, Stopwatch())
    rows: list[manifest.ManifestRow] = []
    labels: list[npt.NDArray[np.int8]] = []
    with storage.create(RunFolder(settings.output).shard(name)) as stream, contextlib.closing(maker):
        writer = SampleWriter(stream)
        for published in _published(release, name):
            try:
                result = _join_image(settings.images, maker, published)
            except Exception as error:
                raise RuntimeError(f"image {published.row.image_id!r} of shard {name}: {error!r}") from error
            if isinstance(result, WrittenSample):
                writer.add(result, split, attributes)
            rows.append(manifest.manifest_row(result))
            labels.append(published.row.labels)
            progress.image_done(written=isinstance(result, WrittenSample))
        writer.close()
    of_rows = np.array(labels, dtype=np.int8).reshape(len(rows), len(attributes))
    summary = summarize(name, split, fingerprint, rows, writer)
    manifest.write_manifest(settings.output, rows, of_rows, attributes, summary)


class ReleasedImage(NamedTuple):
    """What a release holds of an image."""

    row: ImageRow
    landmark_source: LandmarkSource
    landmarks: FloatRows
    sha256: str
    png: bytes | None
    """The masks; None where they must be drawn again."""


def _published(release: Release, name: str) -> Iterator[ReleasedImage]:
    """Yield the images of a shard, in order."""
    rows = _read_rows(release, name)
    columns = (rows[column].to_pylist() for column in ("image_id", "key", "landmark_source", "sha256"))
    landmarks = manifest.landmark_rows(rows)
    samples = _released_samples(release, name) if release.labels is None and len(rows) else None
    for image_id, key, landmark_source, sha256, points in zip(*columns, landmarks, strict=True):
        reason, png = UNSAFE_ID if is_unsafe(image_id) else None, None
        if samples is not None:
            labels, png = next(samples)
        elif release.labels is not None and image_id in release.labels:
            labels = release.labels[image_id]
        else:
            reason = reason or UNLABELLED
            labels = np.full(len(release.settings.table.attributes), UNKNOWN, dtype=np.int8)
        row = ImageRow(image_id, key, labels, bbox=None, points=None, landmarks=None, reason=reason)
        yield ReleasedImage(row, landmark_source, points, sha256, png if release.has_masks else None)


def _released_samples(release: Release, name: str) -> Iterator[tuple[npt.NDArray[np.int8], bytes]]:
    """Yield labels and masks of the samples of a mask shard."""
    file = mask_shard(name)
    _check_file(release.folder, release.description, file)
    path = storage.join(release.folder, file)
    try:
        for key, members in read_members(path, (MASKS, JSON)):
            yield parse_description(path, key, members[JSON]).label_values(), members[MASKS]
    except ShardError as error:
        raise InputError(str(error)) from None


def _join_image(folder: str, maker: SampleMaker, published: ReleasedImage) -> WrittenSample | RejectedImage:
    """Make the sample of an image from the reader's copy, or tell why there is none."""
    row, landmark_source, landmarks, sha256, png = published
    image = _read_image(folder, published)
    if isinstance(image, RejectedImage):
        return image
    crop = maker.crop(image, landmarks, sha256)
    if png is None:
        return maker.sample(row, landmark_source, landmarks, crop)
    return WrittenSample(row, landmark_source, landmarks, crop.box, crop.height, crop.width, sha256, crop.jpeg, png)


def _read_image(folder: str, published: ReleasedImage) -> images.DecodedImage | RejectedImage:
    """Read an image if it is the one that the release was made from."""
    row = published.row
    if row.reason:
        return RejectedImage(row, row.reason)
    try:
        content = storage.read_bytes(storage.join(folder, row.image_id))
    except OSError as error:
        reason = MISSING if isinstance(error, FileNotFoundError) else UNREADABLE
        return RejectedImage(row, reason, error.strerror or str(error))
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != published.sha256:
        return RejectedImage(
            row, DIFFERS, f"sha256 {sha256}, the release was made from {published.sha256}", sha256=sha256
        )
    try:
        return images.decode(content)
    except ImageError as error:
        return RejectedImage(row, error.reason, error.detail, sha256=sha256)


def _count_equal(release: Release) -> int:
    """Return how many joined shards have the publisher's hash."""
    published = release.description.dataset.shards
    summaries = [manifest.read_summary(release.settings.output, shard.name) for shard in published]
    return sum(
        summary is not None and summary.sha256 == shard.sha256
        for summary, shard in zip(summaries, published, strict=True)
    )


def rejected_images(output: str, document: DatasetFile) -> dict[str, list[str]]:
    """Return the ids of the images that a join left out, by reason.

    Parameters
    ----------
    output : str
    document : mapping
        Content of its dataset.json.
    """
    rejected: dict[str, list[str]] = {}
    for shard in document.shards:
        if shard.rejected:
            for row in manifest.read_manifest(output, shard.name, ["image_id", "reason"]).to_pylist():
                if row["reason"]:
                    rejected.setdefault(row["reason"], []).append(row["image_id"])
    return rejected
