"""Names of runs, attributes and files are drawn as they are, whatever matplotlib would read in them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from training import plots
from training.plots import LabeledFace, chart_path, draw_bars, draw_localization, plot_text

LONG = "run-of-" + "x" * 300 + "-seed-7"
DRAWN = {
    "_base": "_base",
    "_": "_",
    "": "",
    "$\\frac$": "$\\frac$",
    "5$ to 10$": "5$ to 10$",
    "$": "$",
    "\\$x^2\\$": "\\$x^2\\$",
    "\\alpha_1": "\\alpha_1",
    "%s {0}": "%s {0}",
    "a\nb\t\x1b[31m": "a\\nb\\t\\x1b[31m",
    "\u540d\u524d": "\\u540d\\u524d",
    "\udce9t\xe9": "\\udce9t\xe9",
    LONG: "run-of-xxxxxxxxxxxxx\u2026xxxxxxxxxxxx-seed-7",
}
"""What is drawn for each name."""


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved in a test."""
    saved: list[Figure] = []
    save = plots._save

    def note(figure: Figure, path: str) -> None:
        save(figure, path)
        saved.append(figure)

    monkeypatch.setattr(plots, "_save", note)
    return saved


def plain_texts(figure: Figure) -> list[str]:
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    assert not any(text.get_parse_math() or text.get_usetex() for text in texts)
    return [text.get_text() for text in texts]


@pytest.mark.parametrize("name", DRAWN, ids=ascii)
def test_a_name_is_text_of_one_line_and_of_bounded_length(name: str) -> None:
    assert plot_text(name) == DRAWN[name]


def test_names_of_runs_and_attributes_are_text(figures: list[Figure], tmp_path: Path) -> None:
    values = {"accuracy": 0.5}
    runs = {name: {"attributes": dict.fromkeys(["_x", "$y$", "\u540d"], values), "mean": values} for name in DRAWN}
    draw_bars(runs, "accuracy", str(tmp_path / "bars.png"))
    legend = figures[0].axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f"{name} (mean 50.0 %)" for name in DRAWN.values()]
    assert [text.get_text() for text in figures[0].axes[0].get_xticklabels()] == [" x", "$y$", "\\u540d"]
    assert "$y$" in plain_texts(figures[0])
    with Image.open(tmp_path / "bars.png") as image:
        assert image.width < 1500


def test_names_of_files_are_text(figures: list[Figure], tmp_path: Path) -> None:
    names = ["$\\frac$.jpg", "_a\n.jpg", f"{'y' * 100}.jpg"]
    pixels, maps = np.zeros((218, 178, 3), np.uint8), np.zeros((1, 96, 76), np.float32)
    faces = [LabeledFace(name, pixels, maps, np.zeros(1, np.float32)) for name in names]
    draw_localization(faces, ["$\\sqrt$"], str(tmp_path / "faces.png"))
    texts = plain_texts(figures[0])
    assert {"$\\frac$.jpg", "_a\\n.jpg", "yyyyyyyyyyyy\u2026yyyyyyy.jpg", "$\\sqrt$\n0.00"} <= set(texts)


def test_charts_of_very_long_names_have_names_of_files_of_their_own(tmp_path: Path) -> None:
    assert chart_path("to", "a_run", ".png") == os.path.join("to", "a_run.png")
    paths = {chart_path(str(tmp_path), "\xe9" * 140 + ending, ".localization.png") for ending in ("", "a", "b")}
    assert len(paths) == 3
    for path in paths:
        Path(path).touch()
