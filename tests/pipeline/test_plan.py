"""The plan: every image in one shard, equal shards, and fingerprints that change with what matters only."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.building import plan
from pipeline.building import versions as versions_module
from pipeline.building.settings import BuildSettings
from pipeline.building.versions import LIBRARIES, versions
from pipeline.errors import ReadError
from pipeline.inputs.image_ids import sample_keys
from pipeline.records import Dataset, DetectorSettings, ImageTable, ShardPlan
from pipeline.vocabulary import SPLITS, RejectReason
from regions.attributes import AttributeTable

TABLE = AttributeTable("mine", {"Smiling": ("mouth",), "Young": ("nose", "eyes")}, {"hat": ((0, 8, 16),)})


def build_settings(**changes: Any) -> BuildSettings:
    detectors = DetectorSettings()
    settings = BuildSettings("images", "out", TABLE, "face", 0, 0, detectors, versions(detectors))
    return dataclasses.replace(settings, **changes)


def dataset_of(
    splits: Sequence[int], reasons: Sequence[RejectReason | None] | None = None, image_ids: list[str] | None = None
) -> Dataset:
    """Return a data set of made-up images."""
    n = len(splits)
    image_ids = image_ids or [f"{i:06d}.jpg" for i in range(n)]
    random = np.random.default_rng(7)
    images = ImageTable(
        image_ids=image_ids,
        keys=sample_keys(image_ids),
        reasons=list(reasons or [None] * n),
        splits=np.array(splits, dtype=np.uint8),
        labels=(random.random((n, 2)) < 0.5).astype(np.int8),
        sizes=random.integers(1000, 100_000, n),
        modified=random.integers(10**18, 2 * 10**18, n),
        bboxes=random.random((n, 4)).astype(np.float32),
        points=random.random((n, 5, 2)).astype(np.float32),
        landmarks=random.random((n, 68, 2)).astype(np.float32),
    )
    return Dataset(("Smiling", "Young"), images, 0)


def shards_of(dataset: Dataset, samples_per_shard: int = 3, **changes: Any) -> list[ShardPlan]:
    return list(plan.plan_shards(dataset, build_settings(**changes), samples_per_shard))


def fingerprints(shards: Iterable[ShardPlan]) -> list[str]:
    return [shard.fingerprint for shard in shards]


def contents(shards: Iterable[ShardPlan]) -> dict[str, list[str]]:
    return {shard.name: list(shard.images.image_ids) for shard in shards}


images_and_reasons = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([None, None, None, "missing", "unsafe_id"])), max_size=60
)


@settings(deadline=None)
@given(images_and_reasons, st.integers(1, 12), st.integers(0, 2**32))
def test_every_image_is_in_one_shard_and_shards_are_of_equal_size(
    rows: list[tuple[int, str | None]], samples_per_shard: int, seed: int
) -> None:
    splits, reasons = zip(*rows, strict=True) if rows else ((), ())
    dataset = dataset_of(splits, reasons)
    shards = shards_of(dataset, samples_per_shard, seed=seed)
    planned = [image_id for shard in shards for image_id in shard.images.image_ids]
    assert sorted(planned) == dataset.images.image_ids
    for index, split in enumerate(SPLITS):
        mine = [shard for shard in shards if shard.split == split]
        assert [shard.name for shard in mine] == [f"{split}-{number:06d}" for number in range(len(mine))]
        assert all((shard.images.splits == index).all() for shard in mine)
        usable = [list(shard.images.reasons).count(None) for shard in mine]
        rejects = [len(shard.images) - count for shard, count in zip(mine, usable, strict=True)]
        assert max(usable, default=0) <= samples_per_shard
        assert max(usable, default=0) - min(usable, default=0) <= 1
        assert max(rejects, default=0) - min(rejects, default=0) <= 1
        needed = -(-sum(usable) // samples_per_shard)
        assert len(mine) == (max(1, needed) if usable else 0)
        assert len(usable) == 0 or sum(usable) + sum(rejects) == splits.count(index)


def test_every_column_goes_along_with_its_image() -> None:
    dataset = dataset_of([0, 1, 0, 2, 0, 0, 1])
    source = {row.image_id: row for row in dataset.images.rows()}
    for shard in shards_of(dataset, 2):
        for row in shard.images.rows():
            expected = source[row.image_id]
            assert row.key == expected.key
            assert row.reason == expected.reason
            for name in ("labels", "bbox", "points", "landmarks"):
                assert np.array_equal(getattr(row, name), getattr(expected, name))


def test_the_images_of_a_split_are_shuffled() -> None:
    (shard,) = shards_of(dataset_of([0] * 50), 50)
    assert list(shard.images.image_ids) != sorted(shard.images.image_ids)


def test_the_seed_alone_decides_the_order() -> None:
    dataset = dataset_of([0] * 30 + [1] * 20)
    assert contents(shards_of(dataset, seed=1)) == contents(shards_of(dataset, seed=1))
    assert fingerprints(shards_of(dataset, seed=1)) == fingerprints(shards_of(dataset, seed=1))
    assert contents(shards_of(dataset, seed=1)) != contents(shards_of(dataset, seed=2))


def test_a_split_without_images_has_no_shard() -> None:
    assert list(contents(shards_of(dataset_of([2, 2])))) == ["test-000000"]


def test_a_split_of_rejects_alone_has_one_shard_for_their_manifest() -> None:
    (shard,) = shards_of(dataset_of([1] * 9, ["missing"] * 9), 2)
    assert shard.name == "val-000000"
    assert len(shard.images) == 9


def changed(dataset: Dataset, column: str, index: int) -> Dataset:
    """Return the data set with one image different in one column."""
    values = getattr(dataset.images, column)
    if isinstance(values, list):
        values = [*values[:index], values[index] + "x", *values[index + 1 :]]
    else:
        values = values.copy()
        values[index] = ~values[index] if values.dtype == bool else values[index] + 1
    return dataclasses.replace(dataset, images=dataclasses.replace(dataset.images, **{column: values}))


@pytest.mark.parametrize("column", ["labels", "sizes", "bboxes", "points", "landmarks", "keys", "image_ids"])
def test_a_change_of_an_image_changes_its_shard_alone(column: str) -> None:
    dataset = dataset_of([0] * 10)
    before, after = shards_of(dataset), shards_of(changed(dataset, column, 4))
    mine = [dataset.images.image_ids[4] in shard.images.image_ids for shard in before]
    assert sum(mine) == 1
    assert len(before) == 4
    assert [a != b for a, b in zip(fingerprints(before), fingerprints(after), strict=True)] == mine


def test_a_time_changes_no_fingerprint() -> None:
    """A data set that is copied is the same; `building.changed_images` compares the times."""
    dataset = dataset_of([0] * 10)
    before, after = shards_of(dataset), shards_of(changed(dataset, "modified", 4))
    assert fingerprints(before) == fingerprints(after)
    pairs = zip(before, after, strict=True)
    assert sum(plan.sources_hash(a.images) != plan.sources_hash(b.images) for a, b in pairs) == 1


def test_an_image_that_goes_missing_changes_its_shard() -> None:
    before, after = dataset_of([0] * 3), dataset_of([0] * 3, [None, "missing", None])
    assert fingerprints(shards_of(before)) != fingerprints(shards_of(after))


def test_landmarks_given_for_the_first_time_change_their_shard_alone() -> None:
    dataset = dataset_of([0] * 10)
    none = dataclasses.replace(dataset.images, landmarks=np.zeros((10, 0, 2), np.float32))
    one = dataclasses.replace(none, landmarks=np.full((10, 68, 2), np.nan, np.float32))
    one.landmarks[4] = 1
    before = fingerprints(shards_of(dataclasses.replace(dataset, images=none)))
    after = fingerprints(shards_of(dataclasses.replace(dataset, images=one)))
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_the_split_is_part_of_the_fingerprint() -> None:
    (train,), (val,) = shards_of(dataset_of([0])), shards_of(dataset_of([1]))
    assert train.fingerprint != val.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"crop": "none"},
        {"table": dataclasses.replace(TABLE, attributes={"Smiling": ("mouth",), "Young": ("nose",)})},
        {"table": dataclasses.replace(TABLE, attributes=dict(reversed(list(TABLE.attributes.items()))))},
        {"table": dataclasses.replace(TABLE, further_regions={"hat": ((0, 8, 15),)})},
        {"table": dataclasses.replace(TABLE, further_regions={})},
    ],
    ids=["crop", "regions of an attribute", "order of attributes", "outline", "no further region"],
)
def test_options_that_matter_change_every_fingerprint(change: dict[str, Any]) -> None:
    dataset = dataset_of([0] * 10)
    before, after = fingerprints(shards_of(dataset)), fingerprints(shards_of(dataset, **change))
    assert not set(before) & set(after)


@pytest.mark.parametrize("change", [{"output": "elsewhere"}, {"images": "gs://bucket/images"}, {"skipped": 3}])
def test_options_that_do_not_matter_change_none(change: dict[str, Any]) -> None:
    dataset = dataset_of([0] * 10)
    assert fingerprints(shards_of(dataset)) == fingerprints(shards_of(dataset, **change))


@pytest.mark.parametrize("library", LIBRARIES)
def test_another_version_of_a_library_changes_every_fingerprint(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    dataset = dataset_of([0] * 4)
    before = fingerprints(shards_of(dataset))
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == library else version(name))
    assert not set(before) & set(fingerprints(shards_of(dataset)))


@pytest.mark.parametrize(
    "constant",
    [
        "FORMAT_VERSION",
        "RULES_VERSION",
        "CROP_VERSION",
        "MASK_VERSION",
        "QUALITY_VERSION",
        "IMAGES_VERSION",
        "ENCODING_VERSION",
        "DETECTION_VERSION",
    ],
)
def test_another_version_of_our_own_changes_every_fingerprint(monkeypatch: pytest.MonkeyPatch, constant: str) -> None:
    dataset = dataset_of([0] * 4)
    before = fingerprints(shards_of(dataset))
    monkeypatch.setattr(versions_module, constant, 99)
    assert not set(before) & set(fingerprints(shards_of(dataset)))


def test_another_landmark_map_changes_every_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = dataset_of([0] * 4)
    before = fingerprints(shards_of(dataset))
    monkeypatch.setattr(versions_module, "MAP_VERSION", 99)
    assert not set(before) & set(fingerprints(shards_of(dataset)))


@pytest.mark.parametrize("num_landmarks", [0, 68])
def test_a_saved_plan_is_loaded_as_it_was(tmp_path: Path, num_landmarks: int) -> None:
    image_ids = [
        "plain.jpg",
        "größe/顔 1.jpg",
        "\U0001f600.png",
        'quo"te,.jpg',
        "nul\0",
        "",
        "x" * 3000 + ".jpg",
        " space ",
    ]
    dataset = dataset_of([0] * 8, [None, "missing", None, "unsafe_id"] * 2, image_ids)
    images = dataclasses.replace(dataset.images, landmarks=dataset.images.landmarks[:, :num_landmarks])
    (tmp_path / "plan").mkdir()
    (saved,) = shards_of(dataclasses.replace(dataset, images=images), 100)
    plan.save_plan(str(tmp_path), saved)
    loaded = plan.load_plan(str(tmp_path), saved.name)
    assert (loaded.name, loaded.split, loaded.fingerprint) == (saved.name, saved.split, saved.fingerprint)
    for column in dataclasses.fields(ImageTable):
        before, after = getattr(saved.images, column.name), getattr(loaded.images, column.name)
        if isinstance(before, np.ndarray):
            assert before.dtype == after.dtype
            assert np.array_equal(before, after)
        else:
            assert list(before) == list(after)


def _array(**changes: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **changes)
    return stream.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"PK",
        lambda content: content[:-100],
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"000003.jpg", b"00000\xff.jpg"),
        lambda content: _array(split=np.array(0)),
        lambda content: _array(split=np.array(9)),
        lambda content: _array(split=np.array("train")),
        lambda content: _array(split=np.array(0), fingerprint=np.array(["x"], dtype=object)),
    ],
)
def test_a_damaged_plan_leaves_its_shard_unbuilt(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """The worker that finds it reports the shard; nothing in a plan is unpickled."""
    (tmp_path / "plan").mkdir()
    (saved,) = shards_of(dataset_of([0] * 6), 100)
    plan.save_plan(str(tmp_path), saved)
    path = tmp_path / "plan" / "train-000000.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ReadError, match=f"^{path}: damaged: "):
        plan.load_plan(str(tmp_path), saved.name)


def test_only_what_runs_beam_and_its_workers_and_storage_import_beam() -> None:
    folder = Path(plan.__file__).parents[1]
    importing = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(name.name.startswith("apache_beam") for name in node.names))
        or (isinstance(node, ast.ImportFrom) and str(node.module).startswith("apache_beam"))
    }
    workers = {"beam_imports.py", "building/forked_workers.py", "building/worker_process.py"}
    assert importing == workers | {"building/graph.py", "building/runner.py", "storage.py"}
