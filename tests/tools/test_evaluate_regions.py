from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evaluate_regions
import numpy as np
import numpy.typing as npt
import public_regions
import pytest
import region_agreement
import region_stability
import shapely
from PIL import Image
from region_agreement import COMPARED, PARTS, RuleSet

from pipeline.errors import InputError
from pipeline.images import DecodedImage
from regions.landmarks import MIRROR, FloatArray, mean_shape
from regions.outlines import REGION_NAMES
from regions.polygons import GeometryArray
from regions.polygons import region_polygons as our_polygons
from tests.faces import face
from tests.photograph import portrait

pytestmark = pytest.mark.slow

SIZE = 400
PART_OF = {region: PARTS.index(parts[0]) + 1 for region, parts in COMPARED.items()}
OURS = RuleSet("ours", our_polygons)


def image(rows: int = SIZE, cols: int = SIZE) -> DecodedImage:
    return DecodedImage(np.full((rows, cols, 3), 128, dtype=np.uint8), rows, cols)


def masks_of(rules: RuleSet, landmarks: FloatArray, side: int = SIZE) -> npt.NDArray[np.bool_]:
    grid = region_agreement.pixel_centers(image(), side, side)
    return region_agreement.compared_masks(rules.masks(image(), landmarks, *grid))


def label_map(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return the label map of compared regions' masks: where they overlap, what has the higher label."""
    labels = np.zeros(masks.shape[1:], dtype=np.uint8)
    for label, mask in sorted(zip(PART_OF.values(), masks, strict=True), key=lambda pair: pair[0]):
        labels[mask] = label
    return labels


def write_data_set(
    folder: Path, landmarks: FloatArray, numbers: tuple[int, ...] = (0, 1)
) -> tuple[Path, Path, npt.NDArray[np.uint8]]:
    """Write gray images, and our own regions as their annotated parts; return both folders."""
    images, masks = folder / "images", folder / "masks"
    images.mkdir()
    masks.mkdir()
    labels = label_map(masks_of(OURS, landmarks, SIZE // 2))
    for number in numbers:
        Image.fromarray(image().pixels).save(images / f"{number}.jpg")
        Image.fromarray(labels).save(masks / f"{number}.png")
    return images, masks, labels


def write_parts(folder: Path, labels: npt.NDArray[np.uint8], numbers: Sequence[int] = (0, 1)) -> None:
    """Write a label map as CelebAMask-HQ's masks of single parts, in color as those are."""
    (folder / "0").mkdir(parents=True)
    for number in numbers:
        for label in np.unique(labels[labels > 0]):
            mask = np.repeat((labels == label)[:, :, None] * np.uint8(255), 3, axis=2)
            Image.fromarray(mask).save(folder / "0" / f"{number:05d}_{PARTS[label - 1]}.png")


def polygons(landmarks: FloatArray) -> dict[str, Any]:
    return dict(zip(REGION_NAMES, public_regions.region_polygons(landmarks), strict=True))


def test_equal_regions_agree_wholly() -> None:
    masks = masks_of(OURS, face())
    values = region_agreement.scores(region_agreement.count_pixels(masks, masks))
    np.testing.assert_array_equal(values, np.ones((len(COMPARED), 3)))


def test_scores_of_squares_that_overlap_by_half() -> None:
    true, ours = np.zeros((2, 1, 20, 20), dtype=bool)
    true[:, 5:15, 5:15] = True
    ours[:, 5:15, 10:20] = True
    assert region_agreement.scores(region_agreement.count_pixels(ours, true)).tolist() == [[50 / 150, 0.5, 0.5]]


def test_scores_of_nothing() -> None:
    nothing, something = np.zeros((1, 4, 4), dtype=bool), np.ones((1, 4, 4), dtype=bool)
    unmarked = region_agreement.scores(region_agreement.count_pixels(something, nothing))
    empty = region_agreement.scores(region_agreement.count_pixels(nothing, something))
    assert np.isnan(unmarked).all()
    np.testing.assert_array_equal(empty, [[0, np.nan, 0]])


def test_means_leave_out_what_is_no_number() -> None:
    values = np.array([[1, np.nan, 4], [3, np.nan, np.nan]])
    np.testing.assert_array_equal(region_agreement.mean(values), [2, np.nan, 4])
    np.testing.assert_array_equal(region_agreement.percentile(values, 50), [2, np.nan, 4])


def test_both_layouts_of_masks_give_the_same(tmp_path: Path) -> None:
    _, masks, labels = write_data_set(tmp_path, face())
    write_parts(tmp_path / "parts", labels)
    for folder in (masks, tmp_path / "parts"):
        files = region_agreement.find_label_maps(str(folder))
        assert sorted(files) == [0, 1]
        np.testing.assert_array_equal(region_agreement.read_label_map(files[1]), labels)


def test_later_parts_cover_earlier_ones(tmp_path: Path) -> None:
    for part, rows in (("hair", slice(0, 6)), ("skin", slice(4, 10))):
        mask = np.zeros((10, 10), dtype=np.uint8)
        mask[rows] = 255
        Image.fromarray(mask).save(tmp_path / f"00007_{part}.png")
    labels = region_agreement.read_label_map(region_agreement.find_label_maps(str(tmp_path))[7])
    assert labels[:, 0].tolist() == [13] * 6 + [1] * 4


def test_background_is_cut_out_of_three_regions_and_what_is_outside_of_the_image_of_all() -> None:
    upper_half = RuleSet("upper half", our_polygons, lambda _, __, xs, ys: np.broadcast_to(ys[:, None] > 240, (80, 80)))
    grid = np.arange(-40, 440, 6.0), np.arange(-40, 440, 6.0)
    whole, cut = OURS.masks(image(), face(), *grid), upper_half.masks(image(), face(), *grid)
    outside = (grid[0] < 0) | (grid[0] > SIZE)
    assert not whole[:, outside].any()
    assert not whole[:, :, outside].any()
    below = (grid[1] > 240)[:, None]
    for name, before, after in zip(REGION_NAMES, whole, cut, strict=True):
        expected = before & ~below if name in ("below_chin", "ears", "top_of_head") else before
        assert (after == expected).all(), name


def test_refined_regions_are_ours_without_background() -> None:
    photograph = portrait()
    rows, cols = photograph.shape[:2]
    seen = DecodedImage(photograph, rows, cols)
    landmarks = face(x=115, y=105, eye_distance=55)
    grid = region_agreement.pixel_centers(seen, rows, cols)
    ours, refined = (rules.masks(seen, landmarks, *grid) for rules in region_agreement.rule_sets([])[:2])
    assert not (refined & ~ours).any()
    crown = REGION_NAMES.index("top_of_head")
    assert 0.3 < refined[crown].sum() / ours[crown].sum() < 0.98


def test_annotations_compared_with_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, masks, labels = write_data_set(tmp_path, face(), numbers=(0, 2, 10))
    (images / "2.jpg").write_bytes(b"no image")
    options = [f"--images={images}", f"--masks={masks}", f"--output={tmp_path / 'out'}"]
    sent = evaluate_regions.parse_arguments(options)
    found = iter([face(), None])
    evaluate_regions.measure(sent, lambda image, row: next(found))
    printed = capsys.readouterr().out
    assert "skipped: 2: 2.jpg (not_an_image: file of 8 bytes, starting b'no i'), 10.jpg (no face found)" in printed
    rows = {line.split("  ")[0]: line.split()[-13:] for line in printed.splitlines()}
    assert rows["mouth"][:9] == ["1", *["1.000"] * 8]
    assert float(rows["mouth"][9]) < 1
    with (tmp_path / "out" / "human.csv").open() as file:
        figures = list(csv.DictReader(file))
    assert len(figures) == 3 * len(COMPARED)
    assert list(figures[0].values()) == ["0.jpg", "ours", "mouth", "1.0000", "1.0000", "1.0000"]
    with Image.open(tmp_path / "out" / "0.jpg") as drawing:
        assert drawing.width > 2 * labels.shape[1]


def test_face_is_found_in_a_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    pixels = portrait()
    Image.fromarray(pixels).save(images / "3.jpg")
    Image.fromarray(np.full(pixels.shape[:2], PARTS.index("hair") + 1, dtype=np.uint8)).save(masks / "3.png")
    evaluate_regions.main([f"--images={images}", f"--masks={masks}", "--rules", "regions.polygons:region_polygons"])
    printed = capsys.readouterr().out
    assert "agreement with human masks, 1 images" in printed
    top_of_head = next(line for line in printed.splitlines() if line.startswith("top of head")).split()[3:]
    ours, refined, _, ours_again = np.reshape(top_of_head[1:], (4, 4))
    assert ours.tolist() == ours_again.tolist()
    assert ours[1] == "1.000"
    assert float(refined[2]) < float(ours[2])
    assert float(ours[2]) > 0.05


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "masks: no such folder"),
        ({}, "masks: no label maps, expected files such as 0.png or 0/00000_hair.png"),
        ({"7.png": 1}, "images: no image has a label map in {masks}, expected files such as 7.jpg"),
        ({"0.png": 200}, "0.png: values up to 200, expected labels 0 to 18"),
        ({"0.png": None}, "0.png: not an image"),
    ],
    ids=["no folder", "empty", "of other images", "other values", "no image"],
)
def test_bad_masks_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, Any] | None, message: str
) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    Image.fromarray(portrait()).save(images / "0.jpg")
    for name, value in (files or {}).items():
        masks.mkdir(exist_ok=True)
        if value is None:
            (masks / name).write_bytes(b"no image")
        else:
            Image.fromarray(np.full((8, 8), value, dtype=np.uint8)).save(masks / name)
    if files is not None:
        masks.mkdir(exist_ok=True)
    with pytest.raises(SystemExit) as stopped:
        evaluate_regions.main([f"--images={images}", f"--masks={masks}"])
    assert stopped.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("evaluate_regions: "))
    assert message.format(masks=masks) in line


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "expected"), (["--images=x"], "--images and --masks require each"), (["--masks=x"], "require each other")],
)
def test_arguments_that_belong_together(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        evaluate_regions.main(options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["no_such_module:f", "regions.polygons:no_such_function", "a b"])
def test_unknown_rules_are_told(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        evaluate_regions.main(["--photographs=x", "--rules", name])
    assert stopped.value.code == 2
    assert "expected MODULE:FUNCTION" in capsys.readouterr().err


def test_rules_of_other_regions_are_told() -> None:
    rules = RuleSet("chins", lambda landmarks: our_polygons(landmarks)[:2])
    with pytest.raises(InputError, match="chins returns 2 regions, expected 10"):
        masks_of(rules, face())


def test_public_neck_is_as_long_as_nose_to_lower_lip() -> None:
    points = np.rint(face())
    left, top, right, bottom = polygons(points)["below_chin"].bounds
    assert (left, right) == (points[5, 0], points[11, 0])
    assert (top, bottom) == (points[[5, 11], 1].min(), points[8, 1] + points[58, 1] - points[33, 1])


@pytest.mark.parametrize(("eye_distance", "there"), [(60, True), (15, False)])
def test_public_ears_are_left_out_under_5_pixels(eye_distance: int, there: bool) -> None:
    assert polygons(face(eye_distance=eye_distance))["ears"].is_empty != there


@pytest.mark.parametrize(("stands_out", "there"), [(5, True), (4, False)])
def test_public_ears_are_as_wide_as_the_jaw_stands_out(stands_out: int, there: bool) -> None:
    points = np.rint(face())
    points[[17, 26], 0] = points[0, 0] + stands_out, points[16, 0]
    ear = polygons(points)["ears"]
    assert ear.is_empty != there
    if there:
        assert ear.bounds[0] == points[:4, 0].min() - stands_out
        assert ear.area == stands_out * (points[3, 1] - points[0, 1])


def test_public_top_of_head_depends_on_where_the_face_lies() -> None:
    heights = []
    for y in (300, 500, 1000):
        points = np.rint(face(y=y))
        bounds = polygons(points)["top_of_head"].bounds
        assert (bounds[0], bounds[2]) == (points[19, 0], points[24, 0])
        assert bounds[3] - bounds[1] == int(1.1 * points[8, 1]) - points[33, 1]
        heights.append(bounds[3] - bounds[1])
    assert heights == sorted(set(heights))
    points = np.rint(face(y=100))  # there the first rule leaves the image
    bounds = polygons(points)["top_of_head"].bounds
    assert bounds[3] - bounds[1] == points[8, 1] - int(1.3 * points[33, 1])


def test_public_outlines_take_whole_pixels_and_crossed_lines() -> None:
    points = face(jitter=0.3)
    for one, other in zip(polygons(points).values(), polygons(np.rint(points)).values(), strict=True):
        assert shapely.equals(one, other)
        assert one.is_valid
        assert one.geom_type in ("Polygon", "MultiPolygon")


@pytest.mark.parametrize("yaw", [-60, -20, 0, 35, 60])
@pytest.mark.parametrize("angle", [0, 25])
def test_yaw_of_a_turned_head_is_estimated(yaw: int, angle: int) -> None:
    turned = region_stability.turn_head(face(angle=angle), yaw)
    assert region_stability.estimate_yaw(turned) == pytest.approx(yaw, abs=6)


def test_head_turned_to_both_sides_is_mirrored() -> None:
    shape = mean_shape()
    one, other = region_stability.turn_head(shape, 40), region_stability.turn_head(shape, -40)
    np.testing.assert_allclose(one, (other * (-1, 1))[MIRROR], atol=1e-9)
    np.testing.assert_allclose(region_stability.turn_head(shape, 0), shape, atol=1e-9)
    assert one[30, 0] > 0


def test_roll_is_clockwise() -> None:
    assert region_stability.roll(face(angle=20)) == pytest.approx(20)


def test_bins_and_their_medians() -> None:
    angles = np.array([-40.0, -3.0, 0.0, 4.0, 31.0])
    areas = np.repeat(np.arange(5.0)[:, None], 10, axis=1)
    numbers, medians = region_stability.binned_medians(angles, areas)
    names = region_stability.bin_names()
    assert dict(zip(names, numbers.tolist(), strict=True)) == {
        "<-30": 1, "-30..-15": 0, "-15..-5": 0, "-5..5": 3, "5..15": 0, "15..30": 0, ">30": 1,
    }  # fmt: skip
    np.testing.assert_array_equal(medians[:, 0], [0, np.nan, np.nan, 2, np.nan, np.nan, 4])


def test_areas_of_a_face_that_is_turned() -> None:
    def between_the_eyes(landmarks: FloatArray) -> GeometryArray:
        (left, top), (right, _) = landmarks[[36, 45]]
        return np.array([shapely.box(left, top, right, top + 1)] * 10)

    rules = RuleSet("eyes", between_the_eyes)
    jumps, shares = region_stability.turning_faces([face()], rules)
    assert jumps.shape == (1, 10)
    np.testing.assert_allclose(shares[0, :, 0], np.cos(np.radians([30, 45, 60])), atol=1e-9)
    assert jumps.max() < np.radians(1)


def test_faces_are_measured_with_true_and_detected_landmarks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stability = region_stability.Stability()
    sets = [OURS, RuleSet("public", public_regions.region_polygons)]
    stability.add("same.jpg", image(), face(), face(), sets)
    stability.add("moved.jpg", image(), face(), face() + (0, 6), sets)
    stability.add("missed.jpg", image(), face(), None, sets)
    np.testing.assert_array_equal(stability.ious[0], np.ones((2, 10)))
    assert (stability.ious[1] < 1).all()
    evaluate_regions.print_stability(stability, sets, str(tmp_path))
    evaluate_regions.print_turning(stability.truths[:1], sets)
    printed = capsys.readouterr().out
    assert "2 photographs; skipped: 1 missed.jpg" in printed
    assert "1 frontal face rotated" in printed
    with Image.open(tmp_path / "areas.png") as plot:
        assert plot.width > plot.height
