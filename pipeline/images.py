"""Decode image files of any kind to RGB pixels, in bounded memory."""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, TiffImagePlugin

from pipeline.errors import ImageError
from pipeline.vocabulary import CORRUPT, EMPTY, NOT_AN_IMAGE, TOO_LARGE
from regions.image_files import (
    MAX_DECODED_PIXELS,
    CostlyFileError,
    check_size,
    exif_is_usable,
    inspect_file,
    is_jpeg,
    ordinary_jpeg_size,
    reduction_of,
    without_metadata,
)
from regions.landmarks import FloatArray

IMAGES_VERSION = 1
"""Increased whenever the same file gives other pixels, so that existing shards are rebuilt."""

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
"""Transposition that shows an image of each EXIF orientation upright; 5 and above swap width and height."""

# `check_size` checks the size in the header before an image is decoded.
Image.MAX_IMAGE_PIXELS = None
_one_large_image_at_a_time = threading.RLock()


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image, upright according to its EXIF orientation.

    Attributes
    ----------
    pixels : ndarray (rows, cols, 3) uint8
        RGB; reduced in size if the source image is very large.
    height, width : int
        Size of the source image in pixels, upright.
    orientation : int
        EXIF orientation of the stored image, 1 to 8.
    """

    pixels: npt.NDArray[np.uint8]
    height: int
    width: int
    orientation: int = 1

    @property
    def scale(self) -> FloatArray:
        """Pixels of `pixels` per pixel of the source image, in x and y: ``(2,)``."""
        rows, cols = self.pixels.shape[:2]
        return np.array([cols / self.width, rows / self.height])


def decode(content: bytes) -> DecodedImage:
    """Decode an image file.

    Parameters
    ----------
    content : bytes
        JPEG, PNG, WebP, BMP or TIFF, whatever the suffix of its name; also gray, palette, CMYK and
        16-bit images. An alpha channel is dropped.

    Raises
    ------
    ImageError
        ``empty``, ``not_an_image``, ``too_large`` or ``corrupt``. A file within all limits is ``too_large``
        if decoding it runs out of memory twice, the second time while no other large image is decoded.
    """
    with contextlib.suppress(MemoryError):
        return _decode(content)
    with _one_large_image_at_a_time:
        try:
            return _decode(content)
        except MemoryError:
            detail = f"file of {len(content)} bytes, which takes more memory to decode than there is"
            raise ImageError(TOO_LARGE, detail) from None


def _decode(content: bytes) -> DecodedImage:
    if not content:
        raise ImageError(EMPTY, "file of 0 bytes")
    pixels = _ordinary_jpeg(content)
    if pixels is not None:
        return DecodedImage(pixels, *pixels.shape[:2])
    try:
        file = inspect_file(content)
        image = _open(file.content)
        if image is None:
            raise ImageError(NOT_AN_IMAGE, f"file of {len(content)} bytes, starting {content[:4]!r}")
        check_size(str(image.format), *image.size)
    except CostlyFileError as error:
        raise ImageError(TOO_LARGE, str(error)) from None
    if file.is_large or image.width * image.height > MAX_DECODED_PIXELS:
        with _one_large_image_at_a_time:
            return _load(image)
    return _load(image)


def _ordinary_jpeg(content: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG as most are, to the pixels that Pillow gives; None for any other file, and a damaged one."""
    size = ordinary_jpeg_size(content)
    if size is None:
        return None
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(content)
    except ValueError:  # also for what is only a warning to Pillow
        return None
    pixels.setflags(write=False)  # MediaPipe need not copy it
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


def _transposed_by_pillow(image: Image.Image) -> int | None:
    """Return the orientation of a TIFF before Pillow loads it upright; None for other formats, which it leaves."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    orientation = image.tag_v2.get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in EXIF_TRANSPOSES else 1


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image; 1 where Pillow has transposed it."""
    if not exif_is_usable(image.info.get("exif", b"")):
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the pixels may be intact
        return 1
    return orientation if orientation in EXIF_TRANSPOSES else 1


def _load(image: Image.Image) -> DecodedImage:
    width, height = image.size
    reduction = reduction_of(width, height)
    try:
        if is_jpeg(image.format) and reduction > 1:
            image.draft(None, (max(1, width // reduction), max(1, height // reduction)))
        done = _transposed_by_pillow(image)
        image.load()
        orientation = _orientation(image)
        if max(image.size) * reduction > max(width, height) * 1.5:
            image = image if image.mode in REDUCIBLE_MODES else _to_rgb(image)
            image = image.reduce(reduction)
        if orientation in EXIF_TRANSPOSES:
            image = image.transpose(EXIF_TRANSPOSES[orientation])
        pixels = np.asarray(_to_rgb(image))
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(CORRUPT, str(error) or type(error).__name__) from None
    if orientation >= 5:
        width, height = height, width
    return DecodedImage(pixels, height, width, orientation if done is None else done)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB; 16-bit gray keeps its high byte, alpha is dropped."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "F":
        image = Image.fromarray(np.clip(np.asarray(image), 0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
