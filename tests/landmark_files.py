"""Files of landmarks as other programs write them: OpenFace's CSV with all its columns, iBUG's .pts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.faces import Points

EYE_POINTS, SHAPE_PARAMETERS = 56, 34
ACTION_UNITS = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")
IMAGE_COLUMNS = ("face", "confidence")
NOT_NUMBERS = ("-nan(ind)", "nan", "NaN", "-nan", "inf", "-inf", "1.#QNAN", "-1.#IND00", "1.#INF", "")
"""What programs write for a number that they could not compute."""
SEQUENCE_COLUMNS = ("frame", "face_id", "timestamp", "confidence", "success")


def openface_header(first: Sequence[str] = IMAGE_COLUMNS, *, two_d: bool = True) -> list[str]:
    """Return the columns of OpenFace 2 with all outputs on; `two_d` are those of -2Dfp."""
    gaze = [f"gaze_{eye}_{axis}" for eye in range(2) for axis in "xyz"] + ["gaze_angle_x", "gaze_angle_y"]
    eyes = [f"eye_lmk_{axis}_{i}" for axis in "xyXYZ" for i in range(EYE_POINTS)]
    pose = [f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz"]
    points = [f"{axis}_{i}" for axis in ("xyXYZ" if two_d else "XYZ") for i in range(68)]
    shape = [f"p_{name}" for name in ("scale", "rx", "ry", "rz", "tx", "ty", *range(SHAPE_PARAMETERS))]
    units = [f"AU{unit}_r" for unit in ACTION_UNITS] + [f"AU{unit}_c" for unit in (*ACTION_UNITS, "28")]
    return [*first, *gaze, *eyes, *pose, *points, *shape, *units]


def openface_csv(
    faces: Sequence[tuple[Sequence[object], Points]],
    first: Sequence[str] = IMAGE_COLUMNS,
    *,
    separator: str = ",",
    two_d: bool = True,
) -> str:
    """Return the CSV file of one image or sequence.

    Parameters
    ----------
    faces : sequence of tuple
        For each row the values of the first columns, and the 68 points.
    first : sequence of str
        Names of the first columns: those of FaceLandmarkImg, or of FeatureExtraction.
    separator : str
        ``", "`` in OpenFace 2.0 and before.
    two_d : bool
        Whether the file has 2-D landmarks.
    """
    header = openface_header(first, two_d=two_d)
    lines = [separator.join(header)]
    for values, points in faces:
        row = [f"{i % 7 / 7:.3f}" for i in range(len(header))]
        row[: len(first)] = [str(value) for value in values]
        if two_d:
            start = header.index("x_0")
            row[start : start + 136] = [f"{value:.1f}" for value in np.asarray(points).T.ravel()]
        lines.append(separator.join(row))
    return "\n".join(lines) + "\n"


def pts_file(points: Points, *, header: Sequence[str] | None = ("version: 1", "n_points:  68"), end: str = "\n") -> str:
    """Return a .pts file of points in our coordinates, with or without header and braces."""
    lines = [f"{x:.6f} {y:.6f}" for x, y in np.asarray(points) + 0.5]
    if header is not None:
        lines = [*header, "{", *lines, "}"]
    return end.join(lines) + end
