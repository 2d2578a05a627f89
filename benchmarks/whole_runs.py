"""Whole runs in processes of their own: their start, their rate by workers, their memory."""

from __future__ import annotations

import shutil
import statistics
from dataclasses import replace
from pathlib import Path

from PIL import Image

from benchmarks.bench import Bench
from benchmarks.images import Photographs, link_images, run_arguments
from benchmarks.measure import Cost, command_cost
from benchmarks.table import Row, median_row, row
from pipeline.config import RunConfig

THREADS, PROCESSES = "multi_threading", "multi_processing"
WAYS = {"1 thread": (THREADS, 1), "2 threads": (THREADS, 2), "2 processes": (PROCESSES, 2)}
START_ROUNDS = 3
LARGE = (8984, 7122)
"""Width and height of the largest image of CelebA."""


def run_cost(config: RunConfig, output: Path, mode: str, workers: int, shards: int = 16) -> Cost:
    """Return what a run costs; its output is removed."""
    count = sum(1 for _ in Path(config.images).iterdir())
    options = [f"--direct_running_mode={mode}", f"--direct_num_workers={workers}", "--min_coverage=0"]
    options += [f"--output={output}", f"--samples_per_shard={max(1, count // shards)}"]
    cost = command_cost(["pipeline", "run", *run_arguments(config), *options])
    shutil.rmtree(output)
    return cost


def start_rows(bench: Bench) -> list[Row]:
    """Compare the start of a run, over two images, with that of the floor over one."""
    config = link_images(bench.photographs.repeated(2), bench.scratch / "start")
    file = str(bench.photographs.files[0])
    rounds: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(START_ROUNDS):
        floor = command_cost(["benchmarks.floor", file]).wall
        for way, (mode, workers) in WAYS.items():
            rounds[way].append((run_cost(config, bench.scratch / "start_run", mode, workers).wall, floor))
    return [median_row(f"run of 2 images, {way}, against the floor's start", "s", rounds[way]) for way in WAYS]


def worker_rows(bench: Bench) -> list[Row]:
    """Compare the rates of whole runs, their start left out, with two workers and with one; then their memory."""
    few = link_images(bench.photographs.repeated(2), bench.scratch / "few")
    output = bench.scratch / "worker_run"
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    peaks: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(START_ROUNDS):
        for way, (mode, workers) in WAYS.items():
            start = run_cost(few, output, mode, workers).wall
            cost = run_cost(bench.data_set, output, mode, workers)
            rates[way].append(bench.count / (cost.wall - start))
            peaks[way].append(cost.peak_mb)
    single, *others = WAYS
    rows = [
        median_row(
            f"rate with {way}, start left out, against 1 thread",
            "images/s",
            zip(rates[way], rates[single], strict=True),
        )
        for way in others
    ]
    rows += [
        median_row(f"peak memory with {way}, against 1 thread", "MB", zip(peaks[way], peaks[single], strict=True))
        for way in others
    ]
    return [*rows, _large_images_row(bench, statistics.median(peaks["2 threads"]))]


def _large_images_row(bench: Bench, without: float) -> Row:
    """Compare the memory of two threads where two of the images are the largest of CelebA with that without these."""
    folder = bench.scratch / "large"
    folder.mkdir()
    chosen = bench.photographs.repeated(bench.count)
    files = list(chosen.files)
    for index in range(2):
        with Image.open(files[index]) as image:
            image.convert("RGB").resize(LARGE).save(folder / f"{index}.jpg")
        files[index] = folder / f"{index}.jpg"
    config = link_images(Photographs(tuple(files), chosen.bboxes, chosen.points), folder / "data_set")
    cost = run_cost(replace(config, bboxes=None, points=None), bench.scratch / "large_run", THREADS, 2)
    return row("peak memory with two images of 64 megapixels, against none", "MB", cost.peak_mb, without)
