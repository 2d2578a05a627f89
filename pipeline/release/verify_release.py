"""``attparse verify`` of a release: every file hashed, every mask read, nothing missing and nothing more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import InputError, ShardError
from pipeline.formats.dataset_json import ShardEntry
from pipeline.formats.samples import JSON, MASKS, parse_description, read_members
from pipeline.release.release_json import (
    LANDMARKS,
    RELEASE_FILE,
    SUMS,
    FileEntry,
    ReleaseFile,
    id_problem,
    mask_shard,
    mask_size,
    read_release_file,
)
from pipeline.verify import mask_problems
from regions.messages import counted


def verify_release(folder: str) -> Iterator[str]:
    """Check a release; yield one line per problem, which names the file.

    Parameters
    ----------
    folder : str
        Of the release.
    """
    listed, problems = _read_sums(folder)
    yield from problems
    release: ReleaseFile | None = None
    try:
        release = read_release_file(folder)
    except InputError as error:
        yield str(error)
    recorded = {} if release is None else release.files
    found = set(storage.list_files(folder)) - {SUMS}
    yield from _check_names(folder, found, set(listed), {*recorded, RELEASE_FILE})
    hashes = {name: storage.sha256_of(storage.join(folder, name)) for name in _with_bar(sorted(found))}
    for name, sha256 in hashes.items():
        yield from _check_hash(folder, name, sha256, listed.get(name), recorded.get(name))
    if release is not None:
        yield from _check_content(folder, release, hashes)


def _check_names(folder: str, found: set[str], listed: set[str], expected: set[str]) -> Iterator[str]:
    """Compare the files that are there with those that SHA256SUMS lists and release.json expects."""
    sums = storage.join(folder, SUMS)
    for name in sorted((listed | expected) - found):
        if name in expected:
            yield f"{storage.join(folder, name)}: missing"
        else:
            yield f"{storage.join(folder, name)}: missing, though {sums} lists it; or that line is damaged"
    for name in sorted(found - listed):
        if name in expected and storage.exists(sums):
            yield f"{sums}: damaged, it does not list {name}"
        elif name not in expected:
            yield f"{storage.join(folder, name)}: not part of the release"


def _with_bar(names: list[str]) -> Iterator[str]:
    yield from tqdm(names, unit=" files", desc="hashes")


def _read_sums(folder: str) -> tuple[dict[str, str], list[str]]:
    """Return the hashes that SHA256SUMS lists by name, and what is wrong with it."""
    path = storage.join(folder, SUMS)
    if not storage.exists(path):
        return {}, [f"{path}: missing"]
    listed, problems = {}, []
    for number, line in enumerate(storage.read_bytes(path).decode(errors="replace").split("\n"), 1):
        match = re.fullmatch("([0-9a-f]{64})  (.+)", line)
        if match:
            listed[match[2]] = match[1]
        elif line:
            problems.append(f"{path}:{number}: {line[:90]!r}, expected a sha256 and the name of a file")
    return listed, problems


def _check_hash(folder: str, name: str, sha256: str, listed: str | None, recorded: FileEntry | None) -> Iterator[str]:
    """Compare a file's hash with SHA256SUMS and release.json: where one of these agrees, the other is damaged."""
    path = storage.join(folder, name)
    if listed is not None and sha256 != listed:
        if recorded is not None and sha256 == recorded.sha256:
            sums = storage.join(folder, SUMS)
            yield f"{sums}: damaged, its hash of {name} is not that of the file, which {RELEASE_FILE} confirms"
        else:
            yield f"{path}: damaged, its sha256 differs from the one in {SUMS}"
    elif recorded is not None and sha256 != recorded.sha256:
        yield f"{path}: its sha256 differs from the one in {RELEASE_FILE}"


def _check_content(folder: str, release: ReleaseFile, hashes: Mapping[str, str]) -> Iterator[str]:
    """Read the landmarks and masks that exist, and compare them with release.json."""
    dataset = release.dataset
    path = storage.join(folder, LANDMARKS)
    try:
        with storage.open_read(path) as stream:
            rows = pq.ParquetFile(stream, pre_buffer=False).read(["image_id", "key"], use_threads=False)
        if len(rows) != dataset.samples:
            yield f"{path}: {counted(len(rows), 'row')}, expected {dataset.samples}"
        problem = id_problem(rows["image_id"].to_pylist(), rows["key"].to_pylist())
        if problem:
            yield f"{path}: {problem}"
    except (OSError, pa.ArrowException) as error:
        yield f"{path}: can't be read: {error}"
    expected = {mask_shard(shard.name): shard for shard in dataset.shards if shard.samples}
    if not release.labels:
        return
    with tqdm(total=dataset.samples, unit=" samples", desc="masks") as bar:
        for name in sorted(set(expected) & set(hashes)):
            yield from _check_masks(storage.join(folder, name), release, expected[name], bar)


def _check_masks(path: str, release: ReleaseFile, shard: ShardEntry, bar: Any) -> Iterator[str]:
    attributes, count = release.dataset.attributes, 0
    try:
        for key, members in read_members(path, (MASKS, JSON)):
            count += 1
            bar.update()
            description = parse_description(path, key, members[JSON])
            size = mask_size(release.resolution, description.crop)
            for problem in mask_problems(members[MASKS], description, attributes, size, RELEASE_FILE):
                yield f"{path}: sample {key!r}: {problem}"
    except ShardError as error:
        yield str(error)
    if count != shard.samples:
        yield f"{path}: {counted(count, 'sample')}, expected {shard.samples}"
