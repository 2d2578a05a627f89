"""The progress bar of a run.

Where threads of the launching process build the shards, each image moves the bar. Elsewhere (other
processes, Dataflow) workers have no bar, and the launcher watches for the manifests of finished shards.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import NoReturn

from tqdm import tqdm

from pipeline import storage
from pipeline.formats import manifest
from pipeline.formats.run_folder import RunFolder

SECONDS_BETWEEN_LOOKS = 5.0


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


def image_done(*, written: bool) -> None:
    """Move the bar of this process by one image, if it has one."""
    for bar in _bars_of_this_process:
        bar.move(1, int(not written))


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
        else:
            with _watching(bar, dict(images_of_shard), output):
                yield
    finally:
        _bars_of_this_process.clear()
        bar.close()


@contextlib.contextmanager
def _watching(bar: ProgressBar, pending: dict[str, int], output: str) -> Iterator[None]:
    """Move the bar by each shard whose manifest appears while the block runs."""
    done = threading.Event()

    def watch() -> None:
        last = False
        while pending and not last:
            last = done.wait(SECONDS_BETWEEN_LOOKS)
            for name in [n for n in pending if storage.exists(RunFolder(output).manifest(n))]:
                summary = manifest.read_summary(output, name)
                bar.move(pending.pop(name), summary.rejected if summary else 0)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
