"""Images from files, brought to the size that AttParseNet takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from regions.crop import cut
from training.cli_common import DataError


def read_face(path: str) -> npt.NDArray[np.uint8]:
    """Read an image of a face and resize it whole, as ``attparse run --crop none`` does.

    Returns
    -------
    ndarray (218, 178, 3) uint8
        RGB.

    Raises
    ------
    DataError
        If it can't be read.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not an image that can be read: {error}") from None
    height, width = pixels.shape[:2]
    return cut(pixels, np.array([0, 0, width, height], dtype=np.float64))


def faces_in_batches(paths: Iterable[str], size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield images of faces in batches (at most `size`, 218, 178, 3)."""
    faces = []
    for path in paths:
        faces.append(read_face(path))
        if len(faces) == size:
            yield np.stack(faces)
            faces = []
    if faces:
        yield np.stack(faces)
