"""The folder that a run writes: kept to one process, checked for other runs' shards, and what is done in it already."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence

from pipeline import storage
from pipeline.building.plan import save_plan
from pipeline.errors import InputError
from pipeline.formats.manifest import completed_shard
from pipeline.formats.run_folder import MANIFEST, PLAN, SHARDS, RunFolder
from pipeline.records import ShardPlan

FOLDERS = (SHARDS, MANIFEST, PLAN)

log = logging.getLogger("attparse")


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


def save_pending_plans(output: str, plans: Iterable[ShardPlan]) -> tuple[dict[str, int], list[str]]:
    """Save the plans of the shards that are not done yet, and delete what they make out of date.

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
    pending: dict[str, int] = {}
    for plan in planned:
        if completed_shard(output, plan.name, plan.fingerprint, run.shard(plan.name)) is None:
            pending[plan.name] = len(plan.images)
            save_plan(output, plan)
    if pending:
        storage.delete(run.dataset_json)
    for name in pending:
        storage.delete(run.manifest(name))
    log.info("%d of %d shards are done already", len(names) - len(pending), len(names))
    return pending, names


def check_former_shards(output: str, names: Sequence[str]) -> None:
    """Refuse a folder with shards that this plan does not have, instead of deleting or leaving them."""
    for folder in (SHARDS, MANIFEST):
        for file in storage.list_files(storage.join(output, folder)):
            if file.partition(".")[0] not in names:
                raise InputError(
                    f"{storage.join(output, folder, file)}: not part of this run's {len(names)} shards:"
                    " it is from other options or data; choose another --output or remove it"
                )
