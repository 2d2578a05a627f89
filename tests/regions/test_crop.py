import numpy as np
import pytest

from regions import crop
from regions.landmarks import eye_centers
from tests.faces import face


@pytest.mark.parametrize("angle", [0, 25, -40])
@pytest.mark.parametrize("eye_distance", [8.0, 39.0, 200.0])
def test_the_crop_frames_a_face_as_celeba_does(angle: int, eye_distance: float) -> None:
    points = face(eye_distance=eye_distance, angle=angle)
    x0, y0, x1, y1 = crop.face_crop_box(points)
    middle = np.mean(eye_centers(points), axis=0)
    pixel = 1 / (x1 - x0)
    assert (middle[0] - x0) / (x1 - x0) == pytest.approx(0.50, abs=pixel)
    assert (middle[1] - y0) / (y1 - y0) == pytest.approx(0.51, abs=pixel)
    assert eye_distance / (x1 - x0) == pytest.approx(39 / 178, rel=0.02)
    assert (y1 - y0) / (x1 - x0) == pytest.approx(218 / 178, abs=pixel)


def test_the_crop_of_a_turned_head_is_not_blown_up() -> None:
    points = face()
    x0, _, x1, _ = crop.face_crop_box(points)
    points[:, 0] = 200 + 0.4 * (points[:, 0] - 200)
    turned_x0, _, turned_x1, _ = crop.face_crop_box(points)
    assert turned_x1 - turned_x0 > 0.8 * (x1 - x0)


def test_cut_of_the_crops_own_size_is_the_pixels_themselves() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    found = crop.cut(pixels, np.array([10, 20, 188, 238]))
    assert (found == pixels[20:238, 10:188]).all()


def test_cut_replicates_the_edge_beyond_the_image() -> None:
    pixels = np.zeros((100, 80, 3), dtype=np.uint8)
    pixels[:, 0] = (255, 0, 0)
    pixels[:, -1] = (0, 255, 0)
    found = crop.cut(pixels, np.array([-89, -59, 89, 159]))
    assert found.shape == (218, 178, 3)
    assert (found[:, :89] == (255, 0, 0)).all()
    assert (found[:, -9:] == (0, 255, 0)).all()


@pytest.mark.parametrize("box", [(-500, -500, -322, -282), (1000, 1000, 1178, 1218), (-500, 50, -322, 268)])
def test_cut_wholly_outside_replicates_the_nearest_pixels(box: tuple[int, int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 80, 3), dtype=np.uint8)
    found = crop.cut(pixels, np.array(box))
    assert found.shape == (218, 178, 3)
    corner = pixels[0 if box[1] < 50 else -1, 0 if box[0] < 0 else -1]
    if box[1] != 50:
        assert (found == corner).all()


@pytest.mark.parametrize("size", [2, 60, 178, 500, 1500])
def test_cut_keeps_a_flat_color(size: int) -> None:
    pixels = np.full((1600, 1600, 3), (10, 200, 90), dtype=np.uint8)
    assert (crop.cut(pixels, np.array([3, 5, 3 + size, 5 + size])) == (10, 200, 90)).all()


@pytest.mark.parametrize("box", [(5, 5, 5, 20), (5, 5, 20, 4)])
def test_a_box_without_area_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="has no area"):
        crop.cut(np.zeros((30, 30, 3), dtype=np.uint8), np.array(box))


@pytest.mark.parametrize("factor", [1.0, 1.3, 2.0, 3.7, 0.4])
def test_cut_keeps_positions(factor: float) -> None:
    """A bright square of the image lies where the box says it should, to a tenth of a pixel."""
    size = 900
    pixels = np.zeros((size, size, 3), dtype=np.uint8)
    pixels[300:400, 200:320] = 255
    box = np.array([100.0, 120.0, 100 + 178 * factor, 120 + 218 * factor])
    if box[2] < 340 or box[3] < 420:
        box = np.array([250.0, 330.0, 250 + 178 * factor, 330 + 218 * factor])
    found = crop.cut(pixels, box)[:, :, 0] / 255
    inside = np.clip([200 - box[0], 320 - box[0], 300 - box[1], 400 - box[1]], 0, None) / factor
    assert found.max(axis=0).sum() == pytest.approx(inside[1] - inside[0], abs=0.3)
    assert found.max(axis=1).sum() == pytest.approx(inside[3] - inside[2], abs=0.3)
    if inside[0] > 0:
        columns = found.sum(axis=0)
        middle = (columns * (np.arange(178) + 0.5)).sum() / columns.sum()
        assert middle == pytest.approx((inside[0] + inside[1]) / 2, abs=0.1)


@pytest.mark.parametrize("factor", [1.0, 1.37, 2.0, 2.6, 4.9])
def test_a_box_that_reaches_outside_is_cut_as_if_the_edge_went_on(factor: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    box = np.array([-31, -17, -31 + round(178 * factor), -17 + round(218 * factor)], dtype=float)
    wider = np.pad(pixels, ((40, 1000), (40, 1000), (0, 0)), mode="edge")
    assert (crop.cut(pixels, box) == crop.cut(wider, box + 40.0)).all()


@pytest.mark.parametrize("factor", [1.3, 1.9, 2.6, 3.7])
def test_a_box_is_cut_alike_on_the_quick_and_the_general_way(factor: float) -> None:
    ramp = np.add.outer(np.arange(900), np.arange(900)) // 8
    pixels = np.repeat(ramp.astype(np.uint8)[:, :, None], 3, axis=2)
    box = np.array([20.0, 31, 20 + round(178 * factor), 31 + round(218 * factor)])
    quick, general = crop.cut(pixels, box), crop.cut(pixels, box + 1e-6)
    assert np.abs(quick.astype(int) - general).max() <= 1


def test_a_box_far_larger_than_its_image_takes_no_memory_of_its_size() -> None:
    pixels = np.full((30, 30, 3), 7, dtype=np.uint8)
    assert (crop.cut(pixels, np.array([-(1 << 30), -(1 << 30), 1 << 30, 1 << 30])) == 7).all()
