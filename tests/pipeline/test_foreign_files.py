"""Files that systems leave are neither data nor faults, what is no file is not read, and any name is text."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.building.complete import describe_run
from pipeline.building.output_folder import check_former_shards
from pipeline.building.reading import read_image_bytes
from pipeline.config import ReleaseConfig, RunConfig
from pipeline.errors import ImageError, InputError
from pipeline.formats.dataset_json import build_dataset_file, read_dataset_file, write_dataset_file
from pipeline.handlabel.export import export_rejects
from pipeline.inputs.dataset import read_dataset
from pipeline.inputs.former_run import manifests_among
from pipeline.inputs.landmark_reader import landmark_path
from pipeline.parser import make_parser
from pipeline.release import release as release_module
from pipeline.verify import verify
from tests.labeling import export_three, make_run
from tests.synthetic import Shards, annotated, jpeg_file, rejected, write_output

NOT_UTF8 = os.fsdecode(b"b\xe7")


def add(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not ours")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two shards."""
    shards: Shards = {
        "train-000000": [annotated(image_id="a.jpg"), rejected(image_id="b.jpg")],
        "test-000000": [annotated(image_id="d.jpg")],
    }
    write_output(tmp_path, shards)
    return tmp_path / "out"


IN_A_RUN = [
    ".DS_Store",
    "shards/.DS_Store",
    "shards/Thumbs.db",
    "shards/.nfs0000000012345678000001",
    "shards/._train-000000.tar",
    "shards/@eaDir/train-000000.tar",
    "shards/.ipynb_checkpoints/train-000000-checkpoint.tar",
    "manifest/.DS_Store",
    "manifest/desktop.ini",
    "manifest/._train-000000.parquet",
    "manifest/lost+found/train-000001.parquet",
]


def test_foreign_files_in_a_run_are_no_fault(run: Path) -> None:
    add(run, IN_A_RUN)
    assert list(verify(str(run))) == []
    check_former_shards(str(run), ["train-000000", "test-000000"])
    names = manifests_among(landmark_path(str(run)).names)
    assert names == ["manifest/test-000000.parquet", "manifest/train-000000.parquet"]


def test_other_files_in_a_run_are_still_named(run: Path) -> None:
    add(run, ["shards/train-000001.tar"])
    assert list(verify(str(run))) == [f"{run}/shards/train-000001.tar: not listed in dataset.json"]
    with pytest.raises(InputError, match=r"train-000001.tar: not part of this run's 2 shards"):
        check_former_shards(str(run), ["train-000000", "test-000000"])


@pytest.mark.parametrize(
    "names",
    [
        ["._a.jpg", "._b.jpg"],
        [".ipynb_checkpoints/a-checkpoint.jpg"],
        ["__MACOSX/images/._a.jpg", "__MACOSX/a.jpg"],
        ["@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg"],
        ["#recycle/old.jpg", "$RECYCLE.BIN/old.jpg", ".Trash-1000/files/old.jpg"],
    ],
)
def test_foreign_files_among_the_images_are_no_images(tmp_path: Path, names: list[str]) -> None:
    add(tmp_path / "images", ["a.jpg", "b.jpg", *names])
    (tmp_path / "labels.csv").write_text("image_id,Smiling\na.jpg,1\nb.jpg,0\n")
    config = RunConfig(images=str(tmp_path / "images"), labels=str(tmp_path / "labels.csv"), output="unused")
    images = read_dataset(config).images
    assert dict(zip(images.image_ids, images.reasons, strict=True)) == {"a.jpg": None, "b.jpg": None}


def test_a_hidden_image_that_the_label_file_names_is_an_image(tmp_path: Path) -> None:
    add(tmp_path / "images", ["a.jpg", ".b.jpg", ".c.jpg", ".d/e.jpg", ".d/f.jpg"])
    (tmp_path / "labels.csv").write_text("image_id,Smiling\na.jpg,1\n.b.jpg,0\n.d/e.jpg,1\n.absent.jpg,1\n")
    config = RunConfig(images=str(tmp_path / "images"), labels=str(tmp_path / "labels.csv"), output="unused")
    images = read_dataset(config).images
    found = dict(zip(images.image_ids, images.reasons, strict=True))
    assert found == {"a.jpg": None, ".b.jpg": None, ".d/e.jpg": None, ".absent.jpg": "missing"}


def test_a_pipe_that_the_label_file_names_is_unreadable(tmp_path: Path) -> None:
    """A pipe that no row names is no image, and a folder or a link to nothing is missing."""
    add(tmp_path / "images", ["a.jpg", "folder.jpg/x"])
    for name in ("pipe.jpg", "other.jpg", ".pipe.jpg"):
        os.mkfifo(tmp_path / "images" / name)
    (tmp_path / "images" / "device.jpg").symlink_to(os.devnull)
    (tmp_path / "images" / "link.jpg").symlink_to("nothing")
    rows = ["a.jpg", "pipe.jpg", ".pipe.jpg", "device.jpg", "folder.jpg", "link.jpg"]
    (tmp_path / "labels.csv").write_text("image_id,Smiling\n" + "".join(f"{row},1\n" for row in rows))
    config = RunConfig(images=str(tmp_path / "images"), labels=str(tmp_path / "labels.csv"), output="unused")
    images = read_dataset(config).images
    unread = dict.fromkeys(["a.jpg", "pipe.jpg", ".pipe.jpg", "device.jpg"])
    expected = unread | dict.fromkeys(["folder.jpg", "link.jpg"], "missing")
    assert dict(zip(images.image_ids, images.reasons, strict=True)) == expected
    for name in ("pipe.jpg", ".pipe.jpg", "device.jpg"):
        with pytest.raises(ImageError, match="unreadable: not a regular file"):
            read_image_bytes(str(tmp_path / "images" / name))


def test_foreign_files_in_a_folder_of_landmarks_are_not_read(tmp_path: Path) -> None:
    add(tmp_path, ["a.pts", "._a.pts", ".hidden/b.pts", "@eaDir/a.pts", "__MACOSX/a.pts", "Thumbs.db"])
    assert landmark_path(str(tmp_path)).names == ("a.pts",)


def test_a_release_goes_into_the_clone_of_an_empty_repository(run: Path, tmp_path: Path) -> None:
    add(tmp_path / "rel", [".git/config", ".gitattributes", ".cache/huggingface/.gitignore"])
    config = ReleaseConfig(run=str(run), output=str(tmp_path / "rel"))
    assert release_module.release(config)
    add(tmp_path / "other", [".git/config", "notes.txt"])
    with pytest.raises(InputError, match=r"not empty, notes.txt is there"):
        release_module.release(dataclasses.replace(config, output=str(tmp_path / "other")))


def test_rejects_are_exported_beside_foreign_files(tmp_path: Path) -> None:
    folder = tmp_path / "todo"
    add(folder, [".DS_Store", "desktop.ini"])
    export_rejects(make_run(tmp_path, {"a.jpg": jpeg_file()}), str(folder))
    assert sorted(os.listdir(folder)) == [".DS_Store", "a.jpg", "a.json", "desktop.ini", "images.csv"]
    assert {name for name in os.listdir(tmp_path) if name.startswith(".")} == set()


def test_rejects_are_not_exported_beside_other_files(tmp_path: Path) -> None:
    add(tmp_path / "todo", [".DS_Store", "a.json"])
    with pytest.raises(InputError, match="exists, expected a new or empty folder"):
        export_rejects(make_run(tmp_path, {"a.jpg": jpeg_file()}), str(tmp_path / "todo"))


@pytest.mark.parametrize(
    "file", ["dataset.json", "shards/train-000000.tar", "manifest/train-000000.parquet"], ids=os.path.basename
)
@pytest.mark.parametrize("command", ["verify", "report", "release"])
def test_a_pipe_in_a_run_is_not_waited_for(
    run: Path, capsys: pytest.CaptureFixture[str], file: str, command: str
) -> None:
    (run / file).unlink()
    os.mkfifo(run / file)
    options = [f"--output={run.parent / 'released'}"] if command == "release" else []
    assert cli.main([command, str(run), *options]) in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if str(run / file) in line]
    assert any("not a regular file" in line or "missing" in line for line in lines)


def test_a_pipe_in_place_of_the_index_of_exported_rejects_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export_three(tmp_path)
    (folder / "images.csv").unlink()
    os.mkfifo(folder / "images.csv")
    capsys.readouterr()
    assert cli.main(["handlabel", "import", str(folder), f"--output={tmp_path / 'l.csv'}"]) == 2
    assert f"{folder}/images.csv: not a regular file, expected" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["pipe", "/dev/zero"])
@pytest.mark.parametrize("option", ["labels", "partition", "bboxes", "points", "landmarks", "attribute_table"])
def test_a_pipe_or_a_device_in_place_of_an_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    add(tmp_path / "images", ["a.jpg"])
    (tmp_path / "labels.csv").write_text("image_id,Smiling\na.jpg,1\n")
    options = {"images": "images", "labels": "labels.csv", "output": "out", option: path}
    assert cli.main(["run", *(f"--{name}={value}" for name, value in options.items())]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"attparse: {path}: not a regular file")


def test_a_run_in_a_folder_whose_name_is_not_utf8_has_a_dataset_json(run: Path, tmp_path: Path) -> None:
    settings, _ = write_output(tmp_path / "again", {"train-000000": [annotated(image_id="a.jpg")]})
    settings = dataclasses.replace(settings, images=f"/data/{NOT_UTF8}/images")
    write_dataset_file(settings.output, build_dataset_file(describe_run(settings), []))
    assert read_dataset_file(settings.output).images == r"/data/b\xe7/images"


@pytest.mark.parametrize("option", ["name", "url", "license", "citation"])
def test_what_a_user_says_of_the_source_is_text(option: str) -> None:
    arguments = ["run", "--images=i", "--labels=l", "--output=o", f"--source_{option}={NOT_UTF8}"]
    assert vars(make_parser().parse_args(arguments))[f"source_{option}"] == r"b\xe7"


def test_a_path_that_is_not_utf8_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", printed)
    cli._set_up_messages()
    print(NOT_UTF8)
    printed.seek(0)
    assert printed.read() == "b\\udce7\n"
