"""Measures of predictions, from counts per attribute that are summed over batches and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from regions.label_file import UNKNOWN
from training.distributed import sum_over_ranks

MEASURES = ("accuracy", "balanced_accuracy", "f1", "average_precision", "iou")

Floats = npt.NDArray[np.float64]


class ConfusionCounts:
    """Counts per attribute of correct and incorrect predictions.

    Parameters
    ----------
    attributes : int
    device : torch.device
    """

    def __init__(self, attributes: int, device: torch.device) -> None:
        self.counts = torch.zeros((4, attributes), dtype=torch.int64, device=device)
        """(4, attributes): true positives, false positives, false negatives, true negatives."""

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch.

        Parameters
        ----------
        logits : Tensor (batch, attributes)
            Above 0 where the attribute is predicted.
        labels : Tensor (batch, attributes) int8
            0, 1 or `UNKNOWN`, which is not counted.
        """
        found, true, false = logits > 0, labels == 1, labels == 0
        self.counts += torch.stack([found & true, found & false, ~found & true, ~found & false]).sum(dim=1)

    def mean_accuracy(self) -> float:
        """Return the mean over attributes of the fraction of known labels that were predicted correctly."""
        return _mean(rates(self.counts)["accuracy"])


def rates(counts: torch.Tensor) -> dict[str, Floats]:
    """Return accuracy, balanced accuracy and F1 of each attribute, NaN where undefined.

    Parameters
    ----------
    counts : Tensor (4, attributes)
        As in `ConfusionCounts`.
    """
    found, wrong, missed, rest = counts.cpu().numpy().astype(np.float64)
    with np.errstate(invalid="ignore"):
        return {
            "accuracy": (found + rest) / (found + wrong + missed + rest),
            "balanced_accuracy": (found / (found + missed) + rest / (rest + wrong)) / 2,
            "f1": np.where(found + missed > 0, 2 * found / (2 * found + wrong + missed), np.nan),
        }


class EpochSums:
    """Sums over the batches of an epoch.

    Parameters
    ----------
    attributes : int
    device : torch.device
    """

    def __init__(self, attributes: int, device: torch.device) -> None:
        self.confusion = ConfusionCounts(attributes, device)
        self.losses = torch.zeros(4, dtype=torch.float64, device=device)
        """(4,): images (those with unknown labels in part); and the sums over them of loss, MSE and BCE."""

    def add(
        self, terms: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor | None = None
    ) -> None:
        """Count a batch; `terms` (3,) are its loss, MSE and BCE, `known` is as in `losses`."""
        count = len(labels) if known is None else known.sum().double() / known.shape[1]
        self.losses[0] += count
        self.losses[1:] += terms.double() * count
        self.confusion.add(logits, labels)

    def of_all_ranks(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `losses` and the counts of `confusion`, summed over the ranks, on the CPU."""
        return sum_over_ranks(self.losses).cpu(), sum_over_ranks(self.confusion.counts).cpu()

    def results(self, prefix: str) -> dict[str, float]:
        """Return the means of an epoch over all ranks."""
        sums, counts = self.of_all_ranks()
        total = ConfusionCounts(counts.shape[1], counts.device)
        total.counts = counts
        _, loss, mse, bce = (sums / sums[0]).tolist()
        return {
            f"{prefix}_loss": loss,
            f"{prefix}_mse": mse,
            f"{prefix}_bce": bce,
            f"{prefix}_accuracy": total.mean_accuracy(),
        }


class MapCounts:
    """Counts per attribute of the map's pixels that overlap with the masks, where an image has a mask.

    Parameters
    ----------
    attributes : int
    device : torch.device
    """

    def __init__(self, attributes: int, device: torch.device) -> None:
        self.counts = torch.zeros((2, attributes), dtype=torch.int64, device=device)
        """(2, attributes): pixels of the intersection, of the union."""

    def add(self, maps: torch.Tensor, masks: torch.Tensor) -> None:
        """Count a batch: maps (batch, attributes, 96, 76), above 0.5 inside; masks alike, 0 or 1."""
        has_mask = masks.flatten(2).amax(2)[:, :, None, None] > 0
        inside, true = (maps > 0.5) & has_mask, masks > 0
        self.counts += torch.stack([(inside & true).sum(dim=(0, 2, 3)), (inside | true).sum(dim=(0, 2, 3))])

    def iou(self) -> Floats:
        """Return intersection over union of each attribute, over all pixels of images that have it."""
        intersection, union = self.counts.cpu().numpy().astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(intersection / union)


def average_precision(scores: npt.NDArray[np.float32], labels: npt.NDArray[np.int8]) -> Floats:
    """Return the average precision of each attribute, NaN where all known labels are equal.

    Parameters
    ----------
    scores : ndarray (samples, attributes) float32
    labels : ndarray (samples, attributes) int8
        0, 1 or `UNKNOWN`.
    """
    from sklearn.metrics import average_precision_score  # noqa: PLC0415 - takes seconds, and no training needs it

    result = np.full(labels.shape[1], np.nan)
    for index, (score, label) in enumerate(zip(scores.T, labels.T, strict=True)):
        known = label != UNKNOWN
        if 0 < np.count_nonzero(label == 1) < np.count_nonzero(known):
            result[index] = average_precision_score(label[known], score[known])
    return result


def describe(attributes: Sequence[str], counts: torch.Tensor, precision: Floats, iou: Floats | None) -> dict[str, Any]:
    """Return all measures by attribute, and their means over the attributes for which they are defined.

    Parameters
    ----------
    attributes : sequence of str
    counts : Tensor (4, attributes)
        As in `ConfusionCounts`.
    precision : ndarray (attributes,)
        Average precision.
    iou : ndarray (attributes,) or None
        Of the maps, where masks were read.

    Returns
    -------
    dict
        ``mean`` {measure: value} and ``attributes`` {name: {known, positive, measure: value}}; None where not defined.
    """
    columns: dict[str, Floats] = {**rates(counts), "average_precision": precision}
    if iou is not None:
        columns["iou"] = iou
    found, wrong, missed, rest = counts.cpu().tolist()
    return {
        "mean": {name: _number(_mean(values)) for name, values in columns.items()},
        "attributes": {
            attribute: {
                "known": found[i] + wrong[i] + missed[i] + rest[i],
                "positive": found[i] + missed[i],
                **{name: _number(values[i]) for name, values in columns.items()},
            }
            for i, attribute in enumerate(attributes)
        },
    }


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def format_means(means: Mapping[str, float | None]) -> str:
    """Return the mean measures as one line."""
    return ", ".join(
        f"{name.replace('_', ' ')} {'not defined' if value is None else f'{value:.4f}'}"
        for name, value in means.items()
    )
