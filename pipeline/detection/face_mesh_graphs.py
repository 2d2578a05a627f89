"""What FaceMesh's graphs are made of, and how a mesh is read from the message that they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.detection.landmark_map import NUM_MESH_POINTS
from pipeline.errors import RunError
from regions.landmarks import FloatArray

IN_CALLING_THREAD = 'executor { type: "ApplicationThreadExecutor" }'
"""MediaPipe's own threads would contend with the workers', and each hand-over between threads takes time."""
FACE_MESH_GRAPH = f"""
{IN_CALLING_THREAD}
input_stream: "image"
input_side_packet: "max_faces"
input_side_packet: "track"
input_side_packet: "with_attention"
output_stream: "faces"
node {{
  calculator: "FaceLandmarkFrontCpu"
  input_stream: "IMAGE:image"
  input_side_packet: "NUM_FACES:max_faces"
  input_side_packet: "USE_PREV_LANDMARKS:track"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:faces"
}}
"""
FACE_FINDER_GRAPH = f"""
{IN_CALLING_THREAD}
input_stream: "image"
output_stream: "detections"
node {{
  calculator: "FaceDetectionShortRangeCpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
}}
"""
"""FaceMesh's own search for faces."""
LANDMARK_MODEL_GRAPH = f"""
{IN_CALLING_THREAD}
input_stream: "image"
input_stream: "region"
input_side_packet: "with_attention"
output_stream: "landmarks"
node {{
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:region"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}}
"""
"""The part of FaceMesh's graph that follows its search for faces."""
SCORE = "facelandmarkcpu__face_presence_score"
"""The stream inside ``FaceLandmarkCpu`` with the model's score of a face in the region, 0 to 1."""
WIRE_POINT = np.dtype([("tags", "V3"), ("x", "<f4"), ("y_tag", "V1"), ("y", "<f4"), ("z", "V5")])
"""One mesh point in a serialized ``NormalizedLandmarkList``: x, y and z, all set, each after the tag of its field."""


def mesh_of(landmarks: Any) -> npt.NDArray[np.float64]:
    """Return x and y of the points of a ``NormalizedLandmarkList``: ``(478, 2)``.

    They are read from the serialized message at once: a look-up per point takes 20 times as long.
    """
    serialized = landmarks.SerializeToString()
    if len(serialized) != NUM_MESH_POINTS * WIRE_POINT.itemsize:
        raise RunError(f"mesh of {len(serialized)} bytes, expected {NUM_MESH_POINTS} points with x, y and z")
    points = np.frombuffer(serialized, dtype=WIRE_POINT)
    mesh: FloatArray = np.stack([points["x"], points["y"]], axis=1).astype(np.float64)
    return mesh
