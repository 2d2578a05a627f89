"""AttParseNet: six convolutions compute a map per attribute, a fully connected layer the attributes."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from training.config import CHANNELS
from training.dataset_json import MASK_SIZE


class AttParseNet(nn.Module):
    """The network of Thom & Hand (section 3 of the paper, and their public code for BatchNorm).

    Convolutions have no padding; 2x2 max pooling follows the first: 218x178 -> 212x172 -> 106x86 ->
    104x84 -> 102x82 -> 100x80 -> 98x78 -> 96x76. BatchNorm follows every convolution, ReLU all but the last.

    Parameters
    ----------
    num_attributes : int
    channels : tuple of int
        Filters of the first five convolutions; fewer make a network that a CPU can train.
    batch_norm : bool
        As in the public code; the paper does not mention it.
    """

    def __init__(self, num_attributes: int = 40, channels: tuple[int, ...] = CHANNELS, batch_norm: bool = True) -> None:
        super().__init__()
        self.num_attributes, self.channels, self.batch_norm = num_attributes, tuple(channels), batch_norm
        filters = (3, *channels, num_attributes)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(itertools.pairwise(filters)):
            layers.append(nn.Conv2d(before, after, kernel_size=7 if index == 0 else 3, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(after))
            if index < len(channels):
                layers.append(nn.ReLU(inplace=True))
            if index == 0:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(num_attributes * MASK_SIZE[0] * MASK_SIZE[1], num_attributes)
        for weights in self.features.parameters():
            if weights.dim() == 4:
                weights.data = weights.data.contiguous(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict attributes and their maps.

        Parameters
        ----------
        images : Tensor (batch, 3, 218, 178) float
            RGB, -1 to 1.

        Returns
        -------
        logits : Tensor (batch, attributes)
        maps : Tensor (batch, attributes, 96, 76)
            About 1 where an attribute is, 0 elsewhere.
        """
        maps = self.features(images)
        return self.classifier(maps.flatten(1)), maps


def with_padded_channels(model: AttParseNet, multiple: int) -> AttParseNet:
    """Return a network that computes the same, with its channels rounded up to a multiple, as tensor cores need.

    The added filters are zero and stay so in training: their output is 0, where ReLU passes no gradient.

    Parameters
    ----------
    model : AttParseNet
    multiple : int
        8 for 16-bit types (NVIDIA, Convolutional Layers User's Guide).
    """
    channels = tuple(-(-count // multiple) * multiple for count in model.channels)
    padded = AttParseNet(model.num_attributes, channels, model.batch_norm)
    target = padded.state_dict()
    for name, values in model.state_dict().items():
        target[name].zero_()
        target[name][tuple(slice(size) for size in values.shape)] = values
    return padded
