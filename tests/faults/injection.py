"""Faults that a forked child injects into itself: it ends itself, or a file fails to open, to be read or written."""

from __future__ import annotations

import builtins
import io
import mmap
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any, Literal

WRITING_FLAGS = os.O_WRONLY | os.O_RDWR
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")


class Count:
    """A number that a child counts up and its parent reads."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    @property
    def value(self) -> int:
        """The count so far."""
        return int.from_bytes(self._memory[:8], "little")

    def up(self) -> int:
        """Count one more, and return the count."""
        value = self.value + 1
        self._memory[:8] = value.to_bytes(8, "little")
        return value


def end_at_change(folder: str, number: int, count: Count, *, kind: signal.Signals = signal.SIGKILL) -> None:
    """End this process just before its n-th change of the files below a folder; with 0, only count the changes.

    A change is a file opened for writing, renamed or deleted, or a folder made or deleted.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        is_change = event in CHANGES or (event == "open" and _is_writing(*arguments[1:3]))
        if not is_change or not isinstance(arguments[0], str):
            return
        if os.path.abspath(arguments[0]).startswith(folder) and count.up() == number:
            os.kill(os.getpid(), kind)

    sys.addaudithook(hook)


def _is_writing(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & WRITING_FLAGS)


@dataclass(frozen=True)
class FileFault:
    """An error of the operating system at some files.

    Attributes
    ----------
    part : str
        What the path of a file must contain.
    operation : str
        ``open`` (for reading), ``read`` or ``write``.
    error : int
        Such as `errno.EIO`.
    skipped : int
        How many operations go well first.
    times : int
        How many fail.
    """

    part: str
    operation: Literal["open", "read", "write"]
    error: int
    skipped: int = 0
    times: int = 1

    def strikes(self, count: Count) -> bool:
        """Count an operation, and return whether it fails."""
        return self.skipped < count.up() <= self.skipped + self.times


FOR_GOOD = 1 << 40
"""So many times that the error never passes."""


def fail_files(fault: FileFault, count: Count) -> None:
    """Let the files of a fault fail in this process from now on."""
    true_open = builtins.open

    def faulty_open(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any) -> Any:
        path = _path_of(file)
        writes = any(letter in mode for letter in "wax+")
        if fault.part not in path or writes != (fault.operation == "write"):
            return true_open(file, mode, buffering, *more, **options)
        if fault.operation == "open" and fault.strikes(count):
            raise OSError(fault.error, os.strerror(fault.error), path)
        if fault.operation == "open":
            return true_open(file, mode, buffering, *more, **options)
        plain = mode.replace("b", "").replace("t", "")
        raw = _FaultyFile(file, plain, options.get("closefd", True), options.get("opener"))
        raw.fault, raw.count = fault, count
        buffered: Any = raw
        if buffering != 0:
            kind = io.BufferedRandom if "+" in mode else io.BufferedWriter if writes else io.BufferedReader
            buffered = kind(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, **{key: options[key] for key in ("encoding", "newline") if key in options})

    builtins.open = faulty_open
    io.open = faulty_open


def _path_of(file: Any) -> str:
    if isinstance(file, int):
        try:
            return os.readlink(f"/proc/self/fd/{file}")
        except OSError:
            return ""
    return os.path.abspath(os.fsdecode(file))


class _FaultyFile(io.FileIO):
    fault: FileFault
    count: Count

    def _strike(self) -> None:
        if self.fault.strikes(self.count):
            raise OSError(self.fault.error, os.strerror(self.fault.error))

    def readinto(self, buffer: Any) -> int | None:
        self._strike()
        return super().readinto(buffer)

    def read(self, size: int | None = -1) -> Any:
        self._strike()
        return super().read(-1 if size is None else size)

    def readall(self) -> Any:
        self._strike()
        return super().readall()

    def write(self, data: Any) -> Any:
        self._strike()
        return super().write(data)
