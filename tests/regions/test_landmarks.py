from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from regions import landmarks
from regions.boxes import BBox
from regions.landmarks import MIRROR, FloatArray
from tests.faces import ODD_FACES, face, turned


def test_mean_shape_is_in_the_eye_frame_and_symmetric() -> None:
    shape = landmarks.mean_shape()
    left, right = landmarks.eye_centers(shape)
    np.testing.assert_allclose([left, right], [[-0.5, 0], [0.5, 0]], atol=1e-4)
    np.testing.assert_allclose(shape[MIRROR] * (-1, 1), shape, atol=2e-5)


def test_mean_shape_looks_like_a_face() -> None:
    shape = landmarks.mean_shape()
    brows, eyes, nose, mouth, chin = shape[17:27, 1].mean(), 0.0, shape[30, 1], shape[48:60, 1].mean(), shape[8, 1]
    assert brows < eyes < nose < mouth < chin
    assert shape[0, 0] < shape[36, 0] < shape[39, 0] < shape[42, 0] < shape[45, 0] < shape[16, 0]


@pytest.mark.parametrize("angle", [0, 30, -75, 180])
def test_face_frame_follows_the_face(angle: int) -> None:
    frame = landmarks.face_frame(face(x=10, y=20, eye_distance=50, angle=angle))
    np.testing.assert_allclose(frame.origin, [10, 20], atol=0.01)
    np.testing.assert_allclose(frame.right, turned(np.array([1.0, 0.0]), angle), atol=1e-6)
    np.testing.assert_allclose(frame.down, turned(np.array([0.0, 1.0]), angle), atol=1e-6)
    assert frame.eye_distance == pytest.approx(50, rel=1e-3)


def test_face_frame_there_and_back() -> None:
    points = face(angle=20, jitter=0.1)
    frame = landmarks.face_frame(points)
    np.testing.assert_allclose(frame.to_image(frame.to_face(points)), points, atol=1e-9)


def test_face_size_survives_a_turned_head() -> None:
    points = face(eye_distance=60)
    points[:, 0] = 200 + 0.5 * (points[:, 0] - 200)
    assert landmarks.face_size(face(eye_distance=60)) == pytest.approx(60, rel=1e-3)
    assert landmarks.face_size(points) > 0.8 * 60


def test_similarity_is_recovered() -> None:
    source = face(jitter=0.1)
    target = turned(source * 2.5, 33) + (-7, 4)
    fitted = landmarks.apply_similarity(source, *landmarks.fit_similarity(source, target))
    np.testing.assert_allclose(fitted, target, atol=1e-9)


def test_five_points_give_back_the_mean_face() -> None:
    points = face(angle=-12, eye_distance=33)
    placed = landmarks.landmarks_from_five_points(landmarks.five_points(points))
    np.testing.assert_allclose(placed, points, atol=1e-6)


def test_rounding_to_one_64th() -> None:
    rounded = landmarks.round_landmarks(np.full((68, 2), 1 / 3))
    assert rounded.dtype == np.float32
    assert (rounded == 21 / 64).all()


@pytest.mark.parametrize("shape", [(67, 2), (68, 3), (2, 68), (136,)])
def test_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(68, 2\)"):
        landmarks.check_landmarks(np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value: float) -> None:
    points = face()
    points[33, 1] = value
    with pytest.raises(ValueError, match=r"landmark 33 is .*expected finite"):
        landmarks.check_landmarks(points)


def test_a_mean_face_fills_a_box() -> None:
    placed = landmarks.landmarks_in_bbox(BBox(100.0, 50.0, 80.0, 200.0))
    low, high = placed.min(axis=0), placed.max(axis=0)
    np.testing.assert_allclose((low + high) / 2, (140, 150))
    np.testing.assert_allclose((low[0], high[0]), (100, 180))
    assert 50 < low[1] < high[1] < 250


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", [landmarks.five_points, landmarks.face_sizes, landmarks.eye_centers])
def test_many_faces_give_the_bits_of_each_face(
    function: Callable[[FloatArray], FloatArray] | Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    dtype: type[float],
) -> None:
    faces = np.array([face(angle=i, jitter=0.1, seed=i) for i in range(60)], dtype=dtype)
    together = np.asarray(function(faces.reshape(12, 5, 68, 2)))
    one_by_one = np.array([function(points) for points in faces])
    if function is landmarks.eye_centers:
        together = np.moveaxis(together, 0, 2)
    np.testing.assert_array_equal(together, one_by_one.reshape(together.shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_face_is_measured_as_many_are_to_the_last_bit(dtype: type[np.float32 | np.float64]) -> None:
    many = [*ODD_FACES.values(), *(face(angle=7 * i, jitter=0.05, seed=i) for i in range(50))]
    faces: FloatArray = np.array(many, dtype=dtype)
    (left, right), sizes = landmarks.eye_centers(faces), landmarks.face_sizes(faces)
    for index, points in enumerate(faces):
        eyes = landmarks.eyes_and_size(points)
        assert (eyes.left, eyes.right, eyes.size) == (tuple(left[index]), tuple(right[index]), sizes[index])
        assert eyes.middle == tuple((left[index] + right[index]) / 2)


def test_frames_of_many_faces_are_those_of_each() -> None:
    faces = np.array(list(ODD_FACES.values()))
    together = landmarks.face_frame(faces)
    for index, points in enumerate(faces):
        frame = landmarks.face_frame(points)
        assert (together.to_face(faces)[index] == frame.to_face(points)).all()
        assert (together.to_image(faces)[index] == frame.to_image(points)).all()


def test_a_nan_among_many_faces_is_refused() -> None:
    faces = np.array([face()] * 3)
    faces[1, 40] = np.nan
    with pytest.raises(ValueError, match=r"^landmark 40 is \[nan, nan\], expected finite numbers$"):
        landmarks.check_landmarks(faces)
