"""Commands are killed at random moments, and just before a change of files; the same command then completes them."""

from __future__ import annotations

import random
import signal

from tests.faults.children import Shot, run_child
from tests.faults.injection import Count, end_at_change
from tests.faults.table import Tally
from tests.faults.workload import JOIN, RELEASE, RUN, TRAIN, Command, World, check_end

AT_CHANGE, AT_MOMENT = "at a change of files", "at a moment"
KINDS = [
    (RUN, AT_CHANGE, signal.SIGKILL),
    (TRAIN, AT_CHANGE, signal.SIGKILL),
    (JOIN, AT_MOMENT, signal.SIGKILL),
    (RELEASE, AT_CHANGE, signal.SIGKILL),
    (RUN, AT_MOMENT, signal.SIGTERM),
    (TRAIN, AT_MOMENT, signal.SIGTERM),
    (JOIN, AT_CHANGE, signal.SIGKILL),
    (RUN, AT_MOMENT, signal.SIGKILL),
    (RELEASE, AT_CHANGE, signal.SIGTERM),
    (TRAIN, AT_MOMENT, signal.SIGKILL),
    (JOIN, AT_MOMENT, signal.SIGTERM),
    (RUN, AT_CHANGE, signal.SIGTERM),
]
INTERRUPTED = {0, 1, -signal.SIGTERM}
"""Exit codes after SIGTERM: it came too late, in time, or before the command could take it."""
AGAIN = 0.3
"""Share of the cases in which the second attempt is killed too."""


def kill_and_repeat(world: World, number: int, chance: random.Random, tally: Tally) -> None:
    """Kill a command once or twice, run it to the end, and compare what it leaves."""
    name, way, kind = KINDS[number % len(KINDS)]
    output = world.new_folder() / "output"
    what = name
    for _ in range(2 if chance.random() < AGAIN else 1):
        if way == AT_MOMENT:
            after = chance.uniform(0.02, 1.05 * world.undisturbed[name].seconds)
            what += f", {kind.name} after {after:.2f} s"
            ended = run_child(world.command(name, output), shot=Shot(kind, after))
        else:
            change = chance.randrange(1, world.undisturbed[name].changes + 1)
            what += f", {kind.name} before change {change} of files"
            ended = run_child(_ended_at(change, kind, str(output), world.command(name, output)))
        tally.faults += 1
        check_end(tally, ended, {0, -signal.SIGKILL} if kind == signal.SIGKILL else INTERRUPTED, what)
    ended = run_child(world.command(name, output))
    if check_end(tally, ended, {0}, f"{what}, then to the end"):
        world.check_result(name, output, tally, what)


def _ended_at(change: int, kind: signal.Signals, folder: str, command: Command) -> Command:
    """Return a command that ends itself at a change of the files in a folder."""

    def ending() -> int:
        end_at_change(folder, change, Count(), kind=kind)
        return command()

    return ending
