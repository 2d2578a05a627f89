"""What a run costs: milliseconds per stage, images per second by workers, peak memory, bytes per sample.

Stages are timed in one thread of this process; whole runs in processes of their own, one with one
worker, one with two, and one with a 64-megapixel image among the images. Without options the
images are the built-in sample, repeated.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.building.annotate import open_annotator
from pipeline.building.plan import plan_shards, save_plan
from pipeline.building.refine import Refiner
from pipeline.building.run import load_table
from pipeline.building.settings import Annotator, BuildSettings
from pipeline.building.shard import build_shard
from pipeline.building.stopwatch import STAGES, Stopwatch
from pipeline.building.versions import versions
from pipeline.config import RunConfig
from pipeline.demo import make_sample
from pipeline.detection.settings import detector_settings
from pipeline.formats.manifest import completed_shard
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import read_samples
from pipeline.inputs.dataset import read_dataset, read_labels
from pipeline.records import Dataset
from regions.masks import MASK_HEIGHT, MASK_WIDTH

PAID_ANYHOW = ("decode", "detect")
LARGE = (8984, 7122)
"""Width and height of the largest image, 64 megapixels, as CelebA has some."""


def main() -> None:
    """Print all measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("images", "labels", "bboxes", "points"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--repeat", type=int, default=16, help="times the built-in sample is repeated (default: 16)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.images:
            config = RunConfig(options.images, options.labels, "", bboxes=options.bboxes, points=options.points)
        else:
            config = repeated_sample(Path(scratch), options.repeat)
        bench_stages(config, os.path.join(scratch, "stages"))
        bench_workers(config, Path(scratch))


def repeated_sample(folder: Path, repeat: int) -> RunConfig:
    """Return a run over copies of the images of the built-in sample that can be decoded."""
    sample = make_sample(str(folder / "sample"), "")
    header, *rows = Path(sample.labels).read_text(encoding="utf-8").splitlines()[1:]
    copies = [row for row in rows if not row.startswith(("corrupt", "no_face"))]
    lines = []
    for number in range(repeat):
        for row in copies:
            name, *values = row.rsplit(None, 40)
            shutil.copy(Path(sample.images) / name, folder / f"{number}_{name}")
            lines.append(" ".join([f"{number}_{name}", *values]))
    images = folder / "images"
    images.mkdir()
    for file in folder.glob("*_*.*"):
        file.rename(images / file.name)
    labels = folder / "labels.txt"
    labels.write_text("\n".join([str(len(lines)), header, *lines]) + "\n", encoding="utf-8")
    return RunConfig(str(images), str(labels), "")


def bench_stages(config: RunConfig, output: str) -> None:
    """Print milliseconds per image of each stage, in one thread, and bytes per sample."""
    dataset = read_dataset(config)
    table = load_table(config.attribute_table).for_attributes(dataset.attribute_names)
    detectors = detector_settings(config)
    settings = BuildSettings(config.images, output, table, config.crop, config.seed, 0, detectors, versions(detectors))
    for folder in ("plan", "shards", "manifest"):
        os.makedirs(os.path.join(output, folder))
    stopwatch = Stopwatch()
    annotator = open_annotator(settings, stopwatch)
    plans = list(plan_shards(dataset, settings, config.samples_per_shard))
    warm_up(annotator, dataset)
    stopwatch.seconds.clear()
    for plan in plans:
        save_plan(output, plan)
        build_shard(plan.name, settings, annotator, stopwatch)
    annotator.close()
    milliseconds = {
        stage: stopwatch.seconds[stage] / len(dataset.images) * 1e3 for stage in STAGES if stage in stopwatch.seconds
    }
    print(f"{len(dataset.images)} images, one thread; milliseconds per image:")
    for stage, value in milliseconds.items():
        print(f"  {stage:8} {value:6.2f}")
    rest = sum(value for stage, value in milliseconds.items() if stage not in PAID_ANYHOW)
    print(f"  all but {' and '.join(PAID_ANYHOW)}: {rest:.2f}; all: {sum(milliseconds.values()):.2f}")
    bench_former_run(config, settings, sum(stopwatch.seconds.values()))
    samples = [sample for plan in plans for sample in read_samples(RunFolder(output).shard(plan.name))]
    print(f"bytes per sample: image {np.mean([len(s.jpeg) for s in samples]):.0f},", end=" ")
    print(f"masks {np.mean([len(s.png) for s in samples]):.0f}")
    bench_refine([sample.jpeg for sample in samples])
    check = time.perf_counter()
    for plan in plans:
        completed_shard(output, plan.name, plan.fingerprint, RunFolder(output).shard(plan.name))
    print(f"checking that all is done already: {(time.perf_counter() - check) * 1e3:.0f} ms")


def bench_refine(crops: Sequence[bytes]) -> None:
    """Print what cutting the background out of the masks costs."""
    refiner = Refiner()
    outline_map = np.zeros((2, MASK_HEIGHT, MASK_WIDTH), dtype=np.uint8)
    start = time.perf_counter()
    for jpeg in crops:
        refiner.refine(outline_map, jpeg)
    taken = time.perf_counter() - start
    refiner.close()
    print(f"with --refine segmentation: {taken / len(crops) * 1e3:.2f} ms more per image")


def bench_former_run(config: RunConfig, settings: BuildSettings, seconds: float) -> None:
    """Print how much faster the same shards are built with the landmarks and crops of the run before."""
    former = settings.output
    again = replace(settings, output=f"{former}_again", kept_crops=former)
    for folder in ("plan", "shards", "manifest"):
        os.makedirs(os.path.join(again.output, folder))
    dataset = read_dataset(replace(config, landmarks=(former,)))
    stopwatch = Stopwatch()
    annotator = open_annotator(again, stopwatch)
    start = time.perf_counter()
    for plan in plan_shards(dataset, again, config.samples_per_shard):
        save_plan(again.output, plan)
        build_shard(plan.name, again, annotator, stopwatch)
    taken = time.perf_counter() - start
    annotator.close()
    milliseconds = taken / len(dataset.images) * 1e3
    print(f"with landmarks and crops of a former run: {milliseconds:.2f} ms, {seconds / taken:.1f} times faster")


def warm_up(annotator: Annotator, dataset: Dataset) -> None:
    """Annotate a few images, so that what is done once is not counted."""
    with annotator.of_shard("train-000000") as annotate:
        for row, _ in zip(dataset.images.rows(), range(5), strict=False):
            annotate(row)


def bench_workers(config: RunConfig, scratch: Path) -> None:
    """Print images per second and peak memory of whole runs with one and two workers."""
    count = len(read_labels(config.labels).image_ids)
    for mode, workers in (("multi_threading", 1), ("multi_threading", 2), ("multi_processing", 2)):
        options = [f"--direct_running_mode={mode}", f"--direct_num_workers={workers}"]
        seconds, peak = timed_run(config, scratch / f"{mode}{workers}", options, count)
        print(
            f"{workers} workers, {mode}: {count / seconds:.1f} images/s, start included;"
            f" peak memory {peak:.0f} MB{' in the largest process' if mode == 'multi_processing' else ''}"
        )
    with_large = add_large_images(config, scratch / "large")
    _, peak = timed_run(with_large, scratch / "workers_large", ["--direct_num_workers=2"], count)
    print(f"2 workers, two images of {LARGE[0]}x{LARGE[1]} among the images: peak memory {peak:.0f} MB")


def timed_run(config: RunConfig, output: Path, options: list[str], count: int) -> tuple[float, float]:
    """Run the command line in a process of its own; return seconds and peak memory in megabytes."""
    command = [sys.executable, "-m", "pipeline", "run", "--min_coverage=0", *options]
    command += [f"--output={output}", f"--samples_per_shard={max(1, count // 16)}"]
    for name in ("images", "labels", "bboxes", "points"):
        if value := getattr(config, name):
            command.append(f"--{name}={value}")
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss / (1 if sys.platform == "linux" else 1024) / 1e3


def add_large_images(config: RunConfig, folder: Path) -> RunConfig:
    """Return a run over a copy of the images in which two, one for each worker, are very large."""
    shutil.copytree(config.images, folder)
    for image_id in read_labels(config.labels).image_ids[:2]:
        with Image.open(folder / image_id) as image:
            image.convert("RGB").resize(LARGE).save(folder / image_id, "JPEG")
    return RunConfig(str(folder), config.labels, "", bboxes=config.bboxes, points=config.points)


if __name__ == "__main__":
    main()
