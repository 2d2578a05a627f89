"""Images whose metadata is damaged, huge or hostile: both packages decode them alike, as no pixel depends on it."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline.images import decode
from regions import image_files
from tests.hostile_images import (
    HUGE_TEXT,
    assert_both_decode,
    encoded,
    gray_tiff,
    jpeg_segment,
    jpeg_with,
    overlapping_directory,
    png_chunk,
    png_with,
    red,
)


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(png_chunk(b"zTXt", b"k\0\0" + HUGE_TEXT), id="huge zTXt"),
        pytest.param(png_chunk(b"iCCP", b"x\0\0" + HUGE_TEXT), id="huge iCCP"),
        pytest.param(png_chunk(b"iTXt", b"k\0\1\0\0\0" + HUGE_TEXT), id="huge iTXt"),
        pytest.param(b"".join(png_chunk(b"tEXt", b"k%d\0" % n + bytes(1 << 20)) for n in range(66)), id="many texts"),
        pytest.param(png_chunk(b"zTXt", b"Raw profile type exif\0\0" + HUGE_TEXT), id="huge EXIF as text"),
        pytest.param(png_chunk(b"zTXt", b"k\0\0no stream"), id="damaged text"),
        pytest.param(png_chunk(b"iCCP", b"\0"), id="cut profile"),
        pytest.param(png_chunk(b"tEXt", b"k\0v")[:-1] + b"!", id="text with a wrong checksum"),
        pytest.param(png_chunk(b"pHYs", b"") + png_chunk(b"sRGB", b""), id="empty chunks"),
        pytest.param(png_chunk(b"eXIf", overlapping_directory()), id="EXIF that unpacks to megabytes"),
        pytest.param(png_chunk(b"abCd", b"") * 2_000, id="many chunks"),
    ],
)
def test_a_png_is_decoded_whatever_its_metadata(chunk: bytes, behind: bool) -> None:
    assert_both_decode(png_with(chunk, behind=behind))


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(jpeg_segment(0xE2, b"ICC_PROFILE\0"), id="ICC profile without a number"),
        pytest.param(jpeg_segment(0xE2, b"ICC_PROFILE\0\1\2cut"), id="ICC profile whose other half is missing"),
        pytest.param(jpeg_segment(0xE0, b"JFIF\0"), id="cut JFIF"),
        pytest.param(jpeg_segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4"), id="cut Photoshop resources"),
        pytest.param(jpeg_segment(0xEE, b"Adobe"), id="cut Adobe"),
        pytest.param(jpeg_segment(0xE2, b"MPF\0" + overlapping_directory()), id="MPF that unpacks to megabytes"),
        pytest.param(jpeg_segment(0xE1, b"Exif\0\0" + overlapping_directory()), id="EXIF that unpacks to megabytes"),
        pytest.param(jpeg_segment(0xFE, bytes(65_000)) * 100, id="6 MB of comments"),
        pytest.param(jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta"), id="cut XMP"),
    ],
)
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO:UserWarning")
def test_a_jpeg_is_decoded_whatever_its_metadata(segment: bytes, progressive: bool) -> None:
    content = jpeg_with(segment, progressive=progressive)
    assert_both_decode(content)
    np.testing.assert_array_equal(decode(content).pixels, decode(jpeg_with(progressive=progressive)).pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_follows_an_image_is_not_read(kind: str) -> None:
    assert_both_decode(encoded(red(), kind) + b"\xff\xd8\xff\xda garbage" * 100)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({270: (2, 0x7FFFFFFF, 8)}, id="description of 2 GB"),
        pytest.param({700: (1, 0xFFFFFFFF, 100), 34675: (7, 0x7FFFFFFF, 8)}, id="XMP and profile of gigabytes"),
        pytest.param({40_000 + number: (7, 2_000, 8) for number in range(2_000)}, id="the same value many times"),
        pytest.param({34665: (4, 1, 8), 34853: (4, 1, 8), 330: (4, 1, 8)}, id="directories that contain themselves"),
        pytest.param({50_000: (99, 1, 1)}, id="unknown type"),
    ],
)
def test_a_tiff_is_decoded_whatever_its_metadata(more: dict[int, tuple[int, int, int]]) -> None:
    content = gray_tiff(10, 10, more, b"\x80" * 2_000)
    assert_both_decode(content, 10, 10)
    assert (decode(content).pixels == 0x80).all()


def test_directories_that_unpack_to_megabytes_cost_no_memory() -> None:
    content = png_with(png_chunk(b"eXIf", overlapping_directory(20_000, 250_000)))
    assert image_files.inspect_file(content).content == encoded(red(), "PNG")
    assert not image_files.exif_is_usable(overlapping_directory())


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_orientation_survives_where_metadata_is_removed(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    upright = red(6, 4) if orientation == 3 else red(4, 6)
    huge = png_chunk(b"zTXt", b"k\0\0" + HUGE_TEXT)
    content = png_with(huge, png_chunk(b"eXIf", exif.tobytes()[6:]))
    assert_both_decode(content, upright.height, upright.width)
    profile = zlib.compress(b"\nexif\n    %d\n%s" % (len(exif.tobytes()), exif.tobytes().hex().encode()))
    content = png_with(huge, png_chunk(b"zTXt", b"Raw profile type exif\0\0" + profile))
    assert_both_decode(content, upright.height, upright.width)
    xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
    for flag, text in ((b"\0", xmp), (b"\1", zlib.compress(xmp))):
        content = png_with(huge, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0" + flag + b"\0en\0key\0" + text))
        assert_both_decode(content, upright.height, upright.width)
    content = gray_tiff(6, 4, {274: (3, 1, orientation), 270: (2, 0x7FFFFFFF, 8)})
    assert_both_decode(content, upright.height, upright.width)


def test_the_first_image_of_an_animation_is_the_one_without_it() -> None:
    frames = [Image.effect_noise((20, 30), 90).convert("RGBA") for _ in range(4)]
    content = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert b"acTL" in content
    np.testing.assert_array_equal(decode(content).pixels, np.asarray(frames[0])[:, :, :3])
