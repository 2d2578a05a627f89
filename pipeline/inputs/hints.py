"""The hints of a data set: face boxes and five points, read from tables whose columns have names."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.inputs import text_tables
from pipeline.inputs.hint_columns import PointColumns, box_columns, point_columns
from pipeline.inputs.image_names import KnownNames
from pipeline.records import FloatRows
from regions.messages import counted
from regions.text_tables import known_numbers

log = logging.getLogger("attparse")

MIRRORED_WIDTH = -0.2
"""From the left to the right eye, and mouth corner, over the distance of eyes and mouth: below this, the names
are the person's own sides."""
LEFT_AND_RIGHT = [1, 0, 2, 4, 3]


def read_bboxes(path: str | None, image_ids: Sequence[str], names: KnownNames) -> FloatRows:
    """Read face boxes.

    Parameters
    ----------
    path : str or None
    image_ids : sequence of str
    names : KnownNames
        Of all images of the data set, of which `image_ids` may leave out some.

    Returns
    -------
    ndarray (n, 4) float32
        x, y, width, height in pixels; NaN where unknown: without a row, with a blank or a nan, without area.

    Raises
    ------
    InputError
        If the file can't be used, or has no row of an image of the label file.
    """
    if path is None:
        return np.full((len(image_ids), 4), np.nan, dtype=np.float32)
    table = text_tables.read_table(path)
    columns, are_corners = box_columns(table)
    bboxes = _numbers_of_images(table, columns, image_ids, names)
    if are_corners:
        bboxes[:, 2:] -= bboxes[:, :2]
    bboxes[~(bboxes[:, 2:] > 0).all(axis=1)] = np.nan
    _log_unknown(path, "a face box", bboxes)
    return bboxes


def read_points(path: str | None, image_ids: Sequence[str], names: KnownNames) -> FloatRows:
    """Read five points.

    Parameters
    ----------
    path, image_ids, names
        See `read_bboxes`.

    Returns
    -------
    ndarray (n, 5, 2) float32
        Eyes, nose, mouth corners in pixels, the one on the left of an upright face's image first; NaN
        where unknown: without a row, with a blank or a nan, or where `are_annotated` is false.

    Raises
    ------
    InputError
        If the file can't be used, or has no row of an image of the label file.
    """
    if path is None:
        return np.full((len(image_ids), 5, 2), np.nan, dtype=np.float32)
    table = text_tables.read_table(path)
    found = point_columns(table)
    points = _numbers_of_images(table, found.columns, image_ids, names).reshape(-1, 5, 2)
    points[~are_annotated(points)] = np.nan
    _log_unknown(path, "five points", points)
    _check_numbered(table, found, points)
    result = by_image_side(points)
    exchanged = int((result[:, 0] != points[:, 0]).any(axis=1).sum() - np.isnan(points[:, 0, 0]).sum())
    if exchanged:
        log.info("%s: left and right are the person's own in %s, exchanged", path, counted(exchanged, "row"))
    return result


def _log_unknown(path: str, hint: str, rows: FloatRows) -> None:
    """Log how many images of the run have a hint, where not all of them do."""
    known = int((~np.isnan(rows).reshape(len(rows), -1).any(axis=1)).sum())
    if known < len(rows):
        log.info("%s: %s for %s of %s", path, hint, f"{known:,}", counted(len(rows), "image"))


def are_annotated(points: FloatRows) -> npt.NDArray[np.bool_]:
    """Return which rows of five points ``(n, 5, 2)`` are of a face, rather than placeholders of a face without points.

    Placeholders are numbers that no face has: a point at (0, 0) or with both coordinates negative;
    all points left of the image, or all above it; two points at one place, except for the mouth
    corners, of which a profile shows one. A face that is partly outside of the image has negative
    coordinates, too, but not those.
    """
    first, second = np.triu_indices(5, 1)
    keep = (first != 3) | (second != 4)
    coincide = (points[:, first[keep]] == points[:, second[keep]]).all(axis=2).any(axis=1)
    placeholder = ((points == 0).all(axis=2) | (points < 0).all(axis=2)).any(axis=1)
    outside = (points < 0).all(axis=1).any(axis=1)
    annotated: npt.NDArray[np.bool_] = ~(np.isnan(points).any(axis=(1, 2)) | coincide | placeholder | outside)
    return annotated


def by_image_side(points: FloatRows) -> FloatRows:
    """Return five points ``(n, 5, 2)``, with left and right exchanged where they are the person's own.

    With the eyes above the mouth, the left eye and the left mouth corner are on the left of the
    image. This holds for a face rotated by any angle, so no image needs to be looked at.
    """
    eyes, mouth, _ = _widths(points)
    own = (eyes < MIRRORED_WIDTH) & (mouth < MIRRORED_WIDTH)
    return np.where(own[:, None, None], points[:, LEFT_AND_RIGHT], points)


def _widths(points: FloatRows) -> tuple[FloatRows, FloatRows, FloatRows]:
    """Return the widths of eyes and mouth, negative where mirrored, and how far down the nose is, as fractions.

    All are relative to the distance from the middle of the eyes to that of the mouth corners.
    """
    middle = points[:, 0:2].mean(axis=1)
    down = points[:, 3:5].mean(axis=1) - middle
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = down / (down**2).sum(axis=1, keepdims=True)
        across = unit[:, ::-1] * [1, -1]
        eyes = ((points[:, 1] - points[:, 0]) * across).sum(axis=1)
        mouth = ((points[:, 4] - points[:, 3]) * across).sum(axis=1)
        return eyes, mouth, ((points[:, 2] - middle) * unit).sum(axis=1)


def _check_numbered(table: text_tables.Table, found: PointColumns, points: FloatRows) -> None:
    """Refuse points with numbers in place of names if most are in another order than eyes, nose, mouth corners."""
    known = points[~np.isnan(points).any(axis=(1, 2))]
    if found.are_named or not len(known):
        return
    eyes, mouth, nose = _widths(known)
    in_order = (eyes * mouth > 0) & (nose > 0) & (nose < 1)
    if in_order.mean() < 0.5:
        raise InputError(
            f"{table.source}:{table.header_line}: {int((~in_order).sum()):,} of {counted(len(known), 'row')} in another"
            " order than eye, eye, nose, mouth corner, mouth corner, expected this one, or columns with the names of"
            " the points: lefteye_x, lefteye_y, righteye_x, ... nose, leftmouth, rightmouth"
        )


def _numbers_of_images(
    table: text_tables.Table, columns: Sequence[int], image_ids: Sequence[str], names: KnownNames
) -> FloatRows:
    """Return numbers of each image ``(n, len(columns))``, NaN where they are unknown or there is no row."""
    picked = None if list(columns) == list(range(len(table.columns))) else columns
    with text_tables.input_errors():
        rows = {row.image_id: known_numbers(table, row, picked) for row in table.rows}
    for other, image_id in names.spellings(rows).items():
        rows[image_id] = rows.pop(other)
    if rows and names.label_ids.keys().isdisjoint(rows):
        raise InputError(
            f"{table.source}: none of {counted(len(rows), 'row')} matches an image of the label file:"
            f" found {next(iter(rows))!r}, expected names such as {next(iter(names.label_ids))!r}"
        )
    result = np.full((len(image_ids), len(columns)), np.nan, dtype=np.float32)
    known = [(i, values) for i, image_id in enumerate(image_ids) if (values := rows.get(image_id)) is not None]
    if known:
        result[[i for i, _ in known]] = np.array([values for _, values in known], dtype=np.float32)
    return result
