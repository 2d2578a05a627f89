"""Attribute tables, packaged or custom: the regions in which each attribute is visible."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.resources
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from regions.landmarks import NUM_LANDMARKS
from regions.outlines import REGION_NAMES, Vertex

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGED_TABLES = ("celeba", "paper", "refined")
ALL_REGIONS = "all"
MAX_REGIONS = 64
MAX_VERTICES = 1000
MAX_BYTES = 4 << 20
"""The most bytes of an attribute table; 40 attributes take about 2,000."""
MAX_DOTS = 100
"""The most dots of a key: the parser of TOML takes minutes for a key of thousands of parts."""
LANDMARK_KEYS = frozenset(map(str, range(NUM_LANDMARKS)))
WEIGHT_TOLERANCE = 1e-6
MAX_WEIGHT = 1_000_000


class TableError(ValueError):
    """An attribute table that can't be used; the message is one line with the source and the fault."""


@dataclass(frozen=True)
class AttributeTable:
    """Attributes and the regions in which each one is visible.

    Attributes
    ----------
    name : str
        Name of the table.
    attributes : mapping of str to tuple of str
        Region names per attribute.
    further_regions : mapping of str to tuple of tuple
        Regions beyond the ten: outlines of vertices (`regions.outlines.Vertex`).
    source : str
        File that the table was read from, for messages.
    """

    name: str
    attributes: Mapping[str, tuple[str, ...]]
    further_regions: Mapping[str, tuple[tuple[Vertex, ...], ...]] = field(default_factory=dict)
    source: str = "attribute table"

    @property
    def region_names(self) -> tuple[str, ...]:
        """All region names, the ten base regions first."""
        return (*REGION_NAMES, *self.further_regions)

    def for_attributes(self, names: Sequence[str], label_file: str = "the label file") -> AttributeTable:
        """Return the table with its attributes in the order of the label file.

        Parameters
        ----------
        names : sequence of str
            The attributes of the label file.
        label_file : str
            For messages.

        Raises
        ------
        TableError
            If the attributes of the table and of the label file differ.
        """
        for name in names:
            if name not in self.attributes:
                raise TableError(
                    f"{self.source}: no regions for attribute {name!r}"
                    f" of {label_file}{suggestion(name, self.attributes)}"
                )
        for name in self.attributes:
            if name not in names:
                raise TableError(f"{self.source}: attribute {name!r} is not in {label_file}{suggestion(name, names)}")
        return dataclasses.replace(self, attributes={name: self.attributes[name] for name in names})

    def region_bits(self) -> npt.NDArray[np.uint64]:
        """Return the regions of each attribute as bits ``(attributes,)`` uint64, bit i for region i."""
        index = {name: bit for bit, name in enumerate(self.region_names)}
        return np.array(
            [sum(1 << index[region] for region in regions) for regions in self.attributes.values()],
            dtype=np.uint64,
        )


def load_packaged_table(name: str) -> AttributeTable:
    """Load one of `PACKAGED_TABLES`."""
    text = importlib.resources.files("regions").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return parse_table(text, f"{name}.toml")


def parse_table(text: str, source: str) -> AttributeTable:
    """Parse an attribute table.

    Parameters
    ----------
    text : str
        TOML: ``name``, ``[attributes]`` with a list of regions per attribute (``all`` means the
        ten base regions), and optionally ``[regions]`` with an outline, or a list of outlines, per further
        region: at least 3 landmark indices or tables of weights such as ``{27 = 0.5, 39 = 0.5}``.
    source : str
        Name of the file, for messages.

    Raises
    ------
    TableError
        If the text is not such a table.
    """
    _check_size(text, source)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        duplicate = ": duplicate name" if "overwrite" in str(error) or "twice" in str(error) else ""
        raise TableError(f"{source}: not valid TOML: {error}{duplicate}") from None
    except (ValueError, RecursionError) as error:
        raise TableError(f"{source}: not valid TOML: {_too_much(error)}") from None
    try:
        return parse_table_document(document, source)
    except TableError:
        raise
    except (ValueError, RecursionError) as error:  # a value too long or too deep to be shown
        raise TableError(f"{source}: {_too_much(error)}") from None


def _check_size(text: str, source: str) -> None:
    """Refuse a text that would take long to parse."""
    if len(text) > MAX_BYTES:
        raise TableError(f"{source}: more than {MAX_BYTES:,} characters, expected an attribute table")
    for number, line in enumerate(text.split("\n"), 1):
        key = line.lstrip()
        if key.count(".") > MAX_DOTS and key[0] != "#" and max(part.count(".") for part in key.split("=")) > MAX_DOTS:
            raise TableError(
                f"{source}:{number}: a key of more than {MAX_DOTS} parts, expected the name of an attribute"
            )


def _too_much(error: ValueError | RecursionError) -> str:
    """Return what is too long or too deep, without the advice of the interpreter."""
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]


def parse_table_document(document: Mapping[str, Any], source: str) -> AttributeTable:
    """Read an attribute table that is parsed already, as `parse_table` does.

    Raises
    ------
    TableError
        If the document is not an attribute table.
    """
    unknown = sorted(set(document) - {"name", "attributes", "regions"})
    if unknown:
        raise TableError(f"{source}: unknown entry {unknown[0]!r}, expected name, [attributes], [regions]")
    name = document.get("name")
    if not isinstance(name, str) or not name:
        raise TableError(f'{source}: name is {name!r}, expected a string such as name = "celeba"')
    further = _parse_regions(_section(document, "regions", source), source)
    attributes = _section(document, "attributes", source)
    if not attributes:
        raise TableError(f'{source}: no attributes, expected lines such as Bald = ["top_of_head"]')
    known = (*REGION_NAMES, *further)
    return AttributeTable(
        name,
        {key: _parse_attribute(key, value, known, source) for key, value in attributes.items()},
        further,
        source,
    )


def table_toml(table: AttributeTable) -> str:
    """Return the text of an attribute table, for `parse_table` and ``--attribute_table``; comments are not kept."""
    lines = [f"name = {_toml_text(table.name)}", "", "[attributes]"]
    lines += [
        f"{_toml_text(name)} = [{', '.join(map(_toml_text, regions))}]" for name, regions in table.attributes.items()
    ]
    if table.further_regions:
        lines += ["", "[regions]"]
    for name, outlines in table.further_regions.items():
        rings = ", ".join(f"[{', '.join(map(_vertex_toml, outline))}]" for outline in outlines)
        lines.append(f"{_toml_text(name)} = [{rings}]")
    return "\n".join(lines) + "\n"


def _toml_text(text: str) -> str:
    """Return a quoted TOML string; unlike JSON, TOML has no surrogate pairs and no bare DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _vertex_toml(vertex: Vertex) -> str:
    if isinstance(vertex, int):
        return str(vertex)
    weights = ", ".join(f"{json.dumps(index)} = {float(weight)!r}" for index, weight in vertex.items())
    return f"{{ {weights} }}"


def _section(document: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    section = document.get(key, {})
    if not isinstance(section, dict):
        raise TableError(f"{source}: {key} is {section!r}, expected a section [{key}]")
    return section


def _parse_attribute(name: str, regions: Any, known: Sequence[str], source: str) -> tuple[str, ...]:
    place = f"{source}: attribute {name!r}"
    if isinstance(regions, str):
        regions = [regions]
    if not isinstance(regions, list) or not regions:
        raise TableError(f"{place} has regions {regions!r}, expected a list of at least one region name")
    for region in regions:
        if region not in known and region != ALL_REGIONS:
            hint = suggestion(str(region), [*known, ALL_REGIONS])
            raise TableError(f"{place} has unknown region {region!r}{hint}, expected all, {', '.join(known)}")
        if regions.count(region) > 1:
            raise TableError(f"{place} has duplicate region {region!r}")
    if ALL_REGIONS in regions:
        regions = [*REGION_NAMES, *(r for r in regions if r not in (*REGION_NAMES, ALL_REGIONS))]
    return tuple(regions)


def _parse_regions(section: Mapping[str, Any], source: str) -> dict[str, tuple[tuple[Vertex, ...], ...]]:
    further = {}
    for name, value in section.items():
        place = f"{source}: region {name!r}"
        if name in (*REGION_NAMES, ALL_REGIONS):
            raise TableError(f"{place} is one of the ten base regions, expected another name")
        outlines = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
        further[name] = tuple(_parse_outline(outline, place) for outline in outlines)
    if len(REGION_NAMES) + len(further) > MAX_REGIONS:
        raise TableError(f"{source}: {len(further)} regions, expected at most {MAX_REGIONS - len(REGION_NAMES)}")
    return further


def _parse_outline(outline: Any, place: str) -> tuple[Vertex, ...]:
    if isinstance(outline, list) and len(outline) > MAX_VERTICES:
        raise TableError(f"{place} has an outline of {len(outline):,} vertices, expected at most {MAX_VERTICES:,}")
    if not isinstance(outline, list) or len(outline) < 3:
        raise TableError(f"{place} has outline {outline!r}, expected at least 3 landmark indices")
    vertices = tuple(_parse_vertex(vertex, place) for vertex in outline)
    for number, vertex in enumerate(vertices):
        if vertex in vertices[:number]:
            raise TableError(f"{place} has duplicate vertex {vertex!r} in one outline")
    return vertices


def _parse_vertex(vertex: Any, place: str) -> Vertex:
    if not isinstance(vertex, dict):
        if type(vertex) is not int or not 0 <= vertex < NUM_LANDMARKS:
            raise TableError(f"{place} has landmark index {vertex!r}, expected 0 to {NUM_LANDMARKS - 1}")
        return vertex
    for index, weight in vertex.items():
        if index not in LANDMARK_KEYS:
            raise TableError(f"{place} has a weight for landmark {index!r}, expected 0 to {NUM_LANDMARKS - 1}")
        if type(weight) not in (int, float) or not abs(weight) <= MAX_WEIGHT:
            raise TableError(
                f"{place} has weight {weight!r} for landmark {index}, expected a number up to {MAX_WEIGHT:,} either way"
            )
    total = math.fsum(vertex.values())
    if abs(total - 1) > WEIGHT_TOLERANCE:
        raise TableError(f"{place} has a vertex whose weights add up to {total:g}, expected 1")
    return {index: float(weight) for index, weight in vertex.items()}


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a suggestion of the known name closest to an unknown one; empty if none is close."""
    by_lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower().replace(" ", "_"), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""
