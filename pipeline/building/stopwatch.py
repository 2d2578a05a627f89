"""How long each stage of a run takes, added up over its images."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator

STAGES = ("read", "decode", "detect", "regions", "masks", "refine", "encode", "write")


class Stopwatch:
    """Adds up the time spent in each stage.

    Attributes
    ----------
    seconds : dict of str to float
        By stage, one of `STAGES`.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start
