"""From shards to batches: streams of samples, split over ranks and workers, shuffled by seed and epoch."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
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
from training.distributed import SINGLE_PROCESS, World
from training.shard_reader import Pixels, StoredSample, decode, packed_shape, read_shard

T = TypeVar("T")

AHEAD = 2
"""Batches that a worker makes in advance."""


class Batch(NamedTuple):
    """Samples as they go to the device: 153 kB each with 40 attributes.

    Attributes
    ----------
    images : Tensor (batch, 218, 178, 3) uint8
        RGB.
    packed_masks : Tensor (batch, ceil(attributes / 8), 96, 76) uint8 or None
        Eight masks to a byte, the first attribute in the highest bit of the first one.
    labels : Tensor (batch, attributes) int8
        0, 1, or -1 where unknown.
    keys : list of str
    memory : ndarray or None
        The memory of `images` and `packed_masks`, if it can be used again; see `Loader.release`.
    """

    images: torch.Tensor
    packed_masks: torch.Tensor | None
    labels: torch.Tensor
    keys: list[str]
    memory: Pixels | None = None


@dataclass(frozen=True)
class UnreadableSamples:
    """Samples that were skipped because they could not be read.

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
    """Settings for reading a split.

    Attributes
    ----------
    split : str
    batch_size : int
        Batch size per rank.
    workers : int
        Threads that read and decode; 0 reads in the calling thread.
    training : bool
        Shuffled, in whole batches, equally many on each rank; otherwise each sample once, in the order of the shards.
    masks : bool
        Whether masks are read.
    seed : int
        Random seed of the order.
    buffer : int
        Number of samples among which a worker shuffles, about 15 kB each.
    skip_bad_samples : bool
        Count samples that cannot be read instead of stopping.
    pin_memory : bool
        Use page-locked memory, for faster copies to a GPU.
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
    """Reads one split of a dataset, epoch by epoch; shards are split among ranks, and a rank's among its workers.

    Parameters
    ----------
    dataset : Dataset
    settings : LoaderSettings
    world : World
        Which of how many ranks this one is.

    Raises
    ------
    DataError
        If the split has no samples or, in training, a rank would have no whole batch.
    """

    def __init__(self, dataset: Dataset, settings: LoaderSettings, world: World = SINGLE_PROCESS) -> None:
        self.settings = settings
        self.skipped: list[UnreadableSamples] = []
        """Samples that could not be read, so far."""
        self._attributes = dataset.attributes
        self._world = world
        self._pool = BufferPool()
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

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch of this rank: `steps(epoch)` in training, else all samples.

        Parameters
        ----------
        epoch : int
        start : int
            Batches to leave out at the start, in training: their samples are read, but not decoded, unless bad
            samples are skipped, which only decoding finds.

        Raises
        ------
        DataError
            If a sample cannot be read, unless such are skipped.
        """
        if not self.settings.training:
            yield from merge_partial_batches(self._read(epoch, 0), self.settings.batch_size)
            return
        steps = self.steps(epoch)
        # Further passes only replace samples that were skipped: all ranks must take equally many steps.
        starts = itertools.chain([start], itertools.repeat(0))
        passes = itertools.chain.from_iterable(self._whole_batches(epoch, first) for first in starts)
        yield from itertools.islice(passes, start, steps)

    def release(self, batch: Batch) -> None:
        """Let the memory of a batch be used again: its tensors must not be read from then on."""
        if batch.memory is not None:
            self._pool.give_back(batch.memory)

    def _whole_batches(self, epoch: int, start: int) -> Iterator[Batch]:
        size = self.settings.batch_size
        none = True
        for batch in merge_partial_batches(self._read(epoch, start), size):
            if len(batch.keys) == size:
                none = False
                yield batch
        if none:
            raise DataError(f"no batch of {size} readable samples; the last one skipped: {self.skipped[-1].reason}")

    def _read(self, epoch: int, start: int) -> Iterator[Batch]:
        """Yield batches as the workers make them; the last one of each worker may be partial.

        Batches among the first `start` are undecoded if they are whole ones of a worker.
        """
        order = self._order(epoch)
        own = order[self._world.rank :: self._world.size]
        workers = max(1, min(self.settings.workers, len(own)))
        seed = f"{self.settings.seed} {epoch} {self._world.rank}"
        parts = [own[worker::workers] for worker in range(workers)]
        undecoded = [0] * workers
        if not self.settings.skip_bad_samples:
            counts = [sum(shard.samples for shard in part) for part in parts]
            undecoded = whole_batches_before(start, counts, self.settings.batch_size)
        streams = [
            read_batches(
                part, BatchBuilder(self._attributes, self.settings, self._pool), f"{seed} {worker}", undecoded[worker]
            )
            for worker, part in enumerate(parts)
        ]
        for item in in_threads(streams, AHEAD) if self.settings.workers else itertools.chain.from_iterable(streams):
            if isinstance(item, UnreadableSamples):
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

    Decoding releases Python's global lock, so threads use all cores; and unlike processes they need not copy batches.
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


def whole_batches_before(start: int, counts: Sequence[int], size: int) -> list[int]:
    """Return how many whole batches of each stream lie within the first `start` batches of all.

    It follows the order of `in_threads` and `merge_partial_batches`: streams take turns, and partial batches, the
    last of each stream, are joined.

    Parameters
    ----------
    start : int
    counts : sequence of int
        Samples per stream.
    size : int
        Samples per batch.
    """
    whole, left = [0] * len(counts), list(counts)
    done = rest = 0
    turns = deque(range(len(counts)))
    while done < start and turns:
        stream = turns.popleft()
        if left[stream] >= size:
            whole[stream] += 1
            left[stream] -= size
            turns.append(stream)
            done += 1
        else:
            done, rest = done + (rest + left[stream]) // size, (rest + left[stream]) % size
    return whole


def merge_partial_batches(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Yield batches of `size` as they come, smaller ones joined, and the remainder at the end."""
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
    packed_masks = [part.packed_masks for part in parts if part.packed_masks is not None]
    return Batch(
        torch.cat([part.images for part in parts]),
        torch.cat(packed_masks) if packed_masks else None,
        torch.cat([part.labels for part in parts]),
        [key for part in parts for key in part.keys],
    )


def _part(batch: Batch, rows: slice) -> Batch:
    packed_masks = None if batch.packed_masks is None else batch.packed_masks[rows]
    return Batch(batch.images[rows], packed_masks, batch.labels[rows], batch.keys[rows])


def read_batches(
    shards: Sequence[Shard], builder: BatchBuilder, seed: str, undecoded: int = 0
) -> Iterator[Batch | UnreadableSamples]:
    """Read, shuffle and decode shards: the work of one worker.

    Parameters
    ----------
    shards : sequence of Shard
        Shards of this worker, in order.
    builder : BatchBuilder
    seed : str
        Random seed of the order of samples; differs by epoch, rank and worker.
    undecoded : int
        Batches at the start that are not decoded: their images are undefined, their keys are right.

    Raises
    ------
    DataError
        If a sample cannot be read, unless such are skipped.
    """
    settings = builder.settings
    samples = _read_samples(shards, settings.skip_bad_samples)
    if settings.training:
        rng = random.Random(seed)  # noqa: S311 # not for secrets
        samples = wds.shuffle(settings.buffer, initial=settings.buffer, rng=rng)(samples)
    for sample in samples:
        if isinstance(sample, UnreadableSamples):
            yield sample
            continue
        try:
            builder.add(sample, decoded=undecoded == 0)
        except DataError as error:
            if not settings.skip_bad_samples:
                raise
            yield UnreadableSamples(1, str(error))
        if len(builder.keys) == settings.batch_size:
            yield builder.take()
            undecoded = max(0, undecoded - 1)
    if builder.keys:
        yield builder.take()


def _read_samples(shards: Sequence[Shard], skip_bad_samples: bool) -> Iterator[StoredSample | UnreadableSamples]:
    for shard in shards:
        read = 0
        try:
            for sample in read_shard(shard):
                read += 1
                yield sample
        except DataError as error:
            if not skip_bad_samples:
                raise
            yield UnreadableSamples(shard.samples - read, str(error))


class BufferPool:
    """Memory of batches that were released: fresh memory costs 15 us per sample. All workers share it."""

    def __init__(self) -> None:
        self._free: deque[Pixels] = deque()  # its append and pop are atomic

    def take(self, count: int) -> Pixels:
        """Return memory of `count` bytes, used before if there is any."""
        while self._free:
            try:
                memory = self._free.pop()
            except IndexError:  # another worker took it
                break
            if len(memory) == count:
                return memory
        return np.empty(count, dtype=np.uint8)

    def give_back(self, memory: Pixels) -> None:
        """Keep memory for a later batch."""
        self._free.append(memory)


class BatchBuilder:
    """Decodes samples into the memory of a batch.

    Parameters
    ----------
    attributes : tuple of str
    settings : LoaderSettings
    pool : BufferPool
    """

    def __init__(self, attributes: tuple[str, ...], settings: LoaderSettings, pool: BufferPool) -> None:
        self.settings = settings
        self._attributes, self._pool = attributes, pool
        self._memory: Pixels | None = None
        self._labels: list[list[int]] = []
        self.keys: list[str] = []

    def _start(self) -> None:
        size = self.settings.batch_size
        image, packed = (*IMAGE_SIZE, 3), packed_shape(len(self._attributes))
        if not self.settings.masks:
            packed = (0, *packed[1:])
        # One piece of memory for both: numpy asks for huge pages where it is large, torch does not.
        self._memory = self._allocate(size * (math.prod(image) + math.prod(packed)))
        self._images = self._memory[: size * math.prod(image)].reshape(size, *image)
        self._packed_masks = self._memory[size * math.prod(image) :].reshape(size, *packed)

    def _allocate(self, count: int) -> Pixels:
        if self.settings.pin_memory:  # torch keeps such memory, and knows when a copy of it is done
            return np.asarray(torch.empty(count, dtype=torch.uint8, pin_memory=True).numpy())
        return self._pool.take(count)

    def add(self, sample: StoredSample, *, decoded: bool = True) -> None:
        """Add a sample, decoded or by its key alone.

        Raises
        ------
        DataError
            If a member is missing or not as expected; the message names shard and sample.
        """
        if self._memory is None:
            self._start()
        place = len(self.keys)
        labels = [0] * len(self._attributes)
        if decoded:
            labels = decode(sample, self._attributes, self._images[place], self._packed_masks[place])
        self._labels.append(labels)
        self.keys.append(sample["__key__"])

    def take(self) -> Batch:
        """Return the batch of the samples added, and start a new one."""
        count = len(self.keys)
        batch = Batch(
            torch.from_numpy(self._images[:count]),
            torch.from_numpy(self._packed_masks[:count]) if self.settings.masks else None,
            torch.tensor(self._labels, dtype=torch.int8),
            self.keys,
            None if self.settings.pin_memory else self._memory,
        )
        self._memory, self._labels, self.keys = None, [], []
        return batch
