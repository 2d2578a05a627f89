"""The crop of an image whose landmarks are known, and the masks of many such images at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline import images
from pipeline.building.encoding import encode_jpeg, encode_packed_masks
from pipeline.building.refine import Refiner
from pipeline.building.stopwatch import Stopwatch
from pipeline.records import AnnotatedImage, Crop, FloatRows, WrittenSample
from regions.attributes import AttributeTable
from regions.boxes import Box
from regions.crop import cut, face_crop_box
from regions.masks import AttributeMasks, Grid, crop_grid, draw_outlines
from regions.outlines import face_outlines, region_of_outline


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
        self._attribute_masks = AttributeMasks(table.region_bits(), region_of_outline(table.further_regions))

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
        self,
        landmarks: Sequence[FloatRows],
        labels: Sequence[npt.NDArray[np.int8]],
        crops: Sequence[Crop],
        grid: Grid,
    ) -> npt.NDArray[np.uint8]:
        """Draw the packed masks of images on a grid over their crops.

        Parameters
        ----------
        landmarks : sequence of ndarray (68, 2) float32
        labels : sequence of ndarray (attributes,) int8
            1 yes, 0 no, -1 unknown; only a yes has a mask.
        crops : sequence of Crop
            Of the same landmarks.
        grid : Grid

        Returns
        -------
        ndarray (images, ceil(attributes / 8), rows, columns) uint8
        """
        with self._stopwatch.time("regions"):
            outlines = face_outlines(np.array(landmarks), self._further_regions)
        with self._stopwatch.time("masks"):
            boxes = np.array([crop.box for crop in crops])
            sizes = np.array([(crop.width, crop.height) for crop in crops])
            outline_map = draw_outlines(outlines, boxes, sizes, grid)
        if self._refiner is not None:
            with self._stopwatch.time("refine"):
                for index, crop in enumerate(crops):
                    self._refiner.refine(outline_map[:, index], crop.jpeg)
        with self._stopwatch.time("masks"):
            return self._attribute_masks(outline_map, np.array(labels) == 1)

    def samples(self, annotated: Sequence[AnnotatedImage]) -> list[WrittenSample]:
        """Draw the masks of images that have none yet, and return the samples in the same order."""
        bare = [image for image in annotated if image.png is None]
        drawn = iter(self._encoded_masks(bare))
        samples = []
        for image in annotated:
            crop, png = image.crop, next(drawn) if image.png is None else image.png
            size = crop.height, crop.width
            written = WrittenSample(
                image.row, image.landmark_source, image.landmarks, crop.box, *size, crop.sha256, crop.jpeg, png
            )
            samples.append(written)
        return samples

    def _encoded_masks(self, annotated: Sequence[AnnotatedImage]) -> list[bytes]:
        if not annotated:
            return []
        crops = [image.crop for image in annotated]
        labels = [image.row.labels for image in annotated]
        packed = self.packed_masks([image.landmarks for image in annotated], labels, crops, crop_grid())
        with self._stopwatch.time("encode"):
            return [encode_packed_masks(masks) for masks in packed]
