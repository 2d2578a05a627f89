"""Checkpoints of others, changed on purpose or at random: evaluated and resumed from, or refused in one line."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import torch

from tests.faults.children import run_child
from tests.faults.mutation import mutated
from tests.faults.table import Tally
from tests.faults.workload import RUN, TRAIN, World, check_end
from training import evaluate

TIMEOUT = 60.0
MEMORY = 1 << 29
"""Bytes that a command may take for a checkpoint of a few kilobytes."""

VALUES: list[Any] = [
    None, True, -1, 0, 10**6, 1e300, float("nan"), "", "x" * 5000, "\0", [], [0], [-1] * 5, [10**9] * 5, {}, {"a": 1},
    torch.zeros(0), torch.zeros(3, 3), torch.full((4,), float("nan")), torch.zeros(2, dtype=torch.int64),
]  # fmt: skip


def meet_checkpoint(world: World, number: int, chance: random.Random, tally: Tally) -> None:
    """Change a checkpoint, then evaluate it or resume from it."""
    folder, name = world.new_folder(), ("best.pt", "last.pt")[number % 2]
    output = folder / "output"
    shutil.copytree(world.undisturbed[TRAIN].output, output)
    path = output / name
    if number % 3 == 0:
        path.write_bytes(mutated(path.read_bytes(), chance))
        what = f"{name} with mutated bytes"
    else:
        what = f"{name} with {_change_content(path, chance)}"
    tally.faults += 1
    data = world.undisturbed[RUN].output
    argv = [f"--checkpoint={path}", f"--data={data}", "--split=val", f"--output={folder / 'figures'}", "--device=cpu"]
    ended = run_child(lambda: evaluate.main(argv), timeout=TIMEOUT, memory=16 * MEMORY)
    check_end(tally, ended, {0, 1, 2}, f"{what}: evaluate")
    tally.check(ended.peak < MEMORY, "crashes", f"{what}: evaluate takes {ended.peak / 1e6:.0f} MB of memory")
    ended = run_child(world.command(TRAIN, output), timeout=TIMEOUT, memory=16 * MEMORY)
    check_end(tally, ended, {0, 1, 2}, f"{what}: resumed")


def _change_content(path: Path, chance: random.Random) -> str:
    """Change, rename or delete one value of a checkpoint; return what."""
    state = torch.load(path, weights_only=True)
    at, where = state, ""
    while True:
        key = chance.choice(list(at))
        where += f"/{key}"
        if not isinstance(at[key], dict) or not at[key] or chance.random() < 0.2:
            break
        at = at[key]
    kind = chance.randrange(4)
    if kind == 0:
        del at[key]
    elif kind == 1:
        at["other"] = at.pop(key)
    else:
        at[key] = chance.choice(VALUES)
    torch.save(state, path)
    return f"{where} {('deleted', 'renamed')[kind] if kind < 2 else repr(at[key])[:40]}"
