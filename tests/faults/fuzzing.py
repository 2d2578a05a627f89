"""Every parser is fed with mutated files: by atheris where it is installed, by a random mutator elsewhere."""

from __future__ import annotations

import importlib.util
import logging
import os
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.children import Ended, last_line, run_child
from tests.faults.fuzz_targets import TARGETS
from tests.faults.injection import Count
from tests.faults.mutation import mutated
from tests.faults.table import Tally
from tests.faults.workload import World, check_end

SECONDS = 20
"""Of atheris, per parser."""
INPUTS = 100
"""Of the random mutator, per case."""
START = 120.0
"""Seconds that a fuzzer may take beyond its time."""
HAS_ATHERIS = importlib.util.find_spec("atheris") is not None
DONE = re.compile(r"Done (\d+) runs")
KEPT = Path(tempfile.gettempdir()) / "attparse_fuzzing"
"""Where inputs that break a parser are kept."""


def fuzz_quickly(world: World, number: int, chance: random.Random, tally: Tally) -> None:
    """Feed one parser with mutated files."""
    name = list(TARGETS)[number % len(TARGETS)]
    folder, count = world.new_folder(), Count()
    last = folder / "last"

    def fuzzing() -> int:
        logging.disable(logging.CRITICAL)
        parse, seeds = TARGETS[name].open(world, folder), TARGETS[name].seeds(world)
        for content in [*seeds, *(mutated(chance.choice(seeds), chance) for _ in range(INPUTS))]:
            last.write_bytes(content)
            parse(content)
            count.up()
        return 0

    ended = run_child(fuzzing, timeout=START)
    tally.faults += count.value
    _check(name, ended, last, tally)


def fuzz_long(world: World, number: int, chance: random.Random, tally: Tally) -> None:
    """Fuzz one parser with atheris; with the random mutator where there is no atheris."""
    if not HAS_ATHERIS:
        tally.note = "with random mutations alone: atheris is not installed"
        fuzz_quickly(world, number, chance, tally)
        return
    tally.note = f"by atheris, {SECONDS} s per parser"
    name = list(TARGETS)[number % len(TARGETS)]
    module = [sys.executable, "-m", "tests.faults.coverage_guided", name, str(world.folder)]
    argv = [*module, f"--seconds={SECONDS}", f"--seed={chance.randrange(1 << 30)}"]
    ended = run_child(lambda: os.execv(argv[0], argv), timeout=SECONDS + START)
    done = DONE.search(ended.text)
    tally.faults += int(done[1]) if done else 0
    broken = [path for path in world.folder.glob("tmp*/*") if path.name.startswith(("crash-", "timeout-", "oom-"))]
    _check(name, ended, broken[0] if broken else world.folder / "none", tally)
    for path in world.folder.glob("tmp*"):
        shutil.rmtree(path)


def _check(name: str, ended: Ended, last: Path, tally: Tally) -> None:
    """Record a crash, and keep the input that brought it about."""
    what = f"parser {name}"
    if ended.code != 0 and last.exists():
        KEPT.mkdir(exist_ok=True)
        kept = KEPT / f"{name}-{tally.case}"
        shutil.copy(last, kept)
        errors = [line for line in ended.text.splitlines() if re.match(r"[\w.]*(Error|Exception|Exit)\b", line)]
        what += f" with {kept}: {errors[-1] if errors else last_line(ended.text)}"
    check_end(tally, ended, {0}, what)
