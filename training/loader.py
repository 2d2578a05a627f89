"""Shards to batches: WebDataset streams, split over ranks and workers, shuffled by seed and epoch."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import webdataset as wds

from training.cli_common import DataError
from training.dataset_json import IMAGE_SIZE, Dataset, Shard
from training.distributed import world_of_torchrun
from training.shard_reader import Pixels, Sample, decode, planes_shape, read_shard

T = TypeVar("T")

ONLY_HERE = 3
"""References that Python counts to what a list holds, a loop's variable names, and `sys.getrefcount` is given."""

AHEAD = 2
"""Batches that a worker makes before they are asked for."""


class Batch(NamedTuple):
    """Samples as they go to the device: 153 kB each.

    Attributes
    ----------
    images : Tensor (batch, 218, 178, 3) uint8
        RGB.
    planes : Tensor (batch, ceil(attributes / 8), 96, 76) uint8 or None
        Eight masks to a plane, the first attribute in the highest bit of the first plane.
    labels : Tensor (batch, attributes) uint8
        0 or 1.
    keys : list of str
    """

    images: torch.Tensor
    planes: torch.Tensor | None
    labels: torch.Tensor
    keys: list[str]


@dataclass(frozen=True)
class Skipped:
    """Samples that could not be read.

    Attributes
    ----------
    samples : int
    reason : str
        Shard, sample, and what is wrong.
    """

    samples: int
    reason: str


@dataclass(frozen=True)
class LoaderSettings:
    """How to read a split.

    Attributes
    ----------
    split : str
    batch_size : int
        Of each rank.
    workers : int
        Threads that read and decode; 0 does it when a batch is asked for.
    training : bool
        Shuffled, whole batches only, as many on each rank; otherwise each sample once, in the order of the shards.
    masks : bool
        Whether masks are read.
    seed : int
        Of the order.
    buffer : int
        Samples among which a worker shuffles, about 15 kB each.
    skip_bad_samples : bool
        Count what can't be read instead of stopping.
    pin_memory : bool
        For faster copies to a GPU.
    """

    split: str
    batch_size: int
    workers: int = 0
    training: bool = False
    masks: bool = True
    seed: int = 0
    buffer: int = 2000
    skip_bad_samples: bool = False
    pin_memory: bool = False


class Loader:
    """Reads one split of a dataset, epoch by epoch; shards are shared out to ranks, and a rank's to its workers.

    Parameters
    ----------
    dataset : Dataset
    settings : LoaderSettings

    Raises
    ------
    DataError
        If the split has no samples or, in training, a rank would have no whole batch.
    """

    def __init__(self, dataset: Dataset, settings: LoaderSettings) -> None:
        self.settings = settings
        self.skipped: list[Skipped] = []
        """What could not be read, so far."""
        self._attributes = dataset.attributes
        self._world = world_of_torchrun()
        self._shards = dataset.shards_of(settings.split)
        if settings.training and not self.steps(0):
            raise DataError(
                f"{dataset.folder}: {len(self._shards)} {settings.split} shards of at most"
                f" {max(shard.samples for shard in self._shards)} samples give {self._world.size} ranks no batch of"
                f" {settings.batch_size} each; use a smaller --batch_size, or shards of fewer samples"
            )

    def samples(self) -> int:
        """Return the number of samples in the split, those of all ranks."""
        return sum(shard.samples for shard in self._shards)

    def steps(self, epoch: int) -> int:
        """Return the number of training batches in an epoch, the same for every rank.

        It is what the rank with the fewest samples has; which shards go to which rank differs from epoch to epoch.
        """
        order = self._order(epoch)
        size = self._world.size
        fewest = min(sum(shard.samples for shard in order[rank::size]) for rank in range(size))
        return fewest // self.settings.batch_size

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch of this rank: `steps(epoch)` in training, else all samples.

        Raises
        ------
        DataError
            If a sample can't be read, unless such are skipped.
        """
        if not self.settings.training:
            yield from merge_partial_batches(self._read(epoch), self.settings.batch_size)
            return
        steps = self.steps(epoch)
        # A second pass only makes up for samples that were skipped: all ranks must take as many steps.
        passes = itertools.chain.from_iterable(self._whole_batches(epoch) for _ in itertools.count())
        yield from itertools.islice(passes, steps)

    def _whole_batches(self, epoch: int) -> Iterator[Batch]:
        size = self.settings.batch_size
        none = True
        for batch in merge_partial_batches(self._read(epoch), size):
            if len(batch.keys) == size:
                none = False
                yield batch
        if none:
            raise DataError(f"no batch of {size} readable samples; the last one skipped: {self.skipped[-1].reason}")

    def _read(self, epoch: int) -> Iterator[Batch]:
        """Yield batches as the workers make them; the last one of each worker may be partial."""
        order = self._order(epoch)
        own = order[self._world.rank :: self._world.size]
        workers = max(1, min(self.settings.workers, len(own)))
        seed = f"{self.settings.seed} {epoch} {self._world.rank}"
        streams = [
            read_batches(own[worker::workers], self._attributes, self.settings, f"{seed} {worker}")
            for worker in range(workers)
        ]
        for item in in_threads(streams, AHEAD) if self.settings.workers else itertools.chain.from_iterable(streams):
            if isinstance(item, Skipped):
                self.skipped.append(item)
            else:
                yield item

    def _order(self, epoch: int) -> list[Shard]:
        """Return the shards in the order of an epoch, the same on all ranks."""
        order = list(self._shards)
        if self.settings.training:
            random.Random(f"{self.settings.seed} {epoch}").shuffle(order)  # noqa: S311 # not for secrets
        return order


def in_threads(streams: Sequence[Iterator[T]], ahead: int) -> Iterator[T]:
    """Yield the items of all streams in turn; each is read in a thread of its own, some items ahead.

    Decoding lets go of Python's lock, so threads use all cores; and unlike processes they needn't copy batches.
    """
    end = object()
    with contextlib.ExitStack() as stack:
        waiting: deque[tuple[ThreadPoolExecutor, Iterator[T], deque[Future[Any]]]] = deque()
        for stream in streams:
            thread = ThreadPoolExecutor(1)
            stack.callback(thread.shutdown, cancel_futures=True)
            waiting.append((thread, stream, deque(thread.submit(next, stream, end) for _ in range(ahead))))
        while waiting:
            thread, stream, items = waiting.popleft()
            item = items.popleft().result()
            if item is not end:
                items.append(thread.submit(next, stream, end))
                waiting.append((thread, stream, items))
                yield item


def merge_partial_batches(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Pass on batches of `size`; join smaller ones to such, and yield what is left at the end."""
    rest: list[Batch] = []
    for batch in batches:
        if len(batch.keys) == size:
            yield batch
            continue
        rest.append(batch)
        if sum(len(part.keys) for part in rest) >= size:
            joined = _join(rest)
            yield _part(joined, slice(0, size))
            rest = [_part(joined, slice(size, None))]
    if sum(len(part.keys) for part in rest):
        yield _join(rest)


def _join(parts: list[Batch]) -> Batch:
    planes = [part.planes for part in parts if part.planes is not None]
    return Batch(
        torch.cat([part.images for part in parts]),
        torch.cat(planes) if planes else None,
        torch.cat([part.labels for part in parts]),
        [key for part in parts for key in part.keys],
    )


def _part(batch: Batch, rows: slice) -> Batch:
    planes = None if batch.planes is None else batch.planes[rows]
    return Batch(batch.images[rows], planes, batch.labels[rows], batch.keys[rows])


def read_batches(
    shards: Sequence[Shard], attributes: tuple[str, ...], settings: LoaderSettings, seed: str
) -> Iterator[Batch | Skipped]:
    """Read, shuffle and decode shards: what one worker does.

    Parameters
    ----------
    shards : sequence of Shard
        Of this worker, in order.
    attributes : tuple of str
    settings : LoaderSettings
    seed : str
        Of the order of samples; differs by epoch, rank and worker.

    Raises
    ------
    DataError
        If a sample can't be read, unless such are skipped.
    """
    samples = _read_samples(shards, settings.skip_bad_samples)
    if settings.training:
        rng = random.Random(seed)  # noqa: S311 # not for secrets
        samples = wds.shuffle(settings.buffer, initial=settings.buffer, rng=rng)(samples)
    building = BatchBuilder(attributes, settings)
    for sample in samples:
        if isinstance(sample, Skipped):
            yield sample
            continue
        try:
            building.add(sample)
        except DataError as error:
            if not settings.skip_bad_samples:
                raise
            yield Skipped(1, str(error))
        if len(building.keys) == settings.batch_size:
            yield building.take()
    if building.keys:
        yield building.take()


def _read_samples(shards: Sequence[Shard], skip_bad_samples: bool) -> Iterator[Sample | Skipped]:
    for shard in shards:
        read = 0
        try:
            for sample in read_shard(shard):
                read += 1
                yield sample
        except DataError as error:
            if not skip_bad_samples:
                raise
            yield Skipped(shard.samples - read, str(error))


class BatchBuilder:
    """Decodes samples into the memory of a batch.

    Parameters
    ----------
    attributes : tuple of str
    settings : LoaderSettings
    """

    def __init__(self, attributes: tuple[str, ...], settings: LoaderSettings) -> None:
        self._attributes, self._settings = attributes, settings
        self._used: list[Pixels] = []
        """Memory of former batches, used again when these are gone: fresh memory costs 15 us per sample."""
        self._start()

    def _start(self) -> None:
        size = self._settings.batch_size
        image, planes = (*IMAGE_SIZE, 3), planes_shape(len(self._attributes))
        if not self._settings.masks:
            planes = (0, *planes[1:])
        # One piece of memory for both: numpy asks for huge pages where it is large, torch does not.
        memory = self._allocate(size * (math.prod(image) + math.prod(planes)))
        self._images = memory[: size * math.prod(image)].reshape(size, *image)
        self._planes = memory[size * math.prod(image) :].reshape(size, *planes)
        self._labels: list[list[int]] = []
        self.keys: list[str] = []

    def _allocate(self, count: int) -> Pixels:
        if self._settings.pin_memory:  # torch keeps such memory, and knows when a copy of it is done
            return np.asarray(torch.empty(count, dtype=torch.uint8, pin_memory=True).numpy())
        for memory in self._used:
            if sys.getrefcount(memory) == ONLY_HERE:
                return memory
        self._used.append(np.empty(count, dtype=np.uint8))
        return self._used[-1]

    def add(self, sample: Sample) -> None:
        """Decode a sample.

        Raises
        ------
        DataError
            If a member is missing or not as expected; the message names shard and sample.
        """
        place = len(self.keys)
        self._labels.append(decode(sample, self._attributes, self._images[place], self._planes[place]))
        self.keys.append(sample["__key__"])

    def take(self) -> Batch:
        """Return what was decoded, and start anew."""
        count = len(self.keys)
        batch = Batch(
            torch.from_numpy(self._images[:count]),
            torch.from_numpy(self._planes[:count]) if self._settings.masks else None,
            torch.tensor(self._labels, dtype=torch.uint8),
            self.keys,
        )
        self._start()
        return batch
