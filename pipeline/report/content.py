"""report.html: what a person looks at first after a run. Chooses and draws what the page shows."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipeline import images, storage
from pipeline.drawing import overlays
from pipeline.drawing.selection import (
    SelectedImage,
    by_column,
    first_samples,
    read_selected,
    select_images,
    split_quota,
)
from pipeline.errors import ImageError
from pipeline.formats.dataset_json import DatasetFile
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import StoredSample, decode_packed_masks
from pipeline.report.agreement import HintDisagreement, measure_agreement
from pipeline.report.agreement_section import in_percent
from pipeline.report.page import AttributeArea, ReportContent, render_page
from pipeline.report.parts import ReportImage
from pipeline.vocabulary import MISSING, UNLABELLED
from regions.landmarks import NUM_LANDMARKS
from regions.masks import unpack_masks
from regions.polygons import FurtherRegions

MAX_OVERLAYS, MAX_REJECTS, MAX_MISSING = 24, 60, 20
AREA_SAMPLES = 480
"""Samples over which mask areas are averaged."""

THUMBNAIL_SIDE = 180
"""Longer side of a rejected image's thumbnail, in pixels."""
WITH_IMAGE = (UNLABELLED, "no_face", "wrong_face")
"""Reasons of rejected images that can be decoded and lie in the image folder."""


def write_report(output: str, document: DatasetFile) -> None:
    """Write report.html of a run whose shards and manifests are all there.

    All manifests are read one by one, but only a bounded number of samples and rejected images,
    however large the run.

    Parameters
    ----------
    output : str
        Folder of the run.
    document : DatasetFile
    """
    page = render_page(collect(output, document))
    storage.write_bytes(RunFolder(output).report, page.encode("utf-8", errors="replace"))


def collect(output: str, document: DatasetFile) -> ReportContent:
    """Choose, draw and measure what the report shows.

    Parameters
    ----------
    output : str
        Folder of the run.
    document : DatasetFile
    """
    with_samples = [shard.name for shard in document.shards if shard.samples]
    with_rejects = [shard.name for shard in document.shards if shard.rejected]
    overlays = select_images(
        output,
        with_samples,
        split_quota(MAX_OVERLAYS, document.landmark_sources),
        by_column("landmark_source"),
    )
    further = document.table().further_regions
    counts = document.rejects
    quotas = split_quota(MAX_REJECTS, {reason: count for reason, count in counts.items() if reason != MISSING})
    if MISSING in counts:
        quotas[MISSING] = min(MAX_MISSING, counts[MISSING])
    rejects = select_images(output, with_rejects, quotas, by_column("reason"), landmarks=True)
    missing = [chosen.image_id for chosen in rejects.pop(MISSING, [])]
    areas, measured = _mask_areas(output, document.attributes, with_samples)
    agreement = measure_agreement(output, with_samples)
    return ReportContent(
        document=document,
        images=document.images,
        overlays={
            landmark_source: _overlays(output, further, selected) for landmark_source, selected in overlays.items()
        },
        rejects={
            reason: [_reject(document.images, chosen) for chosen in selected] for reason, selected in rejects.items()
        },
        missing=missing,
        areas=areas,
        measured=measured,
        agreement=agreement,
        worst=[] if agreement is None else _disagreements(output, further, agreement.worst),
    )


def _overlays(output: str, further: FurtherRegions, selected: Sequence[SelectedImage]) -> list[ReportImage]:
    return [
        ReportImage(chosen.image_id, sample.description["split"], encode(_draw(further, chosen, sample)))
        for chosen, sample in read_selected(output, selected)
    ]


def _draw(further: FurtherRegions, chosen: SelectedImage, sample: StoredSample) -> overlays.Pixels:
    return overlays.draw_regions(sample, further, (chosen.height, chosen.width))


def _disagreements(
    output: str, further: FurtherRegions, disagreements: Sequence[HintDisagreement]
) -> list[ReportImage]:
    """Return the drawings of samples with their given points, in the order of `disagreements`."""
    of_pick = {disagreement.chosen: disagreement for disagreement in disagreements}
    drawn: dict[SelectedImage, ReportImage] = {}
    for chosen, sample in read_selected(output, list(of_pick)):
        pixels = _draw(further, chosen, sample)
        overlays.draw_crosses(pixels, of_pick[chosen].points, sample.description["crop"])
        note = f"{overlays.display_name(chosen.group)}, {in_percent(of_pick[chosen].error)}"
        drawn[chosen] = ReportImage(chosen.image_id, note, encode(pixels))
    return [drawn[disagreement.chosen] for disagreement in disagreements]


def _reject(folder: str, chosen: SelectedImage) -> ReportImage:
    """Return a rejected image with its thumbnail, if it has one; unsafe ids are never opened."""
    nothing = ReportImage(chosen.image_id, chosen.detail, None)
    if chosen.group not in WITH_IMAGE:
        return nothing
    try:
        image = images.decode(storage.read_bytes(storage.join(folder, chosen.image_id)))
    except (OSError, ImageError):
        return nothing
    thumbnail = _shrink(image.pixels)
    guess = np.array(chosen.landmarks).reshape(NUM_LANDMARKS, 2)
    scale = np.array(thumbnail.shape[1::-1]) / (image.width, image.height)
    overlays.draw_dots(thumbnail, guess * scale, overlays.SMALL_RINGS)
    return nothing._replace(jpeg=encode(thumbnail), guess=bool(np.isfinite(guess).all()))


def _shrink(pixels: overlays.Pixels) -> overlays.Pixels:
    """Return a copy of an image whose longer side has at most `THUMBNAIL_SIDE` pixels."""
    height, width = pixels.shape[:2]
    scale = THUMBNAIL_SIDE / max(height, width)
    if scale >= 1:
        return pixels.copy()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def encode(pixels: overlays.Pixels) -> bytes:
    """Encode RGB pixels as a JPEG for the page."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80, optimize=True)
    return stream.getvalue()


def _mask_areas(output: str, attributes: Sequence[str], shards: Sequence[str]) -> tuple[list[AttributeArea], int]:
    """Measure the masks of some samples; return the areas and the number of samples."""
    having = np.zeros(len(attributes), dtype=np.int64)
    covered = np.zeros(len(attributes))
    empty = np.zeros(len(attributes), dtype=np.int64)
    measured = 0
    for sample in first_samples(output, shards, AREA_SAMPLES):
        labels = _labels(sample.description["labels"], attributes)
        area = unpack_masks(decode_packed_masks(sample.png), len(attributes)).mean(axis=(1, 2))
        having += labels
        covered += area
        empty += labels & (area == 0)
        measured += 1
    areas = [
        AttributeArea(
            name,
            share=int(having[i]) / measured if measured else 0.0,
            area=float(covered[i]) / int(having[i]) if having[i] else None,
            empty=int(empty[i]),
        )
        for i, name in enumerate(attributes)
    ]
    return areas, measured


def _labels(labels: Mapping[str, int], attributes: Sequence[str]) -> Any:
    return np.array([labels[name] for name in attributes], dtype=np.bool_)
