"""Whether the hints of a run, its face boxes and five points, are of its images at all."""

from __future__ import annotations

from pipeline.formats.dataset_json import DatasetFile

MAX_DISAGREEING = 0.1
"""Fraction of the images with a hint and a detected face above which the hint files are in doubt.

One face elsewhere may be a bystander; with true hints, fewer than 1 in 100 images have only such faces.
"""
MAX_SAMPLED_DISAGREEING = 0.5
"""The same fraction of the images that are searched without their hints, which are few."""
MIN_DISAGREEING = 2


def hint_problem(dataset: DatasetFile) -> str | None:
    """Return one line if hints and detected faces disagree often, else None.

    Of most images, the face is only looked for where the five points are; so the hints are also in
    doubt where most images of the sample that is searched without them disagree.
    """
    hints = dataset.hints
    if _often(hints.disagree, hints.agree, MAX_DISAGREEING):
        disagree, compared = hints.disagree, f"{hints.agree + hints.disagree:,} images"
    elif _often(hints.sampled_disagree, hints.sampled_agree, MAX_SAMPLED_DISAGREEING):
        sampled = hints.sampled_agree + hints.sampled_disagree
        disagree, compared = hints.sampled_disagree, f"{sampled:,} images that were searched without these hints"
    else:
        return None
    return (
        f"{' and '.join(hints.files)}: in {disagree:,} of {compared}, the faces lie elsewhere than"
        " these hints point to, expected hints of the images as they are, not of another size, crop or rotation;"
        " those images were rejected as wrong_face"
    )


def _often(disagree: int, agree: int, limit: float) -> bool:
    return disagree >= MIN_DISAGREEING and disagree > limit * (agree + disagree)
