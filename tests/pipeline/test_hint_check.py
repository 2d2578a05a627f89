"""Hints that are not of the images: what the run prints first, what the report shows first, and the exit code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace
from PIL import Image

from pipeline import cli
from pipeline.formats.dataset_json import DatasetFile, HintEntry, read_dataset_file
from pipeline.formats.manifest import read_manifest
from pipeline.report.hint_check import hint_problem

POINTS, BOXES = "list_landmarks_celeba.txt", "list_bbox_celeba.txt"


@pytest.fixture(scope="module")
def halved(finished_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the built-in sample whose images are half as large as its points and boxes mean."""
    folder = tmp_path_factory.mktemp("halved")
    for name in (POINTS, BOXES, "list_attr_celeba.txt"):
        shutil.copy(finished_demo / "sample" / name, folder)
    (folder / "images").mkdir()
    for name in hinted_images(finished_demo):
        with Image.open(finished_demo / "sample" / "images" / name) as image:
            image.convert("RGB").resize((image.width // 2, image.height // 2)).save(folder / "images" / name, "JPEG")
    return folder


def hinted_images(run_folder: Path) -> list[str]:
    """Return the images of a run whose detected face agrees with a hint."""
    shards = [shard.name for shard in read_dataset_file(str(run_folder)).shards]
    tables = [read_manifest(str(run_folder), name, ["image_id", "hint_agrees", "points"]) for name in shards]
    rows = [row for table in tables for row in table.to_pylist()]
    return [row["image_id"] for row in rows if row["hint_agrees"] and row["points"]]


def run(folder: Path, output: Path, hints: list[str]) -> int:
    return cli.main(
        [
            *("run", f"--images={folder / 'images'}", f"--labels={folder / 'list_attr_celeba.txt'}"),
            *(f"--output={output}", "--skip_missing", "--min_coverage=0", *hints),
        ]
    )


@pytest.mark.parametrize("option", ["points", "bboxes"])
def test_hints_of_another_image_size_are_named_first(
    option: str, halved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = halved / {"points": POINTS, "bboxes": BOXES}[option]
    assert run(halved, tmp_path / "out", [f"--{option}={file}"]) == 3
    dataset = read_dataset_file(str(tmp_path / "out"))
    count = dataset.rejected
    assert count >= 3
    assert dataset.hints == HintEntry(files=(str(file),), agree=0, disagree=count)
    assert dataset.rejects == {"wrong_face": count}
    assert "hinted_box" not in dataset.landmark_sources
    assert "five_points" not in dataset.landmark_sources
    expected = f"{file}: in {count} of {count} images, the faces lie elsewhere than these hints point to"
    assert f"attparse: {expected}" in capsys.readouterr().err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.index(expected) < page.index("images in = ")


@pytest.mark.slow
def test_without_the_hints_the_same_images_are_written(halved: Path, tmp_path: Path) -> None:
    assert run(halved, tmp_path / "out", []) == 0
    dataset = read_dataset_file(str(tmp_path / "out"))
    assert (dataset.rejected, dataset.hints) == (0, HintEntry())


def test_true_hints_agree(finished_demo: Path) -> None:
    dataset = read_dataset_file(str(finished_demo))
    assert [Path(file).name for file in dataset.hints.files] == [BOXES, POINTS]
    assert dataset.hints.agree >= 4
    assert hint_problem(dataset) is None
    assert "do not match the images" not in (finished_demo / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("agree", "disagree", "in_doubt"),
    [(0, 0, False), (0, 1, False), (0, 2, True), (18, 2, False), (17, 2, True), (100_000, 900, False)],
)
def test_hints_are_in_doubt_where_many_disagree(agree: int, disagree: int, in_doubt: bool, finished_demo: Path) -> None:
    dataset: DatasetFile = read_dataset_file(str(finished_demo))
    changed = replace(dataset, hints=HintEntry(files=("a.txt", "b.txt"), agree=agree, disagree=disagree))
    problem = hint_problem(changed)
    assert (problem is not None) is in_doubt
    assert problem is None or problem.startswith(f"a.txt and b.txt: in {disagree:,} of {agree + disagree:,} images")


@pytest.mark.parametrize(
    ("agree", "disagree", "in_doubt"), [(0, 1, False), (2, 2, False), (2, 3, True), (0, 2, True), (3000, 30, False)]
)
def test_hints_are_in_doubt_where_most_images_searched_without_them_disagree(
    agree: int, disagree: int, in_doubt: bool, finished_demo: Path
) -> None:
    hints = HintEntry(files=("a.txt",), agree=10_000, disagree=disagree, sampled_agree=agree, sampled_disagree=disagree)
    problem = hint_problem(replace(read_dataset_file(str(finished_demo)), hints=hints))
    assert (problem is not None) is in_doubt
    expected = f"a.txt: in {disagree} of {agree + disagree} images that were searched without these hints, the faces"
    assert problem is None or problem.startswith(expected)
