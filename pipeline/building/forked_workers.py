"""Worker processes that are forks of the launcher: all that it has imported is there at once, and in memory only once.

A process is forked while it has a single thread, before Beam starts its own. Where there are other
threads already, or no safe fork (macOS), workers are started as `pipeline.building.worker_process`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from apache_beam.runners.portability.local_job_service import SubprocessSdkWorker
from apache_beam.transforms.environments import Environment, SubprocessSDKEnvironment
from google.protobuf import json_format, text_format

from pipeline.building import progress
from pipeline.building.local_workers import WORKER_THREAD, forked_processes
from pipeline.building.worker_process import SIGNALS, prepare, work

URN = "attparse:environment:forked_process:v1"


@dataclass(frozen=True)
class ForkedWorker:
    """A process that waits for its work.

    Attributes
    ----------
    process : int
        Its id.
    orders : int
        Descriptor of the pipe on which it receives its environment variables.
    """

    process: int
    orders: int

    def run(self, environment: Mapping[str, str]) -> None:
        """Let the process work, and wait until it ends.

        Raises
        ------
        RuntimeError
            If it fails, in the words of Beam for a worker process.
        """
        with contextlib.suppress(BrokenPipeError), open(self.orders, "w") as stream:
            json.dump(dict(environment), stream)
        code = self.exit_code()
        if code:
            raise RuntimeError(f"Worker subprocess exited with return code {code}")

    def exit_code(self) -> int:
        """Wait until the process ends, and return its exit code, that of a signal negative."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        forked_processes.discard(self.process)
        return code


_idle: list[ForkedWorker] = []


def can_fork() -> bool:
    """Return whether this process can be forked safely: on Linux, while Python has a single thread."""
    return sys.platform.startswith("linux") and threading.active_count() == 1


def fork_workers(count: int) -> None:
    """Fork worker processes for a run of this process, if it can be forked safely."""
    if not can_fork():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # so that collections in the workers leave the shared memory alone
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a worker must not handle one as the launcher does
    try:
        for _ in range(count - len(_idle)):
            receiver, orders = os.pipe()
            counts = progress.shared_counts()
            process = os.fork()
            if not process:
                _work_and_exit(receiver, [orders, *(worker.orders for worker in _idle)], counts)
            os.close(receiver)
            _idle.append(ForkedWorker(process, orders))
            forked_processes.add(process)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def dismiss_workers() -> None:
    """End the forked processes that have no work."""
    while _idle:
        worker = _idle.pop()
        os.close(worker.orders)
        worker.exit_code()


def _work_and_exit(receiver: int, of_others: Sequence[int], counts: progress.Counts) -> NoReturn:
    """Work with the environment variables that come from a pipe, and end this process without the launcher's exit.

    Parameters
    ----------
    receiver : int
        Descriptor of the pipe.
    of_others : sequence of int
        Descriptors that belong to the launcher.
    counts : ndarray (2,)
        See `progress.count_in`.
    """
    code = 1
    try:
        prepare()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for descriptor in of_others:
            os.close(descriptor)
        progress.count_in(counts)
        logging.getLogger("attparse").handlers.clear()
        logging.getLogger("attparse").propagate = True
        with open(receiver) as stream:
            text = stream.read()
        if text:
            os.environ.update(json.loads(text))
            work()
        code = 0
    finally:
        os._exit(code)


@WorkerHandler.register_environment(URN, bytes)
class _ForkedWorkerHandler(GrpcWorkerHandler):  # type: ignore[misc]
    """Starts a forked worker, or where none is left a process that runs the command of the environment."""

    def __init__(self, command: bytes, state: object, provision_info: object, grpc_server: object) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._command = command

    def start_worker(self) -> None:
        """Start the worker, and a thread that waits for it."""
        self._thread = threading.Thread(name=WORKER_THREAD, target=self._target())
        self._thread.start()

    def _target(self) -> Callable[[], None]:
        if not _idle:
            run: Callable[[], None] = SubprocessSdkWorker(
                self._command, self.control_address, self.provision_info, self.worker_id
            ).run
            return run
        worker = _idle.pop()
        options = json_format.MessageToJson(self.provision_info.provision_info.pipeline_options)
        environment = {
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.control_api_service_descriptor()),
            "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.logging_api_service_descriptor()),
            "PIPELINE_OPTIONS": options,
            "WORKER_ID": self.worker_id,
        }
        return lambda: worker.run(environment)

    def stop_worker(self) -> None:
        """Wait for the end of the worker."""
        self._thread.join()


@Environment.register_urn(URN, bytes)
class ForkedWorkerEnvironment(SubprocessSDKEnvironment):  # type: ignore[misc]
    """The environment of forked workers, with the command of those that cannot be forked."""

    def to_runner_api_parameter(self, context: object) -> tuple[str, bytes]:
        """Return the URN and the command."""
        return URN, self.command_string.encode("utf-8")

    @staticmethod
    def from_runner_api_parameter(
        payload: bytes,
        capabilities: Sequence[str],
        artifacts: Sequence[object],
        resource_hints: Mapping[str, bytes],
        context: object,
    ) -> ForkedWorkerEnvironment:
        """Return the environment of a graph."""
        return ForkedWorkerEnvironment(payload.decode("utf-8"), capabilities, artifacts, resource_hints)
