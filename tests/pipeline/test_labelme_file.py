from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pipeline.handlabel.labelme_file import EDGE, LabelError, annotated_landmarks, labelme_file, start_landmarks
from regions.landmarks import FloatArray, mean_shape
from regions.quality import plausibility_problem
from tests.faces import ODD_FACES, face
from tests.synthetic import HEIGHT, WIDTH

SIZE = (HEIGHT, WIDTH)
NAN = float("nan")


def saved(**changes: object) -> bytes:
    """Return the file of an image a.jpg as labelme saves it, with changes to the document."""
    return json.dumps({**json.loads(labelme_file("a.jpg", face(), SIZE)), **changes}).encode()


@pytest.mark.parametrize(("height", "width"), [(500, 400), (300, 900), (64, 64)])
def test_the_mean_face_fills_most_of_the_image(height: int, width: int) -> None:
    start = start_landmarks(np.full((68, 2), np.nan), (height, width))
    low, high = start.min(axis=0), start.max(axis=0)
    np.testing.assert_allclose((low + high) / 2, (width / 2, height / 2))
    assert max(high - low) == pytest.approx(0.6 * min(height, width))
    shape = mean_shape() - mean_shape()[30]
    np.testing.assert_allclose((start - start[30]) * np.ptp(shape[:, 0]) / np.ptp(start[:, 0]), shape, atol=1e-9)


@pytest.mark.parametrize("guess", [*ODD_FACES.values(), face(x=900), face(y=900)])
def test_every_point_starts_where_it_can_be_dragged(guess: FloatArray) -> None:
    start = start_landmarks(guess, SIZE)
    assert (start >= EDGE).all() and (start <= np.array([WIDTH, HEIGHT]) - EDGE).all()
    inside = ((guess >= EDGE) & (guess <= np.array([WIDTH, HEIGHT]) - EDGE)).all(axis=1)
    if inside.any():
        np.testing.assert_array_equal(start[inside], guess[inside])
    else:
        np.testing.assert_array_equal(start, start_landmarks(np.full((68, 2), np.nan), SIZE))


def test_a_guess_with_one_unknown_point_is_no_guess() -> None:
    guess = face()
    guess[3, 1] = np.nan
    assert np.isfinite(start_landmarks(guess, SIZE)).all()


def test_a_image_of_one_pixel_has_a_start() -> None:
    assert (start_landmarks(np.full((68, 2), np.nan), (1, 1)) == 1).all()


def shapes_with(*changes: tuple[int, dict[str, Any]]) -> list[dict[str, Any]]:
    shapes: list[dict[str, Any]] = json.loads(labelme_file("a.jpg", face(), SIZE))["shapes"]
    for number, change in changes:
        shapes[number].update(change)
    return shapes


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], "landmarks 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 58 more are missing, expected 0 to 67 once each"),
        (shapes_with()[:3] + shapes_with()[4:17] + shapes_with()[18:], "landmarks 3, 17 are missing, expected 0 to 67"),
        (shapes_with()[1:], "landmark 0 is missing, expected"),
        (shapes_with() + shapes_with()[5:7], "landmarks 5, 6 are doubled, expected"),
        (shapes_with((9, {"label": "8"})), "landmark 9 is missing and landmark 8 is doubled, expected"),
        (shapes_with((0, {"label": "nose"}), (1, {"label": "68"})), "labeled 'nose', '68', expected 0 to 67"),
        (shapes_with((2, {"label": 2})), "labeled 2, expected 0 to 67"),
        (shapes_with((2, {"label": "02"})), "labeled '02', expected 0 to 67"),
        (shapes_with((2, {"label": None})), "labeled None, expected 0 to 67"),
        (shapes_with((2, {"label": ["2"]})), "labeled ['2'], expected 0 to 67"),
        ([*shapes_with(), {"label": "face", "shape_type": "polygon"}], "labeled 'face', expected 0 to 67"),
        (shapes_with((4, {"shape_type": "polygon"})), "landmark 4 is of type 'polygon', expected 'point'"),
        (shapes_with((4, {"points": [[1, 2], [3, 4]]})), "landmark 4 has the points [[1, 2], [3, 4]], expected one"),
        (shapes_with((4, {"points": []})), "landmark 4 has the points [], expected one"),
        (shapes_with((4, {"points": [[1, 2, 3]]})), "landmark 4 has the points [[1, 2, 3]], expected one"),
        (shapes_with((4, {"points": None})), "landmark 4 has the points None, expected one"),
        (shapes_with((4, {"points": [[1, "2"]]})), "landmark 4 has the points [[1, '2']], expected one"),
        (shapes_with((4, {"points": [[1, True]]})), "landmark 4 has the points [[1, True]], expected one"),
        (shapes_with((4, {"points": [[1, NAN]]})), "landmark 4 has the points [[1, nan]], expected one"),
        (shapes_with((4, {"points": [[1, 10**400]]})), "landmark 4 has the points [[1, 1000"),
        (shapes_with((4, {"points": [[-0.5, 7]]})), "landmark 4 at (-0.5, 7.0), outside of the image of 400x500"),
        (shapes_with((4, {"points": [[400.5, 7]]})), "landmark 4 at (400.5, 7.0), outside of the image of 400x500"),
        (shapes_with((4, {"points": [[7, 500.5]]})), "landmark 4 at (7.0, 500.5), outside of the image of 400x500"),
        (shapes_with((4, {"points": [[1, float("-inf")]]})), "landmark 4 has the points [[1, -inf]], expected one"),
        (shapes_with((4, {"points": [[1e308, 7]]})), "landmark 4 has the points [[1e+308, 7]], expected one"),
        (shapes_with((4, {"points": {"0": [1, 2]}})), "landmark 4 has the points {'0': [1, 2]}, expected one"),
        (shapes_with((4, {"shape_type": "x" * 9999})), "landmark 4 is of type 'xxxx"),
        (shapes_with((2, {"label": "\ud800"})), "labeled '\\ud800', expected 0 to 67"),
        (shapes_with((2, {"label": "-1"})), "labeled '-1', expected 0 to 67"),
        (shapes_with()[:1] * 1000, "landmarks 1, 2"),
        (["nose"], "no list of shapes in it"),
        ({"0": [1, 2]}, "no list of shapes in it"),
        (None, "no list of shapes in it"),
    ],
)
def test_labels_that_can_not_be_used_are_told(shapes: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(LabelError) as caught:
        annotated_landmarks(saved(shapes=shapes), "a.jpg", SIZE)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["one point", "on one line", "reversed order"])
def test_points_that_are_no_face_are_told(name: str) -> None:
    content = labelme_file("a.jpg", ODD_FACES[name], SIZE)
    with pytest.raises(LabelError) as caught:
        annotated_landmarks(content, "a.jpg", SIZE)
    assert str(caught.value) == plausibility_problem(np.round(ODD_FACES[name], 3), WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imagePath": "b.jpg"}, "imagePath is 'b.jpg', expected 'a.jpg': the labels are another image's"),
        ({"imagePath": None}, "imagePath is 'None', expected 'a.jpg'"),
        ({"imagePath": "/etc/passwd"}, "imagePath is 'passwd', expected 'a.jpg'"),
        ({"imagePath": "a.jpg\0"}, r"imagePath is 'a.jpg\\x00', expected 'a.jpg'"),
        ({"imagePath": "x" * 99_999}, "imagePath is 'x+', expected 'a.jpg'"),
        ({"imageHeight": "5" * 99_999}, "imageHeight and imageWidth are"),
        ({"imageHeight": 400, "imageWidth": 500}, r"are \(400, 500\), expected \(500, 400\), as a.jpg is shown"),
        ({"imageHeight": None}, r"are \(None, 400\), expected \(500, 400\)"),
    ],
)
def test_labels_of_another_image_are_told(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        annotated_landmarks(saved(**change), "a.jpg", SIZE)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b"\xff\xfe\x00", b"[" * 100_000, b'{"shapes": {}}', b"9" * 5000]
)
def test_files_that_are_not_labelme_s_are_told(content: bytes) -> None:
    with pytest.raises(LabelError, match=r"not valid JSON|no list of shapes") as caught:
        annotated_landmarks(content, "a.jpg", SIZE)
    assert "\n" not in str(caught.value)


def test_points_on_the_very_edge_are_in_the_image() -> None:
    points = np.round(face() - face().min(axis=0))
    width, height = points.max(axis=0).astype(int).tolist()
    content = labelme_file("a.jpg", points, (height, width))
    np.testing.assert_array_equal(annotated_landmarks(content, "a.jpg", (height, width)), points)
