"""report.html: what a person looks at first after a run. Selects, draws and measures what the page shows."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from PIL import Image

from pipeline import images, storage
from pipeline.drawing.overlays import SMALL_RINGS, Pixels, draw_crosses, draw_dots, draw_regions
from pipeline.drawing.selection import (
    SelectedImage,
    by_column,
    damage_reported,
    first_samples,
    read_selected,
    select_images,
    split_quota,
)
from pipeline.drawing.text import display_name
from pipeline.errors import ImageError, InputError
from pipeline.formats.dataset_json import DatasetFile, read_dataset_file
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import StoredSample, decode_packed_masks
from pipeline.report.agreement import HintDisagreement, measure_agreement
from pipeline.report.page import AttributeArea, ReportContent, ReportImage, percent, render_page
from pipeline.vocabulary import MISSING, NO_FACE, UNLABELLED, WRONG_FACE, RejectReason
from regions.label_file import UNKNOWN
from regions.landmarks import NUM_LANDMARKS
from regions.masks import unpack_masks
from regions.outlines import FurtherRegions

MAX_OVERLAYS, MAX_REJECTS, MAX_MISSING = 24, 60, 20
AREA_SAMPLES = 480
"""Number of samples over which mask areas are averaged."""

THUMBNAIL_SIDE = 180
"""Longer side of a rejected image's thumbnail, in pixels."""
WITH_IMAGE = (UNLABELLED, NO_FACE, WRONG_FACE)
"""Reasons of rejected images that can be decoded and are in the image folder."""


def redraw_report(output: str) -> str:
    """Write report.html of a finished run again; the same bytes if the image folder is unchanged.

    Parameters
    ----------
    output : str
        Folder of the run, local or remote.

    Returns
    -------
    str
        Path of the report.

    Raises
    ------
    InputError
        If the run is unfinished or damaged, or the report cannot be written.
    """
    dataset = read_dataset_file(output)
    with damage_reported(output):
        page = report_page(output, dataset)
    path = RunFolder(output).report
    try:
        storage.write_bytes(path, page)
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from None
    return path


def write_report(output: str, dataset: DatasetFile) -> None:
    """Write report.html of a run whose shards and manifests are complete.

    Parameters
    ----------
    output : str
        Folder of the run.
    dataset : DatasetFile
        What dataset.json holds or will hold.
    """
    storage.write_bytes(RunFolder(output).report, report_page(output, dataset))


def report_page(output: str, dataset: DatasetFile) -> bytes:
    """Return the content of report.html."""
    return render_page(report_content(output, dataset)).encode("utf-8", errors="replace")


def report_content(output: str, dataset: DatasetFile) -> ReportContent:
    """Select, draw and measure what the report shows.

    All manifests are read one by one, but only a bounded number of samples and rejected images,
    however large the run.

    Parameters
    ----------
    output : str
        Folder of the run.
    dataset : DatasetFile
    """
    with_samples = [shard.name for shard in dataset.shards if shard.samples]
    further = dataset.table().further_regions
    quotas = split_quota(MAX_OVERLAYS, dataset.landmark_sources)
    samples = select_images(output, with_samples, quotas, by_column("landmark_source"))
    rejects = _select_rejects(output, dataset)
    missing = [image.image_id for image in rejects.pop(MISSING, [])]
    areas, measured = mask_areas(first_samples(output, with_samples, AREA_SAMPLES), dataset.attributes)
    agreement = measure_agreement(output, with_samples)
    return ReportContent(
        dataset=dataset,
        samples={source: _drawn_samples(output, further, selected) for source, selected in samples.items()},
        rejects={reason: [_drawn_reject(dataset.images, i) for i in selected] for reason, selected in rejects.items()},
        missing=missing,
        areas=areas,
        measured=measured,
        agreement=agreement,
        worst=[] if agreement is None else _drawn_disagreements(output, further, agreement.worst),
    )


def _select_rejects(output: str, dataset: DatasetFile) -> dict[RejectReason, list[SelectedImage]]:
    """Select rejected images of each reason, in the order of dataset.json, with their landmarks."""
    counts = dataset.rejects
    quotas = split_quota(MAX_REJECTS, {reason: count for reason, count in counts.items() if reason != MISSING})
    if MISSING in counts:
        quotas[MISSING] = min(MAX_MISSING, counts[MISSING])
    shards = [shard.name for shard in dataset.shards if shard.rejected]
    return select_images(output, shards, quotas, by_column("reason"), landmarks=True)


def _drawn_samples(output: str, further: FurtherRegions, selected: Sequence[SelectedImage]) -> list[ReportImage]:
    return [
        ReportImage(image.image_id, sample.description.split, encode(_draw(further, image, sample)))
        for image, sample in read_selected(output, selected)
    ]


def _draw(further: FurtherRegions, image: SelectedImage, sample: StoredSample) -> Pixels:
    return draw_regions(sample, further, (image.height, image.width))


def _drawn_disagreements(
    output: str, further: FurtherRegions, disagreements: Sequence[HintDisagreement]
) -> list[ReportImage]:
    """Return the drawings of samples with their five points, in the order of `disagreements`."""
    of_image = {disagreement.image: disagreement for disagreement in disagreements}
    drawn: dict[SelectedImage, ReportImage] = {}
    for image, sample in read_selected(output, list(of_image)):
        pixels = _draw(further, image, sample)
        draw_crosses(pixels, of_image[image].points, sample.description.crop)
        note = f"{display_name(image.group)}, {percent(of_image[image].error)}"
        drawn[image] = ReportImage(image.image_id, note, encode(pixels))
    return [drawn[disagreement.image] for disagreement in disagreements]


def _drawn_reject(folder: str, selected: SelectedImage) -> ReportImage:
    """Return a rejected image with its thumbnail, if it has one; unsafe ids are never opened."""
    without_image = ReportImage(selected.image_id, selected.detail, None)
    if selected.group not in WITH_IMAGE:
        return without_image
    path = storage.join(folder, selected.image_id)
    try:
        with storage.explained(path):
            content = storage.read_bytes(path)
        image = images.decode(content)
    except (InputError, ImageError):
        return without_image
    thumbnail = _shrink(image.pixels)
    guess = np.array(selected.landmarks).reshape(NUM_LANDMARKS, 2)
    scale = np.array(thumbnail.shape[1::-1]) / (image.width, image.height)
    draw_dots(thumbnail, guess * scale, SMALL_RINGS)
    return without_image._replace(jpeg=encode(thumbnail), guess=bool(np.isfinite(guess).all()))


def _shrink(pixels: Pixels) -> Pixels:
    """Return a copy of an image whose longer side has at most `THUMBNAIL_SIDE` pixels."""
    height, width = pixels.shape[:2]
    scale = THUMBNAIL_SIDE / max(height, width)
    if scale >= 1:
        return pixels.copy()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def encode(pixels: Pixels) -> bytes:
    """Encode RGB pixels as a JPEG for the page."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80, optimize=True)
    return stream.getvalue()


def mask_areas(samples: Iterable[StoredSample], attributes: Sequence[str]) -> tuple[list[AttributeArea], int]:
    """Measure the masks of samples.

    An unknown label counts neither for nor against an attribute.

    Parameters
    ----------
    samples : iterable of StoredSample
    attributes : sequence of str
        In the order of the masks.

    Returns
    -------
    areas : list of AttributeArea
    measured : int
        Number of samples.
    """
    known, having, empty = np.zeros((3, len(attributes)), dtype=np.int64)
    covered = np.zeros(len(attributes))
    measured = 0
    for sample in samples:
        labels = sample.description.label_values()
        has = labels == 1
        area = unpack_masks(decode_packed_masks(sample.png), len(attributes)).mean(axis=(1, 2))
        known += labels != UNKNOWN
        having += has
        covered += area
        empty += has & (area == 0)
        measured += 1
    areas = [
        AttributeArea(
            name,
            fraction=int(having[i]) / int(known[i]) if known[i] else None,
            area=float(covered[i]) / int(having[i]) if having[i] else None,
            empty=int(empty[i]),
        )
        for i, name in enumerate(attributes)
    ]
    return areas, measured
