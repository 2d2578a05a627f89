"""Building one shard from its plan."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Generator, Iterator

import numpy as np

from pipeline import storage
from pipeline.building import progress
from pipeline.building.plan import load_plan, sources_hash
from pipeline.building.settings import Annotator, BuildSettings
from pipeline.building.stopwatch import Stopwatch
from pipeline.errors import InputError, ReadError, RunError
from pipeline.formats import manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import SampleWriter
from pipeline.records import (
    AnnotatedImage,
    ImageRow,
    RejectedImage,
    ShardPlan,
    ShardSummary,
    UnbuiltShard,
    WrittenSample,
    is_sampled,
)

IMAGES_AT_ONCE = 32
"""Images whose masks are drawn together; it decides no bytes. Of each, little more than its crop is held."""


def build_shard(
    name: str, settings: BuildSettings, annotator: Annotator, stopwatch: Stopwatch
) -> ShardSummary | UnbuiltShard:
    """Build one shard from its saved plan: the tar file, then its manifest as the record of completion.

    Parameters
    ----------
    name : str
        Such as ``train-000000``.
    settings : BuildSettings
    annotator : Annotator
    stopwatch : Stopwatch
        Adds up the time of writing.

    Returns
    -------
    ShardSummary or UnbuiltShard
        An unbuilt shard leaves no file.

    Raises
    ------
    InputError
        If the source of the annotations is damaged.
    RuntimeError
        For an unforeseen error, with the image's id in the message.
    """
    try:
        plan = load_plan(settings.output, name)
    except ReadError as error:
        return UnbuiltShard(name, str(error))
    attributes = list(settings.table.attributes)
    rows: list[manifest.ManifestRow] = []
    labels = np.zeros_like(plan.images.labels)
    try:
        tar_file = storage.create(RunFolder(settings.output).shard(name))
        with tar_file as stream, contextlib.closing(_results(plan, annotator)) as results:
            writer = SampleWriter(stream)
            for result in results:
                if isinstance(result, WrittenSample):
                    with stopwatch.time("write"):
                        writer.add(result, plan.split, attributes)
                labels[len(rows)] = result.row.labels
                rows.append(manifest.manifest_row(result))
                progress.image_done(written=isinstance(result, WrittenSample))
            writer.close()
    except ReadError as error:
        return UnbuiltShard(name, str(error))
    summary = _summarize(plan, rows, writer)
    with stopwatch.time("write"):
        manifest.write_manifest(settings.output, rows, labels, attributes, summary)
    return summary


def _results(plan: ShardPlan, annotator: Annotator) -> Generator[WrittenSample | RejectedImage, None, None]:
    """Yield what becomes of each image, in order; errors name the image, or the first and the last of several."""
    rows = plan.images.rows()
    with annotator.of_shard(plan.name) as annotate:
        while batch := list(itertools.islice(rows, IMAGES_AT_ONCE)):
            found: list[AnnotatedImage | RejectedImage] = []
            for row in batch:
                with _named(plan, row):
                    found.append(annotate(row))
            with _named(plan, *batch):
                samples = iter(annotator.samples([image for image in found if isinstance(image, AnnotatedImage)]))
            for image in found:
                yield image if isinstance(image, RejectedImage) else next(samples)


@contextlib.contextmanager
def _named(plan: ShardPlan, *rows: ImageRow) -> Iterator[None]:
    """Name images in an unforeseen error."""
    try:
        yield
    except (InputError, RunError, ReadError):
        raise
    except Exception as error:
        several = f" to {rows[-1].image_id!r}" if len(rows) > 1 else ""
        raise RuntimeError(f"image {rows[0].image_id!r}{several} of shard {plan.name}: {error!r}") from error


def _summarize(plan: ShardPlan, rows: list[manifest.ManifestRow], writer: SampleWriter) -> ShardSummary:
    """Return the counts of a shard whose tar file is complete."""
    landmark_sources = Counter(row.landmark_source for row in rows if row.landmark_source)
    reasons = Counter(row.reason for row in rows if row.reason)
    hints = Counter(row.hint_agrees for row in rows)
    sampled = Counter(row.hint_agrees for row in rows if row.points is not None and is_sampled(row.image_id))
    return ShardSummary(
        name=plan.name,
        split=plan.split,
        fingerprint=plan.fingerprint,
        samples=sum(landmark_sources.values()),
        rejected=sum(reasons.values()),
        bytes=writer.bytes,
        sha256=writer.sha256,
        landmark_sources=dict(sorted(landmark_sources.items())),
        reasons=dict(sorted(reasons.items())),
        hints_agree=hints[True],
        hints_disagree=hints[False],
        sampled_hints_agree=sampled[True],
        sampled_hints_disagree=sampled[False],
        sources=sources_hash(plan.images),
    )
