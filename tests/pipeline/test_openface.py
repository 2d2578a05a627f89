"""OpenFace's CSV files: every version's layout, which face is selected, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.inputs.openface import LANDMARK_COLUMNS, Faces, choose_face, parse_faces
from regions.landmarks import FloatArray, five_points
from tests.faces import face
from tests.landmark_files import IMAGE_COLUMNS, NOT_NUMBERS, SEQUENCE_COLUMNS, openface_csv, openface_header

FACE, OTHER = face(), face(x=700, y=600, eye_distance=90)
FORMER_SEQUENCE_COLUMNS = ("frame", "timestamp", "confidence", "success")


@pytest.mark.parametrize("separator", [",", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("columns", "values"),
    [
        (IMAGE_COLUMNS, (0, "0.975")),
        (SEQUENCE_COLUMNS, (1, 0, "0.000", "0.975", 1)),
        (FORMER_SEQUENCE_COLUMNS, (1, "0.000", "0.975", 1)),
    ],
    ids=["FaceLandmarkImg", "FeatureExtraction", "FeatureExtraction before 2.1"],
)
def test_the_layout_of_each_version(
    columns: tuple[str, ...],
    values: tuple[int | str, ...],
    separator: str,
    end: str,
) -> None:
    text = openface_csv([(values, FACE)], columns, separator=separator).replace("\n", end)
    faces = parse_faces(text, "a.csv")
    assert faces.confidences == [0.975]
    assert faces.landmarks.shape == (1, 68, 2)
    np.testing.assert_allclose(faces.landmarks[0], FACE, atol=0.0501)


def test_numbers_are_taken_as_they_are() -> None:
    points = (np.arange(136).reshape(2, 68).T - 30) / 10
    np.testing.assert_array_equal(parse_faces(one_face(points), "a.csv").landmarks, [points])


def test_rows_that_failed_are_no_faces_however_confident() -> None:
    rows = [((1, 0, "0.0", "0.99", 0), OTHER), ((1, 1, "0.0", "0.71", 1), FACE)]
    faces = parse_faces(openface_csv(rows, SEQUENCE_COLUMNS, separator=", "), "a.csv")
    assert faces.confidences == [0.71]
    np.testing.assert_allclose(faces.landmarks, [FACE], atol=0.0501)


@pytest.mark.parametrize("column", ["x_0", "y_67", "confidence"])
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_a_row_without_a_number_is_no_face(column: str, value: str) -> None:
    rows = openface_csv([((0, "0.980"), OTHER), ((1, "0.710"), FACE)]).splitlines()
    values = rows[1].split(",")
    values[openface_header().index(column)] = value
    faces = parse_faces("\n".join([rows[0], ",".join(values), rows[2]]), "a.csv")
    assert faces.confidences == [0.71]
    np.testing.assert_allclose(faces.landmarks, [FACE], atol=0.0501)


def test_a_row_of_unknown_success_is_no_face() -> None:
    text = openface_csv([((1, 0, "0.0", "0.71", "-nan(ind)"), FACE)], SEQUENCE_COLUMNS)
    assert parse_faces(text, "a.csv").confidences == []


def test_no_face() -> None:
    assert parse_faces(openface_csv([]), "a.csv").landmarks.shape == (0, 68, 2)


THREE = Faces(np.stack([FACE, FACE + 6, OTHER]), [0.5, 0.2, 0.9])


@pytest.mark.parametrize(
    ("box", "points", "expected"),
    [
        (None, None, 2),
        (None, five_points(FACE), 0),
        (None, five_points(FACE + 4), 1),
        (None, five_points(OTHER), 2),
        (None, five_points(face(x=1500)), None),
        ([120, 160, 160, 190], None, 0),
        ([136, 196, 160, 190], None, 1),
        ([580, 480, 240, 280], None, 2),
        ([1500, 160, 160, 190], None, None),
        ([580, 480, 240, 280], five_points(FACE), 0),
        ([120, 160, 160, 190], five_points(face(x=1500)), None),
    ],
)
def test_the_face_that_the_hints_select(box: list[int] | None, points: FloatArray | None, expected: int | None) -> None:
    found = choose_face(THREE, None if box is None else np.array(box, dtype=np.float64), points)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        np.testing.assert_array_equal(found, THREE.landmarks[expected])


def test_of_no_faces_none_is_selected() -> None:
    nobody = parse_faces(openface_csv([]), "a.csv")
    assert choose_face(nobody, None, None) is None
    assert choose_face(nobody, np.array([0.0, 0, 9, 9]), five_points(FACE)) is None


def one_face(points: FloatArray = FACE) -> str:
    return openface_csv([((0, "0.980"), points)])


def changed(column: str, value: str) -> str:
    """Return a file of one face with another value in one column."""
    lines = one_face().splitlines()
    values = lines[1].split(",")
    values[openface_header().index(column)] = value
    return "\n".join([lines[0], ",".join(values)])


def frames(*numbers: int, columns: Sequence[str] = SEQUENCE_COLUMNS) -> str:
    return openface_csv([((number, 0, "0.033", "0.98", 1), FACE) for number in numbers], columns)


NO_2D = "expected the 2-D landmarks x_0 to x_67 and y_0 to y_67: run OpenFace with -2Dfp"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: '', expected the header of an OpenFace CSV file: face, confidence, ... or frame, ..."),
        ("\n" + one_face(), ":1: '', expected the header of an OpenFace CSV file"),
        ("image_name," + ",".join(LANDMARK_COLUMNS), ":1: 'image_name,x_0,x_1,"),
        (openface_csv([((0, "0.9"), FACE)], two_d=False), f":1: no column 'x_0', {NO_2D}"),
        (openface_csv([], two_d=False, separator=", "), f":1: no column 'x_0', {NO_2D}"),
        (one_face().replace(",y_67,", ",y_99,"), f":1: no column 'y_67', {NO_2D}"),
        (one_face().replace("confidence", "certainty"), ":1: no column 'confidence'"),
        (one_face().rstrip().rpartition(",")[0], ":2: 710 columns, expected 711 as in line 1"),
        (one_face().rstrip() + ",1\n", ":2: 712 columns, expected 711 as in line 1"),
        (one_face() + "\n1,0.9\n", ":4: 2 columns, expected 711 as in line 1"),
        (changed("x_3", "nan").replace(",0.980,", ",high,"), ":2: 'high', expected a number"),
        (changed("y_67", "1e308"), ":2: '1e308', expected a number of at most 1e+09"),
        (changed("x_0", "2e9"), ":2: '2e9', expected a number of at most 1e+09"),
        (changed("y_0", "1.#"), ":2: '1.#', expected a number"),
        (changed("confidence", "high"), ":2: 'high', expected a number"),
        (frames(1, 2), ":3: frame '2' after frame '1': a video or an image sequence"),
        (frames(7, 7, 8), ":4: frame '8' after frame '7': a video or an image sequence"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_faces(text, "a.csv")
    assert str(caught.value).startswith("a.csv" + message)


def test_the_message_about_a_video_has_what_is_expected() -> None:
    with pytest.raises(InputError, match="expected the output of FaceLandmarkImg, one CSV file for each image"):
        parse_faces(frames(1, 2), "a.csv")


def test_two_faces_of_one_frame_are_no_video() -> None:
    assert len(parse_faces(frames(1, 1), "a.csv").landmarks) == 2


def test_values_that_are_not_used_may_be_anything() -> None:
    text = changed("gaze_0_x", "-nan(ind)")
    np.testing.assert_array_equal(parse_faces(text, "a.csv").landmarks, parse_faces(one_face(), "a.csv").landmarks)


@given(st.text(max_size=40) | st.text("facerm,x_0 \n1", max_size=40))
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"^a:\d+: .*$"):
        parse_faces(text, "a")
