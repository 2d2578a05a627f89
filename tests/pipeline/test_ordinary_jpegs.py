"""JPEGs as most are, which a quicker decoder than Pillow reads: the same pixels, and the same rejects."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline import images
from pipeline.errors import ImageError
from pipeline.images import decode
from tests.pipeline.test_images import encoded, quadrants


def by_pillow(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> tuple[bytes, tuple[int, ...]] | tuple[str, str | None]:
    with monkeypatch.context() as patches:
        patches.setattr(images, "_ordinary_jpeg", lambda _: None)
        return outcome(content)


def outcome(content: bytes) -> tuple[bytes, tuple[int, ...]] | tuple[str, str | None]:
    try:
        image = decode(content)
    except ImageError as error:
        return error.reason, error.detail
    return image.pixels.tobytes(), (*image.pixels.shape, image.height, image.width, image.orientation)


def blurred_noise() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    return Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 1.5))


ORDINARY = {
    **{f"subsampling {sampling}": {"subsampling": sampling} for sampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")},
    "restart markers": {"restart_marker_blocks": 3},
    "stored as RGB": {"keep_rgb": True},
    "comment": {"comment": b"text"},
}


@pytest.mark.parametrize("options", ORDINARY.values(), ids=ORDINARY.keys())
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_jpegs_have_the_pixels_that_pillow_gives(
    monkeypatch: pytest.MonkeyPatch, mode: str, options: dict[str, Any]
) -> None:
    content = encoded(blurred_noise().convert(mode), "JPEG", quality=90, **options)
    assert images._ordinary_jpeg(content) is not None
    assert outcome(content) == by_pillow(content, monkeypatch)


def test_damaged_jpegs_are_judged_as_by_pillow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    intact = encoded(blurred_noise(), "JPEG", restart_marker_blocks=5)
    rejects = 0
    for count in range(300):
        damaged = bytearray(intact)
        last = 640 if count % 2 else len(intact)
        for position in generator.integers(2, last, 1 + count % 3):
            damaged[position] = generator.choice([0, 1, 0xD0, 0xD9, 0xFF])
        content = bytes(damaged[: generator.integers(2, len(intact))] if count % 5 == 0 else damaged)
        found = outcome(content)
        rejects += len(found[0]) < 20
        assert found == by_pillow(content, monkeypatch)
    assert 50 < rejects < 250


def test_an_orientation_in_xmp_counts() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert decode(encoded(quadrants(), "JPEG", xmp=xmp)).orientation == 6
