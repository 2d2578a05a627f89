"""Commands in child processes: forked, so that no case waits for imports; bounded in time and memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

POLL = 0.004
"""Seconds between two looks at a child."""
GRACE = 10.0
"""Seconds in which the processes of a dead child must have ended."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes
    ----------
    code : int
        Exit code; minus the signal that ended it.
    text : str
        What it printed.
    seconds : float
    peak : int
        Bytes of memory that it took beyond what it was born with.
    processor : float
        Seconds of processor time.
    hung : bool
        Whether it was ended because it took too long.
    orphans : bool
        Whether processes that it had started outlived it.
    """

    code: int
    text: str
    seconds: float
    peak: int = 0
    processor: float = 0.0
    hung: bool = False
    orphans: bool = False

    @property
    def crashed(self) -> str:
        """Why this is a crash; empty if it is none."""
        if self.hung:
            return f"no end after {self.seconds:.0f} s"
        if "Traceback (most recent call last)" in self.text:
            return f"traceback, exit code {self.code}: {last_line(self.text)}"
        if self.code < 0 and self.code not in (-signal.SIGKILL, -signal.SIGTERM):
            return f"ended by {signal.Signals(-self.code).name}"
        return ""


def last_line(text: str) -> str:
    """Return the last line of a text, without what a progress bar overwrote."""
    lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def adopt_orphans() -> None:
    """Become the parent of processes whose parent dies, so that none is overlooked (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass(frozen=True)
class Shot:
    """A signal sent to a child.

    Attributes
    ----------
    number : signal.Signals
    after : float
        Seconds after its birth.
    """

    number: signal.Signals
    after: float


def run_child(
    work: Callable[[], int],
    *,
    timeout: float = 60.0,
    shot: Shot | None = None,
    memory: int | None = None,
) -> Ended:
    """Run a function in a forked child that leads a process group of its own.

    Parameters
    ----------
    work : callable
        Returns the exit code.
    timeout : float
        Seconds after which the child is ended.
    shot : Shot, optional
    memory : int, optional
        Bytes of address space that the child may add to what it is born with.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    born = resident_bytes(os.getpid())
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _be_child(work, writer, memory)
    os.close(writer)
    printed = bytearray()
    try:
        code, usage, hung = _watch(pid, start, timeout, shot, lambda: printed.extend(_drained(reader)))
    except BaseException:
        os.killpg(pid, signal.SIGKILL)
        raise
    seconds = time.monotonic() - start
    orphans = _await_group(pid)
    printed += _drained(reader)
    os.close(reader)
    scale = 1 if sys.platform == "darwin" else 1024
    peak = max(0, usage.ru_maxrss * scale - born)
    return Ended(code, printed.decode(errors="replace"), seconds, peak, usage.ru_utime + usage.ru_stime, hung, orphans)


def _drained(reader: int) -> bytes:
    """Return what can be read from a pipe now."""
    content = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(reader, 1 << 16):
            content += part
    return content


def _be_child(work: Callable[[], int], output: int, memory: int | None) -> None:
    code = 70
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - for as long as the child lives
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        if memory is not None:
            limit = virtual_bytes() + memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _watch(
    pid: int, start: float, timeout: float, shot: Shot | None, look: Callable[[], None]
) -> tuple[int, resource.struct_rusage, bool]:
    hung = False
    while True:
        look()
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage, hung
        age = time.monotonic() - start
        if shot is not None and age >= shot.after:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, shot.number)
            shot = None
        if age > timeout:
            hung = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL)


def _await_group(group: int) -> bool:
    """Reap what a dead child had started; return whether any of it had to be ended."""
    deadline = time.monotonic() + GRACE
    orphans = False
    while True:
        try:
            done, _ = os.waitpid(-group, os.WNOHANG)
        except ChildProcessError:
            return orphans
        if not done:
            if time.monotonic() > deadline:
                orphans = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            time.sleep(POLL)


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has now (Linux; 0 elsewhere)."""
    return _statm(pid, 1)


def virtual_bytes() -> int:
    """Return the address space that this process has now (Linux; 0 elsewhere)."""
    return _statm(os.getpid(), 0)


def _statm(pid: int, field: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as stream:
            return int(stream.read().split()[field]) * resource.getpagesize()
    except OSError:
        return 0
