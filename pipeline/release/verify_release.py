"""``attparse verify`` of a release: every file hashed, every mask read, nothing missing and nothing more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NoReturn

import pyarrow as pa
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import InputError, ShardError
from pipeline.formats.dataset_json import ShardEntry
from pipeline.formats.json_files import MAX_JSON_BYTES
from pipeline.formats.samples import JSON, MASKS, parse_description, read_members
from pipeline.release.release_json import (
    LANDMARKS,
    RELEASE_FILE,
    SUMS,
    FileEntry,
    ReleaseFile,
    list_release,
    mask_shard,
    read_release_file,
)
from pipeline.release.release_reader import ExpectedSamples, check_all_rows, read_rows
from regions.messages import counted


def verify_release(folder: str) -> Iterator[str]:
    """Check a release; yield one line per problem, which names the file.

    Parameters
    ----------
    folder : str
        Of the release.
    """
    try:
        found = list_release(folder)
    except InputError as error:
        yield str(error)
        return
    listed, problems = _read_sums(folder)
    yield from problems
    release: ReleaseFile | None = None
    try:
        release = read_release_file(folder)
    except InputError as error:
        yield str(error)
    recorded = {} if release is None else release.files
    found.pop(SUMS, None)
    expected = {*recorded, RELEASE_FILE}
    yield from _check_names(folder, set(found), set(listed), expected)
    checked = expected if release is not None else {*listed, RELEASE_FILE}
    yield from (f"{storage.join(folder, name)}: not part of the release" for name in sorted(set(found) - checked))
    hashes: dict[str, str] = {}
    for name in tqdm(sorted(checked & set(found)), unit=" files", desc="hashes"):
        path = storage.join(folder, name)
        entry = recorded.get(name)
        if entry is not None and found[name] != entry.bytes:
            yield f"{path}: damaged, {found[name]} bytes, expected {entry.bytes} as in {RELEASE_FILE}"
            continue
        try:
            hashes[name] = storage.sha256_of(path)
        except OSError as error:
            yield f"{path}: can't be read: {error.strerror or error}"
            continue
        yield from _check_hash(folder, name, hashes[name], listed.get(name), entry)
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
    if storage.exists(sums):
        yield from (f"{sums}: damaged, it does not list {name}" for name in sorted(expected & found - listed))


def _read_sums(folder: str) -> tuple[dict[str, str], list[str]]:
    """Return the hashes that SHA256SUMS lists by name, and what is wrong with it."""
    path = storage.join(folder, SUMS)
    if not storage.exists(path):
        return {}, [f"{path}: missing"]
    listed: dict[str, str] = {}
    problems: list[str] = []
    try:
        text = storage.read_bytes(path, MAX_JSON_BYTES).decode(errors="replace")
    except OSError as error:
        return {}, [f"{path}: can't be read: {error.strerror or error}"]
    for number, line in enumerate(text.split("\n"), 1):
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
    image_ids: list[str] = []
    keys: list[str] = []
    with tqdm(total=release.dataset.samples, unit=" samples", desc="masks") as bar:
        for shard in release.dataset.shards:
            rows = None
            if LANDMARKS in hashes:
                try:
                    rows = read_rows(folder, release, shard)
                    image_ids += rows["image_id"].to_pylist()
                    keys += rows["key"].to_pylist()
                except InputError as error:
                    yield str(error)
            name = mask_shard(shard.name)
            if release.labels and name in hashes:
                yield from _check_masks(storage.join(folder, name), release, shard, rows, bar)
    if len(keys) == release.dataset.samples:
        try:
            check_all_rows(folder, release, image_ids, keys)
        except InputError as error:
            yield str(error)


def _check_masks(
    path: str, release: ReleaseFile, shard: ShardEntry, rows: pa.Table | None, bar: tqdm[NoReturn]
) -> Iterator[str]:
    """Compare the samples of a mask shard with its rows, which are None where they cannot be read."""
    count = 0
    expected = None if rows is None else ExpectedSamples(release, rows)
    try:
        for key, members in read_members(path, (MASKS, JSON)):
            count += 1
            bar.update()
            description = parse_description(path, key, members[JSON])
            if expected is not None and count <= shard.samples:
                for problem in expected.problems(count - 1, key, description, members[MASKS]):
                    yield f"{path}: sample {key!r}: {problem}"
    except ShardError as error:
        yield str(error)
    if count != shard.samples:
        yield f"{path}: {counted(count, 'sample')}, expected {shard.samples}"
