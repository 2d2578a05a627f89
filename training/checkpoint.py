"""Checkpoints: written atomically; reading unpickles only tensors and plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from regions.messages import shown
from training.checkpoint_reader import CHECKPOINT_VERSION, MAX_NUMBER, CheckpointReader, Missing, Weights, describe
from training.cli_common import DataError
from training.config import MAX_PADDING
from training.model import AttParseNet
from training.storage import create

LAST, BEST = "last.pt", "best.pt"
METRICS = ("loss", "mse", "bce", "accuracy")
"""Of each split, in the record of an epoch."""
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Values of a network that the optimizer does not change."""


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
    """Read a checkpoint onto the CPU; what describes the network is checked.

    Raises
    ------
    DataError
        If it is not a checkpoint, or has another format version.
    """
    if os.path.isdir(path):
        raise DataError(f"{path}: found a folder, expected a checkpoint such as {os.path.join(path, 'best.pt')}")
    return CheckpointReader(path).read()


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


def copy_of_weights(model: AttParseNet) -> Weights:
    """Return the weights as they are now, on the CPU."""
    return {name: values.detach().to("cpu", copy=True) for name, values in model.state_dict().items()}


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
    best : dict of str to Tensor, or None
        Weights of the best epoch so far, on the CPU.
    machine : str
        Device, number format and version of torch: another one may round differently.
    padding : int
        Multiple to which the network's channels are rounded up.
    """

    position: Position
    history: list[dict[str, Any]]
    loss_sums: torch.Tensor
    confusion: torch.Tensor
    best: Weights | None
    machine: str
    padding: int


class LastCheckpoint(NamedTuple):
    """What ``last.pt`` holds, checked.

    Attributes
    ----------
    path : str
        Of the file, for messages.
    progress : Progress
    weights : dict of str to Tensor
    optimizer : dict of int to dict
        State of the optimizer by number of the parameter.
    """

    path: str
    progress: Progress
    weights: Weights
    optimizer: dict[int, dict[str, torch.Tensor]]

    def restore(self, model: AttParseNet, optimizer: torch.optim.Optimizer) -> None:
        """Load weights and optimizer, whose options stay those that it was made with.

        Raises
        ------
        DataError
            If the weights are of another network.
        """
        expected, found = ({name: v.shape for name, v in w.items()} for w in (model.state_dict(), self.weights))
        if found != expected:
            raise DataError(f"{self.path}: found the weights of another network than its 'config' and 'padding' make")
        model.load_state_dict(self.weights)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": self.optimizer, "param_groups": groups})


class RunCheckpoints:
    """The checkpoints in the folder of a training: ``last.pt`` to resume from, ``best.pt`` to predict with.

    ``last.pt`` holds the best weights, too: ``best.pt`` is written from it when a training resumes, so that a
    process that was killed between the two files leaves no ``best.pt`` of another epoch.

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
            "optimizer": optimizer.state_dict()["state"],
            "config": self._decisive,
        }
        save(self.last, state)

    def save_best(self, model: AttParseNet, weights: Weights) -> None:
        """Save a network for prediction: the architecture of a model with other weights."""
        save(self.best, {**describe_model(model, self._attributes), "model": weights})

    def read_last(self, *, validated: bool) -> LastCheckpoint | None:
        """Return what the last checkpoint holds; None if there is none.

        Parameters
        ----------
        validated : bool
            Whether the metrics include those of the validation split.

        Raises
        ------
        DataError
            If it is not a whole checkpoint, or was saved with other options or other data.
        """
        if not os.path.lexists(self.last):
            if os.path.lexists(self.best):
                raise DataError(
                    f"{self.best}: found without {LAST}, which resuming needs; move it away, or use another --output"
                )
            return None
        reader = CheckpointReader(self.last)
        state = reader.read()
        self._compare(reader, state)
        return _checked(reader, state, self._attributes, validated)

    def _compare(self, reader: CheckpointReader, state: dict[str, Any]) -> None:
        """Compare options and data with those that the training began with."""
        config = reader.dictionary(state.get("config", Missing()), "'config'")
        then = {**config, "attributes": state["attributes"]}
        for name, value in {**self._decisive, "attributes": list(self._attributes)}.items():
            found = then.get(name, Missing())
            if not _equal_plain(found, value):
                what = "" if "(" in name else f": {describe(found)} then, {shown(value)} now"
                raise DataError(
                    f"{self.last}: begun with another {name}{what}; use another --output, or the same options"
                )


def _equal_plain(found: object, expected: object) -> bool:
    """Compare with a plain value, whose type decides, too: a value of others may be a tensor, which == compares."""
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_equal_plain, found, expected))
    return type(found) is type(expected) and not isinstance(found, list) and found == expected


def _checked(
    reader: CheckpointReader, state: dict[str, Any], attributes: Sequence[str], validated: bool
) -> LastCheckpoint:
    """Check the values that `CheckpointReader.read` has not checked."""
    position = reader.dictionary(state.get("position", Missing()), "'position'", list(asdict(Position())))
    for name, least, most in (("stage", 1, 3), ("epoch_of_stage", 0, MAX_NUMBER), ("epoch", 0, MAX_NUMBER)):
        reader.whole_number(position, name, least, most, f"'position', {name!r}")
    reader.whole_number(position, "step", 0, MAX_NUMBER, "'position', 'step'")
    history = reader.value(state, "history", list)
    if len(history) != position["epoch"]:
        reader.fail("'history'", describe(len(history)), f"one entry for each of {position['epoch']} epochs")
    names = {f"{split}_{name}" for split in ("train", "val")[: 1 + validated] for name in METRICS}
    records = [_record(reader, record, index, names) for index, record in enumerate(history)]
    if len({frozenset(record) for record in records}) > 1:
        reader.fail("'history'", "epochs with different metrics", "the same ones in each")
    weights: Weights = state["model"]
    best = state.get("best", Missing())
    if best is not None or any(record["stage"] == 2 for record in records):
        best = reader.weights(best, weights, "'best'")
    progress = Progress(
        Position(**position),
        records,
        reader.tensor(state.get("loss_sums"), (4,), torch.float64, "'loss_sums'"),
        reader.tensor(state.get("confusion"), (4, len(attributes)), torch.int64, "'confusion'"),
        best,
        reader.value(state, "machine", str),
        reader.whole_number({"padding": state.get("padding", Missing())}, "padding", 1, MAX_PADDING, "'padding'"),
    )
    optimizer = _optimizer_state(reader, state.get("optimizer", Missing()), weights)
    return LastCheckpoint(reader.path, progress, weights, optimizer)


def _record(reader: CheckpointReader, record: object, index: int, names: set[str]) -> dict[str, Any]:
    field = f"'history', epoch {index}"
    values = reader.dictionary(record, field)
    for name in sorted(names | values.keys()):
        found = values.get(name, Missing())
        if type(found) not in (int, float) or (type(found) is int and abs(found) > MAX_NUMBER):
            reader.fail(f"{field}, {name!r}", describe(found), "a number")
    for name, least, most in (("epoch", index, index), ("stage", 1, 2)):
        reader.whole_number({name: values.get(name, Missing())}, name, least, most, f"{field}, {name!r}")
    return values


def _optimizer_state(reader: CheckpointReader, found: object, weights: Weights) -> dict[int, dict[str, torch.Tensor]]:
    """Check the state of Adam. In stage 1, it holds none for the classifier, whose parameters are the last two."""
    field = "'optimizer'"
    parameters = [values for name, values in weights.items() if not name.endswith(BUFFERS)]
    counts = (len(parameters) - 2, len(parameters))
    numbers = [key if type(key) is int else None for key in found] if type(found) is dict else [None]
    if numbers not in [list(range(count)) for count in counts]:
        reader.fail(field, describe(found), f"the state of {counts[0]} or {counts[1]} parameters")
    state: dict[int, dict[str, torch.Tensor]] = {}
    for number, entry in enumerate(found.values()):  # type: ignore[attr-defined]
        name = f"{field}, parameter {number}"
        values = reader.dictionary(entry, name, ("step", "exp_avg", "exp_avg_sq"))
        reader.tensor(values["step"], (), torch.float32, f"{name}, 'step'")
        for mean in ("exp_avg", "exp_avg_sq"):
            reader.tensor(values[mean], tuple(parameters[number].shape), torch.float32, f"{name}, {mean!r}")
        state[number] = values
    return state
