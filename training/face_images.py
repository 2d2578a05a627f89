"""Read image files as the pipeline does, and resize them to the input of AttParseNet.

The rules and limits are those of pipeline/images.py; a test compares the pixels.
"""

from __future__ import annotations

import contextlib
import io
import os

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image

from regions.crop import cut
from regions.image_files import (
    MAX_FILE_BYTES,
    check_size,
    exif_is_usable,
    inspect_file,
    is_jpeg,
    ordinary_jpeg_size,
    reduction_of,
    without_metadata,
)
from training.cli_common import DataError
from training.storage import is_remote, read_bytes

Pixels = npt.NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
REDUCIBLE_MODES = ("L", "LA", "RGB", "RGBA", "CMYK")

EXIF_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that makes an image of each EXIF orientation upright."""

# `decode` checks the size in the header before it decodes an image.
Image.MAX_IMAGE_PIXELS = None


def read_face(path: str) -> Pixels:
    """Read an image of a face and resize it as a whole, as ``attparse run --crop none`` does.

    Parameters
    ----------
    path : str
        JPEG, PNG, WebP, BMP or TIFF, whatever the suffix of its name.

    Returns
    -------
    ndarray (218, 178, 3) uint8
        RGB.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    with contextlib.suppress(OSError):  # reading has the message
        size = 0 if is_remote(path) else os.path.getsize(path)
        if size > MAX_FILE_BYTES:
            raise DataError(f"{path}: found a file of {size} bytes, expected at most {MAX_FILE_BYTES}")
    content = read_bytes(path)
    try:
        pixels = decode(content)
    except ValueError as error:
        raise DataError(f"{path}: found {error}") from None
    height, width = pixels.shape[:2]
    return cut(pixels, np.array([0, 0, width, height], dtype=np.float64))


def decode(content: bytes) -> Pixels:
    """Decode an image file to RGB, upright according to its EXIF orientation, very large ones at a reduced size.

    16-bit gray keeps its high byte, an alpha channel is dropped.

    Raises
    ------
    ValueError
        If the file is not an image, too large or damaged; the message states what was found and what was expected.
    """
    try:
        pixels = _ordinary_jpeg(content)
        if pixels is not None:
            return pixels
        image = _open(inspect_file(content).content)
        if image is None:
            expected = "JPEG, PNG, WebP, BMP or TIFF"
            raise ValueError(f"a file of {len(content)} bytes that is not an image, expected {expected}")
        check_size(str(image.format), *image.size)
        return np.asarray(_to_rgb(_upright(image)))
    except MemoryError:
        raise ValueError(f"a file of {len(content)} bytes, which takes more memory to decode than there is") from None


def _ordinary_jpeg(content: bytes) -> Pixels | None:
    """Decode a JPEG as most are, to the pixels that Pillow gives; None for any other file, and a damaged one."""
    size = ordinary_jpeg_size(content)
    if size is None:
        return None
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(content)
    except ValueError:  # also for what is only a warning to Pillow
        return None
    return pixels if pixels.shape[:2] == size else None


def _open(content: bytes) -> Image.Image | None:
    """Read the headers of an image, and without its metadata if Pillow can't read them; None if it is no image."""
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except MemoryError:
        raise
    except Exception:
        bare = without_metadata(content)
    return None if bare == content else _open(bare)


def _upright(image: Image.Image) -> Image.Image:
    width, height = image.size
    reduction = reduction_of(width, height)
    try:
        if is_jpeg(image.format) and reduction > 1:
            image.draft(None, (max(1, width // reduction), max(1, height // reduction)))
        image.load()
        orientation = _orientation(image)
        if max(image.size) * reduction > max(width, height) * 1.5:
            image = image if image.mode in REDUCIBLE_MODES else _to_rgb(image)
            image = image.reduce(reduction)
        return image.transpose(EXIF_TRANSPOSES[orientation]) if orientation in EXIF_TRANSPOSES else image
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"a damaged {image.format} file: {error or type(error).__name__}") from None


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image; 1 for TIFF, which Pillow transposes itself."""
    if not exif_is_usable(image.info.get("exif", b"")):
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels may be intact
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "F":
        image = Image.fromarray(np.clip(np.asarray(image), 0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
