"""The landmark error of a run: how far its landmarks are from the five points of the data set."""

from __future__ import annotations

import heapq
import math
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
from pipeline.vocabulary import LANDMARK_SOURCES, WEAK_SOURCES, WRITTEN, LandmarkSource
from regions.landmarks import NUM_LANDMARKS, FloatArray
from regions.quality import points_errors

MAX_WORST = 12
AGREEMENT_COLUMNS = ["image_id", "key", "status", "landmark_source", "landmarks", "points", "height", "width"]
BIN_WIDTH = 0.01
"""Width of a bar of the histogram, in eye distances."""
MIN_BARS, MAX_BARS = 10, 31


class HintDisagreement(NamedTuple):
    """An image whose landmarks lie far from its five points.

    Attributes
    ----------
    image : SelectedImage
        Its group is the landmark source.
    points : ndarray (5, 2) float32
        The five points, in pixels of the source image.
    error : float
        Mean distance to them, in eye distances.
    """

    image: SelectedImage
    points: FloatRows
    error: float


class ErrorFigures(NamedTuple):
    """The distribution of the errors of many samples, in their unit."""

    samples: int
    mean: float
    median: float
    percentile_95: float
    largest: float


class HistogramBar(NamedTuple):
    """A bar of a histogram.

    Attributes
    ----------
    low : float
        The smallest error in the bar.
    high : float or None
        The smallest error above the bar; None where the bar holds all larger errors.
    samples : int
    """

    low: float
    high: float | None
    samples: int


@dataclass(frozen=True)
class Agreement:
    """The mean distance between landmarks and five points, in eye distances, of all samples that have both.

    The eye distance is the one that the face would show from the front (`regions.landmarks.face_size`).

    Attributes
    ----------
    errors : mapping of LandmarkSource to ndarray (n,) float32
    worst : sequence of HintDisagreement
        Those with the largest errors, the largest first, without weak sources: their landmarks are
        fitted to those very points.
    """

    errors: Mapping[LandmarkSource, FloatRows]
    worst: Sequence[HintDisagreement]

    @property
    def compared(self) -> int:
        """The number of samples with five points."""
        return sum(map(len, self.errors.values()))

    @property
    def informative(self) -> FloatRows:
        """The errors of all but the weak sources ``(n,)``."""
        kept = [errors for source, errors in self.errors.items() if source not in WEAK_SOURCES]
        return np.concatenate(kept) if kept else np.zeros(0, dtype=np.float32)

    @property
    def histogram(self) -> list[HistogramBar]:
        """The histogram of the informative errors, of which there must be at least one."""
        return error_histogram(self.informative)

    @property
    def overall(self) -> ErrorFigures | None:
        """The figures of `informative`, None where that is empty."""
        return error_figures(self.informative) if len(self.informative) else None

    @property
    def by_source(self) -> dict[LandmarkSource, ErrorFigures]:
        """The figures of each landmark source, in the order of the vocabulary."""
        return {source: error_figures(self.errors[source]) for source in LANDMARK_SOURCES if source in self.errors}


def error_figures(errors: FloatArray) -> ErrorFigures:
    """Return count, mean, median, 95th percentile and largest of at least one error ``(n,)``.

    >>> error_figures(np.array([*range(20), 41]))
    ErrorFigures(samples=21, mean=11.0, median=10.0, percentile_95=19.0, largest=41.0)
    """
    median, percentile_95 = np.percentile(errors, [50, 95])
    mean = errors.mean(dtype=np.float64)
    return ErrorFigures(len(errors), float(mean), float(median), float(percentile_95), float(errors.max()))


def error_histogram(errors: FloatArray) -> list[HistogramBar]:
    """Return the histogram of at least one error ``(n,)``, in bars of `BIN_WIDTH` from 0.

    There are `MIN_BARS` to `MAX_BARS` bars; the last of `MAX_BARS` also holds all larger errors.

    >>> [bar.samples for bar in error_histogram(np.array([0.0, 0.009, 0.015, 0.092]))]
    [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    """
    number = min(max(math.ceil(float(errors.max()) / BIN_WIDTH), MIN_BARS), MAX_BARS)
    bins = np.minimum(errors / BIN_WIDTH, number - 1).astype(np.int64)
    counts = np.bincount(bins, minlength=number).tolist()
    return [
        HistogramBar(BIN_WIDTH * index, None if index == MAX_BARS - 1 else BIN_WIDTH * (index + 1), count)
        for index, count in enumerate(counts)
    ]


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
        None if no sample has five points.

    Raises
    ------
    OSError, ShardError
        If a manifest is missing or damaged.
    """
    parts: dict[LandmarkSource, list[FloatRows]] = defaultdict(list)
    worst: list[HintDisagreement] = []
    for shard in shards:
        table = read_manifest(output, shard, AGREEMENT_COLUMNS)
        table = table.filter(pc.and_(pc.equal(table["status"], WRITTEN), pc.is_valid(table["points"])))
        if not len(table):
            continue
        points = _coordinates(table["points"], 5)
        errors = points_errors(_coordinates(table["landmarks"], NUM_LANDMARKS), points).astype(np.float32)
        sources = table["landmark_source"].to_numpy()
        for source in np.unique(sources):
            parts[source].append(errors[sources == source])
        own = _worst(shard, table, points, np.where(np.isin(sources, WEAK_SOURCES), -1, errors))
        worst = heapq.nlargest(MAX_WORST, [*worst, *own], key=lambda disagreement: disagreement.error)
    if not parts:
        return None
    return Agreement({source: np.concatenate(errors) for source, errors in parts.items()}, worst)


def _coordinates(column: pa.ChunkedArray, count: int) -> npt.NDArray[np.float64]:
    """Return a column of lists of x and y as ``(n, count, 2)``."""
    return np.asarray(pc.list_flatten(column).to_numpy(), dtype=np.float64).reshape(-1, count, 2)


def _worst(shard: str, table: pa.Table, points: FloatArray, errors: FloatArray) -> list[HintDisagreement]:
    """Return the images with the largest errors ``(n,)`` of a shard; negative ones are left out."""
    largest = np.argsort(-errors, kind="stable")[:MAX_WORST]
    indices = largest[errors[largest] >= 0]
    rows = table.select(["image_id", "key", "landmark_source", "height", "width"]).take(indices).to_pylist()
    return [
        HintDisagreement(
            image=SelectedImage(
                shard=shard,
                image_id=row["image_id"],
                key=row["key"],
                group=row["landmark_source"],
                detail="",
                height=row["height"],
                width=row["width"],
            ),
            points=points[index].astype(np.float32),
            error=float(errors[index]),
        )
        for index, row in zip(indices, rows, strict=True)
    ]
