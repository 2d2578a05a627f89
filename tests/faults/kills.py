"""Commands are killed at random moments, and just before a change of files; the same command then completes them."""

from __future__ import annotations

import random
import signal

from tests.faults.children import Shot, run_child
from tests.faults.injection import Count, end_at_change
from tests.faults.table import Tally
from tests.faults.workload import JOIN, RELEASE, RUN, TRAIN, World, check_end

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
        what += f", {kind.name} {_disturb(world, name, way, kind, chance, tally, what, output)}"
    ended = run_child(world.command(name, output))
    if check_end(tally, ended, {0}, f"{what}, then to the end"):
        world.check_result(name, output, tally, what)


def _disturb(world, name, way, kind, chance, tally, what, output) -> str:  # type: ignore[no-untyped-def]
    undisturbed, command, count = world.undisturbed[name], world.command(name, output), Count()
    tally.faults += 1
    if way == AT_MOMENT:
        after = chance.uniform(0.02, 1.05 * undisturbed.seconds)
        ended = run_child(command, shot=Shot(kind, after))
        moment = f"after {after:.2f} s"
    else:
        change = chance.randrange(1, undisturbed.changes + 1)

        def ending() -> int:
            end_at_change(str(output), change, count, kind=kind)
            return command()

        ended = run_child(ending)
        moment = f"before change {change} of files"
    codes = {0, -signal.SIGKILL} if kind == signal.SIGKILL else INTERRUPTED
    check_end(tally, ended, codes, f"{what}, {kind.name} {moment}")
    return moment
