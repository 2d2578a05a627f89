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
from pipeline.building.refine import Refiner
from pipeline.detection.detectors import open_detectors
from pipeline.detection.fallback_chain import DetectedFace, FallbackChain
from pipeline.errors import ImageError
from pipeline.records import BuildSettings, Crop, FloatRows, ImageRow, RejectedImage, WrittenSample
from pipeline.vocabulary import GIVEN, UNREADABLE, LandmarkSource
from regions.attributes import AttributeTable
from regions.boxes import Box
from regions.crop import cut, face_crop_box
from regions.landmarks import FloatArray, round_landmarks
from regions.masks import AttributeMasks, clear_outside, rasterize, sample_points
from regions.polygons import region_polygons
from regions.quality import plausibility_problem

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


class SampleMaker:
    """Cuts the crop and draws the masks of images whose landmarks are known.

    Parameters
    ----------
    table : AttributeTable
        Its attributes in the order of the labels.
    crop : str
        ``face`` or ``none``.
    refine : str or None
        ``segmentation`` to cut the background out of the regions that may reach into it.
    stopwatch : Stopwatch
        Told how long each stage took.
    """

    def __init__(self, table: AttributeTable, crop: str, refine: str | None, stopwatch: Stopwatch) -> None:
        self._further_regions = table.further_regions
        self._crop = crop
        self._refiner = None if refine is None else Refiner()
        self._stopwatch = stopwatch
        self._attribute_masks = AttributeMasks(table.region_bits())

    def close(self) -> None:
        """Free the model that refines."""
        if self._refiner is not None:
            self._refiner.close()

    def box(self, landmarks: FloatRows, width: int, height: int) -> Box:
        """Return where the crop of an image of this size lies."""
        return face_crop_box(landmarks) if self._crop == "face" else Box(0, 0, width, height)

    def crop(self, image: images.DecodedImage, landmarks: FloatRows, sha256: str) -> Crop:
        """Cut and encode the crop of an image."""
        box = self.box(landmarks, image.width, image.height)
        with self._stopwatch.time("encode"):
            decoded_box = np.multiply(box, np.tile(image.scale, 2))
            jpeg = encode_jpeg(cut(image.pixels, decoded_box))
        return Crop(sha256, image.height, image.width, box, jpeg)

    def packed_masks(
        self, landmarks: FloatRows, labels: npt.NDArray[np.int8], crop: Crop, xs: FloatArray, ys: FloatArray
    ) -> npt.NDArray[np.uint8]:
        """Draw the packed masks of an image on a grid of points.

        Parameters
        ----------
        landmarks : ndarray (68, 2) float32
        labels : ndarray (attributes,) int8
            1 yes, 0 no, -1 unknown; only a yes has a mask.
        crop : Crop
            Of the same landmarks.
        xs, ys : ndarray
            Coordinates of the grid's columns and rows, ascending, in pixels of the source image.

        Returns
        -------
        ndarray (ceil(attributes / 8), len(ys), len(xs)) uint8
        """
        with self._stopwatch.time("regions"):
            polygons = region_polygons(landmarks, self._further_regions)
        with self._stopwatch.time("masks"):
            region_map = rasterize(polygons, xs, ys)
            clear_outside(region_map, xs, ys, crop.width, crop.height)
        if self._refiner is not None:
            with self._stopwatch.time("refine"):
                self._refiner.refine(region_map, crop.jpeg)
        with self._stopwatch.time("masks"):
            return self._attribute_masks(region_map, labels == 1)

    def sample(self, row: ImageRow, landmark_source: LandmarkSource, landmarks: FloatRows, crop: Crop) -> WrittenSample:
        """Draw the masks that go with a crop."""
        planes = self.packed_masks(landmarks, row.labels, crop, *sample_points(crop.box))
        with self._stopwatch.time("encode"):
            png = encode_packed_masks(planes)
        return WrittenSample(
            row, landmark_source, landmarks, crop.box, crop.height, crop.width, crop.sha256, crop.jpeg, png
        )


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
        self._chain = FallbackChain(open_detectors(settings.detectors))
        self._maker = SampleMaker(settings.table, settings.crop, settings.refine, stopwatch)

    def close(self) -> None:
        """Free the detectors."""
        self._chain.close()
        self._maker.close()

    def annotate(self, row: ImageRow, kept: Crop | None = None) -> WrittenSample | RejectedImage:
        """Make the sample of one image, or tell why there is none.

        Parameters
        ----------
        row : ImageRow
        kept : Crop, optional
            Of a former run; used if it is what would be made again.
        """
        if row.reason:
            return RejectedImage(row, row.reason)
        try:
            with self._stopwatch.time("read"):
                content = storage.read_bytes(storage.join(self._settings.images, row.image_id))
                sha256 = hashlib.sha256(content).hexdigest()
        except OSError as error:
            return RejectedImage(row, UNREADABLE, error.strerror or str(error))
        if kept is not None and row.landmarks is not None:
            landmarks = round_landmarks(row.landmarks)
            if self._would_be_the_same(kept, landmarks, sha256):
                return self._maker.sample(row, GIVEN, landmarks, kept)
        try:
            with self._stopwatch.time("decode"):
                image = images.decode(content)
        except ImageError as error:
            return RejectedImage(row, error.reason, error.detail, sha256=sha256)
        with self._stopwatch.time("detect"):
            found = self._chain.find(image, row)
        if not isinstance(found, DetectedFace):
            guess = None if found.guess is None else round_landmarks(found.guess)
            return RejectedImage(row, found.reason, found.detail, image.height, image.width, sha256, guess)
        landmarks = round_landmarks(found.landmarks)
        return self._maker.sample(row, found.landmark_source, landmarks, self._maker.crop(image, landmarks, sha256))

    def _would_be_the_same(self, kept: Crop, landmarks: FloatRows, sha256: str) -> bool:
        """Tell whether a kept crop is of the same file and landmarks, and these pass the checks."""
        return (
            kept.sha256 == sha256
            and kept.box == self._maker.box(landmarks, kept.width, kept.height)
            and plausibility_problem(landmarks.astype(np.float64), kept.width, kept.height) is None
        )


def encode_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a crop ``(rows, cols, 3)`` RGB as JPEG."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def encode_packed_masks(planes: npt.NDArray[np.uint8]) -> bytes:
    """Encode packed masks ``(planes, rows, cols)`` as one gray PNG, the planes below each other."""
    stream = io.BytesIO()
    stacked = Image.fromarray(planes.reshape(-1, planes.shape[2]))
    # Run lengths alone: masks are mostly runs, so it is both the smallest and the fastest.
    stacked.save(stream, "PNG", compress_type=zlib.Z_RLE)
    return stream.getvalue()
