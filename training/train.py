"""``attparse-train``: AttParseNet from shards, in the paper's two stages."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from training import checkpoint
from training.cli_common import DataError, TrainingError, choose_device, run_command
from training.config import TrainConfig, choose_padding, choose_precision, parse_config
from training.dataset_json import Dataset, check_shards, read_dataset
from training.distributed import World, any_rank, process_group, share_buffers, sum_over_ranks, world_of_torchrun
from training.loader import Batch, Loader, LoaderSettings
from training.losses import losses
from training.metrics import EpochSums
from training.model import AttParseNet, with_padded_channels
from training.plots import draw_curves
from training.storage import write_text
from training.transforms import Augmentation, augment, generator_of, prepare

STEPS_BETWEEN_LOOKS = 20
"""How often the loss is fetched from the device, to be shown and checked."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    config = parse_config(argv)
    return run_command("attparse-train", lambda: train(config))


def train(config: TrainConfig) -> None:
    """Train a network, or go on with one whose training was interrupted.

    Raises
    ------
    DataError
        If the data or the arguments can't be used.
    TrainingError
        If the training was interrupted (its checkpoint is saved) or the loss is no number any more.
    """
    world = world_of_torchrun()
    device = choose_device(config.device, world.local_rank)
    dataset = read_dataset(config.data)
    for split in ("train", "val"):
        if dataset.shards.get(split) or split == "train":
            check_shards(dataset.shards_of(split), checksums=config.verify_checksums and world.rank == 0)
    _set_up_torch(config)
    with process_group(world, device), _stop_on_signal() as stop:
        Training(config, dataset, world, device, stop).run()


def _set_up_torch(config: TrainConfig) -> None:
    torch.manual_seed(config.seed)
    torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.benchmark = not config.deterministic
    torch.set_float32_matmul_precision("highest" if config.deterministic else "high")
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@dataclass
class Stop:
    """Whether this process was asked to stop."""

    asked: bool = False


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[Stop]:
    """Note SIGTERM and SIGINT while the block runs, so that a checkpoint can be saved before the end."""
    stop = Stop()

    def note(*_: Any) -> None:
        stop.asked = True

    former = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@dataclass
class Position:
    """How far a training is.

    Attributes
    ----------
    stage : int
        1 or 2; 3 is the end.
    epoch_of_stage : int
        Epochs of the stage that are done.
    epoch : int
        Epochs of all that are done.
    step : int
        Steps of the present epoch that are done.
    """

    stage: int = 1
    epoch_of_stage: int = 0
    epoch: int = 0
    step: int = 0


class Training:
    """A training from its first step, or its last checkpoint, to its end.

    Every random choice follows from the seed, the epoch, the step and the rank alone; so a checkpoint that knows
    these, the weights and the optimizer's state is all that an exact resume needs.

    Parameters
    ----------
    config : TrainConfig
    dataset : Dataset
    world : World
    device : torch.device
    stop : Stop
    """

    def __init__(self, config: TrainConfig, dataset: Dataset, world: World, device: torch.device, stop: Stop) -> None:
        self.config, self.dataset, self.world, self.device, self.stop = config, dataset, world, device, stop
        self.dtype = choose_precision(config.precision, device)
        self.padding = choose_padding(config.pad_channels, device, self.dtype)
        model = AttParseNet(len(dataset.attributes), config.channels, config.batch_norm)
        self.model = with_padded_channels(model, self.padding).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr, fused=True)
        self.loader = Loader(dataset, self._loader_settings("train"))
        has_val = any(shard.samples for shard in dataset.shards.get("val", ()))
        if config.early_stop and not has_val:
            raise DataError(f"{dataset.folder}: no samples in split 'val', which --early_stop needs")
        self.val_loader = Loader(dataset, self._loader_settings("val")) if has_val else None
        self.position = Position()
        self.history: list[dict[str, Any]] = []
        self.sums = EpochSums(len(dataset.attributes), device)

    def _loader_settings(self, split: str) -> LoaderSettings:
        config = self.config
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = max(1, cores // self.world.local_size) if config.workers is None else config.workers
        return LoaderSettings(
            split,
            config.batch_size,
            workers,
            training=split == "train",
            masks=not config.baseline,
            seed=config.seed,
            buffer=config.shuffle_buffer,
            skip_bad_samples=config.skip_bad_samples,
            pin_memory=self.device.type == "cuda",
        )

    def run(self) -> None:
        """Train to the end.

        Raises
        ------
        TrainingError
            See `train`.
        """
        self._resume()
        self._announce()
        for stage in (1, 2):
            if self.position.stage == stage:
                self._run_stage(stage)
                self.position = Position(stage + 1, 0, self.position.epoch, 0)
        self._save()
        if self.world.rank == 0:
            draw_curves(self.history, os.path.join(self.config.to, "curves.png"))
            name = "best.pt" if self.history[-1]["stage"] == 2 else "last.pt"
            print(f"{self.position.epoch} epochs done; {os.path.join(self.config.to, name)}, curves.png")

    def _announce(self) -> None:
        if self.world.rank:
            return
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        precision = "bf16" if self.dtype == torch.bfloat16 else "fp32"
        parameters = sum(weights.numel() for weights in self.model.parameters())
        print(
            f"{self.loader.samples()} training images, {self.loader.steps(self.position.epoch)} steps of"
            f" {self.world.size} x {self.config.batch_size}; {parameters:,} parameters; {name}, {precision}"
        )
        if self.config.baseline and self.dataset.crop != "none":
            print(f"note: the paper's baseline is trained on --crop none data, this is --crop {self.dataset.crop}")

    def _run_stage(self, stage: int) -> None:
        self.model.classifier.requires_grad_(stage == 2)
        network = self.wrapped_model()
        while self.position.epoch_of_stage < self.config.epochs_of(stage) and not self._should_stop(stage):
            began, before = time.monotonic(), self.position.step
            self._run_epoch(network, stage)
            seconds = time.monotonic() - began
            images = (self.position.step - before) * self.config.batch_size * self.world.size
            record = {"epoch": self.position.epoch, "stage": stage, **self.sums.results("train")}
            if self.val_loader is not None:
                record |= self._validate(self.val_loader, stage)
            record |= {"images_per_second": images / seconds, "seconds": time.monotonic() - began}
            record["skipped_samples"] = self._skipped()
            self.history.append(record)
            self.position = Position(stage, self.position.epoch_of_stage + 1, self.position.epoch + 1, 0)
            self.sums = EpochSums(len(self.dataset.attributes), self.device)
            self._save()
            self._save_best(stage)

    def wrapped_model(self) -> Any:
        """Return the network as this stage trains it: the parameters that learn differ between the stages."""
        network: Any = self.model
        if self.world.size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            network = DistributedDataParallel(network, device_ids=ids, gradient_as_bucket_view=True)
        return torch.compile(network) if self.config.compile else network

    def _run_epoch(self, network: Any, stage: int) -> None:
        network.train()
        epoch, done = self.position.epoch, self.position.step
        steps = self.loader.steps(epoch)
        title = f"stage {stage} epoch {self.position.epoch_of_stage + 1}/{self.config.epochs_of(stage)}"
        size = self.config.batch_size * self.world.size
        with tqdm(
            total=steps * size, initial=done * size, desc=title, unit=" images", disable=self.world.rank > 0
        ) as bar:
            for step, batch in enumerate(self.loader.batches(epoch)):
                if step < done:
                    continue
                loss = self.take_step(network, batch, stage, step)
                self.position.step = step + 1
                if step % STEPS_BETWEEN_LOOKS == 0 or step + 1 == steps:
                    bar.set_postfix(loss=f"{_checked(loss, epoch, step):.4f}", refresh=False)
                bar.update(size)
                if any_rank(self.stop.asked):
                    self._save()
                    raise TrainingError(f"interrupted in epoch {epoch}, step {step + 1}; run the same command to go on")
                if (step + 1) % self.config.checkpoint_steps == 0 and step + 1 < steps:
                    self._save()

    def take_step(self, network: Any, batch: Batch, stage: int, step: int) -> torch.Tensor:
        """Learn from one batch, and return its loss, on the device.

        Parameters
        ----------
        network : callable
            See `wrapped_model`.
        batch : Batch
        stage, step : int
            The step of the epoch decides on the augmentation.
        """
        config = self.config
        generator = generator_of(config.seed, self.position.epoch, step, self.world.rank)
        prepared = prepare(batch, self.device, label_repair=config.label_repair)
        images, masks, labels = augment(prepared, Augmentation(config.flip, config.smallest_crop), generator)
        with self._autocast():
            logits, maps = network(images)
        result = losses(logits, maps, labels, masks, mse_weight=config.mse_weight, bce_weight=float(stage == 2))
        self.optimizer.zero_grad(set_to_none=True)
        result.total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        with torch.no_grad():
            self.sums.add(torch.stack(result), logits, labels)
        return result.total.detach()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @torch.no_grad()
    def _validate(self, loader: Loader, stage: int) -> dict[str, float]:
        """Return loss and accuracy on the validation split; the network sees the images alone."""
        self.model.eval()
        share_buffers(self.model)
        sums = EpochSums(len(self.dataset.attributes), self.device)
        for batch in loader.batches(0):
            images, masks, labels = prepare(batch, self.device)
            with self._autocast():
                logits, maps = self.model(images)
            weights = {"mse_weight": self.config.mse_weight, "bce_weight": float(stage == 2)}
            sums.add(torch.stack(losses(logits, maps, labels, masks, **weights)), logits, labels)
        return sums.results("val")

    def _should_stop(self, stage: int) -> bool:
        """Tell whether training and validation loss have parted for as long as ``--early_stop`` says."""
        own = [record for record in self.history if record["stage"] == stage]
        patience = self.config.early_stop
        if not patience or not own:
            return False
        best = min(range(len(own)), key=lambda i: own[i]["val_loss"])
        parted = len(own) - 1 - best >= patience and own[-1]["train_loss"] < own[best]["train_loss"]
        if parted and self.world.rank == 0:
            print(f"stage {stage} ends early: validation loss was lowest in its epoch {best + 1}")
        return parted

    def _skipped(self) -> int:
        loaders = [self.loader] + ([self.val_loader] if self.val_loader else [])
        skipped = [entry for loader in loaders for entry in loader.skipped]
        for entry in skipped:
            tqdm.write(f"skipped {entry.samples} samples: {entry.reason}", file=sys.stderr)
        for loader in loaders:
            loader.skipped.clear()
        return int(sum_over_ranks(torch.tensor(sum(entry.samples for entry in skipped), device=self.device)))

    def _checkpoint_path(self) -> str:
        return os.path.join(self.config.to, "last.pt")

    def _save(self) -> None:
        """Save all that a resume needs, and the metrics so far."""
        loss_sums, counts = self.sums.of_all_ranks()
        if self.world.rank:
            return
        state = {
            **checkpoint.describe_model(self.model, self.dataset.attributes),
            "optimizer": self.optimizer.state_dict(),
            "position": asdict(self.position),
            "history": self.history,
            "loss_sums": loss_sums,
            "confusion": counts,
            "config": self._compared(),
        }
        checkpoint.save(self._checkpoint_path(), state)
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        write_text(os.path.join(self.config.to, "metrics.jsonl"), lines)

    def _save_best(self, stage: int) -> None:
        """Save the network if it is the best one so far: of stage 2, with the lowest BCE in validation."""
        if self.world.rank or stage == 1:
            return
        own = [record for record in self.history if record["stage"] == 2]
        if self.val_loader is not None and own[-1]["val_bce"] > min(record["val_bce"] for record in own):
            return
        path = os.path.join(self.config.to, "best.pt")
        checkpoint.save(path, checkpoint.describe_model(self.model, self.dataset.attributes))

    def _compared(self) -> dict[str, Any]:
        """Return what must be the same when the training is resumed."""
        shards = [shard.sha256 for split in ("train", "val") for shard in self.dataset.shards.get(split, ())]
        chosen = {"workers": self.loader.settings.workers, "pad_channels": self.padding, "ranks": self.world.size}
        return {**self.config.compared(), **chosen, "data (its shards)": shards}

    def _resume(self) -> None:
        path = self._checkpoint_path()
        if not os.path.exists(path):
            return
        state = checkpoint.load(path)
        for name, value in self._compared().items():
            if state["config"].get(name) != value:
                what = "" if "(" in name else f": {state['config'].get(name)!r} then, {value!r} now"
                raise DataError(f"{path}: begun with another {name}{what}; use another --to, or the same options")
        self.model.load_state_dict(state["model"])
        self.position = Position(**state["position"])
        # Stage 1 has no optimizer state for the classifier, so which parameters learn must be as it was.
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]
        if self.world.rank == 0:
            self.sums.losses.copy_(state["loss_sums"])
            self.sums.confusion.counts.copy_(state["confusion"])
            print(f"resumed from {path}: {self.position.epoch} epochs and {self.position.step} steps are done")


def _checked(loss: torch.Tensor, epoch: int, step: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise TrainingError(f"the loss is {value} in epoch {epoch}, step {step + 1}: try a smaller --lr")
    return value


if __name__ == "__main__":
    sys.exit(main())
