"""The annotation of images in this process, in one thread, shard by shard."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from pipeline.building.annotate import open_annotator
from pipeline.building.plan import plan_shards, save_plan
from pipeline.building.run import load_table
from pipeline.building.settings import BuildSettings
from pipeline.building.shard import build_shard
from pipeline.building.stopwatch import Stopwatch
from pipeline.building.versions import versions
from pipeline.config import RunConfig
from pipeline.detection.settings import detector_settings
from pipeline.inputs.dataset import read_dataset


class CpuStopwatch(Stopwatch):
    """Adds up the CPU time of each stage, which other work of the machine does not change."""

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the CPU time of a block, that of FaceMesh's own threads included, to a stage."""
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[stage] += time.process_time() - start


class Annotation:
    """The work of a run on its images, from file to shard, and nothing else: no Beam, no start.

    Parameters
    ----------
    config : RunConfig
        Its output folder must not exist.
    shards : int
        Number of shards of equal size.
    kept_crops : str, optional
        A former run, the landmarks of which `config` gives, whose crops are used again.

    Attributes
    ----------
    plans : list of ShardPlan
    stopwatch : CpuStopwatch
        The CPU time of each stage.
    """

    def __init__(self, config: RunConfig, shards: int, kept_crops: str | None = None) -> None:
        dataset = read_dataset(config)
        detectors = detector_settings(config)
        self._settings = BuildSettings(
            images=config.images,
            output=config.output,
            table=load_table(config.attribute_table).for_attributes(dataset.attribute_names),
            crop=config.crop,
            seed=config.seed,
            skipped=0,
            annotations=detectors,
            versions=versions(detectors),
            refine=config.refine,
            kept_crops=kept_crops,
        )
        self.plans = list(plan_shards(dataset, self._settings, -(-len(dataset.images) // shards)))
        for folder in ("plan", "shards", "manifest"):
            os.makedirs(os.path.join(config.output, folder))
        for plan in self.plans:
            save_plan(config.output, plan)
        self.stopwatch = CpuStopwatch()
        self._annotator = open_annotator(self._settings, self.stopwatch)

    def build(self, index: int) -> None:
        """Build the shard with an index into `plans`."""
        build_shard(self.plans[index].name, self._settings, self._annotator, self.stopwatch)

    def files(self, index: int) -> list[str]:
        """Return the paths of the images of a shard."""
        return [os.path.join(self._settings.images, image_id) for image_id in self.plans[index].images.image_ids]

    def warm_up(self) -> None:
        """Build a shard, so that what is done once does not count."""
        self.build(0)
        self.stopwatch.seconds.clear()

    def close(self) -> None:
        """Free the detectors."""
        self._annotator.close()
