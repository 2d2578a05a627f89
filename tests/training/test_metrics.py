"""Measures against scikit-learn's, and those that are not defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from regions.label_file import UNKNOWN
from training.losses import losses
from training.metrics import ConfusionCounts, EpochSums, MapCounts, average_precision, describe, format_means

CPU = torch.device("cpu")


def test_measures_are_those_of_scikit_learn_and_leave_out_unknown_labels() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 5)).astype(np.float32)
    labels = (scores + rng.normal(size=(200, 5)) > [0, 0.5, -0.5, 1, -1]).astype(np.int8)
    labels[rng.random(labels.shape) < 0.3] = UNKNOWN
    confusion = ConfusionCounts(5, CPU)
    for rows in np.array_split(np.arange(200), 7):
        confusion.add(torch.from_numpy(scores[rows]), torch.from_numpy(labels[rows]))
    result = describe(list("abcde"), confusion.counts, average_precision(scores, labels), None)
    for index, name in enumerate("abcde"):
        known = labels[:, index] != UNKNOWN
        true, score = labels[known, index], scores[known, index]
        found = result["attributes"][name]
        assert found["known"] == known.sum()
        assert found["positive"] == true.sum()
        assert found["accuracy"] == pytest.approx(reference.accuracy_score(true, score > 0))
        assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(true, score > 0))
        assert found["f1"] == pytest.approx(reference.f1_score(true, score > 0))
        assert found["average_precision"] == pytest.approx(reference.average_precision_score(true, score))
    mean = np.mean([values["accuracy"] for values in result["attributes"].values()])
    assert result["mean"]["accuracy"] == pytest.approx(mean) == pytest.approx(confusion.mean_accuracy())


def test_what_is_not_defined_is_none_and_does_not_count_in_the_mean() -> None:
    confusion = ConfusionCounts(3, CPU)
    scores, labels = (
        np.array([[1, -1, 1], [-1, -1, 1]], np.float32),
        np.array([[1, 0, UNKNOWN], [0, 0, UNKNOWN]], np.int8),
    )
    confusion.add(torch.from_numpy(scores), torch.from_numpy(labels))
    result = describe(["both", "none", "unknown"], confusion.counts, average_precision(scores, labels), None)
    both, none, unknown = result["attributes"].values()
    assert (both["accuracy"], both["balanced_accuracy"], both["f1"], both["average_precision"]) == (1, 1, 1, 1)
    assert (none["accuracy"], none["balanced_accuracy"], none["f1"], none["average_precision"]) == (1, None, None, None)
    assert (unknown["known"], unknown["accuracy"]) == (0, None)
    assert result["mean"] == {"accuracy": 1, "balanced_accuracy": 1, "f1": 1, "average_precision": 1}
    assert format_means({"f1": None, "balanced_accuracy": 0.5}) == "f1 not defined, balanced accuracy 0.5000"


def test_iou_is_over_images_that_have_a_mask() -> None:
    masks = torch.zeros((3, 2, 96, 76), dtype=torch.uint8)
    masks[0, 0, :10, :10] = 1
    maps = torch.zeros((3, 2, 96, 76))
    maps[0, 0, :10, 5:15] = 0.9
    maps[1, 0] = 1  # no mask there: not counted
    counts = MapCounts(2, CPU)
    counts.add(maps, masks)
    iou = counts.iou()
    assert iou[0] == pytest.approx(50 / 150)
    assert np.isnan(iou[1])


def test_an_epoch_counts_known_labels_only() -> None:
    """Two batches, one with unknown labels: the means are those over all known labels."""
    generator = torch.Generator().manual_seed(0)
    logits, maps = torch.randn((6, 3), generator=generator), torch.rand((6, 3, 96, 76), generator=generator)
    labels, masks = (logits + torch.randn((6, 3), generator=generator) > 0).to(torch.int8), torch.zeros_like(maps)
    labels[4, 0] = labels[5, 0] = labels[5, 2] = UNKNOWN
    known = labels != UNKNOWN
    sums = EpochSums(3, CPU)
    for rows in (slice(0, 2), slice(2, 6)):
        of_batch = None if known[rows].all() else known[rows]
        terms = losses(logits[rows], maps[rows], labels[rows], masks[rows], of_batch, mse_weight=1, bce_weight=1)
        sums.add(torch.stack(terms), logits[rows], labels[rows], of_batch)
    results = sums.results("val")
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], labels[known].float())
    assert results["val_bce"] == pytest.approx(bce.item())
    assert results["val_mse"] == pytest.approx(maps[known].square().mean().item())
    right = [((logits[:, i] > 0) == labels[:, i])[known[:, i]].double().mean().item() for i in range(3)]
    assert results["val_accuracy"] == pytest.approx(np.mean(right))
