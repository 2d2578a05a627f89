"""What the masks of a sample take on disk, and what writing samples to shards costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import webdataset

from benchmarks.bench import Bench
from benchmarks.measure import cpu_seconds
from benchmarks.paper_method import full_size_masks
from benchmarks.table import Row, median_row, row
from pipeline import storage
from pipeline.formats.dataset_json import read_dataset_file
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import (
    JPEG,
    JSON,
    MASKS,
    SampleWriter,
    StoredSample,
    decode_packed_masks,
    encode_description,
    read_samples,
)
from regions.attributes import load_packaged_table
from regions.masks import unpack_masks

MASK_SAMPLES = 50
"""Number of samples whose masks are encoded in other ways."""
WRITTEN_SAMPLES = 500
"""Number of samples in one measurement of writing."""


def mask_rows(bench: Bench) -> list[Row]:
    """Compare the masks of samples of a finished run with other files of the same masks."""
    return compare_masks(stored_samples(bench, MASK_SAMPLES), bench.data_set.images)


def compare_masks(samples: Sequence[StoredSample], images: str) -> list[Row]:
    """Compare the bytes of packed masks with those of a file per attribute, PNG or JPEG, small or in full size.

    Parameters
    ----------
    samples : sequence of StoredSample
    images : str
        The folder of their images.
    """
    ours = float(np.mean([len(sample.png) for sample in samples]))
    sizes = [_sizes_as_files(sample, images) for sample in samples]
    others = {kind: float(np.mean([size[kind] for size in sizes])) for kind in sizes[0]}
    return [row(f"masks of a sample, against 40 {kind}", "bytes", ours, other) for kind, other in others.items()]


def _sizes_as_files(sample: StoredSample, images: str) -> dict[str, int]:
    """Return the bytes of all masks of a sample as files of their own, by kind."""
    labels = sample.description.label_values()
    small = list(unpack_masks(decode_packed_masks(sample.png), len(labels)) * np.uint8(255))
    image = cv2.imread(storage.join(images, sample.description.image_id))
    regions = tuple(load_packaged_table("celeba").attributes[name] for name in sample.description.labels)
    full = full_size_masks(np.array(sample.description.landmarks), labels, regions, image.shape[:2])
    return {
        f"{name} of {size}": sum(len(cv2.imencode(ending, mask)[1]) for mask in masks)
        for name, ending in (("PNGs", ".png"), ("JPEGs", ".jpg"))
        for size, masks in (("96x76", small), ("the image's size", full))
    }


def writing_rows(bench: Bench) -> list[Row]:
    """Compare the writing of samples of a finished run with webdataset's."""
    folder = bench.scratch / "writing"
    folder.mkdir()
    return [compare_writing(stored_samples(bench, WRITTEN_SAMPLES), folder, bench.rounds)]


def compare_writing(stored: Sequence[StoredSample], folder: Path, rounds: int) -> Row:
    """Compare the CPU time of writing encoded samples with that of webdataset's ShardWriter."""
    samples = [_members(sample) for sample in stored]
    costs = []
    for _ in range(1 + rounds):
        ours, other = (cpu_seconds(write, samples, folder) for write in (write_ours, write_with_webdataset))
        costs.append((ours / len(samples) * 1e6, other / len(samples) * 1e6))
    return median_row("CPU per sample of writing, against ShardWriter", "µs", costs[1:])


Members = dict[str, bytes]


def write_ours(samples: Sequence[tuple[str, Members]], folder: Path) -> None:
    """Write samples as a run does: hashed, flushed to disk, under a temporary name first."""
    with storage.create(str(folder / "ours.tar")) as stream:
        writer = SampleWriter(stream)
        for key, members in samples:
            writer.add_members(key, members)
        writer.close()


def write_with_webdataset(samples: Sequence[tuple[str, Members]], folder: Path) -> None:
    """Write the same members with webdataset."""
    with webdataset.ShardWriter(str(folder / "other-%06d.tar"), encoder=False, verbose=0) as writer:
        for key, members in samples:
            writer.write({"__key__": key, **members})


def stored_samples(bench: Bench, most: int) -> list[StoredSample]:
    """Return samples of the finished run."""
    folder = RunFolder(str(bench.finished_run))
    shards = read_dataset_file(folder.path).shards
    samples = itertools.chain.from_iterable(read_samples(folder.shard(shard.name)) for shard in shards)
    return list(itertools.islice(samples, most))


def _members(sample: StoredSample) -> tuple[str, Members]:
    text = encode_description(sample.description)
    return sample.key, {JPEG: sample.jpeg, MASKS: sample.png, JSON: text}
