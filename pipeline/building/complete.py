"""What follows when all shards are there: the report, then dataset.json as the last file."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import storage
from pipeline.building.plan import versions
from pipeline.errors import RunError
from pipeline.formats.dataset_json import RunDescription, build_dataset_file, write_dataset_file
from pipeline.formats.manifest import read_summary
from pipeline.formats.run_folder import RunFolder
from pipeline.records import BuildSettings
from pipeline.report.content import write_report


def finish(settings: BuildSettings, names: Sequence[str]) -> str:
    """Complete a run whose shards are all built.

    Parameters
    ----------
    settings : BuildSettings
    names : sequence of str
        All shards, in order.

    Returns
    -------
    str
        Path of dataset.json.

    Raises
    ------
    RunError
        If a shard has no manifest.
    """
    summaries = []
    for name in names:
        summary = read_summary(settings.output, name)
        if summary is None:
            raise RunError(f"{settings.output}: shard {name} has no manifest, though it was built")
        summaries.append(summary)
    dataset = build_dataset_file(describe_run(settings), summaries)
    write_report(settings.output, dataset)
    write_dataset_file(settings.output, dataset)
    for name in names:
        storage.delete(RunFolder(settings.output).plan(name))
    return RunFolder(settings.output).dataset_json


def describe_run(settings: BuildSettings) -> RunDescription:
    """Return what dataset.json records of a run beside the counts of its shards."""
    return RunDescription(
        source=settings.source,
        table=settings.table,
        images=settings.images,
        crop=settings.crop,
        refine=settings.refine,
        seed=settings.seed,
        skipped_missing=settings.skipped,
        versions=versions(settings.detectors),
    )
