"""A few images of a run to look at, selected without reading much of it."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ImageError, InputError, ShardError
from pipeline.formats.manifest import read_manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import StoredSample, read_samples
from pipeline.vocabulary import WRITTEN

MAX_SPREAD = 24
"""Number of shards that are searched even where fewer have enough images."""

SELECTION_COLUMNS = ["image_id", "key", "status", "reason", "detail", "landmark_source", "labels", "height", "width"]

Group = TypeVar("Group", bound=str)

Grouping = Callable[[pa.Table], Any]
"""Maps a manifest to the group of each row: an array of strings, null for rows in no group."""


class SelectedImage(NamedTuple):
    """One image of a manifest.

    Attributes
    ----------
    shard, image_id, key : str
    group : str
        What the images were grouped by: a landmark source, a reject reason, an attribute.
    detail : str
        What was wrong with a rejected image; empty for a written one.
    height, width : int
        Size of the source image, 0 where unknown.
    landmarks : tuple of float
        x and y of each of the 68, in pixels of the source image, NaN where there are none;
        empty where they were not requested.
    """

    shard: str
    image_id: str
    key: str
    group: str
    detail: str
    height: int
    width: int
    landmarks: tuple[float, ...] = ()


@contextlib.contextmanager
def damage_reported(output: str) -> Iterator[None]:
    """Turn the error that a damaged shard or manifest of a run leads to into an InputError.

    Parameters
    ----------
    output : str
        Folder of the run.

    Raises
    ------
    InputError
        In place of such an error.
    """
    try:
        yield
    except (OSError, ShardError, ImageError, KeyError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        if isinstance(error, OSError) and error.filename:
            what = f"{error.filename}: {error.strerror}"
        raise InputError(f"{output}: damaged: {what} (see attparse verify for details)") from error


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
    """Select images of each group, spread over the shards; always the same ones for the same run.

    Shards at even distances are searched first, then the others in order until every group has
    its quota.

    Parameters
    ----------
    output : str
        Folder of the run.
    shards : sequence of str
        Names of its shards.
    quotas : mapping of str to int
        Maximum number of images per group.
    group : callable
        One of `by_column`, `with_attribute`.
    landmarks : bool
        Whether to read the landmarks as well.

    Returns
    -------
    dict of str to list of SelectedImage
        Up to its quota for each group, in the order of the shards.

    Raises
    ------
    OSError, ShardError
        If a manifest is missing or damaged.
    """
    found: dict[Group, dict[int, list[SelectedImage]]] = {name: {} for name in quotas}
    first = spread(len(shards), min(max(quotas.values(), default=0), MAX_SPREAD))
    for visited, index in enumerate([*first, *sorted(set(range(len(shards))) - set(first))], 1):
        table = read_manifest(
            output, shards[index], [*SELECTION_COLUMNS, "landmarks"] if landmarks else SELECTION_COLUMNS
        )
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
    taken = set(itertools.islice((image for image in rounds if image is not None), quota))
    return [image for shard in shards for image in shard if image in taken]


def read_selected(output: str, selected: Sequence[SelectedImage]) -> Iterator[tuple[SelectedImage, StoredSample]]:
    """Yield selected images with their samples; each shard is read up to its last selected image.

    Raises
    ------
    ShardError
        If a shard can't be read.
    """
    of_shard: dict[str, dict[str, SelectedImage]] = defaultdict(dict)
    for image in selected:
        of_shard[image.shard][image.key] = image
    for shard, wanted in of_shard.items():
        with contextlib.closing(read_samples(RunFolder(output).shard(shard))) as samples:
            for sample in samples:
                if sample.key in wanted:
                    yield wanted.pop(sample.key), sample
                if not wanted:
                    break


def first_samples(output: str, shards: Sequence[str], count: int) -> Iterator[StoredSample]:
    """Yield about `count` samples: the first ones of shards at even distances.

    Raises
    ------
    ShardError
        If a shard can't be read.
    """
    indices = spread(len(shards), MAX_SPREAD)
    for index in indices:
        with contextlib.closing(read_samples(RunFolder(output).shard(shards[index]))) as samples:
            yield from itertools.islice(samples, -(-count // len(indices)))


def split_quota(total: int, available: Mapping[Group, int]) -> dict[Group, int]:
    """Split a quota among groups as evenly as their sizes allow; every group gets at least one.

    >>> split_quota(10, {"a": 100, "b": 2, "c": 50})
    {'a': 4, 'b': 2, 'c': 4}
    """
    quotas: dict[Group, int] = {}
    left = total
    for done, (name, count) in enumerate(sorted(available.items(), key=lambda item: item[1])):
        quotas[name] = min(count, max(1, left // (len(available) - done)))
        left -= quotas[name]
    return {name: quotas[name] for name in available}
