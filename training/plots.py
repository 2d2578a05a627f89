"""Charts of a training: loss curves, accuracy per attribute, and maps overlaid on faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from training.storage import create

WARM = np.array([255, 60, 20], dtype=np.float32)
"""Color of the maps."""
OPACITY = 0.65


class LabeledFace(NamedTuple):
    """A face with its predicted maps and probabilities.

    Attributes
    ----------
    title : str
    pixels : ndarray (218, 178, 3) uint8
        RGB.
    maps : ndarray (attributes, 96, 76) float32
    probabilities : ndarray (attributes,) float32
    """

    title: str
    pixels: npt.NDArray[np.uint8]
    maps: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]


def draw_curves(history: Sequence[Mapping[str, Any]], path: str) -> None:
    """Draw losses and accuracy over the epochs of a training, stage 1 on a gray background."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    epochs = [record["epoch"] + 1 for record in history]
    end_of_stage1 = sum(record["stage"] == 1 for record in history) + 0.5
    for axes, name in zip(figure.subplots(1, 3), ("mse", "bce", "accuracy"), strict=True):
        for split in ("train", "val"):
            if history and f"{split}_{name}" in history[0]:
                axes.plot(epochs, [record[f"{split}_{name}"] for record in history], "o-", markersize=3, label=split)
        if end_of_stage1 > 1:
            axes.axvspan(0.5, end_of_stage1, color="0.93")
        axes.set(title=name.upper() if len(name) == 3 else name, xlabel="epoch")
        if axes.lines:
            axes.legend()
    _save(figure, path)


def draw_bars(runs: Mapping[str, Mapping[str, Any]], measure: str, path: str) -> None:
    """Draw a measure per attribute, one bar for each run side by side (Figures 5 to 7 of the paper).

    Parameters
    ----------
    runs : mapping of str to mapping
        Results of `metrics.describe`, by name of the run.
    measure : str
        Such as ``accuracy``.
    path : str
        PNG to write.
    """
    names = list(dict.fromkeys(name for run in runs.values() for name in run["attributes"]))
    figure = Figure(figsize=(max(6.0, 0.42 * len(names) + 2), 5.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(runs)
    for index, (run, result) in enumerate(runs.items()):
        values = [_percent(result["attributes"].get(name, {}).get(measure)) for name in names]
        mean = _percent(result["mean"][measure])
        offset = (index - (len(runs) - 1) / 2) * width
        axes.bar(np.arange(len(names)) + offset, values, width, label=f"{run} (mean {mean:.1f} %)")
    axes.set_xticks(np.arange(len(names)), [name.replace("_", " ") for name in names], rotation=90)
    axes.set(ylabel=f"{measure.replace('_', ' ')} in %", xlim=(-0.6, len(names) - 0.4), ylim=(0, 100))
    axes.grid(axis="y", color="0.85")
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(runs), frameon=False)
    _save(figure, path)


def _percent(value: float | None) -> float:
    return float("nan") if value is None else 100 * value


def draw_localization(faces: Sequence[LabeledFace], attributes: Sequence[str], path: str) -> None:
    """Draw a row per face, with the maps of some attributes overlaid on it.

    Parameters
    ----------
    faces : sequence of LabeledFace
    attributes : sequence of str
        Names of the maps and probabilities of `faces`, all of which are drawn.
    path : str
        PNG to write.
    """
    figure = Figure(figsize=(1.9 * (len(attributes) + 1), 2.75 * len(faces)), layout="constrained")
    grid = figure.subplots(len(faces), len(attributes) + 1, squeeze=False)
    for row, face in zip(grid, faces, strict=True):
        images = [face.pixels, *(overlay(face.pixels, one) for one in face.maps)]
        titles = [
            face.title,
            *(f"{n.replace('_', ' ')}\n{p:.2f}" for n, p in zip(attributes, face.probabilities, strict=True)),
        ]
        for axes, image, title in zip(row, images, titles, strict=True):
            axes.imshow(image)
            axes.set_title(title, fontsize=9)
            axes.axis("off")
    _save(figure, path)


def overlay(pixels: npt.NDArray[np.uint8], one_map: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Overlay a map (96, 76), 0 to 1, on a face (218, 178, 3)."""
    height, width = pixels.shape[:2]
    heat = cv2.resize(np.clip(one_map, 0, 1), (width, height), interpolation=cv2.INTER_LINEAR)[:, :, None] * OPACITY
    return np.asarray(pixels * (1 - heat) + WARM * heat, dtype=np.uint8)


def _save(figure: Figure, path: str) -> None:
    with create(path) as stream:
        figure.savefig(stream, format="png", dpi=110)
