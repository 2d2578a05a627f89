"""Landmarks made elsewhere: tables, OpenFace's output and .pts files, tied to images by their names."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline import storage
from pipeline.errors import InputError
from pipeline.inputs.files_per_image import match_files
from pipeline.inputs.image_names import KnownNames
from pipeline.inputs.landmark_csv import read_landmark_csv
from pipeline.inputs.landmark_files import READERS, read_landmarks
from pipeline.inputs.landmark_reader import MAX_TEXT, LandmarkPath, landmark_path
from pipeline.inputs.openface import LANDMARK_COLUMNS
from regions.landmarks import FloatArray, five_points
from tests.faces import face
from tests.landmark_files import NOT_NUMBERS, SEQUENCE_COLUMNS, openface_csv, pts_file
from tests.pipeline.test_storage import OBJECTS

FACE = face()
OTHER = face(x=700, y=600, eye_distance=90)


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return a function that returns the messages to the user."""
    monkeypatch.setattr(logging.getLogger("attparse"), "propagate", True)
    caplog.set_level(logging.INFO, logger="attparse")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "attparse"]


def write(folder: Path, files: Mapping[str, str | bytes]) -> str:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder)


def read(
    paths: Sequence[str | Path],
    image_ids: list[str],
    *,
    boxes: Mapping[str, Sequence[float]] | None = None,
    points: Mapping[str, FloatArray] | None = None,
    label_ids: Sequence[str] | None = None,
) -> dict[str, FloatArray]:
    """Read landmarks with the hints of some images, by id; return those of each image that has some."""
    box_rows = np.full((len(image_ids), 4), np.nan, dtype=np.float32)
    point_rows = np.full((len(image_ids), 5, 2), np.nan, dtype=np.float32)
    for rows, hints in ((box_rows, boxes or {}), (point_rows, points or {})):
        for image_id, hint in hints.items():
            rows[image_ids.index(image_id)] = hint
    names = None if label_ids is None else KnownNames({image_id: row for row, image_id in enumerate(label_ids)})
    landmarks = read_landmarks([str(path) for path in paths], image_ids, box_rows, point_rows, names)
    assert landmarks.shape == (len(image_ids), 68, 2)
    assert landmarks.dtype == np.float32
    return {image_id: found for image_id, found in zip(image_ids, landmarks, strict=True) if not np.isnan(found).all()}


def error_of(path: Path | str, image_ids: Sequence[str] = ("a.jpg",)) -> str:
    with pytest.raises(InputError) as caught:
        read([path], list(image_ids))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def one_face(points: FloatArray = FACE, confidence: str = "0.980") -> str:
    return openface_csv([((0, confidence), points)])


def table_csv(rows: Iterable[tuple[str, FloatArray]]) -> str:
    lines = [",".join([image_id, *(f"{value:.3f}" for value in points.T.ravel())]) for image_id, points in rows]
    return "\n".join([",".join(["image_name", *LANDMARK_COLUMNS]), *lines]) + "\n"


def test_without_paths_there_is_no_room_for_landmarks() -> None:
    nothing = np.zeros((3, 4), np.float32), np.zeros((3, 5, 2), np.float32)
    assert read_landmarks([], ["a", "b", "c"], *nothing).shape == (3, 0, 2)


def test_a_table(tmp_path: Path, messages: Callable[[], list[str]]) -> None:
    content = table_csv([("b.jpg", FACE), ("sub/a.jpg", OTHER), ("unknown.jpg", FACE)])
    path = tmp_path / "landmarks.csv"
    path.write_text(content)
    found = read([path], ["a.jpg", "sub/a.jpg", "b.jpg"])
    assert list(found) == ["sub/a.jpg", "b.jpg"]
    np.testing.assert_allclose(found["b.jpg"], FACE, atol=1e-3)
    np.testing.assert_allclose(found["sub/a.jpg"], OTHER, atol=1e-3)
    assert messages() == [f"{path}: skipped 1 of 3 rows, no such image in the label file"]
    assert list(read_landmark_csv(str(path))) == ["b.jpg", "sub/a.jpg", "unknown.jpg"]


def test_celebas_text_layout_is_a_table_too(tmp_path: Path) -> None:
    rows = table_csv([("a.jpg", FACE)]).replace(",", " ").splitlines()
    path = tmp_path / "landmarks.txt"
    path.write_text("\n".join(["1", *rows]) + "\n")
    np.testing.assert_allclose(read([path], ["a.jpg"])["a.jpg"], FACE, atol=1e-3)


def test_a_table_of_other_images(tmp_path: Path) -> None:
    path = tmp_path / "landmarks.csv"
    path.write_text(table_csv([("images/a.jpg", FACE), ("images/b.jpg", FACE)]))
    message = "none of 2 rows matches an image of the label file: found 'images/a.jpg', expected names such as 'a.jpg'"
    assert error_of(path) == f"{path}: {message}"


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_a_row_of_a_table_without_a_number_leaves_the_face_unknown(
    tmp_path: Path, value: str, messages: Callable[[], list[str]]
) -> None:
    path = tmp_path / "landmarks.csv"
    lines = table_csv([("a.jpg", OTHER), ("b.jpg", FACE), ("c.jpg", FACE)]).splitlines()
    lines[1] = lines[1].rpartition(",")[0] + f",{value}"
    path.write_text("\n".join(lines))
    assert list(read([path], ["a.jpg", "b.jpg"], label_ids=["a.jpg", "b.jpg", "c.jpg"])) == ["b.jpg"]
    assert messages() == [f"{path}: 1 of 3 rows with coordinates that are blank or nan: no landmarks"]
    assert list(read_landmark_csv(str(path))) == ["b.jpg", "c.jpg"]


def test_a_pts_file_without_a_number_leaves_the_face_unknown(tmp_path: Path, messages: Callable[[], list[str]]) -> None:
    unknown = "\n".join([*pts_file(FACE, header=None).splitlines()[:67], "nan nan"])
    folder = write(tmp_path / "pts", {"a.pts": unknown, "b.pts": pts_file(FACE)})
    assert list(read([folder], ["a.jpg", "b.jpg"])) == ["b.jpg"]
    assert messages() == [f"{folder}: 1 of 2 files with coordinates that are blank or nan: no landmarks"]


def test_an_unknown_face_leaves_that_of_an_earlier_path(tmp_path: Path) -> None:
    known = write(tmp_path / "pts", {"a.pts": pts_file(FACE)})
    later = tmp_path / "later.csv"
    later.write_text(table_csv([("a.jpg", FACE * np.nan)]))
    np.testing.assert_allclose(read([known, later], ["a.jpg"])["a.jpg"], FACE, atol=1e-3)


@pytest.mark.parametrize(
    ("row_id", "image_ids", "found"),
    [
        ("A.JPG", ["a.jpg"], ["a.jpg"]),
        ("./sub\\a.jpg", ["sub/a.jpg"], ["sub/a.jpg"]),
        ("e\u0301.jpg", ["\u00e9.jpg"], ["\u00e9.jpg"]),
        ("a", ["a.jpg"], ["a.jpg"]),
        ("A.JPG", ["a.jpg", "a.JPG"], []),
    ],
)
def test_rows_whose_names_are_spelled_in_another_way(
    tmp_path: Path, row_id: str, image_ids: list[str], found: list[str]
) -> None:
    path = tmp_path / "landmarks.csv"
    path.write_text(table_csv([(row_id, FACE), ("other.jpg", OTHER)]))
    assert list(read([path], [*image_ids, "other.jpg"])) == [*found, "other.jpg"]


def test_a_file_that_is_too_large_for_the_landmarks_of_one_image(tmp_path: Path) -> None:
    with (tmp_path / "a.pts").open("wb") as stream:
        stream.truncate(20 << 30)
    assert error_of(tmp_path / "a.pts") == f"{tmp_path / 'a.pts'}: more than {MAX_TEXT} bytes"


def test_images_that_are_left_out_of_a_run_are_not_unknown(tmp_path: Path, messages: Callable[[], list[str]]) -> None:
    (tmp_path / "landmarks.csv").write_text(table_csv([("b.jpg", FACE)]))
    folder = write(tmp_path / "openface", {"b.csv": one_face(), "c.csv": "never read"})
    for path in (tmp_path / "landmarks.csv", folder):
        assert read([path], ["a.jpg"], label_ids=["a.jpg", "b.jpg", "c.jpg"]) == {}
    assert messages() == []


@pytest.mark.parametrize("header", ["id,x_0,y_0", "path;x_0", "\u00b2", "", "x_0,x_1", "timestamp,confidence"])
def test_a_header_of_neither_layout(tmp_path: Path, header: str) -> None:
    path = tmp_path / "landmarks.csv"
    path.write_text(f"{header}\na.jpg,1,2\n")
    message = error_of(path)
    assert message.startswith(f"{path}:1: {header!r}, expected ")
    assert "image_name, x_0 to x_67" in message
    assert "face, confidence" in message


def test_a_missing_path(tmp_path: Path) -> None:
    for name in ("absent.csv", "a.pts", "absent.pts", "absent"):
        assert error_of(tmp_path / name) == f"{tmp_path / name}: No such file or directory"


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", one_face()), ("a.CSV", one_face()), ("a.pts", pts_file(FACE)), ("a.PTS", pts_file(FACE, header=None))],
)
def test_a_file_or_its_folder(tmp_path: Path, name: str, content: str) -> None:
    folder = write(tmp_path / "files", {name: content})
    for path in (folder, f"{folder}/", f"{folder}/{name}"):
        found = read([path], ["b.jpg", "a.jpg"])
        assert list(found) == ["a.jpg"]
        np.testing.assert_allclose(found["a.jpg"], FACE, atol=0.0501)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", openface_csv([((0, "0.9"), FACE)], two_d=False), ":1: no column 'x_0', expected the 2-D landmarks"),
        ("a.csv", table_csv([("a.jpg", FACE)]), ":1: 'image_name,x_0,x_1,"),
        ("a.csv", "", ":1: '', expected the header of an OpenFace CSV file"),
        ("a.csv", b"\x89PNG\r\n\x1a\n", r":1: b'\x89', expected UTF-8 text"),
        ("a.csv", one_face().encode() + "1,fa\u00e7ade".encode("latin-1"), r":3: b'\xe7', expected UTF-8 text"),
        ("a.csv", one_face().encode("utf-16"), r":1: b'\xff', expected UTF-8 text"),
        ("a.pts", b"\xff\xd8\xff\xe0", r":1: b'\xff', expected UTF-8 text"),
        ("a.pts", pts_file(FACE).encode().replace(b"}", b"\xe7"), r":72: b'\xe7', expected UTF-8 text"),
        ("a.pts", pts_file(FACE[:67]), ":71: 67 points, expected 68"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes | str, message: str) -> None:
    folder = write(tmp_path / "files", {"0.csv" if name == "a.csv" else "0.pts": "of no image", name: content})
    assert error_of(folder).startswith(f"{folder}/{name}{message}")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    for name, content in {"a.csv": one_face(), "a.pts": pts_file(FACE)}.items():
        folder = write(tmp_path / name[2:], {name: "\ufeff" + content})
        assert list(read([folder], ["a.jpg"])) == list(read([f"{folder}/{name}"], ["a.jpg"])) == ["a.jpg"]


def test_other_output_of_openface_is_left_alone(tmp_path: Path, messages: Callable[[], list[str]]) -> None:
    others = dict.fromkeys(
        ["a_of_details.txt", "a.hog", "a.jpg", "a_aligned/face_det_000000.bmp", "._a.csv"], b"\xff\0"
    )
    folder = write(tmp_path / "openface", {"a.csv": one_face(), **others})
    assert list(read([folder], ["a.jpg"])) == ["a.jpg"]
    assert messages() == []


def test_hints_select_the_face_of_each_file(tmp_path: Path, messages: Callable[[], list[str]]) -> None:
    both = openface_csv([((0, "0.3"), FACE), ((1, "0.9"), OTHER)])
    folder = write(tmp_path / "openface", {f"{name}.csv": both for name in ("box", "points", "none", "neither")})
    found = read(
        [folder],
        ["none.jpg", "points.jpg", "box.jpg", "neither.jpg"],
        boxes={"box.jpg": [120, 160, 160, 190], "neither.jpg": [0, 0, 50, 50]},
        points={"points.jpg": five_points(FACE)},
    )
    assert list(found) == ["none.jpg", "points.jpg", "box.jpg"]
    for name, expected in (("none.jpg", OTHER), ("points.jpg", FACE), ("box.jpg", FACE)):
        np.testing.assert_allclose(found[name], expected, atol=0.0501)
    assert messages() == [
        f"{folder}: 0 files without a face, 1 without one that matches the five points or the face box;"
        " the detectors search these images"
    ]


def test_openface_found_no_face(tmp_path: Path, messages: Callable[[], list[str]]) -> None:
    failed = openface_csv([((1, 0, "0.000", "0.10", 0), FACE)], SEQUENCE_COLUMNS)
    files = {"a.csv": openface_csv([]), "b.csv": failed, "c.csv": one_face()}
    folder = write(tmp_path / "openface", files)
    assert list(read([folder], ["a.jpg", "b.jpg", "c.jpg"])) == ["c.jpg"]
    assert messages()[0].startswith(f"{folder}: 2 files without a face, 0 without one that matches")


def test_a_video_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    frames = [((number, 0, f"{number / 30:.3f}", "0.98", 1), FACE) for number in (1, 2)]
    content = openface_csv(frames, SEQUENCE_COLUMNS)
    for name in ("a.csv", "images.csv"):
        folder = write(tmp_path / name.replace(".", "_"), {name: content})
        message = error_of(folder)
        assert message.startswith(f"{folder}/{name}:3: frame '2' after frame '1'")
        assert "expected the output of FaceLandmarkImg" in message


@pytest.mark.parametrize(
    ("names", "image_ids", "expected"),
    [
        (["a.pts", "c.pts"], ["a.jpg", "b.jpg"], {"a.pts": "a.jpg"}),
        (["a.CSV"], ["a.JPEG"], {"a.CSV": "a.JPEG"}),
        (["a.b.csv"], ["a.b.jpg", "a.jpg"], {"a.b.csv": "a.b.jpg"}),
        (["a.csv"], ["x/y/a.jpg"], {"a.csv": "x/y/a.jpg"}),
        (["x/y/a.csv"], ["a.jpg"], {"x/y/a.csv": "a.jpg"}),
        (["p/a.csv", "q/b.csv"], ["x/a.jpg", "y/b.jpg"], {"p/a.csv": "x/a.jpg", "q/b.csv": "y/b.jpg"}),
        (["x/a.csv", "y/a.csv"], ["x/a.jpg", "y/a.jpg"], {"x/a.csv": "x/a.jpg", "y/a.csv": "y/a.jpg"}),
        (["a.csv", "x/a.csv"], ["a.jpg", "x/a.jpg"], {"a.csv": "a.jpg", "x/a.csv": "x/a.jpg"}),
        (["a.csv", "x/b.csv"], ["y/a.jpg", "x/b.jpg"], {"a.csv": "y/a.jpg", "x/b.csv": "x/b.jpg"}),
        (["x/a.csv", "z/a.csv", "z/b.csv"], ["x/a.jpg", "y/b.jpg"], {"x/a.csv": "x/a.jpg"}),
        (["b.csv"], ["a.jpg", "a.png", "b.jpg"], {"b.csv": "b.jpg"}),
        (["a.csv"], ["A.jpg"], {"a.csv": "A.jpg"}),
        (["x/a.csv", "Y/B.csv"], ["x/a.jpg", "y/b.jpg"], {"x/a.csv": "x/a.jpg", "Y/B.csv": "y/b.jpg"}),
        (["a.csv"], ["A.jpg", "x/a.jpg"], {"a.csv": "x/a.jpg"}),
        (["\u00e9.pts"], ["e\u0301.jpg"], {"\u00e9.pts": "e\u0301.jpg"}),
        (["a.csv", "A.csv"], ["A.jpg"], {"A.csv": "A.jpg"}),
        (["a.csv", "A.csv"], ["\u00c1.jpg"], {}),
        (["größe 顔.csv"], ["größe 顔.jpg"], {"größe 顔.csv": "größe 顔.jpg"}),
        (["a.csv"], ["a"], {"a.csv": "a"}),
    ],
)
def test_matching(names: list[str], image_ids: list[str], expected: dict[str, str]) -> None:
    assert match_files("f", names, image_ids) == expected


@pytest.mark.parametrize(
    ("names", "image_ids", "message"),
    [
        (
            ["a.csv"],
            ["a.jpg", "a.png"],
            "f/a.csv: matches the images 'a.jpg' and 'a.png', expected one image of this name",
        ),
        (["x/a.csv"], ["x/a.jpg", "x/a.png"], "f/x/a.csv: matches the images 'x/a.jpg' and 'x/a.png', expected one"),
        (["a.csv"], ["x/a.jpg", "y/a.jpg"], "f/a.csv: matches the images 'x/a.jpg' and 'y/a.jpg', expected one"),
        (
            ["p/a.csv", "q/a.csv"],
            ["a.jpg"],
            "f/q/a.csv: second file of image 'a.jpg' (first is 'p/a.csv'), expected one",
        ),
        (["a.csv", "q/a.csv"], ["a.jpg"], "f/q/a.csv: second file of image 'a.jpg' (first is 'a.csv'), expected one"),
        (["a.csv", "a.CSV"], ["a.jpg"], "f/a.CSV: second file of image 'a.jpg' (first is 'a.csv'), expected one"),
    ],
)
def test_matches_that_are_not_unique(names: list[str], image_ids: list[str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        match_files("f", names, image_ids)


def test_files_of_no_image(tmp_path: Path, messages: Callable[[], list[str]]) -> None:
    folder = write(tmp_path / "pts", {"x/a.pts": pts_file(FACE), "b.pts": "never read", "c.pts": "never read"})
    assert list(read([folder], ["x/a.jpg", "d.jpg"])) == ["x/a.jpg"]
    assert messages() == [f"{folder}: skipped 2 of 3 files, no such image in the label file"]
    (tmp_path / "pts" / "b.pts").write_text(pts_file(FACE))
    assert error_of(folder, ["e.jpg"]) == (
        f"{folder}: none of 3 files matches an image of the label file: found 'b.pts', expected names such as 'e.jpg'"
    )


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((), "0 .pts files and 0 .csv files"),
        (("a.jpg", "notes.txt", ".a.csv"), "0 .pts files and 0 .csv files"),
        (("a.csv", "sub/a.pts", "sub/b.pts"), "2 .pts files and 1 .csv file"),
    ],
)
def test_folders_of_neither_or_both_kinds(tmp_path: Path, names: tuple[str, ...], found: str) -> None:
    (tmp_path / "mixed").mkdir()
    folder = write(tmp_path / "mixed", dict.fromkeys(names, "x"))
    assert error_of(folder) == (
        f"{folder}: {found}, expected one of these for each image: .pts files with 68 points or CSV files of OpenFace"
        " (face, confidence, ... x_0 to x_67, y_0 to y_67)"
    )


def test_images_beside_the_files_are_ignored(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {"helen/a.pts": pts_file(FACE), "helen/a.jpg": b"\xff\xd8", "helen/b.PTS": pts_file(OTHER)}
    )
    assert list(read([folder], ["helen/a.jpg", "helen/b.jpg"])) == ["helen/a.jpg", "helen/b.jpg"]


def test_the_later_path_counts_where_it_has_landmarks(tmp_path: Path) -> None:
    pts = write(tmp_path / "pts", {f"{name}.pts": pts_file(FACE) for name in "abc"})
    openface = write(
        tmp_path / "openface", {"a.csv": one_face(OTHER), "b.csv": openface_csv([]), "c.csv": one_face(OTHER)}
    )
    ids = ["a.jpg", "b.jpg", "c.jpg"]
    hints = {"c.jpg": five_points(FACE)}
    found = read([pts, openface], ids, points=hints)
    for name, expected in (("a.jpg", OTHER), ("b.jpg", FACE), ("c.jpg", FACE)):
        np.testing.assert_allclose(found[name], expected, atol=0.0501)
    np.testing.assert_allclose(read([openface, pts], ids, points=hints)["a.jpg"], FACE, atol=0.0501)


def test_more_files_than_are_read_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = {f"{i:04d}": face(x=100 + i) for i in range(600)}
    folder = write(tmp_path / "pts", {f"{name[:2]}/{name}.pts": pts_file(points) for name, points in faces.items()})
    found = read([folder], [f"{name}.jpg" for name in faces])
    assert len(found) == 600
    for name, points in faces.items():
        np.testing.assert_allclose(found[f"{name}.jpg"], points, atol=1e-4)
    assert "landmarks: 100%" in capsys.readouterr().err


def test_remote_files_and_folders() -> None:
    OBJECTS.clear()
    for path, content in {
        "openface/sub/a.csv": one_face(),
        "pts/a.pts": pts_file(OTHER),
        "landmarks.csv": table_csv([("a.jpg", FACE)]),
        "openface/b.csv": "never read",
    }.items():
        storage.write_bytes(f"dict://bucket/{path}", content.encode())
    for path, expected in {
        "openface": FACE,
        "openface/sub/a.csv": FACE,
        "pts": OTHER,
        "pts/a.pts": OTHER,
        "landmarks.csv": FACE,
    }.items():
        np.testing.assert_allclose(read([f"dict://bucket/{path}"], ["a.jpg"])["a.jpg"], expected, atol=0.0501)
    assert error_of("dict://bucket/absent").startswith("dict://bucket/absent: 0 .pts files and 0 .csv files, expected")
    OBJECTS["dict://bucket/pts/"] = b""  # what some stores keep for a folder
    assert list(read(["dict://bucket/pts/"], ["a.jpg"])) == ["a.jpg"]
    assert error_of("unheard-of://bucket/a.csv").startswith("unheard-of://bucket/a.csv: can't be read: ")
    OBJECTS["dict://bucket/pts_forbidden"] = b""
    assert error_of("dict://bucket/pts_forbidden") == "dict://bucket/pts_forbidden: can't be read: 403 no access"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("run/manifest/train-000000.parquet", b"PAR1", "FormerRunReader"),
        ("manifest/train-000000.parquet", b"PAR1", "FormerRunReader"),
        ("files/sub/a.PTS", b"\xff", "PtsReader"),
        ("files/sub/a.CSV", b"\xff", "OpenFaceReader"),
    ],
)
def test_the_format_of_a_folder_is_recognized_by_its_names(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    folder = write(tmp_path, {name: content, f"{name.partition('/')[0]}/notes.txt": "no landmarks"})
    path = landmark_path(f"{folder}/{name.partition('/')[0]}")
    assert recognized_by(path)[0] == kind
    assert path.header == ""


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("train-000000.parquet", None, "FormerRunReader"),
        ("a.pts", None, "PtsReader"),
        ("a.txt", one_face(), "OpenFaceReader"),
        ("a.csv", openface_csv([], SEQUENCE_COLUMNS), "OpenFaceReader"),
        ("a.csv", "image_name,x_0\n", "CsvReader"),
        ("a.txt", "202599\n", "CsvReader"),
    ],
)
def test_the_format_of_a_file_is_recognized_by_its_name_or_header(
    tmp_path: Path, name: str, content: str | None, kind: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
        assert recognized_by(landmark_path(str(tmp_path / name))) == [kind]
    else:  # by its name: the file is not even opened
        assert recognized_by(landmark_path(str(tmp_path / name)), at_most=1) == [kind]


def recognized_by(path: LandmarkPath, at_most: int | None = None) -> list[str]:
    """Return the names of the readers that recognize a path, in the order in which they are asked."""
    matching = (type(reader).__name__ for reader in READERS if reader.recognizes(path))
    return list(itertools.islice(matching, at_most))


def test_the_manifests_of_a_run_win_over_other_files_beside_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", {"manifest/train-000000.parquet": b"no", "hand.csv": one_face(), "a.pts": "x"})
    assert error_of(folder).startswith(f"{folder}/manifest/train-000000.parquet: ")


@pytest.mark.parametrize(("hint", "scale", "warned"), [("points", 0.5, True), ("box", 0.5, True), ("points", 1, False)])
def test_landmarks_that_contradict_the_hints_are_told(
    tmp_path: Path, messages: Callable[[], list[str]], hint: str, scale: float, warned: bool
) -> None:
    """Hand labels may correct a hint; landmarks of another image size contradict all of them."""
    table = table_csv([("a.jpg", FACE * scale), ("b.jpg", FACE * scale)])
    path = f"{write(tmp_path, {'landmarks.csv': table})}/landmarks.csv"
    low, high = FACE.min(axis=0), FACE.max(axis=0)
    bboxes = np.array([[*low, *(high - low)]] * 2) if hint == "box" else np.full((2, 4), np.nan)
    points = np.array([five_points(FACE)] * 2) if hint == "points" else np.full((2, 5, 2), np.nan)
    landmarks = read_landmarks([path], ["a.jpg", "b.jpg"], bboxes, points)
    np.testing.assert_allclose(landmarks, [FACE * scale] * 2, atol=0.01)
    expected = {f"{path}: in 2 of 2 images with hints"} if warned else set()
    assert {message.partition(",")[0] for message in messages()} == expected
