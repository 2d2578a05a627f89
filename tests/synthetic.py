"""Synthetic images, rows and whole outputs of a run, made without any detector."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline import storage
from pipeline.building.complete import describe_run
from pipeline.building.encoding import encode_jpeg, encode_packed_masks
from pipeline.building.settings import BuildSettings
from pipeline.building.versions import versions
from pipeline.formats import manifest
from pipeline.formats.dataset_json import DatasetFile, build_dataset_file, write_dataset_file
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import SampleWriter
from pipeline.records import (
    DetectorSettings,
    ImageRow,
    ImageTable,
    RejectedImage,
    ShardPlan,
    ShardSummary,
    WrittenSample,
)
from pipeline.vocabulary import LandmarkSource, RejectReason, Split
from regions.attributes import AttributeTable, parse_table
from regions.crop import cut, face_crop_box
from regions.landmarks import round_landmarks
from regions.masks import AttributeMasks, crop_grid, draw_outlines
from regions.outlines import face_outlines, region_of_outline
from tests.faces import Points, face

SMALL_TABLE = """
name = "small"
[attributes]
Bald = ["top_of_head"]
Big_Nose = ["nose"]
Young = ["all"]
"""

HEIGHT, WIDTH = 500, 400
"""Size of a synthetic image; `tests.faces.face` lies in its middle."""


Shards: TypeAlias = Mapping[str, Sequence[WrittenSample | RejectedImage]]
"""What became of each image, by shard."""


def small_table() -> AttributeTable:
    """Return a table of three attributes."""
    return parse_table(SMALL_TABLE, "small.toml")


def image(*, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.uint8]:
    """Return a smooth color image ``(height, width, 3)`` that depends on the seed."""
    coarse = np.random.default_rng(seed).integers(40, 216, (4, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def jpeg_file(*, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    """Return a synthetic image as a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(image(seed=seed, height=height, width=width)).save(stream, "JPEG")
    return stream.getvalue()


def image_row(
    *,
    image_id: str = "a.jpg",
    labels: Sequence[int] = (1, 0, 1),
    reason: RejectReason | None = None,
    five: Points | None = None,
) -> ImageRow:
    """Return a row without hints but the five points, if given."""
    key = re.sub("[^A-Za-z0-9]", "_", image_id.rpartition(".")[0])
    points = None if five is None else five.astype(np.float32)
    return ImageRow(image_id, key, np.array(labels, dtype=np.int8), None, points, None, reason)


def annotated(
    *,
    image_id: str = "a.jpg",
    labels: Sequence[int] = (1, 0, 1),
    landmark_source: LandmarkSource = "whole_image",
    points: Points | None = None,
    table: AttributeTable | None = None,
    five: Points | None = None,
) -> WrittenSample:
    """Return the sample of an image with a face at `points`; `five` are the five points of the data set."""
    table = table or small_table()
    pixels = image(seed=len(image_id))
    landmarks = round_landmarks(face() if points is None else points)
    box = face_crop_box(landmarks)
    outlines = face_outlines(landmarks[None], table.further_regions)
    outline_map = draw_outlines(outlines, np.array([box]), np.array([[WIDTH, HEIGHT]]), crop_grid())
    row = image_row(image_id=image_id, labels=labels, five=five)
    union = AttributeMasks(table.region_bits(), region_of_outline(table.further_regions))
    (planes,) = union(outline_map, row.labels[None] == 1)
    jpeg, png = encode_jpeg(cut(pixels, np.array(box, dtype=np.float64))), encode_packed_masks(planes)
    return WrittenSample(row, landmark_source, landmarks, box, HEIGHT, WIDTH, "0" * 64, jpeg, png)


def rejected(
    *,
    image_id: str = "b.jpg",
    reason: RejectReason = "no_face",
    detail: str = "",
    guess: Points | None = None,
    five: Points | None = None,
) -> RejectedImage:
    """Return a rejected image; `guess` are its landmarks that failed, `five` the five points of the data set."""
    landmarks = None if guess is None else guess.astype(np.float32)
    return RejectedImage(image_row(image_id=image_id, five=five), reason, detail, guess=landmarks)


def write_output(
    folder: Path,
    shards: Shards,
    *,
    table: AttributeTable | None = None,
    skipped: int = 0,
) -> tuple[BuildSettings, DatasetFile]:
    """Write shards, manifests and dataset.json as a run does.

    Parameters
    ----------
    folder : Path
        The output is its ``out``, the image folder its ``images``.
    shards : mapping
        By name such as ``train-000000``: what became of each image.
    table : AttributeTable, optional
        `small_table` by default.
    skipped : int
        Number of label rows left out.

    Returns
    -------
    settings : BuildSettings
    dataset : DatasetFile
    """
    output = str(folder / "out")
    for part in ("out/shards", "out/manifest", "images"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    table = table or small_table()
    detectors = DetectorSettings()
    settings = BuildSettings(str(folder / "images"), output, table, "face", 0, skipped, detectors, versions(detectors))
    summaries = [_write_shard(settings, name, results) for name, results in shards.items()]
    dataset = build_dataset_file(describe_run(settings), summaries)
    write_dataset_file(output, dataset)
    return settings, dataset


def _write_shard(settings: BuildSettings, name: str, results: Sequence[WrittenSample | RejectedImage]) -> ShardSummary:
    split = cast(Split, name.partition("-")[0])
    attributes = list(settings.table.attributes)
    with storage.create(RunFolder(settings.output).shard(name)) as stream:
        writer = SampleWriter(stream)
        for result in results:
            if isinstance(result, WrittenSample):
                writer.add(result, split, attributes)
        writer.close()
    written = [result for result in results if isinstance(result, WrittenSample)]
    failed = [result for result in results if isinstance(result, RejectedImage)]
    summary = ShardSummary(
        name=name,
        split=split,
        fingerprint="f",
        samples=len(written),
        rejected=len(failed),
        bytes=writer.bytes,
        sha256=writer.sha256,
        landmark_sources=dict(Counter(result.landmark_source for result in written)),
        reasons=dict(Counter(result.reason for result in failed)),
    )
    plan = ShardPlan(name, split, image_table([result.row for result in results]), "f")
    rows = [manifest.manifest_row(result) for result in results]
    manifest.write_manifest(settings.output, rows, plan.images.labels, attributes, summary)
    return summary


def image_table(rows: Sequence[ImageRow]) -> ImageTable:
    """Return rows without hints as a table, all in the training split."""
    count = len(rows)
    return ImageTable(
        image_ids=[row.image_id for row in rows],
        keys=[row.key for row in rows],
        reasons=[row.reason for row in rows],
        splits=np.zeros(count, dtype=np.uint8),
        labels=np.array([row.labels for row in rows], dtype=np.int8),
        sizes=np.full(count, 1000, dtype=np.int64),
        modified=np.full(count, 10**18, dtype=np.int64),
        bboxes=np.full((count, 4), np.nan, dtype=np.float32),
        points=np.full((count, 5, 2), np.nan, dtype=np.float32),
        landmarks=np.zeros((count, 0, 2), dtype=np.float32),
    )
