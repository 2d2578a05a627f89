"""``attparse run``: read the data set, plan, build what is not yet done, say what came out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import TestOptions

from pipeline import storage
from pipeline.building.kept_crops import run_with_same_crops
from pipeline.building.plan import plan_shards, save_plan, versions
from pipeline.building.runner import add_graph, beam_options, make_pipeline, on_dataflow, run_pipeline
from pipeline.config import RunConfig
from pipeline.detection.settings import detector_settings
from pipeline.errors import InputError
from pipeline.formats.dataset_json import DatasetFile, read_dataset_file
from pipeline.formats.manifest import completed_shard
from pipeline.formats.run_folder import MANIFEST, PLAN, SHARDS, RunFolder
from pipeline.inputs.dataset import Dataset, read_dataset
from pipeline.records import BuildSettings
from pipeline.vocabulary import MISSING
from regions.attributes import PACKAGED_TABLES, AttributeTable, TableError, load_packaged_table, parse_table

FOLDERS = (SHARDS, MANIFEST, PLAN)

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
    options = beam_options(config.beam_options)
    pipeline = make_pipeline(options)
    FileSystems.set_options(options)
    if on_dataflow(options):
        _check_reachable(config.images, config.output)
    _check_landmark_paths(config)
    detectors = detector_settings(config)
    dataset = read_dataset(config)
    settings = BuildSettings(
        images=config.images,
        output=config.output,
        table=load_table(config.attribute_table, dataset.attribute_names),
        crop=config.crop,
        seed=config.seed,
        skipped=dataset.skipped,
        detectors=detectors,
        refine=config.refine,
        kept_crops=run_with_same_crops(config.landmarks, config.crop, versions(detectors)),
    )
    _tell_dataset(config, dataset)
    if options.view_as(TestOptions).dry_run:
        _dry_run(pipeline, dataset, settings, config.samples_per_shard)
        return None
    with prepared_output(config.output):
        images_of_shard, names = _plan(dataset, settings, config.samples_per_shard)
        run_pipeline(pipeline, settings, images_of_shard, names)
        return read_dataset_file(config.output)


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


def _check_reachable(*folders: str) -> None:
    for folder in folders:
        if not storage.is_remote(folder):
            raise InputError(f"{folder}: workers on Dataflow can't reach a local folder, expected gs://...")


def _tell_dataset(config: RunConfig, dataset: Dataset) -> None:
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


@contextlib.contextmanager
def prepared_output(output: str) -> Iterator[None]:
    """Make the folders of a run and keep them to this process while it runs."""
    for folder in FOLDERS:
        storage.make_folder(storage.join(output, folder))
    with storage.locked(output):
        for folder in FOLDERS:
            storage.delete_temporaries(storage.join(output, folder))
        try:
            yield
        finally:
            storage.delete_empty_folder(storage.join(output, PLAN))


def _plan(dataset: Dataset, settings: BuildSettings, samples_per_shard: int) -> tuple[dict[str, int], list[str]]:
    """Save the plans of all shards to build; return their numbers of images, and the names of all shards."""
    output = settings.output
    plans = list(plan_shards(dataset, settings, samples_per_shard))
    names = [plan.name for plan in plans]
    check_former_shards(output, names)
    images_of_shard: dict[str, int] = {}
    for plan in plans:
        if completed_shard(output, plan.name, plan.fingerprint, RunFolder(output).shard(plan.name)) is None:
            images_of_shard[plan.name] = len(plan.images)
            save_plan(output, plan)
    if images_of_shard:
        storage.delete(RunFolder(output).dataset_json)
    for name in images_of_shard:
        storage.delete(RunFolder(output).manifest(name))
    log.info("%d of %d shards are done already", len(names) - len(images_of_shard), len(names))
    return images_of_shard, names


def check_former_shards(output: str, names: Sequence[str]) -> None:
    """Refuse a folder with shards that this plan does not have, rather than delete or leave them."""
    for folder in (SHARDS, MANIFEST):
        for file in storage.list_files(storage.join(output, folder)):
            if file.partition(".")[0] not in names:
                raise InputError(
                    f"{storage.join(output, folder, file)}: not part of this run's {len(names)} shards:"
                    " it is from other options or data; choose another --output or remove it"
                )


def _dry_run(pipeline: beam.Pipeline, dataset: Dataset, settings: BuildSettings, samples_per_shard: int) -> None:
    """Plan, build the graph and, for Dataflow, the job; write and send nothing."""
    names = [plan.name for plan in plan_shards(dataset, settings, samples_per_shard)]
    add_graph(pipeline, settings, names, names)
    if on_dataflow(pipeline.options):
        pipeline.run()
    log.info("%d images, %d shards", len(dataset.images), len(names))
