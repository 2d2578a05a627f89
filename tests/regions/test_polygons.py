from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from regions.landmarks import MIRROR, FloatArray
from regions.outlines import REGION_NAMES, FurtherRegions, face_outlines, region_of_outline
from regions.polygons import GeometryArray, clip_to_frame, region_polygons
from tests.faces import ODD_FACES, face, head_turned, turned

shapes = st.builds(face, jitter=st.floats(0, 0.08), seed=st.integers(0, 10_000))
shifts = st.tuples(st.floats(-1000, 1000), st.floats(-1000, 1000))


def assert_same_regions(first: GeometryArray, second: GeometryArray, *, size: float) -> None:
    """Compare two sets of regions by the area in which they differ, in shares of a squared eye distance."""
    for name, one, other in zip(REGION_NAMES, first, second, strict=True):
        difference = shapely.symmetric_difference(one, other).area / size**2
        assert difference < 1e-6, f"{name} differs by {difference}"


def transformed(polygons: GeometryArray, function: Callable[[FloatArray], FloatArray]) -> GeometryArray:
    result: GeometryArray = shapely.transform(polygons, function)
    return result


@given(shapes, shifts)
def test_regions_shift_with_the_face(points: FloatArray, shift: tuple[float, float]) -> None:
    moved = region_polygons(points + shift)
    assert_same_regions(moved, transformed(region_polygons(points), lambda p: p + shift), size=60)


@given(shapes, st.floats(0.05, 50))
def test_regions_scale_with_the_face(points: FloatArray, scale: float) -> None:
    scaled = region_polygons(points * scale)
    assert_same_regions(scaled, transformed(region_polygons(points), lambda p: p * scale), size=60 * scale)


@given(shapes, st.floats(-180, 180))
def test_regions_turn_with_the_face(points: FloatArray, angle: float) -> None:
    turned_regions = region_polygons(turned(points, angle))
    assert_same_regions(turned_regions, transformed(region_polygons(points), lambda p: turned(p, angle)), size=60)


@given(shapes)
def test_regions_of_a_mirrored_face_are_mirrored(points: FloatArray) -> None:
    mirrored = region_polygons((points * (-1, 1))[MIRROR])
    assert_same_regions(mirrored, transformed(region_polygons(points), lambda p: p * (-1, 1)), size=60)


@pytest.mark.parametrize("name", ODD_FACES)
def test_odd_faces_give_valid_polygons(name: str) -> None:
    polygons = region_polygons(ODD_FACES[name])
    assert len(polygons) == len(REGION_NAMES)
    for region, polygon in zip(REGION_NAMES, polygons, strict=True):
        assert polygon.is_valid, region
        assert polygon.geom_type in ("Polygon", "MultiPolygon"), region
        for clipped in clip_to_frame(np.array([polygon]), 400, 500):
            assert clipped.is_valid
            assert clipped.geom_type in ("Polygon", "MultiPolygon")


@given(st.lists(st.tuples(st.floats(-500, 900), st.floats(-500, 900)), min_size=68, max_size=68))
def test_any_points_give_valid_polygons(points: list[tuple[float, float]]) -> None:
    polygons = region_polygons(np.array(points))
    assert shapely.is_valid(polygons).all()
    assert shapely.is_valid(clip_to_frame(polygons, 400, 500)).all()


def test_every_region_of_a_plain_face_has_area() -> None:
    areas = dict(zip(REGION_NAMES, shapely.area(region_polygons(face(eye_distance=1))), strict=True))
    assert all(area > 0.02 for area in areas.values()), areas


def test_regions_lie_where_they_belong() -> None:
    middle = {name: polygon.centroid for name, polygon in zip(REGION_NAMES, region_polygons(face()), strict=True)}
    order = ["top_of_head", "eyebrows", "eyes", "nose", "above_mouth", "mouth", "chin", "below_chin"]
    heights = [middle[name].y for name in order]
    assert heights == sorted(heights)
    assert all(abs(point.x - 200) < 1 for point in middle.values())


def test_parts_of_the_face_do_not_overlap() -> None:
    polygons = dict(zip(REGION_NAMES, region_polygons(face(eye_distance=1)), strict=True))
    parts = ["chin", "cheeks", "mouth", "above_mouth", "nose", "eyes", "eyebrows", "ears"]
    for one, other in itertools.combinations(parts, 2):
        assert polygons[one].intersection(polygons[other]).area < 2e-3, (one, other)


def test_the_lower_face_is_covered() -> None:
    points = face(eye_distance=1)
    polygons = dict(zip(REGION_NAMES, region_polygons(points), strict=True))
    lower_face = shapely.Polygon([*points[0:17], points[45], points[42], points[39], points[36]])
    covered = shapely.union_all([polygons[name] for name in ("chin", "cheeks", "mouth", "above_mouth", "nose")])
    assert covered.intersection(lower_face).area > 0.95 * lower_face.area


def test_both_sides_are_joined() -> None:
    polygons = dict(zip(REGION_NAMES, region_polygons(face()), strict=True))
    for name in ("eyes", "eyebrows", "ears", "cheeks"):
        assert polygons[name].geom_type == "MultiPolygon", name
        assert polygons[name].bounds[0] < 200 < polygons[name].bounds[2], name


def test_the_ear_turned_away_vanishes_little_by_little() -> None:
    widths = []
    for yaw in (0.0, 0.2, 0.4, 0.6):
        points = face()
        points[[*range(4), *range(13, 17)], 0] += yaw / 0.6 * (points[17, 0] - points[0, 0])
        ears = region_polygons(points)[REGION_NAMES.index("ears")]
        left = shapely.intersection(ears, shapely.box(-1000, -1000, 200, 1000))
        widths.append(left.area)
    assert widths[0] > 0
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.05 * widths[0]


def test_no_region_jumps_or_vanishes_as_the_head_turns() -> None:
    areas = np.array([shapely.area(region_polygons(head_turned(angle))) for angle in range(-45, 46)])
    frontal = areas[45]
    steps = np.abs(np.diff(areas, axis=0)) / frontal
    for name, step, least in zip(REGION_NAMES, steps.max(axis=0), (areas / frontal).min(axis=0), strict=True):
        assert step < 0.03, name
        assert least > 0.5, name


@given(shapes, shifts)
def test_clipping_keeps_what_is_inside_and_nothing_else(points: FloatArray, shift: tuple[float, float]) -> None:
    polygons = region_polygons(points + np.array(shift) / 4)
    clipped = clip_to_frame(polygons, 400, 500)
    frame = shapely.box(0, 0, 400, 500)
    for polygon, part in zip(polygons, clipped, strict=True):
        assert part.area <= polygon.area + 1e-6
        assert part.area == pytest.approx(polygon.intersection(frame).area, abs=1e-6)


def test_a_region_with_one_vertex_outside_is_not_dropped() -> None:
    points = face(y=60)
    clipped = clip_to_frame(region_polygons(points), 400, 500)
    whole = region_polygons(points)
    crown = REGION_NAMES.index("top_of_head")
    assert whole[crown].bounds[1] < 0
    assert 0.1 < clipped[crown].area / whole[crown].area < 1


def test_further_regions_follow_the_ten() -> None:
    polygons = region_polygons(face(), {"left_eye": [list(range(36, 42))], "iris_line": [[36, 39, 42], [45, 42, 39]]})
    assert len(polygons) == len(REGION_NAMES) + 2
    eyes = polygons[REGION_NAMES.index("eyes")]
    assert polygons[-2].area == pytest.approx(shapely.Polygon(face()[36:42]).area)
    assert polygons[-2].area < eyes.area / 2


def test_weighted_vertices_lie_between_and_beyond_landmarks() -> None:
    points = face()
    triangle: list[int | dict[str, float]] = [36, {"36": 0.5, "39": 0.5}, {"19": 2.0, "37": -1.0}]
    polygon = region_polygons(points, {"triangle": [triangle]})[-1]
    expected = shapely.Polygon([points[36], (points[36] + points[39]) / 2, 2 * points[19] - points[37]])
    assert polygon.symmetric_difference(expected).area == pytest.approx(0, abs=1e-6)


def test_nan_is_refused() -> None:
    points = face()
    points[0] = np.nan
    with pytest.raises(ValueError, match="landmark 0"):
        region_polygons(points)


def test_the_region_of_each_outline() -> None:
    further: FurtherRegions = {"one": [[0, 8, 16]], "two": [[0, 8, 16], [36, 45, 57]]}
    lengths = face_outlines(face()[None], further).lengths
    assert region_of_outline(further).tolist() == [region for region, own in enumerate(lengths) for _ in own]
