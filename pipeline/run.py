"""``attparse run``: read the data set, plan, build what is not yet done, say what came out."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions, TestOptions

from pipeline import datasets, progress, storage
from pipeline.build import BuildShards
from pipeline.config import RunConfig
from pipeline.finish import dataset_path
from pipeline.manifest import completed_shard, manifest_path
from pipeline.plan import PLAN_FOLDER, plan_shards, save_plan
from pipeline.records import BuildSettings, InputError, RunError
from pipeline.shards import shard_path
from regions.attributes import PACKAGED_TABLES, AttributeTable, TableError, load_packaged_table, parse_table

LOCAL_RUNNER = "FnApiRunner"
CONSOLE = "https://console.cloud.google.com/dataflow/jobs"
MAX_THREADS = 4
FOLDERS = ("shards", "manifest", PLAN_FOLDER)

log = logging.getLogger("attparse")


def run(config: RunConfig) -> dict[str, Any] | None:
    """Build the shards of a data set that are not there yet.

    Returns
    -------
    dict or None
        The content of dataset.json; None after a dry run, which writes nothing.

    Raises
    ------
    InputError
        If the arguments or the input can't be used.
    RunError
        If the pipeline failed.
    """
    options = beam_options(config.beam_options)
    FileSystems.set_options(options)
    if _on_dataflow(options):
        _check_reachable(config.images, config.output)
    dataset = datasets.read_dataset(config)
    settings = BuildSettings(
        images=config.images,
        output=config.output,
        table=load_table(config.attribute_table, dataset.attribute_names),
        crop=config.crop,
        seed=config.seed,
        skipped=dataset.skipped,
    )
    _tell_dataset(config, dataset)
    if options.view_as(TestOptions).dry_run:
        _dry_run(dataset, settings, config.samples_per_shard, options)
        return None
    with _prepared_output(config.output):
        images_of_shard, names = _plan(dataset, settings, config.samples_per_shard)
        _run_pipeline(settings, images_of_shard, names, options)
        document: dict[str, Any] = json.loads(storage.read_bytes(dataset_path(config.output)))
    return document


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
        text = storage.read_bytes(name_or_path).decode("utf-8-sig")
        return parse_table(text, name_or_path).for_attributes(attribute_names)
    except TableError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        known = ", ".join(PACKAGED_TABLES)
        raise InputError(f"{name_or_path}: {error.strerror or error} (known tables: {known})") from None
    except UnicodeDecodeError:
        raise InputError(f"{name_or_path}: not UTF-8 text, expected a TOML attribute table") from None


def beam_options(flags: Sequence[str]) -> PipelineOptions:
    """Return Beam's options; without a runner in them, the local one with a worker per core.

    Workers are threads on up to `MAX_THREADS` cores, and processes on more: processes take 2 s longer
    to start and more memory, but don't share Python's lock.

    Raises
    ------
    InputError
        At an option that neither attparse nor Beam knows.
    """
    if not any(flag.split("=")[0] == "--runner" for flag in flags):
        defaults = ["--runner", LOCAL_RUNNER]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if not any(flag.startswith("--direct_running_mode") for flag in flags):
            mode = "multi_threading" if cores <= MAX_THREADS else "multi_processing"
            defaults.append(f"--direct_running_mode={mode}")
        if not any(flag.startswith("--direct_num_workers") for flag in flags):
            defaults.append(f"--direct_num_workers={cores}")
        flags = [*defaults, *flags]
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    unknown = parser.parse_known_args(list(flags))[1]
    if unknown:
        raise InputError(f"unknown option {unknown[0]!r}: neither attparse nor Apache Beam has it")
    return PipelineOptions(list(flags))


def _on_dataflow(options: PipelineOptions) -> bool:
    return "dataflow" in str(options.view_as(StandardOptions).runner).lower()


def _check_reachable(*folders: str) -> None:
    for folder in folders:
        if not storage.is_remote(folder):
            raise InputError(f"{folder}: workers on Dataflow can't reach a local folder, expected gs://...")


def _tell_dataset(config: RunConfig, dataset: datasets.Dataset) -> None:
    images = dataset.images
    missing = [i for i, reason in zip(images.image_ids, images.reasons, strict=True) if reason == datasets.MISSING]
    if missing:
        log.warning(
            "%d of %d label rows have no image in %s (the first: %s): they will be rejected as missing;"
            " --skip_missing leaves them out",
            len(missing), len(images), config.images, missing[0],
        )  # fmt: skip
    if dataset.skipped:
        log.info("%d label rows have no image in %s and are left out", dataset.skipped, config.images)


@contextlib.contextmanager
def _prepared_output(output: str) -> Iterator[None]:
    """Make the folders of a run and keep them to this process while it runs."""
    for folder in FOLDERS:
        storage.make_folder(storage.join(output, folder))
    with storage.locked(output):
        for folder in FOLDERS:
            storage.delete_temporaries(storage.join(output, folder))
        yield


def _plan(
    dataset: datasets.Dataset, settings: BuildSettings, samples_per_shard: int
) -> tuple[dict[str, int], list[str]]:
    """Save the plans of all shards to build; return their numbers of images, and the names of all shards."""
    output = settings.output
    names: list[str] = []
    images_of_shard: dict[str, int] = {}
    for plan in plan_shards(dataset, settings, samples_per_shard):
        names.append(plan.name)
        if completed_shard(output, plan.name, plan.fingerprint, shard_path(output, plan.name)) is None:
            images_of_shard[plan.name] = len(plan.images)
            save_plan(output, plan)
    _check_former_shards(output, names)
    if images_of_shard:
        storage.delete(dataset_path(output))
    for name in images_of_shard:
        storage.delete(manifest_path(output, name))
    log.info("%d of %d shards are done already", len(names) - len(images_of_shard), len(names))
    return images_of_shard, names


def _check_former_shards(output: str, names: Sequence[str]) -> None:
    """Refuse a folder with shards that this plan does not have, rather than delete or leave them."""
    for folder in ("shards", "manifest"):
        for file in storage.list_files(storage.join(output, folder)):
            if file.partition(".")[0] not in names:
                raise InputError(
                    f"{storage.join(output, folder, file)}: not part of this run's {len(names)} shards:"
                    " it is from other options or data; choose another --output or remove it"
                )


def _dry_run(
    dataset: datasets.Dataset, settings: BuildSettings, samples_per_shard: int, options: PipelineOptions
) -> None:
    """Plan, check Beam's options, build the graph and, for Dataflow, the job; write and send nothing."""
    names = [plan.name for plan in plan_shards(dataset, settings, samples_per_shard)]
    pipeline = _make_pipeline(settings, names, names, options)
    if _on_dataflow(options):
        pipeline.run()
    log.info("%d images, %d shards", len(dataset.images), len(names))


def _make_pipeline(
    settings: BuildSettings, names: Sequence[str], all_names: Sequence[str], options: PipelineOptions
) -> beam.Pipeline:
    try:
        pipeline = beam.Pipeline(options=options)
    except ValueError as error:  # what Beam's own checks of its options found
        raise InputError("; ".join(str(error).splitlines()[1:]) or str(error)) from None
    _ = pipeline | "ShardNames" >> beam.Create(list(names)) | BuildShards(settings, all_names)
    return pipeline


def _run_pipeline(
    settings: BuildSettings, images_of_shard: Mapping[str, int], names: Sequence[str], options: PipelineOptions
) -> None:
    flags = options.get_all_options()
    in_process = flags["runner"] == LOCAL_RUNNER and flags["direct_running_mode"] != "multi_processing"
    start = time.perf_counter()
    pipeline = _make_pipeline(settings, list(images_of_shard), names, options)
    with progress.show(images_of_shard, settings.output, in_process=in_process), _beams_own_traceback() as printed:
        try:
            result = pipeline.run()
            if _on_dataflow(options):
                cloud = options.view_as(GoogleCloudOptions)
                log.info("%s/%s/%s?project=%s", CONSOLE, cloud.region, result.job_id(), cloud.project)
            state = result.wait_until_finish()
        except Exception as error:
            raise _run_error(error, printed.getvalue()) from error
    if state != "DONE":
        raise RunError(f"the pipeline ended as {state}")
    _tell_times(result, time.perf_counter() - start)


@contextlib.contextmanager
def _beams_own_traceback() -> Iterator[io.StringIO]:
    """Catch what Beam's local workers print to stderr as they fail."""
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        yield printed


def _run_error(error: Exception, printed: str) -> RunError:
    """Return an error of a worker in one line; the traceback goes to the log unless it is the disk's fault."""
    text = [line for line in str(error).splitlines() if line.strip()]
    line = text[-1].partition(" [while running")[0] if text else repr(error)
    if "Errno" in line:
        return RunError(line[line.index("[Errno") :])
    log.error("%s", printed or str(error))
    return RunError(line)


def _tell_times(result: Any, seconds: float) -> None:
    counters = {c.key.metric.name: c.result for c in result.metrics().query()["counters"]}
    images = sum(count for name, count in counters.items() if name.startswith(("written_", "rejected_")))
    if not images:
        return
    stages = {name.partition("_")[2]: us for name, us in counters.items() if name.startswith("microseconds_")}
    shares = ", ".join(f"{stage} {us / images / 1000:.2f}" for stage, us in stages.items())
    log.info("%d images in %.1f s; milliseconds per image: %s", images, seconds, shares)
