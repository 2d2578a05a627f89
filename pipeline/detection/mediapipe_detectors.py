"""MediaPipe's detectors: the one file that imports mediapipe."""

from __future__ import annotations

import abc
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.detection.landmark_map import FACE_MESH, LANDMARKER, load_mesh_map, mesh_to_landmarks, mesh_to_pixels
from pipeline.errors import RunError
from regions.landmarks import FloatArray
from regions.system_libraries import library_problem

os.environ.setdefault("GLOG_minloglevel", "2")
try:
    import mediapipe
except ImportError as error:
    raise RunError(f"mediapipe cannot be imported: {library_problem(error) or error}") from None

_stderr_lock = threading.Lock()

MAX_FACES = 5
MIN_CONFIDENCE = 0.3
LANDMARK_MODEL_GRAPH = """
input_stream: "image"
input_stream: "region"
input_side_packet: "with_attention"
output_stream: "landmarks"
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:region"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}
"""
"""The part of FaceMesh's graph that follows its search for faces."""


def open_mesh_detector(landmarker: str | None) -> MeshDetector:
    """Open the Face Landmarker with a model file; without one, FaceMesh with mediapipe's built-in model."""
    return FaceMesh() if landmarker is None else FaceLandmarker(storage.read_bytes(landmarker))


def open_face_detector() -> FullRangeFaceDetector | None:
    """Open mediapipe's full-range face detector; return None for newer releases, which have none."""
    return FullRangeFaceDetector() if hasattr(mediapipe, "solutions") else None


def open_mesh_in_patch(landmarker: str | None) -> FaceMeshInPatch | None:
    """Open FaceMesh's landmark model; return None for a Face Landmarker, which always searches for faces first."""
    return FaceMeshInPatch() if landmarker is None else None


class MeshDetector(abc.ABC):
    """Finds the 478 mesh points of faces and maps them to the 68 landmarks.

    Parameters
    ----------
    mesh_map : str
        Name of the landmark map that was fitted for the model.
    """

    def __init__(self, mesh_map: str) -> None:
        self._map = load_mesh_map(mesh_map)
        self._has_found_a_face = False
        with _no_startup_messages():
            self._open()
            self._run(np.zeros((64, 64, 3), dtype=np.uint8))

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Find all faces of an image.

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
        faces = self._run_quietly(np.ascontiguousarray(pixels))
        meshes = [np.array([(point.x, point.y) for point in face], dtype=np.float64) for face in faces]
        return [mesh_to_landmarks(mesh_to_pixels(mesh, cols, rows), self._map) for mesh in meshes]

    def _run_quietly(self, pixels: npt.NDArray[np.uint8]) -> list[Any]:
        """Run the model; each of its parts prints a message when it first runs, the last one at the first face."""
        if self._has_found_a_face:
            return self._run(pixels)
        with _no_startup_messages():
            faces = self._run(pixels)
        self._has_found_a_face = bool(faces)
        return faces

    @abc.abstractmethod
    def _open(self) -> None:
        """Open the model."""

    @abc.abstractmethod
    def _run(self, pixels: npt.NDArray[np.uint8]) -> list[Any]:
        """Return the mesh of each face: 478 points whose x and y are fractions of the image's width and height."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free the model."""


class FaceMesh(MeshDetector):
    """FaceMesh with the attention model, which mediapipe contains up to release 0.10.21."""

    def __init__(self) -> None:
        super().__init__(FACE_MESH)

    def _open(self) -> None:
        self._mesh = mediapipe.solutions.face_mesh.FaceMesh(
            static_image_mode=True,
            max_num_faces=MAX_FACES,
            refine_landmarks=True,
            min_detection_confidence=MIN_CONFIDENCE,
        )

    def _run(self, pixels: npt.NDArray[np.uint8]) -> list[Any]:
        faces = self._mesh.process(pixels).multi_face_landmarks or []
        return [face.landmark for face in faces]

    def close(self) -> None:
        """Free the model."""
        self._mesh.close()


class FaceMeshInPatch(MeshDetector):
    """FaceMesh's landmark model on the whole of a patch that shows one upright face, without a search for faces.

    The model finds nothing where its own score says that the patch shows no face.
    """

    def __init__(self) -> None:
        super().__init__(FACE_MESH)

    def _open(self) -> None:
        from google.protobuf import text_format  # noqa: PLC0415 - like all below, only for the mediapipe with FaceMesh
        from mediapipe.framework import calculator_pb2  # noqa: PLC0415
        from mediapipe.framework.formats import rect_pb2  # noqa: PLC0415
        from mediapipe.python.solution_base import SolutionBase  # noqa: PLC0415

        self._whole = rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1, height=1)
        self._model = SolutionBase(
            graph_config=text_format.Parse(LANDMARK_MODEL_GRAPH, calculator_pb2.CalculatorGraphConfig()),
            side_inputs={"with_attention": True},
            outputs=["landmarks"],
        )

    def _run(self, pixels: npt.NDArray[np.uint8]) -> list[Any]:
        face = self._model.process({"image": pixels, "region": self._whole}).landmarks
        return [] if face is None else [face.landmark]

    def close(self) -> None:
        """Free the model."""
        self._model.close()


class FaceLandmarker(MeshDetector):
    """The Face Landmarker of MediaPipe's Tasks API.

    Parameters
    ----------
    model : bytes
        Content of a model file, ``face_landmarker.task``.
    """

    def __init__(self, model: bytes) -> None:
        self._model = model
        super().__init__(LANDMARKER)

    def _open(self) -> None:
        from mediapipe.tasks.python import BaseOptions, vision  # noqa: PLC0415 - slow, and not always needed

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=self._model),
            num_faces=MAX_FACES,
            min_face_detection_confidence=MIN_CONFIDENCE,
        )
        self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def _run(self, pixels: npt.NDArray[np.uint8]) -> list[Any]:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
        faces: list[Any] = self._landmarker.detect(image).face_landmarks
        return faces

    def close(self) -> None:
        """Free the model."""
        self._landmarker.close()


class FullRangeFaceDetector:
    """MediaPipe's full-range face detector, which finds small faces too."""

    def __init__(self) -> None:
        with _no_startup_messages():
            self._detector = mediapipe.solutions.face_detection.FaceDetection(
                model_selection=1, min_detection_confidence=MIN_CONFIDENCE
            )
            self._detector.process(np.zeros((64, 64, 3), dtype=np.uint8))

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Find the bounding boxes of all faces of an image.

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


class PersonSegmenter:
    """MediaPipe's selfie segmentation: separates people from the background."""

    def __init__(self) -> None:
        with _no_startup_messages():
            self._segmenter = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            self._segmenter.process(np.zeros((64, 64, 3), dtype=np.uint8))

    def find(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the probability that each pixel shows a person.

        Parameters
        ----------
        pixels : ndarray (rows, cols, 3) uint8
            RGB.

        Returns
        -------
        ndarray (rows, cols) float32
            0 to 1.
        """
        mask: npt.NDArray[np.float32] = self._segmenter.process(np.ascontiguousarray(pixels)).segmentation_mask
        return mask

    def close(self) -> None:
        """Free the model."""
        self._segmenter.close()


@contextlib.contextmanager
def _no_startup_messages() -> Iterator[None]:
    """Keep the startup messages of MediaPipe's C++ code off stderr; no option disables them."""
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
