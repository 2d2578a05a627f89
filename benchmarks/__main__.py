"""Print one table of what attparse costs beside other ways to do the same."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import floor, loaders, paper_method, stages, whole_runs, writing
from benchmarks.bench import Bench
from benchmarks.images import add_image_options, load_photographs, named_images
from benchmarks.measure import MeasurementError, announce
from benchmarks.table import HEADER, Row, machine, markdown_table, row_cells
from pipeline.errors import InputError
from regions.interrupts import termination_as_interrupt

PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "floor": floor.floor_rows,
    "stages": stages.stage_rows,
    "paper": paper_method.paper_rows,
    "masks": writing.mask_rows,
    "writing": writing.writing_rows,
    "loaders": loaders.loader_rows,
    "start": whole_runs.start_rows,
    "workers": whole_runs.worker_rows,
}
COUNT, ROUNDS = 320, 5


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add_image_options(parser)
    parser.add_argument("--only", metavar="PART,PART", help=f"parts to run, of {','.join(PARTS)} (default: all)")
    parser.add_argument("--count", type=int, default=COUNT, help=f"images in one measurement (default: {COUNT})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"alternating runs (default: {ROUNDS})")
    parser.add_argument("--dlib_model", metavar="F.dat", help="dlib's 68-point model (default: that of the extra dlib)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table; return the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(names) - set(PARTS):
        parser.error(f"--only: no part {min(unknown)!r}, expected some of {','.join(PARTS)}")
    if not options.count >= options.rounds >= 1:
        parser.error(f"--count is {options.count}, expected at least --rounds, {options.rounds}")
    try:
        with termination_as_interrupt(), tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            photographs = load_photographs(named_images(options), Path(scratch))
            bench = Bench(photographs, options.count, options.rounds, Path(scratch), options.dlib_model)
            rows = measured(bench, names)
    except (InputError, MeasurementError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\n{machine()}; {options.count} images, {min(options.count, len(photographs.files))} of them different\n")
    print(markdown_table(HEADER, map(row_cells, rows)))
    return 0


def measured(bench: Bench, names: Sequence[str]) -> list[Row]:
    """Return the rows of some parts."""
    rows = []
    for name in names:
        start = time.perf_counter()
        further = PARTS[name](bench)
        rows += further
        for line in further:
            announce("  ".join(row_cells(line)))
        announce(f"{name}: {time.perf_counter() - start:.0f} s")
    return rows


if __name__ == "__main__":
    sys.exit(main())
