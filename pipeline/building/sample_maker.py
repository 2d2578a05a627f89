"""The crop and the masks of an image whose landmarks are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline import images
from pipeline.building.encoding import encode_jpeg, encode_packed_masks
from pipeline.building.refine import Refiner
from pipeline.building.stopwatch import Stopwatch
from pipeline.records import Crop, FloatRows, ImageRow, WrittenSample
from pipeline.vocabulary import LandmarkSource
from regions.attributes import AttributeTable
from regions.boxes import Box
from regions.crop import cut, face_crop_box
from regions.landmarks import FloatArray
from regions.masks import AttributeMasks, clear_outside, rasterize, sample_points
from regions.polygons import region_polygons


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
        Adds up the time of each stage.
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
        """Return the box of the crop of an image of this size."""
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
        packed = self.packed_masks(landmarks, row.labels, crop, *sample_points(crop.box))
        with self._stopwatch.time("encode"):
            png = encode_packed_masks(packed)
        return WrittenSample(
            row, landmark_source, landmarks, crop.box, crop.height, crop.width, crop.sha256, crop.jpeg, png
        )
