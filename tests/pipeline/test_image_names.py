"""Names of images that are spelled in another way than their files, in every file of a data set."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.inputs.image_names import known_spellings
from pipeline.vocabulary import RejectReason
from tests.faces import face
from tests.pipeline.test_dataset import (
    POINT_NAMES,
    add_images,
    csv_labels_of,
    landmarks_csv,
    read,
    reasons,
    write,
)

NFC, NFD = "caf\u00e9.jpg", "cafe\u0301.jpg"


@pytest.mark.parametrize(
    ("names", "files", "expected"),
    [
        (["a.jpg"], ["a.jpg", "A.jpg"], {}),
        (["a.jpg"], ["a.JPG"], {"a.jpg": "a.JPG"}),
        (["A/B.jpg"], ["a/b.JPG"], {"A/B.jpg": "a/b.JPG"}),
        ([NFC], [NFD], {NFC: NFD}),
        ([NFD], [NFC], {NFD: NFC}),
        ([NFD.upper()], [NFC], {NFD.upper(): NFC}),
        ([NFC], [NFD, NFD.upper()], {NFC: NFD}),
        (["./a.jpg"], ["a.jpg"], {"./a.jpg": "a.jpg"}),
        (["x\\a.jpg", ".\\x\\b.jpg"], ["x/a.jpg", "x/b.jpg"], {"x\\a.jpg": "x/a.jpg", ".\\x\\b.jpg": "x/b.jpg"}),
        (["x//a.jpg", "x/./b.jpg"], ["x/a.jpg", "x/b.jpg"], {"x//a.jpg": "x/a.jpg", "x/./b.jpg": "x/b.jpg"}),
        (["n01/0001_01", "0.b"], ["n01/0001_01.jpg", "0.b.png"], {"n01/0001_01": "n01/0001_01.jpg", "0.b": "0.b.png"}),
    ],
)
def test_other_spellings(names: list[str], files: list[str], expected: dict[str, str]) -> None:
    assert known_spellings(names, set(files)) == expected


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["A.jpg"], ["a.jpg", "a.JPG"]),
        (["A.jpg", "a.JPG"], ["a.jpg"]),
        (["A.jpg", "a.jpg"], ["a.jpg"]),
        (["./a.jpg", "a.jpg"], ["a.jpg"]),
        ([NFC, NFD], [NFD]),
        (["a"], ["a.jpg", "a.png"]),
        (["a.png"], ["a.jpg"]),
        (["a.jpg"], ["inner/a.jpg"]),
        (["../a.jpg", "/a.jpg", "x/../a.jpg"], ["a.jpg", "x/a.jpg"]),
        (["C:\\a.jpg", "images\\a.jpg"], ["a.jpg"]),
    ],
)
def test_names_of_no_file_or_several_ones_meet_none(names: list[str], files: list[str]) -> None:
    assert known_spellings(names, set(files)) == {}


@given(st.lists(st.text("aA\u00e9e\u0301./\\", max_size=5)), st.sets(st.text("aA\u00e9e\u0301./", max_size=5)))
def test_each_file_is_meant_by_one_name_at_most(names: list[str], files: set[str]) -> None:
    found = known_spellings(names, files)
    meant = [*found.values(), *(set(names) & files)]
    assert len(set(meant)) == len(meant)
    assert set(meant) <= files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder to write text files to, with an empty folder for the images."""
    (tmp_path / "images").mkdir()
    return tmp_path


FILES = ["sub/a.JPG", NFD, "b.jpg", "c.jpg"]
SPELLED = ["sub\\A.jpg", NFC, "./b.jpg", "c"]


def test_every_file_of_a_data_set_may_spell_names_in_its_own_way(folder: Path) -> None:
    add_images(folder, *FILES)
    numbers = [f"{name},{10 * i},20,30,40" for i, name in enumerate(SPELLED)]
    points = " ".join(map(str, range(10)))
    dataset = read(
        folder,
        csv_labels_of(folder, SPELLED),
        partition=write(folder, "partition", "".join(f"{name} 2\n" for name in SPELLED[::-1])),
        bboxes=write(folder, "boxes.csv", "\n".join(["image_id,x,y,width,height", *numbers])),
        points=write(folder, "points.txt", f"1\n{POINT_NAMES}\n{SPELLED[0]} {points}\n"),
        landmarks=(landmarks_csv(folder, "landmarks.csv", [(SPELLED[3], face().T.ravel())]),),
    )
    assert reasons(dataset) == dict.fromkeys(FILES)
    assert dataset.images.keys == ["sub_a", "cafe_", "b", "c"]
    assert dataset.images.splits.tolist() == [2] * 4
    assert dataset.images.sizes.tolist() == [6] * 4
    assert dataset.images.bboxes[:, 0].tolist() == [0, 10, 20, 30]
    assert dataset.images.points[0].ravel().tolist() == list(range(10))
    assert np.isnan(dataset.images.points[1:]).all()
    assert [row.landmarks is not None for row in dataset.images.rows()] == [False, False, False, True]


def test_the_form_of_a_name_does_not_matter_where_the_file_has_either(folder: Path) -> None:
    for name in (NFC, NFD):
        add_images(folder, name)
    dataset = read(folder, csv_labels_of(folder, [NFC, NFD]))
    assert unicodedata.normalize("NFC", NFD) == NFC
    assert reasons(dataset) == {NFC: None, NFD: None}


def test_a_name_of_several_files_is_missing_rather_than_guessed(folder: Path) -> None:
    add_images(folder, "a.jpg", "a.JPG", "b.jpg")
    found: dict[str, RejectReason | None] = reasons(read(folder, csv_labels_of(folder, ["A.jpg", "b.jpg"])))
    assert found == {"A.jpg": "missing", "b.jpg": None, "a.JPG": "unlabelled", "a.jpg": "unlabelled"}


@pytest.mark.parametrize(
    ("files", "image_ids", "expected"),
    [
        (["inner/000000.jpg", "inner/000001.jpg"], ["000001.jpg"], "inner/000001.jpg"),
        (["000000.png", "000001.png"], ["000001.jpg"], "000001.png"),
        (["000001.jpg"], ["img_celeba/000001.jpg"], "000001.jpg"),
        (["000001.jpg"], ["/data/000001.jpg"], "000001.jpg"),
        (["000001.jpg"], ["1"], "000001.jpg"),
        (["a.jpg"], ["b.jpg", "c.jpg"], "a.jpg"),
    ],
)
def test_where_no_row_meets_a_file_both_forms_are_shown(
    folder: Path, files: list[str], image_ids: list[str], expected: str
) -> None:
    add_images(folder, *files)
    labels = csv_labels_of(folder, image_ids)
    with pytest.raises(InputError) as caught:
        read(folder, labels)
    count = "1 image id" if len(image_ids) == 1 else f"{len(image_ids)} image ids"
    assert str(caught.value) == (
        f"{labels}: none of {count} is a file in {folder / 'images'}:"
        f" found {image_ids[0]!r}, expected names such as {expected!r}"
    )
