"""The workers of a local run: where one dies, the run ends in one line; where the run ends early, they end with it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from typing import TypeVar

from pipeline.errors import WorkerLostError

T = TypeVar("T")

MARK = "ATTPARSE_RUN"
"""Environment variable by which a run knows the processes that it started."""
WORKER_THREAD = "run_worker"
"""Beam's name of a thread that starts a worker process and waits for it; nothing else in Beam looks at its errors."""
WORKER_EXIT = re.compile(r"Worker subprocess exited with return code (?P<code>-?\d+)")
"""What Beam raises in such a thread."""
WORKER_COMMAND = f"exec {shlex.quote(sys.executable)} -m pipeline.building.worker_process"
"""How Beam starts a worker process: through a shell, which the worker replaces."""
forked_processes: set[int] = set()
"""Worker processes that are forks of this process, and so do not carry the mark."""
SECONDS_TO_DIE = 5.0
SECONDS_TO_EXPLAIN = 2.0
"""How long after a failure of Beam the death of a worker, its cause, may be noticed."""


def run_apart(run: Callable[[], T], *, in_processes: bool) -> T:
    """Run Beam in a thread of its own, and return what it returns.

    So the main thread is free to end the run: Beam itself waits without end for a worker that died,
    and after an interrupt for the workers to finish what they build. They are killed instead.

    Parameters
    ----------
    run : callable
    in_processes : bool
        Whether the workers are processes on this machine.

    Raises
    ------
    WorkerLostError
        If a worker process died. As after a KeyboardInterrupt, threads may be left that never end.
    Exception
        What `run` raises.
    """
    outcome: Future[T] = Future()
    lost: Future[WorkerLostError] = Future()
    mark = uuid.uuid4().hex
    former_hook = threading.excepthook
    threading.excepthook = _hook(former_hook, outcome, lost)
    os.environ[MARK] = mark
    try:
        threading.Thread(target=_run_into, args=(run, outcome), name="beam", daemon=True).start()
        result = outcome.result()
    except (KeyboardInterrupt, WorkerLostError):  # the hook stays: threads that wait for the killed workers fail now
        kill_processes(mark)
        raise
    except Exception:
        if in_processes:
            with contextlib.suppress(TimeoutError):
                raise lost.result(SECONDS_TO_EXPLAIN) from None
        threading.excepthook = former_hook
        raise
    finally:
        del os.environ[MARK]
    threading.excepthook = former_hook
    return result


def _run_into(run: Callable[[], T], outcome: Future[T]) -> None:
    try:
        result = run()
    except BaseException as error:
        with contextlib.suppress(InvalidStateError):
            outcome.set_exception(error)
    else:
        with contextlib.suppress(InvalidStateError):
            outcome.set_result(result)


def _hook(
    former: Callable[[threading.ExceptHookArgs], object], outcome: Future[T], lost: Future[WorkerLostError]
) -> Callable[[threading.ExceptHookArgs], object]:
    """Return a hook for uncaught errors of threads that ends the run where a worker process died."""

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.thread is None or args.thread.name != WORKER_THREAD:
            former(args)
            return
        found = WORKER_EXIT.search(str(args.exc_value))
        problem = (
            death_of_worker(int(found["code"])) if found else f"a worker process failed to start: {args.exc_value}"
        )
        error = WorkerLostError(problem)
        with contextlib.suppress(InvalidStateError):
            lost.set_result(error)
        with contextlib.suppress(InvalidStateError):
            outcome.set_exception(error)

    return hook


def death_of_worker(code: int) -> str:
    """Return what happened to a worker process, judging by its exit code, and what to do.

    >>> death_of_worker(-11)
    'a worker process died of SIGSEGV; run the same command again to resume'
    """
    if code >= 0:
        return f"a worker process ended with exit code {code}; run the same command again to resume"
    if -code == signal.SIGKILL:
        return (
            "a worker process was killed, as the system does where memory runs out; run the same command again to"
            " resume, with a smaller --direct_num_workers if memory is short"
        )
    return f"a worker process died of {signal.Signals(-code).name}; run the same command again to resume"


def kill_processes(mark: str) -> None:
    """Kill the processes of a run, and wait until they are gone.

    They are found in /proc. Where there is none (macOS), they end by themselves a few seconds after
    this process, when Beam's connection is closed.
    """
    for process in list(forked_processes):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    end = time.monotonic() + SECONDS_TO_DIE
    while (found := list(_processes(mark))) and time.monotonic() < end:
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def _processes(mark: str) -> Iterator[int]:
    """Yield the ids of the processes that were started with a mark in their environment."""
    entry = f"{MARK}={mark}".encode()
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if entry in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    yield int(name)
