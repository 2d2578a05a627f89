"""Running the graph: Beam's options, the pipeline, its errors and its counters."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    TestOptions,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.job.utils import dict_to_struct
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo

from pipeline import storage
from pipeline.building import progress
from pipeline.building.forked_workers import ForkedWorkerEnvironment, can_fork, dismiss_workers, fork_workers
from pipeline.building.local_workers import WORKER_COMMAND, run_apart
from pipeline.errors import InputError, RunError, WorkerLostError

LOCAL_RUNNER = "FnApiRunner"
THREADS, PROCESSES = "multi_threading", "multi_processing"
MAX_THREADS = 4
STEP = re.compile(r" \[while running [^\[\]]*\]$")
"""What Beam appends to the message of an error in a step."""
FORESEEN_ERROR = re.compile(
    r"(?:[\w.]+\.)?(?:(?P<failed>(?:Run|Read)Error)|(?:Input|FileTooLarge|Image|Shard(?:Read)?)Error): (?P<message>.*)"
)
"""The last line of a traceback of an error whose message is for the user."""
SYSTEM_ERROR = re.compile(r"(?:[\w.]+: )*(?P<message>\[Errno -?\d+\] .*)")
"""That of an error of the operating system, which names the file; Beam may wrap it in a RuntimeError."""
LOST_CONNECTION = "Channel closed prematurely"
"""What Beam says where a worker process, or one of its connections, is gone."""
CONSOLE = "https://console.cloud.google.com/dataflow/jobs"

log = logging.getLogger("attparse")


def beam_options(flags: Sequence[str]) -> PipelineOptions:
    """Return Beam's options; without a runner among them, the local one with a worker per core.

    Workers are processes, which do not share Python's lock: on two cores, two of them build 1.8 to 2
    times as many images per second as one, and two threads nearly as many. As forks of this process
    they start as fast as threads. Where it cannot be forked they take seconds, so threads are the
    default on up to `MAX_THREADS` cores. A single worker is a thread.

    Raises
    ------
    InputError
        At an option that neither attparse nor Beam knows, or a value that Beam does not accept.
    """
    if not any(flag.split("=")[0] == "--runner" for flag in flags):
        defaults = ["--runner", LOCAL_RUNNER]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = _given_workers(flags)
        if workers is None:
            defaults.append(f"--direct_num_workers={cores}")
        if not any(flag.startswith("--direct_running_mode") for flag in flags):
            several = (workers or str(cores)) != "1"
            mode = PROCESSES if several and (can_fork() or cores > MAX_THREADS) else THREADS
            defaults.append(f"--direct_running_mode={mode}")
        if not any(flag.startswith("--default_sdk_harness_log_level") for flag in flags):
            defaults.append("--default_sdk_harness_log_level=CRITICAL")
        flags = [*defaults, *flags]
    parser = _OptionParser(allow_abbrev=False, add_help=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    unknown = parser.parse_known_args(list(flags))[1]
    if unknown:
        raise InputError(f"unknown option {unknown[0]!r}: neither attparse nor Apache Beam has it")
    options = PipelineOptions(list(flags))
    workers = options.view_as(DirectOptions).direct_num_workers
    if workers < 0:
        raise InputError(
            f"argument --direct_num_workers: found {workers}, expected a number of workers or 0 for all cores"
        )
    return options


def _given_workers(flags: Sequence[str]) -> str | None:
    parser = _OptionParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--direct_num_workers")
    number: str | None = parser.parse_known_args(list(flags))[0].direct_num_workers
    return number


class _OptionParser(argparse.ArgumentParser):
    """A parser that raises its errors instead of printing the usage of all Beam's options."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


class Runner:
    """Beam's pipeline with its options checked, ready to build shards.

    Parameters
    ----------
    flags : sequence of str
        Options of Beam.
    paths : sequence of str
        Folders and model files, which every worker must reach.

    Raises
    ------
    InputError
        At an option that Beam does not accept, or a local path where the workers are on Dataflow.
    """

    def __init__(self, flags: Sequence[str], paths: Sequence[str]) -> None:
        options = beam_options(flags)
        direct = options.view_as(DirectOptions)
        local = options.view_as(StandardOptions).runner == LOCAL_RUNNER
        self._in_processes = local and direct.direct_running_mode == PROCESSES
        self._in_threads = local and not self._in_processes
        runner = None
        if self._in_processes:  # Beam's own mode of this name would start workers that nobody watches
            direct.direct_running_mode = "in_memory"
            environment = ForkedWorkerEnvironment.from_command_string(WORKER_COMMAND)
            runner = FnApiRunner(environment, provision_info=_provision_info(options))
        try:
            self._pipeline = beam.Pipeline(runner, options)
        except ValueError as error:
            raise InputError("; ".join(str(error).splitlines()[1:]) or str(error)) from None
        FileSystems.set_options(options)
        self._on_dataflow = "dataflow" in str(options.view_as(StandardOptions).runner).lower()
        self.is_dry: bool = options.view_as(TestOptions).dry_run
        """Whether to write and submit nothing."""
        if self._in_processes and not self.is_dry:
            fork_workers(direct.direct_num_workers or os.cpu_count() or 1)
        for path in paths if self._on_dataflow else ():
            if not storage.is_remote(path):
                raise InputError(f"{path}: workers on Dataflow cannot reach a local path, expected gs://...")

    def check(self, names: Sequence[str], build: beam.PTransform) -> None:
        """Make the graph and, for Dataflow, the job of a dry run; write and submit nothing."""
        self._add_graph(names, build)
        if self._on_dataflow:
            self._pipeline.run()

    def build(self, output: str, pending: Mapping[str, int], build: beam.PTransform) -> None:
        """Build shards and wait until they are complete.

        Parameters
        ----------
        output : str
            Folder of the run.
        pending : mapping of str to int
            Shards to build, and how many images each has.
        build : beam.PTransform
            From the names of shards to build to the completed run.

        Raises
        ------
        InputError
            If a worker finds its input damaged.
        RunError
            If the pipeline failed.
        """
        start = time.perf_counter()
        self._add_graph(list(pending), build)
        with progress.show(pending, output, in_process=self._in_threads), _stderr_of_beam() as printed:
            try:
                result, state = run_apart(self._run, in_processes=self._in_processes)
            except WorkerLostError:
                raise
            except Exception as error:
                raise _worker_error(error, printed.getvalue()) from error
            finally:
                dismiss_workers()
        if state != "DONE":
            raise RunError(f"the pipeline ended as {state}")
        _log_times(result, time.perf_counter() - start)

    def _run(self) -> tuple[Any, str]:
        """Run the pipeline to its end; return its result, which has the counters, and its last state."""
        result = self._pipeline.run()
        self._log_job(result)
        return result, result.wait_until_finish()

    def _add_graph(self, names: Sequence[str], build: beam.PTransform) -> None:
        _ = self._pipeline | "ShardNames" >> beam.Create(list(names)) | build

    def _log_job(self, result: Any) -> None:
        if self._on_dataflow:
            cloud = self._pipeline.options.view_as(GoogleCloudOptions)
            log.info("%s/%s/%s?project=%s", CONSOLE, cloud.region, result.job_id(), cloud.project)


def _provision_info(options: PipelineOptions) -> ExtendedProvisionInfo:
    """Return what brings the options to worker processes, such as those of object stores and of the log."""
    given = options.get_all_options(drop_default=True)
    texts = {name: str(value) if type(value) is int else value for name, value in given.items()}  # JSON has no integers
    return ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=dict_to_struct(texts)))


@contextlib.contextmanager
def _stderr_of_beam() -> Iterator[io.StringIO]:
    """Catch what Beam's local workers print to stderr as they fail."""
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        yield printed


def _worker_error(error: Exception, printed: str) -> InputError | RunError:
    """Return an error of a worker in one line; its traceback goes to the log if it was not foreseen."""
    text = [line for line in str(error).splitlines() if line.strip()]
    line = STEP.sub("", text[-1]) if text else repr(error)
    foreseen = FORESEEN_ERROR.match(line)
    if foreseen is not None:
        return (RunError if foreseen["failed"] else InputError)(foreseen["message"])
    system = SYSTEM_ERROR.match(line)
    if system is not None:
        return RunError(system["message"])
    if LOST_CONNECTION in line:
        return RunError("the connection to a worker process was lost; run the same command again to resume")
    log.error("%s", printed or str(error))
    return RunError(line)


def _log_times(result: Any, seconds: float) -> None:
    counters = {c.key.metric.name: c.result for c in result.metrics().query()["counters"]}
    images = sum(count for name, count in counters.items() if name.startswith(("written_", "rejected_")))
    if not images:
        return
    stages = {name.partition("_")[2]: us for name, us in counters.items() if name.startswith("microseconds_")}
    milliseconds = ", ".join(f"{stage} {us / images / 1000:.2f}" for stage, us in stages.items() if us)
    log.info("%d images in %.1f s; milliseconds per image: %s", images, seconds, milliseconds)
