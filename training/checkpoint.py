"""Checkpoints: written whole or not at all, read without unpickling anything but tensors and plain values."""

from __future__ import annotations

import io
import os
import pickle
from typing import Any, NamedTuple

import torch

from training.cli_common import DataError
from training.model import AttParseNet
from training.storage import create, read_bytes

CHECKPOINT_VERSION = 1


class Trained(NamedTuple):
    """A network from a checkpoint.

    Attributes
    ----------
    model : AttParseNet
        In evaluation mode.
    attributes : tuple of str
        Of its logits and maps.
    """

    model: AttParseNet
    attributes: tuple[str, ...]


def describe_model(model: AttParseNet, attributes: tuple[str, ...]) -> dict[str, Any]:
    """Return what a network is, and its weights, as a checkpoint holds them."""
    return {
        "version": CHECKPOINT_VERSION,
        "attributes": list(attributes),
        "channels": list(model.channels),
        "batch_norm": model.batch_norm,
        "model": model.state_dict(),
    }


def save(path: str, state: dict[str, Any]) -> None:
    """Write a checkpoint; the former one stays until the new one is whole."""
    with create(path) as stream:
        torch.save(state, stream)


def load(path: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises
    ------
    DataError
        If it is none, or of another version.
    """
    if os.path.isdir(path):
        raise DataError(f"{path}: a folder, expected a checkpoint such as {os.path.join(path, 'best.pt')}")
    content = read_bytes(path)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        raise DataError(f"{path}: not a checkpoint of attparse-train") from None
    version = state.get("version") if isinstance(state, dict) else None
    if version != CHECKPOINT_VERSION:
        raise DataError(f"{path}: version of the checkpoint is {version!r}, expected {CHECKPOINT_VERSION}")
    return dict(state)


def load_model(path: str, device: torch.device) -> Trained:
    """Read the network of a checkpoint, ready to predict.

    Raises
    ------
    DataError
        If it is no checkpoint.
    """
    state = load(path)
    attributes = tuple(state["attributes"])
    model = AttParseNet(len(attributes), tuple(state["channels"]), state["batch_norm"])
    model.load_state_dict(state["model"])
    model.eval().requires_grad_(False)
    return Trained(model.to(device), attributes)
