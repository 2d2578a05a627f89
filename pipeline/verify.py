"""``attparse verify``: recompute every checksum and count, read every sample."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pyarrow as pa
from PIL import Image
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import ShardError
from pipeline.formats.dataset_json import DatasetFile, ShardEntry, read_dataset_file
from pipeline.formats.manifest import read_manifest, read_summary
from pipeline.formats.run_folder import MANIFEST_SUFFIX, SHARD_SUFFIX, RunFolder
from pipeline.formats.samples import StoredSample, decode_packed_masks, read_samples
from pipeline.vocabulary import REJECTED, WRITTEN
from regions.landmarks import NUM_LANDMARKS
from regions.masks import unpack_masks

SAMPLE_FIELDS = ("image_id", "split", "labels", "landmarks", "crop", "landmark_source")


def verify(output: str) -> Iterator[str]:
    """Check a finished run; yield one line per problem.

    Parameters
    ----------
    output : str
        Folder of the run.

    Raises
    ------
    InputError
        If there is no readable dataset.json.
    """
    dataset = read_dataset_file(output)
    yield from _check_files(output, dataset)
    yield from _check_totals(dataset)
    with tqdm(total=dataset.samples, unit=" samples", desc="verify") as bar:
        for shard in dataset.shards:
            yield from _check_shard(output, dataset, shard, bar)


def _check_files(output: str, dataset: DatasetFile) -> Iterator[str]:
    """Compare the files that are there with those that are listed."""
    run = RunFolder(output)
    names = {shard.name for shard in dataset.shards}
    for folder, suffix in ((run.shards, SHARD_SUFFIX), (run.manifests, MANIFEST_SUFFIX)):
        expected = {name + suffix for name in names}
        found = set(storage.list_files(folder))
        for name in sorted(expected - found):
            yield f"{storage.join(folder, name)}: missing"
        for name in sorted(found - expected):
            yield f"{storage.join(folder, name)}: not listed in dataset.json"


def _check_totals(dataset: DatasetFile) -> Iterator[str]:
    for field in ("samples", "rejected"):
        total: int = getattr(dataset, field)
        of_shards = sum(getattr(shard, field) for shard in dataset.shards)
        of_splits = sum(getattr(split, field) for split in dataset.splits.values())
        counts = sum((dataset.landmark_sources if field == "samples" else dataset.rejects).values())
        if not total == of_shards == of_splits == counts:
            yield (
                f"dataset.json: {total} {field} in all, but {of_shards} in its shards,"
                f" {of_splits} in its splits, {counts} in its counts"
            )


def _check_shard(output: str, dataset: DatasetFile, shard: ShardEntry, bar: tqdm[NoReturn]) -> Iterator[str]:
    path = RunFolder(output).shard(shard.name)
    if not storage.exists(path):
        return
    if storage.size_of(path) != shard.bytes:
        yield f"{path}: {storage.size_of(path)} bytes, expected {shard.bytes}"
    if storage.sha256_of(path) != shard.sha256:
        yield f"{path}: sha256 differs from the one in dataset.json"
    keys = []
    try:
        for sample in read_samples(path):
            keys.append(sample.key)
            bar.update()
            for problem in check_sample(sample, dataset, shard.split):
                yield f"{path}: sample {sample.key!r}: {problem}"
    except ShardError as error:
        yield str(error)
    if len(keys) != shard.samples:
        yield f"{path}: {len(keys)} samples, expected {shard.samples}"
    yield from _check_manifest(output, shard, keys)


def _check_manifest(output: str, shard: ShardEntry, keys: list[str]) -> Iterator[str]:
    """Compare a manifest with dataset.json and with the keys in the tar file."""
    name = f"manifest of {shard.name}"
    summary = read_summary(output, shard.name)
    if summary is None:
        yield f"{name}: missing or damaged"
        return
    for field in ("split", "samples", "rejected", "bytes", "sha256"):
        if getattr(summary, field) != getattr(shard, field):
            yield f"{name}: {field} is {getattr(summary, field)!r}, dataset.json says {getattr(shard, field)!r}"
    try:
        rows = read_manifest(output, shard.name, ["key", "status"]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        yield f"{name}: damaged: {error}"
        return
    if [row["key"] for row in rows if row["status"] == WRITTEN] != keys:
        yield f"{name}: its written images are not the samples of the tar file"
    if sum(row["status"] == REJECTED for row in rows) != shard.rejected:
        yield f"{name}: its rejected images are not {shard.rejected}, as dataset.json says"


def check_sample(sample: StoredSample, dataset: DatasetFile, split: str) -> Iterator[str]:
    """Check the three members of a sample against dataset.json; yield one line per problem."""
    height, width = dataset.image_size
    try:
        with Image.open(io.BytesIO(sample.jpeg), formats=("JPEG",)) as image:
            image.load()
            if image.size != (width, height) or image.mode != "RGB":
                yield f"image of {image.width}x{image.height} {image.mode}, expected {width}x{height} RGB"
    except OSError as error:
        yield f"image can't be decoded: {error}"
    description = sample.description
    absent = [field for field in SAMPLE_FIELDS if field not in description]
    if absent:
        yield f"no {absent[0]!r} in its json"
        return
    if description["split"] != split:
        yield f"split {description['split']!r}, expected {split!r}"
    if np.shape(description["landmarks"]) != (NUM_LANDMARKS, 2):
        yield f"landmarks of shape {np.shape(description['landmarks'])}, expected ({NUM_LANDMARKS}, 2)"
    if tuple(description["labels"]) != dataset.attributes:
        yield "labels are not those of dataset.json"
        return
    yield from _check_masks(sample, dataset)


def _check_masks(sample: StoredSample, dataset: DatasetFile) -> Iterator[str]:
    attributes = dataset.attributes
    try:
        planes = decode_packed_masks(sample.png)
    except ValueError as error:
        yield str(error)
        return
    expected = -(-len(attributes) // 8)
    if len(planes) != expected:
        yield f"masks of {len(planes)} planes, expected {expected} for {len(attributes)} attributes"
        return
    covered = unpack_masks(planes, len(attributes)).any(axis=(1, 2))
    for name, has_mask in zip(attributes, covered, strict=True):
        if has_mask and not sample.description["labels"][name]:
            yield f"mask of {name} is not empty, though its label is 0"
