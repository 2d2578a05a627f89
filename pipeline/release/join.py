"""``attparse join``: the training set again, from a release and the reader's own images; no detector runs.

A join is a run whose annotations come from the release, so it resumes, reports errors and runs on every
runner as `pipeline.building.run` does.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.building.output_folder import check_apart
from pipeline.building.plan import fingerprint
from pipeline.building.run import build_planned
from pipeline.building.runner import Runner
from pipeline.building.settings import BuildSettings
from pipeline.building.versions import installed_version, names_of
from pipeline.config import JoinConfig
from pipeline.errors import InputError
from pipeline.formats import manifest
from pipeline.formats.dataset_json import DatasetFile, ShardEntry
from pipeline.inputs.dataset import check_match, read_labels
from pipeline.local_files import ABSENT
from pipeline.records import ImageTable, ShardPlan
from pipeline.release.annotations import ReleaseAnnotations, check_file
from pipeline.release.release_json import (
    LANDMARKS,
    ReleaseFile,
    list_release,
    mask_shard,
    read_release_file,
)
from pipeline.release.release_reader import check_all_rows
from pipeline.vocabulary import MISSING, SPLITS, UNLABELLED, RejectReason
from regions.attributes import AttributeTable, TableError
from regions.label_file import UNKNOWN
from regions.messages import counted

log = logging.getLogger("attparse")

LabelsById = Mapping[str, npt.NDArray[np.int8]]
"""Labels ``(attributes,)`` by image id."""


class ShardIds(NamedTuple):
    """The images of a shard in a release, in order.

    Attributes
    ----------
    image_ids, keys : list of str
    """

    image_ids: list[str]
    keys: list[str]


class JoinedRun(NamedTuple):
    """What a join made.

    Attributes
    ----------
    dataset : DatasetFile
        Content of its dataset.json.
    equal : int
        Number of shards that are byte-identical to the publisher's.
    """

    dataset: DatasetFile
    equal: int


def join(config: JoinConfig) -> JoinedRun | None:
    """Build the shards of a release with the reader's images; shards that are complete already are kept.

    Returns
    -------
    JoinedRun or None
        None after a dry run, which writes nothing.

    Raises
    ------
    InputError
        If the release is damaged or the arguments cannot be used.
    RunError
        If the pipeline failed.
    """
    runner = Runner(config.beam_options, (config.release, config.images, config.output))
    check_apart(config.images, config.output)
    release = _open_release(config)
    labels, table = _labels_and_table(config, release)
    annotations = ReleaseAnnotations(config.release, release, has_labels=labels is None)
    published = release.dataset.versions
    own = {name: version for name in names_of(annotations.stages) if (version := installed_version(name)) is not None}
    _log_other_versions(published, own)
    settings = BuildSettings(
        images=config.images,
        output=config.output,
        table=table,
        crop=release.dataset.crop,
        seed=release.dataset.seed,
        skipped=release.dataset.skipped_missing,
        annotations=annotations,
        versions={**published, **own},
        source=release.dataset.source,
        refine=release.dataset.refine,
    )
    ids = [_read_ids(annotations, shard) for shard in release.dataset.shards]
    files = storage.list_versions(config.images, [image_id for shard in ids for image_id in shard.image_ids])
    plans = list(plan_join(settings, annotations, ids, labels, files))
    _check_images(config, release, plans, labels, files)
    dataset = build_planned(runner, settings, plans)
    if dataset is None:
        return None
    pairs = zip(dataset.shards, release.dataset.shards, strict=True)
    return JoinedRun(dataset, sum(ours.sha256 == theirs.sha256 for ours, theirs in pairs))


def _open_release(config: JoinConfig) -> ReleaseFile:
    release = read_release_file(config.release)
    path = storage.join(config.release, LANDMARKS)
    with storage.explained(path):
        check_file(config.release, release, LANDMARKS)
    found = list_release(config.release)
    for name in release.mask_shards():
        if name not in found:
            raise InputError(f"{storage.join(config.release, name)}: no such file, though the release lists it")
    if storage.is_below(config.output, config.release) or storage.is_below(config.release, config.output):
        raise InputError(f"--output {config.output}: expected a folder apart from the release, {config.release}")
    if config.labels is None and not release.labels:
        raise InputError(f"{config.release}: the release holds no labels, expected --labels FILE")
    return release


def _check_images(
    config: JoinConfig,
    release: ReleaseFile,
    plans: Sequence[ShardPlan],
    labels: LabelsById | None,
    files: storage.FileVersions,
) -> None:
    """Refuse a release with unusable ids, and images and labels of which none belongs to it."""
    path = storage.join(config.release, LANDMARKS)
    image_ids = [image_id for plan in plans for image_id in plan.images.image_ids]
    check_all_rows(config.release, release, image_ids, [key for plan in plans for key in plan.images.keys])
    check_match(path, image_ids, config.images, files)
    if labels and image_ids and labels.keys().isdisjoint(image_ids):
        raise InputError(
            f"{config.labels}: none of {counted(len(labels), 'image id')} is in {path}: found {next(iter(labels))!r},"
            f" expected names such as {image_ids[0]!r}"
        )


def _labels_and_table(config: JoinConfig, release: ReleaseFile) -> tuple[LabelsById | None, AttributeTable]:
    """Return the reader's labels, None where those of the release are used, and the table for their attributes."""
    table = release.dataset.table()
    if config.labels is None:
        return None, table
    read = read_labels(config.labels)
    try:
        table = table.for_attributes(read.names, config.labels)
    except TableError as error:
        raise InputError(str(error)) from None
    return dict(zip(read.image_ids, read.values, strict=True)), table


def _log_other_versions(published: Mapping[str, str | int], own: Mapping[str, str | int]) -> None:
    other = [
        f"{name} {published[name]} there, {version} here"
        for name, version in own.items()
        if name in published and published[name] != version
    ]
    if other:
        log.warning("made with other versions, so shards may differ in their bytes: %s", "; ".join(other))


def _read_ids(annotations: ReleaseAnnotations, shard: ShardEntry) -> ShardIds:
    rows = annotations.read_rows(shard)
    return ShardIds(rows["image_id"].to_pylist(), rows["key"].to_pylist())


def plan_join(
    settings: BuildSettings,
    annotations: ReleaseAnnotations,
    ids: Sequence[ShardIds],
    labels: LabelsById | None,
    files: storage.FileVersions,
) -> Iterator[ShardPlan]:
    """Plan the shards of a release as they are.

    Parameters
    ----------
    settings : BuildSettings
    annotations : ReleaseAnnotations
    ids : sequence of ShardIds
        Of each shard.
    labels : mapping of str to ndarray, or None
        The reader's own; None where the workers take those of the release.
    files : mapping of str to FileVersion
        The files in the reader's image folder.
    """
    for shard, shard_ids in zip(annotations.release.dataset.shards, ids, strict=True):
        table = _image_table(shard, shard_ids, len(settings.table.attributes), labels, files)
        yield ShardPlan(shard.name, shard.split, table, _fingerprint(settings, annotations, shard, table))


def _image_table(
    shard: ShardEntry, ids: ShardIds, num_attributes: int, labels: LabelsById | None, files: storage.FileVersions
) -> ImageTable:
    image_ids = ids.image_ids
    count = len(image_ids)
    versions = [files.get(image_id, ABSENT) for image_id in image_ids]
    values = np.full((count, num_attributes), UNKNOWN, dtype=np.int8)
    for index, image_id in enumerate(image_ids):
        if labels is not None and image_id in labels:
            values[index] = labels[image_id]
    return ImageTable(
        image_ids=image_ids,
        keys=ids.keys,
        reasons=[_reason(image_id, labels, files) for image_id in image_ids],
        splits=np.full(count, SPLITS.index(shard.split), dtype=np.uint8),
        labels=values,
        sizes=np.array([version.size for version in versions], dtype=np.int64),
        modified=np.array([version.modified for version in versions], dtype=np.int64),
        bboxes=np.full((count, 4), np.nan, dtype=np.float32),
        points=np.full((count, 5, 2), np.nan, dtype=np.float32),
        landmarks=np.zeros((count, 0, 2), dtype=np.float32),
    )


def _reason(image_id: str, labels: LabelsById | None, files: storage.FileVersions) -> RejectReason | None:
    if labels is not None and image_id not in labels:
        return UNLABELLED
    return None if image_id in files else MISSING


def _fingerprint(
    settings: BuildSettings, annotations: ReleaseAnnotations, shard: ShardEntry, images: ImageTable
) -> str:
    """Return the fingerprint of a shard, the hash of its own mask file included where that is used."""
    own = fingerprint(settings, shard.split, images)
    if not annotations.has_labels or not shard.samples:
        return own
    return hashlib.sha256((own + annotations.release.files[mask_shard(shard.name)].sha256).encode()).hexdigest()


def rejected_images(output: str, dataset: DatasetFile) -> dict[str, list[str]]:
    """Return the ids of the images that a join left out, by reason.

    Parameters
    ----------
    output : str
    dataset : DatasetFile
        Content of its dataset.json.
    """
    rejected: dict[str, list[str]] = {}
    for shard in dataset.shards:
        if shard.rejected:
            for row in manifest.read_manifest(output, shard.name, ["image_id", "reason"]).to_pylist():
                if row["reason"]:
                    rejected.setdefault(row["reason"], []).append(row["image_id"])
    return rejected
