"""The images that are measured: those of the built-in sample or of a folder in CelebA's layout, as hard links."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import command_cost
from pipeline.config import RunConfig
from pipeline.demo import make_sample
from pipeline.errors import InputError
from pipeline.formats.dataset_json import read_dataset_file
from pipeline.formats.manifest import landmark_rows, read_manifest
from pipeline.inputs.dataset import read_dataset
from pipeline.vocabulary import WHOLE_IMAGE
from regions.attributes import load_packaged_table
from regions.landmarks import five_points

NAMES = tuple(load_packaged_table("celeba").attributes)
POSITIVE = 0.226
"""The fraction of CelebA's labels that are 1."""
BOX_SIZE, BOX_ABOVE = (2.4, 2.6), 0.2
"""Width and height of a face box, and how far its center lies above that of the five points, in extents of these."""
POINT_COLUMNS = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
)

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Photographs:
    """Images in a folder of the benchmark's own, with what is known of each.

    Attributes
    ----------
    files : tuple of Path
    bboxes : ndarray (n, 4)
    points : ndarray (n, 5, 2)
        NaN where not known.
    """

    files: tuple[Path, ...]
    bboxes: FloatArray
    points: FloatArray

    def take(self, indices: npt.NDArray[np.intp]) -> Photographs:
        """Return the photographs with the given indices, in that order."""
        files = tuple(self.files[i] for i in indices)
        return Photographs(files, self.bboxes[indices], self.points[indices])

    def repeated(self, count: int) -> Photographs:
        """Return so many photographs, in turn."""
        return self.take(np.arange(count) % len(self.files))


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a folder in CelebA's layout."""
    parser.add_argument("--images", metavar="DIR", help="other images than those of the built-in sample")
    parser.add_argument("--labels", metavar="FILE", help="label file of these images")
    parser.add_argument("--bboxes", metavar="FILE", help="their face boxes (default: derived from a first run)")
    parser.add_argument("--points", metavar="FILE", help="their five points (default: derived from a first run)")
    parser.add_argument("--scratch", metavar="DIR", help="where temporary files are written")


def named_images(options: argparse.Namespace) -> RunConfig | None:
    """Return the data set that the options name; None for the built-in sample.

    Raises
    ------
    InputError
        If they name only one of images and labels.
    """
    if not options.images and not options.labels:
        return None
    if not options.images or not options.labels:
        raise InputError("--images and --labels belong together")
    return RunConfig(options.images, options.labels, "", bboxes=options.bboxes, points=options.points)


def load_photographs(named: RunConfig | None, scratch: Path) -> Photographs:
    """Copy the images of a data set, or of the built-in sample, into a folder, and find out where the faces are.

    Of the built-in sample only the images are taken whose face is found at first sight, as nearly all faces of CelebA
    are.
    """
    if named is None:
        sample = make_sample(str(scratch / "sample"), "")
        config = RunConfig(sample.images, sample.labels, "")
    else:
        config = named
    table = read_dataset(config).images
    usable = np.flatnonzero([reason is None for reason in table.reasons])
    table = table.take(usable)
    bboxes, points = table.bboxes.astype(np.float64), table.points.astype(np.float64)
    chosen = np.arange(len(table))
    if not (config.bboxes and config.points):
        found, sources = first_run(config, scratch / "first_run")
        derived = np.array([found.get(name, np.full((5, 2), np.nan)) for name in table.image_ids])
        points = points if config.points else derived
        bboxes = bboxes if config.bboxes else boxes_about(points)
        if named is None:
            chosen = np.flatnonzero([sources.get(name) == WHOLE_IMAGE for name in table.image_ids])
    folder = scratch / "photographs"
    folder.mkdir()
    files = [folder / f"{index:06}{Path(name).suffix}" for index, name in enumerate(table.image_ids)]
    photographs = Photographs(tuple(files), bboxes, points).take(chosen)
    for index, file in zip(chosen, photographs.files, strict=True):
        shutil.copyfile(os.path.join(config.images, table.image_ids[index]), file)
    return photographs


def first_run(config: RunConfig, output: Path) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Run the pipeline without hints; return the five points of each face found, and its landmark source."""
    command_cost(["pipeline", "run", *run_arguments(config), f"--output={output}", "--min_coverage=0"], allowed=(0, 3))
    points: dict[str, FloatArray] = {}
    sources: dict[str, str] = {}
    for shard in read_dataset_file(str(output)).shards:
        table = read_manifest(str(output), shard.name, ["image_id", "landmarks", "landmark_source"])
        rows = zip(table["image_id"].to_pylist(), table["landmark_source"].to_pylist(), strict=True)
        for (image_id, source), landmarks in zip(rows, landmark_rows(table), strict=True):
            if source is not None:
                points[image_id], sources[image_id] = five_points(landmarks), source
    return points, sources


def boxes_about(points: FloatArray) -> FloatArray:
    """Return a face box ``(n, 4)``, x, y, width, height, about the five points ``(n, 5, 2)`` of each face."""
    low, high = points.min(axis=1), points.max(axis=1)
    extent = (high - low).max(axis=1, keepdims=True)
    sizes = extent * BOX_SIZE
    return np.concatenate([(low + high - sizes) / 2 - extent * (0, BOX_ABOVE), sizes], axis=1)


def link_images(photographs: Photographs, folder: Path, splits: Sequence[int] = ()) -> RunConfig:
    """Write a data set in CelebA's layout whose images are hard links; its labels are random, as often 1 as CelebA's.

    Parameters
    ----------
    photographs : Photographs
        In the order of the data set.
    folder : Path
        On the same file system as the photographs.
    splits : sequence of int, optional
        The split of each image, as CelebA numbers them: 0, 1, 2 for train, val, test.

    Returns
    -------
    RunConfig
        Without an output folder.
    """
    images = folder / "images"
    images.mkdir(parents=True)
    names = [f"{index:06}{file.suffix}" for index, file in enumerate(photographs.files, 1)]
    for name, file in zip(names, photographs.files, strict=True):
        os.link(file, images / name)
    positive = np.random.default_rng(0).random((len(names), len(NAMES))) < POSITIVE
    signs = np.where(positive, " 1", "-1")
    _write(folder / "labels.txt", (len(names), " ".join(NAMES)), names, signs)
    known = np.flatnonzero(~np.isnan(photographs.bboxes).any(axis=1) & ~np.isnan(photographs.points).any(axis=(1, 2)))
    with_hints = [names[index] for index in known]
    bboxes, points = photographs.bboxes[known], photographs.points[known].reshape(-1, 10)
    _write(folder / "bboxes.txt", (len(known), "image_id x_1 y_1 width height"), with_hints, _text(bboxes))
    _write(folder / "points.txt", (len(known), POINT_COLUMNS), with_hints, _text(points))
    if splits:
        _write(folder / "partition.txt", (), names, np.array(splits).astype(str)[:, None])
    partition = str(folder / "partition.txt") if splits else None
    files = [str(folder / f"{name}.txt") for name in ("labels", "bboxes", "points")]
    return RunConfig(str(images), files[0], "", partition, bboxes=files[1], points=files[2])


def _text(values: FloatArray) -> npt.NDArray[np.str_]:
    return np.rint(values).astype(np.int64).astype(str)


def _write(path: Path, header: Sequence[object], names: Sequence[str], values: npt.NDArray[np.str_]) -> None:
    rows = (f"{name} {' '.join(cells)}" for name, cells in zip(names, values.tolist(), strict=True))
    path.write_text("\n".join([*map(str, header), *rows]) + "\n", encoding="utf-8")


def run_arguments(config: RunConfig) -> list[str]:
    """Return the options of ``attparse run`` that name a data set."""
    files = {name: getattr(config, name) for name in ("images", "labels", "partition", "bboxes", "points")}
    return [f"--{name}={path}" for name, path in files.items() if path]
