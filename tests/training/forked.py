"""Trainings in forked processes: these are born with torch, whose import takes longer than a short training."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.faults.children import Ended, run_child
from training import loop, train

FORK = multiprocessing.get_context("fork")


def train_until_signal(arguments: Sequence[str], stage: int, moment: str, number: signal.Signals) -> Ended:
    """Train in a process that gets a signal at a moment of a stage's first epoch.

    Parameters
    ----------
    arguments : sequence of str
    stage : int
    moment : str
        ``step``: after two steps; ``write``: halfway through writing the checkpoint then.
    number : signal.Signals
    """

    def work() -> int:
        _signal_at(stage, moment, number)
        return train.main(arguments)

    return run_child(work)


def _signal_at(stage: int, moment: str, number: signal.Signals) -> None:
    take_step, save = loop.Training.take_step, torch.save

    def step_with_signal(self: Any, network: Any, batch: Any, stage_of_step: int, step: int) -> Any:
        if moment == "step" and (stage_of_step, step) == (stage, 2):
            os.kill(os.getpid(), number)
        return take_step(self, network, batch, stage_of_step, step)

    def save_with_signal(state: Any, stream: Any) -> None:
        save(state, stream)
        position = state.get("position", {})
        if moment == "write" and (position.get("stage"), position.get("step")) == (stage, 2):
            stream.truncate(stream.tell() // 2)
            stream.flush()
            os.kill(os.getpid(), number)

    loop.Training.take_step, torch.save = step_with_signal, save_with_signal  # type: ignore[method-assign, assignment]


def train_on_ranks(arguments: Sequence[str], folder: Path, count: int = 2) -> str:
    """Train with several processes in the environment that torchrun gives to its own; return what they print."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    prints = [folder / f"rank{rank}.txt" for rank in range(count)]
    ranks = [FORK.Process(target=_rank, args=(arguments, rank, count, port, prints[rank])) for rank in range(count)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        process.kill()
    printed = "".join(path.read_text() for path in prints)
    assert [process.exitcode for process in ranks] == [0] * count, printed
    return printed


def _rank(arguments: Sequence[str], rank: int, count: int, port: int, prints: Path) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in {**places, **address}.items()})
    with prints.open("w") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        code = train.main(arguments)
    raise SystemExit(code)
