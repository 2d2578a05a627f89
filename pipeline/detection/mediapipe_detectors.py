"""MediaPipe's detectors: the one file that imports mediapipe."""

from __future__ import annotations

import abc
import contextlib
import math
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.detection.face_mesh_graphs import (
    FACE_FINDER_GRAPH,
    FACE_MESH_GRAPH,
    LANDMARK_MODEL_GRAPH,
    SCORE,
    mesh_of,
)
from pipeline.detection.landmark_map import (
    FACE_MESH,
    LANDMARKER,
    SeenFace,
    load_mesh_map,
    mesh_to_landmarks,
    mesh_to_pixels,
)
from pipeline.detection.patches import FaceSquare
from pipeline.errors import RunError
from pipeline.imports import postponed
from regions.landmarks import FloatArray
from regions.system_libraries import library_problem

NOT_NEEDED = (
    "mediapipe.tasks.python",
    *(
        f"mediapipe.python.solutions.{name}"
        for name in ["drawing_styles", "drawing_utils", "hands", "holistic", "objectron", "pose"]
    ),
)
"""Modules of mediapipe that take nine tenths of the time of its import, with the libraries that they load."""
os.environ.setdefault("GLOG_minloglevel", "2")
try:
    with postponed(*NOT_NEEDED):
        import mediapipe
except ImportError as error:
    raise RunError(f"mediapipe cannot be imported: {library_problem(error) or error}") from None

_stderr_lock = threading.Lock()

MAX_FACES = 5
MIN_CONFIDENCE = 0.3
SQUARE_SIDE = 1.5
"""Side of the square that FaceMesh's landmark model looks at, in longer sides of the box of the face."""


def open_mesh_detector(landmarker: str | None) -> MeshDetector:
    """Open the Face Landmarker with a model file; without one, FaceMesh with mediapipe's built-in model."""
    return FaceMesh() if landmarker is None else FaceLandmarker(storage.read_bytes(landmarker))


def open_face_detector() -> FullRangeFaceDetector | None:
    """Open mediapipe's full-range face detector; return None for newer releases, which have none."""
    return FullRangeFaceDetector() if hasattr(mediapipe, "solutions") else None


def open_face_finder(landmarker: str | None) -> FaceFinder | None:
    """Open FaceMesh's own search for faces; return None for a Face Landmarker, which gives landmarks at once."""
    return FaceFinder() if landmarker is None else None


def open_landmark_model(landmarker: str | None) -> LandmarkModel | None:
    """Open FaceMesh's landmark model; return None for a Face Landmarker, which always searches for faces first."""
    return LandmarkModel() if landmarker is None else None


class Graph:
    """A MediaPipe graph that looks at one image at a time.

    Parameters
    ----------
    config : CalculatorGraphConfig
        With an input stream ``image``.
    side_packets : mapping of str to Packet
    outputs : sequence of str
        Streams to observe, also those inside of subgraphs.
    """

    def __init__(self, config: Any, side_packets: Mapping[str, Any], outputs: Sequence[str]) -> None:
        mediapipe.resource_util.set_resource_dir(os.path.dirname(os.path.dirname(mediapipe.__file__)))
        self._graph = mediapipe.CalculatorGraph(graph_config=config)
        self._found: dict[str, Any] = {}
        self._time = 0
        for stream in outputs:
            self._graph.observe_output_stream(stream, self._found.__setitem__)
        self._graph.start_run(side_packets)

    def run(self, pixels: npt.NDArray[np.uint8], **packets: Any) -> Mapping[str, Any]:
        """Return the packets that a contiguous RGB image ``(rows, cols, 3)`` gives, by stream."""
        self._found.clear()
        self._time += 1
        image = mediapipe.packet_creator.create_image_frame(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
        for stream, packet in (*packets.items(), ("image", image)):
            self._graph.add_packet_to_input_stream(stream, packet.at(self._time))
        self._graph.wait_until_idle()
        return self._found

    def close(self) -> None:
        """Free the graph."""
        self._graph.close()


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
        return [mesh_to_landmarks(mesh, self._map) for mesh in self.find_meshes(pixels)]

    def find_meshes(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Return the mesh ``(478, 2)`` of each face of an RGB image, in pixels of `pixels`."""
        rows, cols = pixels.shape[:2]
        return [mesh_to_pixels(mesh, cols, rows) for mesh in self._run_quietly(np.ascontiguousarray(pixels))]

    def _run_quietly(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Run the model; each of its parts prints a message when it first runs, the last one at the first face."""
        if self._has_found_a_face:
            return self._run(pixels)
        with _no_startup_messages():
            meshes = self._run(pixels)
        self._has_found_a_face = bool(meshes)
        return meshes

    @abc.abstractmethod
    def _open(self) -> None:
        """Open the model."""

    @abc.abstractmethod
    def _run(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Return the mesh ``(478, 2)`` of each face, x and y as fractions of the image's width and height."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free the model."""


class FaceMesh(MeshDetector):
    """FaceMesh with the attention model, which mediapipe contains up to release 0.10.21."""

    def __init__(self) -> None:
        super().__init__(FACE_MESH)

    def _open(self) -> None:
        create = mediapipe.packet_creator
        side_packets = {
            "max_faces": create.create_int(MAX_FACES),
            "track": create.create_bool(False),
            "with_attention": create.create_bool(True),
        }
        self._graph = Graph(_config(FACE_MESH_GRAPH), side_packets, ["faces"])

    def _run(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        faces = self._graph.run(pixels).get("faces")
        return [] if faces is None else [mesh_of(face) for face in mediapipe.packet_getter.get_proto_list(faces)]

    def close(self) -> None:
        """Free the model."""
        self._graph.close()


def _config(graph: str) -> Any:
    """Return a graph that searches for faces, with the least score that counts as one set to `MIN_CONFIDENCE`."""
    from google.protobuf import text_format  # noqa: PLC0415 - like all below, only for the mediapipe with FaceMesh
    from mediapipe.calculators.tensor import tensors_to_detections_calculator_pb2 as detections_pb2  # noqa: PLC0415
    from mediapipe.framework import calculator_pb2  # noqa: PLC0415

    expanded = mediapipe.ValidatedGraphConfig()
    expanded.initialize(graph_config=text_format.Parse(graph, calculator_pb2.CalculatorGraphConfig()))
    config = calculator_pb2.CalculatorGraphConfig.FromString(expanded.binary_config)
    (options,) = [node.node_options[0] for node in config.node if node.calculator == "TensorsToDetectionsCalculator"]
    detection = detections_pb2.TensorsToDetectionsCalculatorOptions.FromString(options.value)
    detection.min_score_thresh = MIN_CONFIDENCE
    options.value = detection.SerializeToString()
    return config


class LandmarkModel(MeshDetector):
    """FaceMesh's landmark model on the whole of a patch that shows one upright face, without a search for faces.

    The model finds nothing where its own score is that of no face.
    """

    def __init__(self) -> None:
        super().__init__(FACE_MESH)

    def see(self, pixels: npt.NDArray[np.uint8]) -> SeenFace | None:
        """Return the face in a patch, None if the model sees none.

        Parameters
        ----------
        pixels : ndarray (rows, cols, 3) uint8
            RGB.
        """
        return next((SeenFace(landmarks, self._score) for landmarks in self.find(pixels)), None)

    def _open(self) -> None:
        from google.protobuf import text_format  # noqa: PLC0415 - like all below, only for the mediapipe with FaceMesh
        from mediapipe.framework import calculator_pb2  # noqa: PLC0415
        from mediapipe.framework.formats import rect_pb2  # noqa: PLC0415

        create = mediapipe.packet_creator
        self._whole = create.create_proto(rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1, height=1))
        self._score = 0.0
        self._graph = Graph(
            text_format.Parse(LANDMARK_MODEL_GRAPH, calculator_pb2.CalculatorGraphConfig()),
            {"with_attention": create.create_bool(True)},
            ["landmarks", SCORE],
        )

    def _run(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        found = self._graph.run(pixels, region=self._whole)
        if "landmarks" not in found:
            return []
        self._score = mediapipe.packet_getter.get_float(found[SCORE])
        return [mesh_of(mediapipe.packet_getter.get_proto(found["landmarks"]))]

    def close(self) -> None:
        """Free the model."""
        self._graph.close()


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

    def _run(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
        faces = self._landmarker.detect(image).face_landmarks
        return [np.array([(point.x, point.y) for point in face], dtype=np.float64) for face in faces]

    def close(self) -> None:
        """Free the model."""
        self._landmarker.close()


class FaceFinder:
    """FaceMesh's own search for faces, without their landmarks."""

    def __init__(self) -> None:
        with _no_startup_messages():
            self._graph = Graph(_config(FACE_FINDER_GRAPH), {}, ["detections"])
            self._graph.run(np.zeros((64, 64, 3), dtype=np.uint8))

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[FaceSquare]:
        """Find the squares about all faces of an RGB image ``(rows, cols, 3)``, in its pixels."""
        rows, cols = pixels.shape[:2]
        found = self._graph.run(np.ascontiguousarray(pixels)).get("detections")
        detections = [] if found is None else mediapipe.packet_getter.get_proto_list(found)
        return [_face_square(detection.location_data, cols, rows) for detection in detections[:MAX_FACES]]

    def close(self) -> None:
        """Free the model."""
        self._graph.close()


def _face_square(location: Any, width: int, height: int) -> FaceSquare:
    """Return the square that FaceMesh's landmark model would look at."""
    box, (left, right) = location.relative_bounding_box, location.relative_keypoints[:2]
    center = ((box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height)
    side = SQUARE_SIDE * max(box.width * width, box.height * height)
    return FaceSquare(center, side, math.atan2((right.y - left.y) * height, (right.x - left.x) * width))


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
