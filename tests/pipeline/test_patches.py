"""Parts of an image: every pixel of a patch is where the patch says it is."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detection.patches import (
    MAX_ROTATED_PATCH,
    MIN_PATCH,
    Patch,
    bbox_patch,
    rotated_patch,
    tiles,
    whole_patch,
)
from pipeline.images import DecodedImage
from regions.landmarks import FloatArray, eye_line_angle, face_size, five_points
from tests import synthetic
from tests.faces import face

BIAS, LARGEST = 0.03, 0.35
"""How far the pixels of a patch may be from where its matrix puts them, on average and at most, in decoded pixels."""
ANGLES = (0, 30, -30, 60, -60, 90, -90, 137, 180)


def chart(rows: int = 100, cols: int = 120, reduction_y: float = 1.0, reduction_x: float = 1.0) -> DecodedImage:
    """Return an image whose red and green encode where a pixel is, in half pixels, and whose blue is full."""
    pixels = np.full((rows, cols, 3), 255, dtype=np.uint8)
    pixels[..., 0] = 2 * np.arange(cols) + 1
    pixels[..., 1] = (2 * np.arange(rows) + 1)[:, None]
    return DecodedImage(pixels, round(rows * reduction_y), round(cols * reduction_x))


CHARTS = {
    "whole": chart(),
    "reduced": chart(reduction_y=2, reduction_x=2),
    "reduced unevenly": chart(99, 121, reduction_y=3.975, reduction_x=4.02),
}


def pixel_centers(patch: Patch) -> FloatArray:
    rows, cols = patch.pixels.shape[:2]
    centers: FloatArray = np.stack(np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5), axis=2)
    return centers.reshape(-1, 2)


def assert_pixels_are_where_they_should_be(patch: Patch, image: DecodedImage) -> None:
    """Compare the locations of the pixels by the patch's matrix with those in their colors."""
    decoded = patch.to_source(pixel_centers(patch)) * image.scale
    colors = patch.pixels.reshape(-1, 3).astype(np.float64)
    low, high = (corners(patch) * image.scale).min(axis=0), (corners(patch) * image.scale).max(axis=0)
    shown = (np.maximum(low, 0) + 2, np.minimum(high, image.pixels.shape[1::-1]) - 2)  # but for the blurred edge
    inside = (decoded > shown[0]).all(axis=1) & (decoded < shown[1]).all(axis=1)
    assert inside.sum() > 100
    assert (colors[inside, 2] == 255).all()
    errors = decoded[inside] - colors[inside, :2] / 2
    assert np.abs(errors.mean(axis=0)).max() < BIAS
    assert np.abs(errors).max() < LARGEST


def corners(patch: Patch) -> FloatArray:
    """Return the corners of a patch in source pixels."""
    rows, cols = patch.pixels.shape[:2]
    return patch.to_source(np.array([[0, 0], [cols, 0], [0, rows], [cols, rows]], dtype=np.float64))


def from_source(patch: Patch, points: FloatArray) -> FloatArray:
    """Map points of the source image to points of a patch."""
    shift: FloatArray = patch.matrix[:, 2]
    mapped: FloatArray = (points - shift) @ np.linalg.inv(patch.matrix[:, :2]).T
    return mapped


def about_box(image: DecodedImage, box: FloatArray, margin: float) -> Patch:
    """Return the patch about a box that reaches into the image."""
    patch = bbox_patch(image, box, margin)
    assert patch is not None
    return patch


@pytest.mark.parametrize("image", CHARTS.values(), ids=CHARTS)
def test_a_whole_patch_is_the_decoded_image(image: DecodedImage) -> None:
    patch = whole_patch(image)
    assert np.array_equal(patch.pixels, image.pixels)
    np.testing.assert_allclose(corners(patch)[[0, 3]], [[0, 0], [image.width, image.height]])
    assert_pixels_are_where_they_should_be(patch, image)


@pytest.mark.parametrize("image", CHARTS.values(), ids=CHARTS)
@given(data=st.data())
@settings(max_examples=40)
def test_every_pixel_about_a_box_is_where_the_patch_says(image: DecodedImage, data: st.DataObject) -> None:
    x, y = (data.draw(st.floats(-0.2, 0.8)) for _ in "xy")
    width, height = (data.draw(st.floats(0.25, 2)) for _ in "xy")
    margin = data.draw(st.sampled_from([0, 0.25, 0.75]))
    size = np.array([image.width, image.height, image.width, image.height])
    box = np.array([x, y, width, height]) * size
    patch = about_box(image, box, margin)
    assert_pixels_are_where_they_should_be(patch, image)
    assert max(patch.pixels.shape) >= MIN_PATCH
    reach = margin * box[2:].max()
    low = np.maximum(box[:2] - reach, 0)
    high = np.minimum(box[:2] + box[2:] + reach, (image.width, image.height))
    missing = np.abs(corners(patch)[[0, 3]] - [low, high])
    assert (missing <= 1 / image.scale + 1e-6).all()
    assert (corners(patch)[0] <= low + 1e-6).all()
    assert (corners(patch)[3] >= high - 1e-6).all()


@pytest.mark.parametrize(("height", "width"), [(400, 300), (1600, 1200)])
@given(x=st.floats(60, 240), y=st.floats(60, 340))
@settings(max_examples=20)
def test_a_bright_dot_is_found_again(height: int, width: int, x: float, y: float) -> None:
    columns, rows = np.meshgrid(np.arange(300) + 0.5, np.arange(400) + 0.5)
    dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
    image = DecodedImage(np.repeat(dot[..., None], 3, axis=2).round().astype(np.uint8), height, width)
    at = np.array([x, y]) / image.scale
    box = np.array([*(at - 30), 60, 60])
    for patch in (whole_patch(image), about_box(image, box, 0.75), rotated_patch(image, box, 0.75, 50)):
        weights = patch.pixels[..., 0].reshape(-1, 1).astype(np.float64)
        found = (pixel_centers(patch) * weights).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(patch.to_source(found[None]) * image.scale, [[x, y]], atol=0.05)


def test_small_boxes_are_enlarged_and_large_ones_are_not() -> None:
    image = DecodedImage(synthetic.image(height=2000, width=1500), 2000, 1500)
    assert about_box(image, np.array([900, 400, 30.0, 20]), 0.1).pixels.shape == (139, MIN_PATCH, 3)
    assert about_box(image, np.array([100, 100, 96.0, 191]), 0).pixels.shape == (MIN_PATCH, 97, 3)
    large = about_box(image, np.array([10, 20, 192.0, 200]), 0)
    assert np.array_equal(large.pixels, image.pixels[20:220, 10:202])


@pytest.mark.parametrize(
    "box",
    [
        [-50, 10, 40, 40],
        [125, 10, 40, 40],
        [10, -500, 40, 40],
        [10, 100, 40, 40],
        [-40, 20, 41, 40],
        [60, 60, 0, 0],
        [1e9, 1e9, 1, 1],
    ],
)
def test_a_box_outside_of_the_image_has_no_patch(box: list[float]) -> None:
    assert bbox_patch(chart(), np.array(box, dtype=np.float64), 0) is None


def test_a_margin_may_reach_into_the_image() -> None:
    patch = about_box(chart(), np.array([-50, 10, 40.0, 40]), 0.75)
    np.testing.assert_allclose(corners(patch)[[0, 3]], [[0, 0], [20, 80]])


def test_a_box_far_larger_than_the_image_shows_all_of_it() -> None:
    patch = about_box(chart(200, 250), np.array([-1e6, -1e6, 3e6, 3e6]), 0.25)
    assert patch.pixels.shape == (200, 250, 3)


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("image", CHARTS.values(), ids=CHARTS)
def test_every_pixel_of_a_rotated_patch_is_where_the_patch_says(image: DecodedImage, angle: int) -> None:
    size = np.array([image.width, image.height])
    for box in (np.array([0, 0, *size]), np.array([*(0.5 * size), *(0.4 * size)])):
        patch = rotated_patch(image, box, 0.2, angle)
        assert patch.pixels.shape == (MIN_PATCH, MIN_PATCH, 3)
        assert_pixels_are_where_they_should_be(patch, image)
        np.testing.assert_allclose(corners(patch).mean(axis=0), box[:2] + box[2:] / 2)
        assert math.dist(*corners(patch)[:2]) == pytest.approx(1.4 * box[2:].max())


def test_beyond_the_image_a_rotated_patch_is_black() -> None:
    image = chart()
    patch = rotated_patch(image, np.array([0, 0, 120.0, 100]), 0.2, 30)
    decoded = patch.to_source(pixel_centers(patch))
    outside = ((decoded < -1) | (decoded > [121, 101])).any(axis=1)
    assert outside.mean() > 0.3
    assert not patch.pixels.reshape(-1, 3)[outside].any()


def test_no_corner_is_lost_when_a_whole_image_is_rotated() -> None:
    image = chart(120, 120)
    for angle in ANGLES:
        patch = rotated_patch(image, np.array([0, 0, 120.0, 120]), 0.21, angle)
        shown = from_source(patch, np.array([[0, 0], [120, 0], [0, 120], [120, 120.0]]))
        assert (shown > 0).all() and (shown < MIN_PATCH).all()


@pytest.mark.parametrize(
    ("side", "reduction", "expected"),
    [(50, 1, MIN_PATCH), (300, 1, 420), (900, 1, MAX_ROTATED_PATCH), (900, 4, 315), (100, 4, MIN_PATCH)],
)
def test_a_rotated_patch_has_the_decoded_pixels_size_within_limits(side: int, reduction: int, expected: int) -> None:
    image = DecodedImage(np.zeros((1000 // reduction, 1000 // reduction, 3), dtype=np.uint8), 1000, 1000)
    patch = rotated_patch(image, np.array([20, 20, side, side - 10.0]), 0.2, 30)
    assert patch.pixels.shape == (expected, expected, 3)


@given(angle=st.floats(-179, 179), x=st.floats(0, 400), eye_distance=st.floats(5, 150))
def test_a_tilted_face_is_upright_in_its_rotated_patch(angle: float, x: float, eye_distance: float) -> None:
    tilted = face(x=x, angle=angle, eye_distance=eye_distance)
    assert eye_line_angle(five_points(tilted)) == pytest.approx(angle, abs=1e-6)
    low, high = tilted.min(axis=0), tilted.max(axis=0)
    image = DecodedImage(np.zeros((500, 400, 3), dtype=np.uint8), 500, 400)
    patch = rotated_patch(image, np.concatenate([low, high - low]), 0.25, angle)
    upright = from_source(patch, tilted)
    size = face_size(upright)
    expected = face(x=0, y=0, eye_distance=size)
    np.testing.assert_allclose(upright - upright.mean(axis=0), expected - expected.mean(axis=0), atol=1e-6 * size)
    assert (upright > 0).all() and (upright < patch.pixels.shape[0]).all()
    np.testing.assert_allclose(patch.to_source(upright), tilted, atol=1e-6)


def test_a_box_without_any_size_can_be_rotated() -> None:
    patch = rotated_patch(chart(), np.array([60, 50, 0.0, 0]), 0.25, 30)
    np.testing.assert_allclose(corners(patch).mean(axis=0), [60, 50])
    assert math.dist(*corners(patch)[:2]) == pytest.approx(2)


@given(box=st.tuples(*[st.floats(0, 90)] * 2, *[st.floats(1, 90)] * 2))
def test_a_box_keeps_its_place(box: tuple[float, ...]) -> None:
    image = CHARTS["reduced unevenly"]
    patch = about_box(image, np.array([40, 40, 90.0, 70]), 0.25)
    found = patch.bbox_to_source(np.array(box))
    ends = patch.to_source(np.array([[box[0], box[1]], [box[0] + box[2], box[1] + box[3]]]))
    np.testing.assert_allclose(found, [*ends[0], *(ends[1] - ends[0])], atol=1e-9)


@pytest.mark.parametrize(
    ("angle", "expected"),
    [(0, [44, 44, 20, 40]), (90, [116, 44, 40, 20]), (180, [136, 116, 20, 40]), (-90, [44, 136, 40, 20])],
)
def test_a_box_of_a_rotated_patch(angle: int, expected: list[int]) -> None:
    image = DecodedImage(np.zeros((200, 200, 3), dtype=np.uint8), 200, 200)
    patch = rotated_patch(image, np.array([4, 4, 192.0, 192]), 0, angle)
    np.testing.assert_allclose(patch.bbox_to_source(np.array([40, 40, 20.0, 40])), expected, atol=1e-9)
    slanting = Patch(patch.pixels, rotated_patch(image, np.array([4, 4, 192.0, 192]), 0, angle + 45).matrix)
    np.testing.assert_allclose(slanting.bbox_to_source(np.array([40, 40, 20.0, 40]))[2:], 60 / math.sqrt(2))


def place(patch: Patch, image: DecodedImage) -> npt.NDArray[np.int_]:
    """Return which pixels of the decoded image a tile shows: x0, y0, x1, y1."""
    sides: FloatArray = (corners(patch)[[0, 3]] * np.tile(image.scale, (2, 1))).ravel()
    return np.rint(sides).astype(np.int_)


@given(rows=st.integers(1, 400), cols=st.integers(20, 400), number=st.integers(1, 9))
@settings(max_examples=60)
def test_tiles_cover_an_image_and_overlap_by_half(rows: int, cols: int, number: int) -> None:
    image = DecodedImage(np.zeros((rows, cols, 3), dtype=np.uint8), rows * 2, cols * 3)
    places = [place(tile, image) for tile in tiles(image, number)]
    side = math.ceil(max(rows, cols) / number)
    covered = np.zeros((rows, cols), dtype=bool)
    for x0, y0, x1, y1 in places:
        assert 0 <= x0 < x1 <= cols and 0 <= y0 < y1 <= rows
        assert (x1 - x0, y1 - y0) == (min(side, cols), min(side, rows))
        covered[y0:y1, x0:x1] = True
    assert covered.all()
    for axis, length in ((0, cols), (1, rows)):
        starts = sorted({int(tile[axis]) for tile in places})
        assert starts[0] == 0 and starts[-1] == max(length - side, 0)
        assert max(np.diff(starts), default=0) <= side / 2 + 1
        assert len(starts) <= max(1, math.ceil(2 * length / side) - 1)
    assert len(places) == len({tuple(tile) for tile in places})


@pytest.mark.parametrize(
    ("rows", "cols", "number", "count"),
    [(800, 800, 2, 9), (800, 800, 4, 49), (800, 800, 8, 225), (400, 800, 2, 3), (100, 800, 2, 3), (800, 800, 1, 1)],
)
def test_number_of_tiles(rows: int, cols: int, number: int, count: int) -> None:
    assert len(list(tiles(DecodedImage(np.zeros((rows, cols, 3), dtype=np.uint8), rows, cols), number))) == count


@pytest.mark.parametrize("image", CHARTS.values(), ids=CHARTS)
def test_every_pixel_of_a_tile_is_where_it_says(image: DecodedImage) -> None:
    for number in (2, 3, 4):
        for tile in tiles(image, number):
            assert max(tile.pixels.shape) == MIN_PATCH
            assert_pixels_are_where_they_should_be(tile, image)


def test_large_tiles_are_not_enlarged() -> None:
    image = DecodedImage(synthetic.image(height=500, width=600), 500, 600)
    first, *_ = tiles(image, 2)
    assert np.array_equal(first.pixels, image.pixels[:300, :300])
    assert sum(1 for _ in tiles(image, 2)) == 9
