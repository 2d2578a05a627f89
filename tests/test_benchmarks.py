"""The benchmarks run, on two images: what they compare is really done, and what they count is counted right."""

from __future__ import annotations

import argparse
import contextlib
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import __main__, celeba, growth, images
from benchmarks.annotation import Annotation
from benchmarks.bench import Bench
from benchmarks.floor import floor_rows
from benchmarks.images import Photographs, link_images
from benchmarks.measure import Cost, MeasurementError, command_cost
from benchmarks.paper_method import full_size_masks
from benchmarks.stages import stage_rows
from benchmarks.table import HEADER, markdown_table, median_row, row, row_cells
from benchmarks.writing import compare_masks, compare_writing
from pipeline.demo import FACE_BOX, PHOTOGRAPH_POINTS
from pipeline.errors import InputError
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import read_samples
from pipeline.inputs.dataset import read_dataset
from regions.attributes import load_packaged_table
from regions.landmarks import five_points, mean_shape
from tests.photograph import photograph


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A benchmark of two images: the photograph of the built-in sample, twice."""
    scratch = tmp_path_factory.mktemp("bench")
    cv2.imwrite(str(scratch / "photograph.jpg"), photograph()[..., ::-1])
    points = np.array([PHOTOGRAPH_POINTS], dtype=np.float64)
    photographs = Photographs((scratch / "photograph.jpg",), np.array([FACE_BOX], dtype=np.float64), points)
    return Bench(photographs, count=2, rounds=1, scratch=scratch)


def test_annotation_is_compared_with_the_floor(bench: Bench) -> None:
    rows = floor_rows(bench)
    assert [line.what.split(",")[0] for line in rows] == [
        "CPU per image with points",
        "CPU per image with boxes",
        "CPU per image without hints",
    ]
    assert all(line.ours > 0 and line.other and line.ratio for line in rows)


def test_the_stages_add_up(bench: Bench) -> None:
    stages = {line.what: line.ours for line in stage_rows(bench) if "stage" in line.what}
    total = stages.pop("CPU per image of stage all")
    assert 0.5 * total < sum(stages.values()) <= total


def test_masks_and_writing_are_compared_on_the_samples_of_a_run(bench: Bench) -> None:
    output = bench.scratch / "samples"
    with contextlib.closing(Annotation(replace(bench.data_set, output=str(output)), shards=1)) as annotation:
        annotation.build(0)
    samples = list(read_samples(RunFolder(str(output)).shard("train-000000")))
    assert len(samples) == 2
    assert all(line.ratio is not None and line.ratio < 1 for line in compare_masks(samples, bench.data_set.images))
    assert compare_writing(samples, bench.scratch, rounds=1).ours > 0
    ours, other = (sorted(member_names(bench.scratch / name)) for name in ("ours.tar", "other-000000.tar"))
    assert ours == other
    assert len(ours) == 6


def member_names(path: Path) -> list[str]:
    with tarfile.open(path) as file:
        return file.getnames()


def test_links_are_a_data_set_in_celebas_layout(bench: Bench, tmp_path: Path) -> None:
    config = link_images(bench.photographs.repeated(5), tmp_path / "five", [0, 0, 0, 1, 2])
    table = read_dataset(config).images
    assert list(table.image_ids) == [f"{number:06}.jpg" for number in range(1, 6)]
    assert table.splits.tolist() == [0, 0, 0, 1, 2]
    assert not any(table.reasons)
    assert set(np.unique(table.labels)) == {0, 1}
    assert np.array_equal(table.points, np.tile(bench.photographs.points, (5, 1, 1)))
    assert np.array_equal(table.bboxes, np.tile(bench.photographs.bboxes, (5, 1)))


def test_a_derived_box_is_about_the_face() -> None:
    face = mean_shape() * 100
    x, y, width, height = images.boxes_about(five_points(face)[None])[0]
    inside = ((face > (x, y)) & (face < (x + width, y + height))).all(axis=1)
    assert inside.mean() > 0.9
    assert width < 1.2 * np.ptp(face[:, 0])


def test_images_and_labels_belong_together() -> None:
    with pytest.raises(InputError, match="--images and --labels belong together"):
        images.named_images(argparse.Namespace(images="folder", labels=None, bboxes=None, points=None))


def test_the_papers_masks_are_full_size_and_empty_without_the_attribute() -> None:
    regions = tuple(load_packaged_table("celeba").attributes.values())
    labels = np.zeros(len(regions), dtype=np.int8)
    labels[2] = 1  # Attractive: all regions
    masks = full_size_masks(mean_shape() * 60 + (100, 90), labels, regions, (220, 200))
    assert {mask.shape for mask in masks} == {(220, 200)}
    assert [index for index, mask in enumerate(masks) if mask.any()] == [2]


def test_rows_are_medians_and_the_ratio_is_that_of_the_rounds() -> None:
    assert median_row("what", "ms", [(1, 2), (30, 3), (4, 4)]) == ("what", 4, 3, "ms", 1)
    assert row("what", "s", 3) == ("what", 3, None, "s", None)
    table = markdown_table(HEADER, [row_cells(row("what", "MB", 1234.5, 2)), row_cells(row("x", "s", 0.5))])
    assert table.splitlines()[2:] == [
        "| what | 1,234 |  2.00 |   MB |   617 |",
        "| x    | 0.500 |     - |    s |     - |",
    ]


def test_a_command_is_measured_and_its_failure_is_one() -> None:
    cost = command_cost(["timeit", "-n1", "-r1", "import time; time.sleep(0.5)"])
    assert cost.wall >= cost.cpu > 0
    assert 1 < cost.peak_mb < 100
    with pytest.raises(MeasurementError, match="python -m timeit --none ended with exit code 2"):
        command_cost(["timeit", "--none"])


def test_growth_compares_the_last_images_with_the_first() -> None:
    costs = {1: Cost(3, 2, 100), 2: Cost(4, 3, 100), 4: Cost(6, 5, 100), 8: Cost(14, 9, 150)}
    assert [line.ratio for line in growth.fit_rows(costs)] == [2, 1, 1.5]
    assert growth.cost_cells(costs)[3] == ("8", "14.0", "9.00", "0.571", "150")


def test_the_rehearsal_finds_lost_images(finished_demo: Path) -> None:
    assert "22 samples + 4 rejected images = 26 manifest rows" in celeba.described_result(finished_demo, 26)
    with pytest.raises(MeasurementError, match="expected 27 in all"):
        celeba.described_result(finished_demo, 27)


def test_the_rehearsal_wants_room(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="GB are free, expected 32768"):
        celeba.check_space(tmp_path, 10**12 // 1000)


def test_splits_are_celebas() -> None:
    assert [celeba.split_of_rows(celeba.ROWS).count(split) for split in range(3)] == [162_770, 19_867, 19_962]
    assert celeba.split_of_rows(10) == [0] * 8 + [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only=floor,nothing"], "no part 'nothing'"),
        (["--count=2"], "--count is 2, expected at least --rounds, 5"),
    ],
)
def test_options_that_cannot_be_meant(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        __main__.main(arguments)
    assert message in capsys.readouterr().err
