"""``attparse verify``: recompute every checksum and count, and read every sample."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import ShardError
from pipeline.formats.dataset_json import DatasetFile, ShardEntry, read_dataset_file
from pipeline.formats.manifest import read_manifest, read_summary
from pipeline.formats.parquet_files import MAX_ROWS
from pipeline.formats.run_folder import DATASET_FILE, MANIFEST_SUFFIX, SHARD_SUFFIX, RunFolder
from pipeline.formats.samples import SampleDescription, StoredSample, decode_packed_masks, read_samples
from pipeline.vocabulary import REJECTED, WRITTEN, Split
from regions.image_files import CostlyFileError, inspect_file
from regions.masks import MASK_HEIGHT, MASK_WIDTH
from regions.messages import counted


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
    yield from _file_problems(output, dataset)
    yield from _total_problems(dataset)
    with tqdm(total=dataset.samples, unit=" samples", desc="verify") as bar:
        for shard in dataset.shards:
            yield from _shard_problems(output, dataset, shard, bar)


def _file_problems(output: str, dataset: DatasetFile) -> Iterator[str]:
    """Compare the files of a run with those that dataset.json lists."""
    run = RunFolder(output)
    names = {shard.name for shard in dataset.shards}
    for folder, suffix in ((run.shards, SHARD_SUFFIX), (run.manifests, MANIFEST_SUFFIX)):
        expected = {name + suffix for name in names}
        found = set(storage.list_files(folder))
        for name in sorted(expected - found):
            yield f"{storage.join(folder, name)}: missing, but listed in {DATASET_FILE}"
        for name in sorted(found - expected):
            yield f"{storage.join(folder, name)}: not listed in {DATASET_FILE}"


def _total_problems(dataset: DatasetFile) -> Iterator[str]:
    """Compare the totals of dataset.json with the sums over shards, over splits, and over sources or reasons."""
    shards, splits = dataset.shards, dataset.splits.values()
    sums = {
        "shards": sum(shard.samples for shard in shards),
        "splits": sum(split.samples for split in splits),
        "landmark sources": sum(dataset.landmark_sources.values()),
    }
    yield from _sum_problems("samples", dataset.samples, sums)
    sums = {
        "shards": sum(shard.rejected for shard in shards),
        "splits": sum(split.rejected for split in splits),
        "reject reasons": sum(dataset.rejects.values()),
    }
    yield from _sum_problems("rejected", dataset.rejected, sums)


def _sum_problems(field: str, total: int, sums: Mapping[str, int]) -> Iterator[str]:
    wrong = [f"{value} over its {what}" for what, value in sums.items() if value != total]
    if wrong:
        yield f"{DATASET_FILE}: {field} is {total}, but the sum is {', '.join(wrong)}"


def _shard_problems(output: str, dataset: DatasetFile, shard: ShardEntry, bar: tqdm[NoReturn]) -> Iterator[str]:
    """Compare a tar file with dataset.json, read its samples, and compare its manifest with both."""
    path = RunFolder(output).shard(shard.name)
    size = storage.size_of(path)
    if size < 0:
        return
    if size != shard.bytes:
        yield f"{path}: {size} bytes, expected {shard.bytes} as in {DATASET_FILE}"
    if storage.sha256_of(path) != shard.sha256:
        yield f"{path}: sha256 differs from the one in {DATASET_FILE}"
    keys: list[str] = []
    count = 0
    try:
        for count, sample in enumerate(read_samples(path), 1):
            if count <= MAX_ROWS:
                keys.append(sample.key)
            bar.update()
            for problem in sample_problems(sample, dataset, shard.split):
                yield f"{path}: sample {sample.key!r}: {problem}"
    except ShardError as error:
        yield str(error)
    if count != shard.samples:
        yield f"{path}: {counted(count, 'readable sample')}, expected {shard.samples} as in {DATASET_FILE}"
    yield from _manifest_problems(output, dataset, shard, keys)


def _manifest_problems(output: str, dataset: DatasetFile, shard: ShardEntry, keys: Sequence[str]) -> Iterator[str]:
    """Compare a manifest with dataset.json and with the keys in the tar file."""
    path = RunFolder(output).manifest(shard.name)
    summary = read_summary(output, shard.name)
    if summary is None:
        if storage.exists(path):
            yield f"{path}: damaged, expected a manifest of attparse"
        return
    for field in ("split", "samples", "rejected", "bytes", "sha256"):
        found, expected = getattr(summary, field), getattr(shard, field)
        if found != expected:
            yield f"{path}: {field} is {found!r}, expected {expected!r} as in {DATASET_FILE}"
    try:
        table = read_manifest(output, shard.name)
    except OSError as error:
        yield f"{path}: {error.strerror or error}"
        return
    except ShardError as error:
        yield str(error)
        return
    attributes = tuple(field.name for field in table.schema.field("labels").type)
    if attributes != dataset.attributes:
        yield f"{path}: its labels are not those of {DATASET_FILE}"
    rows = list(zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True))
    if [key for key, status in rows if status == WRITTEN] != list(keys):
        yield f"{path}: its written images differ from the samples of the tar file"
    rejected = sum(status == REJECTED for _, status in rows)
    if rejected != shard.rejected:
        yield f"{path}: {counted(rejected, 'rejected image')}, expected {shard.rejected} as in {DATASET_FILE}"


def sample_problems(sample: StoredSample, dataset: DatasetFile, split: Split) -> Iterator[str]:
    """Compare the members of a sample with dataset.json and its shard's split; yield one line per problem."""
    height, width = dataset.image_size
    try:
        inspect_file(sample.jpeg)
        with Image.open(io.BytesIO(sample.jpeg), formats=("JPEG",)) as image:
            if image.size != (width, height) or image.mode != "RGB":
                yield f"image of {image.width}x{image.height} {image.mode}, expected {width}x{height} RGB"
            else:
                image.load()
    except (OSError, CostlyFileError, Image.DecompressionBombError) as error:
        yield f"image can't be decoded: {error}"
    if sample.description.split != split:
        yield f"split {sample.description.split!r}, expected {split!r}"
    yield from mask_problems(sample.png, sample.description, dataset.attributes)


def mask_problems(
    png: bytes,
    description: SampleDescription,
    attributes: Sequence[str],
    size: tuple[int, int] = (MASK_HEIGHT, MASK_WIDTH),
    source: str = DATASET_FILE,
) -> Iterator[str]:
    """Compare the masks of a sample with its labels; yield one line per problem.

    Parameters
    ----------
    png : bytes
        The packed masks.
    description : SampleDescription
    attributes : sequence of str
        Those of the run.
    size : tuple of int
        Height and width of a mask.
    source : str
        The file that names the attributes, for messages.
    """
    if tuple(description.labels) != tuple(attributes):
        yield f"labels are not those of {source}"
        return
    try:
        packed = decode_packed_masks(png, size)
    except ValueError as error:
        yield str(error)
        return
    expected = -(-len(attributes) // 8)
    if len(packed) != expected:
        yield (
            f"packed masks of {counted(len(packed), 'byte')} per pixel,"
            f" expected {expected} for {counted(len(attributes), 'attribute')}"
        )
        return
    seen = np.bitwise_or.reduce(packed.reshape(len(packed), -1), axis=1)
    not_empty = np.unpackbits(seen)[: len(attributes)] != 0
    for index in np.flatnonzero(not_empty & (description.label_values() != 1)):
        name = attributes[index]
        label = description.labels[name]
        yield f"mask of {name} is not empty, but its label is {'unknown' if label is None else label}"
