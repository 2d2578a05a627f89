"""One image, from file to encoded crop and masks: read, decode, detect, regions, masks, encode."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline import images, storage
from pipeline.detect import GIVEN, Found, Ladder
from pipeline.records import Annotated, BuildSettings, Crop, FloatRows, ImageRow, Rejected
from pipeline.refine import Refiner
from regions.crop import Box, cut, face_crop_box
from regions.landmarks import round_landmarks
from regions.masks import AttributeMasks, clear_outside, rasterize, sample_points
from regions.polygons import region_polygons
from regions.quality import implausible

ENCODING_VERSION = 1
"""Raised whenever the encoding changes, so that shards built before are built again."""

JPEG_QUALITY = 95
STAGES = ("read", "decode", "detect", "regions", "masks", "refine", "encode", "write")


class Stopwatch:
    """Adds up the time spent in each stage.

    Attributes
    ----------
    seconds : dict of str to float
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Count the time of a block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start


class Annotator:
    """Turns images into samples; holds the detectors.

    Parameters
    ----------
    settings : BuildSettings
    stopwatch : Stopwatch
        Told how long each stage took.
    """

    def __init__(self, settings: BuildSettings, stopwatch: Stopwatch) -> None:
        cv2.setNumThreads(1)  # the workers are the threads
        self._settings = settings
        self._stopwatch = stopwatch
        self._ladder = Ladder(settings.detectors)
        self._refiner = None if settings.refine is None else Refiner()
        self._attribute_masks = AttributeMasks(settings.table.region_bits())

    def close(self) -> None:
        """Free the detectors."""
        self._ladder.close()
        if self._refiner is not None:
            self._refiner.close()

    def annotate(self, row: ImageRow, kept: Crop | None = None) -> Annotated | Rejected:
        """Make the sample of one image, or tell why there is none.

        Parameters
        ----------
        row : ImageRow
        kept : Crop, optional
            Of a former run; used if it is what would be made again.
        """
        if row.reason:
            return Rejected(row, row.reason)
        try:
            with self._stopwatch.time("read"):
                content = storage.read_bytes(storage.join(self._settings.images, row.image_id))
                sha256 = hashlib.sha256(content).hexdigest()
        except OSError as error:
            return Rejected(row, "unreadable", error.strerror or str(error))
        if kept is not None and row.landmarks is not None:
            landmarks = round_landmarks(row.landmarks)
            if self._would_be_the_same(kept, landmarks, sha256):
                return self._sample(row, GIVEN, landmarks, kept)
        try:
            with self._stopwatch.time("decode"):
                picture = images.decode(content)
        except images.ImageError as error:
            return Rejected(row, error.reason, error.detail, sha256=sha256)
        with self._stopwatch.time("detect"):
            found = self._ladder.find(picture, row)
        if not isinstance(found, Found):
            guess = None if found.guess is None else round_landmarks(found.guess)
            return Rejected(row, found.reason, found.detail, picture.height, picture.width, sha256, guess)
        landmarks = round_landmarks(found.landmarks)
        return self._sample(row, found.rung, landmarks, self._crop(picture, landmarks, sha256))

    def _box(self, landmarks: FloatRows, width: int, height: int) -> Box:
        return face_crop_box(landmarks) if self._settings.crop == "face" else (0, 0, width, height)

    def _would_be_the_same(self, kept: Crop, landmarks: FloatRows, sha256: str) -> bool:
        """Tell whether a kept crop is of the same file and landmarks, and these pass the checks."""
        return (
            kept.sha256 == sha256
            and kept.box == self._box(landmarks, kept.width, kept.height)
            and implausible(landmarks.astype(np.float64), kept.width, kept.height) is None
        )

    def _crop(self, picture: images.Picture, landmarks: FloatRows, sha256: str) -> Crop:
        """Cut and encode the crop of a picture."""
        box = self._box(landmarks, picture.width, picture.height)
        with self._stopwatch.time("encode"):
            decoded_box = np.multiply(box, np.tile(picture.scale, 2))
            jpeg = encode_jpeg(cut(picture.pixels, decoded_box))
        return Crop(sha256, picture.height, picture.width, box, jpeg)

    def _sample(self, row: ImageRow, rung: str, landmarks: FloatRows, crop: Crop) -> Annotated:
        """Draw the masks that go with a crop."""
        with self._stopwatch.time("regions"):
            polygons = region_polygons(landmarks, self._settings.table.further_regions)
        with self._stopwatch.time("masks"):
            xs, ys = sample_points(crop.box)
            region_map = rasterize(polygons, xs, ys)
            clear_outside(region_map, xs, ys, crop.width, crop.height)
        if self._refiner is not None:
            with self._stopwatch.time("refine"):
                self._refiner.refine(region_map, crop.jpeg)
        with self._stopwatch.time("masks"):
            planes = self._attribute_masks(region_map, row.labels)
        with self._stopwatch.time("encode"):
            png = encode_planes(planes)
        return Annotated(row, rung, landmarks, crop.box, crop.height, crop.width, crop.sha256, crop.jpeg, png)


def encode_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a crop ``(rows, cols, 3)`` RGB as JPEG."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def encode_planes(planes: npt.NDArray[np.uint8]) -> bytes:
    """Encode packed masks ``(planes, rows, cols)`` as one gray PNG, the planes below each other."""
    stream = io.BytesIO()
    stacked = Image.fromarray(planes.reshape(-1, planes.shape[2]))
    # Run lengths alone: masks are mostly runs, so it is both the smallest and the fastest.
    stacked.save(stream, "PNG", compress_type=zlib.Z_RLE)
    return stream.getvalue()
