"""The crops of a former run, used again where a new run would make the same ones: no image is decoded for them."""

from __future__ import annotations

import io
import itertools
import logging
from typing import Any

from PIL import Image

from pipeline import storage
from pipeline.building.reading import read_errors
from pipeline.errors import ReadError, ShardError
from pipeline.formats.manifest import read_manifest, read_summary
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import read_samples
from pipeline.records import Crop
from pipeline.vocabulary import WRITTEN
from regions.boxes import Box
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH

log = logging.getLogger("attparse")


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
        self._path = "" if run is None else RunFolder(run).shard(shard)
        self._rows = [] if run is None else _read_rows(run, shard)
        self._position = {row["image_id"]: index for index, row in enumerate(self._rows)}
        self._samples = read_samples(self._path) if self._rows else None
        self._next = 0

    def take(self, image_id: str) -> Crop | None:
        """Return the crop of an image, if it does not lie before one that was returned already.

        Where the former shard cannot be read, there is no crop any more: it is made again from the image, as one
        that is no crop is.
        """
        index = self._position.get(image_id, -1)
        if self._samples is None or index < self._next:
            return None
        try:
            with read_errors(self._path):
                sample = next(itertools.islice(self._samples, index - self._next, None))
        except (ReadError, ShardError) as error:
            log.warning("%s; its crops are made again", error)
            self._samples = None
            return None
        self._next = index + 1
        row = self._rows[index]
        if not _is_crop(sample.jpeg):
            log.warning("%s: sample %r has no JPEG of a crop; it is made again", self._path, sample.key)
            return None
        return Crop(row["sha256"], row["height"], row["width"], Box(*row["crop"]), sample.jpeg)

    def close(self) -> None:
        """Close the former shard."""
        if self._samples is not None:
            self._samples.close()


def _is_crop(jpeg: bytes) -> bool:
    """Return whether the header is that of a crop; a former run may be anyone's."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            return image.size == (IMAGE_WIDTH, IMAGE_HEIGHT) and image.mode == "RGB"
    except Exception:  # Pillow's are of many kinds
        return False


def _read_rows(run: str, shard: str) -> list[dict[str, Any]]:
    """Return the rows of a former shard's samples, none if its file is not the one that its manifest describes."""
    path, manifest = RunFolder(run).shard(shard), RunFolder(run).manifest(shard)
    columns = ["image_id", "status", "sha256", "height", "width", "crop"]
    try:
        with read_errors(manifest):
            summary = read_summary(run, shard)
        if summary is None:
            return []
        with read_errors(path):
            if not storage.exists(path) or storage.sha256_of(path) != summary.sha256:
                log.warning("%s: not the file that its manifest describes; its crops are made again", path)
                return []
        with read_errors(manifest):
            rows = read_manifest(run, shard, columns).to_pylist()
    except (ReadError, ShardError) as error:
        log.warning("%s; the crops of %s are made again", error, path)
        return []
    return [row for row in rows if row["status"] == WRITTEN]
