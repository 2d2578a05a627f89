"""Charts of a training: loss curves, accuracy per attribute, and maps overlaid on faces."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from regions.messages import one_line
from training.storage import create

plain_text = rc_context({"text.parse_math": False, "text.usetex": False})
"""Decorator of functions that draw: a ``$`` in a name is a dollar sign."""
MAX_LABEL, MAX_TITLE = 40, 24
"""Number of characters of a name in a legend, and at an axis or above an image."""
MAX_FILE_NAME = 255
"""Bytes, on most file systems."""
CHARACTERS_PER_INCH = 11
"""Of a legend's text."""

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


def plot_text(name: str, limit: int = MAX_LABEL) -> str:
    """Return a name as text to draw: in one line, shortened in its middle, with escapes for what the font lacks."""
    font = get_font(findfont(FontProperties()))
    text = "".join(c if font.get_char_index(ord(c)) else c.encode("unicode_escape").decode() for c in one_line(name))
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-(limit - limit // 2 - 1) :]}"


def chart_path(folder: str, stem: str, ending: str) -> str:
    """Return the path of a chart, whose stem is cut where its name would be longer than file systems allow."""
    content = stem.encode(errors="surrogateescape")
    room = MAX_FILE_NAME - len(ending)
    if len(content) > room:
        digest = hashlib.sha256(content).hexdigest()[:8]
        stem = f"{content[: room - len(digest) - 1].decode(errors='ignore')}-{digest}"
    return os.path.join(folder, stem + ending)


def add_legend(axes: Axes, handles: Sequence[Any], labels: Sequence[str], **options: Any) -> None:
    """Add a legend; unlike those of matplotlib, it shows labels that begin with an underscore, or are empty."""
    legend = axes.legend(handles, ["label"] * len(handles), **options)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)


@plain_text
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


@plain_text
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
    labels = [f"{plot_text(run)} (mean {_percent(result['mean'][measure]):.1f} %)" for run, result in runs.items()]
    inches = max(6.0, 0.42 * len(names) + 2)
    columns = max(1, int(inches * CHARACTERS_PER_INCH / (max(map(len, labels)) + 6)))
    rows = math.ceil(len(labels) / columns)
    figure = Figure(figsize=(inches, 5.3 + 0.2 * rows), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(runs)
    bars = []
    for index, result in enumerate(runs.values()):
        values = [_percent(result["attributes"].get(name, {}).get(measure)) for name in names]
        offset = (index - (len(runs) - 1) / 2) * width
        bars.append(axes.bar(np.arange(len(names)) + offset, values, width))
    axes.set_xticks(
        np.arange(len(names)), [plot_text(name.replace("_", " "), MAX_TITLE) for name in names], rotation=90
    )
    axes.set(ylabel=f"{measure.replace('_', ' ')} in %", xlim=(-0.6, len(names) - 0.4), ylim=(0, 100))
    axes.grid(axis="y", color="0.85")
    axes.set_axisbelow(True)
    add_legend(axes, bars, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False)
    _save(figure, path)


def _percent(value: float | None) -> float:
    return float("nan") if value is None else 100 * value


@plain_text
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
    names = [plot_text(attribute.replace("_", " "), MAX_TITLE) for attribute in attributes]
    grid = figure.subplots(len(faces), len(attributes) + 1, squeeze=False)
    for row, face in zip(grid, faces, strict=True):
        images = [face.pixels, *(overlay(face.pixels, one) for one in face.maps)]
        titles = [
            plot_text(face.title, MAX_TITLE),
            *(f"{name}\n{p:.2f}" for name, p in zip(names, face.probabilities, strict=True)),
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
