"""Draw the images of README.md and docs/ from the built-in sample, which is public domain."""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.cli import main as attparse
from pipeline.demo import make_sample
from pipeline.drawing.contact_sheet import Tile, contact_sheet
from pipeline.drawing.overlays import MASK_COLOR, draw_mask, draw_regions
from pipeline.drawing.preview import write_preview
from pipeline.drawing.text import display_name
from pipeline.formats.samples import StoredSample, read_samples
from regions.attributes import AttributeTable, load_packaged_table
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH
from regions.outlines import REGION_NAMES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RELEASE_SHEET = ROOT / "pipeline" / "release" / "contact_sheet.png"
NUM_FACES = 12
WIDTH, RELEASE_WIDTH = 1200, 960
FACE = "mirrored.jpg"
README_ATTRIBUTES = ("Bangs", "Eyeglasses", "Big_Nose", "Smiling", "Double_Chin", "Wearing_Earrings")
PER_SHEET = 20
"""Attributes per sheet."""


def main() -> None:
    """Write docs/*.jpg."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    celeba, refined = load_packaged_table("celeba"), load_packaged_table("refined")
    with tempfile.TemporaryDirectory() as folder:
        draw_varied_faces(Path(folder))
        images = make_sample(f"{folder}/sample", "").images
        sample = sample_with_all_attributes(images, celeba, Path(folder))
        draw_each_region(sample)
        draw_row(sample, celeba, README_ATTRIBUTES)
        names = list(celeba.attributes)
        for number, start in enumerate(range(0, len(names), PER_SHEET), 1):
            part = names[start : start + PER_SHEET]
            draw_attributes(sample, celeba, part, f"celeba: {part[0]} to {part[-1]}", f"attributes_{number}")
        changed = [name for name in names if refined.attributes[name] != celeba.attributes[name]]
        sample = sample_with_all_attributes(images, refined, Path(folder))
        draw_attributes(sample, refined, changed, "refined: where it differs from celeba", "attributes_refined")


def draw_varied_faces(folder: Path) -> None:
    """Draw all regions over a dozen images of the sample."""
    large = folder / "regions.png"
    attparse(["demo", f"--output={folder}/run"])
    write_preview(f"{folder}/run", str(large), NUM_FACES)
    with Image.open(large) as sheet:
        large_sheet = sheet.convert("RGB")
    save(resized(large_sheet, WIDTH), "regions")
    # A palette keeps the file that every release ships small.
    resized(large_sheet, RELEASE_WIDTH).quantize(256, kmeans=2, dither=Image.Dither.NONE).save(
        RELEASE_SHEET, optimize=True
    )


def resized(image: Image.Image, width: int) -> Image.Image:
    """Return an image resized to another width, with its aspect ratio."""
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)


def sample_with_all_attributes(images: str, table: AttributeTable, folder: Path) -> StoredSample:
    """Return the sample that a run writes for one image whose labels are all 1."""
    labels = folder / "labels.txt"
    labels.write_text(f"1\n{' '.join(table.attributes)}\n{FACE} {'1 ' * len(table.attributes)}\n", encoding="utf-8")
    output = folder / table.name
    attparse(
        ["run", f"--images={images}", f"--labels={labels}", f"--attribute_table={table.name}"]
        + [f"--output={output}", "--min_coverage=0"]
    )
    (shard,) = (shard for shard in json.loads((output / "dataset.json").read_text())["shards"] if shard["samples"])
    return next(read_samples(str(output / "shards" / f"{shard['name']}.tar")))


def draw_each_region(sample: StoredSample) -> None:
    """Draw each base region alone."""
    tiles = [tile(draw_regions(sample, only=region), region, "") for region in REGION_NAMES]
    save(contact_sheet(tiles, "The ten base regions", {}), "each_region")


def draw_row(sample: StoredSample, table: AttributeTable, names: Sequence[str]) -> None:
    """Draw the masks of a few attributes side by side."""
    order = list(table.attributes)
    faces = [tile(draw_mask(sample, order.index(name)), name, "").pixels for name in names]
    save(Image.fromarray(np.hstack(faces)), "masks")


def draw_attributes(sample: StoredSample, table: AttributeTable, names: Sequence[str], title: str, to: str) -> None:
    """Draw the masks of some attributes at their stored size."""
    tiles = [
        tile(draw_mask(sample, index), name, ", ".join(map(display_name, regions_of(table, name))))
        for index, name in enumerate(table.attributes)
        if name in names
    ]
    save(contact_sheet(tiles, title, {"mask where the label is 1": MASK_COLOR}), to)


def regions_of(table: AttributeTable, attribute: str) -> tuple[str, ...]:
    """Return the regions of an attribute, with ``all`` for the ten base regions."""
    regions = table.attributes[attribute]
    return ("all",) if set(regions) == set(REGION_NAMES) else regions


def tile(pixels: cv2.typing.MatLike, caption: str, note: str) -> Tile:
    """Return a drawing at the size of the crop."""
    small = np.asarray(cv2.resize(pixels, (IMAGE_WIDTH, IMAGE_HEIGHT), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return Tile(small, display_name(caption), note)


def save(image: Image.Image, name: str) -> None:
    """Save an image of docs/."""
    image.save(DOCS / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
