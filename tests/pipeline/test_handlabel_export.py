from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.errors import InputError
from pipeline.formats.manifest import read_manifest
from pipeline.handlabel import export
from pipeline.handlabel.collect import import_labels
from pipeline.handlabel.export import export_rejects
from pipeline.handlabel.labelme_file import labelme_file, start_landmarks
from pipeline.inputs.landmark_csv import read_landmark_csv
from pipeline.records import RejectedImage
from regions.image_files import MAX_FILE_BYTES
from tests.faces import face
from tests.labeling import export_three, index_of, label, labels_of, make_run, unusable
from tests.synthetic import HEIGHT, WIDTH, annotated, jpeg_file, rejected, write_output

SIZE = (HEIGHT, WIDTH)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return export_three(tmp_path)


def test_images_are_copied_unchanged_beside_files_that_labelme_opens(tmp_path: Path, exported: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == sorted(
        ["images.csv", *(f"{name}.{ending}" for name in "abc" for ending in ("jpg", "json"))]
    )
    for row in index_of(exported):
        source = tmp_path / "images" / row["image_id"]
        assert (exported / row["file"]).read_bytes() == source.read_bytes()
        content = (exported / row["file"]).with_suffix(".json").read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        document = json.loads(content)
        shapes = document.pop("shapes")
        assert document == {
            "version": "5.5.0",
            "flags": {},
            "imagePath": row["file"],
            "imageData": None,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        assert shapes[7].keys() == {"label", "points", "group_id", "description", "shape_type", "flags", "mask"}
        assert {shape["shape_type"] for shape in shapes} == {"point"}
    assert [(row["file"], row["image_id"], row["reason"]) for row in index_of(exported)] == [
        (f"{name}.jpg", f"{name}.jpg", "no_face") for name in "abc"
    ]


def test_points_start_at_the_best_guess_else_at_a_mean_face(tmp_path: Path, exported: Path) -> None:
    np.testing.assert_allclose(labels_of(exported / "a.json"), face(x=210), atol=1e-3)
    (tmp_path / "other").mkdir()
    export_rejects(make_run(tmp_path / "other", {"a.jpg": jpeg_file()}), str(tmp_path / "none"))
    start = labels_of(tmp_path / "none" / "a.json")
    np.testing.assert_allclose(start, start_landmarks(np.full((68, 2), np.nan), SIZE), atol=1e-3)


def test_a_turned_image_is_labelled_as_it_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.open(io.BytesIO(jpeg_file(height=WIDTH, width=HEIGHT))).save(stream, "JPEG", exif=exif)
    export_rejects(make_run(tmp_path, {"turned.jpg": stream.getvalue()}), str(tmp_path / "todo"))
    path = tmp_path / "todo" / "turned.json"
    document = json.loads(path.read_bytes())
    assert (document["imageHeight"], document["imageWidth"]) == SIZE
    label(path, face(y=330))
    import_labels(str(tmp_path / "todo"), str(tmp_path / "l.csv"))
    np.testing.assert_allclose(read_landmark_csv(str(tmp_path / "l.csv"))["turned.jpg"], face(y=330), atol=1e-3)
    label(path, imageHeight=WIDTH, imageWidth=HEIGHT)
    assert main(["handlabel", "import", str(tmp_path / "todo"), "--output", str(tmp_path / "l.csv")]) == 2


def test_names_are_the_keys_with_the_ending_of_the_image(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.open(io.BytesIO(jpeg_file())).save(png, "PNG")
    results = [
        unusable("in a/folder.d/é, ü.JPG", jpeg_file(), key="in_a_folder_d_____"),
        unusable("000001", png.getvalue(), key="000001"),
        unusable("x.json", jpeg_file(), key="x"),
    ]
    settings, _ = write_output(tmp_path, {"train-000000": results})
    (tmp_path / "images" / "in a" / "folder.d").mkdir(parents=True)
    for result in results:
        content = png.getvalue() if result.row.image_id == "000001" else jpeg_file()
        (tmp_path / "images" / result.row.image_id).write_bytes(content)
    export_rejects(settings.output, str(tmp_path / "todo"))
    assert {row["file"]: row["image_id"] for row in index_of(tmp_path / "todo")} == {
        "in_a_folder_d_____.JPG": "in a/folder.d/é, ü.JPG",
        "000001.png": "000001",
        "x.jpg": "x.json",
    }


def test_what_can_be_labelled_and_what_not_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = [rejected(image_id=f"m{i}.jpg", reason="missing") for i in range(2)] + [rejected(reason="corrupt")]
    output = make_run(tmp_path, {"a.jpg": jpeg_file(), "b.jpg": jpeg_file()}, *others, reason="wrong_face")
    assert main(["handlabel", "export", output, "--output", str(tmp_path / "to do")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"2 images to annotate in {tmp_path / 'to do'}: 2 wrong_face"
    assert lines[1] == "3 other rejects cannot be recovered by annotation: 2 missing, 1 corrupt"
    assert f"attparse handlabel import '{tmp_path / 'to do'}' --output" in lines[2]
    assert {row["reason"] for row in index_of(tmp_path / "to do")} == {"wrong_face"}


@pytest.mark.parametrize("others", [[], [rejected(reason="corrupt")]])
def test_nothing_to_label_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], others: list[RejectedImage]
) -> None:
    settings, _ = write_output(tmp_path, {"train-000000": [annotated(), *others]})
    assert main(["handlabel", "export", settings.output, "--output", str(tmp_path / "todo")]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("nothing to annotate")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]


def test_work_in_the_folder_is_never_overwritten(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(exported / "a.json", face())
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    assert main(["handlabel", "export", str(tmp_path / "out"), f"--output={exported}/"]) == 2
    errors = capsys.readouterr().err
    assert (
        errors.startswith(f"attparse: {exported}/: exists, expected a new or empty folder") and errors.count("\n") == 1
    )
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", "todo"]


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "todo").mkdir()
    export_rejects(make_run(tmp_path, {"a.jpg": jpeg_file()}), str(tmp_path / "todo") + "/")
    assert (tmp_path / "todo" / "a.json").exists()


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("file", "exists, expected a new or empty folder"),
        ("link", "exists, expected a new or empty folder"),
        ("images/todo", "expected a folder outside the image folder"),
        ("link2/todo", "expected a folder outside the image folder"),
        ("absent/todo", "cannot write here: No such file"),
        ("gs://bucket/todo", "expected a local folder"),
    ],
)
def test_folders_that_can_not_be_made(tmp_path: Path, to: str, message: str) -> None:
    output = make_run(tmp_path, {"a.jpg": jpeg_file()})
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "link2").symlink_to(tmp_path / "images")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        export_rejects(output, to if "://" in to else str(tmp_path / to))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "b.jpg: No such file"),
        (lambda path: path.write_bytes(jpeg_file(seed=9)), "b.jpg: not the image that the run read"),
        (lambda path: os.truncate(path, 1 << 40), f"b.jpg: more than {MAX_FILE_BYTES} bytes, expected the image"),
    ],
)
def test_a_image_that_is_not_the_one_of_the_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], message: str
) -> None:
    output = make_run(tmp_path, {"a.jpg": jpeg_file(), "b.jpg": jpeg_file(seed=1)})
    spoil(tmp_path / "images" / "b.jpg")
    assert main(["handlabel", "export", output, "--output", str(tmp_path / "todo")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith("attparse: ") and message in errors[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = make_run(tmp_path, {"a.jpg": jpeg_file(), "b.jpg": jpeg_file()})
    real, calls = labelme_file, []

    def full(*arguments: Any) -> bytes:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(export, "labelme_file", full)
    assert main(["handlabel", "export", output, "--output", str(tmp_path / "todo")]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]


def test_moved_images_are_found_where_images_says(tmp_path: Path) -> None:
    output = make_run(tmp_path, {"a b/c.jpg": jpeg_file()})
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="if the image folder has moved, pass --images"):
        export_rejects(output, str(tmp_path / "todo"))
    export_rejects(output, str(tmp_path / "todo"), str(tmp_path / "elsewhere"))
    assert (tmp_path / "todo" / "a_b_c.jpg").read_bytes() == jpeg_file()


@pytest.mark.parametrize("image_id", ["../secret.jpg", "a/../../secret.jpg", "/etc/secret.jpg"])
def test_an_image_id_can_not_leave_the_image_folder(tmp_path: Path, image_id: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg_file())
    settings, _ = write_output(tmp_path, {"train-000000": [unusable(image_id, jpeg_file(), key="x")]})
    with pytest.raises(InputError, match="expected a plain path"):
        export_rejects(settings.output, str(tmp_path / "todo"))


def test_a_key_can_not_leave_the_folder(tmp_path: Path) -> None:
    output = make_run(tmp_path, {"a.jpg": jpeg_file()}, keys=["../a"])
    with pytest.raises(InputError, match=r"key '\.\./a'"):
        export_rejects(output, str(tmp_path / "todo"))
    assert not (tmp_path / "a.jpg").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"PAR1"), "manifest of train-000000: damaged"),
        (lambda path: path.unlink(), "manifest of train-000000: damaged"),
        (
            lambda path: path.write_bytes(path.with_name("val-000000.parquet").read_bytes()),
            "image 'b.jpg': another image has the file name 'b.jpg' too",
        ),
    ],
)
def test_damaged_manifests_are_told(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    output = make_run(tmp_path, {"a.jpg": jpeg_file(), "b.jpg": jpeg_file()}, unusable("c.jpg", jpeg_file()))
    (tmp_path / "images" / "c.jpg").write_bytes(jpeg_file())
    spoil(tmp_path / "out" / "manifest" / "train-000000.parquet")
    with pytest.raises(InputError, match=message):
        export_rejects(output, str(tmp_path / "todo"))
    assert not (tmp_path / "todo").exists()


def test_counts_that_differ_from_the_manifests_are_told(tmp_path: Path) -> None:
    output = make_run(tmp_path, {"a.jpg": jpeg_file()})
    path = tmp_path / "out" / "dataset.json"
    path.write_text(path.read_text().replace('"no_face": 1', '"no_face": 2'))
    with pytest.raises(InputError, match=r"manifests have 1 image rejected as .* dataset\.json has 2"):
        export_rejects(output, str(tmp_path / "todo"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]


def test_a_run_that_does_not_name_its_images_needs_images(tmp_path: Path) -> None:
    output = make_run(tmp_path, {"a.jpg": jpeg_file()})
    path = tmp_path / "out" / "dataset.json"
    document = json.loads(path.read_text())
    document["images"] = ""
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="does not name the image folder, expected --images DIR"):
        export_rejects(output, str(tmp_path / "todo"))
    assert export_rejects(output, str(tmp_path / "todo"), str(tmp_path / "images")).copied == {"no_face": 1}


def test_only_the_manifests_of_shards_with_rejects_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = make_run(tmp_path, {"a.jpg": jpeg_file()})
    read = []

    def note(output: str, name: str, columns: list[str]) -> pa.Table:
        read.append(name)
        return read_manifest(output, name, columns)

    monkeypatch.setattr(export, "read_manifest", note)
    export_rejects(output, str(tmp_path / "todo"))
    assert read == ["train-000000"]
