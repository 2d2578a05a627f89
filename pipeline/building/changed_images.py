"""Which shards of a former run have changed image files: suspected by size and time, confirmed by sha256."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from pipeline import storage
from pipeline.building.plan import sources_hash
from pipeline.building.reading import read_image_bytes
from pipeline.errors import ImageError, ReadError, ShardError
from pipeline.formats.manifest import read_manifest, write_sources
from pipeline.records import ShardPlan, ShardSummary
from regions.messages import counted

HASH_THREADS = 16
"""Images that are read at once; each is held in memory meanwhile."""

log = logging.getLogger("attparse")


def changed_shards(images: str, output: str, done: Sequence[tuple[ShardPlan, ShardSummary]]) -> set[str]:
    """Return the names of those shards whose image files are not the ones that they were built from.

    Where sizes and times are those of the former plan, no file is read. Elsewhere the images are
    hashed; where all are the same as before, the manifest gets the new times.

    Parameters
    ----------
    images, output : str
        Folders of the images and of the run.
    done : sequence of pair of ShardPlan and ShardSummary
        Shards that are complete, with the fingerprint of their plan.
    """
    doubtful = [(plan, summary) for plan, summary in done if summary.sources != sources_hash(plan.images)]
    if not doubtful:
        return set()
    changed: dict[str, int] = {}
    total = sum(len(plan.images) for plan, _ in doubtful)
    with (
        tqdm(total=total, unit=" images", desc="comparing image files", smoothing=0.05) as bar,
        ThreadPoolExecutor(HASH_THREADS) as pool,
    ):
        for plan, summary in doubtful:
            count = _count_changed(images, output, plan, pool)
            bar.update(len(plan.images))
            if count:
                changed[plan.name] = count
            else:
                write_sources(output, summary, sources_hash(plan.images))
    if changed:
        log.info(
            "%s of %s changed since the former run: built again",
            counted(sum(changed.values()), "image"), counted(len(changed), "shard"),
        )  # fmt: skip
    return set(changed)


def _count_changed(images: str, output: str, plan: ShardPlan, pool: ThreadPoolExecutor) -> int:
    """Return how many images of a shard are not the files that its manifest describes."""
    try:
        table = read_manifest(output, plan.name, ["image_id", "sha256"])
    except (OSError, ShardError):
        return len(plan.images)
    recorded = dict(zip(table["image_id"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    rows = zip(plan.images.image_ids, plan.images.reasons, strict=True)
    readable = [image_id for image_id, reason in rows if reason is None]
    hashes = pool.map(functools.partial(_hash, images), readable)
    return sum(digest != recorded.get(image_id) for image_id, digest in zip(readable, hashes, strict=True))


def _hash(images: str, image_id: str) -> str | None:
    """Return the sha256 of an image as a manifest has it, None where it may be readable at another time."""
    try:
        return hashlib.sha256(read_image_bytes(storage.join(images, image_id))).hexdigest()
    except ImageError:
        return ""
    except ReadError:
        return None
