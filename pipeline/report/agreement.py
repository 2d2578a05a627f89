"""How well the landmarks of a run agree with the five points that the data set gives."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.drawing.selection import SelectedImage
from pipeline.formats.manifest import read_manifest
from pipeline.records import FloatRows
from pipeline.vocabulary import WEAK_SOURCES, WRITTEN
from regions.landmarks import NUM_LANDMARKS, FloatArray
from regions.quality import points_errors

MAX_WORST = 12
COLUMNS = ["image_id", "key", "status", "landmark_source", "landmarks", "points", "height", "width"]


class HintDisagreement(NamedTuple):
    """An image whose landmarks lie far from its five points.

    Attributes
    ----------
    chosen : SelectedImage
        Its group is the landmark_source.
    points : ndarray (5, 2) float32
        The given points, in pixels of the source image.
    error : float
        Mean distance to them, in eye distances.
    """

    chosen: SelectedImage
    points: FloatRows
    error: float


@dataclass(frozen=True)
class Agreement:
    """The mean distance between landmarks and five points, in eye distances, of all samples that have both.

    The eye distance is taken as seen from the front (`regions.landmarks.face_size`).

    Attributes
    ----------
    errors : mapping of str to ndarray (n,) float32
        By landmark_source.
    worst : sequence of HintDisagreement
        Those with the largest errors, the largest first. Weak landmark_sources are left out: they are laid on
        those very points.
    """

    errors: Mapping[str, FloatRows]
    worst: Sequence[HintDisagreement]

    @property
    def meaningful(self) -> FloatRows:
        """The errors of all but the weak landmark_sources ``(n,)``."""
        kept = [errors for landmark_source, errors in self.errors.items() if landmark_source not in WEAK_SOURCES]
        return np.concatenate(kept) if kept else np.zeros(0, dtype=np.float32)


class ErrorFigures(NamedTuple):
    """What is said of the errors of many samples, in their unit."""

    samples: int
    mean: float
    median: float
    percentile_95: float
    largest: float


def error_figures(errors: FloatArray) -> ErrorFigures:
    """Return count, mean, median, 95th percentile and largest of at least one error ``(n,)``.

    >>> error_figures(np.array([*range(20), 41]))
    ErrorFigures(samples=21, mean=11.0, median=10.0, percentile_95=19.0, largest=41.0)
    """
    median, percentile_95 = np.percentile(errors, [50, 95])
    mean = errors.mean(dtype=np.float64)
    return ErrorFigures(len(errors), float(mean), float(median), float(percentile_95), float(errors.max()))


def error_histogram(errors: FloatArray, width: float, count: int) -> npt.NDArray[np.int64]:
    """Count errors in `count` bins of equal width from 0; larger ones go into the last bin.

    >>> error_histogram(np.array([0.0, 0.9, 1.0, 2.5, 70.0]), 1.0, 3).tolist()
    [2, 1, 2]
    """
    bins = np.minimum(errors / width, count - 1).astype(np.int64)
    return np.bincount(bins, minlength=count)


def measure_agreement(output: str, shards: Sequence[str]) -> Agreement | None:
    """Compare the landmarks of all samples with their five points, one manifest at a time.

    Parameters
    ----------
    output : str
        Folder of the run.
    shards : sequence of str
        Names of its shards.

    Returns
    -------
    Agreement or None
        None if no sample has given points.

    Raises
    ------
    OSError, pyarrow.ArrowException
        If a manifest is missing or damaged.
    """
    parts: dict[str, list[FloatRows]] = defaultdict(list)
    worst: list[HintDisagreement] = []
    for shard in shards:
        table = read_manifest(output, shard, COLUMNS)
        table = table.filter(pc.and_(pc.equal(table["status"], WRITTEN), pc.is_valid(table["points"])))
        if not len(table):
            continue
        points = _coordinates(table["points"], 5)
        errors = points_errors(_coordinates(table["landmarks"], NUM_LANDMARKS), points).astype(np.float32)
        landmark_sources = table["landmark_source"].to_numpy()
        for landmark_source in np.unique(landmark_sources):
            parts[landmark_source].append(errors[landmark_sources == landmark_source])
        own = _worst(shard, table, points, np.where(np.isin(landmark_sources, WEAK_SOURCES), -1, errors))
        worst = heapq.nlargest(MAX_WORST, [*worst, *own], key=lambda disagreement: disagreement.error)
    if not parts:
        return None
    return Agreement({landmark_source: np.concatenate(errors) for landmark_source, errors in parts.items()}, worst)


def _coordinates(column: pa.ChunkedArray, count: int) -> npt.NDArray[np.float64]:
    """Return a column of lists of x and y as ``(n, count, 2)``."""
    return np.asarray(pc.list_flatten(column).to_numpy(), dtype=np.float64).reshape(-1, count, 2)


def _worst(shard: str, table: pa.Table, points: FloatArray, errors: FloatArray) -> list[HintDisagreement]:
    """Return the images with the largest errors ``(n,)`` of a shard; those below 0 are left out."""
    largest = np.argsort(-errors, kind="stable")[:MAX_WORST]
    chosen = largest[errors[largest] >= 0]
    rows = table.select(["image_id", "key", "landmark_source", "height", "width"]).take(chosen).to_pylist()
    return [
        HintDisagreement(
            SelectedImage(shard, row["image_id"], row["key"], row["landmark_source"], "", row["height"], row["width"]),
            points[index].astype(np.float32),
            float(errors[index]),
        )
        for index, row in zip(chosen, rows, strict=True)
    ]
