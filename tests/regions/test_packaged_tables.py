"""The packaged tables paper and refined, and what docs/attribute_tables.md says of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from regions.attributes import AttributeTable, load_packaged_table, parse_table
from regions.landmarks import MIRROR, FloatArray
from regions.outlines import REGION_NAMES
from regions.polygons import region_polygons
from tests.faces import face, head_turned, turned

PAGE = (Path(__file__).parents[2] / "docs" / "attribute_tables.md").read_text(encoding="utf-8")
CELEBA, PAPER, REFINED = (load_packaged_table(name) for name in ("celeba", "paper", "refined"))
FURTHER = list(REFINED.further_regions)

shapes = st.builds(face, jitter=st.floats(0, 0.05), seed=st.integers(0, 10_000))


def regions_of(points: FloatArray) -> dict[str, Any]:
    polygons = region_polygons(points, REFINED.further_regions)
    return dict(zip(REFINED.region_names, polygons, strict=True))


def changes(table: AttributeTable) -> dict[str, tuple[str, ...]]:
    return {name: regions for name, regions in table.attributes.items() if regions != CELEBA.attributes[name]}


def test_paper_differs_as_the_text_of_the_paper_says() -> None:
    assert changes(PAPER) == dict.fromkeys(("Chubby", "Heavy_Makeup", "Pale_Skin"), REGION_NAMES)


def test_refined_has_a_reason_for_each_change_and_uses_each_of_its_regions() -> None:
    text = (Path(__file__).parents[2] / "regions" / "refined.toml").read_text(encoding="utf-8")
    explained = re.findall(r"^# (.+)\n(\w+) = \[\"", text, flags=re.M)
    assert [name for _, name in explained] == list(changes(REFINED))
    assert set(FURTHER) == {region for regions in REFINED.attributes.values() for region in regions} - set(REGION_NAMES)


def test_the_page_tells_the_changes_and_the_reasons() -> None:
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in PAGE.splitlines() if row.startswith("| ")]
    listed = {row[0]: row for row in rows if row[0] in CELEBA.attributes}
    assert {name: tuple(row[2].split(", ")) for name, row in listed.items()} == changes(REFINED)
    assert {name for name, row in listed.items() if row[1] == "all"} == set(changes(PAPER))
    text = (Path(__file__).parents[2] / "regions" / "refined.toml").read_text(encoding="utf-8")
    assert {name: row[3] for name, row in listed.items()} == {
        name: reason for reason, name in re.findall(r"^# (.+)\n(\w+) = \[\"", text, flags=re.M)
    }


def test_the_worked_example_of_the_page_can_be_used() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.S)
    table = parse_table(example, "mine.toml")
    assert (len(table.attributes), len(table.further_regions)) == (7, 3)
    polygons = region_polygons(face(), table.further_regions)[10:]
    assert all(polygon.area > 20 for polygon in polygons)
    forehead = polygons[list(table.further_regions).index("forehead")]
    assert forehead.bounds[1] < face()[19, 1] - 30


def test_each_region_lies_where_it_should() -> None:
    regions = regions_of(face(eye_distance=1))
    height = {name: polygon.centroid.y for name, polygon in regions.items()}
    for upper, lower in [
        ("top_of_head", "forehead"),
        ("forehead", "eyebrows"),
        ("eyes", "under_eyes"),
        ("under_eyes", "cheekbones"),
        ("cheekbones", "lower_cheeks"),
        ("sideburns", "lower_cheeks"),
        ("ears", "below_ears"),
        ("lower_cheeks", "chin"),
    ]:
        assert height[upper] < height[lower], (upper, lower)
    for one, other in [
        ("forehead", "eyes"),
        ("under_eyes", "eyes"),
        ("under_eyes", "nose"),
        ("lower_cheeks", "mouth"),
        ("lower_cheeks", "cheekbones"),
        ("below_ears", "chin"),
        ("cheekbones", "ears"),
    ]:
        assert regions[one].intersection(regions[other]).area < 5e-3, (one, other)
    for inner, outer in [("eyes", "around_eyes"), ("under_eyes", "around_eyes")]:
        assert regions[inner].difference(regions[outer]).area < 1e-2, (inner, outer)


@pytest.mark.parametrize("angle", [-35, -20, 0, 20, 35])
def test_each_region_has_area_as_the_head_turns(angle: int) -> None:
    frontal, regions = regions_of(head_turned(0)), regions_of(head_turned(angle))
    for name in FURTHER:
        assert regions[name].area > 0.5 * frontal[name].area, name


@given(shapes, st.floats(-180, 180), st.floats(0.1, 10), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
def test_regions_follow_the_face(points: FloatArray, angle: float, scale: float, shift: tuple[float, float]) -> None:
    def move(coordinates: FloatArray) -> FloatArray:
        return turned(coordinates, angle) * scale + shift

    for before, after in zip(regions_of(points).values(), regions_of(move(points)).values(), strict=True):
        moved = shapely.transform(before, move)
        assert shapely.symmetric_difference(moved, after).area < 1e-6 * (60 * scale) ** 2


@given(shapes)
def test_regions_of_a_mirrored_face_are_mirrored(points: FloatArray) -> None:
    mirrored = regions_of((points * (-1, 1))[MIRROR])
    for name, region in regions_of(points).items():
        expected = shapely.transform(region, lambda coordinates: coordinates * np.array([-1, 1]))
        assert shapely.symmetric_difference(expected, mirrored[name]).area < 1e-6 * 60**2, name
