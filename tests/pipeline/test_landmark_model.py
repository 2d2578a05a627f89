"""FaceMesh and its landmark model as graphs of MediaPipe, and how meshes are read from their messages."""

from __future__ import annotations

from collections.abc import Iterator

import mediapipe
import numpy as np
import pytest

pytest.importorskip("skimage")

from mediapipe.framework.formats import landmark_pb2

from pipeline.detection.face_mesh_graphs import mesh_of
from pipeline.detection.face_search import SURE
from pipeline.detection.landmark_map import NUM_MESH_POINTS
from pipeline.detection.mediapipe_detectors import (
    MAX_FACES,
    MIN_CONFIDENCE,
    FaceFinder,
    FaceMesh,
    LandmarkModel,
)
from pipeline.detection.patches import points_square, square_patch
from pipeline.errors import RunError
from pipeline.images import DecodedImage
from regions.landmarks import five_points
from tests.photograph import distance, photograph, portrait


@pytest.fixture(scope="module")
def model() -> Iterator[LandmarkModel]:
    detector = LandmarkModel()
    yield detector
    detector.close()


def test_the_graph_finds_what_the_solution_of_mediapipe_finds() -> None:
    solution = mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=MAX_FACES, refine_landmarks=True, min_detection_confidence=MIN_CONFIDENCE
    )
    mesh = FaceMesh()
    for pixels in (photograph(), portrait(), np.zeros((64, 64, 3), np.uint8)):
        faces = solution.process(pixels).multi_face_landmarks or []
        expected = [[(point.x, point.y) for point in face.landmark] for face in faces]
        size = pixels.shape[1::-1]
        found = [(found - 0.5) / size for found in mesh.find_meshes(pixels)]
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    solution.close()
    mesh.close()


def test_the_landmark_model_alone_agrees_with_the_whole_face_mesh(model: LandmarkModel) -> None:
    mesh = FaceMesh()
    image = DecodedImage(photograph(), *photograph().shape[:2])
    (expected,) = mesh.find(image.pixels)
    patch = square_patch(image, points_square(five_points(expected).astype(np.float64), 1))
    seen = model.see(patch.pixels)
    assert seen is not None
    assert seen.score >= SURE
    assert distance(patch.to_source(seen.landmarks), expected) < 0.03
    mesh.close()


def test_search_and_landmark_model_together_are_the_face_mesh(model: LandmarkModel) -> None:
    finder, mesh = FaceFinder(), FaceMesh()
    for pixels in (photograph(), portrait()):
        image = DecodedImage(pixels, *pixels.shape[:2])
        (square,) = finder.find(pixels)
        patch = square_patch(image, square)
        seen = model.see(patch.pixels)
        assert seen is not None
        assert distance(patch.to_source(seen.landmarks), mesh.find(pixels)[0]) < 0.01
    assert finder.find(np.zeros((64, 64, 3), np.uint8)) == []
    finder.close()
    mesh.close()


def test_the_landmark_model_sees_no_face_where_there_is_none(model: LandmarkModel) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    assert model.see(noise) is None
    assert model.see(np.full((192, 192, 3), 128, np.uint8)) is None


def test_a_mesh_is_read_from_its_message() -> None:
    points = np.random.default_rng(1).normal(size=(NUM_MESH_POINTS, 3)).astype(np.float32)
    points[0] = 0  # a value of zero is part of the message all the same
    message = landmark_pb2.NormalizedLandmarkList()
    for x, y, z in points.tolist():
        message.landmark.add(x=x, y=y, z=z)
    np.testing.assert_array_equal(mesh_of(message), points[:, :2])


@pytest.mark.parametrize("count", [0, 468, 479])
def test_a_mesh_of_another_size_is_refused(count: int) -> None:
    message = landmark_pb2.NormalizedLandmarkList()
    for _ in range(count):
        message.landmark.add(x=0, y=0, z=0)
    with pytest.raises(RunError, match=f"mesh of {17 * count} bytes, expected 478 points with x, y and z"):
        mesh_of(message)
