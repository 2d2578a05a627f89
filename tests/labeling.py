"""Runs whose images are all rejected, exported for labeling by hand and labeled."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import images
from pipeline.handlabel.export import export_rejects
from pipeline.inputs.image_ids import sample_keys
from pipeline.records import RejectedImage
from pipeline.vocabulary import RejectReason
from regions.landmarks import FloatArray
from tests.faces import face
from tests.synthetic import Shards, annotated, image_row, jpeg_file, write_output


def unusable(
    image_id: str,
    content: bytes,
    *,
    reason: RejectReason = "no_face",
    guess: FloatArray | None = None,
    key: str | None = None,
) -> RejectedImage:
    """Return the reject that a run makes of an image without a usable face."""
    row = image_row(image_id=image_id)
    image = images.decode(content)
    return RejectedImage(
        row if key is None else dataclasses.replace(row, key=key),
        reason,
        "what was found",
        image.height,
        image.width,
        hashlib.sha256(content).hexdigest(),
        None if guess is None else guess.astype(np.float32),
    )


def make_run(folder: Path, images: dict[str, bytes], *more: RejectedImage, **kwargs: Any) -> str:
    """Write a run whose images are all rejected, in two shards with a sample and the `more` rejects each."""
    keys = kwargs.pop("keys", sample_keys(list(images)))
    rejects = [unusable(name, images[name], key=key, **kwargs) for name, key in zip(images, keys, strict=True)]
    half = -(-len(rejects) // 2)
    shards: Shards = {
        "train-000000": [annotated(image_id="good0.jpg"), *rejects[:half], *more],
        "val-000000": [annotated(image_id="good1.jpg"), *rejects[half:]],
    }
    settings, _ = write_output(folder, shards)
    for image_id, content in images.items():
        path = folder / "images" / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return settings.output


def index_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "images.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def labels_of(path: Path) -> FloatArray:
    shapes = json.loads(path.read_bytes())["shapes"]
    assert [shape["label"] for shape in shapes] == [str(i) for i in range(68)]
    return np.array([shape["points"][0] for shape in shapes])


def label(path: Path, points: FloatArray | None = None, **changes: object) -> None:
    """Save a file as labelme does after the points were moved; `changes` are to the document."""
    document = json.loads(path.read_bytes())
    if points is not None:
        for shape, point in zip(document["shapes"], points.tolist(), strict=True):
            shape["points"] = [point]
    document.update({"version": "6.3.1", **changes})
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")


def export_three(folder: Path) -> Path:
    """Return a folder of three exported images: a.jpg, b.jpg, c.jpg."""
    images = {f"{name}.jpg": jpeg_file(seed=number) for number, name in enumerate("abc")}
    export_rejects(make_run(folder, images, guess=face(x=210)), str(folder / "todo"))
    return folder / "todo"
