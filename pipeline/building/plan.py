"""Which image goes into which shard, decided before any image is read."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.building.reading import read_with_retries
from pipeline.building.settings import BuildSettings
from pipeline.errors import ReadError
from pipeline.formats.run_folder import RunFolder
from pipeline.records import Dataset, DetectorSettings, ImageTable, ShardPlan
from pipeline.vocabulary import SPLITS, Split

DAMAGED_PLAN = (ValueError, TypeError, LookupError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What numpy and zipfile raise where a plan is cut or changed."""


def plan_shards(dataset: Dataset, settings: BuildSettings, samples_per_shard: int) -> Iterator[ShardPlan]:
    """Assign every image to a shard, one shard at a time.

    The images of each split are permuted with the seed and divided among as few shards of equal size
    as hold at most `samples_per_shard` of them. Images that cannot be used (missing ones, for example)
    do not count towards that size; they are spread evenly over the same shards, for their manifests.
    """
    images = dataset.images
    usable = np.array([reason is None for reason in images.reasons])
    for index, split in enumerate(SPLITS):
        members = np.flatnonzero(images.splits == index)
        if not len(members):
            continue
        members = np.random.default_rng([settings.seed, index]).permutation(members)
        good, rejects = members[usable[members]], members[~usable[members]]
        count = max(1, -(-len(good) // samples_per_shard))
        parts = zip(np.array_split(good, count), np.array_split(rejects, count), strict=True)
        for number, part in enumerate(parts):
            table = images.take(np.concatenate(part))
            yield ShardPlan(f"{split}-{number:06d}", split, table, fingerprint(settings, split, table))


def fingerprint(settings: BuildSettings, split: Split, images: ImageTable) -> str:
    """Return the hash of all that decides the content of a shard.

    Parameters
    ----------
    settings : BuildSettings
    split : Split
    images : ImageTable
        Those of the shard, in their order.
    """
    options: dict[str, Any] = {
        "versions": dict(settings.versions),
        "crop": settings.crop,
        "refine": settings.refine,
        "attributes": settings.table.attributes,
        "regions": settings.table.further_regions,
    }
    if not isinstance(settings.annotations, DetectorSettings):
        options["annotations"] = settings.annotations.fingerprint
    digest = hashlib.sha256(json.dumps([options, split]).encode())
    for texts in (images.image_ids, images.keys, images.reasons):
        digest.update(json.dumps(list(texts)).encode())
    given = images.landmarks[:, :0] if np.isnan(images.landmarks).all() else images.landmarks
    for array in (images.labels, images.sizes, images.bboxes, images.points, given):
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def sources_hash(images: ImageTable) -> str:
    """Return the hash of the sizes and times of a shard's image files.

    It is no part of the fingerprint: a data set that is copied has other times and the same content.
    """
    return hashlib.sha256(images.sizes.tobytes() + images.modified.tobytes()).hexdigest()


def save_plan(output: str, plan: ShardPlan) -> None:
    """Save a plan for the worker that builds it."""
    images = plan.images
    stream = io.BytesIO()
    np.savez(
        stream,
        split=np.array(SPLITS.index(plan.split)),
        fingerprint=np.array(plan.fingerprint),
        image_ids=_texts(images.image_ids),
        keys=_texts(images.keys),
        reasons=_texts(images.reasons),
        splits=images.splits,
        labels=images.labels,
        sizes=images.sizes,
        modified=images.modified,
        bboxes=images.bboxes,
        points=images.points,
        landmarks=images.landmarks,
    )
    storage.write_bytes(RunFolder(output).plan(plan.name), stream.getvalue())


def load_plan(output: str, name: str) -> ShardPlan:
    """Load a saved plan.

    Raises
    ------
    ReadError
        If its file cannot be read for a reason that may pass, or is damaged: the next run saves it anew.
    """
    path = RunFolder(output).plan(name)
    content = read_with_retries(path, lambda: storage.read_bytes(path))
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            arrays = dict(saved)
        split = SPLITS[int(arrays.pop("split"))]
        shard_fingerprint = str(arrays.pop("fingerprint"))
        texts = {column: json.loads(arrays.pop(column).tobytes()) for column in ("image_ids", "keys", "reasons")}
        return ShardPlan(name, split, ImageTable(**texts, **arrays), shard_fingerprint)
    except DAMAGED_PLAN as error:
        raise ReadError(f"{path}: damaged: {' '.join(str(error).split())}") from error


def _texts(values: Sequence[str | None]) -> npt.NDArray[np.uint8]:
    """Return texts as JSON: an array of texts would give each the length of the longest."""
    return np.frombuffer(json.dumps(list(values)).encode(), dtype=np.uint8)
