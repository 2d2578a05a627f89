"""README.md and LICENSE.md of a release: a dataset card, and the terms of use."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from string import Template

from pipeline.formats.dataset_json import DatasetFile
from pipeline.release.markdown import code, code_block, inline, link, yaml_text
from pipeline.release.release_json import FileEntry
from pipeline.vocabulary import REJECT_REASONS, WEAK_SOURCES, Split

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGEST_SIZE = "1M<n<10M"
SPLIT_OF_HUB: Mapping[Split, str] = {"train": "train", "val": "validation", "test": "test"}

UNNAMED = "an unnamed data set"
UNSTATED_LICENSE = "The publisher has not stated the license of the source data set."
METHOD_CITATION = (
    "@misc{thomhand, title={Improving Facial Attribute Recognition with Attribute Localization Data},"
    " author={Thom, Nathan and Hand, Emily M.}}"
)
PROTOCOL = (
    "No person reviewed the images. 68 landmarks were detected in each image, rules derived region polygons from them,"
    " and the mask of an attribute is the union of its regions wherever the label of the source data set is 1."
)
BIASES = [
    "The labels are those of the source data set, with their errors and the annotators' views of terms such as"
    " Attractive.",
    "The people shown are those of the source data set: their ages, origins and styles do not represent any"
    " population.",
    "The landmark detector is less accurate on profiles, dark images and occluded faces.",
]
LIMITATIONS = [
    "The masks are weak labels: they follow the geometry of the face, not the pixels.",
    "top_of_head and ears lie where hair and ears usually are: hats, short hair and covered ears are missed.",
    "Landmarks of the source five_points are a mean face fitted to five points.",
    "A mask is empty where the label is 0 or unknown, whatever the image shows.",
]
READ_WITH_DATASETS = """\
import json
from pathlib import Path

import numpy as np
from datasets import load_dataset

release = json.loads(Path("THIS_FOLDER/release.json").read_text())
attributes = release["dataset"]["attributes"]  # in the order of the masks
for sample in load_dataset("THIS_FOLDER", split="train"):
    packed = np.asarray(sample["masks.png"])
    bit_planes = packed.reshape(-(-len(attributes) // 8), -1, packed.shape[1])
    masks = np.unpackbits(bit_planes, axis=0)[: len(attributes)]
    values = sample["json"]["labels"]
    labels = [values[name] for name in attributes]
"""
"""How to read a release with Hugging Face's datasets, for its card."""
USES = ["Training and evaluating face-attribute models that also localize the attributes."]
SENSITIVE = ["Gender", "Age", "Facial appearance of identifiable persons: landmarks are biometric measurements"]


def source_name(dataset: DatasetFile) -> str:
    """Return the name of the data set that a run was made from, or that it is unnamed."""
    return dataset.source.name or UNNAMED


def source_license(dataset: DatasetFile) -> str:
    """Return the license of the source data set, or that it is not stated."""
    return dataset.source.license or UNSTATED_LICENSE


def release_name(dataset: DatasetFile) -> str:
    """Return the name of a release."""
    prefix = "".join(c if c.isalnum() else "-" for c in (dataset.source.name or "").lower()).strip("-")
    return "-".join(filter(None, (prefix, "weak-attribute-segments")))


def citations(dataset: DatasetFile) -> list[str]:
    """Return what to cite: the source data set, if the publisher names a citation, and the method."""
    return [*filter(None, [dataset.source.citation]), METHOD_CITATION]


def packaged(name: str) -> bytes:
    """Return the content of a file of this package."""
    return importlib.resources.files("pipeline.release").joinpath(name).read_bytes()


def license_text(dataset: DatasetFile) -> bytes:
    """Return the content of LICENSE.md."""
    values = {"source": _linked_source(dataset), "source_license": inline(source_license(dataset))}
    return _filled("release_license.md", values).encode()


def dataset_card(dataset: DatasetFile, files: Mapping[str, FileEntry], resolution: str, without_labels: bool) -> bytes:
    """Return the content of README.md.

    Parameters
    ----------
    dataset : DatasetFile
        Of the run.
    files : mapping of str to FileEntry
        The files so far, by name.
    resolution : str
        Of the masks.
    without_labels : bool
        Whether the release leaves labels and masks out.
    """
    samples, num_attributes = dataset.samples, len(dataset.attributes)
    values = {
        "pretty_name": yaml_text(f"Weak attribute segments and landmarks ({source_name(dataset)})"),
        "source": inline(source_name(dataset)),
        "linked_source": _linked_source(dataset),
        "source_license": inline(source_license(dataset)),
        "name": release_name(dataset),
        "size": next((name for limit, name in SIZES if samples < limit), LARGEST_SIZE),
        "configs": _configs(dataset, without_labels),
        "samples": f"{samples:,}",
        "rejected": f"{dataset.rejected:,}",
        "attributes": str(num_attributes),
        "regions": ", ".join(map(inline, dataset.regions)),
        "table": code(dataset.attribute_table.name),
        "crop": dataset.crop,
        "content": "68 landmarks and region polygons"
        if without_labels
        else "68 landmarks, region polygons and weak attribute masks",
        "masks": _masks_paragraph(resolution, without_labels),
        "labels_option": " --labels LABELS" if without_labels else "",
        "splits": _rows((split, own.samples, own.rejected) for split, own in dataset.splits.items()),
        "landmark_sources": _rows(
            (f"{source} (weak)" if source in WEAK_SOURCES else source, count, f"{count / samples:.2%}")
            for source, count in dataset.landmark_sources.items()
        ),
        "rejects": _rows((reason, count, REJECT_REASONS[reason]) for reason, count in dataset.rejects.items())
        or "| none | 0 | |",
        "files": _rows(
            (f"`{name}`", f"{size:,}", f"{size / samples:,.0f}") for name, size in bytes_by_kind(files).items()
        ),
        "refine": _refine_sentence(dataset, without_labels),
        "protocol": PROTOCOL,
        "biases": _bullets(BIASES),
        "limitations": _bullets(LIMITATIONS),
        "versions": ", ".join(inline(f"{name} {value}") for name, value in dataset.versions.items()),
        "citation": code_block("\n".join(citations(dataset))),
    }
    return _filled("dataset_card.md", values).encode()


def bytes_by_kind(files: Mapping[str, FileEntry]) -> dict[str, int]:
    """Return the bytes of each file of a release, those of the mask shards together."""
    sizes: dict[str, int] = {}
    for name, file in files.items():
        title = "masks/*.tar" if name.endswith(".tar") else name
        sizes[title] = sizes.get(title, 0) + file.bytes
    return sizes


def _filled(name: str, values: Mapping[str, str]) -> str:
    return Template(packaged(name).decode()).substitute(values)


def _linked_source(dataset: DatasetFile) -> str:
    name, url = inline(source_name(dataset)), dataset.source.url
    return name if url is None else f"{name} ({link(url)})"


def _rows(rows: Iterable[Sequence[object]]) -> str:
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


def _configs(dataset: DatasetFile, without_labels: bool) -> str:
    """Return what the Hub's viewer shows: the mask shards by split, or the landmarks."""
    if without_labels:
        return "- config_name: landmarks\n  data_files: landmarks.parquet"
    lines = ["- config_name: masks", "  data_files:"]
    for split, own in dataset.splits.items():
        if own.samples:
            lines += [f"  - split: {SPLIT_OF_HUB[split]}", f"    path: masks/{split}-*.tar"]
    return "\n".join(lines)


def _masks_paragraph(resolution: str, without_labels: bool) -> str:
    if without_labels:
        return (
            "The release holds neither labels nor masks: a mask is empty where the label is 0 or unknown (null), so"
            " masks would reveal the labels. `attparse join` makes the masks from your own label file."
        )
    size = "the size of the crop in the source image" if resolution == "source" else resolution
    return (
        f"The masks ({size}, height x width) are in `masks/*.tar`, as WebDataset. `KEY.masks.png` is one 8-bit gray PNG"
        " of packed masks: eight attributes per bit plane, the first attribute in the highest bit, the bit planes"
        " stacked vertically. `KEY.json` has image id, split, labels, landmarks, crop and landmark_source. The order of"
        " the attributes is that of `attributes` in `release.json`. A mask is empty where the label is 0 or unknown"
        " (null), so the masks reveal the labels. Take the labels by name: datasets returns them sorted, not in the"
        f" order of the masks.\n\n```python\n{READ_WITH_DATASETS}```"
    )


def _refine_sentence(dataset: DatasetFile, without_labels: bool) -> str:
    if without_labels:
        return ""
    if dataset.refine:
        return (
            "A person segmentation removed the background from top_of_head, ears and below_chin, so there the masks"
            " are smaller than the polygons."
        )
    return "The masks are the polygons, sampled at pixel centers."
