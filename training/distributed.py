"""The ranks of a training job that torchrun starts; a process started without it is the only rank."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed

from training.cli_common import FAILED


@dataclass(frozen=True)
class World:
    """The position of this process among the processes of a job.

    Attributes
    ----------
    rank, size : int
        In the whole job.
    local_rank, local_size : int
        On this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


SINGLE_PROCESS = World()


def world_of_torchrun() -> World:
    """Return the rank and sizes that torchrun sets in the environment."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return World(*(int(os.environ.get(name, default)) for name, default in zip(names, "0101", strict=True)))


@contextlib.contextmanager
def process_group(world: World, device: torch.device) -> Iterator[None]:
    """Join the other ranks while the block runs."""
    if world.size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def on_first_rank(world: World, work: Callable[[], None]) -> None:
    """Work on the first rank while the others wait; if it fails there, the others end, too, without a message."""
    error: Exception | None = None
    if world.rank == 0:
        try:
            work()
        except Exception as raised:  # raised again below
            error = raised
    if any_rank(error is not None):
        raise error or SystemExit(FAILED)


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all ranks, on each of them."""
    total = values.clone()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return total


def share_buffers(model: torch.nn.Module) -> None:
    """Copy the first rank's buffers (BatchNorm statistics), which checkpoints hold, to all ranks."""
    if torch.distributed.is_initialized():
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


def ranks_differ(numbers: Sequence[int]) -> bool:
    """Return whether numbers, as many on each rank, are not the same on all ranks."""
    if not torch.distributed.is_initialized():
        return False
    own = torch.tensor(numbers)
    return any_rank(not torch.equal(sum_over_ranks(own), own * torch.distributed.get_world_size()))


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set on any rank. Uses the CPU, so that no GPU has to synchronize."""
    return bool(sum_over_ranks(torch.tensor(int(flag)))) if torch.distributed.is_initialized() else flag
