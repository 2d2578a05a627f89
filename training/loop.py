"""The training loop: two stages of epochs, from the first step or the last checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch.nn.parallel import DistributedDataParallel

from regions.interrupts import TERMINATION
from regions.messages import counted
from training.batches import Batch
from training.checkpoint import Position, Progress, RunCheckpoints, copy_of_weights
from training.checkpoint_reader import Weights
from training.cli_common import FAILED, DataError, TrainingError
from training.config import TrainConfig
from training.dataset_json import Dataset, check_shards, read_dataset
from training.devices import available_cores, choose_device, choose_padding, choose_precision
from training.distributed import (
    World,
    any_rank,
    on_first_rank,
    process_group,
    ranks_differ,
    share_buffers,
    sum_over_ranks,
    world_of_torchrun,
)
from training.loader import Loader, LoaderSettings
from training.losses import losses
from training.metrics import EpochSums
from training.model import AttParseNet, with_padded_channels
from training.run_log import RunLog, best_epoch, last_is_best, losses_diverge
from training.storage import locked
from training.transforms import Augmentation, augment, generator_of, prepare

STEPS_PER_CHECK = 20
"""Number of steps between two checks of the loss, each of which copies it from the device."""


def train(config: TrainConfig) -> None:
    """Train a network, or continue an interrupted training.

    Raises
    ------
    DataError
        If the data or the arguments cannot be used.
    TrainingError
        If the training was interrupted (its checkpoint is saved) or the loss is not finite.
    """
    world = world_of_torchrun()
    device = choose_device(config.device, world.local_rank)
    dataset = read_dataset(config.data)
    for split in ("train", "val"):
        if dataset.shards.get(split) or split == "train":
            check_shards(dataset.shards_of(split), checksums=config.verify_checksums and world.rank == 0)
    _set_up_torch(config)
    with process_group(world, device), _stop_on_signal() as stop, _memory_errors():
        Training(config, dataset, world, device, stop).run()


def _set_up_torch(config: TrainConfig) -> None:
    torch.manual_seed(config.seed)
    torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.benchmark = not config.deterministic
    torch.set_float32_matmul_precision("highest" if config.deterministic else "high")
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@dataclass
class StopRequest:
    """Whether this process received a signal to stop."""

    received: bool = False


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[StopRequest]:
    """Record signals to stop while the block runs, so that a checkpoint can be saved before the process ends."""
    stop = StopRequest()

    def note(*_: Any) -> None:
        stop.received = True

    numbers = [number for number in (*TERMINATION, signal.SIGINT) if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, note) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn torch's errors of memory that is not to be had, on a GPU or for the CPU, into MemoryError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            raise MemoryError from error
        raise


class Training:
    """A training from its first step, or its last checkpoint, to its end.

    Every random choice depends only on seed, epoch, step and rank, so an exact resume needs only these, the weights and
    the optimizer's state.

    Parameters
    ----------
    config : TrainConfig
    dataset : Dataset
    world : World
    device : torch.device
    stop : StopRequest
    """

    def __init__(
        self, config: TrainConfig, dataset: Dataset, world: World, device: torch.device, stop: StopRequest
    ) -> None:
        self.config, self.dataset, self.world, self.device, self.stop = config, dataset, world, device, stop
        self.dtype = choose_precision(config.precision, device)
        self._build_network(choose_padding(config.pad_channels, device, self.dtype))
        self.loader = Loader(dataset, self._loader_settings("train"), world)
        has_val = any(shard.samples for shard in dataset.shards.get("val", ()))
        if config.early_stop and not has_val:
            raise DataError(f"{dataset.folder}: no samples in split 'val', which --early_stop needs")
        self.val_loader = Loader(dataset, self._loader_settings("val"), world) if has_val else None
        self.checkpoints = RunCheckpoints(config.output, dataset.attributes, self._decisive())
        self.log = RunLog(config.output, first_rank=world.rank == 0)
        self.position = Position()
        self.sums = EpochSums(len(dataset.attributes), device)
        self.best: Weights | None = None
        """Weights of the best epoch so far, on the CPU."""

    def _build_network(self, padding: int) -> None:
        config = self.config
        model = AttParseNet(len(self.dataset.attributes), config.channels, config.batch_norm)
        self.padding, self.model = padding, with_padded_channels(model, padding).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr, fused=True)

    def _loader_settings(self, split: str) -> LoaderSettings:
        config = self.config
        workers = max(1, available_cores() // self.world.local_size) if config.workers is None else config.workers
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

    def _decisive(self) -> dict[str, object]:
        """Return the options and data that must be the same when the training resumes."""
        shards = [shard.sha256 for split in ("train", "val") for shard in self.dataset.shards.get(split, ())]
        data = hashlib.sha256(" ".join(shards).encode()).hexdigest()
        chosen = {"number of processes": self.world.size, "data (its shards)": data}
        return {**self.config.decisive_options(), **chosen}

    def _machine(self) -> str:
        """Return what rounding depends on, apart from the options."""
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        else:
            threads = counted(torch.get_num_threads(), "thread")
            name = f"CPU with {torch.backends.cpu.get_cpu_capability()} and {threads}"
        return f"{name}, {'bf16' if self.dtype == torch.bfloat16 else 'fp32'}, torch {torch.__version__}"

    def run(self) -> None:
        """Train to the end.

        Raises
        ------
        DataError
            If another training writes to the same folder, or the last checkpoint cannot be used.
        TrainingError
            See `train`.
        """
        with contextlib.ExitStack() as stack:

            def begin() -> None:
                stack.enter_context(locked(self.config.output))
                self._resume()

            on_first_rank(self.world, begin)
            if self.world.rank:
                self._resume()
            if ranks_differ(list(vars(self.position).values())):
                raise DataError(f"{self.config.output}: found different checkpoints, expected a folder of all machines")
            self._print_start()
            for stage in (1, 2):
                if self.position.stage == stage:
                    self._run_stage(stage)
                    self.position = Position(stage + 1, 0, self.position.epoch, 0)
            self._save()
            self.log.write_curves()
        path = self.checkpoints.last if self.best is None else self.checkpoints.best
        self.log.print(f"{counted(self.position.epoch, 'epoch')} done; {path}, curves.png")

    def _resume(self) -> None:
        last = self.checkpoints.read_last(validated=self.val_loader is not None)
        if last is None:
            return
        progress = last.progress
        self.position, self.log.history, self.best = progress.position, progress.history, progress.best
        if self.position.step > self.loader.steps(self.position.epoch):
            raise DataError(f"{self.checkpoints.last}: found step {self.position.step}, expected fewer in its epoch")
        if self.padding != progress.padding:  # begun on another device
            self._build_network(progress.padding)
        last.restore(self.model, self.optimizer)
        if self.world.rank == 0:  # the sums are over all ranks
            self.sums.losses.copy_(progress.loss_sums)
            self.sums.confusion.counts.copy_(progress.confusion)
            self._write_results()
        self.log.print(
            f"resumed from {self.checkpoints.last}: {counted(self.position.epoch, 'epoch')} and"
            f" {counted(self.position.step, 'step')} are done"
        )
        if progress.machine != self._machine():
            self.log.print(
                f"note: the weights will not be bit-identical to those of an uninterrupted training: begun with"
                f" {progress.machine}, continued with {self._machine()}"
            )

    def _print_start(self) -> None:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        precision = "bf16" if self.dtype == torch.bfloat16 else "fp32"
        parameters = sum(weights.numel() for weights in self.model.parameters())
        steps = counted(self.loader.steps(self.position.epoch), "step")
        self.log.print(
            f"{counted(self.loader.samples(), 'training image')}, {steps} of"
            f" {self.world.size} x {self.config.batch_size}; {counted(parameters, 'parameter')}; {name}, {precision}"
        )
        if self.config.baseline and self.dataset.crop != "none":
            self.log.print(
                f"note: the paper's baseline is trained on --crop none data, this is --crop {self.dataset.crop}"
            )

    def _run_stage(self, stage: int) -> None:
        self.model.classifier.requires_grad_(stage == 2)
        network = self.wrapped_model()
        while self.position.epoch_of_stage < self.config.epochs_of(stage) and not self._ends_early(stage):
            began, before = time.monotonic(), self.position.step
            self._run_epoch(network, stage)
            seconds = time.monotonic() - began
            images = (self.position.step - before) * self.config.batch_size * self.world.size
            record = {"epoch": self.position.epoch, "stage": stage, **self.sums.results("train")}
            if self.val_loader is not None:
                record |= self._validate(self.val_loader, stage)
            record |= {"images_per_second": images / seconds, "seconds": time.monotonic() - began}
            record["skipped_samples"] = self._count_unreadable()
            self.log.history.append(record)
            self.position = Position(stage, self.position.epoch_of_stage + 1, self.position.epoch + 1, 0)
            self.sums = EpochSums(len(self.dataset.attributes), self.device)
            improved = stage == 2 and last_is_best(self.log.history)
            if improved:
                self.best = copy_of_weights(self.model)
            self._save(improved=improved)

    def wrapped_model(self) -> Any:
        """Return the network, distributed and compiled as required; each stage trains other parameters."""
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
        with self.log.progress_bar(title, steps * size, done * size) as bar:
            for step, batch in enumerate(self.loader.batches(epoch, done), start=done):
                loss = self.take_step(network, batch, stage, step)
                self.loader.release(batch)
                self.position.step = step + 1
                stop = any_rank(self.stop.received)
                saving = stop or ((step + 1) % self.config.checkpoint_steps == 0 and step + 1 < steps)
                if saving or step % STEPS_PER_CHECK == 0 or step + 1 == steps:
                    bar.set_postfix(loss=f"{_finite(loss, epoch, step):.4f}", refresh=False)
                bar.update(size)
                if saving:
                    self._save()
                if stop:
                    self._end_interrupted(f"step {step + 1}")

    def _end_interrupted(self, where: str) -> NoReturn:
        if self.world.rank:  # the first rank prints for all
            raise SystemExit(FAILED)
        raise TrainingError(f"interrupted in epoch {self.position.epoch}, {where}; run the same command to continue")

    def take_step(self, network: Any, batch: Batch, stage: int, step: int) -> torch.Tensor:
        """Train on one batch and return its loss, on the device.

        Parameters
        ----------
        network : callable
            See `wrapped_model`.
        batch : Batch
        stage, step : int
            The augmentation depends on the step of the epoch.
        """
        config = self.config
        generator = generator_of(config.seed, self.position.epoch, step, self.world.rank)
        prepared = prepare(batch, self.device, label_repair=config.label_repair)
        images, masks, labels, known = augment(prepared, Augmentation(config.flip, config.smallest_crop), generator)
        with self._autocast():
            logits, maps = network(images)
        result = losses(logits, maps, labels, masks, known, mse_weight=config.mse_weight, bce_weight=float(stage == 2))
        self.optimizer.zero_grad(set_to_none=True)
        result.total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        with torch.no_grad():
            self.sums.add(torch.stack(result), logits, labels, known)
        return result.total.detach()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @torch.no_grad()
    def _validate(self, loader: Loader, stage: int) -> dict[str, float]:
        """Return loss and accuracy on the validation split; the network gets only the images."""
        self.model.eval()
        share_buffers(self.model)
        sums = EpochSums(len(self.dataset.attributes), self.device)
        weights = {"mse_weight": self.config.mse_weight, "bce_weight": float(stage == 2)}
        for batch in loader.batches(0):
            if self.stop.received:  # ranks have different numbers of batches, and meet below
                break
            images, masks, labels, known = prepare(batch, self.device)
            with self._autocast():
                logits, maps = self.model(images)
            sums.add(torch.stack(losses(logits, maps, labels, masks, known, **weights)), logits, labels, known)
            loader.release(batch)
        if any_rank(self.stop.received):
            self._save()
            self._end_interrupted("validation")
        return sums.results("val")

    def _ends_early(self, stage: int) -> bool:
        ends = losses_diverge(self.log.history, stage, self.config.early_stop)
        if ends:
            own = [record for record in self.log.history if record["stage"] == stage]
            best = best_epoch(own, "val_loss") + 1
            self.log.print(f"stage {stage} ends early: validation loss was lowest in its epoch {best}")
        return ends

    def _count_unreadable(self) -> int:
        """Return the number of samples that all ranks skipped in this epoch, and print those of this rank."""
        loaders = [self.loader] + ([self.val_loader] if self.val_loader else [])
        unreadable = [entry for loader in loaders for entry in loader.skipped]
        self.log.print_unreadable(unreadable)
        for loader in loaders:
            loader.skipped.clear()
        return int(sum_over_ranks(torch.tensor(sum(entry.samples for entry in unreadable), device=self.device)))

    def _save(self, *, improved: bool = False) -> None:
        """Save everything that resuming needs, and the results so far; the best network only if it is a new one."""
        loss_sums, confusion = self.sums.of_all_ranks()
        if self.world.rank == 0:
            progress = Progress(
                self.position, self.log.history, loss_sums, confusion, self.best, self._machine(), self.padding
            )
            self.checkpoints.save_last(self.model, self.optimizer, progress)
            self._write_results(improved=improved)

    def _write_results(self, *, improved: bool = True) -> None:
        """Write what a reader of the folder wants, all of which ``last.pt`` holds: after it, and after a resume."""
        self.log.write_metrics()
        if improved and self.best is not None:
            self.checkpoints.save_best(self.model, self.best)


def _finite(loss: torch.Tensor, epoch: int, step: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        found = "NaN" if math.isnan(value) else str(value)
        raise TrainingError(f"loss became {found} in epoch {epoch}, step {step + 1}: try a smaller --lr")
    return value
