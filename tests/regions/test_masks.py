from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from regions import masks
from regions.attributes import load_packaged_table
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH, face_crop_box
from regions.landmarks import FloatArray
from regions.outlines import REGION_NAMES, FurtherRegions, face_outlines, region_of_outline
from regions.polygons import GeometryArray, clip_to_frame, polygon_masks, region_polygons
from tests.faces import ODD_FACES, face

TABLE = load_packaged_table("celeba")
FURTHER: FurtherRegions = {
    "star": [[36, 8, 45, 0, 16]],
    "two that overlap": [[36, 45, 54, 48], [27, 8, {"2": 0.25, "14": 0.75}]],
    **load_packaged_table("refined").further_regions,
}
faces = st.builds(
    face,
    x=st.floats(-50, 450),
    y=st.floats(-50, 550),
    eye_distance=st.floats(5, 300),
    angle=st.floats(-180, 180),
    jitter=st.floats(0, 0.1),
    seed=st.integers(0, 10_000),
)


def outline_map(
    points: FloatArray, further: FurtherRegions | None = None, grid: masks.Grid | None = None
) -> masks.OutlineMap:
    """Draw faces ``(faces, 68, 2)`` in images of 400x500 pixels, on a grid over the crop of each."""
    boxes = np.array([face_crop_box(one) for one in points])
    sizes = np.array([[400, 500]] * len(points))
    return masks.draw_outlines(face_outlines(points, further), boxes, sizes, grid or masks.crop_grid())


def unpacked(bits: masks.OutlineMap, count: int) -> npt.NDArray[np.bool_]:
    """Return one mask ``(rows, columns)`` per outline of a face."""
    return np.unpackbits(bits, axis=0, count=count, bitorder="little").astype(bool)


def region_masks(
    points: FloatArray, grid: masks.Grid | None = None, further: FurtherRegions | None = None
) -> npt.NDArray[np.bool_]:
    """Return the mask ``(regions, rows, columns)`` of each region of a face ``(68, 2)``, outline by outline."""
    owners = region_of_outline(further)
    drawn = unpacked(outline_map(points[None], further, grid)[:, 0], len(owners))
    return np.array([drawn[owners == region].any(axis=0) for region in range(owners[-1] + 1)])


def brute_force(
    polygons: GeometryArray, xs: FloatArray, ys: FloatArray
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Ask shapely for every point; return the answers and which points are too near an edge to tell."""
    grid_x, grid_y = np.meshgrid(xs, ys)
    points = shapely.points(grid_x, grid_y)
    inside = np.stack([shapely.contains_xy(polygon, grid_x, grid_y) for polygon in polygons])
    with np.errstate(divide="ignore"):  # GEOS divides by the squared length of edges, which may underflow to 0
        near = np.stack([shapely.distance(shapely.boundary(polygon), points) <= 1e-6 for polygon in polygons])
    return inside, near & ~np.isnan(near)


@given(faces)
def test_masks_equal_shapelys_answer_at_every_pixel_center(points: FloatArray) -> None:
    polygons = clip_to_frame(region_polygons(points), 400, 500)
    xs, ys = masks.sample_points(face_crop_box(points))
    found = polygon_masks(polygons, xs, ys)
    inside, near = brute_force(polygons, xs, ys)
    assert found.shape == (10, 96, 76)
    assert (found == inside)[~near].all()


@given(faces)
def test_clearing_what_is_outside_is_rasterizing_clipped_polygons(points: FloatArray) -> None:
    xs, ys = masks.sample_points(face_crop_box(points))
    polygons = region_polygons(points)
    found = polygon_masks(polygons, xs, ys, 400, 500)
    clipped = polygon_masks(clip_to_frame(polygons, 400, 500), xs, ys)
    near = brute_force(polygons, xs, ys)[1].any(axis=0)
    at_edge = np.isin(ys, (0, 500))[:, None] | np.isin(xs, (0, 400))
    assert (found == clipped)[:, ~near & ~at_edge].all()


@pytest.mark.parametrize("name", ODD_FACES)
def test_masks_of_odd_faces(name: str) -> None:
    polygons = clip_to_frame(region_polygons(ODD_FACES[name]), 400, 500)
    xs, ys = np.arange(0.5, 400), np.arange(0.5, 500)
    found = polygon_masks(polygons, xs, ys)
    inside, near = brute_force(polygons, xs, ys)
    assert (found == inside)[~near].all()


@given(faces)
def test_masks_of_outlines_are_those_of_valid_polygons(points: FloatArray) -> None:
    assert_masks_of_polygons(points)


@pytest.mark.parametrize("name", [name for name in ODD_FACES if name != "one point"])
@pytest.mark.parametrize("turn", [0, 13])
def test_masks_of_outlines_are_those_of_valid_polygons_for_odd_faces(name: str, turn: int) -> None:
    assert_masks_of_polygons(np.roll(ODD_FACES[name], turn, axis=0))


def assert_masks_of_polygons(points: FloatArray) -> None:
    """Compare the masks of outlines, which may cross themselves and each other, with those of valid polygons."""
    xs, ys = masks.sample_points(face_crop_box(points))
    expected = polygon_masks(region_polygons(points, FURTHER), xs, ys, 400, 500)
    found = region_masks(points, further=FURTHER)
    assert found.shape == expected.shape == (len(REGION_NAMES) + len(FURTHER), 96, 76)
    outlines, owners = face_outlines(points[None], FURTHER), region_of_outline(FURTHER)
    starts = np.cumsum([0, *(length for region in outlines.lengths for length in region)])
    rings = np.array([shapely.LinearRing(outlines.vertices[0, a:b]) for a, b in itertools.pairwise(starts)])
    for region, row, column in np.argwhere(found != expected):  # hardly ever any
        at = shapely.Point(xs[column], ys[row])
        assert shapely.distance(rings[owners == region], at).min() <= 1e-6, (region, row, column)


def test_faces_drawn_together_have_the_bits_of_each_alone() -> None:
    points = np.array([face(x=100 + 5 * i, y=240 - i, angle=7 * i, jitter=0.05, seed=i) for i in range(32)])
    together, drawn = face_outlines(points, FURTHER).vertices, outline_map(points, FURTHER)
    for size in (1, 7):
        for start in range(0, 32, size):
            some = points[start : start + size]
            assert (face_outlines(some, FURTHER).vertices == together[start : start + size]).all()
            assert (outline_map(some, FURTHER) == drawn[:, start : start + size]).all()


def test_an_image_of_one_pixel_and_one_beside_the_crop() -> None:
    points = np.array([face()] * 2)
    boxes = np.array([face_crop_box(face())] * 2)
    drawn = masks.draw_outlines(face_outlines(points), boxes, np.array([[1, 1], [400, 500]]), masks.crop_grid())
    assert not drawn[:, 0].any()
    assert drawn[:, 1].any()


@given(st.sampled_from([1, 2, 76, 96, 178, 1000]), st.lists(st.floats(-1e9, 1e9), min_size=1), st.data())
def test_counting_by_buckets_is_searching(size: int, values: list[float], data: st.DataObject) -> None:
    centers = masks.nearest_centers(data.draw(st.integers(size, 3 * size)), size)
    centers = centers * data.draw(st.floats(1e-3, 1e3)) + data.draw(st.floats(-1e3, 1e3))
    asked = np.array([*values, *centers, *np.nextafter(centers, np.inf), *np.nextafter(centers, -np.inf)])
    np.testing.assert_array_equal(masks.count_below(centers, asked), np.searchsorted(centers, asked))


def test_known_answer() -> None:
    triangle = np.array([shapely.Polygon([(0, 0), (4, 0), (0, 4)])])
    grid = np.arange(0.5, 5)
    found = polygon_masks(triangle, grid, grid)[0].astype(int)
    # The centers on the slanted edge itself may fall to either side; those below it may not.
    assert found.tolist()[0][:3] == [1, 1, 1]
    assert found.tolist()[1][:2] == [1, 1]
    assert found.tolist()[2][:1] == [1]
    assert found[np.add.outer(np.arange(5), np.arange(5)) > 3].sum() == 0


def test_neighbors_share_no_pixel_and_leave_none_out() -> None:
    left, right = shapely.box(0, 0, 3.5, 4), shapely.box(3.5, 0, 8, 4)
    found = polygon_masks(np.array([left, right]), np.arange(0.5, 8), np.arange(0.5, 4))
    assert (found.sum(axis=0) == 1).all()


def test_a_hole_is_outside() -> None:
    ring = shapely.Polygon(shapely.box(0, 0, 9, 9).exterior, [shapely.box(3, 3, 6, 6).exterior])
    found = polygon_masks(np.array([ring]), np.arange(0.5, 9), np.arange(0.5, 9))
    assert found.sum() == 81 - 9


def test_empty_polygons_give_empty_masks() -> None:
    found = polygon_masks(np.array([shapely.Polygon(), shapely.MultiPolygon()]), np.arange(5.0), np.arange(4.0))
    assert found.shape == (2, 4, 5)
    assert not found.any()


@pytest.mark.parametrize(("source", "target"), [(218, 96), (178, 76), (10, 10), (10, 5), (3, 9)])
def test_nearest_neighbor_takes_the_pixel_that_contains_the_center(source: int, target: int) -> None:
    centers = masks.nearest_centers(source, target)
    for index, center in enumerate(centers):
        position = (index + 0.5) * source / target
        assert center - 0.5 <= position < center + 0.5


@given(faces)
def test_small_masks_are_the_large_ones_downsampled(points: FloatArray) -> None:
    small = region_masks(points)
    large = region_masks(points, masks.crop_grid(IMAGE_HEIGHT, IMAGE_WIDTH))
    rows = masks.nearest_centers(IMAGE_HEIGHT, masks.MASK_HEIGHT).astype(int)
    cols = masks.nearest_centers(IMAGE_WIDTH, masks.MASK_WIDTH).astype(int)
    assert (large[:, rows][:, :, cols] == small).all()


@given(faces, st.sets(st.integers(0, 9), min_size=1))
def test_downsampling_a_union_is_the_union_of_what_is_downsampled(points: FloatArray, members: set[int]) -> None:
    polygons, box = region_polygons(points), face_crop_box(points)
    union = np.array([shapely.union_all(polygons[sorted(members)])])
    (large,) = polygon_masks(union, *masks.sample_points(box, IMAGE_HEIGHT, IMAGE_WIDTH))
    rows = masks.nearest_centers(IMAGE_HEIGHT, masks.MASK_HEIGHT).astype(int)
    cols = masks.nearest_centers(IMAGE_WIDTH, masks.MASK_WIDTH).astype(int)
    xs, ys = masks.sample_points(box)
    small = polygon_masks(polygons, xs, ys)[sorted(members)].any(axis=0)
    near = brute_force(polygons, xs, ys)[1].any(axis=0)
    assert (large[np.ix_(rows, cols)] == small)[~near].all()


@given(faces, st.integers(0, 2**40 - 1))
def test_attribute_masks_are_unions_of_regions_where_the_label_is_set(points: FloatArray, label_bits: int) -> None:
    labels = np.array([label_bits >> i & 1 for i in range(40)], dtype=bool)
    (planes,) = masks.AttributeMasks(TABLE.region_bits(), region_of_outline())(outline_map(points[None]), labels[None])
    assert planes.shape == (5, 96, 76)
    regions = region_masks(points)
    found = masks.unpack_masks(planes, 40)
    for index, (name, members) in enumerate(TABLE.attributes.items()):
        union = regions[[REGION_NAMES.index(region) for region in members]].any(axis=0)
        assert (found[index] == (union if labels[index] else False)).all(), name


def test_more_than_eight_regions_and_odd_numbers_of_attributes() -> None:
    bits = np.array([1, 1 << 9, 1 << 20, (1 << 63) | 1, 0], dtype=np.uint64)
    covered = np.array([1, 1 << 9, 1 << 20, 1 << 63, 0], dtype="<u8").view(np.uint8)
    of_one_face = np.ascontiguousarray(covered.reshape(5, 8).T)[:, None, None]
    (planes,) = masks.AttributeMasks(bits, np.arange(64))(of_one_face, np.ones((1, 5), dtype=bool))
    expected = [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert planes.shape == (1, 1, 5)
    assert masks.unpack_masks(planes, 5)[:, 0].tolist() == expected


def test_planes_unpack_with_numpy_alone() -> None:
    labels = np.ones((1, 40), dtype=bool)
    (planes,) = masks.AttributeMasks(TABLE.region_bits(), region_of_outline())(outline_map(face()[None]), labels)
    png = planes.reshape(480, 76)
    stack = np.unpackbits(png.reshape(-1, 96, 76), axis=0)[:40]
    assert (stack == masks.unpack_masks(planes, 40)).all()
    mouth = list(TABLE.attributes).index("Smiling")
    assert 30 < stack[mouth].sum() < 200
