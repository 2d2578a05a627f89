"""Prepare batches on the device: unpack and normalize them; in training, also flip and crop them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from regions.label_file import UNKNOWN
from training.batches import Batch


class PreparedBatch(NamedTuple):
    """Input of the network and of the loss.

    Attributes
    ----------
    images : Tensor (batch, 3, 218, 178) float32
        RGB, -1 to 1, channels last in memory.
    masks : Tensor (batch, attributes, 96, 76) uint8 or None
        0 or 1.
    labels : Tensor (batch, attributes) int8
        0, 1, or -1 where unknown.
    known : Tensor (batch, attributes) bool or None
        Where labels are known; None if all are.
    """

    images: torch.Tensor
    masks: torch.Tensor | None
    labels: torch.Tensor
    known: torch.Tensor | None = None


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training samples.

    Attributes
    ----------
    flip : bool
        Mirror half of the images with their masks; every region covers both sides of the face.
    smallest_crop : float
        Crops have at least this fraction of height and width, 0 to 1; 1 leaves images whole.
    """

    flip: bool = False
    smallest_crop: float = 1.0


def prepare(batch: Batch, device: torch.device, *, label_repair: bool = False) -> PreparedBatch:
    """Move a batch to the device and unpack it there.

    Parameters
    ----------
    batch : Batch
    device : torch.device
    label_repair : bool
        Set labels to 0 where the mask is empty, as AttParseNet's public code does; unknown ones stay unknown.
    """
    images = normalize(batch.images.to(device, non_blocking=True))
    has_unknown = bool((batch.labels == UNKNOWN).any())  # on the CPU, so that no GPU has to synchronize
    labels = batch.labels.to(device, non_blocking=True)
    known = labels != UNKNOWN if has_unknown else None
    if batch.packed_masks is None:
        return PreparedBatch(images, None, labels, known)
    masks = unpack(batch.packed_masks.to(device, non_blocking=True), labels.shape[1])
    if label_repair:
        repaired = labels * masks.flatten(2).amax(2)
        labels = repaired if known is None else torch.where(known, repaired, labels)
    return PreparedBatch(images, masks, labels, known)


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Convert pixels (batch, height, width, 3), 0 to 255, to images (batch, 3, height, width), -1 to 1."""
    return (pixels.float() / 127.5 - 1).permute(0, 3, 1, 2)


def unpack(packed_masks: torch.Tensor, count: int) -> torch.Tensor:
    """Unpack masks.

    Parameters
    ----------
    packed_masks : Tensor (batch, ceil(count / 8), height, width) uint8
        Eight masks to a byte, the first in the highest bit.
    count : int

    Returns
    -------
    Tensor (batch, count, height, width) uint8
        0 or 1.
    """
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed_masks.device)[:, None, None]
    return packed_masks[:, :, None].bitwise_right_shift(shifts).bitwise_and(1).flatten(1, 2)[:, :count]


def augment(prepared: PreparedBatch, augmentation: Augmentation, generator: torch.Generator) -> PreparedBatch:
    """Flip and crop images together with their masks.

    Parameters
    ----------
    prepared : PreparedBatch
    augmentation : Augmentation
    generator : torch.Generator
        On the CPU, so that all devices use the same random numbers.
    """
    if not augmentation.flip and augmentation.smallest_crop == 1:
        return prepared
    count = len(prepared.images)
    draws = torch.rand((4, count), generator=generator).to(prepared.images.device)
    side = -torch.ones_like(draws[0]) if augmentation.flip else torch.ones_like(draws[0])
    side = torch.where(draws[0] < 0.5, side, 1.0)
    scale = augmentation.smallest_crop + (1 - augmentation.smallest_crop) * draws[1]
    # From a pixel of the result to where it lies in the image; both from -1 to 1.
    to_image = torch.zeros((count, 2, 3), device=draws.device)
    to_image[:, 0, 0], to_image[:, 1, 1] = side * scale, scale
    to_image[:, :, 2] = (2 * draws[2:].T - 1) * (1 - scale)[:, None]
    masks = None if prepared.masks is None else _sample(prepared.masks.float(), to_image, "nearest").to(torch.uint8)
    return prepared._replace(images=_sample(prepared.images, to_image, "bilinear"), masks=masks)


def _sample(images: torch.Tensor, to_image: torch.Tensor, mode: str) -> torch.Tensor:
    grid = functional.affine_grid(to_image, list(images.shape), align_corners=False)
    sampled = functional.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)


def generator_of(*numbers: int) -> torch.Generator:
    """Return a generator seeded by numbers such as seed, epoch, step and rank."""
    (state,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
