"""A worker process of a run is killed: the run ends with one line, and the same command completes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

from tests.faults.children import run_child
from tests.faults.table import Tally
from tests.faults.workload import RUN, World, check_end

TIMEOUT = 150.0
WORKER = "sdk_worker_main"
STARTS_IN = 60.0
"""Seconds in which a worker process must have started."""
LATEST = 6.0
"""Seconds from the start of a worker until it is killed, at most."""


def kill_worker(world: World, number: int, chance: random.Random, tally: Tally) -> None:
    """Kill one worker process of a run with several, then run to the end in this process."""
    output = world.new_folder() / "output"
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    argv = [arg for arg in world.argv(RUN, output) if not arg.startswith("--direct")] + options
    after = chance.choice((0.0, chance.uniform(0, LATEST)))
    what = f"run, worker process killed {after:.1f} s after its start"
    killed: list[int] = []

    def launching() -> int:
        watcher = threading.Thread(target=_kill_first_worker, args=(os.getpid(), after, killed), daemon=True)
        process = subprocess.Popen([sys.executable, "-m", "pipeline", *argv])
        watcher.start()
        code = process.wait()
        print(f"killed {killed}")
        return code

    ended = run_child(launching, timeout=TIMEOUT)
    struck = "killed []" not in ended.text
    tally.faults += struck
    check_end(tally, ended, {0, 1} if struck else {0}, what)
    ended = run_child(world.command(RUN, output))
    if check_end(tally, ended, {0}, f"{what}, then to the end"):
        world.check_result(RUN, output, tally, what)


def _kill_first_worker(group: int, after: float, killed: list[int]) -> None:
    """Wait for a worker process in a process group, and kill it."""
    deadline = time.monotonic() + STARTS_IN
    while time.monotonic() < deadline:
        for name in os.listdir("/proc"):
            if name.isdigit() and _is_worker(int(name), group):
                time.sleep(after)
                os.kill(int(name), signal.SIGKILL)
                killed.append(int(name))
                return
        time.sleep(0.02)


def _is_worker(pid: int, group: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return WORKER.encode() in stream.read() and os.getpgid(pid) == group
    except OSError:
        return False
