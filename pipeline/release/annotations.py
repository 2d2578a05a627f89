"""A release as the source of annotations: its landmarks, labels and masks, and the worker's step for one image."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import images, storage
from pipeline.building.reading import iterate_with_retries, read_image_bytes, read_with_retries
from pipeline.building.sample_maker import SampleMaker
from pipeline.building.settings import Annotate, BuildSettings, Stage
from pipeline.building.stopwatch import Stopwatch
from pipeline.building.versions import CROP_STAGES, SAMPLE_STAGES
from pipeline.config import RESOLUTIONS
from pipeline.errors import ImageError, InputError, ShardError
from pipeline.formats import manifest
from pipeline.formats.dataset_json import ShardEntry
from pipeline.records import AnnotatedImage, FloatRows, ImageRow, RejectedImage, WrittenSample
from pipeline.release.release_json import LANDMARKS, RELEASE_FILE, ReleaseFile, mask_shard
from pipeline.release.release_reader import read_rows, read_samples
from pipeline.vocabulary import DIFFERS, LandmarkSource


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

    def read_rows(self, shard: ShardEntry) -> pa.Table:
        """Read the rows of a shard from landmarks.parquet; see `pipeline.release.release_reader.read_rows`.

        Raises
        ------
        InputError
            If they are damaged or not those that release.json describes.
        ReadError
            If the file cannot be read for a reason that may pass.
        """
        path = storage.join(self.folder, LANDMARKS)
        return read_with_retries(path, lambda: read_rows(self.folder, self.release, shard))

    def images_of(self, name: str) -> Iterator[ReleasedImage]:
        """Yield what the release holds of the images of a shard, in order.

        Raises
        ------
        InputError
            If its mask shard is damaged.
        ReadError
            If a file of the release cannot be read for a reason that may pass.
        """
        shard = next(shard for shard in self.release.dataset.shards if shard.name == name)
        rows = self.read_rows(shard)
        columns = (rows[column].to_pylist() for column in ("image_id", "landmark_source", "sha256"))
        has_samples = self.has_labels and len(rows)
        samples = self._labels_and_masks(name, rows) if has_samples else itertools.repeat((None, None), len(rows))
        everything = zip(*columns, manifest.landmark_rows(rows), samples, strict=True)
        for image_id, source, sha256, landmarks, (labels, png) in everything:
            yield ReleasedImage(image_id, source, landmarks, sha256, labels, png)

    def _labels_and_masks(self, name: str, rows: pa.Table) -> Iterator[tuple[npt.NDArray[np.int8], bytes | None]]:
        """Yield the labels of each row, and its masks where they are used as they are."""
        file = mask_shard(name)
        path = storage.join(self.folder, file)
        read_with_retries(path, lambda: check_file(self.folder, self.release, file))
        try:
            samples = iterate_with_retries(path, lambda: read_samples(path, self.release, rows, self.has_masks))
            for description, png in samples:
                yield description.label_values(), png if self.has_masks else None
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

    def samples(self, images: Sequence[AnnotatedImage]) -> list[WrittenSample]:
        """Draw the masks that the release does not have, and return the samples of the images in the same order."""
        return self._maker.samples(images)

    def _annotate(self, released: Iterator[ReleasedImage], row: ImageRow) -> AnnotatedImage | RejectedImage:
        """Cut the crop of the next image from the reader's copy, or return why there is none."""
        annotation = next(released, None)
        if annotation is None or annotation.image_id != row.image_id:
            found = "no further image" if annotation is None else f"image {annotation.image_id!r}"
            raise InputError(f"{self._annotations.folder}: {found}, expected {row.image_id!r}")
        if annotation.labels is not None:
            row = replace(row, labels=annotation.labels)
        image = self._read(row, annotation.sha256)
        if isinstance(image, RejectedImage):
            return image
        crop = self._maker.crop(image, annotation.landmarks, annotation.sha256)
        return AnnotatedImage(row, annotation.landmark_source, annotation.landmarks, crop, annotation.png)

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
