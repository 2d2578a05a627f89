"""Unknown labels end to end: null in KEY.json and the manifest, an empty mask, counted by nobody, kept by releases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.drawing import selection
from pipeline.formats.manifest import read_manifest
from pipeline.formats.samples import JSON, MASKS, StoredSample, decode_packed_masks, read_members, read_samples
from pipeline.inputs.dataset import read_dataset
from regions.masks import unpack_masks
from tests.synthetic import annotated, write_output

pytestmark = pytest.mark.slow

TABLE = '[attributes]\nBald = ["top_of_head"]\nBig_Nose = ["nose"]\nYoung = ["all"]\n'
MAAD_FACE = {"portrait.jpg": (1, 0, -1), "webp.webp": (-1, 1, 0), "whole photograph.jpg": (0, 0, 0)}
"""Cells as MAAD-Face has them: 1 yes, -1 no, 0 unknown."""
EXPECTED: dict[str, dict[str, int | None]] = {
    "portrait.jpg": {"Bald": 1, "Big_Nose": None, "Young": 0},
    "webp.webp": {"Bald": 0, "Big_Nose": 1, "Young": None},
    "whole photograph.jpg": {"Bald": None, "Big_Nose": None, "Young": None},
}


def label_file(folder: Path, kind: str) -> Path:
    """Write the labels of `EXPECTED` in one of the forms that data sets have."""
    empty = {1: "1", -1: "0", 0: ""}
    lines = ["filename,Bald,Big_Nose,Young"]
    for name, values in MAAD_FACE.items():
        cells = [str(value) if kind == "MAAD-Face" else empty[value] for value in values]
        lines.append(",".join([name, *cells]))
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run_over(sample: RunConfig, folder: Path, labels: Path, output: Path) -> int:
    (folder / "table.toml").write_text(f'name = "three"\n{TABLE}')
    options = [f"--images={sample.images}", f"--labels={labels}", f"--attribute_table={folder / 'table.toml'}"]
    return main(["run", *options, f"--output={output}", "--limit=3", "--min_coverage=0"])


def samples_of(output: Path) -> dict[str, StoredSample]:
    shards = sorted(Path(output, "shards").iterdir())
    return {sample.description.image_id: sample for shard in shards for sample in read_samples(str(shard))}


@pytest.fixture(scope="module", params=["MAAD-Face", "empty cells"])
def run(request: pytest.FixtureRequest, sample: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unknown")
    assert run_over(sample, folder, label_file(folder, request.param), folder / "out") == 0
    return folder / "out"


def test_an_unknown_label_is_null_in_the_sample_and_its_mask_is_empty(run: Path) -> None:
    samples = samples_of(run)
    assert {name: sample.description.labels for name, sample in samples.items()} == EXPECTED
    for name, sample in samples.items():
        not_empty = unpack_masks(decode_packed_masks(sample.png), 3).any(axis=(1, 2))
        assert not_empty.tolist() == [label == 1 for label in EXPECTED[name].values()]


def test_an_unknown_label_is_null_in_the_manifest(run: Path) -> None:
    rows = read_manifest(str(run), "train-000000", ["image_id", "labels"]).to_pylist()
    assert {row["image_id"]: row["labels"] for row in rows} == {
        name: {attribute: None if label is None else bool(label) for attribute, label in labels.items()}
        for name, labels in EXPECTED.items()
    }


def test_verify_accepts_unknown_labels(run: Path) -> None:
    assert main(["verify", str(run)]) == 0


def test_a_run_again_builds_nothing_and_a_label_that_becomes_known_builds_its_shard(
    sample: RunConfig, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = label_file(tmp_path, "MAAD-Face")
    output = tmp_path / "out"
    assert run_over(sample, tmp_path, path, output) == 0
    capsys.readouterr()
    assert run_over(sample, tmp_path, path, output) == 0
    assert "1 of 1 shard done already" in capsys.readouterr().err
    path.write_text(path.read_text().replace("portrait.jpg,1,0,-1", "portrait.jpg,1,-1,-1"))
    assert run_over(sample, tmp_path, path, output) == 0
    assert "0 of 1 shard done already" in capsys.readouterr().err
    assert samples_of(output)["portrait.jpg"].description.labels == {"Bald": 1, "Big_Nose": 0, "Young": 0}


def test_crops_and_masks_are_the_same_whether_a_label_is_unknown_or_no(
    sample: RunConfig, run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "labels.csv"
    lines = [",".join([name, *("1" if value == 1 else "-1" for value in values)]) for name, values in MAAD_FACE.items()]
    path.write_text("\n".join(["image_id,Bald,Big_Nose,Young", *lines]) + "\n")
    assert run_over(sample, tmp_path, path, tmp_path / "out") == 0
    ours, theirs = samples_of(tmp_path / "out"), samples_of(run)
    assert {name: (s.jpeg, s.png) for name, s in ours.items()} == {name: (s.jpeg, s.png) for name, s in theirs.items()}


@pytest.fixture(scope="module")
def released(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released") / "rel"
    assert main(["release", str(run), f"--output={folder}"]) == 0
    return folder


def test_a_release_keeps_unknown_labels_and_joins_to_the_same_shards(
    sample: RunConfig, run: Path, released: Path, tmp_path: Path
) -> None:
    assert main(["verify", str(released)]) == 0
    assert main(["join", str(released), f"--images={sample.images}", f"--output={tmp_path / 'joined'}"]) == 0
    name = Path("shards", "train-000000.tar")
    assert (tmp_path / "joined" / name).read_bytes() == (run / name).read_bytes()
    assert main(["verify", str(tmp_path / "joined")]) == 0


def test_larger_masks_of_unknown_labels_are_empty(run: Path, tmp_path: Path) -> None:
    assert main(["release", str(run), f"--output={tmp_path / 'rel'}", "--resolution=218x178"]) == 0
    assert main(["verify", str(tmp_path / "rel")]) == 0


def test_labels_of_the_reader_may_be_unknown(sample: RunConfig, run: Path, released: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,Bald,Big_Nose,Young\n" + "".join(f"{name},,,1\n" for name in MAAD_FACE))
    output = tmp_path / "joined"
    arguments = [f"--images={sample.images}", f"--labels={labels}", f"--output={output}"]
    assert main(["join", str(released), *arguments]) == 0
    for joined in samples_of(output).values():
        assert joined.description.labels == {"Bald": None, "Big_Nose": None, "Young": 1}
    assert main(["verify", str(output)]) == 0


def test_an_image_with_an_unknown_label_does_not_count_as_having_the_attribute(tmp_path: Path) -> None:
    values = {"a.jpg": (-1, 1, 0), "b.jpg": (1, 1, 0), "c.jpg": (0, 1, 0)}
    results = [annotated(image_id=name, labels=labels) for name, labels in values.items()]
    settings, _ = write_output(tmp_path, {"train-000000": results})
    group = selection.with_attribute("Bald")
    found = selection.select_images(settings.output, ["train-000000"], {"Bald": 9}, group)
    assert [image.image_id for image in found["Bald"]] == ["b.jpg"]


def test_mask_members_of_a_release_hold_null(released: Path) -> None:
    members = dict(read_members(str(released / "masks" / "train-000000.tar"), (MASKS, JSON)))
    labels = {json.loads(each[JSON])["image_id"]: json.loads(each[JSON])["labels"] for each in members.values()}
    assert labels == EXPECTED


def test_labels_are_int8_from_the_label_file_to_the_plan(sample: RunConfig, tmp_path: Path) -> None:
    path = label_file(tmp_path, "MAAD-Face")
    dataset = read_dataset(RunConfig(images=sample.images, labels=str(path), output="", limit=3))
    assert dataset.images.labels.dtype == np.int8
    assert dataset.images.labels.tolist() == [[1, -1, 0], [0, 1, -1], [-1, -1, -1]]
