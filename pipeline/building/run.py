"""``attparse run``: read the data set, plan its shards, build those that are not done yet."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterable, Mapping, Sequence

from pipeline import storage
from pipeline.building.graph import BuildShards
from pipeline.building.output_folder import check_apart, prepared_output, save_pending_plans
from pipeline.building.plan import plan_shards
from pipeline.building.runner import Runner
from pipeline.building.settings import BuildSettings
from pipeline.building.versions import CROP_STAGES, names_of, versions
from pipeline.config import RunConfig
from pipeline.detection.settings import detector_settings
from pipeline.errors import InputError
from pipeline.formats.dataset_json import DatasetFile, read_dataset_file
from pipeline.formats.run_folder import MANIFEST, RunFolder
from pipeline.inputs.dataset import held_messages, read_dataset
from pipeline.records import Dataset, ShardPlan
from pipeline.vocabulary import MISSING, UNLABELLED
from regions.attributes import MAX_BYTES, PACKAGED_TABLES, AttributeTable, TableError, load_packaged_table, parse_table
from regions.messages import counted

log = logging.getLogger("attparse")

CROP_VERSIONS = names_of(CROP_STAGES)
"""Crops made with equal ones of these, from the same file and box, are byte-identical."""


def run(config: RunConfig) -> DatasetFile | None:
    """Build the shards of a data set that are not there yet.

    Returns
    -------
    DatasetFile or None
        The content of dataset.json; None after a dry run, which writes nothing.

    Raises
    ------
    InputError
        If the arguments or the input cannot be used.
    RunError
        If the pipeline failed.
    """
    models = [path for path in (config.landmarker, config.dlib_model) if path is not None]
    runner = Runner(config.beam_options, (config.images, config.output, *models))
    check_apart(config.images, config.output)
    _check_landmark_paths(config)
    detectors = detector_settings(config)
    own = versions(detectors)
    table = load_table(config.attribute_table)
    with held_messages():
        dataset = read_dataset(config)
        table = _of_labels(table, dataset.attribute_names, config.labels)
    settings = BuildSettings(
        images=config.images,
        output=config.output,
        table=table,
        crop=config.crop,
        seed=config.seed,
        skipped=dataset.skipped,
        annotations=detectors,
        versions=own,
        source=config.source,
        refine=config.refine,
        hint_files=tuple(path for path in (config.bboxes, config.points) if path is not None),
        kept_crops=run_with_same_crops(config.landmarks, config.crop, own),
    )
    _log_unmatched(config, dataset)
    return build_planned(runner, settings, plan_shards(dataset, settings, config.samples_per_shard))


def build_planned(runner: Runner, settings: BuildSettings, plans: Iterable[ShardPlan]) -> DatasetFile | None:
    """Build the planned shards that are not done yet, and complete the run.

    Returns
    -------
    DatasetFile or None
        The content of dataset.json; None after a dry run, which writes nothing.

    Raises
    ------
    InputError
        If the output folder cannot be used or has other shards.
    RunError
        If the pipeline failed.
    """
    if runner.is_dry:
        images_of_shard = {plan.name: len(plan.images) for plan in plans}
        names = list(images_of_shard)
        runner.check(names, BuildShards(settings, names))
        log.info("%s, %s", counted(sum(images_of_shard.values()), "image"), counted(len(images_of_shard), "shard"))
        return None
    with prepared_output(settings.output):
        pending, names = save_pending_plans(settings.images, settings.output, plans)
        runner.build(settings.output, pending, BuildShards(settings, names))
        return read_dataset_file(settings.output)


def load_table(name_or_path: str) -> AttributeTable:
    """Load a packaged attribute table or one from a file.

    Raises
    ------
    InputError
        If the table cannot be used.
    """
    try:
        if name_or_path in PACKAGED_TABLES:
            return load_packaged_table(name_or_path)
        with storage.explained(name_or_path, f"a TOML file or one of {', '.join(PACKAGED_TABLES)}"):
            text = storage.read_bytes(name_or_path, MAX_BYTES).decode("utf-8-sig")
        return parse_table(text, name_or_path)
    except TableError as error:
        raise InputError(str(error)) from None
    except UnicodeDecodeError:
        raise InputError(f"{name_or_path}: not UTF-8 text, expected a TOML attribute table") from None


def _of_labels(table: AttributeTable, attribute_names: Sequence[str], label_file: str) -> AttributeTable:
    try:
        return table.for_attributes(attribute_names, label_file)
    except TableError as error:
        raise InputError(str(error)) from None


def _check_landmark_paths(config: RunConfig) -> None:
    """Refuse landmarks out of the folder that is written to: a run that fails would have lost them."""
    for path in config.landmarks:
        if storage.is_below(path, config.output):
            raise InputError(f"--landmarks {path} is in --output {config.output}: choose another --output")


def _log_unmatched(config: RunConfig, dataset: Dataset) -> None:
    """Say how many label rows have no image and how many images no label row, and which option leaves them out."""
    images = dataset.images
    missing = [i for i, reason in zip(images.image_ids, images.reasons, strict=True) if reason == MISSING]
    unlabelled = [i for i, reason in zip(images.image_ids, images.reasons, strict=True) if reason == UNLABELLED]
    if missing:
        log.warning(
            "no image in %s for %d of %s (the first: %s), rejected as missing; --skip_missing leaves them out",
            config.images, len(missing), counted(len(images) - len(unlabelled), "label row"), missing[0],
        )  # fmt: skip
    if unlabelled:
        log.warning(
            "no label row in %s for %s (the first: %s), rejected as unlabelled; --skip_unlabelled leaves them out",
            config.labels, counted(len(unlabelled), "image"), unlabelled[0],
        )  # fmt: skip
    if dataset.skipped:
        log.info("no image in %s for %s, left out", config.images, counted(dataset.skipped, "label row"))


def run_with_same_crops(paths: Sequence[str], crop: str, versions: Mapping[str, str | int]) -> str | None:
    """Return the last run among the paths if its crops are those that the new run would make.

    Parameters
    ----------
    paths : sequence of str
        Runs or their manifest folders, and other sources of landmarks.
    crop : str
        ``face`` or ``none``.
    versions : mapping
        Of the new run.
    """
    for path in reversed(paths):
        parent, name = posixpath.split(path.rstrip("/"))
        folder = parent if name == MANIFEST else path
        if not storage.exists(RunFolder(folder).dataset_json):
            continue
        try:
            former = read_dataset_file(folder)
        except InputError:  # another format: its landmarks are usable all the same
            return None
        equal = all(former.versions.get(name) == versions[name] for name in CROP_VERSIONS)
        same = former.crop == crop and equal
        return folder if same else None
    return None
