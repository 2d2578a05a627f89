"""Which columns of a table are the four numbers of a face box, or the ten of five points, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.errors import InputError
from pipeline.inputs.text_tables import Table

POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
"""The five points in CelebA's order."""

_FIRST_CORNERS = (("x", "y"), ("x0", "y0"), ("x1", "y1"), ("xmin", "ymin"), ("left", "top"))
_SIZES = (("width", "height"), ("w", "h"))
_TWO_CORNERS = (
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
)
_BOX_PREFIX = re.compile("^(face)?(bbox|box|rect)?")
_AXIS = re.compile("(?P<last>.+)(?P<y>[xy])|(?P<x>[xy])(?P<first>.+)")
_NAMED = re.compile(
    "(?P<nose>nose)(tip)?|(?P<s1>l|r|left|right)(?P<p1>eye|mouth)(corner)?|(?P<p2>eye|mouth)(corner)?(?P<s2>l|r|left|right)(corner)?"
)
_NUMBERED = re.compile("(?:p|pt|point|lm|landmark|kp|kps)?([0-9])")


class BoxColumns(NamedTuple):
    """Where the numbers of face boxes are.

    Attributes
    ----------
    columns : tuple of int
        Of the four numbers, in their order.
    are_corners : bool
        Whether they are x0, y0, x1, y1, rather than x, y, width, height.
    """

    columns: tuple[int, ...]
    are_corners: bool


class PointColumns(NamedTuple):
    """Where the numbers of five points are.

    Attributes
    ----------
    columns : tuple of int
        Of x and y of each point, in the order of `POINTS`.
    are_named : bool
        False where the points only have numbers.
    """

    columns: tuple[int, ...]
    are_named: bool


def box_columns(table: Table) -> BoxColumns:
    """Find the four numbers of a face box by the names of the columns, in whatever order they are.

    Raises
    ------
    InputError
        If the names are of no known box, or of several ones.
    """
    _check_count(table, 4, "face boxes (x, y, width, height)")
    names = [_BOX_PREFIX.sub("", _folded(name)) for name in table.columns]
    corners = _complete(_TWO_CORNERS, names)
    found = corners or _complete([(*corner, *size) for corner in _FIRST_CORNERS for size in _SIZES], names)
    if len(found) != 1:
        expected = "one box by name: x, y, width, height (or x_1, y_1, width, height), or x1, y1, x2, y2"
        raise _unusable_names(table, expected)
    return BoxColumns(tuple(names.index(name) for name in found[0]), bool(corners))


def _complete(layouts: Iterable[tuple[str, ...]], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the layouts of which each name is there once."""
    return [layout for layout in layouts if all(names.count(name) == 1 for name in layout)]


def point_columns(table: Table) -> PointColumns:
    """Find the ten numbers of five points by the names of the columns, in whatever order they are.

    The names are those of the points, such as ``lefteye_x``, ``left_eye_x`` or ``mouth_left_y``, or
    they have numbers, from 0 or 1 on, such as ``P1X`` or ``x_0``.

    Raises
    ------
    InputError
        If the names are of no five points, or a point has several columns.
    """
    _check_count(table, 10, "five points (x, y each)")
    columns: dict[tuple[str, str], list[int]] = {}
    for index, name in enumerate(table.columns):
        coordinate = _coordinate(name)
        if coordinate is not None:
            columns.setdefault(coordinate, []).append(index)
    numbers = {point for point, _ in columns if point.isdecimal()}
    for points in (POINTS, "12345", "01234"):
        wanted = [columns.get((point, axis), []) for point in points for axis in "xy"]
        if all(len(found) == 1 for found in wanted) and (points is POINTS or numbers == set(points)):
            return PointColumns(tuple(found[0] for found in wanted), points is POINTS)
    raise _unusable_names(
        table, "five points by name: lefteye_x, lefteye_y, righteye_x, ... nose, leftmouth, rightmouth"
    )


def _coordinate(name: str) -> tuple[str, str] | None:
    """Return the point (one of `POINTS`, or a digit) and the axis that the name of a column means."""
    split = _AXIS.fullmatch(_folded(name))
    if not split:
        return None
    body, axis = split["last"] or split["first"], split["y"] or split["x"]
    numbered = _NUMBERED.fullmatch(body)
    if numbered:
        return numbered[1], axis
    named = _NAMED.fullmatch(body)
    if not named:
        return None
    if named["nose"]:
        return "nose", axis
    side = "left" if (named["s1"] or named["s2"]).startswith("l") else "right"
    return side + (named["p1"] or named["p2"]), axis


def _folded(name: str) -> str:
    """Return the letters and digits of a column's name, in lower case."""
    return re.sub("[^a-z0-9]", "", name.lower())


def _check_count(table: Table, least: int, what: str) -> None:
    if len(table.columns) < least:
        raise InputError(f"{table.source}: {len(table.columns)} values per row, expected {least}: {what}")


def _unusable_names(table: Table, expected: str) -> InputError:
    names = " ".join(table.columns)
    shown = names if len(names) <= 120 else f"{names[:120]}..."
    return InputError(f"{table.source}:{table.header_line}: columns {shown!r}, expected {expected}")
