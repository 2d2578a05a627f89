"""Stability of regions: with detected landmarks, and as the head turns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import shapely
from matplotlib.figure import Figure
from region_agreement import RuleSet, count_pixels, scores

from pipeline.drawing.text import display_name
from pipeline.images import DecodedImage
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH, face_crop_box
from regions.landmarks import MIRROR, FloatArray, face_frame, mean_shape
from regions.masks import sample_points
from regions.outlines import REGION_NAMES
from training.plots import add_legend, plain_text, plot_text

EDGES = (-30, -15, -5, 5, 15, 30)
"""Edges of the bins of angles, in degrees."""
YAWS = np.arange(-60, 61)
SHOWN_YAWS = (30, 45, 60)
FRONTAL = 10.0
"""Maximum yaw of a frontal face, in degrees."""
MAX_ROTATED = 100
"""Maximum number of faces that are rotated."""

# fmt: off
_LEFT_HALF = {
    0: -0.70, 1: -0.90, 2: -0.95, 3: -0.85, 4: -0.70, 5: -0.50, 6: -0.30, 7: -0.15, 8: -0.10,  # jaw
    17: -0.30, 18: 0.00, 19: 0.15, 20: 0.20, 21: 0.25,  # brow
    27: 0.25, 28: 0.40, 29: 0.55, 30: 0.60, 31: 0.25, 32: 0.30, 33: 0.30,  # nose
    36: -0.10, 37: 0.00, 38: 0.05, 39: 0.00, 40: 0.00, 41: 0.00,  # eye
    48: -0.05, 49: 0.20, 50: 0.30, 51: 0.30, 57: 0.20, 58: 0.20, 59: 0.15, 60: 0.00, 61: 0.20, 62: 0.20,  # mouth
    66: 0.15, 67: 0.15,
}
# fmt: on
DEPTH = np.array([_LEFT_HALF.get(i, _LEFT_HALF.get(int(MIRROR[i]))) for i in range(68)])
"""Depth of each landmark of a frontal face in front of the eyes, in eye distances: FaceMesh's estimate for frontal
faces, rounded."""
CHEEKS = 0.15
"""Depth of the cheeks in front of the eyes; they form the outline on the far side of the jaw."""


def estimate_yaw(landmarks: FloatArray) -> float:
    """Return the yaw of a head in degrees, positive to the right of the image.

    The mean face with `DEPTH`, rotated by an angle a, has x' = x cos a + z sin a; the two factors are fitted to all
    landmarks except the jaw, in the face frame.
    """
    inner = slice(17, 68)
    x = face_frame(landmarks).to_face(landmarks)[inner, 0]
    columns = np.column_stack([mean_shape()[inner, 0], DEPTH[inner], mean_shape()[inner, 1], np.ones(len(x))])
    cos, sin = np.linalg.lstsq(columns, x, rcond=None)[0][:2]
    return float(np.degrees(np.arctan2(sin, cos)))


def roll(landmarks: FloatArray) -> float:
    """Return the direction of the face frame, in degrees clockwise."""
    right = face_frame(landmarks).right
    return float(np.degrees(np.arctan2(right[1], right[0])))


def turn_head(landmarks: FloatArray, yaw: float) -> FloatArray:
    """Rotate a frontal face by some degrees about its vertical axis, in parallel projection.

    Each landmark has the depth `DEPTH`. On the far side, the cheek hides the ear, so the jaw line follows the
    outline of an ellipse through ears and cheeks.
    """
    frame = face_frame(landmarks)
    face = frame.to_face(landmarks)
    cos, sin = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    x = face[:, 0] * cos + DEPTH * sin
    jaw = face[:17, 0]
    middle, half = (jaw + jaw[::-1]) / 2, (jaw - jaw[::-1]) / 2
    outline = middle * cos + DEPTH[:17] * sin + np.sign(half) * np.hypot(half * cos, (CHEEKS - DEPTH[:17]) * sin)
    x[:17] = np.where(half * sin > 0, outline, x[:17])
    return frame.to_image(np.column_stack([x, face[:, 1]]))


@dataclass
class Stability:
    """Measurements on photographs with ground-truth landmarks, one entry each.

    Attributes
    ----------
    truths : list of ndarray (68, 2)
    areas : list of ndarray (rule sets, 10)
        Areas of regions from true landmarks, in fractions of the face crop.
    ious : list of ndarray (rule sets, 10)
        IoU of regions from true and from detected landmarks, where landmarks were found.
    missed : list of str
        Photographs without detected landmarks.
    """

    truths: list[FloatArray] = field(default_factory=list)
    areas: list[FloatArray] = field(default_factory=list)
    ious: list[FloatArray] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def add(
        self, name: str, image: DecodedImage, truth: FloatArray, found: FloatArray | None, sets: Sequence[RuleSet]
    ) -> None:
        """Measure one photograph."""
        x0, y0, x1, y1 = box = face_crop_box(truth)
        self.truths.append(truth)
        areas = np.array([shapely.area(rules.polygons(truth)) for rules in sets])
        self.areas.append(areas / ((x1 - x0) * (y1 - y0)))
        if found is None:
            self.missed.append(name)
            return
        xs, ys = sample_points(box, IMAGE_HEIGHT, IMAGE_WIDTH)
        pairs = [[rules.masks(image, points, xs, ys) for points in (found, truth)] for rules in sets]
        self.ious.append(np.array([scores(count_pixels(*pair))[:, 0] for pair in pairs]))


def frontal_faces(truths: Sequence[FloatArray]) -> list[FloatArray]:
    """Return the landmarks of frontal faces, every n-th if there are more than `MAX_ROTATED`."""
    frontal = [truth for truth in truths if abs(estimate_yaw(truth)) <= FRONTAL]
    return frontal[:: -(-len(frontal) // MAX_ROTATED) or 1]


def turning_faces(faces: Sequence[FloatArray], rules: RuleSet) -> tuple[FloatArray, FloatArray]:
    """Return how areas change as frontal faces are rotated.

    Returns
    -------
    jumps : ndarray (faces, 10)
        Largest change within one degree, in fractions of the frontal area.
    fractions : ndarray (faces, len(SHOWN_YAWS), 10)
        Area at these yaws, the mean of both sides, in fractions of the frontal area.
    """
    areas = np.array([[shapely.area(rules.polygons(turn_head(face, yaw))) for yaw in YAWS] for face in faces])
    first = areas[:, [len(YAWS) // 2]]
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(first > 0, areas / first, np.nan)
    either = np.array([[len(YAWS) // 2 - yaw, len(YAWS) // 2 + yaw] for yaw in SHOWN_YAWS])
    return np.abs(np.diff(relative, axis=1)).max(axis=1), relative[:, either].mean(axis=2)


def bin_names() -> list[str]:
    """Return the names of the bins of angles."""
    inner = [f"{low}..{high}" for low, high in itertools.pairwise(EDGES)]
    return [f"<{EDGES[0]}", *inner, f">{EDGES[-1]}"]


def binned_medians(angles: FloatArray, areas: FloatArray) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Return the number of faces ``(bins,)`` and the median areas ``(bins, 10)`` by bins of an angle."""
    bins = np.digitize(angles, EDGES)
    numbers = np.bincount(bins, minlength=len(EDGES) + 1)
    medians = [
        np.median(areas[bins == i], axis=0) if number else np.full(10, np.nan) for i, number in enumerate(numbers)
    ]
    return numbers, np.array(medians)


@plain_text
def plot_areas(angles: dict[str, FloatArray], areas: FloatArray, names: Sequence[str], path: str) -> None:
    """Write a scatter plot of areas over angles: a column for each region, a row for each kind of angle.

    Parameters
    ----------
    angles : mapping of str to ndarray (faces,)
        In degrees, by kind.
    areas : ndarray (faces, rule sets, 10)
        In fractions of the face crop.
    names : sequence of str
        Names of the rule sets.
    path : str
        File to write.
    """
    figure = Figure(figsize=(3 * len(REGION_NAMES), 3 * len(angles)), layout="constrained")
    axes = figure.subplots(len(angles), len(REGION_NAMES), squeeze=False)
    for row, (kind, values) in zip(axes, angles.items(), strict=True):
        for region, axis in enumerate(row):
            dots = [
                axis.scatter(values, areas[:, number, region], s=4, alpha=0.5, linewidths=0)
                for number in range(len(names))
            ]
            axis.set_title(display_name(REGION_NAMES[region]))
            axis.set_xlabel(f"{kind} in degrees")
            axis.set_xlim(-60, 60)
            axis.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("fraction of the face crop")
    add_legend(axes[0, 0], dots, [plot_text(name) for name in names], markerscale=3)
    figure.savefig(path, dpi=80)
