"""Read several streams in threads, taking turns, and compute which batches come from which stream."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def take_turns(streams: Sequence[Iterator[T]], threads: int) -> Iterator[T]:
    """Yield the items of all streams in turn, in the same order whatever the number of threads.

    Decoding releases Python's global lock, so threads use all cores. Unlike processes, they do not copy batches.

    Parameters
    ----------
    streams : sequence of iterator
    threads : int
        Threads that read one item of each stream in advance; 0 reads in the calling thread.
    """
    end = object()
    if not threads:
        turns = deque(streams)
        while turns:
            stream = turns.popleft()
            item: Any = next(stream, end)
            if item is not end:
                turns.append(stream)
                yield item
        return
    with contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(threads)
        stack.callback(pool.shutdown, cancel_futures=True)
        waiting: deque[tuple[Iterator[T], Future[Any]]]
        waiting = deque((stream, pool.submit(next, stream, end)) for stream in streams)
        while waiting:
            stream, future = waiting.popleft()
            item = future.result()
            if item is not end:
                waiting.append((stream, pool.submit(next, stream, end)))
                yield item


def whole_batches_before(start: int, counts: Sequence[int], size: int) -> list[int]:
    """Return how many of the first `start` batches are whole batches of each stream.

    The order is that of `take_turns` and `merge_partial_batches`: streams take turns, and the partial batches at
    their ends are merged.

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
