"""The crops of a former run, used again where a new run would make the same ones: no image is decoded for them."""

from __future__ import annotations

import itertools
import logging
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import storage
from pipeline.building.versions import CROP_STAGES, names_of
from pipeline.errors import InputError
from pipeline.formats.dataset_json import read_dataset_file
from pipeline.formats.manifest import read_manifest, read_summary
from pipeline.formats.run_folder import MANIFEST, RunFolder
from pipeline.formats.samples import read_samples
from pipeline.records import Crop
from pipeline.vocabulary import WRITTEN
from regions.boxes import Box

CROP_VERSIONS = names_of(CROP_STAGES)
"""Crops made with equal ones of these, from the same file and box, are byte-identical."""

log = logging.getLogger("attparse")


def run_with_same_crops(paths: Sequence[str], crop: str, versions: Mapping[str, str | int]) -> str | None:
    """Return the last run among the paths if its crops are those that the new run would make.

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
        folder = parent if name == MANIFEST else path
        if not storage.exists(RunFolder(folder).dataset_json):
            continue
        try:
            former = read_dataset_file(folder)
        except InputError:  # another format: its landmarks are usable all the same
            return None
        equal = all(former.versions.get(name) == versions[name] for name in CROP_VERSIONS)
        same = former.crop == crop and equal
        return folder if same else None
    return None


class KeptCrops:
    """The crops of a shard of a former run, read along with the same shard of the new one.

    Where the shard of the former run has other images, or another order, fewer of its crops can be used.

    Parameters
    ----------
    run : str or None
        Folder of the former run.
    shard : str
        Name of the shard.
    """

    def __init__(self, run: str | None, shard: str) -> None:
        self._rows = [] if run is None else _read_rows(run, shard)
        self._position = {row["image_id"]: index for index, row in enumerate(self._rows)}
        self._samples = None if run is None else read_samples(RunFolder(run).shard(shard))
        self._next = 0

    def take(self, image_id: str) -> Crop | None:
        """Return the crop of an image, if it does not lie before one that was returned already."""
        index = self._position.get(image_id, -1)
        if self._samples is None or index < self._next:
            return None
        sample = next(itertools.islice(self._samples, index - self._next, None))
        self._next = index + 1
        row = self._rows[index]
        return Crop(row["sha256"], row["height"], row["width"], Box(*row["crop"]), sample.jpeg)

    def close(self) -> None:
        """Close the former shard."""
        if self._samples is not None:
            self._samples.close()


def _read_rows(run: str, shard: str) -> list[dict[str, Any]]:
    """Return the rows of a former shard's samples, none if its file is not the one that its manifest describes."""
    summary = read_summary(run, shard)
    if summary is None:
        return []
    path = RunFolder(run).shard(shard)
    if not storage.exists(path) or storage.sha256_of(path) != summary.sha256:
        log.warning("%s: not the file that its manifest describes, its crops are made again", path)
        return []
    columns = ["image_id", "status", "sha256", "height", "width", "crop"]
    return [row for row in read_manifest(run, shard, columns).to_pylist() if row["status"] == WRITTEN]
