"""``attparse release``: what a run made, without its images, for others to join with their own copy."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline import storage
from pipeline.building.encoding import encode_packed_masks
from pipeline.building.sample_maker import SampleMaker
from pipeline.building.stopwatch import Stopwatch
from pipeline.config import RESOLUTIONS, ReleaseConfig
from pipeline.errors import InputError
from pipeline.formats.dataset_json import DatasetFile, read_dataset_file
from pipeline.formats.manifest import landmark_rows, read_manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import JSON, MASKS, SampleWriter, StoredSample, encode_description, read_samples
from pipeline.records import Crop, FloatRows
from pipeline.release.croissant import describe_croissant
from pipeline.release.dataset_card import dataset_card, license_text, packaged
from pipeline.release.geoparquet import COLUMNS, landmark_schema, landmark_table
from pipeline.release.release_json import (
    CARD,
    CONTACT_SHEET,
    CROISSANT,
    FILES,
    LANDMARKS,
    LICENSE,
    REJECTS,
    RELEASE_FILE,
    SUMS,
    TABLE,
    FileEntry,
    ReleaseFile,
    id_problem,
    mask_shard,
    mask_size,
)
from pipeline.verify import verify
from pipeline.vocabulary import REJECTED, RELEASE_VERSION, WRITTEN
from regions.attributes import AttributeTable, table_toml
from regions.boxes import Box
from regions.csv_cells import defused
from regions.masks import Grid, crop_grid
from regions.messages import counted

ROWS_PER_GROUP = 1000
UNFINISHED = ".attparse-release"
"""Name of the mark in the folder of a release that is not finished: what is there may be written again."""
MAX_MARK_BYTES = 1000
REJECT_COLUMNS = ("image_id", "split", "shard", "reason", "detail", "sha256")

log = logging.getLogger("attparse")


class _Files:
    """Writes the files of a release, and keeps their sizes and hashes."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.known: dict[str, FileEntry] = {}
        """``bytes`` and ``sha256`` by name."""

    def path(self, name: str) -> str:
        return storage.join(self.folder, *name.split("/"))

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        with storage.create(self.path(name)) as stream:
            yield stream
        path = self.path(name)
        self.known[name] = FileEntry(bytes=storage.size_of(path), sha256=storage.sha256_of(path))

    def write(self, name: str, content: bytes) -> None:
        with self.create(name) as stream:
            stream.write(content)


def release(config: ReleaseConfig) -> dict[str, FileEntry]:
    """Write a release of a finished run.

    Returns
    -------
    dict of str to FileEntry
        Size and hash of each file, by name.

    Raises
    ------
    InputError
        If the run has faults, or the folder is not empty or cannot be written.
    """
    dataset = read_dataset_file(config.run)
    if storage.is_below(config.output, config.run) or storage.is_below(config.run, config.output):
        raise InputError(f"--output {config.output}: expected a folder apart from that of the run, {config.run}")
    storage.make_folder(config.output)
    with storage.locked(config.output):
        names = {*FILES, RELEASE_FILE, SUMS, *(mask_shard(shard.name) for shard in dataset.shards)}
        _check_folder(config, dataset, names)
        _check_run(config.run, dataset)
        files = _Files(config.output)
        try:
            _start(config, dataset)
            _write(config, dataset, files)
        except BaseException:
            for name in (*names, UNFINISHED):
                storage.delete(files.path(name))
            storage.delete_empty_folder(files.path("masks"))
            raise
        storage.delete(files.path(UNFINISHED))
    return files.known


def _write(config: ReleaseConfig, dataset: DatasetFile, files: _Files) -> None:
    """Write the files of a release, release.json and SHA256SUMS last."""
    table = dataset.table()
    row_groups = _write_samples(config, dataset, table, files)
    _write_rejects(config.run, dataset, files)
    files.write(TABLE, table_toml(table).encode())
    files.write(CONTACT_SHEET, packaged(CONTACT_SHEET))
    files.write(LICENSE, license_text(dataset))
    files.write(CARD, dataset_card(dataset, files.known, config.resolution, config.without_labels))
    files.write(CROISSANT, describe_croissant(dataset, files.known, config.url, config.creator))
    description = ReleaseFile(
        release_version=RELEASE_VERSION,
        resolution=config.resolution,
        labels=not config.without_labels,
        dataset=msgspec.structs.replace(dataset, images=""),
        row_groups=row_groups,
        files=dict(files.known),
    )
    files.write(RELEASE_FILE, msgspec.json.format(msgspec.json.encode(description), indent=1) + b"\n")
    sums = "".join(f"{file.sha256}  {name}\n" for name, file in sorted(files.known.items()))
    files.write(SUMS, sums.encode())


def _content_of_mark(config: ReleaseConfig, dataset: DatasetFile) -> bytes:
    """Return what the mark of an unfinished release holds: the hash of all that it is made from."""
    options = json.dumps([config.resolution, config.without_labels, config.url, config.creator]).encode()
    return hashlib.sha256(options + msgspec.json.encode(dataset)).hexdigest().encode()


def _start(config: ReleaseConfig, dataset: DatasetFile) -> None:
    """Mark the folder as that of an unfinished release, and delete what a killed one left half-written."""
    storage.write_bytes(storage.join(config.output, UNFINISHED), _content_of_mark(config, dataset))
    masks = storage.join(config.output, "masks")
    if not config.without_labels:
        storage.make_folder(masks)
    for folder in (config.output, masks):
        if storage.exists(folder):
            storage.delete_temporaries(folder)


def _check_folder(config: ReleaseConfig, dataset: DatasetFile, names: Collection[str]) -> None:
    """Refuse a folder with other files than those that the same release left when it was killed."""
    found = sorted(storage.list_files(config.output))
    mark = storage.join(config.output, UNFINISHED)
    if not storage.exists(mark):
        if found:
            raise InputError(f"{config.output}: not empty, {found[0]} is there; choose another --output")
        return
    with storage.explained(mark):
        content = storage.read_bytes(mark, MAX_MARK_BYTES)
    if content != _content_of_mark(config, dataset):
        raise InputError(
            f"{config.output}: the unfinished release of another run, or with other options, is there;"
            " choose another --output or delete it"
        )
    foreign = [name for name in found if name not in names]
    if foreign:
        raise InputError(f"{config.output}: {foreign[0]} is there, which is not part of the release; remove it")


def _check_run(output: str, dataset: DatasetFile) -> None:
    """Refuse a run with faults, or without samples."""
    problems = list(verify(output))
    if problems:
        raise InputError(
            f"{output}: {counted(len(problems), 'problem')}, the first: {problems[0]} (attparse verify lists all)"
        )
    if not dataset.samples:
        raise InputError(f"{output}: the run has no samples, all {dataset.rejected} images were rejected")
    taken = set(dataset.regions) & set(COLUMNS)
    if taken:
        raise InputError(
            f"{output}: region {min(taken)!r} has the name of a column of {LANDMARKS}, expected another name"
        )


def _write_samples(
    config: ReleaseConfig, dataset: DatasetFile, table: AttributeTable, files: _Files
) -> dict[str, tuple[int, int]]:
    """Write landmarks.parquet and the mask shards; return each shard's first row group and their number."""
    row_groups: dict[str, tuple[int, int]] = {}
    groups = 0
    bar = tqdm(total=dataset.samples, unit=" samples", desc="release")
    with bar, contextlib.ExitStack() as stack:
        stream = stack.enter_context(files.create(LANDMARKS))
        writer = stack.enter_context(pq.ParquetWriter(stream, landmark_schema(table.region_names), compression="zstd"))
        maker: SampleMaker | None = None
        if config.resolution != RESOLUTIONS[0] and not config.without_labels:
            maker = SampleMaker(table, dataset.crop, dataset.refine, Stopwatch())
            stack.callback(maker.close)
        for shard in dataset.shards:
            name, first = shard.name, groups
            rows = _written_rows(config.run, name)
            for start in range(0, len(rows), ROWS_PER_GROUP):
                writer.write_table(landmark_table(rows.slice(start, ROWS_PER_GROUP), table))
                groups += 1
            row_groups[name] = (first, groups - first)
            if not config.without_labels:
                _write_masks(config, maker, name, rows, files)
            bar.update(len(rows))
    return row_groups


def _written_rows(output: str, name: str) -> pa.Table:
    rows = read_manifest(output, name, [*COLUMNS, "status"])
    written = rows.filter(pc.equal(rows["status"], WRITTEN))
    problem = id_problem(written["image_id"].to_pylist(), written["key"].to_pylist())
    if problem:
        raise InputError(f"{RunFolder(output).manifest(name)}: {problem}")
    return written


def _write_masks(config: ReleaseConfig, maker: SampleMaker | None, name: str, rows: pa.Table, files: _Files) -> None:
    """Write a shard of masks, copied where there is no maker, and descriptions; none where it has no samples."""
    if not len(rows):
        return
    sizes = zip(rows["height"].to_pylist(), rows["width"].to_pylist(), landmark_rows(rows), strict=True)
    with files.create(mask_shard(name)) as stream:
        tar = SampleWriter(stream)
        for sample, (height, width, landmarks) in zip(
            read_samples(RunFolder(config.run).shard(name)), sizes, strict=True
        ):
            png = sample.png
            if maker is not None:
                png = encode_packed_masks(
                    _larger_packed_masks(maker, sample, (height, width), landmarks, config.resolution)
                )
            text = encode_description(sample.description)
            tar.add_members(sample.key, {MASKS: png, JSON: text})
        tar.close()


def _larger_packed_masks(
    maker: SampleMaker, sample: StoredSample, size: tuple[int, int], landmarks: FloatRows, resolution: str
) -> npt.NDArray[np.uint8]:
    """Draw the packed masks of a sample at the crop's size in the training set, or in the source image."""
    crop = Crop("", *size, sample.description.crop, sample.jpeg)
    labels = sample.description.label_values()
    packed: npt.NDArray[np.uint8] = maker.packed_masks([landmarks], [labels], [crop], _grid(crop.box, resolution))[0]
    return packed


def _grid(box: Box, resolution: str) -> Grid:
    height, width = mask_size(resolution, box)
    if resolution != "source":
        return crop_grid(height, width)
    return Grid(np.arange(width) + 0.5, np.arange(height) + 0.5, width, height)


def _write_rejects(output: str, dataset: DatasetFile, files: _Files) -> None:
    with files.create(REJECTS) as stream:
        stream.write((",".join(REJECT_COLUMNS) + "\n").encode())
        for shard in dataset.shards:
            if not shard.rejected:
                continue
            rows = read_manifest(output, shard.name, [*REJECT_COLUMNS, "status"]).to_pylist()
            stream.write(_as_csv(row for row in rows if row["status"] == REJECTED))


def _as_csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([defused(row[name] or "") for name in REJECT_COLUMNS] for row in rows)
    return text.getvalue().encode()
