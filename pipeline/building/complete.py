"""What follows when all shards are built: the report, then dataset.json as the last file."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import storage
from pipeline.building.settings import BuildSettings
from pipeline.errors import RunError
from pipeline.formats.dataset_json import RunDescription, build_dataset_file, write_dataset_file
from pipeline.formats.manifest import read_summary
from pipeline.formats.run_folder import RunFolder
from pipeline.records import UnbuiltShard
from pipeline.report.content import write_report
from regions.file_names import as_text
from regions.messages import counted

MAX_NAMED = 3
"""Unbuilt shards that a message names."""


def complete_run(settings: BuildSettings, names: Sequence[str], unbuilt: Sequence[UnbuiltShard] = ()) -> str:
    """Complete a run whose shards are all built.

    Parameters
    ----------
    settings : BuildSettings
    names : sequence of str
        All shards, in order.
    unbuilt : sequence of UnbuiltShard
        Those that could not be built.

    Returns
    -------
    str
        Path of dataset.json, with escapes in place of bytes that are not UTF-8, which Beam cannot pass on.

    Raises
    ------
    RunError
        If a shard could not be built or has no manifest.
    """
    if unbuilt:
        raise RunError(_read_problem(settings.output, names, unbuilt))
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
    return as_text(RunFolder(settings.output).dataset_json)


def _read_problem(output: str, names: Sequence[str], unbuilt: Sequence[UnbuiltShard]) -> str:
    """Return one line that names unbuilt shards, the files and the errors."""
    ordered = sorted(unbuilt, key=lambda shard: shard.name)
    named = [f"{shard.name}: {shard.problem}" for shard in ordered[:MAX_NAMED]]
    if len(ordered) > MAX_NAMED:
        named.append(f"and {len(ordered) - MAX_NAMED} more")
    return (
        f"{output}: {len(ordered)} of {counted(len(names), 'shard')} not built, because a file could not be read:"
        f" {'; '.join(named)}. Run the same command again to build them"
    )


def describe_run(settings: BuildSettings) -> RunDescription:
    """Return what dataset.json records of a run beside the counts of its shards."""
    return RunDescription(
        attparse_version=settings.attparse_version,
        source=settings.source,
        table=settings.table,
        images=as_text(settings.images),
        hint_files=tuple(as_text(path) for path in settings.hint_files),
        crop=settings.crop,
        refine=settings.refine,
        seed=settings.seed,
        skipped_missing=settings.skipped,
        versions=settings.versions,
    )
