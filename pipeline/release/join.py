"""``attparse join``: the training set again, from a release and the reader's own images; no detector runs.

A join is a run whose annotations come from the release, so it resumes, reports errors and runs on every
runner as `pipeline.building.run` does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import images, storage
from pipeline.building.plan import fingerprint
from pipeline.building.reading import read_errors, read_image_bytes, read_with_retries
from pipeline.building.run import build_planned
from pipeline.building.runner import Runner
from pipeline.building.sample_maker import SampleMaker
from pipeline.building.settings import Annotate, BuildSettings, Stage
from pipeline.building.stopwatch import Stopwatch
from pipeline.building.versions import CROP_STAGES, SAMPLE_STAGES, installed_version, names_of
from pipeline.config import RESOLUTIONS, JoinConfig
from pipeline.errors import ImageError, InputError, ShardError, counted
from pipeline.formats import manifest
from pipeline.formats.dataset_json import DatasetFile, ShardEntry
from pipeline.formats.samples import JSON, MASKS, parse_description, read_members
from pipeline.inputs.dataset import check_match, read_labels
from pipeline.inputs.image_ids import is_unsafe
from pipeline.records import FloatRows, ImageRow, ImageTable, RejectedImage, ShardPlan, WrittenSample
from pipeline.release.geoparquet import COLUMNS
from pipeline.release.release_json import (
    LANDMARKS,
    RELEASE_FILE,
    ReleaseFile,
    id_problem,
    mask_shard,
    read_release_file,
)
from pipeline.vocabulary import DIFFERS, MISSING, SPLITS, UNLABELLED, UNSAFE_ID, LandmarkSource, RejectReason
from regions.attributes import AttributeTable, TableError
from regions.label_file import UNKNOWN

log = logging.getLogger("attparse")

LabelsById = Mapping[str, npt.NDArray[np.int8]]
"""Labels ``(attributes,)`` by image id."""


class JoinedRun(NamedTuple):
    """What a join made.

    Attributes
    ----------
    dataset : DatasetFile
        Content of its dataset.json.
    equal : int
        Number of shards that are byte-identical to the publisher's.
    """

    dataset: DatasetFile
    equal: int


def join(config: JoinConfig) -> JoinedRun | None:
    """Build the shards of a release with the reader's images; shards that are complete already are kept.

    Returns
    -------
    JoinedRun or None
        None after a dry run, which writes nothing.

    Raises
    ------
    InputError
        If the release is damaged or the arguments cannot be used.
    RunError
        If the pipeline failed.
    """
    runner = Runner(config.beam_options, (config.release, config.images, config.output))
    release = _open_release(config)
    labels, table = _labels_and_table(config, release)
    annotations = ReleaseAnnotations(config.release, release, has_labels=labels is None)
    published = release.dataset.versions
    own = {name: version for name in names_of(annotations.stages) if (version := installed_version(name)) is not None}
    _log_other_versions(published, own)
    settings = BuildSettings(
        images=config.images,
        output=config.output,
        table=table,
        crop=release.dataset.crop,
        seed=release.dataset.seed,
        skipped=release.dataset.skipped_missing,
        annotations=annotations,
        versions={**published, **own},
        source=release.dataset.source,
        refine=release.dataset.refine,
    )
    sizes = storage.list_files(config.images)
    plans = list(plan_join(settings, annotations, labels, sizes))
    _check_images(config, plans, labels, sizes)
    dataset = build_planned(runner, settings, plans)
    if dataset is None:
        return None
    pairs = zip(dataset.shards, release.dataset.shards, strict=True)
    return JoinedRun(dataset, sum(ours.sha256 == theirs.sha256 for ours, theirs in pairs))


def _open_release(config: JoinConfig) -> ReleaseFile:
    release = read_release_file(config.release)
    check_file(config.release, release, LANDMARKS)
    if storage.is_below(config.output, config.release) or storage.is_below(config.release, config.output):
        raise InputError(f"--output {config.output}: expected a folder apart from the release, {config.release}")
    if config.labels is None and not release.labels:
        raise InputError(f"{config.release}: the release holds no labels, expected --labels FILE")
    return release


def _check_images(
    config: JoinConfig, plans: Sequence[ShardPlan], labels: LabelsById | None, sizes: Mapping[str, int]
) -> None:
    """Refuse a release with unusable ids, and images and labels of which none belongs to it."""
    path = storage.join(config.release, LANDMARKS)
    image_ids = [image_id for plan in plans for image_id in plan.images.image_ids]
    problem = id_problem(image_ids, [key for plan in plans for key in plan.images.keys])
    if problem:
        raise InputError(f"{path}: {problem}")
    check_match(path, image_ids, config.images, sizes)
    if labels and image_ids and labels.keys().isdisjoint(image_ids):
        raise InputError(
            f"{config.labels}: none of {counted(len(labels), 'image id')} is in {path}: found {next(iter(labels))!r},"
            f" expected names such as {image_ids[0]!r}"
        )


def _labels_and_table(config: JoinConfig, release: ReleaseFile) -> tuple[LabelsById | None, AttributeTable]:
    """Return the reader's labels, None where those of the release are used, and the table for their attributes."""
    table = release.dataset.table()
    if config.labels is None:
        return None, table
    read = read_labels(config.labels)
    try:
        table = table.for_attributes(read.names)
    except TableError as error:
        raise InputError(str(error)) from None
    return dict(zip(read.image_ids, read.values, strict=True)), table


def check_file(folder: str, release: ReleaseFile, name: str) -> None:
    """Check that a file of a release is there and has its recorded hash.

    Raises
    ------
    InputError
        If not.
    """
    path = storage.join(folder, name)
    if not storage.exists(path):
        raise InputError(f"{path}: missing, though the release lists it")
    if storage.sha256_of(path) != release.files[name].sha256:
        raise InputError(f"{path}: damaged, its sha256 differs from the one in {RELEASE_FILE}")


def _log_other_versions(published: Mapping[str, str | int], own: Mapping[str, str | int]) -> None:
    other = [
        f"{name} {published[name]} there, {version} here"
        for name, version in own.items()
        if name in published and published[name] != version
    ]
    if other:
        log.warning("made with other versions, so shards may differ in their bytes: %s", "; ".join(other))


def plan_join(
    settings: BuildSettings, annotations: ReleaseAnnotations, labels: LabelsById | None, sizes: Mapping[str, int]
) -> Iterator[ShardPlan]:
    """Plan the shards of a release as they are.

    Parameters
    ----------
    settings : BuildSettings
    annotations : ReleaseAnnotations
    labels : mapping of str to ndarray, or None
        The reader's own; None where the workers take those of the release.
    sizes : mapping of str to int
        Bytes of each file in the reader's image folder.
    """
    for shard in annotations.release.dataset.shards:
        rows = annotations.read_rows(shard.name, ("image_id", "key"))
        problem = id_problem(rows["image_id"].to_pylist(), rows["key"].to_pylist())
        if problem:
            raise InputError(f"{storage.join(annotations.folder, LANDMARKS)}: shard {shard.name}: {problem}")
        table = _image_table(shard, rows, len(settings.table.attributes), labels, sizes)
        yield ShardPlan(shard.name, shard.split, table, _fingerprint(settings, annotations, shard, table))


def _image_table(
    shard: ShardEntry, rows: pa.Table, num_attributes: int, labels: LabelsById | None, sizes: Mapping[str, int]
) -> ImageTable:
    image_ids: list[str] = rows["image_id"].to_pylist()
    keys: list[str] = rows["key"].to_pylist()
    count = len(image_ids)
    values = np.full((count, num_attributes), UNKNOWN, dtype=np.int8)
    for index, image_id in enumerate(image_ids):
        if labels is not None and image_id in labels:
            values[index] = labels[image_id]
    return ImageTable(
        image_ids=image_ids,
        keys=keys,
        reasons=[_reason(image_id, labels, sizes) for image_id in image_ids],
        splits=np.full(count, SPLITS.index(shard.split), dtype=np.uint8),
        labels=values,
        sizes=np.array([sizes.get(image_id, -1) for image_id in image_ids], dtype=np.int64),
        bboxes=np.full((count, 4), np.nan, dtype=np.float32),
        points=np.full((count, 5, 2), np.nan, dtype=np.float32),
        landmarks=np.zeros((count, 0, 2), dtype=np.float32),
    )


def _reason(image_id: str, labels: LabelsById | None, sizes: Mapping[str, int]) -> RejectReason | None:
    if is_unsafe(image_id):
        return UNSAFE_ID
    if labels is not None and image_id not in labels:
        return UNLABELLED
    return None if image_id in sizes else MISSING


def _fingerprint(
    settings: BuildSettings, annotations: ReleaseAnnotations, shard: ShardEntry, images: ImageTable
) -> str:
    """Return the fingerprint of a shard, the hash of its own mask file included where that is used."""
    own = fingerprint(settings, shard.split, images)
    if not annotations.has_labels or not shard.samples:
        return own
    return hashlib.sha256((own + annotations.release.files[mask_shard(shard.name)].sha256).encode()).hexdigest()


class ReleasedImage(NamedTuple):
    """What a release holds of an image.

    Attributes
    ----------
    image_id : str
    landmark_source : LandmarkSource
    landmarks : ndarray (68, 2) float32
        In pixels of the source image.
    sha256 : str
        Of the source file.
    labels : ndarray (attributes,) int8 or None
        None where the reader's count.
    png : bytes or None
        The encoded masks, None where they must be drawn again.
    """

    image_id: str
    landmark_source: LandmarkSource
    landmarks: FloatRows
    sha256: str
    labels: npt.NDArray[np.int8] | None
    png: bytes | None


@dataclass(frozen=True)
class ReleaseAnnotations:
    """A release as the source of annotations: an `AnnotationSource`.

    Attributes
    ----------
    folder : str
    release : ReleaseFile
        Content of release.json.
    has_labels : bool
        Whether labels are those of the release; else the reader's count and masks are drawn again.
    """

    folder: str
    release: ReleaseFile
    has_labels: bool

    @property
    def has_masks(self) -> bool:
        """Whether the masks of the release are used as they are."""
        return self.has_labels and self.release.resolution == RESOLUTIONS[0]

    @property
    def stages(self) -> frozenset[Stage]:
        """The stages that a worker runs."""
        if self.has_masks:
            return CROP_STAGES
        refine: frozenset[Stage] = frozenset({"refine"} if self.release.dataset.refine else ())
        return SAMPLE_STAGES | refine

    @property
    def fingerprint(self) -> str:
        """Hash of the landmarks, and of what else is used; the mask file of a shard counts for that shard alone."""
        landmarks = self.release.files[LANDMARKS].sha256
        return hashlib.sha256(json.dumps([landmarks, self.has_labels]).encode()).hexdigest()

    def open(self, settings: BuildSettings, stopwatch: Stopwatch) -> ReleaseAnnotator:
        """Open the annotator of a worker thread."""
        return ReleaseAnnotator(self, settings, stopwatch)

    def read_rows(self, name: str, columns: tuple[str, ...] = COLUMNS) -> pa.Table:
        """Read the rows of a shard from landmarks.parquet.

        Raises
        ------
        InputError
            If the file is damaged.
        ReadError
            If it cannot be read for a reason that may pass.
        """
        path = storage.join(self.folder, LANDMARKS)
        return read_with_retries(path, lambda: self._read_rows(path, name, columns))

    def _read_rows(self, path: str, name: str, columns: tuple[str, ...]) -> pa.Table:
        first, count = self.release.row_groups[name]
        try:
            with storage.open_read(path) as stream:
                file = pq.ParquetFile(stream, pre_buffer=False)
                if first + count > file.num_row_groups:
                    raise InputError(
                        f"{path}: {counted(file.num_row_groups, 'row group')}, expected at least {first + count},"
                        f" as {RELEASE_FILE} has it for shard {name}"
                    )
                rows = file.read_row_groups(list(range(first, first + count)), list(columns), use_threads=False)
        except pa.ArrowException as error:
            raise InputError(f"{path}: damaged: {error}") from None
        expected = next(shard.samples for shard in self.release.dataset.shards if shard.name == name)
        if len(rows) != expected:
            raise InputError(f"{path}: {counted(len(rows), 'row')} for shard {name}, expected {expected}")
        return rows

    def images_of(self, name: str) -> Iterator[ReleasedImage]:
        """Yield what the release holds of the images of a shard, in order.

        Raises
        ------
        InputError
            If its mask shard is damaged.
        ReadError
            If a file of the release cannot be read for a reason that may pass.
        """
        rows = self.read_rows(name)
        columns = (rows[column].to_pylist() for column in ("image_id", "landmark_source", "sha256"))
        samples = self._labels_and_masks(name) if self.has_labels and len(rows) else None
        for image_id, source, sha256, landmarks in zip(*columns, manifest.landmark_rows(rows), strict=True):
            labels, png = next(samples) if samples is not None else (None, None)
            yield ReleasedImage(image_id, source, landmarks, sha256, labels, png if self.has_masks else None)

    def _labels_and_masks(self, name: str) -> Iterator[tuple[npt.NDArray[np.int8], bytes]]:
        file = mask_shard(name)
        path = storage.join(self.folder, file)
        read_with_retries(path, lambda: check_file(self.folder, self.release, file))
        try:
            with read_errors(path):
                for key, members in read_members(path, (MASKS, JSON)):
                    yield parse_description(path, key, members[JSON]).label_values(), members[MASKS]
        except ShardError as error:
            raise InputError(str(error)) from None


class ReleaseAnnotator:
    """Turns the reader's images into samples with the annotations of a release.

    Parameters
    ----------
    annotations : ReleaseAnnotations
    settings : BuildSettings
    stopwatch : Stopwatch
        Adds up the time of each stage.
    """

    def __init__(self, annotations: ReleaseAnnotations, settings: BuildSettings, stopwatch: Stopwatch) -> None:
        self._annotations = annotations
        self._folder = settings.images
        self._stopwatch = stopwatch
        refine = None if annotations.has_masks else settings.refine
        self._maker = SampleMaker(settings.table, settings.crop, refine, stopwatch)

    def close(self) -> None:
        """Free the model that refines masks."""
        self._maker.close()

    @contextlib.contextmanager
    def of_shard(self, name: str) -> Iterator[Annotate]:
        """Return the function that annotates the images of a shard, in their order."""
        yield functools.partial(self._annotate, self._annotations.images_of(name))

    def _annotate(self, released: Iterator[ReleasedImage], row: ImageRow) -> WrittenSample | RejectedImage:
        """Make the sample of the next image from the reader's copy, or return why there is none."""
        annotation = next(released)
        if annotation.image_id != row.image_id:
            raise InputError(f"{self._annotations.folder}: image {annotation.image_id!r}, expected {row.image_id!r}")
        if annotation.labels is not None:
            row = replace(row, labels=annotation.labels)
        image = self._read(row, annotation.sha256)
        if isinstance(image, RejectedImage):
            return image
        landmarks, source = annotation.landmarks, annotation.landmark_source
        crop = self._maker.crop(image, landmarks, annotation.sha256)
        if annotation.png is None:
            return self._maker.sample(row, source, landmarks, crop)
        size = (crop.height, crop.width)
        return WrittenSample(row, source, landmarks, crop.box, *size, crop.sha256, crop.jpeg, annotation.png)

    def _read(self, row: ImageRow, expected: str) -> images.DecodedImage | RejectedImage:
        """Read an image if it is the one that the release was made from, by its sha256."""
        if row.reason is not None:
            return RejectedImage(row, row.reason)
        sha256 = ""
        try:
            with self._stopwatch.time("read"):
                content = read_image_bytes(storage.join(self._folder, row.image_id))
                sha256 = hashlib.sha256(content).hexdigest()
            if sha256 != expected:
                detail = f"sha256 {sha256}, the release was made from {expected}"
                return RejectedImage(row, DIFFERS, detail, sha256=sha256)
            with self._stopwatch.time("decode"):
                return images.decode(content)
        except ImageError as error:
            return RejectedImage(row, error.reason, error.detail, sha256=sha256)


def rejected_images(output: str, dataset: DatasetFile) -> dict[str, list[str]]:
    """Return the ids of the images that a join left out, by reason.

    Parameters
    ----------
    output : str
    dataset : DatasetFile
        Content of its dataset.json.
    """
    rejected: dict[str, list[str]] = {}
    for shard in dataset.shards:
        if shard.rejected:
            for row in manifest.read_manifest(output, shard.name, ["image_id", "reason"]).to_pylist():
                if row["reason"]:
                    rejected.setdefault(row["reason"], []).append(row["image_id"])
    return rejected
