"""``python -m tests.faults``: run the campaigns, print their table, exit with 1 if a promise was broken."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from tests.faults import (
    fuzzing,
    hostile_checkpoints,
    hostile_images,
    hostile_releases,
    kills,
    limits,
    odd_files,
    read_errors,
    workers,
)
from tests.faults.children import adopt_orphans
from tests.faults.fuzz_targets import TARGETS
from tests.faults.table import COLUMNS, Tally, describe_problems, render
from tests.faults.workload import World

MINUTES = 12.0
LANES = 2
"""Campaigns that run at the same time, in the long form."""

RunCase = Callable[[World, int, random.Random, Tally], None]


class Campaign(NamedTuple):
    """One kind of fault.

    Attributes
    ----------
    run_case : callable
        Runs the case of a number; all that is random in it comes from its random generator.
    short : int
        Number of cases in the short form.
    share : float
        Of the time of its lane, in the long form.
    limit : int
        Cases after which the long form has nothing new.
    """

    run_case: RunCase
    short: int
    share: float
    limit: int = 1_000_000


CAMPAIGNS: dict[str, Campaign] = {
    "kills": Campaign(kills.kill_and_repeat, short=3, share=4),
    "limits": Campaign(limits.meet_limit, short=2, share=1.5),
    "read_errors": Campaign(read_errors.fail_reads, short=2, share=2, limit=170),
    "workers": Campaign(workers.kill_worker, short=0, share=1.5, limit=8),
    "odd_files": Campaign(odd_files.meet_odd_file, short=4, share=1.5, limit=140),
    "hostile_images": Campaign(hostile_images.meet_images, short=3, share=2),
    "hostile_releases": Campaign(hostile_releases.meet_release, short=3, share=2),
    "hostile_checkpoints": Campaign(hostile_checkpoints.meet_checkpoint, short=1, share=1),
    "fuzzing": Campaign(fuzzing.fuzz_quickly, short=len(TARGETS), share=1),
    "atheris": Campaign(fuzzing.fuzz_long, short=0, share=8, limit=len(TARGETS)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaigns; return 1 if a promise was broken."""
    options = _parser().parse_args(argv)
    names = options.only or list(CAMPAIGNS)
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="attparse_faults_") as folder:
        world = World(Path(folder))
        if options.short or len(names) == 1:
            tallies = _run_lane(world, names, options)
        else:
            with ProcessPoolExecutor(LANES, multiprocessing.get_context("fork")) as pool:
                lanes = [pool.submit(_run_lane, world, lane, options) for lane in divide(names)]
                tallies = [tally for lane in lanes for tally in lane.result()]
    print(render(sorted(tallies, key=lambda tally: names.index(tally.name))))
    problems = describe_problems(tallies, options.seed)
    if problems:
        meanings = "\n".join(f"{column}: {meaning}" for column, meaning in COLUMNS.items())
        print(f"\n{problems}\n\n{meanings}")
    print(f"seed {options.seed}")
    return int(bool(problems))


def divide(names: Sequence[str]) -> list[list[str]]:
    """Divide campaigns among the lanes, so that these have about the same shares."""
    lanes: list[list[str]] = [[] for _ in range(LANES)]
    for name in sorted(names, key=lambda name: -CAMPAIGNS[name].share):
        min(lanes, key=lambda lane: sum(CAMPAIGNS[other].share for other in lane)).append(name)
    return lanes


def _run_lane(world: World, names: Sequence[str], options: argparse.Namespace) -> list[Tally]:
    adopt_orphans()
    return [_run_campaign(world, name, names, options) for name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=MINUTES, help="time for all campaigns (default: %(default)s)")
    add("--short", action="store_true", help="a few cases of each campaign, whatever time they take")
    add("--seed", type=int, default=0, help="of all that is random (default: %(default)s)")
    add("--only", action="append", choices=CAMPAIGNS, help="run this campaign; can be given several times")
    add("--case", type=int, help="run this case alone")
    return parser


def _run_campaign(world: World, name: str, names: Sequence[str], options: argparse.Namespace) -> Tally:
    campaign, tally = CAMPAIGNS[name], Tally(name)
    seconds = options.minutes * 60 * campaign.share / sum(CAMPAIGNS[other].share for other in names)
    start = time.monotonic()
    first = options.case or 0
    limit = 1 if options.case is not None else campaign.short if options.short else campaign.limit
    with tqdm(desc=name, total=limit if limit < 1000 else None, unit=" cases") as bar:
        for number in range(first, first + limit):
            if not options.short and time.monotonic() - start > seconds:
                break
            tally.case = number
            chance = random.Random(f"{options.seed} {name} {number}")  # noqa: S311
            campaign.run_case(world, number, chance, tally)
            tally.cases += 1
            bar.set_postfix(faults=tally.faults, problems=len(tally.problems), refresh=False)
            bar.update()
    tally.seconds = time.monotonic() - start
    return tally


if __name__ == "__main__":
    sys.exit(main())
