"""Batches of samples: their memory, how they are filled, and how partial ones are merged."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from training.dataset_json import IMAGE_SIZE
from training.shard_reader import Pixels, StoredSample, decode, packed_shape


class Batch(NamedTuple):
    """Samples as they are copied to the device: 153 kB each with 40 attributes.

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
        Memory of `images` and `packed_masks`, if it can be reused; see `Loader.release`.
    """

    images: torch.Tensor
    packed_masks: torch.Tensor | None
    labels: torch.Tensor
    keys: list[str]
    memory: Pixels | None = None


class BufferPool:
    """Memory of released batches, shared by all workers. Allocating new memory takes 15 us per sample."""

    def __init__(self) -> None:
        self._free: deque[Pixels] = deque()  # its append and pop are atomic

    def take(self, count: int) -> Pixels:
        """Return memory of `count` bytes, reused if possible."""
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
    size : int
        Samples per batch.
    pool : BufferPool
    masks : bool
        Whether to decode the masks.
    pin_memory : bool
        Use page-locked memory instead of the pool.
    """

    def __init__(
        self, attributes: tuple[str, ...], size: int, pool: BufferPool, *, masks: bool = True, pin_memory: bool = False
    ) -> None:
        self._attributes, self._size, self._pool = attributes, size, pool
        self._masks, self._pin_memory = masks, pin_memory
        self._memory: Pixels | None = None
        self._labels: list[list[int]] = []
        self.keys: list[str] = []

    def _start(self) -> None:
        size = self._size
        image, packed = (*IMAGE_SIZE, 3), packed_shape(len(self._attributes))
        if not self._masks:
            packed = (0, *packed[1:])
        # One array for both: numpy requests huge pages for large arrays, torch does not.
        self._memory = self._allocate(size * (math.prod(image) + math.prod(packed)))
        self._images = self._memory[: size * math.prod(image)].reshape(size, *image)
        self._packed_masks = self._memory[size * math.prod(image) :].reshape(size, *packed)

    def _allocate(self, count: int) -> Pixels:
        if self._pin_memory:  # torch reuses such memory once its copies have finished
            return np.asarray(torch.empty(count, dtype=torch.uint8, pin_memory=True).numpy())
        return self._pool.take(count)

    def add(self, sample: StoredSample, *, decoded: bool = True) -> None:
        """Add a sample; if it is not decoded, only its key is defined.

        Raises
        ------
        DataError
            If a member is missing or invalid; the message names shard and sample.
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
        """Return the batch of all added samples, and start a new one."""
        count = len(self.keys)
        batch = Batch(
            torch.from_numpy(self._images[:count]),
            torch.from_numpy(self._packed_masks[:count]) if self._masks else None,
            torch.from_numpy(np.array(self._labels, dtype=np.int8)),
            self.keys,
            None if self._pin_memory else self._memory,
        )
        self._memory, self._labels, self.keys = None, [], []
        return batch


def merge_partial_batches(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Yield batches of `size` in order; merge smaller ones, and yield the remainder at the end."""
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
        _concatenate([part.images for part in parts]),
        _concatenate(packed_masks) if packed_masks else None,
        _concatenate([part.labels for part in parts]),
        [key for part in parts for key in part.keys],
    )


def _concatenate(parts: list[torch.Tensor]) -> torch.Tensor:
    """Concatenate in this thread alone: torch's own threads would wait for each other while workers decode."""
    return torch.from_numpy(np.concatenate([part.numpy() for part in parts]))


def _part(batch: Batch, rows: slice) -> Batch:
    packed_masks = None if batch.packed_masks is None else batch.packed_masks[rows]
    return Batch(batch.images[rows], packed_masks, batch.labels[rows], batch.keys[rows])
