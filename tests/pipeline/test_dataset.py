"""Reading a data set: labels, splits, hints and the folder of images, and what becomes of odd ids."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import storage
from pipeline.config import RunConfig
from pipeline.errors import InputError
from pipeline.inputs import dataset
from pipeline.inputs.image_ids import sample_keys
from pipeline.inputs.openface import LANDMARK_COLUMNS
from pipeline.records import Dataset
from pipeline.vocabulary import RejectReason
from regions.label_file import UNKNOWN
from regions.landmarks import five_points
from tests.faces import face
from tests.landmark_files import openface_csv


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder to write text files to, with an empty folder for the images."""
    (tmp_path / "images").mkdir()
    return tmp_path


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def labels_of(folder: Path, image_ids: Sequence[str], values: str = "1 -1") -> str:
    rows = [f"{image_id} {values}" for image_id in image_ids]
    return write(folder, "labels.txt", "\n".join([str(len(rows)), "Smiling Young", *rows]) + "\n")


def csv_labels_of(folder: Path, image_ids: Sequence[str]) -> str:
    quoted = ['"' + image_id.replace('"', '""') + '"' for image_id in image_ids]
    return write(folder, "labels.csv", "\n".join(["image_id,Smiling", *(f"{name},1" for name in quoted)]) + "\n")


def add_images(folder: Path, *names: str, content: bytes = b"pixels") -> None:
    for name in names:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read(folder: Path, labels: str, **options: Any) -> Dataset:
    config = RunConfig(images=str(folder / "images"), labels=labels, output="", **options)
    return dataset.read_dataset(config)


def reasons(dataset: Dataset) -> dict[str, RejectReason | None]:
    return dict(zip(dataset.images.image_ids, dataset.images.reasons, strict=True))


POINT_NAMES = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
)
LABEL = "-1 or 1, 0 or 1, True or False, or nothing where it is unknown"


@pytest.mark.parametrize(
    "content",
    [
        "2\nA B\na.jpg 1 -1\nb.jpg -1 1\n",
        "2\nimage_id A B\na.jpg 1 -1\nb.jpg -1 1\n",
        "2\nA B\na.jpg 1 0\nb.jpg 0 1\n",
        "\ufeff2\r\nA B\r\na.jpg  1 -1\r\nb.jpg -1  1\r\n\r\n",
        "image_id,A,B\na.jpg,1,-1\nb.jpg,-1,1\n",
        "image_id,A,B\r\na.jpg,1,0\r\nb.jpg,0,1\r\n",
        'image_id, A, B\n"a.jpg", 1,-1 \nb.jpg,-1.0,1.0\n',
    ],
)
def test_labels_of_both_layouts(folder: Path, content: str) -> None:
    labels = dataset.read_labels(write(folder, "labels", content))
    assert labels.names == ("A", "B")
    assert labels.image_ids == ["a.jpg", "b.jpg"]
    assert labels.values.dtype == np.int8
    assert labels.values.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("image_id,A,B\na.jpg,1,-1\nb.jpg,0,0\n", ["labels: 2 of 4 labels unknown: empty, or 0 in a file of -1 and 1"]),
        ("image_id,A,B\na.jpg,1,\nb.jpg,0,0\n", ["labels: 1 of 4 labels unknown: empty, or 0 in a file of -1 and 1"]),
        ("image_id,A,B\na.jpg,1,0\nb.jpg,0,0\n", []),
    ],
)
def test_unknown_labels_are_counted(
    folder: Path,
    content: str,
    expected: Sequence[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dataset.log, "propagate", True)
    caplog.set_level("INFO", logger="attparse")
    dataset.read_labels(write(folder, "labels", content))
    messages = {record.getMessage() for record in caplog.records if record.name == dataset.log.name}
    assert {message.removeprefix(f"{folder}{os.sep}") for message in messages} == set(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\nA B\na.jpg 1 2\n", f":3: attribute 'B' is '2', expected {LABEL}"),
        ("1\nA B\na.jpg yes 1\n", f":3: attribute 'A' is 'yes', expected {LABEL}"),
        ("image_id,A\na.jpg,nan\n", f":2: attribute 'A' is 'nan', expected {LABEL}"),
        ("image_id,A,B\na.jpg, 1,x\n", f":2: attribute 'B' is 'x', expected {LABEL}"),
        ("2\nA\na.jpg 1\na.jpg 1\n", ":4: duplicate row for image 'a.jpg' (first seen in line 3)"),
        ("image_id,A\na.jpg,1\nb.jpg,1\nb.jpg,0\n", ":4: duplicate row for image 'b.jpg' (first seen in line 3)"),
        ("1\nA B A\na.jpg 1 1 1\n", ":2: duplicate attribute name 'A'"),
        ("0\nA B\n", ":2: no rows after the header, expected one per image"),
        ("image_id,A,B\n", ":1: no rows after the header, expected one per image"),
        ("2\nA B\na.jpg 1 1\n", ":1: 1 row in the file, expected 2 as in line 1"),
        ("", ":1: empty, expected CelebA's text layout or CSV"),
    ],
)
def test_bad_label_files(folder: Path, content: str, message: str) -> None:
    path = write(folder, "labels", content)
    with pytest.raises(InputError) as caught:
        dataset.read_labels(path)
    assert str(caught.value) == path + message


PIECES = [*'21-0AB, \n\r\t"é\u00b2\0\udcff', "-1", "image_id", "a.jpg", "b c.jpg", "\r\n", "2\nA B\n", "image_id,A,B\n"]


@settings(deadline=None)
@given(
    st.binary(max_size=60)
    | st.lists(
        st.sampled_from(PIECES),
        max_size=25,
    )
)
def test_any_label_file_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | list[str]
) -> None:
    if isinstance(content, list):
        content = "".join(content).encode(errors="surrogateescape")
    path = write(tmp_path_factory.getbasetemp(), "any", content)
    try:
        labels = dataset.read_labels(path)
    except InputError as error:
        assert str(error).startswith(path)
        assert len(str(error).splitlines()) == 1
    else:
        assert labels.values.shape == (len(labels.image_ids), len(labels.names))


def test_a_data_set_as_celeba_has_it(folder: Path) -> None:
    names = ["1.jpg", "2.jpg", "3.jpg"]
    add_images(folder, "2.jpg", "3.jpg")
    add_images(folder, "1.jpg", content=b"more pixels")
    dataset = read(
        folder,
        labels_of(folder, names),
        partition=write(folder, "partition", "3.jpg 2\n1.jpg 0\n2.jpg 1\n9.jpg 0\n"),
        bboxes=write(folder, "boxes", "2\nimage_id x_1 y_1 width height\n1.jpg 5 6 70 80\n2.jpg 1 1 0 0\n"),
        points=write(folder, "points", f"1\n{POINT_NAMES}\n3.jpg 1 2 3 4 5 6 7 8 9 10\n"),
    )
    rows = list(dataset.images.rows())
    assert dataset.attribute_names == ("Smiling", "Young")
    assert dataset.images.image_ids == names
    assert dataset.images.keys == ["1", "2", "3"]
    assert dataset.images.reasons == [None, None, None]
    assert dataset.images.splits.tolist() == [0, 1, 2]
    assert dataset.images.sizes.tolist() == [11, 6, 6]
    assert dataset.images.labels.tolist() == [[1, 0]] * 3
    assert rows[0].bbox is not None and rows[0].bbox.tolist() == [5, 6, 70, 80]
    assert rows[1].bbox is None
    assert rows[2].bbox is None
    assert rows[0].points is None
    assert rows[2].points is not None and rows[2].points.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert [row.landmarks for row in rows] == [None, None, None]
    assert dataset.skipped == 0


@pytest.mark.parametrize(
    "content",
    [
        "a.jpg 0\nb.jpg 1\nc.jpg 2\n",
        "a.jpg 0\r\nb.jpg 1\r\nc.jpg 2\r\n\r\n",
        "image_id,partition\na.jpg,0\nb.jpg,1\nc.jpg,2\n",
        "image_id,partition\na.jpg,train\nb.jpg,valid\nc.jpg,test\n",
        "c.jpg test\nb.jpg val\na.jpg train\n",
        "b.jpg validation\na.jpg train\nc.jpg test\n",
        "a.jpg Train\nb.jpg VAL\nc.jpg Test\n",
        "a.jpg training\nb.jpg Validation\nc.jpg testing\n",
        "a.jpg 0.0\nb.jpg 1.0\nc.jpg 2.00\n",
        "image_id,partition\na.jpg, 0. \nb.jpg,+1\nc.jpg,2\n",
        "image_id,identity,Partition\na.jpg,2,0\nb.jpg,2,1\nc.jpg,1,2\n",
        "3\nidentity split\na.jpg 9 train\nb.jpg 9 val\nc.jpg 9 test\n",
    ],
)
def test_partition(folder: Path, content: str) -> None:
    add_images(folder, "a.jpg", "b.jpg", "c.jpg", "unlabelled.jpg")
    labels = labels_of(folder, ["a.jpg", "b.jpg", "c.jpg"])
    dataset = read(folder, labels, partition=write(folder, "partition", content))
    assert dataset.images.splits.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.jpg 3\n", ":1: split '3', expected 0, 1, 2 or train, val, test"),
        ("image_id,partition\na.jpg,dev\n", ":2: split 'dev', expected 0, 1, 2 or train, val, test"),
        ("a.jpg 1.5\n", ":1: split '1.5', expected 0, 1, 2 or train, val, test"),
        ("a.jpg 0.03\n", ":1: split '0.03', expected 0, 1, 2 or train, val, test"),
        (
            "image_id,identity,fold\na.jpg,1,2\n",
            ":1: columns 'identity fold', expected one column of splits, or one named partition, split, set, subset",
        ),
        ("b.jpg 0\n", ": no row for image 'a.jpg', expected one for each image of the label file"),
        ("a.jpg 0\na.jpg 1\n", ":2: duplicate row for image 'a.jpg' (first seen in line 1)"),
        ("a.jpg\n", ":1: 0 values, expected an image id and 1 value"),
        ("", ":1: empty, expected CelebA's text layout or CSV"),
    ],
)
def test_bad_partitions(folder: Path, content: str, message: str) -> None:
    add_images(folder, "a.jpg")
    path = write(folder, "partition", content)
    with pytest.raises(InputError) as caught:
        read(folder, labels_of(folder, ["a.jpg"]), partition=path)
    assert str(caught.value) == path + message


@pytest.mark.parametrize("option", ["bboxes", "points"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg {zeros} x", ":3: 'x', expected a number"),
        ("a.jpg {zeros} 1e10", ":3: '1e10', expected a number of at most 1e+09"),
        ("a.jpg nan {zeros}x", "x', expected a number"),
        ("a.jpg {zeros}", ", expected an image id and"),
        ("a.jpg {zeros} 1\na.jpg {zeros} 1", ":4: duplicate row for image 'a.jpg'"),
    ],
)
def test_bad_boxes_and_points(folder: Path, option: str, line: str, message: str) -> None:
    add_images(folder, "a.jpg")
    names = {"bboxes": "x y w h", "points": POINT_NAMES}[option]
    lines = line.replace("{zeros}", " ".join("0" * (len(names.split()) - 1))).split("\n")
    path = write(folder, "numbers", "\n".join([str(len(lines)), names, *lines]))
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read(folder, labels_of(folder, ["a.jpg"]), **{option: path})
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("bboxes", "2 values per row, expected 4: face boxes (x, y, width, height)"),
        ("points", "2 values per row, expected 10: five points (x, y each)"),
    ],
)
def test_boxes_and_points_of_another_kind(folder: Path, option: str, message: str) -> None:
    add_images(folder, "a.jpg")
    path = write(folder, "numbers", "image_id,x,y\na.jpg,1,2\n")
    with pytest.raises(InputError, match=re.escape(message)):
        read(folder, labels_of(folder, ["a.jpg"]), **{option: path})


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 9), (9, 0), (-5, 9), (9, -5)])
def test_a_box_without_area_is_no_hint(folder: Path, width: int, height: int) -> None:
    add_images(folder, "a.jpg")
    path = write(folder, "boxes", f"image_id,x,y,width,height\na.jpg,1,2,{width},{height}\n")
    (row,) = read(folder, labels_of(folder, ["a.jpg"]), bboxes=path).images.rows()
    assert row.bbox is None


def landmarks_csv(folder: Path, name: str, rows: Iterable[tuple[str, Iterable[object]]]) -> str:
    lines = [f"{image_id}," + ",".join(str(value) for value in values) for image_id, values in rows]
    return write(folder, name, "\n".join(["image_name," + ",".join(LANDMARK_COLUMNS), *lines]))


def test_given_landmarks(folder: Path) -> None:
    add_images(folder, "a.jpg", "b.jpg", "c.jpg")
    former = landmarks_csv(folder, "one.csv", [("a.jpg", range(136)), ("b.jpg", range(136))])
    later = landmarks_csv(folder, "two.csv", [("b.jpg", range(1, 137)), ("other.jpg", range(136))])
    labels = labels_of(folder, ["a.jpg", "b.jpg", "c.jpg"])
    a, b, c = read(folder, labels, landmarks=(former, later)).images.rows()
    assert a.landmarks is not None and b.landmarks is not None
    assert a.landmarks.shape == (68, 2)
    assert a.landmarks[:2].tolist() == [[0, 68], [1, 69]]
    assert b.landmarks[:2].tolist() == [[1, 69], [2, 70]]
    assert c.landmarks is None


def test_the_hints_choose_among_the_faces_of_openface(folder: Path) -> None:
    add_images(folder, "a.jpg")
    (folder / "openface").mkdir()
    write(folder / "openface", "a.csv", openface_csv([((0, "0.4"), face()), ((1, "0.9"), face(x=900))]))
    values = " ".join(f"{value:.0f}" for value in five_points(face()).ravel())
    points = write(folder, "points", f"1\n{POINT_NAMES}\na.jpg {values}\n")
    options = {"landmarks": (str(folder / "openface"),), "points": points}
    (row,) = read(folder, labels_of(folder, ["a.jpg"]), **options).images.rows()
    assert row.landmarks is not None
    np.testing.assert_allclose(row.landmarks, face(), atol=0.0501)


@pytest.mark.parametrize("options", [{"limit": 1}, {"skip_missing": True}])
def test_landmarks_of_label_rows_that_are_left_out(folder: Path, options: dict[str, Any]) -> None:
    add_images(folder, "a.jpg")
    path = landmarks_csv(folder, "b.csv", [("b.jpg", range(136))])
    (row,) = read(folder, labels_of(folder, ["a.jpg", "b.jpg"]), landmarks=(path,), **options).images.rows()
    assert (row.image_id, row.landmarks) == ("a.jpg", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image_name,x_0\na.jpg,1\n", ":1: no column 'x_1', expected image_name, x_0 to x_67, y_0 to y_67"),
        ("image_name," + ",".join(LANDMARK_COLUMNS) + "\na.jpg" + ",1" * 135 + ",?\n", ":2: '?', expected a number"),
        ("image_name," + ",".join(LANDMARK_COLUMNS) + "\na.jpg" + ",1" * 135 + "\n", ":2: 136 columns, expected 137"),
        ("image_name," + ",".join(LANDMARK_COLUMNS) + "\na.jpg" + ",1" * 135 + ",1e308\n", ":2: '1e308', expected a"),
        ("image_name," + ",".join(LANDMARK_COLUMNS) + "\na.jpg" + ",nan" * 135 + ",?\n", ":2: '?', expected a number"),
    ],
)
def test_bad_landmark_files(folder: Path, content: str, message: str) -> None:
    add_images(folder, "a.jpg")
    path = write(folder, "landmarks.csv", content)
    with pytest.raises(InputError, match=re.escape(path + message)):
        read(folder, labels_of(folder, ["a.jpg"]), landmarks=(path,))


def test_missing_and_unlabelled_images(folder: Path) -> None:
    add_images(folder, "b.jpg", "z.jpg", "c.PNG", "notes.txt", "sub/a.jpeg")
    dataset = read(folder, labels_of(folder, ["y.jpg", "b.jpg"]))
    assert list(reasons(dataset).items()) == [
        ("y.jpg", "missing"),
        ("b.jpg", None),
        ("c.PNG", "unlabelled"),
        ("sub/a.jpeg", "unlabelled"),
        ("z.jpg", "unlabelled"),
    ]
    assert dataset.images.labels.tolist() == [[1, 0]] * 2 + [[UNKNOWN, UNKNOWN]] * 3
    assert dataset.images.labels.dtype == np.int8
    assert dataset.images.sizes.tolist()[:2] == [-1, 6]


def test_skip_missing(folder: Path) -> None:
    add_images(folder, "b.jpg", "z.jpg")
    labels = labels_of(folder, ["y.jpg", "b.jpg", "../x.jpg", "w.jpg"])
    dataset = read(folder, labels, skip_missing=True)
    assert reasons(dataset) == {"b.jpg": None, "../x.jpg": "unsafe_id", "z.jpg": "unlabelled"}
    assert dataset.skipped == 2


def test_skip_unlabelled(folder: Path) -> None:
    add_images(folder, "b.jpg", "z.jpg")
    dataset = read(folder, labels_of(folder, ["y.jpg", "b.jpg"]), skip_unlabelled=True)
    assert reasons(dataset) == {"y.jpg": "missing", "b.jpg": None}


@pytest.mark.parametrize("options", [{}, {"skip_missing": True}, {"limit": 1}])
def test_a_label_file_of_other_images_is_refused(folder: Path, options: dict[str, Any]) -> None:
    add_images(folder, "inner/000001.jpg", "inner/000002.jpg", "notes.txt")
    labels = labels_of(folder, ["000001.jpg", "000002.jpg", "../inner/000001.jpg", "notes.tx"])
    with pytest.raises(InputError) as caught:
        read(folder, labels, **options)
    assert str(caught.value) == (
        f"{labels}: none of 4 image ids is a file in {folder / 'images'}:"
        " found '000001.jpg', expected names such as 'inner/000001.jpg'"
    )


def test_skip_missing_where_no_row_is_left(folder: Path) -> None:
    add_images(folder, "b.jpg", "c.jpg")
    dataset = read(folder, labels_of(folder, ["b.jpg", "a.jpg"]), skip_missing=True, limit=0)
    assert dataset.images.labels.shape == (0, 2)
    assert dataset.skipped == 1


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, ["a.jpg"]), (2, ["a.jpg", "b.jpg"]), (9, ["a.jpg", "b.jpg", "c.jpg"])]
)
def test_limit_takes_the_first_rows_and_no_unlabelled_image(folder: Path, limit: int, expected: list[str]) -> None:
    add_images(folder, "a.jpg", "b.jpg", "c.jpg", "unlabelled.jpg")
    partition = write(folder, "partition", "".join(f"{name} 0\n" for name in expected))
    dataset = read(folder, labels_of(folder, ["a.jpg", "b.jpg", "c.jpg"]), limit=limit, partition=partition)
    assert dataset.images.image_ids == expected


UNSAFE_IDS = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "a/../b.jpg",
    "./a.jpg",
    "a//b.jpg",
    "a/",
    "..",
    "",
    "gs://x/y",
    "file:///etc/passwd",
    "..\\..\\x",
    "C:\\x.jpg",
    "a\nb.jpg",
    "a\x1b[2J.jpg",
    "a\u202egpj.exe",
]


def test_unsafe_ids_are_rejected_and_never_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_images(folder, "safe.jpg")
    labels = csv_labels_of(folder, [*UNSAFE_IDS, "safe.jpg"])
    opened = []
    open_read = storage.open_read

    def note(path: str) -> IO[bytes]:
        opened.append(path)
        return open_read(path)

    monkeypatch.setattr(storage, "open_read", note)
    dataset = read(folder, labels)
    assert reasons(dataset) == {**dict.fromkeys(UNSAFE_IDS, "unsafe_id"), "safe.jpg": None}
    assert opened == [labels]
    assert all(re.fullmatch("[A-Za-z0-9_-]+", key) for key in dataset.images.keys)


@pytest.mark.parametrize(
    ("image_id", "key"),
    [
        ("sub/folder/a.jpg", "sub_folder_a"),
        ("A.JPG", "A"),
        ("a.b.Jpeg", "a_b"),
        ("my photo.png", "my_photo"),
        ("mit, komma.webp", "mit__komma"),
        ("größe.TIFF", "gr__e"),
        ("...jpg", "__"),
        ("-rf.jpg", "-rf"),
    ],
)
def test_safe_ids(folder: Path, image_id: str, key: str) -> None:
    add_images(folder, image_id)
    dataset = read(folder, csv_labels_of(folder, [image_id]))
    assert reasons(dataset) == {image_id: None}
    assert dataset.images.keys == [key]


def test_file_names_that_are_not_utf8_are_listed(folder: Path) -> None:
    try:
        (folder / "images" / os.fsdecode(b"fa\xe7ade.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    add_images(folder, "a.jpg")
    dataset = read(folder, labels_of(folder, ["a.jpg"]))
    assert reasons(dataset) == {"a.jpg": None, "fa\\xe7ade.jpg": "unlabelled"}


@pytest.mark.parametrize(
    "pair", [("a.jpg", "a.png"), ("x y.jpg", "x_y.jpg"), ("a/b.jpg", "a_b.jpg"), ("é.jpg", "顔.jpg")]
)
def test_two_ids_of_one_key(pair: tuple[str, str]) -> None:
    keys = sample_keys([*pair, "other.jpg"])
    stem = re.sub("[^a-z]", "_", pair[0].rpartition(".")[0])
    assert keys[0] != keys[1]
    assert all(re.fullmatch(stem + "-[0-9a-f]{16}", key) for key in keys[:2])
    assert keys[2] == "other"


def test_a_key_does_not_depend_on_the_order() -> None:
    image_ids = ["a.jpg", "b.jpg", "a.png"]
    forward, backward = sample_keys(image_ids), sample_keys(image_ids[::-1])
    assert forward == backward[::-1]


def test_an_id_that_looks_like_another_ones_key() -> None:
    first, second = sample_keys(["a.jpg", "a.png"])
    assert len(set(sample_keys(["a.jpg", "a.png", f"{first}.jpg", f"{second}.jpg"]))) == 4


def test_very_long_ids() -> None:
    keys = sample_keys(["x" * 5000 + ".jpg", "x" * 5000 + "y.jpg", "x" * 72 + ".jpg"])
    assert len(set(keys)) == 3
    assert max(map(len, keys)) <= 90
    assert keys[2] == "x" * 72


ids = (
    st.text(st.characters(codec="utf-8"), max_size=12)
    | st.text("ab. _/é", max_size=6)
    | st.text("a", min_size=60, max_size=120)
)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(ids, unique=True, max_size=30))
def test_keys_are_unique_plain_and_short(image_ids: list[str]) -> None:
    keys = sample_keys(image_ids)
    assert len(set(keys)) == len(image_ids)
    for key in keys:
        assert re.fullmatch("[A-Za-z0-9_-]+", key)
        assert len(f"{key}.masks.png") <= 100


def test_many_ids_of_one_key() -> None:
    image_ids = [f"{chr(0x4E00 + i // 500)}{chr(0x4E00 + i % 500)}.jpg" for i in range(100_000)]
    assert len(set(sample_keys(image_ids))) == len(image_ids)


def test_an_empty_a_missing_and_an_unreadable_image_folder(folder: Path) -> None:
    labels = labels_of(folder, ["a.jpg"])
    with pytest.raises(InputError, match=r"images: no image files, expected names ending in \.jpg"):
        read(folder, labels)
    write(folder / "images", "notes.txt", "no image")
    with pytest.raises(InputError, match="images: no image files"):
        read(folder, labels)
    (folder / "images" / "notes.txt").unlink()
    (folder / "images").rmdir()
    with pytest.raises(InputError, match="images: no such folder"):
        read(folder, labels)
    write(folder, "images", "a file")
    with pytest.raises(InputError, match="images: no such folder"):
        read(folder, labels)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any folder")
def test_an_unreadable_image_folder(folder: Path) -> None:
    add_images(folder, "sub/a.jpg")
    (folder / "images" / "sub").chmod(0)
    try:
        with pytest.raises(InputError, match="sub: Permission denied"):
            read(folder, labels_of(folder, ["sub/a.jpg"]))
    finally:
        (folder / "images" / "sub").chmod(0o700)


READ_AND_MEASURE = """
import re, sys, time
from pathlib import Path
from pipeline.inputs.dataset import read_labels
start = time.process_time()
labels = read_labels(sys.argv[1])
seconds = time.process_time() - start
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(labels.values.shape[0], labels.values.shape[1], seconds, int(peak[1]) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_celebas_label_file_is_read_in_seconds_and_little_memory(folder: Path) -> None:
    values = np.where(np.random.default_rng(0).random((1000, 40)) < 0.5, " 1", "-1")
    lines = [" ".join(row) for row in values.tolist()]
    rows = [f"{i:06d}.jpg {lines[i % 1000]}" for i in range(1, 202_600)]
    path = write(folder, "labels.txt", "\n".join(["202599", " ".join(f"A{i}" for i in range(40)), *rows]))
    command = [sys.executable, "-W", "ignore", "-c", READ_AND_MEASURE, path]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    num_rows, num_attributes, seconds, megabytes = map(float, output.split())
    assert (num_rows, num_attributes) == (202_599, 40)
    assert seconds < 6
    assert megabytes < 400
