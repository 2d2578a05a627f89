"""``--refine segmentation``: what it cuts out of the masks, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.detection.mediapipe_detectors import PersonSegmenter
from pipeline.formats.samples import StoredSample, decode_packed_masks, read_samples
from regions import masks
from regions.outlines import REGION_NAMES, region_of_outline
from tests.photograph import Pixels, portrait

pytestmark = pytest.mark.slow

pytest.importorskip("skimage")

CUT = ("below_chin", "ears", "top_of_head")


def run_over(sample: RunConfig, output: Path, *more: str) -> int:
    options = ("images", "labels", "bboxes", "points")
    given = [f"--{name}={getattr(sample, name)}" for name in options]
    return main(["run", *given, f"--output={output}", "--min_coverage=0.5", *more])


def samples_of(output: Path) -> dict[str, StoredSample]:
    return {sample.key: sample for tar in sorted((output / "shards").iterdir()) for sample in read_samples(str(tar))}


@pytest.fixture(scope="module")
def outputs(sample: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs over the sample, without and with ``--refine``; they must not be changed."""
    folder = tmp_path_factory.mktemp("refine")
    assert run_over(sample, folder / "plain") == 0
    assert run_over(sample, folder / "refined", "--refine=segmentation") == 0
    return folder / "plain", folder / "refined"


def test_background_is_cleared_of_three_regions_and_of_no_other() -> None:
    outlines = np.repeat(np.array([0xFF, 0x7F], dtype=np.uint8), 96 * 76).reshape(2, 96, 76)  # of the ten, one further
    person = np.zeros((218, 178), dtype=np.float32)
    person[:, 89:] = 1
    masks.clear_background(outlines, person)
    regions = [*(REGION_NAMES[region] for region in region_of_outline()), "further"]
    for name, mask in zip(regions, np.unpackbits(outlines, axis=0, count=15, bitorder="little"), strict=True):
        assert mask[:, 38:].all()
        assert (mask[:, :38] == (name not in CUT)).all(), name


def test_each_pixel_of_a_mask_asks_the_pixel_of_the_crop_that_it_stands_for() -> None:
    random = np.random.default_rng(0)
    person = random.random((218, 178)).astype(np.float32)
    ear = int(np.flatnonzero(region_of_outline() == REGION_NAMES.index("ears"))[0])
    outlines = np.zeros((2, 96, 76), dtype=np.uint8)
    outlines[ear // 8] = 1 << ear % 8
    masks.clear_background(outlines, person)
    for row, col in random.integers(0, (96, 76), (50, 2)):
        source = person[int((row + 0.5) * 218 / 96), int((col + 0.5) * 178 / 76)]
        assert outlines[:, row, col].any() == (source >= masks.MIN_PERSON)


def test_a_person_is_told_from_the_background_whatever_was_seen_before() -> None:
    segmenter = PersonSegmenter()
    head: Pixels = np.asarray(cv2.resize(portrait(), (178, 218), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    first = segmenter.find(head)
    nobody = segmenter.find(np.full((218, 178, 3), 128, dtype=np.uint8))
    again = segmenter.find(head)
    segmenter.close()
    assert first.shape == nobody.shape == (218, 178)
    assert first.dtype == np.float32
    assert first[40:100, 75:100].min() > 0.9, "the face"
    assert first[:40, :20].max() < 0.1, "beside the head"
    assert nobody.max() < 0.1
    assert (first == again).all()


def test_masks_lose_background_and_nothing_else(outputs: tuple[Path, Path]) -> None:
    plain, refined = map(samples_of, outputs)
    assert list(plain) == list(refined)
    attributes = json.loads((outputs[0] / "dataset.json").read_text())["attribute_table"]["attributes"]
    may_change = np.array([bool(set(regions) & set(CUT)) for regions in attributes.values()])
    lost = 0
    for key, sample in plain.items():
        before, after = (masks.unpack_masks(decode_packed_masks(one.png), 40) for one in (sample, refined[key]))
        assert sample.jpeg == refined[key].jpeg
        assert not (after & ~before).any()
        assert (before == after)[~may_change].all()
        lost += (before & ~after).sum()
    assert lost > 0


def test_the_run_says_that_it_refined_and_can_be_verified(outputs: tuple[Path, Path]) -> None:
    plain, refined = outputs
    assert json.loads((plain / "dataset.json").read_text())["refine"] is None
    assert json.loads((refined / "dataset.json").read_text())["refine"] == "segmentation"
    assert "segmentation" in (refined / "report.html").read_text()
    assert main(["verify", str(refined)]) == 0


def test_kept_crops_give_the_same_masks(sample: RunConfig, outputs: tuple[Path, Path], tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert run_over(sample, again, "--refine=segmentation", f"--landmarks={outputs[0]}") == 0
    refined, repeated = samples_of(outputs[1]), samples_of(again)
    strong = [key for key, one in repeated.items() if one.description.landmark_source == "given"]
    assert len(strong) > len(refined) / 2
    assert all(repeated[key].png == refined[key].png for key in strong)


def test_a_rerun_with_refine_builds_the_shards_again(sample: RunConfig, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run_over(sample, output, "--limit=4") == 0
    before = {path.name: path.read_bytes() for path in (output / "shards").iterdir()}
    assert run_over(sample, output, "--limit=4", "--refine=segmentation") == 0
    assert {path.name: path.read_bytes() for path in (output / "shards").iterdir()} != before
