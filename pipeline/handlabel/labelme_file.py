"""labelme's files: where to start placing landmarks, and the landmarks that were placed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.inputs.text_tables import MAX_NUMBER
from regions.boxes import BBox
from regions.landmarks import NUM_LANDMARKS, FloatArray, landmarks_in_bbox
from regions.messages import shown
from regions.quality import plausibility_problem

LABELME_VERSION = "5.5.0"
LABELS = [str(index) for index in range(NUM_LANDMARKS)]
START_FRACTION = 0.6
"""Size of the mean face that is placed where there is no guess, as a share of the image's shorter side."""
EDGE = 1.0
"""Points are placed at least this far inside of the image, in pixels: labelme shows none beyond its edge."""
MAX_NAMED = 10
MAX_LABELME_BYTES = 1 << 28
"""Bytes of a file that is read: labelme may save the image in it, as text."""


class LabelError(Exception):
    """An annotated file that cannot be used; the message states what was found and what was expected."""


def start_landmarks(guess: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Return where to start placing landmarks by hand.

    Parameters
    ----------
    guess : ndarray (68, 2)
        In pixels of the image; may be not a number.
    size : tuple of int
        Height and width of the image, in pixels.

    Returns
    -------
    ndarray (68, 2)
        The guess, or the mean face in the middle of the image where the guess is unknown or lies
        wholly outside; points outside of the image are moved to just inside.
    """
    high = np.array(size[::-1], dtype=np.float64)
    inside = ((guess >= 0) & (guess <= high)).all(axis=1)
    if not inside.any() or not np.isfinite(guess).all():
        side = START_FRACTION * min(size)
        x, y = ((high - side) / 2).tolist()
        guess = landmarks_in_bbox(BBox(x, y, side, side))
    return np.clip(guess, EDGE, np.maximum(high - EDGE, EDGE))


def labelme_file(image: str, landmarks: FloatArray, size: tuple[int, int]) -> bytes:
    """Return a file that labelme opens: an image and 68 points labeled 0 to 67.

    Parameters
    ----------
    image : str
        Name of the image, in the same folder.
    landmarks : ndarray (68, 2)
        In pixels of the image.
    size : tuple of int
        Height and width of the image, in pixels.
    """
    height, width = size
    shapes: list[dict[str, Any]] = [
        {
            "label": label,
            "points": [[round(float(x), 3), round(float(y), 3)]],
            "group_id": None,
            "description": "",
            "shape_type": "point",
            "flags": {},
            "mask": None,
        }
        for label, (x, y) in zip(LABELS, landmarks, strict=True)
    ]
    document: dict[str, Any] = {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json.dumps(document, indent=2).encode()


def annotated_landmarks(content: bytes, image: str, size: tuple[int, int]) -> FloatArray:
    """Return the landmarks of a file that labelme has saved.

    Parameters
    ----------
    content : bytes
        The file.
    image : str
        Name of the image it must be of.
    size : tuple of int
        Height and width of the image, in pixels.

    Returns
    -------
    ndarray (68, 2)
        In pixels of the image.

    Raises
    ------
    LabelError
        If they are not 68 points in that image that look like a face.
    """
    height, width = size
    document = _parse(content)
    named = str(document.get("imagePath")).replace("\\", "/").rpartition("/")[2]
    if named != image:
        raise LabelError(f"imagePath is {named[-60:]!r}, expected {image!r}: the labels are another image's")
    found = document.get("imageHeight"), document.get("imageWidth")
    if found != size:
        raise LabelError(f"imageHeight and imageWidth are {str(found)[:60]}, expected {size}, as {image} is shown")
    landmarks = _points(document["shapes"])
    outside = np.flatnonzero(((landmarks < 0) | (landmarks > (width, height))).any(axis=1))
    if len(outside):
        x, y = landmarks[outside[0]]
        raise LabelError(f"landmark {outside[0]} at ({x:.1f}, {y:.1f}), outside of the image of {width}x{height}")
    failure = plausibility_problem(landmarks, width, height)
    if failure:
        raise LabelError(failure)
    return landmarks


def _parse(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"not valid JSON: {error}") from None
    shapes = document.get("shapes") if isinstance(document, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise LabelError("no list of shapes in it, expected what labelme saves")
    return dict(document)


def _points(shapes: Sequence[Mapping[str, Any]]) -> FloatArray:
    """Return the points of shapes labeled 0 to 67 as ``(68, 2)``."""
    labels = [shape.get("label") for shape in shapes]
    others = [repr(label)[:40] for label in labels if label not in LABELS]
    if others:
        raise LabelError(f"labeled {_listed(others)}, expected 0 to {NUM_LANDMARKS - 1} once each and nothing else")
    counts = Counter(labels)
    wrong = {"missing": [x for x in LABELS if not counts[x]], "doubled": [x for x in LABELS if counts[x] > 1]}
    problems = [
        f"landmark{'s' * (len(found) > 1)} {_listed(found)} {'are' if len(found) > 1 else 'is'} {what}"
        for what, found in wrong.items()
        if found
    ]
    if problems:
        raise LabelError(f"{' and '.join(problems)}, expected 0 to {NUM_LANDMARKS - 1} once each")
    return np.array([_point(shape) for shape in sorted(shapes, key=lambda shape: int(shape["label"]))])


def _point(shape: Mapping[str, Any]) -> list[float]:
    label, points = shape["label"], shape.get("points")
    if shape.get("shape_type") != "point":
        raise LabelError(f"landmark {label} is of type {shown(shape.get('shape_type'))}, expected 'point'")
    pair = points[0] if isinstance(points, list) and len(points) == 1 else None
    if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair))):
        raise LabelError(f"landmark {label} has the points {str(points)[:60]}, expected one [x, y] of numbers")
    return [float(value) for value in pair]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_NUMBER


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + rest
