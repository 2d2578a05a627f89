"""Shards to train on, made by tarfile and Pillow alone: each attribute is a colored square in a place of its own."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

ATTRIBUTES = ("Red", "Green", "Blue")
PLACES = ((10, 10), (40, 30), (70, 50))
"""Row and column of each attribute's square in its mask."""
SIDE = 16
THIN = ("--channels=4,4,4,4,4", "--device=cpu", "--workers=0")
"""Options for a network that trains in seconds."""


def labels_of(index: int) -> list[int]:
    """Return the labels of a sample: all combinations in turn."""
    return [index >> bit & 1 for bit in range(3)]


def masks_of(labels: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Return the masks ``(3, 96, 76)`` that belong to the labels."""
    masks = np.zeros((3, 96, 76), dtype=np.uint8)
    for mask, (row, col), label in zip(masks, PLACES, labels, strict=True):
        mask[row : row + SIDE, col : col + SIDE] = label
    return masks


def face_of(index: int) -> npt.NDArray[np.uint8]:
    """Return an image ``(218, 178, 3)`` with a square of a bright color for each of its attributes."""
    noise = np.random.default_rng(index).integers(90, 110, (218, 178, 3), dtype=np.uint8)
    masks = masks_of(labels_of(index)).transpose(1, 2, 0) * 255
    return np.maximum(noise, np.asarray(Image.fromarray(masks).resize((178, 218), Image.Resampling.NEAREST)))


def members_of(index: int, unknown: Sequence[str] = ()) -> dict[str, bytes]:
    """Return the members of a sample by their suffixes; the labels of some attributes can be unknown."""
    labels = [0 if name in unknown else label for name, label in zip(ATTRIBUTES, labels_of(index), strict=True)]
    written = [None if name in unknown else label for name, label in zip(ATTRIBUTES, labels, strict=True)]
    jpg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(face_of(index)).save(jpg, "JPEG", quality=95)
    Image.fromarray(np.packbits(masks_of(labels), axis=0)[0]).save(png, "PNG")
    text = json.dumps({"image_id": f"{index}.jpg", "labels": dict(zip(ATTRIBUTES, written, strict=True))})
    return {"jpg": jpg.getvalue(), "masks.png": png.getvalue(), "json": text.encode()}


def write_tar(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> None:
    """Write samples, given as members by key and ending, as a tar file."""
    with tarfile.open(path, "w") as tar:
        for key, members in samples.items():
            for ending, content in members.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def write_dataset(folder: Path, shards: Mapping[str, int], *, crop: str = "face") -> str:
    """Write a dataset of shards, given by name such as ``train-000000`` with their number of samples."""
    (folder / "shards").mkdir(parents=True)
    first = 0
    for name, count in shards.items():
        samples = {f"s{index:04}": members_of(index) for index in range(first, first + count)}
        write_tar(folder / "shards" / f"{name}.tar", samples)
        first += count
    write_dataset_file(folder, shards, crop=crop)
    return str(folder)


def write_dataset_file(folder: Path, counts: Mapping[str, int], **changes: Any) -> None:
    """Write the dataset.json that fits the shards as they are; `changes` replace fields of it."""
    entries = []
    for name, count in counts.items():
        content = (folder / "shards" / f"{name}.tar").read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        split = name.partition("-")[0]
        entries.append({"name": name, "split": split, "samples": count, "bytes": len(content), "sha256": sha256})
    document = {
        "format_version": 2,
        "attributes": list(ATTRIBUTES),
        "image_size": [218, 178],
        "mask_size": [96, 76],
        "crop": "face",
        "shards": entries,
    }
    (folder / "dataset.json").write_text(json.dumps({**document, **changes}))
