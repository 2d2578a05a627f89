"""How a run grows with its images: time in proportion, memory not at all.

The images are hard links to the same few photographs, under names of their own, so that the file system's cache holds
them all: what grows is the work on them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.images import Photographs, add_image_options, link_images, load_photographs, named_images
from benchmarks.measure import Cost, MeasurementError, announce
from benchmarks.table import HEADER, Row, machine, markdown_table, number, row, row_cells
from benchmarks.whole_runs import THREADS, run_cost
from pipeline.errors import InputError
from regions.interrupts import termination_as_interrupt

SIZES = "1000,2000,4000,8000"
WORKERS = 2
IMAGES_PER_SHARD = 250


def main(arguments: Sequence[str] | None = None) -> int:
    """Run over ever more images and print what it costs; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    add_image_options(parser)
    parser.add_argument("--sizes", default=SIZES, metavar="N,N,N", help=f"numbers of images (default: {SIZES})")
    options = parser.parse_args(arguments)
    sizes = sorted({int(size) for size in options.sizes.split(",")})
    if len(sizes) < 3 or sizes[0] < 1:
        parser.error(f"--sizes is {options.sizes}, expected at least three positive numbers")
    try:
        with termination_as_interrupt(), tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            photographs = load_photographs(named_images(options), Path(scratch))
            costs = {size: cost_of_size(photographs, size, Path(scratch) / str(size)) for size in sizes}
    except (InputError, MeasurementError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\n{machine()}; {WORKERS} threads\n")
    print(markdown_table(("images", "seconds", "CPU seconds", "images/s", "peak MB"), cost_cells(costs)))
    print("\n" + markdown_table(HEADER, map(row_cells, fit_rows(costs))))
    return 0


def cost_of_size(photographs: Photographs, size: int, folder: Path) -> Cost:
    """Return what a run over so many images costs."""
    config = link_images(photographs.repeated(size), folder)
    cost = run_cost(config, folder / "run", THREADS, WORKERS, shards=max(WORKERS, size // IMAGES_PER_SHARD))
    announce(f"{size} images: {cost.wall:.0f} s")
    return cost


def cost_cells(costs: Mapping[int, Cost]) -> list[tuple[str, ...]]:
    """Return the lines of the table, as text."""
    return [
        (f"{size:,}", *map(number, (cost.wall, cost.cpu, size / cost.wall, cost.peak_mb)))
        for size, cost in costs.items()
    ]


def fit_rows(costs: Mapping[int, Cost]) -> list[Row]:
    """Compare what the last images cost with what the first ones cost, the start left out, and the memory.

    Parameters
    ----------
    costs : mapping of int to Cost
        By number of images, ascending, at least three.
    """
    sizes = list(costs)
    (first, second), (last_but_one, last) = sizes[:2], sizes[-2:]

    def further(fewer: int, more: int, unit: str) -> float:
        """Return milliseconds for each image that a size has more than another."""
        seconds: float = getattr(costs[more], unit) - getattr(costs[fewer], unit)
        return seconds / (more - fewer) * 1e3

    rows = [
        row(
            f"{name} per further image, {last:,} against {second:,} images",
            "ms",
            further(last_but_one, last, unit),
            further(first, second, unit),
        )
        for name, unit in (("time", "wall"), ("CPU", "cpu"))
    ]
    return [
        *rows,
        row(f"peak memory, {last:,} against {first:,} images", "MB", costs[last].peak_mb, costs[first].peak_mb),
    ]


if __name__ == "__main__":
    sys.exit(main())
