"""The two terms of the loss: MSE of the maps, and BCE of the attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional


class Losses(NamedTuple):
    """Means over a batch.

    Attributes
    ----------
    total : Tensor ()
        The loss to minimize.
    mse, bce : Tensor ()
        Its terms, unweighted; `mse` is 0 without masks.
    """

    total: torch.Tensor
    mse: torch.Tensor
    bce: torch.Tensor


def losses(
    logits: torch.Tensor,
    maps: torch.Tensor,
    labels: torch.Tensor,
    masks: torch.Tensor | None,
    known: torch.Tensor | None = None,
    *,
    mse_weight: float,
    bce_weight: float,
) -> Losses:
    """Compute the losses of a network's output, in float32.

    Parameters
    ----------
    logits : Tensor (batch, attributes)
    maps : Tensor (batch, attributes, 96, 76)
    labels : Tensor (batch, attributes)
        0 or 1; any value where unknown.
    masks : Tensor (batch, attributes, 96, 76) or None
        0 or 1; without them (the baseline), there is no MSE.
    known : Tensor (batch, attributes) bool or None
        Where labels are known. Unknown labels and their maps are left out of both terms. None if all are known.
    mse_weight, bce_weight : float
        The paper's stages are 1, 0 and 1, 1.
    """
    bce = _mean_of_known(functional.binary_cross_entropy_with_logits, logits.float(), labels.float(), known)
    if masks is None:
        return Losses(bce_weight * bce, torch.zeros_like(bce), bce)
    mse = _mean_of_known(functional.mse_loss, maps.float(), masks.float(), known)
    total = mse_weight * mse + bce_weight * bce if bce_weight else mse_weight * mse
    return Losses(total, mse, bce)


def _mean_of_known(
    loss: Callable[..., torch.Tensor], found: torch.Tensor, true: torch.Tensor, known: torch.Tensor | None
) -> torch.Tensor:
    """Return the mean of a loss over the known labels of tensors (batch, attributes, ...); 0 if none is known."""
    if known is None:
        return loss(found, true)
    each = loss(found, true, reduction="none").reshape(*known.shape, -1).mean(2)
    return torch.where(known, each, 0).sum() / known.sum().clamp(min=1)
