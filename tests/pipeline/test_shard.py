"""One shard: its images are annotated one by one, and their masks are drawn in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.building import annotate, reading, shard
from pipeline.building.annotate import DetectingAnnotator
from pipeline.building.plan import load_plan, save_plan
from pipeline.building.settings import BuildSettings
from pipeline.building.shard import build_shard
from pipeline.building.stopwatch import Stopwatch
from pipeline.errors import ReadError
from pipeline.formats.manifest import read_manifest
from pipeline.records import (
    AnnotatedImage,
    DetectorSettings,
    ImageTable,
    ShardPlan,
    ShardSummary,
    UnbuiltShard,
    WrittenSample,
)
from pipeline.vocabulary import RejectReason
from tests.faces import face
from tests.fake_detectors import FakeDlib, detectors_of
from tests.synthetic import jpeg_file, small_table

NAME = "train-000000"
BROKEN, MISSING = 2, 5
"""The images that are rejected."""


class Shard:
    """A planned shard of nine images with given landmarks."""

    def __init__(self, folder: Path) -> None:
        ids = [f"{i}.jpg" for i in range(9)]
        reasons: list[RejectReason | None] = [None] * 9
        reasons[MISSING] = "missing"
        (folder / "images").mkdir()
        for index, name in enumerate(ids):
            content = b"no image" if index == BROKEN else jpeg_file(seed=index)
            (folder / "images" / name).write_bytes(content)
        self.output = folder / "out"
        for part in ("plan", "shards", "manifest"):
            (self.output / part).mkdir(parents=True)
        landmarks = [face(x=70 + i, y=90 - i, eye_distance=25 + i, angle=3 * i, jitter=0.02, seed=i) for i in range(9)]
        table = ImageTable(
            image_ids=ids,
            keys=[str(i) for i in range(9)],
            reasons=reasons,
            splits=np.zeros(9, dtype=np.uint8),
            labels=(np.random.default_rng(0).random((9, 3)) < 0.7).astype(np.int8),
            sizes=np.ones(9, dtype=np.int64),
            modified=np.ones(9, dtype=np.int64),
            bboxes=np.full((9, 4), np.nan, dtype=np.float32),
            points=np.full((9, 5, 2), np.nan, dtype=np.float32),
            landmarks=np.array(landmarks, dtype=np.float32),
        )
        self.ids, detectors = ids, DetectorSettings(("dlib",))
        save_plan(str(self.output), ShardPlan(NAME, "train", table, "0" * 64))
        self._settings = BuildSettings(
            str(folder / "images"), str(self.output), small_table(), "face", 0, 0, detectors, versions={}
        )
        never = detectors_of(None, None, FakeDlib(face()), ("dlib",))
        self.annotator = DetectingAnnotator(self._settings, never, Stopwatch())

    def build(self) -> ShardSummary | UnbuiltShard:
        return build_shard(NAME, self._settings, self.annotator, Stopwatch())

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.output.rglob("*") if path.suffix in (".tar", ".parquet")}


@pytest.fixture
def planned(tmp_path: Path) -> Shard:
    return Shard(tmp_path)


def test_a_shard_has_the_same_bytes_whatever_its_masks_are_drawn_with(
    planned: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for images in (1, 7, 32):
        monkeypatch.setattr(shard, "IMAGES_AT_ONCE", images)
        assert isinstance(planned.build(), ShardSummary)
        found.append(planned.files())
    assert len(found[0]) == 2
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("images", [2, 32])
def test_rejected_images_keep_their_place(planned: Shard, monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    monkeypatch.setattr(shard, "IMAGES_AT_ONCE", images)
    summary = planned.build()
    assert isinstance(summary, ShardSummary)
    assert (summary.samples, summary.reasons) == (7, {"missing": 1, "not_an_image": 1})
    rows = read_manifest(str(planned.output), NAME, ["image_id", "status"]).to_pylist()
    assert [row["image_id"] for row in rows] == planned.ids
    assert [i for i, row in enumerate(rows) if row["status"] == "rejected"] == [BROKEN, MISSING]


@pytest.mark.parametrize("at", [0, 3, 8])
def test_an_image_that_cannot_be_read_for_now_leaves_no_file(
    planned: Shard, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    read = reading.read_image_bytes

    def fails_once(path: str) -> bytes:
        if Path(path).name == planned.ids[at]:
            raise ReadError(f"{path}: it may pass")
        return read(path)

    monkeypatch.setattr(shard, "IMAGES_AT_ONCE", 4)
    monkeypatch.setattr(annotate, "read_image_bytes", fails_once)
    built = planned.build()
    assert isinstance(built, UnbuiltShard) and "it may pass" in built.problem
    assert not planned.files() and not list((planned.output / "shards").iterdir())


@pytest.mark.parametrize(("images", "named"), [(1, "image '0.jpg' of"), (32, "image '0.jpg' to '8.jpg' of")])
def test_an_unforeseen_error_of_drawing_names_the_images(
    planned: Shard, monkeypatch: pytest.MonkeyPatch, images: int, named: str
) -> None:
    def fail(_: Sequence[AnnotatedImage]) -> list[WrittenSample]:
        raise ZeroDivisionError

    monkeypatch.setattr(shard, "IMAGES_AT_ONCE", images)
    monkeypatch.setattr(planned.annotator, "samples", fail)
    with pytest.raises(RuntimeError, match=f"^{named} shard {NAME}: ZeroDivisionError"):
        planned.build()
    assert not planned.files()


def test_masks_that_are_there_are_kept(planned: Shard) -> None:
    rows = list(load_plan(str(planned.output), NAME).images.rows())
    first, second = (planned.annotator.annotate(row) for row in rows[:2])
    assert isinstance(first, AnnotatedImage) and isinstance(second, AnnotatedImage)
    kept = AnnotatedImage(first.row, first.landmark_source, first.landmarks, first.crop, b"kept")
    samples = planned.annotator.samples([second, kept, first])
    assert samples[1].png == b"kept"
    assert [sample.row.image_id for sample in samples] == ["1.jpg", "0.jpg", "0.jpg"]
    assert [sample.png for sample in planned.annotator.samples([first, second])] == [samples[2].png, samples[0].png]
