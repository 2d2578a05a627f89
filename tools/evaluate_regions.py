"""Measure the accuracy of the base regions: against human part masks, and from detected landmarks.

    python tools/evaluate_regions.py --images CelebA-HQ-img --masks CelebAMask-HQ-mask-anno --output OUT [--limit 1000]

finds the face in each image ``N.jpg``, draws its regions and compares seven of them with the parts that
people annotated: CelebAMask-HQ's masks of single parts (``0/00000_hair.png``), or the label maps (``0.png``,
values 0 to 18) that its ``g_mask.py`` creates from them. It prints for each region and rule set

* IoU, precision P and recall R, each the mean over the images in which people annotated the part (P over
  those in which the region is not empty);
* pooled: the IoU over the pixels of all these images, in which large regions count more;

and writes all figures (``OUT/human.csv``) and a drawing of each image (``OUT/N.jpg``).

    python tools/evaluate_regions.py --photographs DIR --output OUT [--limit 200]

reads photographs with ground-truth landmarks, in CelebA's layout (``images/``, ``landmarks.csv``,
``list_bbox_celeba.txt``, ``list_landmarks_celeba.txt``), and prints for all ten regions

* IoU of regions from detected landmarks (with box and points as hints) with those from true ones;
* the median area in fractions of the face crop, by yaw (an estimate: see ``region_stability.estimate_yaw``) and
  by roll, and draws all areas (``OUT/areas.png``);
* how areas change as frontal faces are rotated from -60 to 60 degrees, with an assumed depth for each
  landmark: the largest change within one degree, and the fraction left at 30, 45 and 60 degrees.

Both compare our rules, without and with ``--refine segmentation``, with AttParseNet's public ones
(``public_regions.py``) and with any function of landmarks (68, 2) to ten polygons that
``--rules MODULE:FUNCTION`` names (on PYTHONPATH).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from evaluate_landmarks import HINTS, read_photographs, row_of
from region_agreement import (
    COMPARED,
    MEASURES,
    Counts,
    RuleSet,
    compared_masks,
    count_pixels,
    draw_comparison,
    find_label_maps,
    human_masks,
    mean,
    percentile,
    pixel_centers,
    read_label_map,
    rule_sets,
    scores,
)
from region_stability import (
    SHOWN_YAWS,
    Stability,
    bin_names,
    binned_medians,
    estimate_yaw,
    frontal_faces,
    plot_areas,
    roll,
    turning_faces,
)
from tqdm import tqdm

from pipeline import storage
from pipeline.config import RunConfig
from pipeline.detection.detectors import open_detectors
from pipeline.detection.fallback_chain import DetectedFace, FallbackChain
from pipeline.detection.settings import detector_settings
from pipeline.drawing.text import display_name
from pipeline.errors import ImageError, InputError
from pipeline.images import DecodedImage, decode
from pipeline.records import ImageRow
from regions.landmarks import FloatArray, round_landmarks
from regions.outlines import REGION_NAMES

Finder = Callable[[DecodedImage, ImageRow], "FloatArray | None"]
NO_HINTS = ImageRow("", "", np.zeros(1, dtype=np.int8), bbox=None, points=None, landmarks=None, reason=None)


@dataclass
class HumanAgreement:
    """Pixel counts of images that people annotated, and skipped images, each with the reason.

    Attributes
    ----------
    images : list of str
    counts : list of ndarray (rule sets, 7, 3)
        As returned by `region_agreement.count_pixels`.
    left_out : list of str
    """

    images: list[str] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def finder(chain: FallbackChain) -> Finder:
    """Return a function that finds landmarks exactly as attparse run does."""

    def find(image: DecodedImage, row: ImageRow) -> FloatArray | None:
        found = chain.find(image, row)
        return round_landmarks(found.landmarks) if isinstance(found, DetectedFace) else None

    return find


def marked_images(folder: str, masks: str) -> list[tuple[str, list[str]]]:
    """Return the images ``N.jpg`` in a folder that have a label map, by number, each with the files of the map.

    Raises
    ------
    InputError
        If there are none.
    """
    maps = find_label_maps(masks)
    numbers = sorted(
        int(stem)
        for stem, extension in map(os.path.splitext, storage.list_files(folder))
        if extension == ".jpg" and stem.isdecimal() and int(stem) in maps
    )
    if not numbers:
        raise InputError(f"{folder}: no image has a label map in {masks}, expected files such as {min(maps)}.jpg")
    return [(f"{number}.jpg", maps[number]) for number in numbers]


def compare_with_people(
    folder: str, images: Sequence[tuple[str, list[str]]], sets: Sequence[RuleSet], find: Finder, to: str | None
) -> HumanAgreement:
    """Compare regions with human annotations, and draw each image; only one image is in memory at a time."""
    agreement = HumanAgreement()
    for name, files in tqdm(images, desc="human masks", unit=" images"):
        try:
            image = decode(storage.read_bytes(storage.join(folder, name)))
        except ImageError as error:
            agreement.left_out.append(f"{name} ({error})")
            continue
        landmarks = find(image, NO_HINTS)
        if landmarks is None:
            agreement.left_out.append(f"{name} (no face found)")
            continue
        human = human_masks(read_label_map(files))
        grid = pixel_centers(image, human.shape[1], human.shape[2])
        masks = {rules.name: compared_masks(rules.masks(image, landmarks, *grid)) for rules in sets}
        counts = np.array([count_pixels(regions, human) for regions in masks.values()])
        agreement.images.append(name)
        agreement.counts.append(counts)
        if to is not None:
            draw_comparison(name, image, human, masks, scores(counts)).save(os.path.join(to, name), quality=90)
    return agreement


def print_agreement(agreement: HumanAgreement, sets: Sequence[RuleSet]) -> None:
    """Print a row for each region, with the columns of the rule sets side by side."""
    if agreement.left_out:
        print(f"skipped: {len(agreement.left_out)}: {', '.join(agreement.left_out)}")
    if not agreement.counts:
        return
    counts = np.array(agreement.counts)
    marked = counts[:, 0, :, 2] > 0
    means = mean(scores(counts))
    pooled = scores((counts * marked[:, None, :, None]).sum(axis=0))[:, :, :1]
    values = np.concatenate([means, pooled], axis=2)
    values = np.concatenate([values, mean(values.swapaxes(0, 1))[:, None]], axis=1)
    print(f"\nagreement with human masks, {len(counts)} images")
    titles = [*MEASURES, "pooled"]
    print_table(
        ["images", *titles * len(sets)],
        {
            region: [number, *values[:, index].ravel()]
            for index, (region, number) in enumerate(
                zip([*COMPARED, "mean"], [*marked.sum(axis=0), len(counts)], strict=True)
            )
        },
        [rules.name for rules in sets],
    )


def print_table(titles: Sequence[str], rows: dict[str, Sequence[float]], groups: Sequence[str] = ()) -> None:
    """Print numbers in columns: NaN as a dash, integers without decimals.

    Parameters
    ----------
    titles : sequence of str
    rows : mapping of str to sequence of float
        Numbers by row name, one for each title.
    groups : sequence of str
        Names of equally large groups of the last columns.
    """

    def text(value: float) -> str:
        if isinstance(value, (int, np.integer)):
            return f"{value:9}"
        return f"{value:9.3f}" if np.isfinite(value) else f"{'-':>9}"

    if groups:
        width = 9 * (len(titles) // len(groups))
        first = 14 + 9 * len(titles) - width * len(groups)
        print(" " * first + "".join(f"{group[2 - width :]:^{width}}" for group in groups))
    print(f"{'':14}" + "".join(f"{title:>9}" for title in titles))
    for name, values in rows.items():
        print(f"{display_name(name):14}" + "".join(map(text, values)))


def write_csv(agreement: HumanAgreement, sets: Sequence[RuleSet], path: str) -> None:
    """Write IoU, precision and recall of each image, rule set and region; empty where a value is NaN."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "rules", "region", "iou", "precision", "recall"])
        for image, counts in zip(agreement.images, agreement.counts, strict=True):
            for (rules, region), values in zip(
                itertools.product(sets, COMPARED), scores(counts).reshape(-1, 3), strict=True
            ):
                figures = [f"{value:.4f}" if np.isfinite(value) else "" for value in values]
                writer.writerow([image, rules.name, region, *figures])


def measure_photographs(data: str, limit: int | None, sets: Sequence[RuleSet], find: Finder) -> Stability:
    """Measure regions on photographs with ground-truth landmarks."""
    stability = Stability()
    photographs = itertools.islice(read_photographs(data, 1), limit)
    for photograph in tqdm(photographs, desc="photographs", unit=" photographs"):
        image = DecodedImage(photograph.pixels, *photograph.pixels.shape[:2])
        found = find(image, row_of(photograph, HINTS["box and points"]))
        stability.add(photograph.name, image, photograph.truth, found, sets)
    return stability


def print_stability(stability: Stability, sets: Sequence[RuleSet], to: str | None) -> None:
    """Print the measurements on photographs with ground-truth landmarks, and plot areas over angles."""
    number = len(stability.ious)
    print(f"\nIoU of regions from detected and from true landmarks, {number} photographs; skipped: ", end="")
    print(len(stability.missed), *stability.missed)
    if number:
        ious = np.array(stability.ious)
        print_regions(["mean", "5 %"], np.stack([mean(ious), percentile(ious, 5)], axis=1), sets)
    areas = np.array(stability.areas)
    angles = {
        "yaw": np.array(list(map(estimate_yaw, stability.truths))),
        "roll": np.array(list(map(roll, stability.truths))),
    }
    for (kind, values), (index, rules) in itertools.product(angles.items(), enumerate(sets)):
        numbers, medians = binned_medians(values, areas[:, index])
        print(f"\n{rules.name}: median area in % of the face crop, by {kind} in degrees")
        print_table(bin_names(), {"faces": list(numbers), **dict(zip(REGION_NAMES, 100 * medians.T, strict=True))})
    if to is not None:
        plot_areas(angles, areas, [rules.name for rules in sets], os.path.join(to, "areas.png"))


def print_turning(truths: Sequence[FloatArray], sets: Sequence[RuleSet]) -> None:
    """Print how areas change as frontal faces are rotated."""
    faces = frontal_faces(truths)
    if not faces:
        return
    tables = []
    for rules in tqdm(sets, desc="rotated faces", unit=" rule sets"):
        jumps, shares = turning_faces(faces, rules)
        tables.append([percentile(jumps, 50), percentile(jumps, 100), *percentile(shares, 50)])
    print(f"\n{len(faces)} frontal face{'s' * (len(faces) != 1)} rotated, areas in fractions of the frontal area:")
    print("largest change by one degree (median and maximum of the faces), and fraction left at some yaws (median)")
    titles = ["jump", "largest", *(f"at {yaw}" for yaw in SHOWN_YAWS)]
    print_regions(titles, np.array(tables), sets)


def print_regions(titles: Sequence[str], values: FloatArray, sets: Sequence[RuleSet]) -> None:
    """Print values ``(rule sets, titles, 10)`` with a row for each region."""
    print_table(
        [*titles] * len(sets),
        dict(zip(REGION_NAMES, values.reshape(-1, len(REGION_NAMES)).T, strict=True)),
        [rules.name for rules in sets],
    )


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", metavar="DIR", help="images N.jpg of CelebAMask-HQ")
    parser.add_argument("--masks", metavar="DIR", help="their part masks, or label maps N.png")
    parser.add_argument(
        "--photographs", metavar="DIR", help="photographs with ground-truth landmarks, in CelebA's layout"
    )
    parser.add_argument("--rules", nargs="+", default=[], metavar="MODULE:FUNCTION", help="further rules to compare")
    parser.add_argument("--output", metavar="DIR", help="folder for drawings and figures")
    parser.add_argument("--limit", type=int, metavar="N", help="use only the first N images")
    options = parser.parse_args(argv)
    if (options.images is None) != (options.masks is None):
        parser.error("--images and --masks require each other")
    if options.images is None and options.photographs is None:
        parser.error("expected --images and --masks, or --photographs")
    return options


def measure(options: argparse.Namespace, find: Finder) -> None:
    """Run and print the requested measurements."""
    sets = rule_sets(options.rules)
    if options.output is not None:
        os.makedirs(options.output, exist_ok=True)
    if options.images is not None:
        images = marked_images(options.images, options.masks)[: options.limit]
        agreement = compare_with_people(options.images, images, sets, find, options.output)
        print_agreement(agreement, sets)
        if options.output is not None:
            write_csv(agreement, sets, os.path.join(options.output, "human.csv"))
    if options.photographs is not None:
        of_landmarks = [rules for rules in sets if rules.background is None]
        stability = measure_photographs(options.photographs, options.limit, of_landmarks, find)
        print_stability(stability, of_landmarks, options.output)
        print_turning(stability.truths, of_landmarks)


def main(argv: Sequence[str] | None = None) -> None:
    """Print all measurements."""
    options = parse_arguments(argv)
    try:
        chain = FallbackChain(open_detectors(detector_settings(RunConfig("", "", ""))))
        measure(options, finder(chain))
        chain.close()
    except InputError as error:
        print(f"evaluate_regions: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
