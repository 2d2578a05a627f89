"""Decoding images: every kind that is accepted, every way of being broken, and the memory it takes."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image

from pipeline.errors import ImageError
from pipeline.images import decode
from regions.image_files import MAX_DECODED_PIXELS

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
COLORS = {"R": RED, "G": GREEN, "B": BLUE, "Y": YELLOW}

AS_SHOWN = {
    1: "RG BY",
    2: "GR YB",
    3: "YB GR",
    4: "BY RG",
    5: "RB GY",
    6: "BR YG",
    7: "YG BR",
    8: "GY RB",
}
"""Upper and lower quadrants of the image "RG BY" when it is transposed for each EXIF orientation."""


def quadrants(width: int = 60, height: int = 40) -> Image.Image:
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def with_orientation(image: Image.Image, kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    if kind == "TIFF":
        return encoded(image, kind, tiffinfo={ExifTags.Base.Orientation: orientation})
    options = {"lossless": True} if kind == "WEBP" else {"compress_level": 1} if kind == "PNG" else {}
    return encoded(image, kind, exif=exif, **options)


def seen(pixels: npt.NDArray[np.uint8]) -> str:
    """Return the quadrants of decoded pixels as in `AS_SHOWN`."""
    rows, cols = pixels.shape[:2]
    centers = pixels[[rows // 4, rows // 4, -rows // 4, -rows // 4], [cols // 4, -cols // 4, cols // 4, -cols // 4]]
    letters = [min(COLORS, key=lambda letter: np.abs(COLORS[letter] - center.astype(int)).sum()) for center in centers]
    return "".join(letters[:2]) + " " + "".join(letters[2:])


def error_of(content: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(content)
    assert str(caught.value) == f"{caught.value.reason}: {caught.value.detail}"
    return caught.value


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "MPO"])
def test_every_format_whatever_the_name_says(kind: str) -> None:
    image = decode(encoded(quadrants(), kind))
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (40, 60, 3)
    assert (image.height, image.width) == (40, 60)
    assert image.scale.tolist() == [1, 1]
    assert seen(image.pixels) == "RG BY"


def palette_with_transparency() -> bytes:
    image = Image.new("P", (6, 4), 1)
    image.putpalette([9, 9, 9, 10, 20, 30])
    return encoded(image, "PNG", transparency=bytes([255, 128]))


def sixteen_bit(pixel: int | tuple[int, int, int, int] | tuple[int, int, int]) -> bytes:
    return cv2.imencode(".png", np.full((4, 6, *np.shape(pixel)), pixel, np.uint16))[1].tobytes()


@pytest.mark.parametrize(
    ("content", "pixel"),
    [
        pytest.param(encoded(Image.new("L", (6, 4), 77), "PNG"), (77, 77, 77), id="gray"),
        pytest.param(encoded(Image.new("L", (6, 4), 77), "JPEG"), (77, 77, 77), id="gray jpeg"),
        pytest.param(encoded(Image.new("1", (6, 4), 1), "PNG"), (255, 255, 255), id="black and white"),
        pytest.param(encoded(Image.new("LA", (6, 4), (77, 5)), "PNG"), (77, 77, 77), id="gray and alpha"),
        pytest.param(encoded(Image.new("RGBA", (6, 4), (10, 20, 30, 0)), "PNG"), (10, 20, 30), id="alpha"),
        pytest.param(encoded(quadrants().quantize(4).crop((0, 0, 6, 4)), "PNG"), RED, id="palette"),
        pytest.param(palette_with_transparency(), (10, 20, 30), id="palette and alpha"),
        pytest.param(encoded(Image.new("CMYK", (6, 4), (0, 255, 255, 0)), "JPEG"), RED, id="cmyk jpeg"),
        pytest.param(encoded(Image.new("CMYK", (6, 4), (0, 255, 255, 0)), "TIFF"), RED, id="cmyk tiff"),
        pytest.param(sixteen_bit(0xABCD), (0xAB, 0xAB, 0xAB), id="16-bit gray"),
        pytest.param(sixteen_bit((0x3000, 0x2000, 0x1000)), (0x10, 0x20, 0x30), id="16-bit"),
        pytest.param(sixteen_bit((0x3000, 0x2000, 0x1000, 0)), (0x10, 0x20, 0x30), id="16-bit and alpha"),
        pytest.param(encoded(Image.new("F", (6, 4), 300.0), "TIFF"), (255, 255, 255), id="float"),
        pytest.param(encoded(Image.new("RGB", (1, 1), RED), "PNG"), RED, id="one pixel"),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(content: bytes, pixel: tuple[int, int, int]) -> None:
    pixels = decode(content).pixels
    assert pixels.shape[2] == 3
    assert np.abs(pixels.astype(int) - pixel).max() <= 1


@pytest.mark.parametrize("orientation", AS_SHOWN)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_upright_by_their_exif_orientation(kind: str, orientation: int) -> None:
    image = decode(with_orientation(quadrants(), kind, orientation))
    height, width = (40, 60) if orientation < 5 else (60, 40)
    assert (image.height, image.width) == (height, width)
    assert image.pixels.shape == (height, width, 3)
    assert seen(image.pixels) == AS_SHOWN[orientation]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0"])
def test_broken_exif_is_no_fault_of_the_pixels(kind: str, exif: bytes) -> None:
    assert decode(encoded(quadrants(), kind, exif=exif)).pixels.shape == (40, 60, 3)


@pytest.mark.parametrize("orientation", [0, 9, 60000])
def test_an_orientation_that_does_not_exist(orientation: int) -> None:
    assert seen(decode(with_orientation(quadrants(), "JPEG", orientation)).pixels) == "RG BY"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "MPO"])
@pytest.mark.parametrize("orientation", [2, 6])
def test_large_images_are_upright_and_reduced(kind: str, orientation: int) -> None:
    image = decode(with_orientation(quadrants(4200, 2800), kind, orientation))
    height, width = (2800, 4200) if orientation < 5 else (4200, 2800)
    assert (image.height, image.width) == (height, width)
    assert image.pixels.shape == (height // 2, width // 2, 3)
    assert image.scale.tolist() == [0.5, 0.5]
    assert seen(image.pixels) == AS_SHOWN[orientation]


def test_a_large_16_bit_image_is_upright_and_reduced() -> None:
    gray = np.zeros((2800, 4200), np.uint16)
    gray[:1400, 2100:] = 0xFF00
    image = decode(with_orientation(Image.fromarray(gray), "PNG", 6))
    assert image.pixels.shape == (2100, 1400, 3)
    assert image.pixels[-500, -500].tolist() == [255, 255, 255]
    assert image.pixels[500, -500].tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_large_images_of_every_kind(mode: str) -> None:
    original = Image.new(mode, (4200, 2800)) if mode == "I;16" else quadrants(4200, 2800).convert(mode)
    content = encoded(original, "TIFF") if mode == "CMYK" else encoded(original, "PNG", compress_level=1)
    image = decode(content)
    assert image.pixels.shape == (1400, 2100, 3)
    if mode in ("P", "RGBA", "CMYK"):
        assert seen(image.pixels) == "RG BY"


def test_sizes_that_reductions_do_not_divide() -> None:
    image = decode(encoded(quadrants(4001, 2999), "JPEG"))
    assert image.pixels.shape == (1500, 2001, 3)
    assert image.scale.tolist() == [2001 / 4001, 1500 / 2999]


def test_an_image_just_small_enough_is_not_reduced() -> None:
    side = int(MAX_DECODED_PIXELS**0.5)
    assert decode(encoded(Image.new("L", (side, side)), "JPEG")).scale.tolist() == [1, 1]
    assert decode(encoded(Image.new("L", (side + 2, side + 2)), "JPEG")).scale.tolist() == [0.5, 0.5]


@pytest.fixture(scope="module", params=[False, True], ids=["baseline", "progressive"])
def jpeg_of_64_megapixels(request: pytest.FixtureRequest) -> bytes:
    return encoded(quadrants(8000, 8000), "JPEG", progressive=request.param)


def test_a_jpeg_of_64_megapixels(jpeg_of_64_megapixels: bytes) -> None:
    image = decode(jpeg_of_64_megapixels)
    assert image.pixels.shape == (2000, 2000, 3)
    assert (image.height, image.width) == (8000, 8000)
    assert image.scale.tolist() == [0.25, 0.25]
    assert seen(image.pixels) == "RG BY"


DECODE_AND_MEASURE = """
import re, sys
from pathlib import Path
from pipeline.images import decode
decode(sys.stdin.buffer.read())
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_the_memory_a_jpeg_of_64_megapixels_takes(jpeg_of_64_megapixels: bytes) -> None:
    command = [sys.executable, "-c", DECODE_AND_MEASURE]
    output = subprocess.run(command, input=jpeg_of_64_megapixels, check=True, capture_output=True).stdout
    assert int(output) / 1024 < 350


def test_a_jpeg_with_more_images_behind_it_may_be_as_large_as_any_jpeg() -> None:
    image = decode(encoded(quadrants(7000, 5000), "MPO"))
    assert image.pixels.shape == (1250, 1750, 3)
    assert (image.height, image.width) == (5000, 7000)


def test_a_png_of_30_megapixels() -> None:
    image = decode(encoded(quadrants(6000, 5000), "PNG", compress_level=1))
    assert image.pixels.shape == (2500, 3000, 3)
    assert image.scale.tolist() == [0.5, 0.5]
    assert seen(image.pixels) == "RG BY"


def png_claiming(width: int, height: int) -> bytes:
    """Return a small PNG whose header claims another size, with a right checksum."""
    png = bytearray(encoded(Image.new("L", (2, 2)), "PNG"))
    png[16:24] = struct.pack(">II", width, height)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


def jpeg_claiming(width: int, height: int) -> bytes:
    """Return a small JPEG whose frame header claims another size."""
    jpeg = bytearray(encoded(quadrants(), "JPEG"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(jpeg)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (encoded(Image.new("1", (8000, 5000)), "PNG"), "PNG of 8000x5000 pixels, expected at most 34 million"),
        (png_claiming(100_000, 100_000), "PNG of 100000x100000 pixels, expected at most 34 million"),
        (jpeg_claiming(65_500, 65_500), "JPEG of 65500x65500 pixels, expected at most 134 million"),
    ],
)
def test_too_large_images_are_refused_by_their_header(content: bytes, detail: str) -> None:
    error = error_of(content)
    assert (error.reason, error.detail) == ("too_large", detail)


def test_a_png_with_a_wrong_checksum_in_its_header() -> None:
    png = bytearray(png_claiming(4, 4))
    png[29] ^= 1
    assert error_of(bytes(png)).reason == "not_an_image"


def test_an_empty_file() -> None:
    error = error_of(b"")
    assert (error.reason, error.detail) == ("empty", "file of 0 bytes")


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (b"<html>404</html>", "b'<htm'"),
        (encoded(quadrants(), "GIF"), "b'GIF8'"),
        (encoded(quadrants(), "PPM"), "b'P6\\n6'"),
        (encoded(quadrants(), "ICO"), "b'\\x00\\x00\\x01\\x00'"),
        (encoded(quadrants(), "JPEG")[:2], "b'\\xff\\xd8'"),
        (encoded(quadrants(), "JPEG")[:150], "b'\\xff\\xd8\\xff\\xe0'"),
        (encoded(quadrants(), "PNG")[:20], "b'\\x89PNG'"),
        (jpeg_claiming(0, 0), "b'\\xff\\xd8\\xff\\xe0'"),
        (bytes(1000), "b'\\x00\\x00\\x00\\x00'"),
    ],
    ids=["text", "gif", "ppm", "ico", "two bytes", "no frame header", "half a header", "no size", "zeros"],
)
def test_what_is_no_image(content: bytes, start: str) -> None:
    error = error_of(content)
    assert (error.reason, error.detail) == ("not_an_image", f"file of {len(content)} bytes, starting {start}")


def noise(kind: str, side: int = 200, **options: Any) -> bytes:
    return encoded(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)), kind, **options
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_image_is_never_used(kind: str, share: float) -> None:
    content = noise(kind)
    error = error_of(content[: int(len(content) * share)])
    assert error.reason in ("corrupt", "not_an_image")
    assert error.detail


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("side", [200, 3000])
def test_a_truncated_jpeg(side: int, options: dict[str, bool]) -> None:
    content = encoded(quadrants(side, side), "JPEG", quality=100, **options)
    error = error_of(content[: len(content) * 2 // 3])
    assert error.reason == "corrupt"
    assert "truncated" in error.detail


def test_a_jpeg_with_a_broken_table() -> None:
    content = bytearray(noise("JPEG"))
    start = content.index(b"\xff\xc4") + 5
    content[start : start + 16] = b"\xff" * 16
    error = error_of(bytes(content))
    assert (error.reason, error.detail) == ("corrupt", "broken data stream when reading image file")


def test_a_png_with_a_flipped_bit() -> None:
    content = bytearray(noise("PNG"))
    content[len(content) // 2] ^= 0x10
    assert error_of(bytes(content)).reason == "corrupt"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_no_damage_leads_to_any_other_error() -> None:
    whole = noise("JPEG", side=64)
    random = np.random.default_rng(1)
    results = set()
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, 800, 5):
            content[place] = random.integers(0, 256)
        try:
            decode(bytes(content))
            results.add("decoded")
        except ImageError as error:
            results.add(error.reason)
    assert results >= {"decoded", "corrupt", "not_an_image"}
    assert results <= {"decoded", "corrupt", "not_an_image", "too_large"}


def test_threads_get_the_images_they_asked_for() -> None:
    contents = [with_orientation(quadrants(4200, 2800), "JPEG", orientation) for orientation in AS_SHOWN]
    with ThreadPoolExecutor(2) as pool:
        images = list(pool.map(decode, contents))
    assert [seen(image.pixels) for image in images] == list(AS_SHOWN.values())


def test_a_thread_that_fails_does_not_block_the_next() -> None:
    broken = encoded(quadrants(4200, 2800), "JPEG")[:-5000]
    for _ in range(2):
        assert error_of(broken).reason == "corrupt"
    assert seen(decode(encoded(quadrants(4200, 2800), "JPEG")).pixels) == "RG BY"


def test_details_fit_on_a_line() -> None:
    for content in (b"\n\n\n\n", b"\xff\xd8\n\n", noise("PNG")[:500]):
        assert re.fullmatch(".+", error_of(content).detail)
