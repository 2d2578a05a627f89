from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.errors import InputError
from pipeline.formats.manifest import read_manifest
from pipeline.handlabel.collect import import_labels
from pipeline.handlabel.export import export_rejects
from pipeline.handlabel.labelme_file import MAX_LABELME_BYTES
from pipeline.inputs.landmark_csv import read_landmark_csv
from tests.faces import face
from tests.labeling import export_three, index_of, label, labels_of, make_run
from tests.releases import error_line
from tests.synthetic import HEIGHT, WIDTH, jpeg_file

SIZE = (HEIGHT, WIDTH)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return export_three(tmp_path)


def test_what_was_labelled_comes_back_in_the_order_of_the_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert main(["handlabel", "import", str(folder), "--output", str(to)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-2] == "4 images annotated, 1 not yet"
    assert out[-1].startswith(f"next: attparse run ... --landmarks {shlex.quote(str(to))}, ")
    found = read_landmark_csv(str(to))
    assert list(found) == ids[:4]
    for image_id, expected in points.items():
        np.testing.assert_allclose(found[image_id], expected, atol=6e-4)


def test_the_order_of_the_shapes_and_what_else_a_tool_saves_do_not_matter(tmp_path: Path, exported: Path) -> None:
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


def test_a_file_counts_once_it_is_saved_even_if_no_point_was_moved(tmp_path: Path, exported: Path) -> None:
    label(exported / "a.json")
    assert import_labels(str(exported), str(tmp_path / "l.csv")).annotated == 1


def test_deleted_files_are_counted(tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (exported / "a.json").unlink()
    label(exported / "b.json")
    assert main(["handlabel", "import", str(exported), "--output", str(tmp_path / "l.csv")]) == 0
    assert "1 image annotated, 1 not yet, 1 no longer there" in capsys.readouterr().out


@pytest.mark.parametrize(("delete", "message"), [([], "3 files unchanged"), (["a", "b"], "2 missing")])
def test_nothing_labelled_yet(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str], delete: list[str], message: str
) -> None:
    for name in delete:
        (exported / f"{name}.json").unlink()
    assert main(["handlabel", "import", str(exported), "--output", str(tmp_path / "l.csv")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith(f"attparse: {exported}: nothing annotated yet: ") and message in errors[-1]
    assert not (tmp_path / "l.csv").exists()


def test_every_bad_file_is_named(tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (exported / "a.json").write_text("{")
    label(exported / "b.json", face())
    label(exported / "c.json", shapes=json.loads((exported / "c.json").read_bytes())["shapes"][1:])
    (tmp_path / "l.csv").write_text("former")
    assert main(["handlabel", "import", str(exported), "--output", str(tmp_path / "l.csv")]) == 2
    first, second, summary = capsys.readouterr().err.splitlines()[-3:]
    assert first.startswith(f"{exported / 'a.json'}: not valid JSON")
    assert second.startswith(f"{exported / 'c.json'}: landmark 0 is missing")
    assert summary == f"attparse: {exported}: 2 of 3 annotated files cannot be used, nothing was written"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "l.csv", "out", "todo"]
    assert (tmp_path / "l.csv").read_text() == "former"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), r"a\.json: its image a\.jpg: No such file"),
        (lambda path: path.write_bytes(b"x"), r"a\.json: its image a\.jpg: not_an_image"),
        (lambda path: path.write_bytes(jpeg_file(height=100, width=80)), r"expected \(100, 80\), as a\.jpg is shown"),
    ],
)
def test_a_spoilt_image_is_told(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], message: str
) -> None:
    label(exported / "a.json")
    spoil(exported / "a.jpg")
    assert main(["handlabel", "import", str(exported), "--output", str(tmp_path / "l.csv")]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_labels_file_that_can_not_be_read_is_told(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (exported / "a.json").unlink()
    (exported / "a.json").mkdir()
    assert main(["handlabel", "import", str(exported), "--output", str(tmp_path / "l.csv")]) == 2
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
def test_a_hostile_or_damaged_index_is_refused(tmp_path: Path, exported: Path, content: bytes, message: str) -> None:
    label(exported / "a.json")
    (tmp_path / "x.json").write_bytes((exported / "a.json").read_bytes())
    (exported / "images.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        import_labels(str(exported), str(tmp_path / "l.csv"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "l.csv").exists()


@pytest.mark.parametrize("folder", ["absent", "images"])
def test_a_folder_that_export_did_not_make_is_refused(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    assert main(["handlabel", "import", str(tmp_path / folder), "--output", str(tmp_path / "l.csv")]) == 2
    errors = capsys.readouterr().err.splitlines()[-1]
    assert errors.startswith(f"attparse: {tmp_path / folder / 'images.csv'}: No such file")
    assert "expected a folder created by attparse handlabel export" in errors


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("absent/l.csv", "absent/l.csv: cannot write: No such file"),
        ("folder.csv", "folder.csv: cannot write: Is a directory"),
        ("l.txt", r"l\.txt: expected a file name ending in \.csv"),
        ("todo/a.json", r"a\.json: expected a file name ending in \.csv"),
        ("todo/../todo/images.csv", r"other than images\.csv of the folder"),
    ],
)
def test_files_that_can_not_be_written(tmp_path: Path, exported: Path, to: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    label(exported / "a.json")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(InputError, match=message):
        import_labels(str(exported), str(tmp_path / to))
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_former_csv_file_is_replaced(tmp_path: Path, exported: Path) -> None:
    (tmp_path / "l.csv").write_text("former")
    label(exported / "a.json")
    import_labels(str(exported), str(tmp_path / "l.csv"))
    assert list(read_landmark_csv(str(tmp_path / "l.csv"))) == ["a.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "l.csv", "out", "todo"]


@pytest.mark.parametrize("arguments", [[], ["export"], ["export", "out"], ["import", "todo"], ["other", "out"]])
def test_bad_arguments_are_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["handlabel", *arguments])
    assert stopped.value.code == 2


# The whole way, on the built-in sample


def hashes(output: Path) -> dict[str, str]:
    files = [*output.glob("shards/*"), *output.glob("manifest/*")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def manifest_rows(output: Path) -> dict[str, dict[str, Any]]:
    names = [path.stem for path in output.glob("manifest/*")]
    return {row["image_id"]: row for name in names for row in read_manifest(str(output), name).to_pylist()}


@pytest.mark.slow
def test_labels_made_by_hand_rebuild_only_the_shard_concerned(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    from pipeline.demo import make_sample

    sample = make_sample(str(tmp_path), "unused")
    output = tmp_path / "out"
    names = ("images", "labels", "partition", "bboxes", "points")
    run = ["run", *(f"--{name}={getattr(sample, name)}" for name in names), f"--output={output}"]
    run += ["--samples_per_shard=4", "--min_coverage=0.8"]
    assert main(run) == 0
    before, rows = hashes(output), manifest_rows(output)
    assert main(["handlabel", "export", str(output), f"--output={tmp_path / 'todo'}"]) == 0
    index = {row["image_id"]: row for row in index_of(tmp_path / "todo")}
    assert index.keys() == {name for name, row in rows.items() if row["reason"] in ("no_face", "wrong_face")}
    path = (tmp_path / "todo" / index["no_face.jpg"]["file"]).with_suffix(".json")
    points = labels_of(path) + (3, -2)
    label(path, points)
    assert main(["handlabel", "import", str(tmp_path / "todo"), f"--output={tmp_path / 'hand.csv'}"]) == 0
    assert main([*run, f"--landmarks={tmp_path / 'hand.csv'}"]) == 0
    after = hashes(output)
    shard = rows["no_face.jpg"]["shard"]
    assert {name for name in after if after[name] != before[name]} == {f"{shard}.tar", f"{shard}.parquet"}
    row = manifest_rows(output)["no_face.jpg"]
    assert (row["status"], row["landmark_source"]) == ("written", "given")
    np.testing.assert_allclose(np.reshape(row["landmarks"], (68, 2)), points, atol=1 / 64)
    assert main(["verify", str(output)]) == 0


@pytest.mark.parametrize("image_path", ["../../b.jpg", "/etc/b.jpg", "C:\\x\\b.jpg"])
def test_the_folder_of_an_image_path_is_never_looked_at(tmp_path: Path, exported: Path, image_path: str) -> None:
    label(exported / "b.json", imagePath=image_path)
    assert import_labels(str(exported), str(tmp_path / "l.csv")).annotated == 1
    assert list(read_landmark_csv(str(tmp_path / "l.csv"))) == ["b.jpg"]


def test_a_file_that_is_too_large_is_named_and_not_read(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (exported / "a.json").open("ab") as stream:
        stream.truncate(MAX_LABELME_BYTES + 1)
    with (exported / "b.json").open("wb") as stream:
        stream.write(b"\xff\xfe")
    assert main(["handlabel", "import", str(exported), "--output", str(tmp_path / "l.csv")]) == 2
    first, second, _ = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{exported / 'a.json'}: ") and "bytes" in first
    assert second.startswith(f"{exported / 'b.json'}: not valid JSON")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../x.jpg,a.jpg,no_face,0", "file '../x.jpg', expected a name of letters"),
        ("/etc/passwd,a.jpg,no_face,0", "file '/etc/passwd'"),
        (f"{'x' * 300}.jpg,a.jpg,no_face,0", "file 'xxx"),
        ("a\0.jpg,a.jpg,no_face,0", ":4: "),
        ("=1+1.jpg,a.jpg,no_face,0", "file '=1+1.jpg'"),
        (f"{'x' * 200_000},a.jpg,no_face,0", "not valid CSV"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    lines = (exported / "images.csv").read_text().splitlines()
    (exported / "images.csv").write_text("\n".join([*lines[:3], line]) + "\n")
    assert message in error_line(capsys, "handlabel", "import", exported, f"--output={tmp_path / 'l.csv'}")


def test_an_id_that_looks_like_a_formula_comes_back(tmp_path: Path) -> None:
    output = make_run(tmp_path, {"=1+1.jpg": jpeg_file(), "-b.jpg": jpeg_file(seed=1)})
    export_rejects(output, str(tmp_path / "todo"))
    for path in (tmp_path / "todo").glob("*.json"):
        label(path, face())
    assert import_labels(str(tmp_path / "todo"), str(tmp_path / "l.csv")).annotated == 2
    assert [line[:2] for line in (tmp_path / "l.csv").read_text().splitlines()[1:]] == ["'=", "'-"]
    assert list(read_landmark_csv(str(tmp_path / "l.csv"))) == ["=1+1.jpg", "-b.jpg"]
