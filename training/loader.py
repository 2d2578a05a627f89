"""Load batches from shards: samples are split among ranks and streams, and shuffled by seed and epoch."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import webdataset as wds

from training.batches import Batch, BatchBuilder, BufferPool, merge_partial_batches
from training.cli_common import DataError
from training.dataset_json import Dataset, Shard
from training.distributed import SINGLE_PROCESS, World
from training.shard_reader import StoredSample, read_shard
from training.threads import take_turns, whole_batches_before

STREAMS = 16
"""Largest number of streams of samples per rank, each with its own shards and shuffle buffer; a batch of each is
prepared in advance. A constant, so that the order of samples does not depend on the machine's cores."""


@dataclass(frozen=True)
class UnreadableSamples:
    """Samples that were skipped because they could not be read.

    Attributes
    ----------
    samples : int
    reason : str
        Names the shard, the sample and the error.
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
        Threads that read and decode; 0 reads in the calling thread. The samples and their order do not depend on it.
    training : bool
        Shuffle, and yield equally many whole batches on each rank; otherwise yield each sample once, unshuffled.
    masks : bool
        Whether masks are read.
    seed : int
        Random seed for shuffling.
    buffer : int
        Number of samples among which a stream is shuffled, about 15 kB each.
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
    buffer: int = 1000
    skip_bad_samples: bool = False
    pin_memory: bool = False


class Loader:
    """Reads one split of a dataset, epoch by epoch. Shards are split among ranks, and then among their streams.

    Parameters
    ----------
    dataset : Dataset
    settings : LoaderSettings
    world : World
        Rank of this process.

    Raises
    ------
    DataError
        If the split has no samples or, in training, a rank would have no whole batch.
    """

    def __init__(self, dataset: Dataset, settings: LoaderSettings, world: World = SINGLE_PROCESS) -> None:
        self.settings = settings
        self.skipped: list[UnreadableSamples] = []
        """Samples that could not be read so far."""
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
        """Return the number of samples in the split, over all ranks."""
        return sum(shard.samples for shard in self._shards)

    def steps(self, epoch: int) -> int:
        """Return the number of training batches in an epoch, the same for every rank.

        The rank with the fewest samples determines it; each epoch assigns shards to ranks anew.
        """
        order = self._order(epoch)
        size = self._world.size
        fewest = min(sum(shard.samples for shard in order[rank::size]) for rank in range(size))
        return fewest // self.settings.batch_size

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch: `steps(epoch)` in training, otherwise all samples.

        Parameters
        ----------
        epoch : int
        start : int
            Number of batches to skip in training. Their samples are read, but decoded only if bad samples are
            skipped, which only decoding finds.

        Raises
        ------
        DataError
            If a sample cannot be read and bad samples are not skipped.
        """
        if not self.settings.training:
            yield from merge_partial_batches(self._read(epoch, 0), self.settings.batch_size)
            return
        steps = self.steps(epoch)
        # Further passes only replace skipped samples: all ranks must take equally many steps.
        starts = itertools.chain([start], itertools.repeat(0))
        passes = itertools.chain.from_iterable(self._whole_batches(epoch, first) for first in starts)
        yield from itertools.islice(passes, start, steps)

    def release(self, batch: Batch) -> None:
        """Allow the memory of a batch to be reused: its tensors must not be read afterwards."""
        if batch.memory is not None:
            self._pool.give_back(batch.memory)

    def _whole_batches(self, epoch: int, start: int) -> Iterator[Batch]:
        size = self.settings.batch_size
        found = False
        for batch in merge_partial_batches(self._read(epoch, start), size):
            if len(batch.keys) == size:
                found = True
                yield batch
        if not found:
            raise DataError(f"no batch of {size} readable samples; the last one skipped: {self.skipped[-1].reason}")

    def _read(self, epoch: int, start: int) -> Iterator[Batch]:
        """Yield the batches of all streams in turn; the last one of each stream may be partial.

        Of the first `start` batches, those that are whole batches of a stream are undecoded.
        """
        order = self._order(epoch)
        own = order[self._world.rank :: self._world.size]
        count = max(1, min(STREAMS, len(own)))
        seed = f"{self.settings.seed} {epoch} {self._world.rank}"
        parts = [own[number::count] for number in range(count)]
        undecoded = [0] * count
        if not self.settings.skip_bad_samples:
            counts = [sum(shard.samples for shard in part) for part in parts]
            undecoded = whole_batches_before(start, counts, self.settings.batch_size)
        streams = [
            read_batches(part, self._new_builder(), self.settings, f"{seed} {number}", undecoded[number])
            for number, part in enumerate(parts)
        ]
        for item in take_turns(streams, min(self.settings.workers, count)):
            if isinstance(item, UnreadableSamples):
                self.skipped.append(item)
            else:
                yield item

    def _new_builder(self) -> BatchBuilder:
        settings = self.settings
        return BatchBuilder(
            self._attributes, settings.batch_size, self._pool, masks=settings.masks, pin_memory=settings.pin_memory
        )

    def _order(self, epoch: int) -> list[Shard]:
        """Return the shards in an epoch's order, the same on all ranks."""
        order = list(self._shards)
        if self.settings.training:
            random.Random(f"{self.settings.seed} {epoch}").shuffle(order)  # noqa: S311 # not for secrets
        return order


def read_batches(
    shards: Sequence[Shard], builder: BatchBuilder, settings: LoaderSettings, seed: str, undecoded: int = 0
) -> Iterator[Batch | UnreadableSamples]:
    """Read, shuffle and decode shards: one stream.

    Parameters
    ----------
    shards : sequence of Shard
        Shards of this stream, in order.
    builder : BatchBuilder
    settings : LoaderSettings
    seed : str
        Random seed for shuffling; differs by epoch, rank and stream.
    undecoded : int
        Number of batches at the start that are not decoded: their keys are defined, their images are not.

    Raises
    ------
    DataError
        If a sample cannot be read and bad samples are not skipped.
    """
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
            yield UnreadableSamples(max(0, shard.samples - read), str(error))
