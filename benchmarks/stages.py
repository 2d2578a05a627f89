"""Where the time of an image goes, in one thread, and what a former run saves."""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import replace

import numpy as np

from benchmarks.annotation import Annotation
from benchmarks.bench import Bench
from benchmarks.measure import cpu_seconds
from benchmarks.table import Row, median_row, row
from pipeline.building.refine import Refiner
from pipeline.building.stopwatch import STAGES
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import read_samples
from regions.masks import MASK_HEIGHT, MASK_WIDTH

REFINED = 100
"""Number of crops whose background is removed."""


def stage_rows(bench: Bench) -> list[Row]:
    """Measure each stage of the annotation with points, then the same shards built from those of a former run."""
    config = replace(bench.data_set, output=str(bench.scratch / "stages"))
    with contextlib.closing(Annotation(config, bench.rounds)) as annotation:
        annotation.warm_up()
        per_image: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "all")}
        for index, plan in enumerate(annotation.plans):
            annotation.stopwatch.seconds.clear()
            total = cpu_seconds(annotation.build, index)
            for stage, seconds in (*annotation.stopwatch.seconds.items(), ("all", total)):
                per_image[stage].append(seconds / len(plan.images) * 1e3)
        medians = {stage: statistics.median(values) for stage, values in per_image.items() if values}
        rows = [row(f"CPU per image of stage {stage}", "ms", value) for stage, value in medians.items()]
        rows += [_former_run_row(bench, annotation, config.output), _refine_row(config.output, annotation)]
    return rows


def _former_run_row(bench: Bench, first: Annotation, former: str) -> Row:
    """Compare building with the landmarks and crops of a former run with building from nothing."""
    config = replace(bench.data_set, output=str(bench.scratch / "stages_again"), landmarks=(former,))
    with contextlib.closing(Annotation(config, bench.rounds, kept_crops=former)) as again:
        again.warm_up()
        rounds = []
        for index, plan in enumerate(again.plans):
            ours, other = (cpu_seconds(way.build, index) / len(plan.images) * 1e3 for way in (again, first))
            rounds.append((ours, other))
    return median_row("CPU per image with a former run, against none", "ms", rounds)


def _refine_row(output: str, annotation: Annotation) -> Row:
    """Measure what removing the background from the masks costs."""
    samples = read_samples(RunFolder(output).shard(annotation.plans[0].name))
    crops = [sample.jpeg for sample, _ in zip(samples, range(REFINED), strict=False)]
    outline_map = np.zeros((2, MASK_HEIGHT, MASK_WIDTH), dtype=np.uint8)
    with contextlib.closing(Refiner()) as refiner:
        refiner.refine(outline_map, crops[0])
        seconds = sum(cpu_seconds(refiner.refine, outline_map, jpeg) for jpeg in crops)
    return row("CPU per image of --refine segmentation", "ms", seconds / len(crops) * 1e3)
