"""Label files of other data sets: the trainer's part; the formats themselves are tested with `regions`."""

from __future__ import annotations

from pathlib import Path

import pytest

from regions.label_file import UNKNOWN, LabelTable
from training.cli_common import DataError
from training.label_file import image_path, match_attributes, read_labels


def read(tmp_path: Path, text: str) -> LabelTable:
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode())
    return read_labels(str(path))


def test_celeba_s_layout_and_csv(tmp_path: Path) -> None:
    for text in (
        "2\nBald Young\na.jpg -1  1\nAnn_Lee/b.jpg 1 1\n",
        "2\r\nBald Young\r\na.jpg -1 1\r\nAnn_Lee/b.jpg 1 1\r\n",
        "image_id,Bald,Young\na.jpg,-1,1\nAnn_Lee\\b.jpg,1,1\n",
        "\ufeffimage_id,Bald,Young\r\na.jpg,0,1\r\nAnn_Lee/b.jpg,1,1\r\n",
    ):
        table = read(tmp_path, text)
        assert table.names == ("Bald", "Young")
        assert table.image_ids == ["a.jpg", "Ann_Lee/b.jpg"]
        assert table.values.tolist() == [[0, 1], [1, 1]]


def test_zero_beside_minus_one_and_empty_cells_are_unknown(tmp_path: Path) -> None:
    table = read(tmp_path, "image_id,Bald,Young\na.jpg,-1,0\nb.jpg,,1\n")
    assert table.values.tolist() == [[0, UNKNOWN], [UNKNOWN, 1]]
    assert read(tmp_path, "image_id,Bald,Young\na.jpg,1,0\nb.jpg,,1\n").values.tolist() == [[1, 0], [UNKNOWN, 1]]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "1: empty, expected"),
        ("3\n", "2: empty, expected the names"),
        ("3\nBald\na.jpg 1\n", "1: 1 row in the file, expected 3"),
        ("1\nBald Young\na.jpg 1\n", "3: 1 value, expected an image id and 2 values"),
        ("1\nBald\na.jpg 2\n", "3: attribute 'Bald' is '2', expected -1 or 1, 0 or 1"),
        ("name,Bald\na.jpg,1\n", "1: first column is 'name', expected the image id"),
        ("image_id,Bald\n", "1: no rows"),
        ("image_id\na.jpg\n", "1: 'image_id', expected the number of rows"),
        ("image_id,A,A\na.jpg,1,1\n", "1: duplicate attribute name 'A'"),
        ("image_id,Bald\na.jpg,1\na.jpg,1\n", "3: duplicate row for image 'a.jpg' .first seen in line 2"),
        ("image_id,Bald\na/b.jpg,1\na\\b.jpg,1\n", " found image 'a/b.jpg' twice"),
        ("image_id,Bald\n../a.jpg,1\n", " found image '../a.jpg', expected a path below the image folder"),
        ("image_id,Bald\n/etc/a.jpg,1\n", " found image .*, expected a path below the image folder"),
        ("image_id,Bald\n..\\a.jpg,1\n", " found image .*, expected a path below the image folder"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(DataError, match=rf"labels.txt:{what}") as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "labels.txt"))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "x.mat").write_bytes(b"MATLAB \xff\xfe")
    with pytest.raises(DataError, match="expected UTF-8 text"):
        read_labels(str(tmp_path / "x.mat"))
    with pytest.raises(DataError, match="No such file"):
        read_labels(str(tmp_path / "nothing"))


def test_names_are_matched_whatever_their_case_and_spaces() -> None:
    assert match_attributes(["5_o_Clock_Shadow", "Bald", "Young"], ["young", "5 o Clock Shadow"]) == {
        "5_o_Clock_Shadow": 1,
        "Young": 0,
    }


def test_no_path_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"")
    (tmp_path / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match="found a link out of"):
        image_path(str(tmp_path / "images"), "link.jpg")
    with pytest.raises(DataError, match=r"a.jpg: no such image, though the label file lists it"):
        image_path(str(tmp_path / "images"), "a.jpg")
