import numpy as np
import pytest

from regions import quality
from regions.landmarks import five_points
from tests.faces import ODD_FACES, face, profile


@pytest.mark.parametrize("angle", [0, 30, -90])
@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_faces_are_plausible(angle, jitter):
    assert quality.implausible(face(angle=angle, jitter=jitter), 400, 500) is None


@pytest.mark.parametrize("name", ["random points", "on one line", "one point", "tiny", "off the picture", "huge"])
def test_nonsense_is_not(name):
    assert quality.implausible(ODD_FACES[name], 400, 500)


def test_a_mirrored_order_is_no_face():
    assert quality.implausible(face()[::-1], 400, 500) or quality.shape_error(face()[::-1]) > 0.5


def test_shape_error_is_zero_for_the_mean_face_and_grows():
    assert quality.shape_error(face(angle=40, eye_distance=20)) < 1e-9
    assert 0.05 < quality.shape_error(face(jitter=0.1)) < quality.shape_error(face(jitter=0.3))
    assert quality.shape_error(profile()) > 0.1


def test_agreement_with_five_points():
    points = five_points(face())
    assert quality.disagrees(face(), points=points) is None
    assert "from the five points" in (quality.disagrees(face(x=300), points=points) or "")


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([130, 190, 140, 180], None),
        ([100, 150, 200, 250], None),
        ([400, 190, 140, 180], "outside of the face box"),
        ([190, 270, 20, 20], "times as large"),
        ([-2000, -2000, 5000, 5000], "times as large"),
    ],
)
def test_agreement_with_a_box(box, message):
    found = quality.disagrees(face(), box=np.array(box, dtype=float))
    assert found is None if message is None else message in (found or "")


def test_five_points_decide_before_the_box():
    wrong_box = np.array([900.0, 900, 10, 10])
    assert quality.disagrees(face(), box=wrong_box, points=five_points(face())) is None


def test_many_faces_at_once_have_the_errors_of_each():
    faces = np.array([points for name, points in ODD_FACES.items() if name != "one point"])
    points = np.array([five_points(face(x=210))] * len(faces))
    expected = [quality.points_error(*pair) for pair in zip(faces, points, strict=True)]
    np.testing.assert_allclose(quality.points_errors(faces, points), expected)
