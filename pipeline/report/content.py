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
from pipeline.drawing.selection import Pick, by_column, first_samples, pick_images, read_picks, share_out
from pipeline.formats.samples import Sample, decode_planes
from pipeline.inputs.dataset import MISSING, UNLABELLED
from pipeline.records import BuildSettings
from pipeline.report.agreement import Misfit, measure_agreement
from pipeline.report.agreement_section import in_percent
from pipeline.report.page import AttributeArea, ReportContent, render_page
from pipeline.report.parts import Shown
from regions.landmarks import NUM_LANDMARKS
from regions.masks import unpack_masks

REPORT_FILE = "report.html"

MAX_OVERLAYS, MAX_REJECTS, MAX_MISSING = 24, 60, 20
AREA_SAMPLES = 480
"""Samples over which mask areas are averaged."""

THUMBNAIL_SIDE = 180
"""Longer side of a rejected picture's thumbnail, in pixels."""
WITH_PICTURE = (UNLABELLED, "no_face", "wrong_face")
"""Reasons of rejected images that can be decoded and lie in the image folder."""


def write_report(settings: BuildSettings, document: dict[str, Any]) -> None:
    """Write report.html of a run whose shards and manifests are all there.

    All manifests are read one by one, but only a bounded number of samples and rejected pictures,
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
    overlays = pick_images(settings.output, with_samples, share_out(MAX_OVERLAYS, document["rungs"]), by_column("rung"))
    counts = document["rejects"]
    quotas = share_out(MAX_REJECTS, {reason: count for reason, count in counts.items() if reason != MISSING})
    if MISSING in counts:
        quotas[MISSING] = min(MAX_MISSING, counts[MISSING])
    rejects = pick_images(settings.output, with_rejects, quotas, by_column("reason"), landmarks=True)
    missing = [pick.image_id for pick in rejects.pop(MISSING, [])]
    areas, measured = _mask_areas(settings.output, document["attributes"], with_samples)
    agreement = measure_agreement(settings.output, with_samples)
    return ReportContent(
        document=document,
        images=settings.images,
        overlays={rung: _overlays(settings, picks) for rung, picks in overlays.items()},
        rejects={reason: [_reject(settings.images, pick) for pick in picks] for reason, picks in rejects.items()},
        missing=missing,
        areas=areas,
        measured=measured,
        agreement=agreement,
        worst=[] if agreement is None else _misfits(settings, agreement.worst),
    )


def _overlays(settings: BuildSettings, picks: Sequence[Pick]) -> list[Shown]:
    return [
        Shown(pick.image_id, sample.description["split"], encode(_draw(settings, pick, sample)))
        for pick, sample in read_picks(settings.output, picks)
    ]


def _draw(settings: BuildSettings, pick: Pick, sample: Sample) -> overlays.Pixels:
    return overlays.draw_regions(sample, settings.table.further_regions, (pick.height, pick.width))


def _misfits(settings: BuildSettings, misfits: Sequence[Misfit]) -> list[Shown]:
    """Return the drawings of samples with their given points, in the order of `misfits`."""
    of_pick = {misfit.pick: misfit for misfit in misfits}
    drawn: dict[Pick, Shown] = {}
    for pick, sample in read_picks(settings.output, list(of_pick)):
        pixels = _draw(settings, pick, sample)
        overlays.draw_crosses(pixels, of_pick[pick].points, sample.description["crop"])
        note = f"{overlays.display_name(pick.group)}, {in_percent(of_pick[pick].error)}"
        drawn[pick] = Shown(pick.image_id, note, encode(pixels))
    return [drawn[misfit.pick] for misfit in misfits]


def _reject(folder: str, pick: Pick) -> Shown:
    """Return a rejected image with its thumbnail, if it has one; unsafe ids are never opened."""
    nothing = Shown(pick.image_id, pick.detail, None)
    if pick.group not in WITH_PICTURE:
        return nothing
    try:
        picture = images.decode(storage.read_bytes(storage.join(folder, pick.image_id)))
    except (OSError, images.ImageError):
        return nothing
    thumbnail = _shrink(picture.pixels)
    guess = np.array(pick.landmarks).reshape(NUM_LANDMARKS, 2)
    scale = np.array(thumbnail.shape[1::-1]) / (picture.width, picture.height)
    overlays.draw_dots(thumbnail, guess * scale, overlays.SMALL_RINGS)
    return nothing._replace(jpeg=encode(thumbnail), guess=bool(np.isfinite(guess).all()))


def _shrink(pixels: overlays.Pixels) -> overlays.Pixels:
    """Return a copy of a picture whose longer side has at most `THUMBNAIL_SIDE` pixels."""
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
        area = unpack_masks(decode_planes(sample.png), len(attributes)).mean(axis=(1, 2))
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
