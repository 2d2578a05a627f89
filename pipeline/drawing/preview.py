"""``attparse preview``: a contact sheet of samples with their regions, one of them, or the mask of one attribute."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.detection.fallback_chain import WEAK_RUNGS
from pipeline.drawing import overlays
from pipeline.drawing.selection import Grouping, Pick, by_column, pick_images, read_picks, with_attribute
from pipeline.formats.dataset_json import read_dataset_file
from pipeline.formats.manifest import WRITTEN
from pipeline.formats.samples import Sample, ShardError
from pipeline.records import InputError
from regions.attributes import suggestion

MAX_SAMPLES = 240


def write_preview(output: str, to: str, count: int, attribute: str | None = None, region: str | None = None) -> None:
    """Draw samples that are spread evenly over the shards of a run; the same ones each time.

    Parameters
    ----------
    output : str
        Folder of the run.
    to : str
        PNG file to write.
    count : int
        Samples to draw, 1 to `MAX_SAMPLES`; fewer where the run has no more.
    attribute : str, optional
        Draw the mask of this attribute, over samples that have it, instead of the regions.
    region : str, optional
        Draw this region alone.

    Raises
    ------
    InputError
        If the run can't be read, has nothing to draw, or the file can't be written.
    """
    if not to.lower().endswith(".png"):
        raise InputError(f"{to}: expected the name of a file ending in .png")
    if not 1 <= count <= MAX_SAMPLES:
        raise InputError(f"{count} samples, expected 1 to {MAX_SAMPLES}")
    dataset = read_dataset_file(output)
    for kind, name, known in (
        ("attribute", attribute, dataset["attributes"]),
        ("region", region, dataset["regions"]),
    ):
        if name is not None and name not in known:
            hint = suggestion(name, known) or f", expected one of {', '.join(known)}"
            raise InputError(f"unknown {kind} {name!r}{hint}")
    if not dataset["samples"]:
        raise InputError(f"{output}: the run has no samples, all {dataset['rejected']} images were rejected")
    try:
        tiles = _tiles(output, dataset, count, attribute, region)
    except (OSError, pa.ArrowException, ShardError) as error:
        raise InputError(f"{output}: damaged: {error} (attparse verify tells more)") from None
    if not tiles:
        raise InputError(f"{output}: no sample has the attribute {attribute!r}")
    stream = io.BytesIO()
    _sheet(tiles, dataset, attribute, region).save(stream, "PNG")
    try:
        storage.write_bytes(to, stream.getvalue())
    except OSError as error:
        raise InputError(f"{to}: can't write: {error.strerror or error}") from None


def _tiles(
    output: str, dataset: Mapping[str, Any], count: int, attribute: str | None, region: str | None
) -> list[overlays.Tile]:
    group: Grouping = by_column("status") if attribute is None else with_attribute(attribute)
    name = WRITTEN if attribute is None else attribute
    shards = [shard["name"] for shard in dataset["shards"] if shard["samples"]]
    picks = pick_images(output, shards, {name: count}, group)[name]
    return [_tile(pick, sample, dataset, attribute, region) for pick, sample in read_picks(output, picks)]


def _tile(
    pick: Pick, sample: Sample, dataset: Mapping[str, Any], attribute: str | None, region: str | None
) -> overlays.Tile:
    rung = sample.description["rung"]
    if attribute is not None:
        pixels = overlays.draw_mask(sample, dataset["attributes"].index(attribute))
    else:
        further = dataset["attribute_table"]["further_regions"]
        pixels = overlays.draw_regions(sample, further, (pick.height, pick.width), region)
    weak = rung in WEAK_RUNGS
    note = f"{overlays.display_name(rung)} (weak)" if weak else overlays.display_name(rung)
    return overlays.Tile(pixels, pick.image_id, note, weak)


def _sheet(
    tiles: Sequence[overlays.Tile], dataset: Mapping[str, Any], attribute: str | None, region: str | None
) -> Any:
    if attribute is None:
        colours = overlays.region_colours(dataset["regions"])
        what = f"{len(colours)} regions" if region is None else overlays.display_name(region)
        title = f"{what} and 68 landmarks, {len(tiles)} of {dataset['samples']:,} samples"
        if refined := dataset.get("refine"):
            title += f"; outlines before --refine {refined}"
        return overlays.contact_sheet(tiles, title, colours if region is None else {region: colours[region]})
    regions = dataset["attribute_table"]["attributes"][attribute]
    entry = f"mask of {attribute}: {', '.join(regions)}"
    return overlays.contact_sheet(
        tiles, f"Mask of {attribute} over {len(tiles)} samples that have it", {entry: overlays.MASK_COLOUR}
    )
