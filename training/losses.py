"""The two terms of the loss: where attributes are (MSE), and which there are (BCE)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional


class Losses(NamedTuple):
    """Means over a batch.

    Attributes
    ----------
    total : Tensor ()
        What is minimized.
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
    *,
    mse_weight: float,
    bce_weight: float,
) -> Losses:
    """Compare a network's answers with the truth, in float32.

    Parameters
    ----------
    logits : Tensor (batch, attributes)
    maps : Tensor (batch, attributes, 96, 76)
    labels : Tensor (batch, attributes)
        0 or 1.
    masks : Tensor (batch, attributes, 96, 76) or None
        0 or 1; without them (the baseline), there is no MSE.
    mse_weight, bce_weight : float
        The paper's stages are 1, 0 and 1, 1.
    """
    bce = functional.binary_cross_entropy_with_logits(logits.float(), labels.float())
    if masks is None:
        return Losses(bce_weight * bce, torch.zeros_like(bce), bce)
    mse = functional.mse_loss(maps.float(), masks.float())
    total = mse_weight * mse + bce_weight * bce if bce_weight else mse_weight * mse
    return Losses(total, mse, bce)
