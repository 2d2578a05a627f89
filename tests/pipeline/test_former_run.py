"""``--landmarks OUT``: the landmarks of a former run, and its crops where they would be made again the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from pipeline import images
from pipeline.building import annotate
from pipeline.building.kept_crops import KeptCrops
from pipeline.building.run import CROP_VERSIONS, run_with_same_crops
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.formats.manifest import read_manifest_file
from pipeline.formats.samples import StoredSample, read_samples
from pipeline.images import DecodedImage
from pipeline.inputs.openface import LANDMARK_COLUMNS
from tests.pipeline.test_storage import OBJECTS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("faces_found_once")]

pytest.importorskip("skimage")

TRIED_AGAIN = {"corrupt.jpg", "no_face.jpg", "noise_with_points.jpg", "hidden_eyes.jpg"}
"""The images of the sample that were rejected."""


@pytest.fixture(scope="module")
def former(sample: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which must not be changed."""
    output = tmp_path_factory.mktemp("former") / "out"
    assert run_over(sample, output) == 0
    return output


@pytest.fixture(scope="module")
def again(sample: RunConfig, former: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run once more, with the landmarks of the former one."""
    output = tmp_path_factory.mktemp("again") / "out"
    assert run_over(sample, output, former) == 0
    return output


@pytest.fixture
def copy(former: Path, tmp_path: Path) -> Path:
    """A copy of the former run to spoil."""
    return Path(shutil.copytree(former, tmp_path / "former"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunConfig], set[str]]:
    """Return a function that returns which images of a sample were decoded."""
    hashes = set()
    real = images.decode

    def decode(content: bytes) -> DecodedImage:
        hashes.add(hashlib.sha256(content).hexdigest())
        return real(content)

    monkeypatch.setattr(images, "decode", decode)
    return lambda sample: {
        path.name for path in Path(sample.images).iterdir() if hashlib.sha256(path.read_bytes()).hexdigest() in hashes
    }


def run_over(sample: RunConfig, output: Path | str, landmarks: Path | str | None = None, *more: str) -> int:
    """Run over the sample, with the landmarks of a path if there is one; return the exit code."""
    options = {
        "images": sample.images,
        "labels": sample.labels,
        "partition": sample.partition,
        "bboxes": sample.bboxes,
        "points": sample.points,
        "output": output,
        "samples_per_shard": 4,
        "min_coverage": 0.5,
    }
    given = [] if landmarks is None else [f"--landmarks={landmarks}"]
    return main(["run", *(f"--{name}={value}" for name, value in options.items()), *given, *more])


def all_images(sample: RunConfig) -> set[str]:
    return {path.name for path in Path(sample.images).iterdir()}


def samples_of(output: Path) -> dict[str, StoredSample]:
    """Return all samples of a run by image id."""
    return {
        sample.description.image_id: sample
        for tar in sorted((output / "shards").iterdir())
        for sample in read_samples(str(tar))
    }


def crops_of(output: Path) -> dict[str, bytes]:
    return {image_id: sample.jpeg for image_id, sample in samples_of(output).items()}


def landmarks_of(output: Path) -> dict[str, tuple[tuple[float, float], ...]]:
    return {image_id: sample.description.landmarks for image_id, sample in samples_of(output).items()}


def sources_of(output: Path) -> dict[str, str]:
    return {image_id: sample.description.landmark_source for image_id, sample in samples_of(output).items()}


def files_of(output: Path) -> dict[str, str]:
    """Return the hash of every shard and manifest."""
    files = [*(output / "shards").iterdir(), *(output / "manifest").iterdir()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def with_other_images(sample: RunConfig, folder: Path) -> RunConfig:
    """Return the sample with some of its images replaced: one good, the rest those that are tried again."""
    images = Path(shutil.copytree(sample.images, folder / "other images"))
    portrait = Image.open(images / "portrait.jpg")
    for name in ("gray.jpg", *TRIED_AGAIN):
        ImageEnhance.Color(portrait).enhance(1.5).save(images / name, quality=90)
    return dataclasses.replace(sample, images=str(images))


def test_the_landmarks_of_a_former_run_are_given_and_its_crops_are_kept(
    sample: RunConfig, former: Path, tmp_path: Path, decoded: Callable[[RunConfig], set[str]]
) -> None:
    output = tmp_path / "out"
    assert run_over(sample, output, former) == 0
    assert decoded(sample) == TRIED_AGAIN
    assert crops_of(output) == crops_of(former)
    assert landmarks_of(output) == landmarks_of(former)
    for image_id, landmark_source in sources_of(former).items():
        assert sources_of(output)[image_id] == "given"
        assert landmark_source != "given"
    for one, other in zip(samples_of(output).values(), samples_of(former).values(), strict=True):
        assert one.png == other.png
        assert msgspec.structs.replace(one.description, landmark_source="given") == msgspec.structs.replace(
            other.description, landmark_source="given"
        )
    assert main(["verify", str(output)]) == 0


def test_another_attribute_table_needs_no_image_decoded(
    sample: RunConfig, former: Path, tmp_path: Path, decoded: Callable[[RunConfig], set[str]]
) -> None:
    table = Path("regions/celeba.toml").read_text().replace('Smiling = ["mouth"]', 'Smiling = ["mouth", "cheeks"]')
    (tmp_path / "mine.toml").write_text(table)
    output = tmp_path / "out"
    assert run_over(sample, output, former, f"--attribute_table={tmp_path / 'mine.toml'}") == 0
    assert decoded(sample) == TRIED_AGAIN
    assert crops_of(output) == crops_of(former)
    ours, theirs = samples_of(output), samples_of(former)
    assert theirs
    assert all(ours[image_id].png != theirs[image_id].png for image_id in theirs)


def test_other_crops_are_made_anew(
    sample: RunConfig, former: Path, tmp_path: Path, decoded: Callable[[RunConfig], set[str]]
) -> None:
    uncropped, back = tmp_path / "uncropped", tmp_path / "back"
    assert run_over(sample, uncropped, former, "--crop=none") == 0
    assert decoded(sample) == all_images(sample)
    assert landmarks_of(uncropped) == landmarks_of(former)
    box = samples_of(uncropped)["whole photograph.jpg"].description.crop
    assert box == (0, 0, 512, 512)
    assert not set(crops_of(uncropped).values()) & set(crops_of(former).values())
    assert run_over(sample, back, uncropped) == 0
    assert crops_of(back) == crops_of(former)


def test_a_changed_image_keeps_its_landmarks_and_gets_a_new_crop(
    sample: RunConfig, former: Path, tmp_path: Path, decoded: Callable[[RunConfig], set[str]]
) -> None:
    other = with_other_images(sample, tmp_path)
    output = tmp_path / "out"
    assert run_over(other, output, former) == 0
    assert decoded(other) == {"gray.jpg"} | TRIED_AGAIN
    assert sources_of(output)["gray.jpg"] == "given"
    assert landmarks_of(output)["gray.jpg"] == landmarks_of(former)["gray.jpg"]
    ours, theirs = crops_of(output), crops_of(former)
    assert {image_id for image_id in theirs if ours[image_id] != theirs[image_id]} == {"gray.jpg"}
    assert ours.keys() - theirs.keys() == TRIED_AGAIN
    manifests = shutil.copytree(former / "manifest", tmp_path / "manifests")  # without crops to keep
    assert run_over(other, tmp_path / "anew", manifests) == 0
    assert files_of(tmp_path / "anew") == files_of(output)


def test_rejected_images_are_tried_again(sample: RunConfig, former: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run_over(with_other_images(sample, tmp_path), output, former) == 0
    landmark_sources = sources_of(output)
    assert {landmark_sources[image_id] for image_id in ("noise_with_points.jpg", "hidden_eyes.jpg")} == {"hinted_box"}
    assert {landmark_sources[image_id] for image_id in ("corrupt.jpg", "no_face.jpg")} == {"whole_image"}
    assert set(landmark_sources) == all_images(sample)


@pytest.mark.parametrize("option", ["--seed=5", "--samples_per_shard=3", "--samples_per_shard=50", "--limit=12"])
def test_other_shards_have_the_right_crops(sample: RunConfig, former: Path, tmp_path: Path, option: str) -> None:
    output = tmp_path / "out"
    assert run_over(sample, output, former, option) == 0
    ours = crops_of(output)
    assert len(ours) >= 12
    assert ours == {image_id: crop for image_id, crop in crops_of(former).items() if image_id in ours}
    assert main(["verify", str(output)]) == 0


@pytest.mark.parametrize("more", [[], ["--skip_missing"]])
def test_an_image_that_has_gone_does_not_mix_up_the_crops(
    sample: RunConfig, former: Path, tmp_path: Path, more: list[str]
) -> None:
    images = Path(shutil.copytree(sample.images, tmp_path / "images"))
    (images / "webp.webp").unlink()
    output = tmp_path / "out"
    assert run_over(dataclasses.replace(sample, images=str(images)), output, former, *more) == 0
    expected = crops_of(former)
    del expected["webp.webp"]
    assert crops_of(output) == expected


def test_crops_are_taken_in_the_order_of_the_shard(former: Path) -> None:
    samples = list(read_samples(str(former / "shards" / "train-000000.tar")))
    ids = [sample.description.image_id for sample in samples]
    kept = KeptCrops(str(former), "train-000000")
    assert kept.take("of no shard.jpg") is None
    crop = kept.take(ids[1])
    assert crop is not None and crop.jpeg == samples[1].jpeg and crop.box == samples[1].description.crop
    assert kept.take(ids[0]) is None
    last = kept.take(ids[2])
    assert last is not None and last.jpeg == samples[2].jpeg
    kept.close()


def damage(run: Path, kind: str) -> None:
    """Spoil a shard of a run."""
    tar = run / "shards" / "train-000001.tar"
    content = bytearray(tar.read_bytes())
    if kind == "truncated":
        tar.write_bytes(content[: len(content) // 2])
    elif kind == "no tar file":
        tar.write_bytes(b"nothing of the kind" * 100)
    elif kind == "spoiled header":
        content[content.index(b".masks.png", 5000) + 20] ^= 1
        tar.write_bytes(content)
    elif kind == "spoiled image":
        content[512 + 3000] ^= 255
        tar.write_bytes(content)
    elif kind == "another shard":
        shutil.copy(run / "shards" / "train-000000.tar", tar)
    elif kind == "deleted":
        tar.unlink()
    else:
        (run / "manifest" / "train-000001.parquet").unlink()


@pytest.mark.parametrize("kind", ["truncated", "no tar file", "spoiled header"])
def test_a_damaged_shard_is_reported_and_its_crops_are_made_again(
    sample: RunConfig, copy: Path, again: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    damage(copy, kind)
    output = tmp_path / "out"
    assert run_over(sample, output, copy) == 0
    assert files_of(output) == files_of(again)
    lines = [line for line in capsys.readouterr().err.splitlines() if "made again" in line]
    assert len(lines) == 1
    assert str(copy / "shards" / "train-000001.tar") in lines[0]


@pytest.mark.parametrize("content", ["{}", "not JSON", '{"format_version": 99}', '{"format_version": 1}'])
def test_a_former_run_with_another_dataset_file_has_landmarks_but_no_crops(
    sample: RunConfig, copy: Path, again: Path, tmp_path: Path, decoded: Callable[[RunConfig], set[str]], content: str
) -> None:
    (copy / "dataset.json").write_text(content)
    assert run_over(sample, tmp_path / "out", copy) == 0
    assert files_of(tmp_path / "out") == files_of(again)
    assert decoded(sample) == all_images(sample)


def test_a_shard_that_is_gone_is_made_again(sample: RunConfig, copy: Path, again: Path, tmp_path: Path) -> None:
    damage(copy, "deleted")
    assert run_over(sample, tmp_path / "out", copy) == 0
    assert files_of(tmp_path / "out") == files_of(again)


@pytest.mark.parametrize("kind", ["spoiled image", "another shard"])
def test_crops_that_are_not_those_of_the_record_are_not_kept(
    sample: RunConfig, copy: Path, again: Path, tmp_path: Path, kind: str
) -> None:
    damage(copy, kind)
    assert run_over(sample, tmp_path / "out", copy) == 0
    assert crops_of(tmp_path / "out") == crops_of(again)


def test_a_shard_without_its_manifest_is_made_anew(sample: RunConfig, copy: Path, again: Path, tmp_path: Path) -> None:
    damage(copy, "no manifest")
    assert run_over(sample, tmp_path / "out", copy) == 0
    assert set(crops_of(tmp_path / "out")) == set(crops_of(again))


def test_a_run_that_was_not_finished_has_landmarks_but_no_crops_to_keep(
    sample: RunConfig, copy: Path, again: Path, tmp_path: Path, decoded: Callable[[RunConfig], set[str]]
) -> None:
    (copy / "dataset.json").unlink()
    assert run_over(sample, tmp_path / "out", copy) == 0
    assert files_of(tmp_path / "out") == files_of(again)
    assert decoded(sample) == all_images(sample)


@pytest.mark.parametrize("path", ["{}/", "{}/manifest", "{}/manifest/"])
def test_other_names_for_the_former_run(
    sample: RunConfig, former: Path, again: Path, tmp_path: Path, decoded: Callable[[RunConfig], set[str]], path: str
) -> None:
    output = tmp_path / "out"
    assert run_over(sample, output, path.format(former)) == 0
    assert files_of(output) == files_of(again)
    assert decoded(sample) == TRIED_AGAIN


def test_relative_names_for_the_former_run(
    sample: RunConfig,
    former: Path,
    again: Path,
    tmp_path: Path,
    decoded: Callable[[RunConfig], set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for folder, path in ((former.parent, former.name), (former, "manifest"), (former, ".")):
        monkeypatch.chdir(folder)
        output = tmp_path / f"out{len(path)}"
        assert run_over(sample, output, path) == 0
        assert files_of(output) == files_of(again)
    assert decoded(sample) == TRIED_AGAIN


def test_a_former_run_in_an_object_store(
    sample: RunConfig, former: Path, again: Path, tmp_path: Path, decoded: Callable[[RunConfig], set[str]]
) -> None:
    OBJECTS.clear()
    for file in former.rglob("*"):
        if file.is_file():
            OBJECTS[f"dict://bucket/former/{file.relative_to(former)}"] = file.read_bytes()
    for number, path in enumerate(("dict://bucket/former", "dict://bucket/former/manifest/")):
        assert run_over(sample, tmp_path / f"out{number}", path) == 0
        assert files_of(tmp_path / f"out{number}") == files_of(again)
    assert decoded(sample) == TRIED_AGAIN


def test_a_single_manifest(sample: RunConfig, former: Path, tmp_path: Path) -> None:
    manifest = former / "manifest" / "train-000001.parquet"
    of_shard = {row["image_id"] for row in read_manifest_file(str(manifest)).to_pylist()} - TRIED_AGAIN
    assert run_over(sample, tmp_path / "out", manifest) == 0
    assert {
        image_id for image_id, landmark_source in sources_of(tmp_path / "out").items() if landmark_source == "given"
    } == of_shard
    assert crops_of(tmp_path / "out") == crops_of(former)


def test_landmarks_made_by_hand_override_those_of_a_former_run(
    sample: RunConfig, former: Path, tmp_path: Path, decoded: Callable[[RunConfig], set[str]]
) -> None:
    points = np.array(landmarks_of(former)["portrait.jpg"]) + 4
    almost_the_same = np.array(landmarks_of(former)["webp.webp"]) + 0.004  # rounded off
    rows = {"portrait.jpg": points, "webp.webp": almost_the_same}
    lines = [",".join([name, *(str(value) for value in values.T.ravel())]) for name, values in rows.items()]
    (tmp_path / "hand.csv").write_text("\n".join([",".join(["image_name", *LANDMARK_COLUMNS]), *lines, ""]))
    output = tmp_path / "out"
    assert run_over(sample, output, former, f"--landmarks={tmp_path / 'hand.csv'}") == 0
    assert decoded(sample) == {"portrait.jpg"} | TRIED_AGAIN
    assert landmarks_of(output) == landmarks_of(former) | {"portrait.jpg": tuple(map(tuple, points.tolist()))}
    ours, theirs = crops_of(output), crops_of(former)
    assert {image_id for image_id in theirs if ours[image_id] != theirs[image_id]} == {"portrait.jpg"}


def test_landmarks_that_no_longer_pass_the_checks_keep_no_crop(
    sample: RunConfig,
    former: Path,
    tmp_path: Path,
    decoded: Callable[[RunConfig], set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(annotate, "plausibility_problem", lambda *_: "no longer a face")
    assert run_over(sample, tmp_path / "out", former) == 0
    assert decoded(sample) == all_images(sample)


def test_crops_are_kept_only_of_a_run_whose_crops_would_be_the_same(copy: Path) -> None:
    document = json.loads((copy / "dataset.json").read_text())
    versions = document["versions"]
    assert run_with_same_crops([str(copy)], "face", versions) == str(copy)
    assert run_with_same_crops([str(copy), "hand.csv"], "face", versions) == str(copy)
    assert run_with_same_crops([], "face", versions) is None
    assert run_with_same_crops([str(copy)], "none", versions) is None
    for name in versions:
        changed = versions | {name: "another"}
        kept = None if name in CROP_VERSIONS else str(copy)
        assert run_with_same_crops([str(copy)], "face", changed) == kept
    other = Path(shutil.copytree(copy, copy.parent / "other"))
    assert run_with_same_crops([str(copy), str(other)], "face", versions) == str(other)
    (other / "dataset.json").write_text(json.dumps(document | {"crop": "none"}))
    assert run_with_same_crops([str(copy), str(other)], "face", versions) is None
    assert set(CROP_VERSIONS) < set(versions)


@pytest.mark.parametrize("path", [".", "manifest", "manifest/train-000000.parquet", "link"])
def test_landmarks_out_of_the_output_are_refused(
    sample: RunConfig, former: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    (tmp_path / "link").symlink_to(former)
    source = tmp_path / "link" if path == "link" else former / path
    before = files_of(former)
    assert run_over(sample, former, source) == 2
    errors = capsys.readouterr().err
    assert errors == f"attparse: --landmarks {source} is in --output {former}: choose another --output\n"
    assert run_over(sample, tmp_path / "link", source) == 2
    assert files_of(former) == before
    assert (former / "dataset.json").exists()


@pytest.mark.parametrize("path", ["dict://bucket/out", "dict://bucket/out/", "dict://bucket/out/manifest"])
def test_landmarks_out_of_an_output_in_an_object_store_are_refused(
    sample: RunConfig, former: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    OBJECTS.clear()
    for file in (former / "manifest").iterdir():
        OBJECTS[f"dict://bucket/out/manifest/{file.name}"] = file.read_bytes()
    before = dict(OBJECTS)
    assert run_over(sample, "dict://bucket/out", path) == 2
    assert "choose another --output" in capsys.readouterr().err
    assert before == OBJECTS


def test_a_former_run_over_other_images_is_refused(
    sample: RunConfig, former: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = Path(sample.labels).read_text().splitlines()
    (tmp_path / "labels.txt").write_text("\n".join(["1", labels[1], labels[2].replace("portrait", "other"), ""]))
    (tmp_path / "images").mkdir()
    shutil.copy(Path(sample.images) / "portrait.jpg", tmp_path / "images" / "other.jpg")
    command = ["run", f"--images={tmp_path / 'images'}", f"--labels={tmp_path / 'labels.txt'}", f"--landmarks={former}"]
    assert main([*command, f"--output={tmp_path / 'out'}"]) == 2
    assert "rows matches an image of the label file" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "out")
