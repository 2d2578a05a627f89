"""A contact sheet: drawings in a grid with captions, a title above and a legend below."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from pipeline.drawing.overlays import Color, Pixels
from pipeline.drawing.text import display_name
from regions.messages import one_line

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK, GRAY, WARNING, PAPER = (25, 25, 28), (105, 105, 112), (176, 84, 0), (255, 255, 255)
TITLE_SIZE, TEXT_SIZE = 30, 18
MARGIN, GAP, LINE = 32, 18, 24
MIN_SHEET_WIDTH = 640


class Tile(NamedTuple):
    """One drawing of a contact sheet.

    Attributes
    ----------
    pixels : ndarray (rows, cols, 3) uint8
        RGB; all tiles of a sheet have the same size.
    caption, note : str
        Text below the drawing: the caption on one line, the note on as many as it needs.
    flagged : bool
        Whether the note is a warning.
    """

    pixels: Pixels
    caption: str
    note: str
    flagged: bool = False


def contact_sheet(tiles: Sequence[Tile], title: str, legend: Mapping[str, Color]) -> Image.Image:
    """Arrange drawings in a grid with captions, a title above and a legend below.

    Parameters
    ----------
    tiles : sequence of Tile
        At least one.
    title : str
    legend : mapping of str to tuple of int
        Colors by name.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    height, width = tiles[0].pixels.shape[:2]
    columns = _columns(len(tiles))
    notes = [_wrap(tile.note, _font(TEXT_SIZE), width) for tile in tiles]
    note_lines = [max(map(len, notes[start : start + columns])) for start in range(0, len(tiles), columns)]
    cell_width = width + GAP
    sheet_width = max(MIN_SHEET_WIDTH, 2 * MARGIN + columns * cell_width - GAP)
    title_lines = _wrap(one_line(title), _font(TITLE_SIZE), sheet_width - 2 * MARGIN)
    legend_rows = _legend_rows(list(legend), sheet_width - 2 * MARGIN)
    top = MARGIN + len(title_lines) * (TITLE_SIZE + 8) + GAP
    *tops, bottom = itertools.accumulate((height + (1 + lines) * LINE + GAP for lines in note_lines), initial=top)
    sheet = Image.new("RGB", (sheet_width, bottom + len(legend_rows) * (LINE + 10) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(title_lines):
        draw.text((MARGIN, MARGIN + number * (TITLE_SIZE + 8)), line, INK, _font(TITLE_SIZE))
    for index, tile in enumerate(tiles):
        x, y = MARGIN + index % columns * cell_width, tops[index // columns]
        sheet.paste(Image.fromarray(tile.pixels), (x, y))
        for number, text in enumerate((tile.caption, *notes[index])):
            ink = INK if number == 0 else WARNING if tile.flagged else GRAY
            line = shorten(one_line(text), _font(TEXT_SIZE), width)
            draw.text((x, y + height + 5 + number * LINE), line, ink, _font(TEXT_SIZE))
    for number, names in enumerate(legend_rows):
        _draw_legend_row(draw, bottom + GAP // 2 + number * (LINE + 10), names, legend)
    return sheet


def _columns(count: int) -> int:
    """Return the number of columns of an almost square grid with few empty cells."""
    least = math.isqrt(count * 8 // 5)
    return min((least, least + 1), key=lambda columns: (-count % columns, -columns))


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def shorten(text: str, font: Font, width: int) -> str:
    """Return a text whose middle is left out where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    keep = len(text)
    while keep > 2 and font.getlength(_without_middle(text, keep)) > width:
        keep -= 1
    return _without_middle(text, keep)


def _without_middle(text: str, keep: int) -> str:
    return f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels, between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _legend_entry_width(name: str) -> int:
    return LINE + 8 + math.ceil(_font(TEXT_SIZE).getlength(display_name(name))) + 28


def _legend_rows(names: Sequence[str], width: int) -> list[list[str]]:
    rows: list[list[str]] = []
    used = width
    for name in names:
        entry = _legend_entry_width(name)
        if used + entry > width:
            rows.append([])
            used = 0
        rows[-1].append(name)
        used += entry
    return rows


def _draw_legend_row(draw: ImageDraw.ImageDraw, y: int, names: Sequence[str], colors: Mapping[str, Color]) -> None:
    x = MARGIN
    for name in names:
        draw.rounded_rectangle((x, y, x + LINE, y + LINE), 5, colors[name])
        draw.text((x + LINE + 8, y + LINE / 2), display_name(name), INK, _font(TEXT_SIZE), anchor="lm")
        x += _legend_entry_width(name)
