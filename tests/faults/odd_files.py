"""Files that are no regular files: FIFO, device, socket, folder, links to nothing, to themselves or to a device."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pipeline import cli
from tests.faults.children import run_child
from tests.faults.data import IMAGE_IDS
from tests.faults.table import Tally
from tests.faults.workload import JOIN, RUN, TRAIN, World, check_end, count_images
from training import evaluate

TIMEOUT = 40.0
MEMORY = 1 << 29
"""Bytes that a command may take to refuse a file."""


def _bind_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)


def _link_to_fifo(path: str) -> None:
    os.mkfifo(f"{path}.fifo")
    os.symlink(f"{os.path.basename(path)}.fifo", path)


KINDS: dict[str, Callable[[str], None]] = {
    "FIFO": os.mkfifo,
    "link to /dev/zero": lambda path: os.symlink("/dev/zero", path),
    "link to itself": lambda path: os.symlink(os.path.basename(path), path),
    "folder": os.mkdir,
    "link to nothing": lambda path: os.symlink("nothing", path),
    "socket": _bind_socket,
    "link to a FIFO": _link_to_fifo,
}


class Place(NamedTuple):
    """Where the odd file is put.

    Attributes
    ----------
    command : str
        ``run``, ``join``, ``train``, ``verify`` or ``evaluate``.
    folder : str
        What is copied for it: ``dataset``, or the undisturbed output of a command.
    file : str
        Below the folder.
    codes : set of int
        Exit codes promised.
    """

    command: str
    folder: str
    file: str
    codes: frozenset[int]


REFUSED, DONE, FAULTY = frozenset({2}), frozenset({0}), frozenset({1, 2})
ANY = DONE | FAULTY
PLACES = [
    Place(RUN, "dataset", "images/000003.jpg", DONE),
    Place("verify", "release", "landmarks.parquet", FAULTY),
    Place(RUN, "dataset", "labels.csv", REFUSED),
    Place("evaluate", RUN, "best.pt", REFUSED),
    Place(JOIN, "release", "masks/train-000000.tar", FAULTY),
    Place("verify", RUN, "shards/train-000000.tar", FAULTY),
    Place(RUN, "dataset", "images/extra.jpg", DONE),
    Place(RUN, "dataset", "partition.txt", REFUSED),
    Place(RUN, "dataset", "landmarks.csv", REFUSED),
    Place(RUN, "dataset", "table.toml", REFUSED),
    Place("verify", "release", "masks/train-000000.tar", FAULTY),
    Place("verify", "release", "extra", ANY),
    Place("verify", "release", "release.json", FAULTY),
    Place("verify", RUN, "manifest/train-000000.parquet", FAULTY),
    Place("verify", RUN, "dataset.json", FAULTY),
    Place(JOIN, "release", "release.json", FAULTY),
    Place(JOIN, "release", "landmarks.parquet", FAULTY),
    Place(JOIN, "dataset", "images/000003.jpg", DONE),
    Place(TRAIN, RUN, "shards/train-000000.tar", FAULTY),
    Place(TRAIN, RUN, "dataset.json", REFUSED),
]


def meet_odd_file(world: World, number: int, chance: random.Random, tally: Tally) -> None:
    """Put an odd file in the place of another, and run a command that meets it."""
    place = PLACES[number % len(PLACES)]
    kind = list(KINDS)[(number + 2 * (number // len(PLACES))) % len(KINDS)]
    what = f"{place.command}, {kind} as {place.file}"
    folder = world.new_folder()
    source = folder / "source"
    _copy(world, place.folder, source)
    odd = source / place.file
    odd.unlink(missing_ok=True)
    KINDS[kind](str(odd))
    tally.faults += 1
    output = folder / "output"
    ended = run_child(lambda: _run(world, place, source, output), timeout=TIMEOUT, memory=8 * MEMORY)
    check_end(tally, ended, set(place.codes), what)
    tally.check(ended.peak < MEMORY, "crashes", f"{what}: {ended.peak / 1e6:.0f} MB of memory")
    if place.command == RUN and ended.code == 0:
        extra = {"extra.jpg"} if "extra" in place.file and kind not in ("folder",) else set()
        count_images(output, IMAGE_IDS, tally, what, may_be_there=frozenset(extra))


def _copy(world: World, name: str, target: Path) -> None:
    if name != "dataset":
        shutil.copytree(world.undisturbed[name].output, target)
        return
    target.mkdir()
    shutil.copytree(world.images, target / "images")
    for file in (world.labels, world.partition, world.landmarks, world.table):
        shutil.copy(file, target)


def _run(world: World, place: Place, source: Path, output: Path) -> int:
    if place.command == "verify":
        return cli.main(["verify", str(source)])
    if place.command == "evaluate":
        checkpoint = source / place.file
        return evaluate.main([f"--checkpoint={checkpoint}", f"--data={source}", f"--output={output}", "--device=cpu"])
    if place.folder == "dataset":
        names = ("images", "labels", "partition", "landmarks", "table")
        own = {name: source / getattr(world, name).name for name in names}
        return world.command(place.command, output, **own)()
    paths = {"release": source} if place.command == JOIN else {"run": source}
    return world.command(place.command, output, **paths)()
