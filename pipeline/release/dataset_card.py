"""README.md and LICENSE.md of a release: a dataset card, and on what terms it may be used."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from string import Template
from typing import Any

from pipeline.formats.dataset_json import DatasetFile
from pipeline.release.release_json import FileEntry
from pipeline.vocabulary import WEAK_SOURCES
from regions.attributes import load_packaged_table

SOURCE_URL = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGEST_SIZE = "1M<n<10M"
SPLIT_OF_HUB = {"train": "train", "val": "validation", "test": "test"}

CITATION = (
    "@inproceedings{liu2015faceattributes, title={Deep Learning Face Attributes in the Wild}, author={Liu, Ziwei and"
    " Luo, Ping and Wang, Xiaogang and Tang, Xiaoou}, booktitle={International Conference on Computer Vision (ICCV)},"
    " year={2015}} @misc{thomhand, title={Improving Facial Attribute Recognition with Attribute Localization Data},"
    " author={Thom, Nathan and Hand, Emily M.}}"
)
PROTOCOL = (
    "No person looked at the images. 68 landmarks were detected, ten region polygons drawn from them by rules, and the"
    " regions of each attribute joined wherever the source's label says that the image has it."
)
BIASES = [
    "The labels are the source's, with their errors and their annotators' views of terms such as Attractive.",
    "The source shows celebrities: ages, origins and styles are not those of any population.",
    "The landmark detector is less exact on profiles, dark images and hidden faces.",
]
LIMITATIONS = [
    "The masks are weak labels: they follow the face's geometry, not the pixels.",
    "The crown and the ears are where hair and ears usually are: hats, short hair and covered ears are missed.",
    "Landmarks of the landmark_source five_points are a mean face laid on five points.",
    "A mask is empty where the label is 0, whatever the image shows.",
]
USES = ["Training and testing face-attribute models that also say where an attribute is."]
SENSITIVE = ["Gender", "Age", "Facial appearance of identifiable persons: landmarks are biometric measurements"]


def source_name(dataset: DatasetFile) -> str:
    """Return the name of the data set that a run was made from, as far as its attributes tell."""
    is_celeba = set(dataset.attributes) == set(load_packaged_table("celeba").attributes)
    return "CelebA" if is_celeba else "the source data set"


def release_name(dataset: DatasetFile) -> str:
    """Return the name of a release."""
    return "celeba-weak-attribute-segments" if source_name(dataset) == "CelebA" else "weak-attribute-segments"


def write_license(dataset: DatasetFile) -> bytes:
    """Return the content of LICENSE.md."""
    return _fill("release_license.md", {"source": source_name(dataset), "source_url": SOURCE_URL}).encode()


def write_card(dataset: DatasetFile, files: Mapping[str, FileEntry], resolution: str, without_labels: bool) -> bytes:
    """Return the content of README.md.

    Parameters
    ----------
    dataset : mapping
        Content of the run's dataset.json.
    files : mapping of str to mapping
        ``bytes`` and ``sha256`` of the files so far, by name.
    resolution : str
        Of the masks.
    without_labels : bool
        Whether the release leaves labels and masks out.
    """
    samples = dataset.samples
    values = {
        "source": source_name(dataset),
        "source_url": SOURCE_URL,
        "name": release_name(dataset),
        "size": next((name for limit, name in SIZES if samples < limit), LARGEST_SIZE),
        "configs": _configs(dataset, without_labels),
        "samples": f"{samples:,}",
        "rejected": f"{dataset.rejected:,}",
        "attributes": str(len(dataset.attributes)),
        "regions": ", ".join(dataset.regions),
        "table": dataset.attribute_table.name,
        "crop": dataset.crop,
        "planes": str(-(-len(dataset.attributes) // 8)),
        "made": "68 landmarks and region polygons"
        if without_labels
        else "68 landmarks, region polygons and weak attribute masks",
        "masks": _masks(resolution, without_labels),
        "labels_option": " --labels LABELS" if without_labels else "",
        "splits": _rows((split, own.samples, own.rejected) for split, own in dataset.splits.items()),
        "landmark_sources": _rows(
            (
                f"{landmark_source} (weak)" if landmark_source in WEAK_SOURCES else landmark_source,
                count,
                f"{count / samples:.2%}",
            )
            for landmark_source, count in dataset.landmark_sources.items()
        ),
        "rejects": _rows(dataset.rejects.items()) or "| none | 0 |",
        "files": _rows(
            (f"`{name}`", f"{size:,}", f"{size / samples:,.0f}") for name, size in bytes_by_kind(files).items()
        ),
        "refine": ""
        if without_labels
        else "The background was cut out of crown, ears and neck by a person segmentation, so there the masks are"
        " smaller than the polygons."
        if dataset.refine
        else "The masks are the polygons, at the pixels' centers.",
        "protocol": PROTOCOL,
        "biases": _list(BIASES),
        "limitations": _list(LIMITATIONS),
        "versions": ", ".join(f"{name} {value}" for name, value in dataset.versions.items()),
        "citation": CITATION.replace("} @", "}\n@"),
    }
    return _fill("dataset_card.md", values).encode()


def _fill(name: str, values: Mapping[str, str]) -> str:
    text = importlib.resources.files("pipeline.release").joinpath(name).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _rows(rows: Any) -> str:
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def _list(lines: list[str]) -> str:
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


def _masks(resolution: str, without_labels: bool) -> str:
    if without_labels:
        return (
            "It holds neither labels nor masks: a mask is empty where the label is 0, so masks would tell the labels."
            " `attparse join` makes them from your own label file."
        )
    size = "the crop's size in the source image" if resolution == "source" else resolution
    return (
        f"The masks ({size}, height x width) lie in `masks/*.tar`, as WebDataset: `KEY.masks.png` has eight masks to a"
        " plane, the first attribute in the highest bit, the planes below each other in one 8-bit gray PNG; `KEY.json`"
        " has image id, split, labels, landmarks, crop and landmark_source. A mask is empty where the label is 0, so"
        " the masks reveal the labels."
    )


def bytes_by_kind(files: Mapping[str, FileEntry]) -> dict[str, int]:
    """Return the bytes of each file of a release, those of the mask shards together."""
    sizes: dict[str, int] = {}
    for name, file in files.items():
        title = "masks/*.tar" if name.endswith(".tar") else name
        sizes[title] = sizes.get(title, 0) + file.bytes
    return sizes
