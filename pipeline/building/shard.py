"""Writing a shard from its plan."""

from __future__ import annotations

import contextlib
from collections import Counter

from pipeline import storage
from pipeline.building import progress
from pipeline.building.annotate import Annotator, Stopwatch
from pipeline.building.kept_crops import KeptCrops
from pipeline.building.plan import load_plan
from pipeline.formats import manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import SampleWriter
from pipeline.records import BuildSettings, ShardSummary, WrittenSample
from pipeline.vocabulary import Split


def build_shard(name: str, settings: BuildSettings, annotator: Annotator, stopwatch: Stopwatch) -> ShardSummary:
    """Build one shard from its saved plan: the tar file, then its manifest as the record of completion.

    Parameters
    ----------
    name : str
        Such as ``train-000000``.
    settings : BuildSettings
    annotator : Annotator
    stopwatch : Stopwatch
        Told how long writing took.

    Raises
    ------
    RuntimeError
        For an error that is not foreseen, with the image's id in the message.
    """
    plan = load_plan(settings.output, name)
    attributes = list(settings.table.attributes)
    rows: list[manifest.ManifestRow] = []
    kept_crops = KeptCrops(settings.kept_crops, name)
    with storage.create(RunFolder(settings.output).shard(name)) as stream, contextlib.closing(kept_crops):
        writer = SampleWriter(stream)
        for row in plan.images.rows():
            try:
                result = annotator.annotate(row, kept_crops.take(row.image_id))
            except Exception as error:
                raise RuntimeError(f"image {row.image_id!r} of shard {name}: {error!r}") from error
            if isinstance(result, WrittenSample):
                with stopwatch.time("write"):
                    writer.add(result, plan.split, attributes)
            rows.append(manifest.manifest_row(result))
            progress.image_done(written=isinstance(result, WrittenSample))
        writer.close()
    summary = summarize(plan.name, plan.split, plan.fingerprint, rows, writer)
    with stopwatch.time("write"):
        manifest.write_manifest(settings.output, rows, plan.images.labels, attributes, summary)
    return summary


def summarize(
    name: str, split: Split, fingerprint: str, rows: list[manifest.ManifestRow], writer: SampleWriter
) -> ShardSummary:
    """Return what became of a shard whose tar file is complete."""
    landmark_sources = Counter(row.landmark_source for row in rows if row.landmark_source)
    reasons = Counter(row.reason for row in rows if row.reason)
    return ShardSummary(
        name=name,
        split=split,
        fingerprint=fingerprint,
        samples=sum(landmark_sources.values()),
        rejected=sum(reasons.values()),
        bytes=writer.bytes,
        sha256=writer.sha256,
        landmark_sources=dict(sorted(landmark_sources.items())),
        reasons=dict(sorted(reasons.items())),
    )
