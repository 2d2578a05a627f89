from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import handlabel, images
from pipeline.cli import main
from pipeline.datasets import sample_keys
from pipeline.handlabel import export_rejects, import_labels
from pipeline.labelme_file import start_landmarks
from pipeline.landmark_files import read_landmark_csv
from pipeline.manifest import read_manifest
from pipeline.records import InputError, Rejected
from tests.faces import face
from tests.synthetic import HEIGHT, WIDTH, annotated, image_row, jpeg_file, rejected, write_output

SIZE = (HEIGHT, WIDTH)


def unusable(
    image_id: str, content: bytes, *, reason: str = "no_face", guess: np.ndarray | None = None, key: str | None = None
) -> Rejected:
    """Return the reject that a run makes of a picture without a usable face."""
    row = image_row(image_id=image_id)
    picture = images.decode(content)
    return Rejected(
        row if key is None else dataclasses.replace(row, key=key),
        reason,
        "what was found",
        picture.height,
        picture.width,
        hashlib.sha256(content).hexdigest(),
        None if guess is None else guess.astype(np.float32),
    )


def make_run(folder: Path, pictures: dict[str, bytes], *more, **kwargs) -> str:
    """Write a run whose pictures are all rejected, in two shards with a sample and the `more` rejects each."""
    keys = kwargs.pop("keys", sample_keys(list(pictures)))
    rejects = [unusable(name, pictures[name], key=key, **kwargs) for name, key in zip(pictures, keys, strict=True)]
    half = -(-len(rejects) // 2)
    shards = {
        "train-000000": [annotated(image_id="good0.jpg"), *rejects[:half], *more],
        "val-000000": [annotated(image_id="good1.jpg"), *rejects[half:]],
    }
    settings, _ = write_output(folder, shards)
    for image_id, content in pictures.items():
        path = folder / "images" / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return settings.output


def index_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "images.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def labels_of(path: Path) -> np.ndarray:
    shapes = json.loads(path.read_bytes())["shapes"]
    assert [shape["label"] for shape in shapes] == [str(i) for i in range(68)]
    return np.array([shape["points"][0] for shape in shapes])


def label(path: Path, points: np.ndarray | None = None, **changes) -> None:
    """Save a file as labelme does after the points were moved; `changes` are to the document."""
    document = json.loads(path.read_bytes())
    if points is not None:
        for shape, point in zip(document["shapes"], points.tolist(), strict=True):
            shape["points"] = [point]
    document.update({"version": "6.3.1", **changes})
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")


@pytest.fixture
def exported(tmp_path):
    """A folder of three exported pictures: a.jpg, b.jpg, c.jpg."""
    pictures = {f"{name}.jpg": jpeg_file(seed=number) for number, name in enumerate("abc")}
    export_rejects(make_run(tmp_path, pictures, guess=face(x=210)), str(tmp_path / "todo"))
    return tmp_path / "todo"


# Export


def test_pictures_are_copied_unchanged_beside_files_that_labelme_opens(tmp_path, exported):
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


def test_points_start_at_the_best_guess_else_at_a_mean_face(tmp_path, exported):
    np.testing.assert_allclose(labels_of(exported / "a.json"), face(x=210), atol=1e-3)
    (tmp_path / "other").mkdir()
    export_rejects(make_run(tmp_path / "other", {"a.jpg": jpeg_file()}), str(tmp_path / "none"))
    start = labels_of(tmp_path / "none" / "a.json")
    np.testing.assert_allclose(start, start_landmarks(np.full((68, 2), np.nan), SIZE), atol=1e-3)


def test_a_turned_picture_is_labelled_as_it_is_shown(tmp_path):
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
    assert main(["handlabel", "import", str(tmp_path / "todo"), "--to", str(tmp_path / "l.csv")]) == 2


def test_names_are_the_keys_with_the_ending_of_the_picture(tmp_path):
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


def test_what_can_be_labelled_and_what_not_is_told(tmp_path, capsys):
    others = [rejected(image_id=f"m{i}.jpg", reason="missing") for i in range(2)] + [rejected(reason="corrupt")]
    output = make_run(tmp_path, {"a.jpg": jpeg_file(), "b.jpg": jpeg_file()}, *others, reason="wrong_face")
    assert main(["handlabel", "export", output, "--to", str(tmp_path / "to do")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"2 pictures to label in {tmp_path / 'to do'}: 2 wrong_face"
    assert lines[1] == "3 other rejects have no picture that could be labelled: 2 missing, 1 corrupt"
    assert f"attparse handlabel import '{tmp_path / 'to do'}' --to" in lines[2]
    assert {row["reason"] for row in index_of(tmp_path / "to do")} == {"wrong_face"}


@pytest.mark.parametrize("others", [[], [rejected(reason="corrupt")]])
def test_nothing_to_label_writes_nothing(tmp_path, capsys, others):
    settings, _ = write_output(tmp_path, {"train-000000": [annotated(), *others]})
    assert main(["handlabel", "export", settings.output, "--to", str(tmp_path / "todo")]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("nothing to label")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]


def test_work_in_the_folder_is_never_overwritten(tmp_path, exported, capsys):
    label(exported / "a.json", face())
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    assert main(["handlabel", "export", str(tmp_path / "out"), f"--to={exported}/"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"attparse: {exported}/: is there already") and errors.count("\n") == 1
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", "todo"]


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "todo").mkdir()
    export_rejects(make_run(tmp_path, {"a.jpg": jpeg_file()}), str(tmp_path / "todo") + "/")
    assert (tmp_path / "todo" / "a.json").exists()


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("file", "is there already"),
        ("link", "is there already"),
        ("images/todo", "lies in the image folder"),
        ("link2/todo", "lies in the image folder"),
        ("absent/todo", "can't write here: No such file"),
        ("gs://bucket/todo", "expected a local folder"),
    ],
)
def test_folders_that_can_not_be_made(tmp_path, to, message):
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
        (lambda path: path.write_bytes(jpeg_file(seed=9)), "b.jpg: not the picture that the run saw"),
    ],
)
def test_a_picture_that_is_not_the_one_of_the_run_is_named(tmp_path, capsys, spoil, message):
    output = make_run(tmp_path, {"a.jpg": jpeg_file(), "b.jpg": jpeg_file(seed=1)})
    spoil(tmp_path / "images" / "b.jpg")
    assert main(["handlabel", "export", output, "--to", str(tmp_path / "todo")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith("attparse: ") and message in errors[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    output = make_run(tmp_path, {"a.jpg": jpeg_file(), "b.jpg": jpeg_file()})
    real, calls = handlabel.labelme_file, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(handlabel, "labelme_file", full)
    assert main(["handlabel", "export", output, "--to", str(tmp_path / "todo")]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]


def test_moved_pictures_are_found_where_images_says(tmp_path):
    output = make_run(tmp_path, {"a b/c.jpg": jpeg_file()})
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="--images names it"):
        export_rejects(output, str(tmp_path / "todo"))
    export_rejects(output, str(tmp_path / "todo"), str(tmp_path / "elsewhere"))
    assert (tmp_path / "todo" / "a_b_c.jpg").read_bytes() == jpeg_file()


@pytest.mark.parametrize("image_id", ["../secret.jpg", "a/../../secret.jpg", "/etc/secret.jpg"])
def test_an_image_id_can_not_leave_the_image_folder(tmp_path, image_id):
    (tmp_path / "secret.jpg").write_bytes(jpeg_file())
    settings, _ = write_output(tmp_path, {"train-000000": [unusable(image_id, jpeg_file(), key="x")]})
    with pytest.raises(InputError, match="expected a plain path"):
        export_rejects(settings.output, str(tmp_path / "todo"))


def test_a_key_can_not_leave_the_folder(tmp_path):
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
            "image 'b.jpg': another one's picture is named 'b.jpg', too",
        ),
    ],
)
def test_damaged_manifests_are_told(tmp_path, spoil, message):
    output = make_run(tmp_path, {"a.jpg": jpeg_file(), "b.jpg": jpeg_file()}, unusable("c.jpg", jpeg_file()))
    (tmp_path / "images" / "c.jpg").write_bytes(jpeg_file())
    spoil(tmp_path / "out" / "manifest" / "train-000000.parquet")
    with pytest.raises(InputError, match=message):
        export_rejects(output, str(tmp_path / "todo"))
    assert not (tmp_path / "todo").exists()


def test_counts_that_differ_from_the_manifests_are_told(tmp_path):
    output = make_run(tmp_path, {"a.jpg": jpeg_file()})
    path = tmp_path / "out" / "dataset.json"
    path.write_text(path.read_text().replace('"no_face": 1', '"no_face": 2'))
    with pytest.raises(InputError, match=r"manifests have 1 images rejected as .* dataset\.json says 2"):
        export_rejects(output, str(tmp_path / "todo"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]


def test_a_run_that_does_not_name_its_pictures_needs_images(tmp_path):
    output = make_run(tmp_path, {"a.jpg": jpeg_file()})
    path = tmp_path / "out" / "dataset.json"
    document = json.loads(path.read_text())
    del document["images"]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="--images does"):
        export_rejects(output, str(tmp_path / "todo"))
    assert export_rejects(output, str(tmp_path / "todo"), str(tmp_path / "images")).copied == {"no_face": 1}


def test_only_the_manifests_of_shards_with_rejects_are_read(tmp_path, monkeypatch):
    output = make_run(tmp_path, {"a.jpg": jpeg_file()})
    read = []
    monkeypatch.setattr(handlabel, "read_manifest", lambda *args: (read.append(args[1]), read_manifest(*args))[1])
    export_rejects(output, str(tmp_path / "todo"))
    assert read == ["train-000000"]


# Import


def test_what_was_labelled_comes_back_in_the_order_of_the_index(tmp_path, capsys):
    ids = ["z z/a,b.jpg", "é.jpg", "quo'te.jpg", "y.jpg", 'd"q.jpg']
    output = make_run(tmp_path, {image_id: jpeg_file(seed=i) for i, image_id in enumerate(ids)})
    folder = tmp_path / "todo"
    export_rejects(output, str(folder))
    index = index_of(folder)
    assert [row["image_id"] for row in index] == ids
    points = {}
    for number, row in enumerate(index[:4]):
        points[row["image_id"]] = face(x=190 + 5 * number, jitter=0.02, seed=number)
        label((folder / row["file"]).with_suffix(".json"), points[row["image_id"]])
    to = tmp_path / "it's landmarks.csv"
    assert main(["handlabel", "import", str(folder), "--to", str(to)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-2] == "4 pictures labelled, 1 not yet"
    assert out[-1].startswith(f"next: attparse run ... --landmarks {shlex.quote(str(to))}, ")
    found = read_landmark_csv(str(to))
    assert list(found) == ids[:4]
    for image_id, expected in points.items():
        np.testing.assert_allclose(found[image_id], expected, atol=6e-4)


def test_the_order_of_the_shapes_and_what_else_a_tool_saves_do_not_matter(tmp_path, exported):
    expected = labels_of(exported / "b.json")
    document = json.loads((exported / "b.json").read_bytes())
    document["shapes"] = document["shapes"][40:] + document["shapes"][39::-1]
    for shape in document["shapes"]:
        del shape["mask"]
        shape["other"] = [1]
    document |= {"imageData": "never looked at", "imagePath": "..\\todo\\b.jpg", "lineColor": [0, 255]}
    (exported / "b.json").write_text("\ufeff" + json.dumps(document), encoding="utf-8")
    index = exported / "images.csv"
    index.write_text("\ufeff" + index.read_text().replace("\n", "\r\n"), encoding="utf-8")
    assert import_labels(str(exported), str(tmp_path / "l.csv")) == (1, 2, 0)
    found = read_landmark_csv(str(tmp_path / "l.csv"))
    assert list(found) == ["b.jpg"]
    np.testing.assert_allclose(found["b.jpg"], expected, atol=6e-4)


def test_a_file_counts_once_it_is_saved_even_if_no_point_was_moved(tmp_path, exported):
    label(exported / "a.json")
    assert import_labels(str(exported), str(tmp_path / "l.csv")).labelled == 1


def test_deleted_files_are_counted(tmp_path, exported, capsys):
    (exported / "a.json").unlink()
    label(exported / "b.json")
    assert main(["handlabel", "import", str(exported), "--to", str(tmp_path / "l.csv")]) == 0
    assert "1 pictures labelled, 1 not yet, 1 no longer there" in capsys.readouterr().out


@pytest.mark.parametrize(("delete", "message"), [([], "3 files are as they were"), (["a", "b"], "2 are not there")])
def test_nothing_labelled_yet(tmp_path, exported, capsys, delete, message):
    for name in delete:
        (exported / f"{name}.json").unlink()
    assert main(["handlabel", "import", str(exported), "--to", str(tmp_path / "l.csv")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith(f"attparse: {exported}: nothing labelled yet: ") and message in errors[-1]
    assert not (tmp_path / "l.csv").exists()


def test_every_bad_file_is_named(tmp_path, exported, capsys):
    (exported / "a.json").write_text("{")
    label(exported / "b.json", face())
    label(exported / "c.json", shapes=json.loads((exported / "c.json").read_bytes())["shapes"][1:])
    (tmp_path / "l.csv").write_text("former")
    assert main(["handlabel", "import", str(exported), "--to", str(tmp_path / "l.csv")]) == 2
    first, second, summary = capsys.readouterr().err.splitlines()[-3:]
    assert first.startswith(f"{exported / 'a.json'}: not valid JSON")
    assert second.startswith(f"{exported / 'c.json'}: landmark 0 is missing")
    assert summary == f"attparse: {exported}: 2 of 3 labelled files can't be used, nothing was written"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "l.csv", "out", "todo"]
    assert (tmp_path / "l.csv").read_text() == "former"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), r"a\.json: its picture a\.jpg: No such file"),
        (lambda path: path.write_bytes(b"x"), r"a\.json: its picture a\.jpg: not_an_image"),
        (lambda path: path.write_bytes(jpeg_file(height=100, width=80)), r"expected \(100, 80\), as a\.jpg is shown"),
    ],
)
def test_a_spoilt_picture_is_told(tmp_path, exported, capsys, spoil, message):
    label(exported / "a.json")
    spoil(exported / "a.jpg")
    assert main(["handlabel", "import", str(exported), "--to", str(tmp_path / "l.csv")]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_labels_file_that_can_not_be_read_is_told(tmp_path, exported, capsys):
    (exported / "a.json").unlink()
    (exported / "a.json").mkdir()
    assert main(["handlabel", "import", str(exported), "--to", str(tmp_path / "l.csv")]) == 2
    assert f"{exported / 'a.json'}: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"images\.csv:1: '', expected file,image_id,reason,sha256"),
        (b"file,image_id\na.jpg,a.jpg\n", r"images\.csv:1: 'file,image_id', expected"),
        (b"file,image_id,reason,sha256\na.jpg,a.jpg,no_face\n", r"images\.csv:2: 3 columns, expected 4"),
        (b"file,image_id,reason,sha256\n../x.jpg,a.jpg,no_face,0\n", r"images\.csv:2: file '\.\./x\.jpg', expected"),
        (b"file,image_id,reason,sha256\n/etc/x.jpg,a.jpg,no_face,0\n", "file '/etc/x.jpg', expected"),
        (b"file,image_id,reason,sha256\n..,a.jpg,no_face,0\n", r"file '\.\.', expected"),
        (b"file,image_id,reason,sha256\n..\\x.jpg,a.jpg,no_face,0\n", "file '.*x.jpg', expected"),
        (b'file,image_id,reason,sha256\n"a.jpg\n",a.jpg,no_face,0\n', "expected a name of letters"),
        (b"file,image_id,reason,sha256\na.jpg,a.jpg,,0\na.png,b.jpg,,0\n", r"images\.csv: 2 rows for 'a\.json'"),
        (b"file,image_id,reason,sha256\na.jpg,a.jpg,,0\nb.jpg,a.jpg,,0\n", r"images\.csv: 2 rows for 'a\.jpg'"),
        (b'file,image_id,reason,sha256\n"a.jpg', r"images\.csv: not valid CSV in UTF-8"),
        (b"file,image_id,reason,sha256\n\xe4.jpg,,,\n", r"images\.csv: not valid CSV in UTF-8"),
    ],
)
def test_a_hostile_or_damaged_index_is_refused(tmp_path, exported, content, message):
    label(exported / "a.json")
    (tmp_path / "x.json").write_bytes((exported / "a.json").read_bytes())
    (exported / "images.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        import_labels(str(exported), str(tmp_path / "l.csv"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "l.csv").exists()


@pytest.mark.parametrize("folder", ["absent", "images"])
def test_a_folder_that_export_did_not_make_is_refused(tmp_path, exported, capsys, folder):
    assert main(["handlabel", "import", str(tmp_path / folder), "--to", str(tmp_path / "l.csv")]) == 2
    errors = capsys.readouterr().err.splitlines()[-1]
    assert errors.startswith(f"attparse: {tmp_path / folder / 'images.csv'}: No such file")
    assert "expected a folder made by attparse handlabel export" in errors


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("absent/l.csv", "absent/l.csv: can't write: No such file"),
        ("folder.csv", "folder.csv: can't write: Is a directory"),
        ("l.txt", r"l\.txt: expected the name of a file ending in \.csv"),
        ("todo/a.json", r"a\.json: expected the name of a file ending in \.csv"),
        ("todo/../todo/images.csv", r"other than the folder's images\.csv"),
    ],
)
def test_files_that_can_not_be_written(tmp_path, exported, to, message):
    (tmp_path / "folder.csv").mkdir()
    label(exported / "a.json")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(InputError, match=message):
        import_labels(str(exported), str(tmp_path / to))
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_former_csv_file_is_replaced(tmp_path, exported):
    (tmp_path / "l.csv").write_text("former")
    label(exported / "a.json")
    import_labels(str(exported), str(tmp_path / "l.csv"))
    assert list(read_landmark_csv(str(tmp_path / "l.csv"))) == ["a.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "l.csv", "out", "todo"]


@pytest.mark.parametrize("arguments", [[], ["export"], ["export", "out"], ["import", "todo"], ["other", "out"]])
def test_bad_arguments_are_exit_code_2(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["handlabel", *arguments])
    assert stopped.value.code == 2


# The whole way, on the built-in sample


def hashes(output: Path) -> dict[str, str]:
    files = [*output.glob("shards/*"), *output.glob("manifest/*")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def manifest_rows(output: Path) -> dict[str, dict]:
    names = [path.stem for path in output.glob("manifest/*")]
    return {row["image_id"]: row for name in names for row in read_manifest(str(output), name).to_pylist()}


def test_labels_made_by_hand_rebuild_only_the_shard_concerned(tmp_path):
    pytest.importorskip("skimage")
    from pipeline.demo import make_sample

    sample = make_sample(str(tmp_path), "unused")
    output = tmp_path / "out"
    names = ("images", "labels", "partition", "bboxes", "points")
    run = ["run", *(f"--{name}={getattr(sample, name)}" for name in names), f"--output={output}"]
    run += ["--samples_per_shard=4", "--min_coverage=0.8"]
    assert main(run) == 0
    before, rows = hashes(output), manifest_rows(output)
    assert main(["handlabel", "export", str(output), f"--to={tmp_path / 'todo'}"]) == 0
    index = {row["image_id"]: row for row in index_of(tmp_path / "todo")}
    assert index.keys() == {name for name, row in rows.items() if row["reason"] in ("no_face", "wrong_face")}
    path = (tmp_path / "todo" / index["no_face.jpg"]["file"]).with_suffix(".json")
    points = labels_of(path) + (3, -2)
    label(path, points)
    assert main(["handlabel", "import", str(tmp_path / "todo"), f"--to={tmp_path / 'hand.csv'}"]) == 0
    assert main([*run, f"--landmarks={tmp_path / 'hand.csv'}"]) == 0
    after = hashes(output)
    shard = rows["no_face.jpg"]["shard"]
    assert {name for name in after if after[name] != before[name]} == {f"{shard}.tar", f"{shard}.parquet"}
    row = manifest_rows(output)["no_face.jpg"]
    assert (row["status"], row["rung"]) == ("written", "given")
    np.testing.assert_allclose(np.reshape(row["landmarks"], (68, 2)), points, atol=1 / 64)
    assert main(["verify", str(output)]) == 0
