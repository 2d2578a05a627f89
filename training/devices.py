"""Choose the device, its number format and the padding of channels."""

from __future__ import annotations

import os

import torch

from training.cli_common import DataError


def choose_device(name: str | None, local_rank: int = 0) -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    name : str or None
        Name of a torch device. None selects the GPU of this rank, or the CPU if there is no GPU.
    local_rank : int
        Rank of this process on its machine.

    Raises
    ------
    DataError
        If there is no such device.
    """
    if name is None:
        name = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def choose_precision(name: str | None, device: torch.device) -> torch.dtype:
    """Return the number format of the convolutions.

    Raises
    ------
    DataError
        If bf16 is requested on a GPU without it.
    """
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "bf16" and device.type == "cuda" and not has_bf16:
        raise DataError(f"--precision bf16: {torch.cuda.get_device_name(device)} has no bf16")
    return torch.bfloat16 if name == "bf16" or (name is None and has_bf16) else torch.float32


def choose_padding(multiple: int | None, device: torch.device, dtype: torch.dtype) -> int:
    """Return the number to a multiple of which channels are rounded up."""
    return multiple or (8 if device.type == "cuda" and dtype == torch.bfloat16 else 1)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
