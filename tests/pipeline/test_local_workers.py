"""Local runs that end early: a worker that dies, an interrupt; one line, no orphan, and the next run finishes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.building.forked_workers import ForkedWorker, can_fork, fork_workers
from pipeline.building.local_workers import MARK, WORKER_EXIT, death_of_worker, forked_processes, run_apart
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.errors import InputError, RunError, WorkerLostError

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


@pytest.mark.parametrize(
    ("code", "beginning"),
    [
        (-signal.SIGKILL, "a worker process was killed, as the system does where memory runs out; run the same"),
        (-signal.SIGSEGV, "a worker process died of SIGSEGV; run the same command again to resume"),
        (-signal.SIGABRT, "a worker process died of SIGABRT; run the same command again to resume"),
        (3, "a worker process ended with exit code 3; run the same command again to resume"),
    ],
)
def test_the_death_of_a_worker_is_one_line(code: int, beginning: str) -> None:
    assert death_of_worker(code).startswith(beginning)
    assert "\n" not in death_of_worker(code)


@pytest.mark.parametrize("in_processes", [False, True])
def test_a_run_returns_what_it_returns(in_processes: bool) -> None:
    hook = threading.excepthook
    assert run_apart(lambda: 3, in_processes=in_processes) == 3
    assert threading.excepthook is hook
    assert MARK not in os.environ


def test_an_error_of_a_run_is_raised() -> None:
    def fail() -> NoReturn:
        raise InputError("a damaged file")

    hook = threading.excepthook
    with pytest.raises(InputError, match="a damaged file"):
        run_apart(fail, in_processes=False)
    assert threading.excepthook is hook


def die(code: int, after: float = 0) -> None:
    """Do what Beam's thread does when its worker has ended."""
    time.sleep(after)
    raise RuntimeError(f"Worker subprocess exited with return code {code}")


def killed(processes: list[subprocess.Popen[bytes]]) -> bool:
    return [process.wait(10) for process in processes] == [-signal.SIGKILL] * len(processes)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda: threading.Thread(target=die, args=(-9,), name="run_worker").start(), WorkerLostError),
        (lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT), KeyboardInterrupt),
    ],
    ids=["a worker dies", "an interrupt"],
)
def test_a_run_that_never_ends_is_left_and_its_processes_are_killed(
    end: Callable[[], None], error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # run_apart leaves its own
    processes: list[subprocess.Popen[bytes]] = []
    release = threading.Event()

    def run() -> None:
        processes.extend(subprocess.Popen(["sleep", "60"]) for _ in range(2))
        end()
        release.wait(60)

    bystander = subprocess.Popen(["sleep", "60"])
    with pytest.raises(error):
        run_apart(run, in_processes=True)
    assert killed(processes)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    release.set()


def test_the_death_of_a_worker_explains_the_failure_that_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam may notice first that a channel is closed."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)

    def run() -> NoReturn:
        threading.Thread(target=die, args=(-11, 0.05), name="run_worker").start()
        raise RuntimeError("Channel closed prematurely.")

    with pytest.raises(WorkerLostError, match="SIGSEGV"):
        run_apart(run, in_processes=True)


def test_a_worker_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as by a launcher that has no file descriptor left."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)

    def run() -> None:
        thread = threading.Thread(target=os.close, args=(-1,), name="run_worker")
        thread.start()
        threading.Event().wait(60)

    with pytest.raises(WorkerLostError, match="a worker process failed to start"):
        run_apart(run, in_processes=True)


def test_a_worker_ends_with_its_launcher() -> None:
    """The launcher, which ends at once, prints the id of a process that looks for it as a worker does."""
    worker = "import os; from pipeline.building.worker_process import _end_with; _end_with(os.getppid())"
    launcher = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {worker!r}]); print(p.pid)"
    launched = subprocess.run([sys.executable, "-c", f"{launcher}; time.sleep(1)"], stdout=subprocess.PIPE, check=True)
    end = time.monotonic() + 20
    while is_alive(int(launched.stdout)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(int(launched.stdout))


def test_a_forked_worker_without_orders_ends_when_it_is_dismissed() -> None:
    """In a process of its own, as only one with a single thread can be forked; a second call forks no more."""
    program = """
import os
from pipeline.beam_imports import import_local_beam
import_local_beam()
from pipeline.building import forked_workers as forked
from pipeline.building.local_workers import forked_processes
forked.fork_workers(2)
forked.fork_workers(2)
workers = sorted(forked_processes)
print(len(workers), all(os.path.exists(f"/proc/{worker}") for worker in workers))
forked.dismiss_workers()
print(len(forked_processes), any(os.path.exists(f"/proc/{worker}") for worker in workers))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 True", "0 False"]


def test_a_process_with_other_threads_is_not_forked() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, args=(60,))
    thread.start()
    assert not can_fork()
    fork_workers(2)
    assert not forked_processes
    release.set()
    thread.join()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_end_of_a_forked_worker_is_told_as_beam_tells_it(number: signal.Signals) -> None:
    process = subprocess.Popen(["sleep", "60"])
    os.kill(process.pid, number)
    receiver, orders = os.pipe()
    os.close(receiver)
    with pytest.raises(RuntimeError) as error:
        ForkedWorker(process.pid, orders).run({"WORKER_ID": "worker_0"})
    process.returncode = -number  # its end is known already
    found = WORKER_EXIT.search(str(error.value))
    assert found is not None
    assert int(found["code"]) == -number


def test_errors_of_other_threads_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(str(args.exc_value)))

    def run() -> str:
        thread = threading.Thread(target=int, args=("other",))
        thread.start()
        thread.join()
        return "done"

    assert run_apart(run, in_processes=True) == "done"
    assert seen == ["invalid literal for int() with base 10: 'other'"]


def test_a_lost_worker_is_a_failed_run() -> None:
    assert issubclass(WorkerLostError, RunError)


def workers_of(launcher: int) -> list[int]:
    """Return the worker processes that a run has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher:
                found.append(int(folder.name))
    return found


def is_alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "number", "first_manifest", "line"),
    [
        ("worker", signal.SIGKILL, False, "attparse: failed: a worker process was killed, as the system does"),
        ("group", signal.SIGINT, True, "attparse: interrupted; run the same command again to resume"),
    ],
)
def test_processes_that_are_killed(
    sample: RunConfig, tmp_path: Path, target: str, number: signal.Signals, first_manifest: bool, line: str
) -> None:
    """Before and after the first shard: the run ends soon, no process is left, and the same command finishes."""
    output = tmp_path / "out"
    command = ["run", f"--images={sample.images}", f"--labels={sample.labels}", f"--output={output}", "--limit=4"]
    command += ["--samples_per_shard=1", "--min_coverage=0", "--direct_num_workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *command, "--direct_running_mode=multi_processing"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: len(workers_of(process.pid)) == 2, process)
    if first_manifest:
        wait_for(lambda: list(output.glob("manifest/*.parquet")), process)
    workers = workers_of(process.pid)
    if target == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(workers[0], number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith(line)
    assert "Traceback" not in errors
    assert not list(output.rglob("*.tmp"))
    end = time.monotonic() + 20
    while any(map(is_alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))
    assert main(command) == 0
    assert not list(output.rglob("*.tmp"))
    assert len(list(output.glob("shards/*.tar"))) == 4
