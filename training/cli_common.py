"""What the commands of this package share: their exit codes, their messages, arguments of theirs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch

DONE, FAILED, UNUSABLE = 0, 1, 2

EPILOG = "exit codes: 0 done; 1 failed or interrupted; 2 bad arguments or unusable input"


class DataError(Exception):
    """Input or arguments that can't be used; the message is one line for the user (exit code 2)."""


class TrainingError(Exception):
    """Work that failed or was interrupted, told in one line (exit code 1)."""


def run_command(name: str, work: Callable[[], None]) -> int:
    """Do the work of a command and return its exit code; expected errors become one line on stderr."""
    try:
        work()
    except DataError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return UNUSABLE
    except (TrainingError, OSError) as error:
        print(f"{name}: failed: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return FAILED
    return DONE


def make_command_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the epilog that all commands have."""
    return argparse.ArgumentParser(prog=name, description=description, epilog=EPILOG, allow_abbrev=False)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: cuda where there is one)")


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 1")
    return value


def not_negative(text: str) -> int:
    """Parse a whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 0")
    return value


def local_path(text: str) -> str:
    """Parse the name of a file or folder to write, which can't be a URL."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text}, expected a path on this machine")
    return text


def choose_device(name: str | None, local_rank: int = 0) -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    name : str or None
        As torch names devices; without one, the GPU of this rank, or the CPU where there is no GPU.
    local_rank : int
        Of this process on its machine.

    Raises
    ------
    DataError
        If there is no such device.
    """
    if name is None:
        name = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device
