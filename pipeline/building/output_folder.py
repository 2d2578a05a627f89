"""The folder that a run writes: kept to one process, checked for other runs' shards, and what is done in it already."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence

from pipeline import storage
from pipeline.building.changed_images import changed_shards
from pipeline.building.plan import save_plan
from pipeline.errors import InputError
from pipeline.formats.manifest import completed_shard
from pipeline.formats.run_folder import RunFolder
from pipeline.records import ShardPlan
from regions.messages import counted

log = logging.getLogger("attparse")


@contextlib.contextmanager
def prepared_output(output: str) -> Iterator[None]:
    """Make the folders of a run and keep them to this process while it runs."""
    run = RunFolder(output)
    folders = (run.shards, run.manifests, run.plans)
    for folder in folders:
        storage.make_folder(folder)
    with storage.locked(output):
        for folder in (output, *folders):
            storage.delete_temporaries(folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                for folder in (output, *folders):
                    storage.delete_temporaries(folder)
            storage.delete_empty_folder(run.plans)


def check_apart(images: str, output: str) -> None:
    """Refuse an output inside the image folder, and images where the output has files of its own.

    Raises
    ------
    InputError
    """
    if storage.is_below(output, images):
        raise InputError(f"--output {output}: is in --images {images}, expected a folder apart from the images")
    run = RunFolder(output)
    for folder in (run.shards, run.manifests, run.plans):
        if storage.is_below(images, folder):
            raise InputError(f"--images {images}: is in {folder}, which is written, expected another folder")


def save_pending_plans(images: str, output: str, plans: Iterable[ShardPlan]) -> tuple[dict[str, int], list[str]]:
    """Save the plans of the shards that are not done yet, and delete what they make out of date.

    Parameters
    ----------
    images, output : str
        Folders of the images and of the run.
    plans : iterable of ShardPlan

    Returns
    -------
    pending : dict of str to int
        Shards to build, and how many images each has.
    names : list of str
        All shards.

    Raises
    ------
    InputError
        If the folder has shards of another run.
    """
    run = RunFolder(output)
    planned = list(plans)
    names = [plan.name for plan in planned]
    check_former_shards(output, names)
    summaries = {
        plan.name: completed_shard(output, plan.name, plan.fingerprint, run.shard(plan.name)) for plan in planned
    }
    done = [(plan, summary) for plan in planned if (summary := summaries[plan.name]) is not None]
    rebuilt = changed_shards(images, output, done)
    pending: dict[str, int] = {}
    for plan in planned:
        if summaries[plan.name] is None or plan.name in rebuilt:
            pending[plan.name] = len(plan.images)
            save_plan(output, plan)
    if pending:
        storage.delete(run.dataset_json)
        storage.delete(run.report)
        storage.sync(output)
    for name in pending:
        storage.delete(run.manifest(name))
    log.info("%d of %s done already", len(names) - len(pending), counted(len(names), "shard"))
    return pending, names


def check_former_shards(output: str, names: Sequence[str]) -> None:
    """Refuse a folder with shards that this plan does not have, instead of deleting or leaving them."""
    run = RunFolder(output)
    for folder in (run.shards, run.manifests):
        for file in storage.list_files(folder):
            if file.partition(".")[0] not in names:
                raise InputError(
                    f"{storage.join(folder, file)}: not part of this run's {counted(len(names), 'shard')}:"
                    " it is from other options or data; choose another --output or remove it"
                )
