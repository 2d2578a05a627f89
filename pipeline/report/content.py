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
from pipeline.formats.samples import StoredSample, decode_packed_masks
from pipeline.inputs.dataset import MISSING, UNLABELLED
from pipeline.records import BuildSettings
from pipeline.report.agreement import HintDisagreement, measure_agreement
from pipeline.report.agreement_section import in_percent
from pipeline.report.page import AttributeArea, ReportContent, render_page
from pipeline.report.parts import ReportImage
from regions.landmarks import NUM_LANDMARKS
from regions.masks import unpack_masks

REPORT_FILE = "report.html"

MAX_OVERLAYS, MAX_REJECTS, MAX_MISSING = 24, 60, 20
AREA_SAMPLES = 480
"""Samples over which mask areas are averaged."""

THUMBNAIL_SIDE = 180
"""Longer side of a rejected image's thumbnail, in pixels."""
WITH_IMAGE = (UNLABELLED, "no_face", "wrong_face")
"""Reasons of rejected images that can be decoded and lie in the image folder."""


def write_report(settings: BuildSettings, document: dict[str, Any]) -> None:
    """Write report.html of a run whose shards and manifests are all there.

    All manifests are read one by one, but only a bounded number of samples and rejected images,
    however large the run.

    Parameters
    ----------
    settings : BuildSettings
    document : dict
        Content of dataset.json.
    """
    page = render_page(collect(settings, document))
    storage.write_bytes(storage.join(settings.output, REPORT_FILE), page.encode("utf-8", errors="replace"))


def collect(settings: BuildSettings, document: dict[str, Any]) -> ReportContent:
    """Choose, draw and measure what the report shows.

    Parameters
    ----------
    settings : BuildSettings
    document : dict
        Content of dataset.json.
    """
    with_samples = [shard["name"] for shard in document["shards"] if shard["samples"]]
    with_rejects = [shard["name"] for shard in document["shards"] if shard["rejected"]]
    overlays = select_images(
        settings.output,
        with_samples,
        split_quota(MAX_OVERLAYS, document["landmark_sources"]),
        by_column("landmark_source"),
    )
    counts = document["rejects"]
    quotas = split_quota(MAX_REJECTS, {reason: count for reason, count in counts.items() if reason != MISSING})
    if MISSING in counts:
        quotas[MISSING] = min(MAX_MISSING, counts[MISSING])
    rejects = select_images(settings.output, with_rejects, quotas, by_column("reason"), landmarks=True)
    missing = [chosen.image_id for chosen in rejects.pop(MISSING, [])]
    areas, measured = _mask_areas(settings.output, document["attributes"], with_samples)
    agreement = measure_agreement(settings.output, with_samples)
    return ReportContent(
        document=document,
        images=settings.images,
        overlays={landmark_source: _overlays(settings, selected) for landmark_source, selected in overlays.items()},
        rejects={
            reason: [_reject(settings.images, chosen) for chosen in selected] for reason, selected in rejects.items()
        },
        missing=missing,
        areas=areas,
        measured=measured,
        agreement=agreement,
        worst=[] if agreement is None else _disagreements(settings, agreement.worst),
    )


def _overlays(settings: BuildSettings, selected: Sequence[SelectedImage]) -> list[ReportImage]:
    return [
        ReportImage(chosen.image_id, sample.description["split"], encode(_draw(settings, chosen, sample)))
        for chosen, sample in read_selected(settings.output, selected)
    ]


def _draw(settings: BuildSettings, chosen: SelectedImage, sample: StoredSample) -> overlays.Pixels:
    return overlays.draw_regions(sample, settings.table.further_regions, (chosen.height, chosen.width))


def _disagreements(settings: BuildSettings, disagreements: Sequence[HintDisagreement]) -> list[ReportImage]:
    """Return the drawings of samples with their given points, in the order of `disagreements`."""
    of_pick = {disagreement.chosen: disagreement for disagreement in disagreements}
    drawn: dict[SelectedImage, ReportImage] = {}
    for chosen, sample in read_selected(settings.output, list(of_pick)):
        pixels = _draw(settings, chosen, sample)
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
    except (OSError, images.ImageError):
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
