"""The progress bar of a run.

Where threads of the launching process or its forks build the shards, each image moves the bar: forks
count their images in memory that they share with it. Elsewhere (other processes, Dataflow) workers
have no bar, and the launcher watches for the manifests of finished shards.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pipeline import storage
from pipeline.formats import manifest
from pipeline.formats.run_folder import RunFolder

SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_BETWEEN_COUNTS = 0.2

Counts: TypeAlias = npt.NDArray[np.int64]
"""``(2,)``: how many images a forked worker has done, and how many of them it has rejected."""


class ProgressBar:
    """A bar over images that also shows how many were rejected; many threads may move it.

    Parameters
    ----------
    total : int
        Number of images.
    """

    def __init__(self, total: int) -> None:
        self._bar: tqdm[NoReturn] = tqdm(
            total=total, unit=" images", desc="attparse", smoothing=0.05, file=sys.stderr, disable=not total
        )
        self._rejected = 0
        self._lock = threading.Lock()

    def move(self, images: int, rejected: int) -> None:
        """Count more images, and how many of them were rejected."""
        with self._lock:
            self._rejected += rejected
            self._bar.set_postfix(rejected=self._rejected, refresh=False)
            self._bar.update(images)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


_bars_of_this_process: list[ProgressBar] = []
_counts_of_this_process: list[Counts] = []
_counts_of_forks: list[Counts] = []


def shared_counts() -> Counts:
    """Return counts that this process shares with those that are forked from it later."""
    counts = np.frombuffer(mmap.mmap(-1, 2 * np.dtype(np.int64).itemsize), dtype=np.int64)
    _counts_of_forks.append(counts)
    return counts


def count_in(counts: Counts) -> None:
    """Count the images of this process, a fork, where its launcher sees them."""
    _counts_of_this_process.append(counts)


def image_done(*, written: bool) -> None:
    """Move the bar of this process or of its launcher by one image, if there is one."""
    for bar in _bars_of_this_process:
        bar.move(1, int(not written))
    for counts in _counts_of_this_process:
        np.add(counts, (1, not written), out=counts)


@contextlib.contextmanager
def show(images_of_shard: Mapping[str, int], output: str, *, in_process: bool) -> Iterator[None]:
    """Show a bar over the images of the shards that are built within the block.

    Parameters
    ----------
    images_of_shard : mapping of str to int
        Shards to build.
    output : str
        Folder of the run.
    in_process : bool
        Whether the shards are built by threads of this process.
    """
    bar = ProgressBar(sum(images_of_shard.values()))
    try:
        if in_process:
            _bars_of_this_process.append(bar)
            yield
        elif _counts_of_forks:
            with _following(bar, list(_counts_of_forks)):
                yield
        else:
            with _watching(bar, dict(images_of_shard), output):
                yield
    finally:
        _bars_of_this_process.clear()
        _counts_of_forks.clear()
        bar.close()


def _following(bar: ProgressBar, counts_of_forks: list[Counts]) -> AbstractContextManager[None]:
    """Move the bar by the images that forked workers count while the block runs."""
    seen = np.zeros(2, dtype=np.int64)

    def follow() -> None:
        found = np.sum(counts_of_forks, axis=0)
        if (found > seen).any():
            bar.move(*(found - seen).tolist())
        seen[:] = found

    return _repeated(follow, SECONDS_BETWEEN_COUNTS)


def _watching(bar: ProgressBar, pending: dict[str, int], output: str) -> AbstractContextManager[None]:
    """Move the bar by each shard whose manifest appears while the block runs."""

    def watch() -> None:
        for name in [n for n in pending if storage.exists(RunFolder(output).manifest(n))]:
            summary = manifest.read_summary(output, name)
            bar.move(pending.pop(name), summary.rejected if summary else 0)

    return _repeated(watch, SECONDS_BETWEEN_LOOKS)


@contextlib.contextmanager
def _repeated(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call a function every so many seconds while the block runs, and once at its end."""
    done = threading.Event()

    def look_until_done() -> None:
        last = False
        while not last:
            last = done.wait(seconds)
            look()

    looker = threading.Thread(target=look_until_done, daemon=True)
    looker.start()
    try:
        yield
    finally:
        done.set()
        looker.join()
