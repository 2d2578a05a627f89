from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from regions import quality
from regions.landmarks import MIRROR, five_points
from tests.faces import ODD_FACES, face, profile


@pytest.mark.parametrize("angle", [0, 30, -90])
@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_faces_are_plausible(angle: int, jitter: float) -> None:
    assert quality.plausibility_problem(face(angle=angle, jitter=jitter), 400, 500) is None


@pytest.mark.parametrize("name", ["random points", "on one line", "one point", "tiny", "off the image", "huge"])
def test_nonsense_is_not(name: str) -> None:
    assert quality.plausibility_problem(ODD_FACES[name], 400, 500)


@pytest.mark.parametrize("order", [MIRROR, np.arange(68)[::-1], np.roll(np.arange(68), 1)])
@pytest.mark.parametrize("angle", [0, 200])
def test_points_in_another_order_are_no_face(order: npt.NDArray[np.int_], angle: int) -> None:
    assert quality.plausibility_problem(face(angle=angle)[order], 400, 500)


def test_the_shape_of_the_mean_face_is_usual_at_any_place_and_size() -> None:
    fit = quality.fit_shape(face(x=30, y=-70, angle=140, eye_distance=9))
    assert fit.deviation < 0.5
    assert fit.residual < 0.01


@pytest.mark.parametrize("index", [0, 8, 17, 30, 36, 48, 62, 66])
def test_a_misplaced_landmark_is_named(index: int) -> None:
    points = face(eye_distance=60)
    points[index] += (0.6 * 60, -0.5 * 60)
    assert quality.fit_shape(points).worst == index
    assert (quality.plausibility_problem(points, 400, 500) or "").startswith(f"landmark {index} is 0.")


@pytest.mark.parametrize("x", [60, 45, 30])
def test_a_face_cut_off_by_the_edge_may_have_its_points_there(x: int) -> None:
    cut_off = np.maximum(face(x=x, eye_distance=60), (0, 0))
    assert cut_off[0, 0] == 0
    assert quality.plausibility_problem(cut_off, 400, 500) is None


def test_mistaken_mouth_corners_are_found() -> None:
    points = face()
    points[[48, 54]] = points[[54, 48]]
    assert quality.plausibility_problem(points, 400, 500)


def test_the_shape_model_is_orthonormal_and_symmetric() -> None:
    model = quality.shape_model()
    np.testing.assert_allclose(model.components @ model.components.T, np.eye(len(model.components)), atol=1e-5)
    assert (np.diff(model.spreads) < 0).all()
    mean = model.mean.reshape(68, 2)
    np.testing.assert_allclose(mean[MIRROR] * (-1, 1), mean, atol=1e-4)
    mirrored = quality.fit_shape(profile()[MIRROR] * (-1, 1))
    np.testing.assert_allclose(mirrored[:2], quality.fit_shape(profile())[:2], rtol=1e-4)


def test_agreement_with_five_points() -> None:
    points = five_points(face())
    assert quality.hint_mismatch(face(), points=points) is None
    assert "from the five points" in (quality.hint_mismatch(face(x=300), points=points) or "")


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([130, 190, 140, 180], None),
        ([100, 150, 200, 250], None),
        ([400, 190, 140, 180], "from the center of the face box"),
        ([190, 272, 20, 20], "face box of 0.3 eye distances"),
        ([-2300, -2260, 5000, 5000], "face box of 83.3 eye distances"),
    ],
)
def test_agreement_with_a_box(box: list[int], message: str | None) -> None:
    found = quality.hint_mismatch(face(), bbox=np.array(box, dtype=float))
    assert found is None if message is None else message in (found or "")


def test_five_points_decide_before_the_box() -> None:
    wrong_box = np.array([900.0, 900, 10, 10])
    assert quality.hint_mismatch(face(), bbox=wrong_box, points=five_points(face())) is None


def test_many_faces_at_once_have_the_errors_of_each() -> None:
    faces = np.array([points for name, points in ODD_FACES.items() if name != "one point"])
    points = np.array([five_points(face(x=210))] * len(faces))
    expected = [quality.points_error(*pair) for pair in zip(faces, points, strict=True)]
    np.testing.assert_array_equal(quality.points_errors(faces, points), expected)
