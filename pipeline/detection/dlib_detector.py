"""dlib's frontal face detector and 68-point model, the paper's first detector: the one file that imports dlib."""

from __future__ import annotations

import dlib
import numpy as np
import numpy.typing as npt

from pipeline.detection.model_files import dlib_model_path, local_copy
from pipeline.errors import InputError
from regions.landmarks import NUM_LANDMARKS, FloatArray

PIXEL_OFFSET = 0.5
"""Added to dlib's coordinates, whose origin is the center of the top-left pixel."""
MAX_UPSAMPLED_PIXELS = 1 << 22
"""Larger images are not upsampled before detection."""


class DlibLandmarks:
    """dlib's face detector, run on the image upsampled once, and its 68-point model.

    Parameters
    ----------
    model : str or None
        Path of the model file; without it, the model in face_recognition_models is used.

    Raises
    ------
    InputError
        If the file is not a model of 68 points.
    """

    def __init__(self, model: str | None) -> None:
        self._detector = dlib.get_frontal_face_detector()
        file = dlib_model_path(model)
        try:
            with local_copy(file) as path:
                self._predictor = dlib.shape_predictor(path)
        except RuntimeError as error:
            raise InputError(f"{file}: {error}, expected dlib's 68-point model") from None
        blank = self._predictor(np.zeros((64, 64, 3), dtype=np.uint8), dlib.rectangle(8, 8, 56, 56))
        if blank.num_parts != NUM_LANDMARKS:
            raise InputError(f"{file}: model of {blank.num_parts} points, expected {NUM_LANDMARKS}")

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Find all faces of an image.

        Parameters
        ----------
        pixels : ndarray (rows, cols, 3) uint8
            RGB.

        Returns
        -------
        list of ndarray (68, 2)
            Landmarks of each face, in pixels of `pixels`; the most confident face first.
        """
        upsamplings = 1 if pixels.shape[0] * pixels.shape[1] <= MAX_UPSAMPLED_PIXELS else 0
        faces = self._detector(pixels, upsamplings)
        shapes = (self._predictor(pixels, face).parts() for face in faces)
        return [np.array([(p.x, p.y) for p in parts], dtype=np.float64) + PIXEL_OFFSET for parts in shapes]

    def close(self) -> None:
        """Free the model."""
        del self._detector, self._predictor
