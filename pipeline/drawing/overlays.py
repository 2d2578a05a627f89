"""Drawing regions, landmarks and masks over face crops, and contact sheets of them."""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image, ImageDraw, ImageFont

from pipeline import images
from pipeline.formats.samples import StoredSample, decode_packed_masks
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH
from regions.landmarks import FloatArray
from regions.masks import unpack_masks
from regions.polygons import FurtherRegions, clip_to_frame, region_polygons

Color = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

Pixels = npt.NDArray[np.uint8]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

REGION_COLORS: dict[str, Color] = {
    "below_chin": (47, 107, 255),
    "chin": (255, 138, 31),
    "cheeks": (240, 50, 230),
    "mouth": (227, 18, 47),
    "above_mouth": (255, 225, 25),
    "nose": (34, 177, 76),
    "eyes": (63, 224, 255),
    "eyebrows": (122, 31, 214),
    "ears": (182, 255, 59),
    "top_of_head": (0, 133, 125),
}
MASK_COLOR: Color = (255, 40, 110)
LANDMARK_COLOR: Color = (255, 255, 255)
POINT_COLOR: Color = (255, 60, 0)
DARK: Color = (15, 15, 20)

Rings = tuple[tuple[float, Color], ...]
"""A dot, from its edge to its middle: radii in pixels of the drawing, and colors."""
LANDMARK_RINGS: Rings = ((2.3, DARK), (1.5, LANDMARK_COLOR))
SMALL_RINGS: Rings = ((1.5, DARK), (0.9, (60, 255, 130)))
"""Landmarks on an image at a small size."""

CROSS_ARM = 8.0
CROSS_LINES: Rings = ((2.7, (255, 255, 255)), (1.4, POINT_COLOR))
"""The crosses of given points: half the lines' width in pixels of the drawing, and colors."""

SCALE = 2
"""Drawings are this many times as large as the crop."""
FILL = 0.35
"""Opacity of regions and masks."""

SUBPIXEL_BITS = 4
"""OpenCV takes coordinates as whole numbers of 1/16 pixel."""

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
        Below it: a line, and as many as the note needs.
    flagged : bool
        Whether the note is a warning.
    """

    pixels: Pixels
    caption: str
    note: str
    flagged: bool = False


def region_colors(names: Sequence[str]) -> dict[str, Color]:
    """Return a color per region: those of `REGION_COLORS`, and further hues for further regions."""
    colors = {}
    for index, name in enumerate(names):
        red, green, blue = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.55, 0.95)
        further = (round(255 * red), round(255 * green), round(255 * blue))
        colors[name] = REGION_COLORS.get(name, further)
    return colors


def draw_regions(
    sample: StoredSample,
    further: FurtherRegions | None = None,
    image_size: tuple[int, int] | None = None,
    only: str | None = None,
) -> Pixels:
    """Draw the regions and the 68 landmarks over the crop of a sample.

    Parameters
    ----------
    sample : StoredSample
    further : mapping, optional
        Regions beside the ten, as `regions.polygons.region_polygons` takes them.
    image_size : tuple of int, optional
        Height and width of the source image, in pixels: the regions are cut off at its edges,
        as they are in the masks.
    only : str, optional
        Draw this region alone.

    Returns
    -------
    ndarray (436, 356, 3) uint8
        RGB.
    """
    landmarks = np.array(sample.description["landmarks"], dtype=np.float64)
    polygons = region_polygons(landmarks, further)
    if image_size is not None:
        polygons = clip_to_frame(polygons, image_size[1], image_size[0])
    box = sample.description["crop"]
    canvas = enlarged_crop(sample)
    colors = region_colors([*REGION_COLORS, *(further or {})])
    for polygon, (name, color) in zip(polygons, colors.items(), strict=True):
        if only in (None, name):
            _draw_polygon(canvas, _to_drawing(polygon, box), color)
    draw_dots(canvas, shapely.get_coordinates(_to_drawing(shapely.points(landmarks), box)))
    return canvas


def draw_dots(canvas: Pixels, points: FloatArray, rings: Rings = LANDMARK_RINGS) -> None:
    """Draw a dot at each point; those outside of the canvas or not a number are left out.

    Parameters
    ----------
    canvas : ndarray (rows, cols, 3) uint8
        RGB; drawn on.
    points : ndarray (n, 2)
        In pixels of the canvas.
    rings : sequence of pairs of float and tuple of int
    """
    dots = shapely.points(_inside(canvas, points))
    for radius, color in rings:
        _fill_each(canvas, shapely.buffer(dots, radius), color)


def draw_crosses(canvas: Pixels, points: FloatArray, box: Sequence[int]) -> None:
    """Mark points of the source image by crosses on the drawing of a sample; those outside of it are left out.

    Parameters
    ----------
    canvas : ndarray (436, 356, 3) uint8
        RGB; drawn on.
    points : ndarray (n, 2)
        In pixels of the source image.
    box : sequence of int
        The crop: x0, y0, x1, y1, in pixels of the source image.
    """
    inside = _inside(canvas, shapely.get_coordinates(_to_drawing(shapely.points(points), box)))
    arms = CROSS_ARM * math.sqrt(0.5) * np.array([[[-1, -1], [1, 1]], [[-1, 1], [1, -1]]])
    lines = shapely.linestrings(inside[:, None, None] + arms)
    for half_width, color in CROSS_LINES:
        _fill_each(canvas, shapely.buffer(lines, half_width).ravel(), color)


def _inside(canvas: Pixels, points: FloatArray) -> FloatArray:
    kept: FloatArray = points[((points >= 0) & (points <= canvas.shape[1::-1])).all(axis=1)]
    return kept


def draw_mask(sample: StoredSample, attribute: int) -> Pixels:
    """Draw the mask of one attribute over the crop of a sample, pixel by pixel as it is stored.

    Parameters
    ----------
    sample : StoredSample
    attribute : int
        Its index in the label file.

    Returns
    -------
    ndarray (436, 356, 3) uint8
        RGB.
    """
    mask = unpack_masks(decode_packed_masks(sample.png), attribute + 1)[attribute]
    canvas = enlarged_crop(sample)
    rows, cols = (
        ((np.arange(size) + 0.5) * mask_size / size).astype(int)
        for size, mask_size in zip(canvas.shape[:2], mask.shape, strict=True)
    )
    enlarged = np.ascontiguousarray(mask[np.ix_(rows, cols)])
    _blend(canvas, enlarged * np.uint8(255), MASK_COLOR, FILL + 0.1)
    outlines, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, MASK_COLOR, 2)
    return canvas


def enlarged_crop(sample: StoredSample) -> Pixels:
    """Return the crop of a sample at the size of a drawing: ``(436, 356, 3)`` uint8, RGB."""
    crop = images.decode(sample.jpeg).pixels
    size = (SCALE * IMAGE_WIDTH, SCALE * IMAGE_HEIGHT)
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _to_drawing(geometry: Any, box: Sequence[int]) -> Any:
    """Map a geometry from pixels of the source image to pixels of the drawing."""
    low, high = np.array(box[:2]), np.array(box[2:])
    scale = SCALE * np.array([IMAGE_WIDTH, IMAGE_HEIGHT]) / (high - low)
    return shapely.transform(geometry, lambda points: (points - low) * scale)


def _fixed_point(geometry: Any) -> npt.NDArray[np.int32]:
    """Return the vertices as OpenCV takes them, which counts from the center of the first pixel."""
    points: FloatArray = shapely.get_coordinates(geometry) - 0.5
    fixed: npt.NDArray[np.int32] = np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    return fixed


def _draw_polygon(canvas: Pixels, geometry: Any, color: Color) -> None:
    """Fill and outline a Polygon or MultiPolygon, its holes left out."""
    rings = [_fixed_point(ring) for ring in shapely.get_rings(shapely.get_parts(geometry))]
    if not rings:
        return
    coverage = np.zeros(canvas.shape[:2], dtype=np.uint8)
    _fill(coverage, rings, (255, 255, 255))
    _blend(canvas, coverage, color, FILL)
    cv2.polylines(canvas, rings, True, color, 2, cv2.LINE_AA, SUBPIXEL_BITS)


def _blend(canvas: Pixels, coverage: Pixels, color: Color, opacity: float) -> None:
    """Lay a color over the canvas where `coverage` (0 to 255) says."""
    x, y, width, height = cv2.boundingRect(coverage)
    window = (slice(y, y + height), slice(x, x + width))
    weight = coverage[window][:, :, None] * np.float32(opacity / 255)
    canvas[window] = np.round(canvas[window] * (1 - weight) + np.array(color, dtype=np.float32) * weight)


def _fill(canvas: Pixels, rings: Sequence[npt.NDArray[np.int32]], color: Color) -> None:
    cv2.fillPoly(canvas, rings, color, cv2.LINE_AA, SUBPIXEL_BITS)


def _fill_each(canvas: Pixels, polygons: Iterable[Any], color: Color) -> None:
    """Fill polygons without holes one by one: filled at once, they would cancel out where two overlap."""
    for polygon in polygons:
        _fill(canvas, [_fixed_point(polygon)], color)


def contact_sheet(tiles: Sequence[Tile], title: str, legend: Mapping[str, Color]) -> Image.Image:
    """Lay drawings out as a grid with captions, a title above and the meaning of the colors below.

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
    title_lines = _wrap(title, _font(TITLE_SIZE), sheet_width - 2 * MARGIN)
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
            line = shorten(text, _font(TEXT_SIZE), width)
            draw.text((x, y + height + 5 + number * LINE), line, ink, _font(TEXT_SIZE))
    for number, names in enumerate(legend_rows):
        _draw_legend_row(draw, bottom + GAP // 2 + number * (LINE + 10), names, legend)
    return sheet


def _columns(count: int) -> int:
    """Return how many tiles make a row of a sheet that is about square, with few places left empty."""
    least = math.isqrt(count * 8 // 5)
    return min((least, least + 1), key=lambda columns: (-count % columns, -columns))


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def shorten(text: str, font: Font, width: int) -> str:
    """Leave out the middle of a text that is wider than `width` pixels."""
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


def display_name(name: str) -> str:
    """Return a name such as ``top_of_head`` as people write it."""
    return name.replace("_", " ")
