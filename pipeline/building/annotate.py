"""One image, from file to sample: read, decode, detect, then crop and masks."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from pipeline import images, storage
from pipeline.building.kept_crops import KeptCrops
from pipeline.building.reading import read_image_bytes
from pipeline.building.sample_maker import SampleMaker
from pipeline.building.settings import Annotate, Annotator, BuildSettings
from pipeline.building.stopwatch import Stopwatch
from pipeline.building.versions import ALL_STAGES, check_versions
from pipeline.detection.detectors import Detectors, open_detectors
from pipeline.detection.fallback_chain import DetectedFace, DetectionFailure, FallbackChain
from pipeline.detection.hint_frames import row_as_stored
from pipeline.detection.model_files import check_model_files
from pipeline.errors import ImageError
from pipeline.records import (
    AnnotatedImage,
    Crop,
    DetectorSettings,
    FloatRows,
    ImageRow,
    RejectedImage,
    WrittenSample,
)
from pipeline.vocabulary import GIVEN, TOO_LARGE
from regions.landmarks import round_landmarks
from regions.quality import plausibility_problem


def open_annotator(settings: BuildSettings, stopwatch: Stopwatch) -> Annotator:
    """Open the annotator of a worker thread, after a comparison of its versions and model files.

    Raises
    ------
    RunError
        If this worker has other versions or model files than the machine that started the run.
    """
    cv2.setNumThreads(1)  # the workers are the threads
    source = settings.annotations
    if isinstance(source, DetectorSettings):
        check_versions(settings.versions, ALL_STAGES)
        check_model_files(source)
        return DetectingAnnotator(settings, open_detectors(source), stopwatch)
    check_versions(settings.versions, source.stages)
    return source.open(settings, stopwatch)


class DetectingAnnotator:
    """Turns images into samples with the detectors, which it holds.

    Parameters
    ----------
    settings : BuildSettings
    detectors : Detectors
    stopwatch : Stopwatch
        Adds up the time of each stage.
    """

    def __init__(self, settings: BuildSettings, detectors: Detectors, stopwatch: Stopwatch) -> None:
        self._settings = settings
        self._stopwatch = stopwatch
        self._chain = FallbackChain(detectors)
        self._maker = SampleMaker(settings.table, settings.crop, settings.refine, stopwatch)

    def close(self) -> None:
        """Free the detectors."""
        self._chain.close()
        self._maker.close()

    @contextlib.contextmanager
    def of_shard(self, name: str) -> Iterator[Annotate]:
        """Return the function that annotates the images of a shard, with the crops of a former run at hand."""
        with contextlib.closing(KeptCrops(self._settings.kept_crops, name)) as kept_crops:
            yield functools.partial(self._annotate_with, kept_crops)

    def samples(self, images: Sequence[AnnotatedImage]) -> list[WrittenSample]:
        """Draw the masks of images, and return their samples in the same order."""
        return self._maker.samples(images)

    def _annotate_with(self, kept_crops: KeptCrops, row: ImageRow) -> AnnotatedImage | RejectedImage:
        return self.annotate(row, kept_crops.take(row.image_id))

    def annotate(self, row: ImageRow, kept: Crop | None = None) -> AnnotatedImage | RejectedImage:
        """Find the landmarks of one image and make its crop, or return why there are none.

        Parameters
        ----------
        row : ImageRow
        kept : Crop, optional
            Of a former run; used if it is what would be made again.

        Raises
        ------
        ReadError
            If the file cannot be read for a reason that may pass.
        """
        if row.reason is not None:
            return RejectedImage(row, row.reason)
        sha256 = ""
        try:
            with self._stopwatch.time("read"):
                content = read_image_bytes(storage.join(self._settings.images, row.image_id))
                sha256 = hashlib.sha256(content).hexdigest()
            if kept is not None and row.landmarks is not None:
                landmarks = round_landmarks(row.landmarks)
                if self._is_current(kept, landmarks, sha256):
                    return AnnotatedImage(row, GIVEN, landmarks, kept)
            with self._stopwatch.time("decode"):
                image = images.decode(content)
        except ImageError as error:
            return RejectedImage(row, error.reason, error.detail, sha256=sha256)
        try:
            return self._detect(row, image, sha256)
        except MemoryError:
            detail = f"{image.width}x{image.height} pixels, which take more memory to search than there is"
            return RejectedImage(row, TOO_LARGE, detail, image.height, image.width, sha256)

    def _detect(self, row: ImageRow, image: images.DecodedImage, sha256: str) -> AnnotatedImage | RejectedImage:
        with self._stopwatch.time("detect"):
            row, found = self._find(row, image)
        if not isinstance(found, DetectedFace):
            guess = None if found.guess is None else round_landmarks(found.guess)
            agrees = False if found.contradicts_hint else None
            return RejectedImage(row, found.reason, found.detail, image.height, image.width, sha256, guess, agrees)
        landmarks = round_landmarks(found.landmarks)
        return AnnotatedImage(row, found.landmark_source, landmarks, self._maker.crop(image, landmarks, sha256))

    def _find(self, row: ImageRow, image: images.DecodedImage) -> tuple[ImageRow, DetectedFace | DetectionFailure]:
        """Return the face of an image, and the row with the hints in the frame in which they agree with it."""
        first = self._chain.find(image, row)
        if isinstance(first, DetectedFace):
            return row, first
        as_stored = row_as_stored(row, image)
        again = first if as_stored is None else self._chain.find(image, as_stored)
        return (as_stored, again) if as_stored is not None and isinstance(again, DetectedFace) else (row, first)

    def _is_current(self, kept: Crop, landmarks: FloatRows, sha256: str) -> bool:
        """Return whether a kept crop is of the same file and landmarks, and these pass the checks."""
        return (
            kept.sha256 == sha256
            and kept.box == self._maker.box(landmarks, kept.width, kept.height)
            and plausibility_problem(landmarks.astype(np.float64), kept.width, kept.height) is None
        )
