"""The disk is full, files may not grow, or no further file can be opened."""

from __future__ import annotations

import errno
import random
import resource
from collections.abc import Callable

from tests.faults.children import last_line, run_child
from tests.faults.injection import FOR_GOOD, Count, FileFault, fail_files
from tests.faults.table import Tally
from tests.faults.workload import JOIN, RELEASE, RUN, TRAIN, Command, World, check_end

FULL, FILE_SIZE, DESCRIPTORS = "full disk", "limited file size", "few descriptors"
KINDS = [(name, limit) for limit in (FULL, FILE_SIZE, DESCRIPTORS) for name in (RUN, TRAIN, RELEASE, JOIN)]
PROMISED = {FULL: {0, 1}, FILE_SIZE: {0, 1}, DESCRIPTORS: {0, 1, 2}}
"""Exit codes; 0 where the limit was not met."""


def meet_limit(world: World, number: int, chance: random.Random, tally: Tally) -> None:
    """Run a command under a limit, then without it, and compare what it leaves."""
    name, limit = KINDS[number * 5 % len(KINDS)]
    output = world.new_folder() / "output"
    limited, what = _limited(world, name, limit, str(output), chance)
    ended = run_child(limited)
    tally.faults += ended.code != 0
    if check_end(tally, ended, PROMISED[limit], what) and ended.code:
        tally.check(len(last_line(ended.text)) > 0, "wrong exit", f"{what}: exit code {ended.code} without a message")
    if ended.code != 0:
        ended = run_child(world.command(name, output))
        check_end(tally, ended, {0}, f"{what}, then without")
    if ended.code == 0:
        world.check_result(name, output, tally, what)


def _limited(world: World, name: str, limit: str, output: str, chance: random.Random) -> tuple[Command, str]:
    """Return a command under a limit, and what is limited."""
    command = world.command(name, world.folder / output)
    if limit == FULL:
        fault = FileFault(
            output, "write", errno.ENOSPC, chance.randrange(world.undisturbed[name].changes // 3), FOR_GOOD
        )
        return _after(lambda: fail_files(fault, Count()), command), f"{name}, disk full at write {fault.skipped + 1}"
    if limit == FILE_SIZE:
        size = int(2 ** chance.uniform(0, 17))
        return _after(lambda: _set(resource.RLIMIT_FSIZE, size), command), f"{name}, files of at most {size} bytes"
    count = chance.randrange(8, 40)
    return _after(lambda: _set(resource.RLIMIT_NOFILE, count), command), f"{name}, at most {count} descriptors"


def _after(first: Callable[[], None], command: Command) -> Command:
    def both() -> int:
        first()
        return command()

    return both


def _set(kind: int, value: int) -> None:
    resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
