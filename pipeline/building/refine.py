"""``--refine segmentation``: cut the background out of the regions whose outlines may reach into it."""

from __future__ import annotations

from pipeline import images
from regions.masks import OutlineMap, clear_background


class Refiner:
    """Holds the model that separates people from the background."""

    def __init__(self) -> None:
        from pipeline.detection import mediapipe_detectors  # noqa: PLC0415 - takes a second

        self._segmenter = mediapipe_detectors.PersonSegmenter()

    def refine(self, outline_map: OutlineMap, jpeg: bytes) -> None:
        """Clear the bits of top_of_head, ears and below_chin where a crop shows the background, in place.

        The model sees the stored crop, not the image, so a crop kept from a former run gives the same masks.

        Parameters
        ----------
        outline_map : ndarray (ceil(outlines / 8), height, width) uint8
            On a grid over the crop.
        jpeg : bytes
            The encoded crop.
        """
        clear_background(outline_map, self._segmenter.find(images.decode(jpeg).pixels))

    def close(self) -> None:
        """Free the model."""
        self._segmenter.close()
