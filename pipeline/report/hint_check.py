"""Whether the hints of a run, its face boxes and five points, are of its images at all."""

from __future__ import annotations

from pipeline.formats.dataset_json import DatasetFile

MAX_DISAGREEING = 0.1
"""Fraction of the images with a hint and a detected face above which the hint files are in doubt.

One face elsewhere may be a bystander; with true hints, fewer than 1 in 100 images have only such faces.
"""
MIN_DISAGREEING = 2


def hint_problem(dataset: DatasetFile) -> str | None:
    """Return one line if hints and detected faces disagree often, else None."""
    disagree, compared = dataset.hints.disagree, dataset.hints.agree + dataset.hints.disagree
    if disagree < MIN_DISAGREEING or disagree <= MAX_DISAGREEING * compared:
        return None
    return (
        f"{' and '.join(dataset.hints.files)}: in {disagree:,} of {compared:,} images, the faces lie elsewhere than"
        " these hints point to, expected hints of the images as they are, not of another size, crop or rotation;"
        " those images were rejected as wrong_face"
    )
