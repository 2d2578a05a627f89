"""The fallback chain with MediaPipe's own detectors, on the built-in photograph: small, rotated, mirrored, reduced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.detection.detectors import open_detectors
from pipeline.detection.fallback_chain import DetectedFace, DetectionFailure, FallbackChain
from pipeline.images import DecodedImage
from pipeline.records import DetectorSettings
from regions.landmarks import MIRROR, FloatArray, face_size
from tests.faces import turned
from tests.fake_detectors import hinted_row
from tests.photograph import Pixels

pytest.importorskip("skimage")

from pipeline.demo import FACE_BOX, PHOTOGRAPH_POINTS
from tests.photograph import distance, photograph

pytestmark = pytest.mark.slow

GRAY = (120, 125, 120)
FIVE_POINTS = np.array(PHOTOGRAPH_POINTS, dtype=np.float64)


@pytest.fixture(scope="module")
def chain() -> Iterator[FallbackChain]:
    """A chain that is opened once."""
    chain = FallbackChain(open_detectors(DetectorSettings()))
    yield chain
    chain.close()


def find(chain: FallbackChain, pixels: Pixels, reduction: int = 1, **hints: Any) -> DetectedFace | DetectionFailure:
    height, width = (side * reduction for side in pixels.shape[:2])
    return chain.find(DecodedImage(np.ascontiguousarray(pixels), height, width), hinted_row(**hints))


def find_face(chain: FallbackChain, pixels: Pixels, reduction: int = 1, **hints: Any) -> DetectedFace:
    found = find(chain, pixels, reduction, **hints)
    assert isinstance(found, DetectedFace)
    return found


@pytest.fixture(scope="module")
def truth(chain: FallbackChain) -> FloatArray:
    """The landmarks of the photograph at its full size."""
    found = find_face(chain, photograph())
    assert found.landmark_source == "whole_image"
    return found.landmarks


def test_hints_hardly_change_the_landmarks(chain: FallbackChain, truth: FloatArray) -> None:
    for hints in ({"box": FACE_BOX}, {"five": FIVE_POINTS}, {"box": FACE_BOX, "five": FIVE_POINTS}):
        found = find_face(chain, photograph(), **hints)
        assert found.landmark_source == "hinted_box"
        assert distance(found.landmarks, truth) < 0.02


@pytest.mark.parametrize(
    ("eyes", "side", "landmark_sources"),
    [
        (12, 800, ["tiles"]),
        (16, 1600, ["face_detector", "tiles"]),
        (24, 2400, ["face_detector", "tiles"]),
        (24, 600, ["whole_image", "face_detector", "tiles"]),
    ],
)
def test_a_small_face_in_a_large_image(
    chain: FallbackChain, truth: FloatArray, eyes: int, side: int, landmark_sources: list[str]
) -> None:
    scale = eyes / face_size(truth)
    small = Image.fromarray(photograph()).resize((round(512 * scale),) * 2, Image.Resampling.LANCZOS)
    large = Image.new("RGB", (side, side), GRAY)
    at = (side // 2 + 37, side // 3)
    large.paste(small, at)
    found = find_face(chain, np.array(large))
    assert found.landmark_source in landmark_sources
    expected = truth * (small.width / 512) + at
    assert distance(found.landmarks, expected) < 0.03
    assert np.abs((found.landmarks - expected).mean(axis=0)).max() < 0.35  # pixels


def rotated_photograph(angle: int) -> Pixels:
    return np.array(Image.fromarray(photograph()).rotate(-angle, Image.Resampling.BICUBIC, fillcolor=GRAY))


@pytest.mark.parametrize("angle", [-30, 45, -60, 90, 180])
def test_a_rotated_photograph_with_five_points(chain: FallbackChain, truth: FloatArray, angle: int) -> None:
    found = find_face(chain, rotated_photograph(angle), five=turned(FIVE_POINTS - 256, angle) + 256)
    assert found.landmark_source == "hinted_box"
    assert distance(found.landmarks, turned(truth - 256, angle) + 256) < 0.02


@pytest.mark.parametrize("angle", [-30, 45, -60, 90])
def test_a_rotated_photograph_without_hints(chain: FallbackChain, truth: FloatArray, angle: int) -> None:
    found = find_face(chain, rotated_photograph(angle))
    assert found.landmark_source in ("whole_image", "rotated")
    assert distance(found.landmarks, turned(truth - 256, angle) + 256) < 0.02


@pytest.mark.parametrize("hints", [{}, {"box": FACE_BOX}])
def test_a_mirrored_photograph_has_mirrored_landmarks(chain: FallbackChain, hints: dict[str, Any]) -> None:
    found = find_face(chain, photograph(), **hints)
    x, y, width, height = FACE_BOX
    mirrored_hints: dict[str, Any] = {"box": (512 - x - width, y, width, height)} if hints else {}
    mirrored = find_face(chain, photograph()[:, ::-1], **mirrored_hints)
    assert mirrored.landmark_source == found.landmark_source
    assert distance(mirrored.landmarks[MIRROR] * (-1, 1) + (512, 0), found.landmarks) < 0.02


def test_landmarks_are_in_source_pixels_where_the_image_was_reduced(chain: FallbackChain, truth: FloatArray) -> None:
    every: list[dict[str, Any]] = [{}, {"box": 4 * np.array(FACE_BOX)}, {"five": 4 * FIVE_POINTS}]
    for hints in every:
        found = find_face(chain, photograph(), reduction=4, **hints)
        assert distance(found.landmarks, 4 * truth) < 0.02


def test_noise_has_no_face(chain: FallbackChain) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    assert not isinstance(find(chain, noise), DetectedFace)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2000, 3), (192, 192)])
def test_images_of_odd_shapes_have_no_face(chain: FallbackChain, shape: tuple[int, int]) -> None:
    blank = np.full((*shape, 3), 130, dtype=np.uint8)
    for box in (None, (0, 0, 1, 1), (-9, -9, 5000, 5000)):
        assert find(chain, blank, box=box)[:2] == ("no_face", "no detector found a face")
