"""Images made to cost memory or time, or to end the process: both packages decode or refuse them alike, by headers."""

from __future__ import annotations

import ast
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from PIL import Image

import pipeline
import training
from pipeline import images
from pipeline.building.annotate import DetectingAnnotator
from pipeline.building.settings import BuildSettings
from pipeline.building.stopwatch import Stopwatch
from pipeline.detection.detectors import MEDIAPIPE, Detectors
from pipeline.detection.patches import tiles, whole_patch
from pipeline.errors import ImageError
from pipeline.images import DecodedImage, decode
from pipeline.records import DetectorSettings, RejectedImage
from regions import image_files
from regions.crop import cut
from regions.landmarks import FloatArray
from tests.hostile_images import (
    assert_both_decode,
    bmp_of,
    encoded,
    gray_tiff,
    jpeg_claiming,
    jpeg_of_scans,
    jpeg_segment,
    jpeg_with,
    png_chunk,
    png_of,
    png_with,
    red,
    tiled_tiff,
)
from tests.synthetic import image_row, small_table
from training import face_images
from training.cli_common import DataError


def assert_both_refuse(content: bytes, detail: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(content)
    assert caught.value.reason == "too_large"
    assert re.fullmatch(detail, caught.value.detail)
    with pytest.raises(ValueError, match=detail):
        face_images.decode(content)


@pytest.mark.parametrize(
    ("width", "height", "decoded"),
    [
        pytest.param(32_766, 2, (32_766, 2), id="longest side that is not reduced"),
        pytest.param(32_767, 2, (16_384, 1), id="one pixel longer"),
        pytest.param(2, 40_000, (1, 20_000), id="high"),
        pytest.param(65_535, 1, (16_384, 1), id="one row"),
        pytest.param(1, 65_535, (1, 16_384), id="one column"),
        pytest.param(65_533, 9, (16_384, 3), id="odd"),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_long_sides_are_reduced_to_what_detectors_take(
    kind: str, width: int, height: int, decoded: tuple[int, int]
) -> None:
    content = encoded(Image.new("L", (width, height), 77), kind)
    image = decode(content)
    assert image.pixels.shape == (*decoded[::-1], 3)
    assert (image.width, image.height) == (width, height)
    assert (image.pixels == 77).all()
    np.testing.assert_array_equal(face_images.decode(content), image.pixels)


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500), (3, 40_000), (65_500, 16)])
def test_thin_jpegs_are_reduced_too(size: tuple[int, int]) -> None:
    content = encoded(red(*size), "JPEG")
    image = decode(content)
    assert (image.width, image.height) == size
    assert max(image.pixels.shape) <= image_files.MAX_DECODED_SIDE
    np.testing.assert_array_equal(face_images.decode(content), image.pixels)


@pytest.mark.parametrize("size", [(100_000, 1), (1, 65_536)])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_sides_beyond_the_limit_are_refused(kind: str, size: tuple[int, int]) -> None:
    content = encoded(Image.new("L", size), kind)
    assert_both_refuse(content, f"{kind} of {size[0]}x{size[1]} pixels, expected sides of at most 65535")


@pytest.mark.parametrize("shape", [(1, 32_766), (32_766, 1), (1, 1), (2, 20_000)])
def test_parts_of_thin_images_can_be_cut(shape: tuple[int, int]) -> None:
    rows, cols = shape
    image = DecodedImage(np.full((rows, cols, 3), 9, np.uint8), rows, cols)
    assert whole_patch(image).pixels.shape == (rows, cols, 3)
    assert all(min(tile.pixels.shape) > 0 for tile in tiles(image, 8))
    assert (cut(image.pixels, np.array([0, 0, cols, rows], float)) == 9).all()


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        pytest.param(
            bmp_of(8_000, 1_000, 1, b"\0\2\xff\xff"),
            "run-length encoded BMP of 8000x1000 pixels in 1082 bytes, expected at most 2097152 of both",
            id="bmp that unpacks to gigabytes",
        ),
        pytest.param(
            bmp_of(100, 100, 1, b"\1\5" * (1 << 20)),
            "run-length encoded BMP of 100x100 pixels in 2098230 bytes, expected at most 2097152 of both",
            id="bmp of endless runs",
        ),
        pytest.param(
            bmp_of(100, 10_000_000, 2, b"\0\0"), "run-length encoded BMP of 100x10000000 pixels.*", id="bmp of 4 bits"
        ),
        pytest.param(
            tiled_tiff(1, 1, 20_000, 30_000),
            "TIFF whose strips or tiles unpack to 572 MiB, expected at most 512",
            id="tiff of one tile larger than itself",
        ),
        pytest.param(
            tiled_tiff(16, 50_000, 16_000, 1),
            "TIFF whose strips or tiles unpack to 762 MiB, expected at most 512",
            id="tiff of many tiles wider than itself",
        ),
        pytest.param(
            gray_tiff(4_000, 4_000, {273: (4, 70_000, 0)}, b"\0" * 280_000),
            "TIFF whose strips or tiles unpack to 1068115 MiB, expected at most 512",
            id="tiff that unpacks the same strip again and again",
        ),
        pytest.param(
            gray_tiff(10, 10, {273: (4, 140_000, 0)}, b"\0" * 560_000),
            "TIFF of 140000 strips or tiles, expected at most 131072",
            id="tiff of too many strips",
        ),
        pytest.param(jpeg_of_scans(101), "JPEG of 101 scans, expected at most 100", id="progressive jpeg"),
        pytest.param(
            jpeg_of_scans(300, progressive=False),
            "JPEG of 300 scans, expected at most 100",
            id="baseline jpeg of scans",
        ),
        pytest.param(
            jpeg_claiming(jpeg_of_scans(40), 11_000, 11_000),
            "JPEG of 11000x11000 pixels in 40 scans, expected at most 17",
            id="scans of a large jpeg",
        ),
        pytest.param(
            jpeg_claiming(encoded(red(16, 16), "JPEG", progressive=True, subsampling=0), 11_000, 11_000),
            "JPEG of 11000x11000 pixels in several scans that takes 692 MiB to decode, expected at most 512",
            id="coefficients of a large jpeg",
        ),
        pytest.param(
            jpeg_claiming(jpeg_of_scans(1, progressive=False, subsampling=0), 11_500, 11_500),
            "JPEG of 11500x11500 pixels in several scans that takes .* MiB to decode, expected at most 512",
            id="coefficients of a baseline jpeg whose first scan is not all of it",
        ),
        pytest.param(
            b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2,
            "WEBP of 16384x16384 pixels, expected at most 34 million",
            id="webp canvas",
        ),
        pytest.param(
            b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0\x2f" + struct.pack("<I", 0x3FFF | 0x3FFF << 14) + bytes(9),
            "WEBP of 16384x16384 pixels, expected at most 34 million",
            id="webp without loss",
        ),
    ],
)
def test_files_that_cost_much_are_refused_by_their_headers(content: bytes, detail: str) -> None:
    assert_both_refuse(content, detail)


def test_files_of_very_many_small_parts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MAX_JPEG_SEGMENTS", 60)
    assert_both_refuse(jpeg_with(jpeg_segment(0xE5, b"") * 60), "JPEG of more than 60 segments")
    assert_both_refuse(jpeg_with(jpeg_segment(0xE5, b"") * 60, progressive=True), "JPEG of more than 60 segments")
    monkeypatch.setattr(image_files, "MAX_PNG_CHUNKS", 60)
    assert_both_refuse(png_with(png_chunk(b"abCd", b"") * 60), "PNG of more than 60 chunks")
    assert_both_refuse(png_with(png_chunk(b"IDAT", b"") * 60, behind=True), "PNG of more than 60 chunks")


def test_files_beyond_the_limit_of_bytes_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = encoded(red(), "BMP")
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", len(content))
    assert_both_decode(content)
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", len(content) - 1)
    assert_both_refuse(content, f"file of {len(content)} bytes, expected at most {len(content) - 1}")


def test_the_trainer_does_not_read_a_huge_file(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(DataError, match=r"huge.jpg: found a file of 1099511627776 bytes, expected at most"):
        face_images.read_face(str(path))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(jpeg_of_scans(100), id="as many scans as are allowed"),
        pytest.param(encoded(red(16, 16), "JPEG", progressive=True), id="progressive"),
        pytest.param(bmp_of(16, 16, 1, b"\x10\1\0\0" * 16), id="run-length encoded bmp"),
        pytest.param(encoded(red(16, 16), "TIFF", compression="tiff_lzw"), id="compressed tiff"),
        pytest.param(encoded(red(16, 16), "TIFF", big_tiff=True), id="big tiff"),
        pytest.param(encoded(red(16, 16), "TIFF", save_all=True, append_images=[red(9, 9)] * 20), id="pages"),
        pytest.param(encoded(red(16, 16), "MPO", save_all=True, append_images=[red(9, 9)] * 20), id="mpo"),
        pytest.param(
            encoded(red(16, 16), "WEBP", save_all=True, append_images=[Image.new("RGB", (16, 16))]), id="webp"
        ),
        pytest.param(gray_tiff(16, 16, data=b"\x80" * 256), id="tiff of one strip"),
    ],
)
def test_files_within_the_limits_are_decoded(content: bytes) -> None:
    assert_both_decode(content, 16, 16)


def test_ordinary_files_are_handed_on_as_they_are() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "MPO"):
        content = encoded(red(), kind)
        assert image_files.inspect_file(content).content is content
        assert not image_files.inspect_file(content).is_large


MEASURE = """
import contextlib, re, zlib
from pathlib import Path
from pipeline.images import decode
from tests.hostile_images import *
for content in (
    bmp_of(1000, 1000, 1, bytes([0, 2, 255, 255])),
    tiled_tiff(1, 1, 65536, 10912),
    png_of(1, 1, zlib.compress(bytes(1 << 26))),
    png_with(png_chunk(b"eXIf", overlapping_directory(20_000, 250_000))),
    jpeg_with(jpeg_segment(0xE1, b"Exif" + bytes(2) + overlapping_directory(5_000, 65_000)), dpi=(0, 0)),
    gray_tiff(10, 10, {40_000 + number: (7, 1 << 20, 8) for number in range(20_000)}, bytes(1 << 20)),
    encoded(red(), "WEBP", exif=overlapping_directory(20_000, 250_000)),
    jpeg_claiming(jpeg_of_scans(90), 65500, 2000),
):
    with contextlib.suppress(Exception):
        decode(content)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_the_memory_that_hostile_files_take() -> None:
    output = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True).stdout
    assert int(output) / 1024 < 250


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_that_takes_more_memory_than_there_is_is_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    content, tries = encoded(red(), kind), []

    def load(image: Image.Image | bytes) -> DecodedImage:
        tries.append(image)
        raise MemoryError

    monkeypatch.setattr(images, "_load", load)
    monkeypatch.setattr(face_images, "_upright", load)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", load)
    assert_both_refuse(content, f".*file of {len(content)} bytes, which takes more memory to decode than there is")
    assert len(tries) == 3  # of the pipeline two


def test_memory_that_suffices_at_the_second_try_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = images._load, []

    def load(image: Image.Image) -> DecodedImage:
        tries.append(image)
        if len(tries) == 1:
            raise MemoryError
        return real(image)

    monkeypatch.setattr(images, "_load", load)
    assert decode(encoded(red(), "PNG")).pixels.shape == (4, 6, 3)


class Greedy:
    """A detector that needs more memory than there is."""

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        raise MemoryError

    def close(self) -> None:
        pass


def test_an_image_whose_search_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(red(60, 40), "JPEG"))
    detectors = Detectors(
        (MEDIAPIPE,), open_mesh=Greedy, open_landmark_model=lambda: None, open_faces=lambda: None, open_dlib=Greedy
    )
    settings = BuildSettings(str(tmp_path), "out", small_table(), "face", 0, 0, DetectorSettings(), {})
    rejected = DetectingAnnotator(settings, detectors, Stopwatch()).annotate(image_row())
    assert isinstance(rejected, RejectedImage)
    assert (rejected.reason, rejected.height, rejected.width) == ("too_large", 40, 60)
    assert rejected.detail == "60x40 pixels, which take more memory to search than there is"


def calls_of_image_open(package: str) -> list[tuple[str, ast.Call]]:
    calls = []
    for path in sorted(Path(package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            is_open = isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
            if is_open and isinstance(node, ast.Call):
                calls.append((f"{path}:{node.lineno}", node))
    return calls


def test_only_listed_formats_are_ever_opened() -> None:
    folders = [str(Path(str(package.__file__)).parent) for package in (pipeline, training)]
    calls = [call for folder in folders for call in calls_of_image_open(folder)]
    assert len(calls) >= 3
    for place, call in calls:
        assert "formats" in {keyword.arg for keyword in call.keywords}, place


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", encoded(red(), "EPS")])
def test_postscript_named_as_a_jpeg_is_no_image(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not_an_image"):
        decode(content)
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not an image, expected JPEG, PNG, WebP, BMP or TIFF"):
        face_images.read_face(str(path))


def test_a_png_of_more_data_than_pixels_is_decoded() -> None:
    assert_both_decode(png_of(6, 4, zlib.compress(bytes(1 << 20))))
