"""``attparse preview``: a contact sheet of samples with their regions, one of them, or the mask of one attribute."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.drawing import overlays
from pipeline.drawing.selection import Grouping, SelectedImage, by_column, read_selected, select_images, with_attribute
from pipeline.errors import InputError, ShardError
from pipeline.formats.dataset_json import DatasetFile, read_dataset_file
from pipeline.formats.samples import StoredSample
from pipeline.vocabulary import WEAK_SOURCES, WRITTEN
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
        ("attribute", attribute, dataset.attributes),
        ("region", region, dataset.regions),
    ):
        if name is not None and name not in known:
            hint = suggestion(name, known) or f", expected one of {', '.join(known)}"
            raise InputError(f"unknown {kind} {name!r}{hint}")
    if not dataset.samples:
        raise InputError(f"{output}: the run has no samples, all {dataset.rejected} images were rejected")
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
    output: str, dataset: DatasetFile, count: int, attribute: str | None, region: str | None
) -> list[overlays.Tile]:
    group: Grouping = by_column("status") if attribute is None else with_attribute(attribute)
    name = WRITTEN if attribute is None else attribute
    shards = [shard.name for shard in dataset.shards if shard.samples]
    selected = select_images(output, shards, {name: count}, group)[name]
    return [_tile(chosen, sample, dataset, attribute, region) for chosen, sample in read_selected(output, selected)]


def _tile(
    chosen: SelectedImage, sample: StoredSample, dataset: DatasetFile, attribute: str | None, region: str | None
) -> overlays.Tile:
    landmark_source = sample.description["landmark_source"]
    if attribute is not None:
        pixels = overlays.draw_mask(sample, dataset.attributes.index(attribute))
    else:
        further = dataset.attribute_table.further_regions
        pixels = overlays.draw_regions(sample, further, (chosen.height, chosen.width), region)
    weak = landmark_source in WEAK_SOURCES
    note = f"{overlays.display_name(landmark_source)} (weak)" if weak else overlays.display_name(landmark_source)
    return overlays.Tile(pixels, chosen.image_id, note, weak)


def _sheet(tiles: Sequence[overlays.Tile], dataset: DatasetFile, attribute: str | None, region: str | None) -> Any:
    if attribute is None:
        colors = overlays.region_colors(dataset.regions)
        what = f"{len(colors)} regions" if region is None else overlays.display_name(region)
        title = f"{what} and 68 landmarks, {len(tiles)} of {dataset.samples:,} samples"
        if refined := dataset.refine:
            title += f"; outlines before --refine {refined}"
        return overlays.contact_sheet(tiles, title, colors if region is None else {region: colors[region]})
    regions = dataset.attribute_table.attributes[attribute]
    entry = f"mask of {attribute}: {', '.join(regions)}"
    return overlays.contact_sheet(
        tiles, f"Mask of {attribute} over {len(tiles)} samples that have it", {entry: overlays.MASK_COLOR}
    )
