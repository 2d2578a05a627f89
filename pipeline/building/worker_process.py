"""A worker process of a local run: Beam's own, except that the run alone decides when it ends."""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import threading
import time

BEAM_WORKER = "apache_beam.runners.worker.sdk_worker_main"
SECONDS_BETWEEN_LOOKS = 0.5


def main() -> None:
    """Work for the process that started this one, until that has no more work or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave_to_the_launcher)
    launcher = os.getppid()
    threading.Thread(target=_end_with, args=(launcher,), daemon=True).start()
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            # Beam prints the errors here that it reports to the launcher
            runpy.run_module(BEAM_WORKER, run_name="__main__", alter_sys=True)
    except Exception:
        if os.getppid() == launcher:
            raise


def _leave_to_the_launcher(number: int, frame: object) -> None:
    """Do nothing: a terminal sends an interrupt to every process, and the launcher ends its workers.

    A handler, unlike an ignored signal, is not inherited by the processes that a worker starts.
    """


def _end_with(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


if __name__ == "__main__":
    main()
