"""A worker process of a local run: Beam's own, except that the run alone decides when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

from pipeline.beam_imports import import_local_beam

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run: only its launcher handles them."""
SECONDS_BETWEEN_LOOKS = 0.5


def main() -> None:
    """Work for the process that started this one, until that has no more work or is gone."""
    prepare()
    import_local_beam()
    work()


def prepare() -> None:
    """Leave signals to the launcher, and end when it is gone."""
    for number in SIGNALS:
        signal.signal(number, _leave_to_the_launcher)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def work() -> None:
    """Do the work that the environment variables name, as Beam sets them."""
    from apache_beam.runners.worker import sdk_worker_main  # noqa: PLC0415 - after the part of Beam that is needed

    launcher = os.getppid()
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            # Beam prints the errors here that it reports to the launcher
            sdk_worker_main.main([])
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
