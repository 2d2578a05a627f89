"""Image files that change between two runs: noticed by size and time, told by their content."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline import storage
from pipeline.building import annotate, changed_images, reading
from pipeline.building.changed_images import changed_shards
from pipeline.building.plan import sources_hash
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.errors import ImageError, ReadError
from pipeline.formats import manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.local_files import ABSENT
from pipeline.records import ImageTable, RejectedImage, ShardPlan, ShardSummary
from tests.synthetic import image_row, image_table

SHARDS = {"train-000000": ("a.jpg", "b.jpg", "gone.jpg"), "train-000001": ("c.jpg", "locked.jpg")}
ATTRIBUTES = ("Bald", "Big_Nose", "Young")


class Former:
    """A former run over a few small files; none of them is an image, for none is decoded."""

    def __init__(self, folder: Path) -> None:
        self.images, self.output = folder / "images", str(folder / "out")
        for part in (self.images, folder / "out" / "manifest"):
            part.mkdir(parents=True)
        for name in ("a.jpg", "b.jpg", "c.jpg", "locked.jpg"):
            (self.images / name).write_bytes(f"content of {name}".encode())
        self.summaries = {name: self._write_manifest(name) for name in SHARDS}

    def table(self, name: str) -> ImageTable:
        """Return the images of a shard as a listing finds them now."""
        rows = [
            image_row(image_id=image_id, reason="missing" if image_id == "gone.jpg" else None)
            for image_id in SHARDS[name]
        ]
        files = storage.list_versions(str(self.images))
        versions = np.array([files.get(row.image_id, ABSENT) for row in rows], dtype=np.int64)
        return dataclasses.replace(image_table(rows), sizes=versions[:, 0], modified=versions[:, 1])

    def _write_manifest(self, name: str) -> ShardSummary:
        table = self.table(name)
        results = []
        for row in table.rows():
            known = row.reason is None and row.image_id != "locked.jpg"
            sha256 = hashlib.sha256((self.images / row.image_id).read_bytes()).hexdigest() if known else ""
            results.append(RejectedImage(row, row.reason or ("no_face" if known else "unreadable"), sha256=sha256))
        summary = ShardSummary(
            name, "train", "f", 0, len(results), 0, "", reasons={"no_face": 1}, sources=sources_hash(table)
        )
        rows = [manifest.manifest_row(result) for result in results]
        manifest.write_manifest(self.output, rows, table.labels, ATTRIBUTES, summary)
        return summary

    def done(self) -> list[tuple[ShardPlan, ShardSummary]]:
        """Return the plans of a second run, and what the manifests say of the first."""
        found = []
        for name in SHARDS:
            summary = manifest.read_summary(self.output, name)
            assert summary is not None
            found.append((ShardPlan(name, "train", self.table(name), "f"), summary))
        return found

    def changed(self) -> set[str]:
        return changed_shards(str(self.images), self.output, self.done())


@pytest.fixture
def former(tmp_path: Path) -> Former:
    return Former(tmp_path)


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that were read; locked.jpg, which the former run rejected as unreadable, still is."""
    read: list[str] = []
    real = reading.read_image_bytes

    def read_image(path: str) -> bytes:
        name = os.path.basename(path)
        read.append(name)
        if name == "locked.jpg":
            raise ImageError("unreadable", "no permission")
        return real(path)

    monkeypatch.setattr(changed_images, "read_image_bytes", read_image)
    return read


def touch(path: Path) -> None:
    """Give a file another time, which any file system can store, and leave its content."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 2 * 10**9))


def replace(path: Path) -> None:
    """Give a file other content of the same size."""
    path.write_bytes(path.read_bytes()[::-1])
    touch(path)


def test_no_file_is_read_where_sizes_and_times_are_the_same(former: Former, locked: list[str]) -> None:
    assert former.changed() == set()
    assert locked == []


def test_an_image_replaced_by_one_of_the_same_size_is_noticed(
    former: Former, locked: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("attparse"), "propagate", True)
    replace(former.images / "b.jpg")
    with caplog.at_level(logging.INFO):
        assert former.changed() == {"train-000000"}
    assert set(caplog.messages) == {"1 image of 1 shard changed since the former run: built again"}
    assert sorted(locked) == ["a.jpg", "b.jpg"]


def test_files_copied_with_other_times_are_read_once_and_not_built_again(former: Former, locked: list[str]) -> None:
    before = {name: str(manifest.read_manifest(former.output, name).to_pylist()) for name in SHARDS}
    for path in former.images.iterdir():
        touch(path)
    assert former.changed() == set()
    assert sorted(locked) == ["a.jpg", "b.jpg", "c.jpg", "locked.jpg"]
    for name, rows in before.items():
        assert str(manifest.read_manifest(former.output, name).to_pylist()) == rows
        expected = dataclasses.replace(former.summaries[name], sources=sources_hash(former.table(name)))
        assert manifest.read_summary(former.output, name) == expected
    assert former.changed() == set()
    assert len(locked) == 4


def test_a_manifest_is_the_same_however_it_came_to_its_times(former: Former) -> None:
    path = Path(RunFolder(former.output).manifest("train-000000"))
    touch(former.images / "a.jpg")
    former._write_manifest("train-000000")
    written = path.read_bytes()
    manifest.write_sources(former.output, former.summaries["train-000000"], "of another time")
    assert path.read_bytes() != written
    manifest.write_sources(former.output, former.summaries["train-000000"], sources_hash(former.table("train-000000")))
    assert path.read_bytes() == written


@pytest.mark.usefixtures("locked")
def test_a_manifest_without_times_is_compared_by_content(former: Former) -> None:
    for summary in former.summaries.values():
        manifest.write_sources(former.output, summary, "")
    assert former.changed() == set()
    replace(former.images / "c.jpg")
    assert former.changed() == {"train-000001"}


def test_an_unreadable_image_that_can_be_read_now_is_built_again(former: Former) -> None:
    touch(former.images / "locked.jpg")
    assert former.changed() == {"train-000001"}


def _cannot_be_read(path: str) -> bytes:
    raise ReadError(f"{path}: Input/output error")


@pytest.mark.parametrize(
    "damage",
    [
        lambda former, patch: patch.setattr(changed_images, "read_image_bytes", _cannot_be_read),
        lambda former, patch: Path(RunFolder(former.output).manifest("train-000000")).write_bytes(b"PAR1"),
    ],
    ids=["images that cannot be read", "damaged manifest"],
)
def test_what_cannot_be_compared_is_built_again(
    former: Former, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Former, pytest.MonkeyPatch], None]
) -> None:
    touch(former.images / "a.jpg")
    done = former.done()
    damage(former, monkeypatch)
    assert changed_shards(str(former.images), former.output, done) == {"train-000000"}


@pytest.mark.slow
@pytest.mark.parametrize("during_the_run", [False, True])
def test_a_second_run_has_the_image_that_is_there(
    sample: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during_the_run: bool
) -> None:
    """An image is replaced after the run, or during it, after it was read: the second run builds its shard again."""
    pytest.importorskip("skimage")
    images = Path(shutil.copytree(sample.images, tmp_path / "images"))
    image, output = images / "portrait.jpg", tmp_path / "out"
    command = ["run", f"--images={images}", f"--labels={sample.labels}", f"--output={output}", "--limit=4"]
    command += ["--samples_per_shard=2", "--min_coverage=0", "--direct_num_workers=1"]
    if during_the_run:
        real = reading.read_image_bytes

        def read_then_replace(path: str) -> bytes:
            content = real(path)
            if path == str(image):
                replace(image)
            return content

        monkeypatch.setattr(annotate, "read_image_bytes", read_then_replace)
    assert main(command) == 0
    monkeypatch.undo()
    if not during_the_run:
        replace(image)
    before = {path: path.read_bytes() for path in output.glob("shards/*.tar")}
    assert main(command) == 0
    after = {path: path.read_bytes() for path in output.glob("shards/*.tar")}
    (changed,) = [path for path in after if after[path] != before[path]]
    rows = manifest.read_manifest(str(output), changed.stem, ["image_id", "sha256"]).to_pylist()
    (row,) = [row for row in rows if row["image_id"] == "portrait.jpg"]
    assert row["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
