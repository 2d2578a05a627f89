"""How costs are measured: CPU time in this process; wall time, CPU time and peak memory of commands."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent
SECONDS_BETWEEN_LOOKS = 0.5
STDERR = 2


def cpu_seconds(work: Callable[..., object], *arguments: object) -> float:
    """Return the CPU time that a call takes, all threads of this process included."""
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


class Cost(NamedTuple):
    """What a command cost.

    Attributes
    ----------
    wall, cpu : float
        Seconds; CPU time of its child processes included.
    peak_mb : float
        Most memory that the command and its child processes took together, in megabytes. Memory that processes share
        counts in each of them.
    """

    wall: float
    cpu: float
    peak_mb: float


class MeasurementError(Exception):
    """A command that is measured failed, or left something else than it should."""


def command_cost(
    arguments: Sequence[str],
    *,
    quiet: bool = True,
    allowed: Sequence[int] = (0,),
    watch: Callable[[subprocess.Popen[bytes]], object] | None = None,
) -> Cost:
    """Run a Python module in a process of its own and return what it cost.

    Parameters
    ----------
    arguments : sequence of str
        What follows ``python -m``.
    quiet : bool
        Whether its output is dropped; else it goes to stderr.
    allowed : sequence of int
        Exit codes that are no failure.
    watch : callable, optional
        Called with the process once it has started, before it is waited for.

    Raises
    ------
    MeasurementError
        If the command fails.
    """
    sink = subprocess.DEVNULL if quiet else STDERR
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=sink, stderr=sink, cwd=ROOT, start_new_session=watch is not None
    )
    try:
        with _memory_watched(process.pid) as peaks:
            if watch is not None:
                watch(process)
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
    except BaseException:
        process.terminate()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in allowed:
        raise MeasurementError(f"python -m {' '.join(arguments)} ended with exit code {process.returncode}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, peaks[0] / 1e6)


@contextlib.contextmanager
def _memory_watched(pid: int) -> Iterator[list[int]]:
    """Provide a list with the largest memory yet of a process and its children, in bytes, looked at now and then.

    What the system records as a process's peak may be that of the process that started it.
    """
    ended = threading.Event()
    peaks = [0]

    def look() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            peaks[0] = max(peaks[0], _memory(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def _memory(pid: int) -> int:
    """Return the memory of a process and of all its children, in bytes."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += member.memory_info().rss
    return total


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep off stderr what C++ code prints there, which no option disables."""
    sys.stderr.flush()
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def announce(message: str) -> None:
    """Print what is being measured to stderr: the table alone goes to stdout."""
    print(message, file=sys.stderr, flush=True)
