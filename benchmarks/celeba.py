"""A rehearsal of the whole of CelebA: as many label rows, over hard links of a few photographs.

It runs with the default workers, verifies the result, runs again over what is complete, and on demand kills a run at
about half and lets the same command finish it. Everything is removed at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.images import add_image_options, link_images, load_photographs, named_images, run_arguments
from benchmarks.measure import Cost, MeasurementError, announce, command_cost
from benchmarks.table import machine, markdown_table, number
from pipeline.config import RunConfig
from pipeline.errors import InputError
from pipeline.formats.dataset_json import DatasetFile, read_dataset_file
from pipeline.formats.manifest import read_manifest
from pipeline.formats.run_folder import RunFolder
from regions.interrupts import termination_as_interrupt

SPLIT_SIZES = (162_770, 19_867, 19_962)
"""Images of CelebA for training, validation and test, in the order of their numbers."""
ROWS = sum(SPLIT_SIZES)
BYTES_PER_IMAGE = 32 * 1024
"""More than a sample, its row in the manifest and the entry of its image in a folder take."""
HEADER = ("phase", "seconds", "CPU seconds", "peak MB", "images/s")


class Phase(NamedTuple):
    """A part of the rehearsal and what it cost."""

    name: str
    cost: Cost


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse, and print what each phase cost; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.celeba", description=__doc__.splitlines()[0])
    add_image_options(parser)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"label rows (default: {ROWS})")
    parser.add_argument("--interrupt", action="store_true", help="also kill a run at about half, and resume it")
    options = parser.parse_args(arguments)
    if options.rows < 1:
        parser.error(f"--rows is {options.rows}, expected at least 1")
    try:
        with termination_as_interrupt(), tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            check_space(Path(scratch), options.rows)
            config = make_data_set(named_images(options), options.rows, Path(scratch))
            phases, lines = rehearse(config, options.rows, Path(scratch) / "run")
            if options.interrupt:
                further, line = interrupted(config, phases[0].cost, Path(scratch))
                phases, lines = [*phases, *further], [*lines, line]
            announce("removing everything")
    except (InputError, MeasurementError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\n{machine()}\n\n{markdown_table(HEADER, phase_cells(phases, options.rows))}\n")
    print("\n".join(lines))
    return 0


def check_space(scratch: Path, rows: int) -> None:
    """Check that the disk has room for the rehearsal.

    Raises
    ------
    InputError
        If it has not.
    """
    needed, free = rows * BYTES_PER_IMAGE, shutil.disk_usage(scratch).free
    if free < needed:
        raise InputError(f"{scratch}: {free / 1e9:.1f} GB are free, expected {needed / 1e9:.1f}; see --scratch")


def make_data_set(named: RunConfig | None, rows: int, scratch: Path) -> RunConfig:
    """Link the images and write the label, partition, box and point files."""
    announce("looking for the faces of the photographs that the rows repeat")
    photographs = load_photographs(named, scratch)
    announce(f"linking {rows:,} images to {len(photographs.files):,} photographs")
    return link_images(photographs.repeated(rows), scratch / "data_set", split_of_rows(rows))


def split_of_rows(rows: int) -> list[int]:
    """Return the split of each row, 0 to 2: in CelebA's proportions, or exactly CelebA's for its number of rows.

    >>> [split_of_rows(ROWS).count(split) for split in range(3)]
    [162770, 19867, 19962]
    >>> split_of_rows(10)
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]
    """
    ends = np.cumsum(SPLIT_SIZES) * rows // ROWS
    return [int(split) for split in np.searchsorted(ends, np.arange(rows), side="right")]


def rehearse(config: RunConfig, rows: int, output: Path) -> tuple[list[Phase], list[str]]:
    """Run, verify and run again; return what each cost, and lines that describe the result."""
    phases = [Phase("run", run_phase("run", config, output))]
    described = described_result(output, rows)
    announce("verify")
    phases.append(Phase("verify", command_cost(["pipeline", "verify", str(output)], quiet=False)))
    phases.append(Phase("run again, all done", run_phase("run again", config, output)))
    return phases, [described]


def run_phase(name: str, config: RunConfig, output: Path) -> Cost:
    """Run with the default workers, its progress bar on stderr; return what it cost."""
    announce(name)
    return command_cost(run_command(config, output), quiet=False)


def run_command(config: RunConfig, output: Path) -> list[str]:
    """Return the command of a run."""
    return ["pipeline", "run", *run_arguments(config), f"--output={output}", "--min_coverage=0"]


def described_result(output: Path, rows: int) -> str:
    """Return a line that describes a finished run, once it is sure that no row is lost.

    Raises
    ------
    MeasurementError
        If the samples and the rejected images, or the rows of the manifests, are not as many as the label rows.
    """
    result = read_dataset_file(str(output))
    manifest_rows = sum(len(read_manifest(str(output), shard.name, ["image_id"])) for shard in result.shards)
    if not rows == result.samples + result.rejected == manifest_rows:
        raise MeasurementError(
            f"{output}: {result.samples} samples, {result.rejected} rejected images and {manifest_rows} manifest rows,"
            f" expected {rows} in all"
        )
    size = sum(shard.bytes for shard in result.shards) / 1e9
    return (
        f"{rows:,} label rows = {result.samples:,} samples + {result.rejected:,} rejected images = {manifest_rows:,}"
        f" manifest rows; {len(result.shards)} shards, {size:.2f} GB"
    )


def interrupted(config: RunConfig, whole: Cost, scratch: Path) -> tuple[list[Phase], str]:
    """Kill a run at about half, and let the same command finish it.

    Parameters
    ----------
    config : RunConfig
    whole : Cost
        Of the run that was not interrupted, which is replaced.
    scratch : Path
        The folder of that run is ``run`` in it.

    Raises
    ------
    MeasurementError
        If the result is another one than that of the run that was not interrupted.
    """
    former = read_dataset_file(str(scratch / "run"))
    shutil.rmtree(scratch / "run")
    output = scratch / "interrupted"
    announce("run, killed at about half")

    def kill_at_half(process: subprocess.Popen[bytes]) -> None:
        manifests = Path(RunFolder(str(output)).manifests)
        while not _has_ended(process) and len(list(manifests.glob("*.parquet"))) < len(former.shards) / 2:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)

    first = command_cost(run_command(config, output), quiet=False, allowed=(0, -signal.SIGKILL), watch=kill_at_half)
    second = run_phase("the rest", config, output)
    _check_equal(former, read_dataset_file(str(output)))
    lost = first.cpu + second.cpu - whole.cpu
    phases = [Phase("run, killed at about half", first), Phase("the same command, the rest", second)]
    return phases, f"lost by the interruption: {lost:.0f} s of CPU time, {lost / whole.cpu:.1%} of a run"


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has ended, and leave its exit code to whoever waits for it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _check_equal(expected: DatasetFile, found: DatasetFile) -> None:
    if expected.shards != found.shards:
        raise MeasurementError("the resumed run has other shards than the one that was not interrupted")


def phase_cells(phases: Sequence[Phase], rows: int) -> list[tuple[str, ...]]:
    """Return the lines of the table, as text."""
    return [(name, *map(number, (*cost, rows / cost.wall))) for name, cost in phases]


if __name__ == "__main__":
    sys.exit(main())
