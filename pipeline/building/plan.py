"""Which image goes into which shard, decided before any image is read."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.building.annotate import ENCODING_VERSION
from pipeline.detection.fallback_chain import DETECTION_VERSION
from pipeline.detection.landmark_map import MAP_VERSION
from pipeline.formats.run_folder import RunFolder
from pipeline.images import IMAGES_VERSION
from pipeline.inputs.dataset import Dataset
from pipeline.records import BuildSettings, DetectorSettings, ImageTable, ShardPlan
from pipeline.vocabulary import FORMAT_VERSION, SPLITS
from regions.crop import CROP_VERSION
from regions.masks import MASK_VERSION
from regions.polygons import RULES_VERSION
from regions.quality import QUALITY_VERSION

LIBRARIES = ("numpy", "opencv-contrib-python", "pillow", "shapely")
"""Libraries whose version may change the bytes of a shard."""


def versions(detectors: DetectorSettings) -> dict[str, Any]:
    """Return all that decides what is made of an image, beside the options: rules, detectors, libraries."""
    return {
        "format": FORMAT_VERSION,
        "rules": RULES_VERSION,
        "crop": CROP_VERSION,
        "masks": MASK_VERSION,
        "quality": QUALITY_VERSION,
        "images": IMAGES_VERSION,
        "encoding": ENCODING_VERSION,
        "detection": DETECTION_VERSION,
        "landmark_map": MAP_VERSION,
        "detectors": ",".join(detectors.names),
        **detectors.versions,
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def plan_shards(dataset: Dataset, settings: BuildSettings, samples_per_shard: int) -> Iterator[ShardPlan]:
    """Assign every image to a shard, one shard at a time.

    The images of each split are permuted with the seed and dealt to as few shards as hold at most
    `samples_per_shard` of them, of equal size. Images that are known to be rejected (missing, say)
    take no sample's place; they are dealt evenly to the same shards, for their manifests.
    """
    images = dataset.images
    usable = np.array([not reason for reason in images.reasons])
    options = _options(settings)
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
            yield ShardPlan(f"{split}-{number:06d}", split, table, fingerprint(options, split, table))


def _options(settings: BuildSettings) -> dict[str, Any]:
    return {
        "versions": versions(settings.detectors),
        "crop": settings.crop,
        "refine": settings.refine,
        "attributes": settings.table.attributes,
        "regions": settings.table.further_regions,
    }


def fingerprint(options: dict[str, Any], split: str, images: ImageTable) -> str:
    """Return the hash of all that decides a shard's content."""
    digest = hashlib.sha256(json.dumps([options, split]).encode())
    for texts in (images.image_ids, images.keys, images.reasons):
        digest.update(json.dumps(list(texts)).encode())
    given = images.landmarks[:, :0] if np.isnan(images.landmarks).all() else images.landmarks
    for array in (images.labels, images.sizes, images.bboxes, images.points, given):
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


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
        bboxes=images.bboxes,
        points=images.points,
        landmarks=images.landmarks,
    )
    storage.write_bytes(RunFolder(output).plan(plan.name), stream.getvalue())


def load_plan(output: str, name: str) -> ShardPlan:
    """Load a saved plan."""
    with np.load(io.BytesIO(storage.read_bytes(RunFolder(output).plan(name))), allow_pickle=False) as saved:
        arrays = dict(saved)
    split = SPLITS[int(arrays.pop("split"))]
    shard_fingerprint = str(arrays.pop("fingerprint"))
    texts = {column: json.loads(arrays.pop(column).tobytes()) for column in ("image_ids", "keys", "reasons")}
    return ShardPlan(name, split, ImageTable(**texts, **arrays), shard_fingerprint)


def _texts(values: Sequence[str | None]) -> npt.NDArray[np.uint8]:
    """Return texts as JSON: an array of texts would give each the room of the longest."""
    return np.frombuffer(json.dumps(list(values)).encode(), dtype=np.uint8)
