"""Face boxes and five points: which columns they are in, and which numbers are of no face."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.inputs.hints import are_annotated, by_image_side, read_bboxes, read_points
from pipeline.inputs.image_names import KnownNames
from regions.landmarks import FloatArray, five_points
from tests.faces import face
from tests.landmark_files import NOT_NUMBERS
from tests.pipeline.test_dataset import POINT_NAMES

FIVE = five_points(face()).round()
NAMES = KnownNames({"a.jpg": 0, "b.jpg": 1})


def boxes_of(tmp_path: Path, content: str) -> list[list[float]]:
    (tmp_path / "hints").write_text(content)
    boxes: list[list[float]] = read_bboxes(str(tmp_path / "hints"), ["a.jpg", "b.jpg"], NAMES).tolist()
    return boxes


def points_of(tmp_path: Path, header: str, *rows: Iterable[object]) -> FloatArray:
    lines = [" ".join(map(str, [f"{name}.jpg", *row])) for name, row in zip("abcdef", rows, strict=False)]
    (tmp_path / "hints").write_text("\n".join([str(len(lines)), header, *lines]))
    return read_points(str(tmp_path / "hints"), ["a.jpg", "b.jpg"], NAMES)


def message_of(tmp_path: Path, content: str) -> str:
    """Return the message about a file of boxes or points, without its name."""
    path = tmp_path / "hints"
    path.write_text(content)
    read = read_points if "nose" in content else read_bboxes
    with pytest.raises(InputError) as caught:
        read(str(path), ["a.jpg", "b.jpg"], NAMES)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image_id,x_1,y_1,width,height", "1,2,30,40"),
        ("NAME_ID,X,Y,W,H", "1,2,30,40"),
        ("image_id,h,w,y,x", "40,30,2,1"),
        ("image_id,face_x,face_y,face_width,face_height", "1,2,30,40"),
        ("image_id,left,top,width,height", "1,2,30,40"),
        ("image_id,x1,y1,x2,y2", "1,2,31,42"),
        ("image_id,x0,y0,x1,y1", "1,2,31,42"),
        ("image_id,x_2,y_2,x_1,y_1", "31,42,1,2"),
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "640,480,face,1,2,31,42"),
        ("image,score,bbox_left,bbox_top,bbox_right,bbox_bottom", "nan,1,2,31,42"),
        ("image,x1,y1,x2,y2,left_eye_x,left_eye_y", "1,2,31,42,,"),
    ],
)
def test_boxes_by_the_names_of_their_columns(tmp_path: Path, header: str, row: str) -> None:
    assert boxes_of(tmp_path, f"{header}\nb.jpg,{row}\n")[1] == [1, 2, 30, 40]


@pytest.mark.parametrize(
    "names",
    ["a b c d", "142 101 184 204", "cx cy w h", "x y x y", "x y w h width height", "x0 y0 x1 y1 x2 y2", "x1 y1 x2 w"],
)
def test_boxes_in_an_unknown_order_are_refused(tmp_path: Path, names: str) -> None:
    row = ",".join(["1"] * len(names.split()))
    assert message_of(tmp_path, f"image_id,{names.replace(' ', ',')}\na.jpg,{row}\n") == (
        f":1: columns {names!r}, expected one box by name: x, y, width, height (or x_1, y_1, width, height),"
        " or x1, y1, x2, y2"
    )
    assert message_of(tmp_path, f"1\n{names}\na.jpg {row.replace(',', ' ')}\n").startswith(f":2: columns {names!r}")


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize("header", ["x,y,width,height", "x1,y1,x2,y2"])
def test_a_box_without_a_number_is_unknown(tmp_path: Path, header: str, value: str) -> None:
    for row in (f"{value},2,30,40", f"1,2,30,{value}"):
        first, second = boxes_of(tmp_path, f"image_id,{header}\na.jpg,{row}\nb.jpg,0,0,30,40\n")
        assert np.isnan(first).all() and second == [0, 0, 30, 40]


@pytest.mark.parametrize("row", ["0,0,0,0", "-1,-1,-1,-1", "9,9,9,30", "9,9,30,9", "30,40,1,2"])
def test_corners_without_area_are_unknown(tmp_path: Path, row: str) -> None:
    assert np.isnan(boxes_of(tmp_path, f"image_id,x1,y1,x2,y2\na.jpg,{row}\n")).all()


POINT_ORDERS = [
    POINT_NAMES,
    "P1X P1Y P2X P2Y P3X P3Y P4X P4Y P5X P5Y",
    "x1 y1 x2 y2 x3 y3 x4 y4 x5 y5",
    "landmark_0_x landmark_0_y landmark_1_x landmark_1_y landmark_2_x landmark_2_y landmark_3_x landmark_3_y"
    " landmark_4_x landmark_4_y",
    "left_eye_x left_eye_y right_eye_x right_eye_y nose_x nose_y mouth_left_x mouth_left_y mouth_right_x mouth_right_y",
    "eyeL_x eyeL_y eyeR_x eyeR_y nose_tip_x nose_tip_y leftMouthCorner_x leftMouthCorner_y mouthR_x mouthR_y",
]


@pytest.mark.parametrize("order", [range(10), [4, 5, 8, 9, 6, 7, 2, 3, 0, 1], [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]])
@pytest.mark.parametrize("header", POINT_ORDERS)
def test_points_by_the_names_of_their_columns(tmp_path: Path, header: str, order: Sequence[int]) -> None:
    names, values = header.split(), FIVE.ravel()
    points = points_of(tmp_path, " ".join(names[i] for i in order), [values[i] for i in order])
    assert points[0].tolist() == FIVE.tolist()
    assert np.isnan(points[1]).all()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("attparse"), "propagate", True)
    caplog.set_level(logging.INFO, logger="attparse")
    return caplog


@pytest.mark.parametrize("degrees", [0, 90, 180, -100])
def test_left_and_right_may_be_the_persons_own(tmp_path: Path, degrees: int, logged: pytest.LogCaptureFixture) -> None:
    angle = np.radians(degrees)
    turned = (FIVE - 200) @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 300
    own = turned[[1, 0, 2, 4, 3]]
    points = points_of(tmp_path, POINT_NAMES, turned.ravel(), own.ravel())
    np.testing.assert_allclose(points, [turned, turned], rtol=1e-6)
    assert set(logged.messages) == {f"{tmp_path / 'hints'}: left and right are the person's own in 1 row, exchanged"}


def test_images_without_a_usable_hint_are_counted(tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    points_of(tmp_path, POINT_NAMES, FIVE.ravel(), np.full(10, -1))
    boxes_of(tmp_path, "image_id,x,y,w,h\na.jpg,1,2,-3,-4\nb.jpg,1,2,,4\n")
    path = tmp_path / "hints"
    assert set(logged.messages) == {f"{path}: five points for 1 of 2 images", f"{path}: a face box for 0 of 2 images"}


def test_points_of_which_only_eyes_or_mouth_are_exchanged_stay() -> None:
    odd = np.array([FIVE[[1, 0, 2, 3, 4]], FIVE[[0, 1, 2, 4, 3]], np.full((5, 2), np.nan)], dtype=np.float32)
    np.testing.assert_array_equal(by_image_side(odd), odd)


@pytest.mark.parametrize(
    "names",
    [
        "a b c d e f g h i j",
        "195 183 267 186 223 206 193 255 256 258",
        "x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 x6 y6",
        f"{POINT_NAMES} nose_tip_x",
        POINT_NAMES.replace("nose_y", "chin_y"),
        " ".join(f"{axis}_{i}" for axis in "xy" for i in range(68)),
    ],
)
def test_points_in_an_unknown_order_are_refused(tmp_path: Path, names: str) -> None:
    with pytest.raises(InputError) as caught:
        points_of(tmp_path, names, range(len(names.split())))
    shown = names if len(names) <= 120 else f"{names[:120]}..."
    assert str(caught.value) == (
        f"{tmp_path / 'hints'}:2: columns {shown!r}, expected five points by name:"
        " lefteye_x, lefteye_y, righteye_x, ... nose, leftmouth, rightmouth"
    )


def test_numbered_points_in_another_order_are_refused(tmp_path: Path) -> None:
    nose_first = FIVE[[2, 0, 1, 3, 4]].ravel()
    with pytest.raises(
        InputError, match="2 of 2 rows in another order than eye, eye, nose, mouth corner, mouth corner"
    ):
        points_of(tmp_path, POINT_ORDERS[1], nose_first, nose_first)


def changed(**points: tuple[float, float]) -> FloatArray:
    """Return the five points of a face, with some of them elsewhere."""
    result = FIVE.copy()
    for name, place in points.items():
        result[("left_eye", "right_eye", "nose", "left_mouth", "right_mouth").index(name)] = place
    return result


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((5, 2)),
        np.full((5, 2), -1),
        np.full((5, 2), 77),
        FIVE - 2000,
        FIVE - [2000, 0],
        FIVE - [0, 2000],
        changed(right_eye=(0, 0)),
        changed(nose=(-1, -1)),
        changed(left_mouth=(-5, -9)),
        changed(right_eye=tuple(FIVE[0])),
        changed(nose=tuple(FIVE[4])),
        changed(left_mouth=tuple(FIVE[4]), right_eye=tuple(FIVE[4])),
    ],
)
def test_placeholders_are_no_points(tmp_path: Path, points: FloatArray) -> None:
    found = points_of(tmp_path, POINT_NAMES, points.ravel(), FIVE.ravel())
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == FIVE.tolist()


@pytest.mark.parametrize(
    "points",
    [
        FIVE,
        FIVE - [FIVE[0, 0] + 3, 0],
        FIVE - [0, FIVE[1, 1] + 3],
        changed(left_mouth=tuple(FIVE[4])),
        changed(left_eye=(0, FIVE[0, 1])),
    ],
    ids=["inside", "an eye left of the image", "the eyes above the image", "a profile", "at the edge"],
)
def test_points_of_a_face_at_the_edge_or_in_profile_are_kept(points: FloatArray) -> None:
    assert are_annotated(points[None].astype(np.float32)).tolist() == [True]


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_points_without_a_number_are_unknown(tmp_path: Path, value: str) -> None:
    path = tmp_path / "hints"
    row = [*FIVE.ravel()[:9], value]
    rows = [",".join(map(str, ["a.jpg", *row])), ",".join(map(str, ["b.jpg", *FIVE.ravel()]))]
    path.write_text("\n".join([f"image_id,{POINT_NAMES.replace(' ', ',')}", *rows]))
    points = read_points(str(path), ["a.jpg", "b.jpg"], NAMES)
    assert np.isnan(points[0]).all()
    assert points[1].tolist() == FIVE.tolist()


def test_hints_of_other_images_are_refused(tmp_path: Path) -> None:
    for header, row in (("x,y,w,h", "1,2,3,4"), (POINT_NAMES.replace(" ", ","), "1,2,3,4,5,6,7,8,9,10")):
        assert message_of(tmp_path, f"image_id,{header}\nx/a.jpg,{row}\nx/b.jpg,{row}\n") == (
            ": none of 2 rows matches an image of the label file: found 'x/a.jpg', expected names such as 'a.jpg'"
        )


def test_hints_of_images_that_a_run_leaves_out_are_not_refused(tmp_path: Path) -> None:
    (tmp_path / "hints").write_text("image_id,x,y,w,h\nb.jpg,1,2,3,4\n")
    assert np.isnan(read_bboxes(str(tmp_path / "hints"), ["a.jpg"], NAMES)).all()


def test_hints_of_an_image_without_labels_are_not_those_of_another_one(tmp_path: Path) -> None:
    (tmp_path / "hints").write_text("image_id,x,y,w,h\nA.jpg,1,2,3,4\nb.jpg,5,6,7,8\n")
    names = KnownNames({"a.jpg": 0, "b.jpg": 1}, ["a.jpg", "A.jpg", "b.jpg"])
    assert np.isnan(read_bboxes(str(tmp_path / "hints"), ["a.jpg", "b.jpg"], names)).any(axis=1).tolist() == [
        True,
        False,
    ]


PIECES = [*"120-., \n\t\"'x\0\udcff", "nan", "\x1d", "1e999", "a.jpg", "A.jpg", "./b.jpg", "\r\n", "image_id,x,y,w,h\n"]
PIECES += [f"2\n{POINT_NAMES}\n", f"2\n{POINT_ORDERS[1]}\n", "a.jpg 0 0 9 9 5 5 1 8 9 8\n", "b.jpg,1,2,3,4\n"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.sampled_from([read_bboxes, read_points]))
def test_any_file_of_hints_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: str, read: Callable[[str, Sequence[str], KnownNames], FloatArray]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content.encode(errors="surrogateescape"))
    try:
        found = read(str(path), ["a.jpg", "b.jpg"], NAMES)
    except InputError as error:
        assert str(error).startswith(str(path))
        assert len(str(error).splitlines()) == 1
    else:
        unknown = np.isnan(found).reshape(2, -1)
        assert (unknown.all(axis=1) | ~unknown.any(axis=1)).all()
