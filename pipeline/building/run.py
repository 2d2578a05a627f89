"""``attparse run``: read the data set, plan its shards, build those that are not done yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from pipeline import storage
from pipeline.building.kept_crops import run_with_same_crops
from pipeline.building.output_folder import prepared_output, save_pending_plans
from pipeline.building.plan import plan_shards
from pipeline.building.runner import Runner
from pipeline.building.settings import BuildSettings
from pipeline.building.versions import versions
from pipeline.config import RunConfig
from pipeline.detection.settings import detector_settings
from pipeline.errors import InputError
from pipeline.formats.dataset_json import DatasetFile, read_dataset_file
from pipeline.inputs.dataset import Dataset, read_dataset
from pipeline.records import ShardPlan, SourceDataset
from pipeline.vocabulary import MISSING
from regions.attributes import PACKAGED_TABLES, AttributeTable, TableError, load_packaged_table, parse_table

log = logging.getLogger("attparse")


def run(config: RunConfig) -> DatasetFile | None:
    """Build the shards of a data set that are not there yet.

    Returns
    -------
    DatasetFile or None
        The content of dataset.json; None after a dry run, which writes nothing.

    Raises
    ------
    InputError
        If the arguments or the input can't be used.
    RunError
        If the pipeline failed.
    """
    runner = Runner(config.beam_options, (config.images, config.output))
    _check_landmark_paths(config)
    detectors = detector_settings(config)
    own = versions(detectors)
    dataset = read_dataset(config)
    settings = BuildSettings(
        images=config.images,
        output=config.output,
        table=load_table(config.attribute_table, dataset.attribute_names),
        crop=config.crop,
        seed=config.seed,
        skipped=dataset.skipped,
        annotations=detectors,
        versions=own,
        source=SourceDataset(
            name=config.source_name,
            url=config.source_url,
            license=config.source_license,
            citation=config.source_citation,
        ),
        refine=config.refine,
        kept_crops=run_with_same_crops(config.landmarks, config.crop, own),
    )
    _log_missing(config, dataset)
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
        runner.check(settings, list(images_of_shard))
        log.info("%d images, %d shards", sum(images_of_shard.values()), len(images_of_shard))
        return None
    with prepared_output(settings.output):
        pending, names = save_pending_plans(settings.output, plans)
        runner.build(settings, pending, names)
        return read_dataset_file(settings.output)


def load_table(name_or_path: str, attribute_names: Sequence[str]) -> AttributeTable:
    """Load a packaged attribute table or one from a file, for the attributes of a label file.

    Raises
    ------
    InputError
        If the table can't be used.
    """
    try:
        if name_or_path in PACKAGED_TABLES:
            return load_packaged_table(name_or_path).for_attributes(attribute_names)
        with storage.explained(name_or_path, f"a TOML file or one of {', '.join(PACKAGED_TABLES)}"):
            text = storage.read_bytes(name_or_path).decode("utf-8-sig")
        return parse_table(text, name_or_path).for_attributes(attribute_names)
    except TableError as error:
        raise InputError(str(error)) from None
    except UnicodeDecodeError:
        raise InputError(f"{name_or_path}: not UTF-8 text, expected a TOML attribute table") from None


def _check_landmark_paths(config: RunConfig) -> None:
    """Refuse landmarks out of the folder that is written to: a run that fails would have lost them."""
    for path in config.landmarks:
        if storage.is_below(path, config.output):
            raise InputError(f"--landmarks {path} is in --output {config.output}: choose another --output")


def _log_missing(config: RunConfig, dataset: Dataset) -> None:
    images = dataset.images
    missing = [i for i, reason in zip(images.image_ids, images.reasons, strict=True) if reason == MISSING]
    if missing:
        log.warning(
            "%d of %d label rows have no image in %s (the first: %s): they will be rejected as missing;"
            " --skip_missing leaves them out",
            len(missing), len(images), config.images, missing[0],
        )  # fmt: skip
    if dataset.skipped:
        log.info("%d label rows have no image in %s and are left out", dataset.skipped, config.images)
