"""Checkpoints: written atomically; reading unpickles only tensors and plain values."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from training.cli_common import DataError
from training.model import AttParseNet
from training.storage import create, read_bytes

CHECKPOINT_VERSION = 1
LAST, BEST = "last.pt", "best.pt"


class TrainedModel(NamedTuple):
    """A network from a checkpoint.

    Attributes
    ----------
    model : AttParseNet
        In evaluation mode.
    attributes : tuple of str
        Names of its logits and maps, in their order.
    """

    model: AttParseNet
    attributes: tuple[str, ...]


def describe_model(model: AttParseNet, attributes: tuple[str, ...]) -> dict[str, Any]:
    """Return the architecture and the weights of a network, as a checkpoint holds them."""
    return {
        "version": CHECKPOINT_VERSION,
        "attributes": list(attributes),
        "channels": list(model.channels),
        "batch_norm": model.batch_norm,
        "model": model.state_dict(),
    }


def save(path: str, state: dict[str, Any]) -> None:
    """Write a checkpoint; the previous one is replaced only when the new one is complete."""
    with create(path) as stream:
        torch.save(state, stream)


def load(path: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises
    ------
    DataError
        If it is not a checkpoint, or has another format version.
    """
    if os.path.isdir(path):
        raise DataError(f"{path}: found a folder, expected a checkpoint such as {os.path.join(path, 'best.pt')}")
    content = read_bytes(path)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        raise DataError(f"{path}: not a checkpoint of attparse-train") from None
    version = state.get("version") if isinstance(state, dict) else None
    if version != CHECKPOINT_VERSION:
        raise DataError(f"{path}: found version {version!r} of the checkpoint format, expected {CHECKPOINT_VERSION}")
    return dict(state)


def load_model(path: str, device: torch.device) -> TrainedModel:
    """Read the network of a checkpoint, ready to predict.

    Raises
    ------
    DataError
        If it is not a checkpoint.
    """
    state = load(path)
    attributes = tuple(state["attributes"])
    model = AttParseNet(len(attributes), tuple(state["channels"]), state["batch_norm"])
    model.load_state_dict(state["model"])
    model.eval().requires_grad_(False)
    return TrainedModel(model.to(device), attributes)


@dataclass
class Position:
    """The progress of a training.

    Attributes
    ----------
    stage : int
        1 or 2; 3 after the end.
    epoch_of_stage : int
        Finished epochs of this stage.
    epoch : int
        Finished epochs of both stages.
    step : int
        Finished steps of the current epoch.
    """

    stage: int = 1
    epoch_of_stage: int = 0
    epoch: int = 0
    step: int = 0


class Progress(NamedTuple):
    """The state that a training resumes from, apart from network and optimizer.

    Attributes
    ----------
    position : Position
    history : list of dict
        Metrics of each finished epoch.
    loss_sums : Tensor (4,) float64
        `EpochSums.losses` of the current epoch, over all ranks.
    confusion : Tensor (4, attributes) int64
        Counts of the current epoch, over all ranks.
    """

    position: Position
    history: list[dict[str, Any]]
    loss_sums: torch.Tensor
    confusion: torch.Tensor


class RunCheckpoints:
    """The checkpoints in the folder of a training: ``last.pt`` to resume from, ``best.pt`` to predict with.

    Parameters
    ----------
    folder : str
    attributes : tuple of str
    decisive : mapping of str to object
        Options and data that must be the same when a training resumes, as plain values.
    """

    def __init__(self, folder: str, attributes: tuple[str, ...], decisive: Mapping[str, object]) -> None:
        self.last, self.best = os.path.join(folder, LAST), os.path.join(folder, BEST)
        self._attributes, self._decisive = attributes, dict(decisive)

    def save_last(self, model: AttParseNet, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Save everything that resuming needs."""
        state = {
            **describe_model(model, self._attributes),
            **progress._asdict(),
            "position": asdict(progress.position),
            "optimizer": optimizer.state_dict(),
            "config": self._decisive,
        }
        save(self.last, state)

    def save_best(self, model: AttParseNet) -> None:
        """Save a network for prediction."""
        save(self.best, describe_model(model, self._attributes))

    def resume(self, model: AttParseNet, optimizer: torch.optim.Optimizer) -> Progress | None:
        """Load network and optimizer from the last checkpoint, and return the progress; None if there is none.

        Raises
        ------
        DataError
            If the checkpoint was saved with other options or other data.
        """
        if not os.path.exists(self.last):
            return None
        state = load(self.last)
        for name, value in self._decisive.items():
            if state["config"].get(name) != value:
                what = "" if "(" in name else f": {state['config'].get(name)!r} then, {value!r} now"
                raise DataError(
                    f"{self.last}: begun with another {name}{what}; use another --output, or the same options"
                )
        model.load_state_dict(state["model"])
        # In stage 1, the optimizer holds no state for the classifier.
        optimizer.load_state_dict(state["optimizer"])
        return Progress(Position(**state["position"]), state["history"], state["loss_sums"], state["confusion"])
