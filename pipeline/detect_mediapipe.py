"""MediaPipe's face detectors: the one file that imports it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.mesh import load_mesh_map, mesh_to_landmarks, mesh_to_pixels
from regions.landmarks import FloatArray

os.environ.setdefault("GLOG_minloglevel", "2")
import mediapipe

MEDIAPIPE_VERSION: str = mediapipe.__version__

_stderr_lock = threading.Lock()

MAX_FACES = 5
MIN_CONFIDENCE = 0.3


class FaceMesh:
    """MediaPipe FaceMesh with the attention model, its 478 points turned into the 68."""

    def __init__(self) -> None:
        with _no_startup_messages():
            self._mesh = mediapipe.solutions.face_mesh.FaceMesh(
                static_image_mode=True,
                max_num_faces=MAX_FACES,
                refine_landmarks=True,
                min_detection_confidence=MIN_CONFIDENCE,
            )
        self._has_found_a_face = False
        self._map = load_mesh_map()

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Find all faces of a picture.

        Parameters
        ----------
        pixels : ndarray (rows, cols, 3) uint8
            RGB.

        Returns
        -------
        list of ndarray (68, 2)
            Landmarks of each face, in pixels of `pixels`.
        """
        rows, cols = pixels.shape[:2]
        faces = self._process(np.ascontiguousarray(pixels))
        meshes = [np.array([(p.x, p.y) for p in face.landmark], dtype=np.float64) for face in faces]
        return [mesh_to_landmarks(mesh_to_pixels(mesh, cols, rows), self._map) for mesh in meshes]

    def _process(self, pixels: npt.NDArray[np.uint8]) -> list[Any]:
        """Run the model; the messages of its parts come when each runs first, so until a face is found."""
        if self._has_found_a_face:
            return self._mesh.process(pixels).multi_face_landmarks or []
        with _no_startup_messages():
            faces = self._mesh.process(pixels).multi_face_landmarks or []
        self._has_found_a_face = bool(faces)
        return faces

    def close(self) -> None:
        """Free the model."""
        self._mesh.close()


class FullRangeFaceDetector:
    """MediaPipe's full-range face detector: boxes of faces, small ones too."""

    def __init__(self) -> None:
        with _no_startup_messages():
            self._detector = mediapipe.solutions.face_detection.FaceDetection(
                model_selection=1, min_detection_confidence=MIN_CONFIDENCE
            )
            self._detector.process(np.zeros((64, 64, 3), dtype=np.uint8))

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Find the boxes of all faces of a picture.

        Parameters
        ----------
        pixels : ndarray (rows, cols, 3) uint8
            RGB.

        Returns
        -------
        list of ndarray (4,)
            x, y, width, height in pixels of `pixels`; the largest face first.
        """
        rows, cols = pixels.shape[:2]
        found: list[Any] = self._detector.process(np.ascontiguousarray(pixels)).detections or []
        relative = [face.location_data.relative_bounding_box for face in found]
        boxes = [np.array([b.xmin * cols, b.ymin * rows, b.width * cols, b.height * rows]) for b in relative]
        return sorted(boxes, key=lambda box: -float(box[2] * box[3]))

    def close(self) -> None:
        """Free the model."""
        self._detector.close()


@contextlib.contextmanager
def _no_startup_messages() -> Iterator[None]:
    """Keep what MediaPipe's C++ part says at its start off stderr: its messages have no off switch."""
    with _stderr_lock:
        sys.stderr.flush()
        saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(sink, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(sink)
