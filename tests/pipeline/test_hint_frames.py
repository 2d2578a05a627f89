"""Hints of images with an EXIF orientation: as displayed, or as stored."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import images
from pipeline.building.annotate import DetectingAnnotator
from pipeline.building.settings import BuildSettings
from pipeline.building.stopwatch import Stopwatch
from pipeline.detection.hint_frames import row_as_stored, upright
from pipeline.formats.manifest import manifest_row
from pipeline.images import DecodedImage
from pipeline.records import AnnotatedImage, DetectorSettings, RejectedImage
from regions.landmarks import FloatArray, five_points
from tests.faces import face
from tests.fake_detectors import FakeDlib, box_about, detectors_of, hinted_row
from tests.synthetic import small_table

STORED_SIZE = 240, 160
"""Width and height."""


def stored(orientation: int, format: str = "JPEG") -> bytes:
    """Return an image with a white pixel block at (x, y) = (30, 20), and an EXIF orientation."""
    pixels = np.zeros((STORED_SIZE[1], STORED_SIZE[0], 3), dtype=np.uint8)
    pixels[16:24, 26:34] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, exif=exif, **({"quality": 95} if format == "JPEG" else {}))
    return stream.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_move_with_the_pixels(orientation: int, format: str) -> None:
    image = images.decode(stored(orientation, format))
    assert image.orientation == orientation
    rows, cols = np.nonzero(image.pixels[..., 0] > 128)
    displayed = [cols.mean() + 0.5, rows.mean() + 0.5]
    moved = upright(np.array([[30, 20]], dtype=np.float32), orientation, image.height, image.width)
    np.testing.assert_allclose(moved[0], displayed, atol=0.6)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_hints_of_the_stored_image_move_to_the_displayed_one(orientation: int) -> None:
    size = STORED_SIZE if orientation < 5 else STORED_SIZE[::-1]
    image = DecodedImage(np.zeros((size[1], size[0], 3), dtype=np.uint8), size[1], size[0], orientation)
    there = face(x=70, y=60, eye_distance=20)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    as_stored = upright(there.astype(np.float32), inverse, STORED_SIZE[1], STORED_SIZE[0])
    low, high = as_stored.min(axis=0), as_stored.max(axis=0)
    row = hinted_row(five=five_points(as_stored), box=[*low, *(high - low)])
    second = row_as_stored(row, image)
    assert second is not None and second.points is not None and second.bbox is not None
    np.testing.assert_allclose(second.points, five_points(there), atol=0.01)
    np.testing.assert_allclose(second.bbox, box_about(there, 0), atol=0.01)


def test_there_is_one_frame_without_orientation_or_hints() -> None:
    plain = DecodedImage(np.zeros((8, 8, 3), dtype=np.uint8), 8, 8)
    rotated = DecodedImage(np.zeros((8, 8, 3), dtype=np.uint8), 8, 8, 6)
    assert row_as_stored(hinted_row(box=[1, 1, 2, 2]), plain) is None
    assert row_as_stored(hinted_row(), rotated) is None


@pytest.mark.parametrize("frame", ["displayed", "stored", "neither"])
def test_a_face_is_found_by_hints_in_either_frame(frame: str, tmp_path: Path) -> None:
    there = face(x=70, y=90, eye_distance=30)
    stored_face = upright(there.astype(np.float32), 8, STORED_SIZE[1], STORED_SIZE[0])
    hinted: dict[str, FloatArray] = {"displayed": there, "stored": stored_face, "neither": there + (60, 50)}
    five = five_points(hinted[frame])
    (tmp_path / "a.jpg").write_bytes(stored(6))
    settings = BuildSettings(
        str(tmp_path), str(tmp_path), small_table(), "face", 0, 0, DetectorSettings(("dlib",)), versions={}
    )
    detectors = detectors_of(None, None, FakeDlib(there), ("dlib",))
    row = dataclasses.replace(hinted_row(five=five), image_id="a.jpg")
    annotator = DetectingAnnotator(settings, detectors, Stopwatch())
    result = annotator.annotate(row)
    assert isinstance(result, RejectedImage if frame == "neither" else AnnotatedImage)
    if isinstance(result, RejectedImage):
        assert (result.reason, result.hint_agrees) == ("wrong_face", False)
        assert result.row.points is row.points
    else:
        assert result.row.points is not None
        np.testing.assert_allclose(result.row.points, five_points(there), atol=0.01)
        (sample,) = annotator.samples([result])
        assert manifest_row(sample).hint_agrees is True
