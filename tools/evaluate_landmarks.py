"""Measure how well faces are found, on photographs with ground-truth landmarks.

    python tools/evaluate_landmarks.py --data DIR [--every 4] [--landmarker F.task] [--detectors NAMES]

reads a data set in CelebA's layout with ground-truth landmarks (``images/``, ``landmarks.csv``,
``list_bbox_celeba.txt``, ``list_landmarks_celeba.txt``) and prints

* with and without hints: faces found, by landmark source, and correct ones (error below 10 %);
* mirrored and rotated copies: error by angle;
* faces reduced in size and placed anywhere in a large image, alone and among ten others;
* implausible shapes: how many pass the shape check.

Errors are NME: mean distances in % of the true outer eye distance. On the photographs that the
landmark map was fitted on, they are slightly too low: see the cross-validation of
``fit_landmark_map.py``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pipeline import images, storage
from pipeline.config import RunConfig
from pipeline.detection.detectors import open_detectors
from pipeline.detection.fallback_chain import DetectedFace, FallbackChain
from pipeline.detection.settings import detector_settings
from pipeline.inputs import text_tables
from pipeline.inputs.landmark_csv import read_landmark_csv
from pipeline.records import ImageRow
from regions.landmarks import MIRROR, PARTS, FloatArray, apply_similarity, fit_similarity, outer_eye_distance
from regions.quality import plausibility_problem

Pixels = npt.NDArray[np.uint8]

MAX_ERROR = 10.0  # of a correct face, in %
HINTS = {"no hints": (), "box": ("bbox",), "box and points": ("bbox", "points")}
ANGLES = (15, -15, 30, -30, 45, -45, 60, 90)
SIZES = (60, 40, 24, 16, 12)  # outer eye distances, in pixels
CANVAS = (800, 600)
GRID = (4, 3)  # cells of an image of many faces


@dataclass(frozen=True)
class Photograph:
    """An image with the ground truth of its face: pixels (rows, cols, 3), truth (68, 2), bbox (4,), points (5, 2)."""

    name: str
    pixels: Pixels
    truth: FloatArray
    bbox: FloatArray
    points: FloatArray

    def moved(self, pixels: Pixels, scale_rotation: FloatArray, shift: FloatArray) -> Photograph:
        """Return another image of the face, moved by a similarity transform."""
        truth, points = (apply_similarity(p, scale_rotation, shift) for p in (self.truth, self.points))
        old_low, old_high = self.truth.min(axis=0), self.truth.max(axis=0)
        low, high = truth.min(axis=0), truth.max(axis=0)
        scale = np.linalg.norm(scale_rotation)
        middle = (low + high) / 2 + (self.bbox[:2] + self.bbox[2:] / 2 - (old_low + old_high) / 2) * scale
        size = self.bbox[2:] * scale
        return Photograph(self.name, pixels, truth, np.concatenate([middle - size / 2, size]), points)


def read_photographs(data: str, every: int) -> Iterator[Photograph]:
    """Yield every n-th photograph."""
    truths = read_landmark_csv(os.path.join(data, "landmarks.csv"))
    numbers = {}
    for name in ("list_bbox_celeba.txt", "list_landmarks_celeba.txt"):
        table = text_tables.read_table(os.path.join(data, name))
        numbers[name] = {row.image_id: np.array(text_tables.numbers(table, row)) for row in table.rows}
    bboxes, points = numbers.values()
    for name in list(truths)[::every]:
        pixels = images.decode(storage.read_bytes(os.path.join(data, "images", name))).pixels
        yield Photograph(name, pixels, truths[name].astype(np.float64), bboxes[name], points[name].reshape(5, 2))


def error(landmarks: FloatArray, photograph: Photograph) -> FloatArray:
    """Return the error of each landmark (68,), in %."""
    distance = np.linalg.norm(landmarks - photograph.truth, axis=1)
    relative: FloatArray = 100 * distance / outer_eye_distance(photograph.truth)
    return relative


def row_of(photograph: Photograph, hints: Iterable[str]) -> ImageRow:
    """Return the row of a photograph in a data set that has these hints."""
    given = {
        name: getattr(photograph, name).astype(np.float32) if name in hints else None for name in ("bbox", "points")
    }
    return ImageRow(photograph.name, "key", np.zeros(1, dtype=np.int8), landmarks=None, reason=None, **given)


def measure(
    title: str, chain: FallbackChain, photographs: Iterable[Photograph], hints: Iterable[str], parts: bool
) -> None:
    """Print the number and the error of the faces that the fallback chain finds."""
    landmark_sources: Counter[str] = Counter()
    errors, seconds, number = [], 0.0, 0
    for photograph in photographs:
        image = images.DecodedImage(photograph.pixels, *photograph.pixels.shape[:2])
        start = time.perf_counter()
        found = chain.find(image, row_of(photograph, hints))
        seconds += time.perf_counter() - start
        number += 1
        landmark_sources[found.landmark_source if isinstance(found, DetectedFace) else f"({found.reason})"] += 1
        if isinstance(found, DetectedFace):
            errors.append(error(found.landmarks, photograph))
    table = np.array(errors).reshape(-1, 68)
    right = table[table.mean(axis=1) < MAX_ERROR]
    reached = len(errors)
    line = f"{title:28} found {reached:4} of {number}, correct {len(right):4}, with error {right.mean():5.2f} %"
    print(f"{line}, {seconds / number * 1e3:6.1f} ms   {dict(landmark_sources.most_common())}")
    if parts:
        shares = [f"{part} {right[:, indices].mean():.2f}" for part, indices in PARTS.items()]
        print(f"{'':28} {', '.join([f'all {right.mean():.2f}', *shares])}")


def mirrored(photograph: Photograph) -> Photograph:
    """Return the mirror image, with its landmarks in the usual order."""
    width = photograph.pixels.shape[1]

    def flip(points: FloatArray) -> FloatArray:
        return points * (-1, 1) + (width, 0)

    x, y, box_width, height = photograph.bbox
    return Photograph(
        photograph.name,
        np.ascontiguousarray(photograph.pixels[:, ::-1]),
        flip(photograph.truth)[MIRROR],
        np.array([width - x - box_width, y, box_width, height]),
        flip(photograph.points)[[1, 0, 2, 4, 3]],
    )


def rotated(photograph: Photograph, angle: float) -> Photograph:
    """Return a copy rotated clockwise by an angle in degrees, large enough for the whole image."""
    rows, cols = photograph.pixels.shape[:2]
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    size = np.array([abs(cos) * cols + abs(sin) * rows, abs(sin) * cols + abs(cos) * rows]).astype(int)
    scale_rotation = np.array([cos, sin])
    shift = size / 2 - apply_similarity(np.array([[cols / 2, rows / 2]]), scale_rotation, np.zeros(2))[0]
    matrix = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the center of the first pixel
    pixels = cv2.warpAffine(photograph.pixels, matrix, size.tolist(), flags=cv2.INTER_LINEAR, borderValue=(128,) * 3)
    return photograph.moved(np.asarray(pixels, dtype=np.uint8), scale_rotation, shift)


def reduced(photograph: Photograph, size: float) -> Photograph:
    """Return a crop of the head, reduced to an outer eye distance in pixels."""
    scale = size / outer_eye_distance(photograph.truth)
    rows, cols = photograph.pixels.shape[:2]
    size_in_pixels = max(1, round(cols * scale)), max(1, round(rows * scale))
    resized = cv2.resize(photograph.pixels, size_in_pixels, interpolation=cv2.INTER_AREA)
    pixels = np.asarray(resized, dtype=np.uint8)
    scale = pixels.shape[1] / cols
    small = photograph.moved(pixels, np.array([scale, 0.0]), np.zeros(2))
    low = np.clip(small.truth.min(axis=0) - 0.9 * size, 0, None).astype(int)
    high = (small.truth.max(axis=0) + 0.6 * size).astype(int)
    return small.moved(pixels[low[1] : high[1], low[0] : high[0]], np.array([1.0, 0.0]), -low.astype(np.float64))


def scene(faces: list[Photograph], random: np.random.Generator) -> Photograph:
    """Return the first face at a random place in a large plain image, with each other face in its own cell."""
    width, height = CANVAS
    colors = random.uniform(60, 190, (4, 5, 3)).astype(np.float32)
    canvas = np.clip(cv2.resize(colors, CANVAS, interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
    columns, rows = GRID if len(faces) > 1 else (1, 1)
    cell = np.array([width // columns, height // rows])
    cells = random.permutation(columns * rows)
    shift = np.zeros(2)
    for index, face in enumerate(faces):
        pixels = face.pixels[: cell[1], : cell[0]]
        free = cell - (pixels.shape[1], pixels.shape[0])
        x, y = cell * (cells[index] % columns, cells[index] // columns) + random.integers(0, free + 1)
        canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
        if index == 0:
            shift = np.array([x, y], dtype=np.float64)
    return faces[0].moved(canvas, np.array([1.0, 0.0]), shift)


def measure_sizes(chain: FallbackChain, photographs: list[Photograph]) -> None:
    """Print how well small faces are found, alone and among ten others."""
    for size in SIZES:
        for hints, names in HINTS.items():
            random = np.random.default_rng(size)
            scenes = (scene([reduced(photograph, size)], random) for photograph in photographs)
            measure(f"{size} px, {hints}", chain, scenes, names, parts=False)
    for size in SIZES[1:3]:
        random = np.random.default_rng(size)
        crowds = (
            scene([reduced(photographs[(i + k) % len(photographs)], size) for k in range(11)], random)
            for i in range(len(photographs))
        )
        measure(f"{size} px among ten, box", chain, crowds, HINTS["box"], parts=False)


def measure_mirrored(chain: FallbackChain, photographs: list[Photograph]) -> None:
    """Print the distance between the landmarks of a mirror image and the mirrored landmarks."""
    steps = []
    for photograph in photographs:
        landmarks = []
        for one in (photograph, mirrored(photograph)):
            found = chain.find(
                images.DecodedImage(one.pixels, *one.pixels.shape[:2]), row_of(one, HINTS["box and points"])
            )
            landmarks.append(found.landmarks if isinstance(found, DetectedFace) else np.full((68, 2), np.nan))
        back = (landmarks[1] * (-1, 1) + (photograph.pixels.shape[1], 0))[MIRROR]
        steps.append(100 * (landmarks[0] - back) / outer_eye_distance(photograph.truth))
    apart = np.linalg.norm(steps, axis=2)
    signed = np.linalg.norm(np.nanmean(steps, axis=0), axis=1)
    print(f"landmarks of an image and of its mirror image: {np.nanmean(apart):.2f} % apart,", end=" ")
    print(f"{signed.mean():.2f} % by their mean over the images")


def measure_shapes(photographs: list[Photograph]) -> None:
    """Print how many true shapes, and how many implausible ones of each kind, pass the shape check."""
    random = np.random.default_rng(0)

    def swapped(points: FloatArray, pair: tuple[int, int]) -> FloatArray:
        order = np.arange(68)
        order[list(pair)] = pair[::-1]
        return np.take(points, order, axis=0)

    def one_moved(points: FloatArray) -> FloatArray:
        angle = random.uniform(0, 2 * np.pi)
        step = 0.5 * outer_eye_distance(points) * np.array([np.cos(angle), np.sin(angle)])
        moved: FloatArray = points + step * (np.arange(68) == random.integers(68))[:, None]
        return moved

    def halves_of_two(points: FloatArray) -> FloatArray:
        other = photographs[random.integers(len(photographs))].truth
        laid = apply_similarity(other, *fit_similarity(other[36:48], points[36:48]))
        return np.where(random.random(68)[:, None] < 0.5, laid, points)

    kinds: dict[str, Callable[[FloatArray], FloatArray]] = {
        "true": lambda points: points,
        "left and right swapped": lambda points: points[MIRROR],
        "counted from the other end": lambda points: points[::-1],
        "counted from 1": lambda points: np.roll(points, 1, axis=0),
        "shuffled": lambda points: points[random.permutation(68)],
        "mouth corners swapped": lambda points: swapped(points, (48, 54)),
        "eye corners swapped": lambda points: swapped(points, (36, 39)),
        "one off by half": one_moved,
        "squeezed to a third": lambda points: (points - points.mean(axis=0)) * (0.33, 1) + points.mean(axis=0),
        "mixed from two faces": halves_of_two,
    }
    for kind, change in kinds.items():
        passed = sum(
            plausibility_problem(change(p.truth), p.pixels.shape[1], p.pixels.shape[0]) is None for p in photographs
        )
        print(f"shape: {kind:28} {passed} of {len(photographs)} pass")


def main() -> None:
    """Print all measurements."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR", help="photographs with ground-truth landmarks")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use only every N-th photograph (default: 1)")
    parser.add_argument("--detectors", default="mediapipe", help="detectors, as in attparse run")
    parser.add_argument("--landmarker", metavar="F.task", help="Face Landmarker model file, as in attparse run")
    options = parser.parse_args()
    config = RunConfig("", "", "", detectors=options.detectors, landmarker=options.landmarker)
    chain = FallbackChain(open_detectors(detector_settings(config)))
    photographs = list(tqdm(read_photographs(options.data, options.every), desc="read", unit=" photographs"))
    for hints, names in HINTS.items():
        measure(hints, chain, photographs, names, parts=True)
    for hints, names in HINTS.items():
        measure(f"mirrored, {hints}", chain, map(mirrored, photographs), names, parts=False)
        for angle in ANGLES:
            copies = (rotated(photograph, angle) for photograph in photographs)
            measure(f"rotated by {angle}, {hints}", chain, copies, names, parts=False)
    measure_mirrored(chain, photographs)
    measure_sizes(chain, photographs)
    measure_shapes(photographs)
    chain.close()


if __name__ == "__main__":
    main()
