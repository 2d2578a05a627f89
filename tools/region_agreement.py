"""Sets of rules for regions, human-annotated label maps, and the agreement of the two."""

from __future__ import annotations

import functools
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import public_regions
from PIL import Image

from pipeline import storage
from pipeline.detection.mediapipe_detectors import PersonSegmenter
from pipeline.drawing.contact_sheet import Tile, contact_sheet
from pipeline.drawing.overlays import REGION_COLORS
from pipeline.drawing.text import display_name
from pipeline.errors import InputError
from pipeline.images import DecodedImage
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH, cut, face_crop_box
from regions.landmarks import FloatArray
from regions.masks import MAY_REACH_BACKGROUND, MIN_PERSON
from regions.outlines import REGION_NAMES
from regions.polygons import GeometryArray, polygon_masks, region_polygons

PARTS = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
"""The parts of CelebAMask-HQ in the order of its ``g_mask.py``: labels from 1, later parts cover earlier ones."""

COMPARED = {
    "mouth": ("mouth", "u_lip", "l_lip"),
    "eyes": ("l_eye", "r_eye"),
    "nose": ("nose",),
    "below_chin": ("neck", "neck_l"),
    "eyebrows": ("l_brow", "r_brow"),
    "ears": ("l_ear", "r_ear"),
    "top_of_head": ("hair", "hat"),
}
"""Regions that have annotated counterparts, and the parts that form them."""

MEASURES = ("IoU", "P", "R")
MASK_FILE = re.compile(rf"(?:.*/)?(\d+)(?:_({'|'.join(PARTS)}))?\.png")
Pixels = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.integer[Any]]

FILL = 0.3
"""Opacity of regions in drawings."""


@dataclass(frozen=True)
class RuleSet:
    """One set of rules for the ten regions.

    Attributes
    ----------
    name : str
    polygons : callable
        From landmarks ``(68, 2)`` to polygons ``(10,)`` in the order of `REGION_NAMES`.
    background : callable, optional
        From an image, landmarks, and columns and rows of a grid to the points ``(rows, columns)`` of the background;
        top_of_head, ears and below_chin are removed there.
    """

    name: str
    polygons: Callable[[FloatArray], GeometryArray]
    background: Callable[[DecodedImage, FloatArray, FloatArray, FloatArray], Masks] | None = None

    def masks(self, image: DecodedImage, landmarks: FloatArray, xs: FloatArray, ys: FloatArray) -> Masks:
        """Return the points of a grid inside each region; points outside the image are in no region.

        Parameters
        ----------
        image : DecodedImage
        landmarks : ndarray (68, 2)
        xs : ndarray (width,)
        ys : ndarray (height,)
            Columns and rows of the grid, ascending, in pixels of the source image.

        Returns
        -------
        ndarray (10, height, width) bool
        """
        polygons = self.polygons(landmarks)
        if len(polygons) != len(REGION_NAMES):
            raise InputError(f"{self.name} returns {len(polygons)} regions, expected {len(REGION_NAMES)}")
        masks = polygon_masks(polygons, xs, ys, image.width, image.height)
        if self.background is not None:
            may_reach = [REGION_NAMES.index(name) for name in MAY_REACH_BACKGROUND]
            masks[may_reach] &= ~self.background(image, landmarks, xs, ys)
        return masks


def refined_rules() -> RuleSet:
    """Return our rules with ``--refine segmentation``."""
    segmenter = PersonSegmenter()

    def background(image: DecodedImage, landmarks: FloatArray, xs: FloatArray, ys: FloatArray) -> Masks:
        x0, y0, x1, y1 = box = face_crop_box(landmarks)
        person = segmenter.find(cut(image.pixels, np.multiply(box, np.tile(image.scale, 2))))
        cols, rows = (xs >= x0) & (xs < x1), (ys >= y0) & (ys < y1)
        source_cols = ((xs[cols] - x0) * IMAGE_WIDTH / (x1 - x0)).astype(int)
        source_rows = ((ys[rows] - y0) * IMAGE_HEIGHT / (y1 - y0)).astype(int)
        result = np.zeros((len(ys), len(xs)), dtype=np.bool_)
        result[np.ix_(rows, cols)] = person[np.ix_(source_rows, source_cols)] < MIN_PERSON
        return result

    return RuleSet("refined", region_polygons, background)


def rule_sets(names: Iterable[str]) -> list[RuleSet]:
    """Return our rules, ours refined, the public ones, and further functions named ``MODULE:FUNCTION``.

    Raises
    ------
    InputError
        If a name does not resolve.
    """
    sets = [
        RuleSet("ours", region_polygons),
        refined_rules(),
        RuleSet("public", public_regions.region_polygons),
    ]
    for name in dict.fromkeys(names):
        try:
            function = pkgutil.resolve_name(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"--rules {name}: {error}, expected MODULE:FUNCTION") from None
        sets.append(RuleSet(name, function))
    return sets


def pixel_centers(image: DecodedImage, rows: int, columns: int) -> tuple[FloatArray, FloatArray]:
    """Return the pixel centers of a resized copy of an image, columns and rows, in pixels of the source image."""
    xs = (np.arange(columns) + 0.5) * image.width / columns
    ys = (np.arange(rows) + 0.5) * image.height / rows
    return xs, ys


def find_label_maps(folder: str) -> dict[int, list[str]]:
    """Return the files of the label map of each image, by image number.

    Parameters
    ----------
    folder : str
        Contains label maps ``0.png``, or CelebAMask-HQ's masks of single parts, ``0/00000_hair.png``.

    Raises
    ------
    InputError
        If there is no such folder, or it has no such file.
    """
    found: dict[int, list[str]] = {}
    for name in storage.list_files(folder):
        match = MASK_FILE.fullmatch(name)
        if match:
            found.setdefault(int(match[1]), []).append(f"{folder}/{name}")
    if not found:
        raise InputError(f"{folder}: no label maps, expected files such as 0.png or 0/00000_hair.png")
    return found


def read_label_map(files: Sequence[str]) -> Pixels:
    """Read the label map ``(rows, cols)`` of one image: 0, or 1 + the part's index in `PARTS`.

    Parameters
    ----------
    files : sequence of str
        A label map, or the masks of its parts.

    Raises
    ------
    InputError
        If a file is not an image, has values that are not labels, or differs in size from the others.
    """
    parts = {match[2]: match[0] for match in map(MASK_FILE.fullmatch, files) if match}
    if None in parts:
        labels = _read_gray(parts[None])
        if labels.max() > len(PARTS):
            raise InputError(f"{parts[None]}: values up to {labels.max()}, expected labels 0 to {len(PARTS)}")
        return labels
    labels = np.zeros(_read_gray(files[0]).shape, dtype=np.uint8)
    for label, part in enumerate(PARTS, 1):
        if part in parts:
            mask = _read_gray(parts[part])
            if mask.shape != labels.shape:
                raise InputError(f"{parts[part]}: size {mask.shape}, expected {labels.shape}, the size of {files[0]}")
            labels[mask > 0] = label
    return labels


def _read_gray(file: str) -> Pixels:
    """Read the stored values of an image ``(rows, cols)``; of a color image, the first channel."""
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or 'not an image'}") from None
    return pixels if pixels.ndim == 2 else pixels[:, :, 0]


@functools.cache
def _compared_indices() -> tuple[list[int], list[Counts]]:
    regions = [REGION_NAMES.index(region) for region in COMPARED]
    return regions, [np.array([PARTS.index(part) + 1 for part in parts]) for parts in COMPARED.values()]


def human_masks(labels: Pixels) -> Masks:
    """Return the masks ``(7, rows, cols)`` of the `COMPARED` regions as people annotated them."""
    return np.stack([np.isin(labels, parts) for parts in _compared_indices()[1]])


def compared_masks(masks: Masks) -> Masks:
    """Return the masks ``(7, rows, cols)`` of the `COMPARED` regions among the masks of all ten."""
    return masks[_compared_indices()[0]]


def count_pixels(masks: Masks, true: Masks) -> Counts:
    """Return the pixel counts ``(n, 3)`` of each region ``(n, rows, cols)``: in both, in ours, in the truth."""
    return np.stack([np.count_nonzero(pixels, axis=(1, 2)) for pixels in (masks & true, masks, true)], axis=1)


def scores(counts: Counts) -> FloatArray:
    """Return IoU, precision and recall of counts ``(..., 3)``: NaN where the truth is empty.

    Precision is also NaN where the region is empty.
    """
    both, ours, true = np.moveaxis(counts.astype(np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        values: FloatArray = np.stack([both / (ours + true - both), both / ours, both / true], axis=-1)
    values[true == 0] = np.nan
    return values


def mean(values: FloatArray) -> FloatArray:
    """Return the mean along the first axis without NaN; NaN where all values are NaN."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: FloatArray = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return means


def percentile(values: FloatArray, percent: float) -> FloatArray:
    """Return a percentile along the first axis without NaN; NaN where all values are NaN."""
    result = np.full(values.shape[1:], np.nan)
    some = np.isfinite(values).any(axis=0)
    result[some] = np.nanpercentile(values[:, some], percent, axis=0)
    return result


def draw_comparison(
    title: str, image: DecodedImage, human: Masks, masks: Mapping[str, Masks], values: FloatArray
) -> Image.Image:
    """Draw the human annotation and the regions of each rule set over an image, side by side.

    Parameters
    ----------
    title : str
    image : DecodedImage
    human : ndarray (7, rows, cols) bool
    masks : mapping of str to ndarray (7, rows, cols) bool
        By name of the rule set.
    values : ndarray (rule sets, 7, 3)
        As returned by `scores`.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    small = np.asarray(cv2.resize(image.pixels, human.shape[:0:-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    colors = {region: REGION_COLORS[region] for region in COMPARED}
    tiles = []
    for (name, regions), ious in zip(masks.items(), values[:, :, 0], strict=True):
        canvas = small.copy()
        for mask, color in zip(regions, colors.values(), strict=True):
            canvas[mask] = np.round(canvas[mask] * (1 - FILL) + np.array(color) * FILL)
            _draw_outline(canvas, mask, color, 2)
        for mask in human:
            _draw_outline(canvas, mask, (0, 0, 0), 3)
            _draw_outline(canvas, mask, (255, 255, 255), 1)
        texts = [f"{display_name(region)} {iou:.2f}" for region, iou in zip(COMPARED, ious, strict=True)]
        texts.append(f"mean {mean(ious):.2f}")
        tiles.append(Tile(canvas, f"{name}: {', '.join(texts[:4])}", ", ".join(texts[4:])))
    return contact_sheet(tiles, f"{title}: human annotation (white), and regions", colors)


def _draw_outline(canvas: Pixels, mask: Masks, color: tuple[int, int, int], thickness: int) -> None:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, color, thickness)
