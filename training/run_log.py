"""The log of a training: metrics per epoch, loss curves, progress messages, and decisions based on metrics."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from regions.messages import counted
from training.loader import UnreadableSamples
from training.plots import draw_curves
from training.storage import write_text

EpochRecord = dict[str, Any]
"""Metrics of an epoch: ``epoch``, ``stage``, ``train_loss``, ``val_loss`` ..."""


class RunLog:
    """Writes ``metrics.jsonl`` and ``curves.png`` and prints messages, on the first rank only.

    Parameters
    ----------
    folder : str
    first_rank : bool
    """

    def __init__(self, folder: str, *, first_rank: bool) -> None:
        self.history: list[EpochRecord] = []
        self._folder, self._first_rank = folder, first_rank

    def print(self, message: str) -> None:
        """Print a line."""
        if self._first_rank:
            print(message)

    def print_unreadable(self, entries: Iterable[UnreadableSamples]) -> None:
        """Print on stderr which samples this rank skipped."""
        for entry in entries:
            tqdm.write(f"skipped {counted(entry.samples, 'sample')}: {entry.reason}", file=sys.stderr)

    def progress_bar(self, title: str, total: int, done: int) -> tqdm[Any]:
        """Return a bar that counts the images of an epoch."""
        return tqdm(total=total, initial=done, desc=title, unit=" images", disable=not self._first_rank)

    def write_metrics(self) -> None:
        """Write the metrics of all finished epochs to ``metrics.jsonl``."""
        if self._first_rank:
            lines = "".join(json.dumps(record) + "\n" for record in self.history)
            write_text(os.path.join(self._folder, "metrics.jsonl"), lines)

    def write_curves(self) -> None:
        """Draw ``curves.png``."""
        if self._first_rank:
            draw_curves(self.history, os.path.join(self._folder, "curves.png"))


def losses_diverge(history: Sequence[EpochRecord], stage: int, patience: int) -> bool:
    """Return whether validation loss has not fallen for `patience` epochs of a stage while training loss has."""
    own = [record for record in history if record["stage"] == stage]
    if not patience or not own:
        return False
    best = best_epoch(own, "val_loss")
    return len(own) - 1 - best >= patience and bool(own[-1]["train_loss"] < own[best]["train_loss"])


def best_epoch(records: Sequence[EpochRecord], measure: str) -> int:
    """Return the index of the first epoch in which a measure is lowest; NaN is never lower than a number."""
    return min(range(len(records)), key=lambda index: _comparable(records[index][measure]))


def last_is_best(history: Sequence[EpochRecord]) -> bool:
    """Return whether the last epoch of stage 2 has the lowest validation BCE; always true without validation."""
    own = [record for record in history if record["stage"] == 2]
    if "val_bce" not in own[-1]:
        return True
    return _comparable(own[-1]["val_bce"]) <= min(_comparable(record["val_bce"]) for record in own)


def _comparable(value: float) -> float:
    return math.inf if math.isnan(value) else value
