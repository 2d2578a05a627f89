"""Choosing a few images of a run to look at, without reading much of it."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.formats.manifest import read_manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import StoredSample, read_samples
from pipeline.vocabulary import WRITTEN

MAX_SPREAD = 24
"""Shards looked into even if fewer have enough images."""

COLUMNS = ["image_id", "key", "status", "reason", "detail", "landmark_source", "labels", "height", "width"]

Group = TypeVar("Group", bound=str)

Grouping = Callable[[pa.Table], Any]
"""From a manifest to the group of each row, null for rows of none: an array of strings."""


class SelectedImage(NamedTuple):
    """One image out of a manifest.

    Attributes
    ----------
    shard, image_id, key : str
    group : str
    detail : str
        Of a rejected image; else empty.
    height, width : int
        Size of the source image, 0 where unknown.
    landmarks : tuple of float
        x and y of each of the 68, in pixels of the source image, not a number where there are none;
        empty where they were not asked for.
    """

    shard: str
    image_id: str
    key: str
    group: str
    detail: str
    height: int
    width: int
    landmarks: tuple[float, ...] = ()


def by_column(name: str) -> Grouping:
    """Group the rows of a manifest by a column of strings."""
    return lambda table: table[name]


def with_attribute(name: str) -> Grouping:
    """Group the written images that have an attribute under its name."""

    def group(table: pa.Table) -> Any:
        has = pc.and_(pc.equal(table["status"], WRITTEN), pc.struct_field(table["labels"], [name]))
        return pc.if_else(has, name, pa.scalar(None, pa.string()))

    return group


def select_images(
    output: str, shards: Sequence[str], quotas: Mapping[Group, int], group: Grouping, *, landmarks: bool = False
) -> dict[Group, list[SelectedImage]]:
    """SelectedImage images of each group, spread over the shards; always the same ones for the same run.

    A few shards that are spread evenly are looked into, then one after the other until every
    group has its quota.

    Parameters
    ----------
    output : str
        Folder of the run.
    shards : sequence of str
        Names of its shards.
    quotas : mapping of str to int
        Images wanted per group.
    group : callable
        One of `by_column`, `with_attribute`.
    landmarks : bool
        Whether to read the landmarks, too.

    Returns
    -------
    dict of str to list of SelectedImage
        For each group at most its quota, in the order of the shards; fewer where there are no more.

    Raises
    ------
    OSError, pyarrow.ArrowException
        If a manifest is missing or damaged.
    """
    found: dict[Group, dict[int, list[SelectedImage]]] = {name: {} for name in quotas}
    first = spread(len(shards), min(max(quotas.values(), default=0), MAX_SPREAD))
    for visited, index in enumerate([*first, *sorted(set(range(len(shards))) - set(first))], 1):
        table = read_manifest(output, shards[index], [*COLUMNS, "landmarks"] if landmarks else COLUMNS)
        groups = group(table)
        for name, quota in quotas.items():
            rows = table.filter(pc.fill_null(pc.equal(groups, name), False)).slice(0, quota)
            if len(rows):
                found[name][index] = [_selected_image(shards[index], name, row) for row in rows.to_pylist()]
        if visited >= len(first) and all(
            sum(map(len, found[name].values())) >= quota for name, quota in quotas.items()
        ):
            break
    return {name: _take_in_turn(found[name], quota) for name, quota in quotas.items()}


def spread(size: int, count: int) -> list[int]:
    """Return at most `count` indices below `size`, spread evenly.

    >>> spread(10, 3)
    [1, 5, 8]
    """
    count = min(size, count)
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]


def _selected_image(shard: str, group: str, row: Mapping[str, Any]) -> SelectedImage:
    return SelectedImage(
        shard=shard,
        image_id=row["image_id"],
        key=row["key"],
        group=group,
        detail=row["detail"] or "",
        height=row["height"],
        width=row["width"],
        landmarks=tuple(row.get("landmarks", ())),
    )


def _take_in_turn(of_shard: Mapping[int, list[SelectedImage]], quota: int) -> list[SelectedImage]:
    """Take a first image from every shard, then a second one, and so on."""
    shards = [of_shard[index] for index in sorted(of_shard)]
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*shards))
    taken = set(itertools.islice((chosen for chosen in rounds if chosen is not None), quota))
    return [chosen for shard in shards for chosen in shard if chosen in taken]


def read_selected(output: str, selected: Sequence[SelectedImage]) -> Iterator[tuple[SelectedImage, StoredSample]]:
    """Yield the samples of picked images by shard; each shard is read up to its last picked image.

    Raises
    ------
    ShardError
        If a shard can't be read.
    """
    of_shard: dict[str, dict[str, SelectedImage]] = defaultdict(dict)
    for chosen in selected:
        of_shard[chosen.shard][chosen.key] = chosen
    for shard, wanted in of_shard.items():
        with contextlib.closing(read_samples(RunFolder(output).shard(shard))) as samples:
            for sample in samples:
                if sample.key in wanted:
                    yield wanted.pop(sample.key), sample
                if not wanted:
                    break


def first_samples(output: str, shards: Sequence[str], count: int) -> Iterator[StoredSample]:
    """Yield about `count` samples: the first ones of shards that are spread evenly.

    Raises
    ------
    ShardError
        If a shard can't be read.
    """
    chosen = spread(len(shards), MAX_SPREAD)
    for index in chosen:
        with contextlib.closing(read_samples(RunFolder(output).shard(shards[index]))) as samples:
            yield from itertools.islice(samples, -(-count // len(chosen)))


def split_quota(total: int, available: Mapping[Group, int]) -> dict[Group, int]:
    """Share out places among groups as evenly as what each has allows; every group gets one.

    >>> split_quota(10, {"a": 100, "b": 2, "c": 50})
    {'a': 4, 'b': 2, 'c': 4}
    """
    shares: dict[Group, int] = {}
    left = total
    for done, (name, count) in enumerate(sorted(available.items(), key=lambda item: item[1])):
        shares[name] = min(count, max(1, left // (len(available) - done)))
        left -= shares[name]
    return {name: shares[name] for name in available}
