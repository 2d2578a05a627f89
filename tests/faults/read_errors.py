"""Files cannot be read, once or for good: a device error, a stale handle, too many open files."""

from __future__ import annotations

import errno
import random
import shutil
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.building import reading
from tests.faults.children import run_child
from tests.faults.injection import FOR_GOOD, Count, FileFault, fail_files
from tests.faults.table import Tally
from tests.faults.workload import JOIN, RELEASE, RUN, TRAIN, World, check_end

ERRORS = (errno.EIO, errno.ESTALE, errno.EMFILE)


class Place(NamedTuple):
    """A file that a command reads.

    Attributes
    ----------
    command : str
    part : str
        Of its path.
    retried : bool
        Whether an error that passes must not end the command.
    resumes : bool
        Whether the command finds part of its output there.
    """

    command: str
    part: str
    retried: bool = False
    resumes: bool = False


PLACES = [
    Place(RUN, "images/00000", retried=True),
    Place(RUN, "/plans/", retried=True),
    Place(RUN, "/manifest/", resumes=True),
    Place(JOIN, "landmarks.parquet"),
    Place(JOIN, "masks/train-", retried=True),
    Place(JOIN, "images/00001", retried=True),
    Place(RUN, "labels.csv"),
    Place(RUN, "partition.txt"),
    Place(RUN, "landmarks.csv"),
    Place(RUN, "table.toml"),
    Place(JOIN, "release.json"),
    Place(JOIN, "/manifest/", resumes=True),
    Place(RELEASE, "shards/train-"),
    Place(RELEASE, "manifest/val-"),
    Place(RELEASE, "dataset.json"),
    Place(TRAIN, "shards/train-"),
    Place(TRAIN, "dataset.json"),
]


def fail_reads(world: World, number: int, chance: random.Random, tally: Tally) -> None:
    """Let reading fail in a command, run it again without, and compare what it leaves."""
    place, for_good = PLACES[number % len(PLACES)], number // len(PLACES) % 2 == 1
    operation: Literal["open", "read"] = "open" if chance.random() < 0.4 else "read"
    skipped = chance.randrange(6) if place.retried else chance.randrange(2)
    fault = FileFault(place.part, operation, chance.choice(ERRORS), skipped, FOR_GOOD if for_good else 1)
    error, times = errno.errorcode[fault.error], "for good" if for_good else "once"
    what = f"{place.command}, {error} at {operation} {skipped + 1} of {place.part} {times}"
    output, count = world.new_folder() / "output", Count()
    if place.resumes:
        _leave_unfinished(world.undisturbed[place.command].output, output)
    command = world.command(place.command, output)

    def failing() -> int:
        reading.PAUSES = (0.001, 0.001, 0.001)
        fail_files(fault, count)
        return command()

    ended = run_child(failing)
    struck = count.value > fault.skipped
    tally.faults += struck
    must_end_well = not struck or (place.retried and not for_good)
    check_end(tally, ended, {0} if must_end_well else {0, 1, 2}, what)
    if place.command in (RUN, JOIN) and ended.code != 0:
        tally.check(not (output / "dataset.json").exists(), "wrong bytes", f"{what}: dataset.json in spite of it")
    if ended.code != 0:
        ended = run_child(world.command(place.command, output))
        check_end(tally, ended, {0}, f"{what}, then without")
    if ended.code == 0:
        world.check_result(place.command, output, tally, what)


def _leave_unfinished(finished: Path, output: Path) -> None:
    """Copy a finished output without its last shard and what is written after it."""
    shutil.copytree(finished, output)
    for name in ("dataset.json", "report.html", "shards/val-000000.tar", "manifest/val-000000.parquet"):
        (output / name).unlink()
