"""The packaged attribute table, users' own tables, and a message that helps for every bad one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regions.attributes import PACKAGED_TABLES, AttributeTable, TableError, load_packaged_table, parse_table, table_toml
from regions.outlines import REGION_NAMES, Vertex

ALL = tuple(REGION_NAMES)


def table_of(attributes: str, regions: str = "") -> AttributeTable:
    return parse_table(f'name = "mine"\n[attributes]\n{attributes}\n[regions]\n{regions}\n', "mine.toml")


def test_the_packaged_tables_can_be_loaded() -> None:
    for name in PACKAGED_TABLES:
        assert load_packaged_table(name).name == name


@pytest.mark.parametrize(
    ("attribute", "regions"),
    [
        ("Bald", {"top_of_head"}),
        ("Wearing_Hat", {"top_of_head"}),
        ("Bushy_Eyebrows", {"eyebrows"}),
        ("Narrow_Eyes", {"eyes"}),
        ("Pointy_Nose", {"nose"}),
        ("Smiling", {"mouth"}),
        ("Mustache", {"above_mouth"}),
        ("Goatee", {"chin"}),
        ("Wearing_Necktie", {"below_chin"}),
        ("Sideburns", {"cheeks"}),
        ("Wearing_Earrings", {"ears"}),
        ("Oval_Face", {"chin", "cheeks"}),
        ("No_Beard", {"chin", "cheeks", "below_chin"}),
        ("5_o_Clock_Shadow", {"chin", "cheeks", "above_mouth", "below_chin"}),
        ("Heavy_Makeup", {"cheeks", "mouth", "eyes", "eyebrows"}),
        ("Eyeglasses", {"cheeks", "eyes", "eyebrows", "ears"}),
        ("Pale_Skin", {"chin", "cheeks", "above_mouth", "below_chin", "mouth", "nose"}),
        ("Chubby", {"chin", "cheeks", "above_mouth", "below_chin", "mouth", "nose", "eyebrows"}),
        ("Male", set(ALL)),
        ("Attractive", set(ALL)),
    ],
)
def test_celeba(attribute: str, regions: set[str]) -> None:
    assert set(load_packaged_table("celeba").attributes[attribute]) == regions


def test_celeba_as_a_whole() -> None:
    table = load_packaged_table("celeba")
    assert len(table.attributes) == 40
    assert list(table.attributes) == sorted(table.attributes)
    assert [name for name, regions in table.attributes.items() if set(regions) == set(ALL)] == [
        "Attractive",
        "Blurry",
        "Male",
        "Young",
    ]
    assert sum(regions == ("top_of_head",) for regions in table.attributes.values()) == 10
    assert table.region_names == ALL


@pytest.mark.parametrize(
    ("value", "regions"),
    [
        ('"all"', ALL),
        ('["all"]', ALL),
        ('["all", "nose"]', ALL),
        ('["hat", "all"]', (*ALL, "hat")),
        ('"nose"', ("nose",)),
        ('["nose", "hat"]', ("nose", "hat")),
    ],
)
def test_regions_of_an_attribute(value: str, regions: tuple[str, ...]) -> None:
    assert table_of(f"A = {value}", "hat = [0, 8, 16]").attributes["A"] == regions


def test_vertices_between_and_beyond_landmarks() -> None:
    table = table_of('A = ["hat"]', "hat = [0, {27 = 0.5, 39 = 0.5}, {19 = 2, 37 = -1}]")
    assert table.further_regions == {"hat": ((0, {"27": 0.5, "39": 0.5}, {"19": 2.0, "37": -1.0}),)}


@pytest.mark.parametrize("text", ['A = "nose"\nA = "eyes"\n', 'A = "nose"\n[attributes]\nB = "eyes"\n'])
def test_a_name_that_is_defined_twice(text: str) -> None:
    with pytest.raises(TableError, match=r"^mine\.toml: not valid TOML: .* \(at line \d, column \d+\): duplicate name"):
        parse_table(f'name = "x"\n[attributes]\n{text}', "mine.toml")


@pytest.mark.parametrize("line", ["a." * 50_000 + "b = 1", f"[{'a.' * 5000}b]", "A = {" + '"a".' * 5000 + "b = 1}"])
def test_a_key_of_thousands_of_parts_is_refused_at_once(line: str) -> None:
    with pytest.raises(TableError, match="a key of more than 100 parts, expected the name of an attribute"):
        table_of(line)


def test_a_table_of_many_weights_and_long_comments_is_no_such_key() -> None:
    weights = ", ".join(f"{{{i} = 0.5, {i + 1} = 0.5}}" for i in range(60))
    assert len(table_of('A = "hat"', f"# {'.' * 500}\nhat = [{weights}]").further_regions["hat"][0]) == 60


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(TableError, match="more than 4,194,304 characters, expected an attribute table"):
        table_of("# x\n" * 1_100_000)


def test_further_regions() -> None:
    table = table_of('A = ["hat"]', "hat = [0, 8, 16]\nsides = [[0, 1, 2, 3], [16, 15, 14]]")
    assert table.further_regions == {"hat": ((0, 8, 16),), "sides": ((0, 1, 2, 3), (16, 15, 14))}
    assert table.region_names == (*ALL, "hat", "sides")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not valid TOML: "),
        ('name = "x"\n[attributes]\nA = "nose"\nA = "nose"\n', "not valid TOML: "),
        ('name = "x"\n[atributes]\nA = "nose"\n', "unknown entry 'atributes', expected name, [attributes], [regions]"),
        ('[attributes]\nA = "nose"\n', 'name is None, expected a string such as name = "celeba"'),
        ('name = 3\n[attributes]\nA = "nose"\n', 'name is 3, expected a string such as name = "celeba"'),
        ('name = ""\n[attributes]\nA = "nose"\n', "name is '', expected a string such as name = \"celeba\""),
        ('name = "x"\n', 'no attributes, expected lines such as Bald = ["top_of_head"]'),
        ('name = "x"\nattributes = 3\n', "attributes is 3, expected a section [attributes]"),
        ('name = "x"\nregions = []\n[attributes]\nA = "nose"\n', "regions is [], expected a section [regions]"),
    ],
)
def test_bad_files(text: str, message: str) -> None:
    with pytest.raises(TableError) as caught:
        parse_table(text, "mine.toml")
    assert str(caught.value).startswith(f"mine.toml: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "regions", "message"),
    [
        ("A = []", "", "attribute 'A' has regions [], expected a list of at least one region name"),
        ("A = 3", "", "attribute 'A' has regions 3, expected a list of at least one region name"),
        ("A = {x = 1}", "", "attribute 'A' has regions {'x': 1}, expected a list of at least one region name"),
        ('A = "noes"', "", "attribute 'A' has unknown region 'noes' (did you mean 'nose'?), expected all, below_chin,"),
        ('A = ["Nose"]', "", "attribute 'A' has unknown region 'Nose' (did you mean 'nose'?)"),
        ('A = ["al"]', "", "attribute 'A' has unknown region 'al' (did you mean 'all'?)"),
        ('A = ["hta"]', "hat = [1, 2, 3]", "attribute 'A' has unknown region 'hta' (did you mean 'hat'?)"),
        ("A = [7]", "", "attribute 'A' has unknown region 7, expected all,"),
        ('A = [["nose"]]', "", "attribute 'A' has unknown region ['nose']"),
        ('A = ["nose", "eyes", "nose"]', "", "attribute 'A' has duplicate region 'nose'"),
        ('A = "nose"', "nose = [1, 2, 3]", "region 'nose' is one of the ten base regions, expected another name"),
        ('A = "nose"', "all = [1, 2, 3]", "region 'all' is one of the ten base regions, expected another name"),
        ('A = "nose"', "hat = [1, 2]", "region 'hat' has outline [1, 2], expected at least 3 landmark indices"),
        ('A = "nose"', "hat = []", "region 'hat' has outline [], expected at least 3 landmark indices"),
        ('A = "nose"', "hat = 5", "region 'hat' has outline 5, expected at least 3 landmark indices"),
        ('A = "nose"', "hat = [[1, 2, 3], 5]", "region 'hat' has outline 5, expected at least 3 landmark indices"),
        ('A = "nose"', "hat = [1, 2, 68]", "region 'hat' has landmark index 68, expected 0 to 67"),
        ('A = "nose"', "hat = [1, 2, -1]", "region 'hat' has landmark index -1, expected 0 to 67"),
        ('A = "nose"', "hat = [1, 2, 3.0]", "region 'hat' has landmark index 3.0, expected 0 to 67"),
        ('A = "nose"', "hat = [1, 2, true]", "region 'hat' has landmark index True, expected 0 to 67"),
        ('A = "nose"', "hat = [1, 2, 1]", "region 'hat' has duplicate vertex 1 in one outline"),
        ('A = "nose"', "hat = [1, 2, {68 = 1}]", "region 'hat' has a weight for landmark '68', expected 0 to 67"),
        ('A = "nose"', "hat = [1, 2, {01 = 1}]", "region 'hat' has a weight for landmark '01', expected 0 to 67"),
        ('A = "nose"', "hat = [1, 2, {x = 1}]", "region 'hat' has a weight for landmark 'x', expected 0 to 67"),
        ('A = "nose"', "hat = [1, 2, {3 = '1'}]", "region 'hat' has weight '1' for landmark 3, expected a number"),
        ('A = "nose"', "hat = [1, 2, {3 = true}]", "region 'hat' has weight True for landmark 3, expected a number"),
        ('A = "nose"', "hat = [1, 2, {3 = nan}]", "region 'hat' has weight nan for landmark 3, expected a number"),
        ('A = "nose"', "hat = [1, 2, {3 = inf}]", "region 'hat' has weight inf for landmark 3, expected a number"),
        (
            'A = "nose"',
            "hat = [1, 2, {3 = 1e308, 4 = 1e308}]",
            "region 'hat' has weight 1e+308 for landmark 3, expected",
        ),
        (
            'A = "nose"',
            f"hat = [1, 2, {{3 = {10**400}}}]",
            f"region 'hat' has weight {10**400} for landmark 3, expected",
        ),
        ('A = "nose"', f"hat = [1, 2, {{3 = {'1' * 5001}}}]", "not valid TOML: Exceeds the limit"),
        ('A = "nose"', f"hat = [1, 2, {{3 = 0x{'f' * 5001}}}]", "Exceeds the limit"),
        (f"A = {'[' * 100_000}", "", "not valid TOML: nested too deeply"),
        (f"A = {'{a = ' * 3000}1", "", "not valid TOML: nested too deeply"),
        ('A = "nose"', "hat = [1, 2, {3 = 0.5, 4 = 0.4}]", "region 'hat' has a vertex whose weights add up to 0.9,"),
        (
            'A = "nose"',
            f"hat = [{', '.join(f'{{1 = {i}, 2 = {1 - i}}}' for i in range(1001))}]",
            "region 'hat' has an outline of 1,001 vertices, expected at most 1,000",
        ),
        ('A = "nose"', "hat = [1, 2, {}]", "region 'hat' has a vertex whose weights add up to 0, expected 1"),
        ('A = "nose"', "\n".join(f"r{i} = [1, 2, 3]" for i in range(55)), "55 regions, expected at most 54"),
    ],
)
def test_bad_entries(attributes: str, regions: str, message: str) -> None:
    with pytest.raises(TableError) as caught:
        table_of(attributes, regions)
    assert str(caught.value).startswith(f"mine.toml: {message}")
    assert "\n" not in str(caught.value)


def test_the_attributes_take_the_order_of_the_label_file() -> None:
    table = table_of('A = "nose"\nB = "eyes"\nC = ["hat"]', "hat = [1, 2, 3]").for_attributes(["C", "A", "B"])
    assert list(table.attributes.items()) == [("C", ("hat",)), ("A", ("nose",)), ("B", ("eyes",))]
    assert table.name == "mine"
    assert table.region_names == (*ALL, "hat")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["Smiling", "Yuong"],
            "mine.toml: no regions for attribute 'Yuong' of the label file (did you mean 'Young'?)",
        ),
        (["Smiling", "Young", "X"], "mine.toml: no regions for attribute 'X' of the label file"),
        (["Smiling"], "mine.toml: attribute 'Young' is not in the label file"),
        ([], "mine.toml: attribute 'Smiling' is not in the label file"),
    ],
)
def test_a_table_for_other_attributes(names: list[str], message: str) -> None:
    with pytest.raises(TableError) as caught:
        table_of('Smiling = "mouth"\nYoung = "all"').for_attributes(names)
    assert str(caught.value) == message


def test_region_bits() -> None:
    bits = table_of('A = ["below_chin"]\nB = ["nose", "chin"]\nC = "all"\nD = ["hat"]', "hat = [1, 2, 3]").region_bits()
    assert bits.dtype == np.uint64
    assert bits.tolist() == [1 << 0, 1 << 5 | 1 << 1, (1 << 10) - 1, 1 << 10]


def test_region_bits_of_the_last_region_there_is_room_for() -> None:
    regions = {f"r{i}": ((0, 1, 2),) for i in range(54)}
    assert AttributeTable("x", {"A": ("r53",)}, regions).region_bits().tolist() == [1 << 63]


@pytest.mark.parametrize("name", PACKAGED_TABLES)
def test_a_packaged_table_survives_as_toml(name: str) -> None:
    table = load_packaged_table(name)
    assert parse_table(table_toml(table), table.source) == table


weights = st.dictionaries(st.sampled_from(["0", "27", "67"]), st.floats(-3, 3), min_size=1).map(
    lambda found: {**found, "8": 1 - sum(found.values())}
)
outlines = st.lists(
    st.integers(0, 67) | weights,
    min_size=3,
    max_size=5,
    unique_by=lambda vertex: frozenset(vertex.items()) if isinstance(vertex, dict) else vertex,
).map(tuple)


@given(
    name=st.text(min_size=1),
    attributes=st.dictionaries(
        st.text(), st.lists(st.sampled_from(ALL), min_size=1, unique=True).map(tuple), min_size=1
    ),
    further=st.dictionaries(
        st.text().filter(lambda name: name not in (*ALL, "all")), st.lists(outlines, min_size=1, max_size=3).map(tuple)
    ),
)
def test_any_table_survives_as_toml(
    name: str, attributes: dict[str, tuple[str, ...]], further: dict[str, tuple[tuple[Vertex, ...], ...]]
) -> None:
    table = AttributeTable(name, attributes, further, "any.toml")
    assert parse_table(table_toml(table), "any.toml") == table
