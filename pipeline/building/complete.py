"""What follows when all shards are there: the report, then dataset.json as the last file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline import storage
from pipeline.building.plan import FORMAT_VERSION, plan_path, versions
from pipeline.formats.dataset_json import dataset_path
from pipeline.formats.manifest import read_summary
from pipeline.records import SPLITS, BuildSettings, RunError, ShardSummary
from pipeline.report.content import write_report
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH
from regions.masks import MASK_HEIGHT, MASK_WIDTH


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
    document = describe_dataset(settings, summaries)
    write_report(settings, document)
    storage.write_bytes(dataset_path(settings.output), json.dumps(document, indent=1).encode() + b"\n")
    for name in names:
        storage.delete(plan_path(settings.output, name))
    return dataset_path(settings.output)


def describe_dataset(settings: BuildSettings, summaries: Sequence[ShardSummary]) -> dict[str, Any]:
    """Return the content of dataset.json."""
    return {
        "format_version": FORMAT_VERSION,
        "attributes": list(settings.table.attributes),
        "regions": list(settings.table.region_names),
        "attribute_table": {
            "name": settings.table.name,
            "attributes": {name: list(regions) for name, regions in settings.table.attributes.items()},
            "further_regions": {k: [list(o) for o in v] for k, v in settings.table.further_regions.items()},
        },
        "image_size": [IMAGE_HEIGHT, IMAGE_WIDTH],
        "mask_size": [MASK_HEIGHT, MASK_WIDTH],
        "images": settings.images,
        "crop": settings.crop,
        "refine": settings.refine,
        "seed": settings.seed,
        "samples": sum(summary.samples for summary in summaries),
        "rejected": sum(summary.rejected for summary in summaries),
        "skipped_missing": settings.skipped,
        "splits": {
            split: {
                "shards": len(own),
                "samples": sum(summary.samples for summary in own),
                "rejected": sum(summary.rejected for summary in own),
            }
            for split in SPLITS
            if (own := [summary for summary in summaries if summary.split == split])
        },
        "landmark_sources": _add_up(summary.landmark_sources for summary in summaries),
        "rejects": _add_up(summary.reasons for summary in summaries),
        "versions": versions(settings.detectors),
        "shards": [
            {
                "name": summary.name,
                "split": summary.split,
                "samples": summary.samples,
                "rejected": summary.rejected,
                "bytes": summary.bytes,
                "sha256": summary.sha256,
            }
            for summary in summaries
        ],
    }


def _add_up(counts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total.most_common())
