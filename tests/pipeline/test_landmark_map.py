"""The linear map from the face mesh to the 68 landmarks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detection.landmark_map import (
    FACE_MESH,
    MESH_PIXEL_OFFSET,
    NUM_MESH_POINTS,
    eye_frame,
    load_mesh_map,
    mesh_to_landmarks,
    mesh_to_pixels,
)
from regions.landmarks import mean_shape
from tests.faces import Points, turned

TOLERANCE = 1e-3
"""In pixels, on faces of a few hundred pixels: float32's rounding of the result."""


def mesh(seed: int = 0, *, jitter: float = 0.02) -> Points:
    """Return 478 points in pixels that the map turns into about the mean shape, the eyes 60 apart.

    They are the least change of points without any form that the weights turn into the mean
    shape, moved at random.
    """
    fitted = load_mesh_map(FACE_MESH)
    points = np.zeros((NUM_MESH_POINTS, 2))
    points[fitted.left_eye], points[fitted.right_eye] = (-0.5, 0), (0.5, 0)
    wanted = mean_shape().reshape(-1) - fitted.intercept - points.reshape(-1) @ fitted.weights
    change, *_ = np.linalg.lstsq(fitted.weights.T.astype(np.float64), wanted, rcond=1e-3)
    points += change.reshape(-1, 2)
    points += jitter * np.random.default_rng(seed).standard_normal(points.shape)
    return points * 60 + (300, 200)


def landmarks(points: Points) -> Points:
    return mesh_to_landmarks(points, load_mesh_map(FACE_MESH)).astype(np.float64)


def test_result_is_68_points_of_float32() -> None:
    result = mesh_to_landmarks(mesh().astype(np.float32), load_mesh_map(FACE_MESH))
    assert result.shape == (68, 2)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()


def test_the_map_is_one_affine_product_in_the_eye_frame() -> None:
    fitted, points = load_mesh_map(FACE_MESH), mesh()
    left, right = points[fitted.left_eye].mean(axis=0), points[fitted.right_eye].mean(axis=0)
    origin, step = complex(*(left + right) / 2), complex(*(right - left))  # the frame, in complex numbers
    framed = (points @ (1, 1j) - origin) / step
    mapped = np.stack([framed.real, framed.imag], axis=1).reshape(-1) @ fitted.weights + fitted.intercept
    expected = mapped.reshape(-1, 2) @ (1, 1j) * step + origin
    np.testing.assert_allclose(landmarks(points) @ (1, 1j), expected, atol=TOLERANCE)


@pytest.mark.slow
@given(
    seed=st.integers(0, 99),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    scale=st.floats(0.1, 5),
    angle=st.floats(-180, 180),
)
def test_landmarks_shift_scale_and_turn_with_the_mesh(
    seed: int, shift: tuple[float, float], scale: float, angle: float
) -> None:
    points = mesh(seed)
    moved = landmarks(turned(points * scale, angle) + shift)
    np.testing.assert_allclose(moved, turned(landmarks(points) * scale, angle) + shift, atol=TOLERANCE)


def test_the_packaged_map_is_read_only_and_loaded_once() -> None:
    fitted = load_mesh_map(FACE_MESH)
    assert fitted is load_mesh_map(FACE_MESH)
    assert fitted.weights.shape == (956, 136)
    assert fitted.intercept.shape == (136,)
    assert fitted.weights.dtype == fitted.intercept.dtype == np.float32
    assert "non-commercial research" in fitted.license
    with pytest.raises(ValueError, match="read-only"):
        fitted.weights[0, 0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        fitted.version = 2  # type: ignore[misc]


def test_pixels_count_from_the_corner_of_the_first_pixel() -> None:
    points = np.zeros((NUM_MESH_POINTS, 2))
    points[1] = (0.5, 0.25)
    pixels = mesh_to_pixels(points, 200, 400)
    assert pixels[0].tolist() == [MESH_PIXEL_OFFSET, MESH_PIXEL_OFFSET]
    assert pixels[1].tolist() == [100.5, 100.5]


def test_eye_frame_puts_the_eyes_at_half_a_unit_and_comes_back() -> None:
    fitted, points = load_mesh_map(FACE_MESH), turned(mesh(), 30)
    frame = eye_frame(points, fitted.left_eye, fitted.right_eye)
    framed = frame.to_face(points)
    np.testing.assert_allclose(framed[fitted.left_eye].mean(axis=0), (-0.5, 0), atol=1e-12)
    np.testing.assert_allclose(framed[fitted.right_eye].mean(axis=0), (0.5, 0), atol=1e-12)
    np.testing.assert_allclose(frame.to_image(framed), points, atol=1e-9)


@pytest.mark.parametrize("shape", [(468, 2), (478, 3), (956,), (1, 478, 2), (0, 2)])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(478, 2\)"):
        mesh_to_landmarks(np.zeros(shape), load_mesh_map(FACE_MESH))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_coordinate_that_is_no_number_is_refused(value: float) -> None:
    points = mesh()
    points[17, 1] = value
    with pytest.raises(ValueError, match="mesh point 17 is"):
        mesh_to_landmarks(points, load_mesh_map(FACE_MESH))


def test_eyes_at_one_point_are_refused() -> None:
    with pytest.raises(ValueError, match="both eye centers are at"):
        mesh_to_landmarks(np.full((NUM_MESH_POINTS, 2), 7.0), load_mesh_map(FACE_MESH))
