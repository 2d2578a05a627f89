"""``attparse preview``: a contact sheet of samples with their regions, one of them, or the mask of one attribute."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from pipeline import storage
from pipeline.drawing.contact_sheet import Tile, contact_sheet
from pipeline.drawing.overlays import MASK_COLOR, Pixels, draw_mask, draw_regions, region_colors
from pipeline.drawing.selection import (
    Grouping,
    SelectedImage,
    by_column,
    damage_reported,
    read_selected,
    select_images,
    with_attribute,
)
from pipeline.drawing.text import display_name
from pipeline.errors import InputError
from pipeline.formats.dataset_json import DatasetFile, read_dataset_file
from pipeline.formats.samples import StoredSample
from pipeline.vocabulary import WEAK_SOURCES, WRITTEN
from regions.attributes import suggestion
from regions.messages import counted

MAX_SAMPLES = 240


def write_preview(output: str, path: str, count: int, attribute: str | None = None, region: str | None = None) -> None:
    """Draw samples that are spread evenly over the shards of a run; the same ones each time.

    Parameters
    ----------
    output : str
        Folder of the run.
    path : str
        PNG file to write.
    count : int
        Number of samples to draw, 1 to `MAX_SAMPLES`; all of them where the run has fewer.
    attribute : str, optional
        Draw the mask of this attribute, over samples that have it, instead of the regions.
    region : str, optional
        Draw only this region.

    Raises
    ------
    InputError
        If the run cannot be read or has nothing to draw, or the file cannot be written.
    """
    if not path.lower().endswith(".png"):
        raise InputError(f"{path}: expected a file name that ends in .png")
    if not 1 <= count <= MAX_SAMPLES:
        raise InputError(f"{counted(count, 'sample')}, expected 1 to {MAX_SAMPLES}")
    dataset = read_dataset_file(output)
    _check_name("attribute", attribute, dataset.attributes)
    _check_name("region", region, dataset.regions)
    if not dataset.samples:
        raise InputError(f"{output}: the run has no samples, only {counted(dataset.rejected, 'rejected image')}")
    with damage_reported(output):
        tiles = _tiles(output, dataset, count, attribute, region)
    if not tiles:
        raise InputError(f"{output}: no sample has the attribute {attribute!r}")
    stream = io.BytesIO()
    _sheet(tiles, dataset, attribute, region).save(stream, "PNG")
    try:
        storage.write_bytes(path, stream.getvalue())
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from None


def _check_name(kind: str, name: str | None, known: Sequence[str]) -> None:
    if name is not None and name not in known:
        hint = suggestion(name, known) or f", expected one of {', '.join(known)}"
        raise InputError(f"unknown {kind} {name!r}{hint}")


def _tiles(output: str, dataset: DatasetFile, count: int, attribute: str | None, region: str | None) -> list[Tile]:
    grouping: Grouping = by_column("status") if attribute is None else with_attribute(attribute)
    group = WRITTEN if attribute is None else attribute
    shards = [shard.name for shard in dataset.shards if shard.samples]
    selected = select_images(output, shards, {group: count}, grouping)[group]
    further = dataset.table().further_regions
    tiles = []
    for image, sample in read_selected(output, selected):
        if attribute is None:
            pixels = draw_regions(sample, further, (image.height, image.width), region)
        else:
            pixels = draw_mask(sample, dataset.attributes.index(attribute))
        tiles.append(_tile(image, sample, pixels))
    return tiles


def _tile(image: SelectedImage, sample: StoredSample, pixels: Pixels) -> Tile:
    landmark_source = sample.description.landmark_source
    weak = landmark_source in WEAK_SOURCES
    return Tile(pixels, image.image_id, display_name(landmark_source) + (" (weak)" if weak else ""), weak)


def _sheet(tiles: Sequence[Tile], dataset: DatasetFile, attribute: str | None, region: str | None) -> Image.Image:
    if attribute is not None:
        entry = f"mask of {attribute}: {', '.join(dataset.attribute_table.attributes[attribute])}"
        title = f"Mask of {attribute} over {counted(len(tiles), 'sample')} with this attribute"
        return contact_sheet(tiles, title, {entry: MASK_COLOR})
    colors = region_colors(dataset.regions)
    drawn = counted(len(colors), "region") if region is None else display_name(region)
    title = f"{drawn} and 68 landmarks, {len(tiles):,} of {counted(dataset.samples, 'sample')}"
    if dataset.refine:
        title += f"; outlines before --refine {dataset.refine}"
    return contact_sheet(tiles, title, colors if region is None else {region: colors[region]})
