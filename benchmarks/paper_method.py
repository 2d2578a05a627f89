"""The paper's way to annotate CelebA, in our own words, as far as it costs time.

Each image is upsampled once and searched with dlib's frontal face detector; dlib's model lays 68 points on the first
face; ten regions are drawn from the points in the size of the image; and the union of each attribute's regions, or
nothing where the label is not 1, becomes a JPEG file of its own: 40 per image.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.annotation import Annotation
from benchmarks.bench import Bench
from benchmarks.measure import announce, cpu_seconds
from benchmarks.table import Row, median_row
from pipeline.detection.model_files import dlib_model_path
from pipeline.errors import InputError
from pipeline.records import ImageTable
from regions.attributes import load_packaged_table
from regions.landmarks import FloatArray

IMAGES = 40
"""Most images that are annotated in the paper's way, which is slow."""

OUTLINES = {
    "chin": [[5, 6, 7, 8, 9, 10, 11, 54, 55, 56, 57, 58, 59, 48]],
    "cheeks": [[0, 1, 2, 3, 4, 5, 48, 31, 39, 40, 41, 36], [16, 15, 14, 13, 12, 11, 54, 35, 42, 47, 46, 45]],
    "mouth": [list(range(48, 60))],
    "above_mouth": [[48, 31, 32, 33, 34, 35, 54, 53, 52, 51, 50, 49]],
    "nose": [[31, 32, 33, 34, 35, 42, 27, 39]],
    "eyes": [list(range(36, 42)), list(range(42, 48))],
    "eyebrows": [list(range(17, 22)), list(range(22, 27))],
}
"""The landmarks along the outlines of the regions that follow landmarks alone."""
RAISED = {
    "below_chin": [([5, 6, 7, 8, 9, 10, 11], (33, 58))],
    "ears": [([0, 1, 2, 3], (17, 0)), ([16, 15, 14, 13], (26, 16))],
    "top_of_head": [([19, 24], (8, 33))],
}
"""The other regions: a line of landmarks, and the same line moved by the step from one landmark to another."""


class PaperMethod:
    """dlib's detector and 68-point model, and a file per attribute.

    Parameters
    ----------
    model : str
        Path of dlib's 68-point model.
    folder : Path
        Gets the files of one image, which those of the next overwrite.
    """

    def __init__(self, model: str, folder: Path) -> None:
        import dlib  # noqa: PLC0415 - an extra

        cv2.setNumThreads(1)
        folder.mkdir()
        self._folder = folder
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(model)
        self._regions = tuple(load_packaged_table("celeba").attributes.values())

    def annotate(self, file: str, labels: npt.NDArray[np.int8]) -> bool:
        """Write the masks of an image; return whether a face was found."""
        pixels = cv2.imread(file, cv2.IMREAD_COLOR_RGB)
        faces = [] if pixels is None else self._detector(pixels, 1)
        if not faces:
            return False
        parts = self._predictor(pixels, faces[0]).parts()
        landmarks = np.array([(part.x, part.y) for part in parts], dtype=np.float64)
        masks = full_size_masks(landmarks, labels, self._regions, pixels.shape[:2])
        for index, mask in enumerate(masks):
            cv2.imwrite(str(self._folder / f"{index}.jpg"), mask)
        return True


def full_size_masks(
    landmarks: FloatArray, labels: npt.NDArray[np.int8], regions: tuple[tuple[str, ...], ...], size: tuple[int, ...]
) -> list[npt.NDArray[np.uint8]]:
    """Draw the masks of an image in its own size.

    Parameters
    ----------
    landmarks : ndarray (68, 2)
        In pixels.
    labels : ndarray (attributes,) int8
        The mask of an attribute whose label is not 1 is empty.
    regions : tuple of tuple of str
        The regions of each attribute.
    size : tuple of int
        Rows and columns.

    Returns
    -------
    list of ndarray (rows, cols) uint8
        0 or 255; one for each attribute.
    """
    rings = {name: [landmarks[ring] for ring in outline] for name, outline in OUTLINES.items()}
    for name, lines in RAISED.items():
        steps = [(landmarks[line], landmarks[end] - landmarks[start]) for line, (start, end) in lines]
        rings[name] = [np.concatenate([line, line[::-1] + step]) for line, step in steps]
    drawn = {}
    for name, outline in rings.items():
        drawn[name] = np.zeros(size, dtype=np.uint8)
        cv2.fillPoly(drawn[name], [np.rint(ring).astype(np.int32) for ring in outline], (255,))
    masks = []
    for label, names in zip(labels, regions, strict=True):
        mask = np.zeros(size, dtype=np.uint8)
        for name in names if label == 1 else ():
            mask |= drawn[name]
        masks.append(mask)
    return masks


def paper_rows(bench: Bench) -> list[Row]:
    """Compare the CPU time of the annotation with points with that of the paper's way, where dlib and its model are."""
    try:
        method = PaperMethod(dlib_model_path(bench.dlib_model), bench.scratch / "paper_masks")
    except (ImportError, InputError, RuntimeError) as error:
        announce(
            f"left out: the paper's method ({error}); it needs the extra dlib, or --dlib_model with a 68-point model"
        )
        return []
    photographs = replace(bench, count=min(bench.count, IMAGES), scratch=bench.scratch / "paper")
    config = replace(photographs.data_set, output=str(photographs.scratch / "run"))
    with contextlib.closing(Annotation(config, bench.rounds)) as annotation:
        annotation.warm_up()
        rounds = []
        for index, plan in enumerate(annotation.plans):
            files, count = annotation.files(index), len(plan.images)
            ours = cpu_seconds(annotation.build, index) / count * 1e3
            other = cpu_seconds(_annotate_all, method, files, plan.images) / count * 1e3
            rounds.append((ours, other))
    shutil.rmtree(bench.scratch / "paper_masks")
    return [median_row("CPU per image with points, against the paper's method", "ms", rounds)]


def _annotate_all(method: PaperMethod, files: list[str], images: ImageTable) -> int:
    return sum(method.annotate(file, labels) for file, labels in zip(files, images.labels, strict=True))
