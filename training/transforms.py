"""Batches made ready on the device: unpacked, normalized; in training flipped and cropped, image and masks alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from training.loader import Batch


class Prepared(NamedTuple):
    """What the network and the loss take.

    Attributes
    ----------
    images : Tensor (batch, 3, 218, 178) float32
        RGB, -1 to 1, channels last in memory.
    masks : Tensor (batch, attributes, 96, 76) uint8 or None
        0 or 1.
    labels : Tensor (batch, attributes) uint8
        0 or 1.
    """

    images: torch.Tensor
    masks: torch.Tensor | None
    labels: torch.Tensor


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training samples.

    Attributes
    ----------
    flip : bool
        Mirror half of the images; the ten regions join both sides, so masks are mirrored with it.
    smallest_crop : float
        Crops have at least this share of height and width, 0 to 1; 1 leaves images whole.
    """

    flip: bool = False
    smallest_crop: float = 1.0


def prepare(batch: Batch, device: torch.device, *, label_repair: bool = False) -> Prepared:
    """Move a batch to the device and unpack it there.

    Parameters
    ----------
    batch : Batch
    device : torch.device
    label_repair : bool
        Set labels to 0 whose mask is empty, as AttParseNet's public code does.
    """
    images = normalize(batch.images.to(device, non_blocking=True))
    labels = batch.labels.to(device, non_blocking=True)
    if batch.planes is None:
        return Prepared(images, None, labels)
    masks = unpack(batch.planes.to(device, non_blocking=True), labels.shape[1])
    if label_repair:
        labels = labels * masks.flatten(2).amax(2)
    return Prepared(images, masks, labels)


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Turn pixels (batch, height, width, 3), 0 to 255, into images (batch, 3, height, width), -1 to 1."""
    return (pixels.float() / 127.5 - 1).permute(0, 3, 1, 2)


def unpack(planes: torch.Tensor, count: int) -> torch.Tensor:
    """Unpack masks.

    Parameters
    ----------
    planes : Tensor (batch, ceil(count / 8), height, width) uint8
        Eight masks to a plane, the first in the highest bit.
    count : int

    Returns
    -------
    Tensor (batch, count, height, width) uint8
        0 or 1.
    """
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=planes.device)[:, None, None]
    return planes[:, :, None].bitwise_right_shift(shifts).bitwise_and(1).flatten(1, 2)[:, :count]


def augment(prepared: Prepared, augmentation: Augmentation, generator: torch.Generator) -> Prepared:
    """Flip and crop images and their masks alike.

    Parameters
    ----------
    prepared : Prepared
    augmentation : Augmentation
    generator : torch.Generator
        Of the CPU, so that every device draws the same.
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
    return Prepared(_sample(prepared.images, to_image, "bilinear"), masks, prepared.labels)


def _sample(images: torch.Tensor, to_image: torch.Tensor, mode: str) -> torch.Tensor:
    grid = functional.affine_grid(to_image, list(images.shape), align_corners=False)
    sampled = functional.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)


def generator_of(*numbers: int) -> torch.Generator:
    """Return a generator that depends on these numbers alone, such as seed, epoch, step and rank."""
    (state,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
