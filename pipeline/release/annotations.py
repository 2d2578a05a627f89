"""A release as the source of annotations: its landmarks, labels and masks, and the worker's step for one image."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import images, storage
from pipeline.building.reading import read_errors, read_image_bytes, read_with_retries
from pipeline.building.sample_maker import SampleMaker
from pipeline.building.settings import Annotate, BuildSettings, Stage
from pipeline.building.stopwatch import Stopwatch
from pipeline.building.versions import CROP_STAGES, SAMPLE_STAGES
from pipeline.config import RESOLUTIONS
from pipeline.errors import ImageError, InputError, ShardError
from pipeline.formats import manifest
from pipeline.formats.samples import JSON, MASKS, parse_description, read_members
from pipeline.records import FloatRows, ImageRow, RejectedImage, WrittenSample
from pipeline.release.geoparquet import COLUMNS
from pipeline.release.release_json import LANDMARKS, RELEASE_FILE, ReleaseFile, mask_shard
from pipeline.vocabulary import DIFFERS, LandmarkSource
from regions.messages import counted


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
