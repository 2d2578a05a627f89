"""Read several streams in threads, taking turns, and compute which batches come from which stream."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def in_threads(streams: Sequence[Iterator[T]], ahead: int) -> Iterator[T]:
    """Yield the items of all streams in turn; a thread per stream reads `ahead` items in advance.

    Decoding releases Python's global lock, so threads use all cores. Unlike processes, they do not copy batches.
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
    """Return how many of the first `start` batches are whole batches of each stream.

    The order is that of `in_threads` and `merge_partial_batches`: streams take turns, and the partial batches at
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
