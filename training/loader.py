"""Shards to batches: WebDataset streams, split over ranks and workers, shuffled by seed and epoch."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import webdataset as wds
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from webdataset.tariterators import group_by_keys, tar_file_expander

from training.command import DataError
from training.contract import IMAGE_SIZE, MASK_SIZE, Dataset, Shard
from training.distributed import world_of_torchrun
from training.files import open_read

Sample = dict[str, Any]
"""A sample as it is in its shard: ``jpg``, ``masks.png`` and ``json`` as bytes, ``__key__``, ``__url__``."""


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
        Processes that decode; 0 decodes in this one.
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
    """Reads one split of a dataset, epoch by epoch.

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
        workers = min(self.settings.workers, len(order[self._world.rank :: self._world.size]))
        loader = DataLoader(
            ShardReader(order, self._attributes, self.settings, f"{self.settings.seed} {epoch} {self._world.rank}"),
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=self.settings.pin_memory,
        )
        for item in loader:
            if isinstance(item, DataError):
                raise item
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


def _as_it_is(item: Any) -> Any:
    return item


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


class ShardReader(IterableDataset):  # type: ignore[type-arg] # torch 2.13 has it generic only for type checkers
    """The part of a loader that runs in each worker: reads, shuffles, decodes, makes batches.

    Parameters
    ----------
    shards : list of Shard
        Of all ranks and workers, in order.
    attributes : tuple of str
    settings : LoaderSettings
    seed : str
        Of the order of samples; differs by epoch and rank.
    """

    def __init__(self, shards: list[Shard], attributes: tuple[str, ...], settings: LoaderSettings, seed: str) -> None:
        self._shards = {shard.url: shard for shard in shards}
        self._attributes = attributes
        self._settings = settings
        self._seed = seed

    def __iter__(self) -> Iterator[Batch | Skipped | DataError]:
        """Yield batches, what was skipped, and at last the error that ended the work, if one did."""
        worker = get_worker_info()
        if worker is not None:
            cv2.setNumThreads(0)
        stages = [wds.SimpleShardList(list(self._shards)), wds.split_by_node, wds.split_by_worker, self._read]
        if self._settings.training:
            rng = random.Random(f"{self._seed} {worker.id if worker else 0}")  # noqa: S311 # not for secrets
            stages.append(wds.shuffle(self._settings.buffer, initial=self._settings.buffer, rng=rng))
        try:
            yield from self._batches(iter(wds.DataPipeline(*stages)))
        except DataError as error:
            yield error

    def _read(self, sources: Iterable[dict[str, str]]) -> Iterator[Sample | Skipped]:
        for source in sources:
            shard = self._shards[source["url"]]
            read = 0
            try:
                for sample in read_shard(shard):
                    read += 1
                    yield sample
            except DataError as error:
                if not self._settings.skip_bad_samples:
                    raise
                yield Skipped(shard.samples - read, str(error))

    def _batches(self, samples: Iterator[Sample | Skipped]) -> Iterator[Batch | Skipped]:
        decoded: list[tuple[Any, ...]] = []
        for sample in samples:
            if isinstance(sample, Skipped):
                yield sample
                continue
            try:
                decoded.append(decode(sample, self._attributes, masks=self._settings.masks))
            except DataError as error:
                if not self._settings.skip_bad_samples:
                    raise
                yield Skipped(1, str(error))
            if len(decoded) == self._settings.batch_size:
                yield _collate(decoded)
                decoded = []
        if decoded:
            yield _collate(decoded)


def read_shard(shard: Shard) -> Iterator[Sample]:
    """Yield the samples of a shard, undecoded.

    Raises
    ------
    DataError
        If it can't be read to its end, or has another number of samples than dataset.json says.
    """
    count, last = 0, "the start"
    with open_read(shard.url) as stream:
        source = {"url": shard.url, "stream": stream}
        try:
            for sample in group_by_keys(tar_file_expander(iter([source]))):
                count, last = count + 1, f"sample {sample['__key__']!r}"
                yield sample
        except Exception as error:  # of tarfile, or of an object store's client
            what = str(error.args[0]) if error.args else type(error).__name__
            raise DataError(f"{shard.url}: can't be read on after {last}: {what}") from None
    if count != shard.samples:
        raise DataError(f"{shard.url}: {count} samples, dataset.json says {shard.samples} (the last is {last})")


def decode(
    sample: Sample, attributes: tuple[str, ...], *, masks: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None, list[int], str]:
    """Decode a sample.

    Returns
    -------
    image : ndarray (218, 178, 3) uint8
        RGB.
    planes : ndarray (ceil(attributes / 8), 96, 76) uint8 or None
        None without `masks`.
    labels : list of int
        0 or 1.
    key : str

    Raises
    ------
    DataError
        If a member is missing or not as expected; the message names shard and sample.
    """
    try:
        image = _decode_picture(sample["jpg"], cv2.IMREAD_COLOR_RGB, (*IMAGE_SIZE, 3), "jpg")
        planes = None
        if masks:
            count = -(-len(attributes) // 8)
            stacked = (count * MASK_SIZE[0], MASK_SIZE[1])
            planes = _decode_picture(sample["masks.png"], cv2.IMREAD_UNCHANGED, stacked, "masks.png")
            planes = planes.reshape(count, *MASK_SIZE)
        labels = json.loads(sample["json"])["labels"]
        if tuple(labels) != attributes:
            raise ValueError("labels are not those of dataset.json")
        if not set(labels.values()) <= {0, 1}:
            raise ValueError("labels are not 0 or 1")
    except KeyError as error:
        raise DataError(f"{sample['__url__']}: sample {sample['__key__']!r}: no {error.args[0]}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{sample['__url__']}: sample {sample['__key__']!r}: {error}") from None
    return image, planes, list(labels.values()), sample["__key__"]


def _decode_picture(content: bytes, flags: int, shape: tuple[int, ...], name: str) -> npt.NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags) if content else None
    if pixels is None:
        raise ValueError(f"{name} can't be decoded")
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ValueError(f"{name} of shape {pixels.shape} {pixels.dtype}, expected {shape} uint8")
    return np.asarray(pixels, dtype=np.uint8)


def _collate(decoded: list[tuple[Any, ...]]) -> Batch:
    images, planes, labels, keys = zip(*decoded, strict=True)
    return Batch(
        torch.from_numpy(np.stack(images)),
        None if planes[0] is None else torch.from_numpy(np.stack(planes)),
        torch.tensor(labels, dtype=torch.uint8),
        list(keys),
    )
