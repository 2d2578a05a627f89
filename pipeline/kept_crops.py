"""The crops of a former run, where those of a new one would be the same: no need to decode the picture again."""

from __future__ import annotations

import contextlib
import logging
import posixpath
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from pipeline import storage
from pipeline.dataset_file import DATASET_FILE, read_dataset_file
from pipeline.manifest import MANIFEST_FOLDER, WRITTEN, completed_shard, read_manifest, read_summary
from pipeline.records import Crop
from pipeline.samples import Sample, read_samples, shard_path

DECIDING_VERSIONS = ("format", "crop", "images", "encoding", "numpy", "opencv-contrib-python", "pillow")
"""Crops made with equal ones of these, from the same file and box, are the same to the byte."""

log = logging.getLogger("attparse")


def run_with_same_crops(paths: Sequence[str], crop: str, versions: Mapping[str, Any]) -> str | None:
    """Return the last one among the paths that is a run, if it made crops as the new run would.

    Parameters
    ----------
    paths : sequence of str
        Runs or their manifest folders, and other sources of landmarks.
    crop : str
        ``face`` or ``none``.
    versions : mapping
        Of the new run.
    """
    for path in reversed(paths):
        parent, name = posixpath.split(path.rstrip("/"))
        folder = parent if name == MANIFEST_FOLDER else path
        if not storage.exists(storage.join(folder, DATASET_FILE)):
            continue
        document = read_dataset_file(folder)
        former = document["versions"]
        same = document["crop"] == crop and all(former.get(n) == versions[n] for n in DECIDING_VERSIONS)
        return folder if same else None
    return None


class KeptCrops:
    """The crops of a shard of a former run, read along with the same shard of the new one.

    Where the former run dealt other images to the shard, or in another order, it has none to give.

    Parameters
    ----------
    run : str or None
        Folder of the former run.
    shard : str
        Name of the shard.
    """

    def __init__(self, run: str | None, shard: str) -> None:
        self._crops = _read_crops(run, shard)
        self._next = next(self._crops, None)

    def take(self, image_id: str) -> Crop | None:
        """Return the crop of an image; images must be asked for in the order of the shard."""
        if self._next is None or self._next[0] != image_id:
            return None
        crop = self._next[1]
        self._next = next(self._crops, None)
        return crop

    def close(self) -> None:
        """Close the former shard."""
        self._crops.close()


def _read_crops(run: str | None, shard: str) -> Generator[tuple[str, Crop], None, None]:
    summary = None if run is None else read_summary(run, shard)
    if run is None or summary is None:
        return
    path = shard_path(run, shard)
    if completed_shard(run, shard, summary.fingerprint, path) is None:
        log.warning("%s: not the file that its manifest tells of, its crops are made again", path)
        return
    columns = ["image_id", "status", "sha256", "height", "width", "crop"]
    rows = (row for row in read_manifest(run, shard, columns).to_pylist() if row["status"] == WRITTEN)
    with contextlib.closing(read_samples(path)) as samples:  # type: ignore[type-var]
        for row, sample in zip(rows, samples, strict=True):
            yield row["image_id"], _kept_crop(row, sample)


def _kept_crop(row: Mapping[str, Any], sample: Sample) -> Crop:
    x0, y0, x1, y1 = row["crop"]
    return Crop(row["sha256"], row["height"], row["width"], (x0, y0, x1, y1), sample.jpeg)
