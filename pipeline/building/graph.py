"""The Beam graph: shard names in, shards out, one report and dataset.json at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline.building.annotate import open_annotator
from pipeline.building.complete import complete_run
from pipeline.building.settings import BuildSettings
from pipeline.building.shard import UnbuiltShard, build_shard
from pipeline.building.stopwatch import STAGES, Stopwatch
from pipeline.records import ShardSummary

METRICS = "attparse"


class BuildShards(beam.PTransform):  # type: ignore[misc]
    """Build the named shards from their saved plans, then complete the data set.

    One element is one shard, so no image bytes are ever shuffled and a finished shard survives any
    crash. The input may be empty: then the data set is only completed.

    Parameters
    ----------
    settings : BuildSettings
    all_names : sequence of str
        All shards of the data set, those built before included.
    """

    def __init__(self, settings: BuildSettings, all_names: Sequence[str]) -> None:
        super().__init__()
        self._settings = settings
        self._all_names = list(all_names)

    def expand(self, names: beam.PCollection[str]) -> beam.PCollection[str]:
        """Wire the steps."""
        return (
            names
            | "Spread" >> beam.Reshuffle()
            | "BuildShard" >> beam.ParDo(BuildShard(self._settings))
            | "Collect" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "Complete" >> beam.Map(_complete, self._settings, self._all_names)
        )


class BuildShard(beam.DoFn):  # type: ignore[misc]
    """Holds the annotator and the counters for `pipeline.building.shard.build_shard`."""

    def __init__(self, settings: BuildSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        """Open the annotator, once per worker thread."""
        self._stopwatch = Stopwatch()
        self._annotator = open_annotator(self._settings, self._stopwatch)

    def process(self, name: str) -> Iterator[ShardSummary | UnbuiltShard]:
        """Build one shard."""
        built = build_shard(name, self._settings, self._annotator, self._stopwatch)
        if isinstance(built, ShardSummary):
            self._count(built)
        yield built

    def _count(self, summary: ShardSummary) -> None:
        Metrics.counter(METRICS, "shards").inc()
        for kind, counts in (("written", summary.landmark_sources), ("rejected", summary.reasons)):
            for name, count in counts.items():
                Metrics.counter(METRICS, f"{kind}_{name}").inc(count)
        for stage in STAGES:
            Metrics.counter(METRICS, f"microseconds_{stage}").inc(int(self._stopwatch.seconds.pop(stage, 0) * 1e6))

    def teardown(self) -> None:
        """Close the annotator."""
        self._annotator.close()


def _complete(built: Sequence[ShardSummary | UnbuiltShard], settings: BuildSettings, all_names: Sequence[str]) -> str:
    return complete_run(settings, all_names, [shard for shard in built if isinstance(shard, UnbuiltShard)])
