"""The page of report.html: one self-contained file, rendered from what `pipeline.report.content` has collected."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jinja2

from pipeline.drawing.overlays import LANDMARK_COLOR, POINT_COLOR, Color, region_colors
from pipeline.drawing.text import display_name
from pipeline.formats.dataset_json import DatasetFile
from pipeline.report.hint_check import hint_problem
from pipeline.vocabulary import (
    HAND_LABEL_REASONS,
    LANDMARK_SOURCES,
    MISSING,
    REJECT_REASONS,
    WEAK_SOURCES,
    LandmarkSource,
    RejectReason,
)
from regions.messages import counted
from regions.outlines import REGION_NAMES
from regions.quality import MAX_POINTS_ERROR

if TYPE_CHECKING:
    from pipeline.report.agreement import Agreement

LIST_REJECTS = """import pyarrow.parquet as pq
table = pq.read_table("manifest", columns=["image_id", "reason", "detail"], filters=[("status", "=", "rejected")])
print(*zip(*table.to_pydict().values()), sep="\\n")"""
"""Python code that a person runs in the folder of the report."""

LABEL_BY_HAND = """attparse handlabel export OUT --output DIR
attparse handlabel import DIR --output landmarks.csv"""

ALL_REGIONS = "all ten"


class ReportImage(NamedTuple):
    """One image on the page.

    Attributes
    ----------
    image_id, note : str
    jpeg : bytes or None
        The drawing or thumbnail, where there is one.
    guess : bool
        Whether landmarks that are only a guess are drawn on it.
    """

    image_id: str
    note: str
    jpeg: bytes | None
    guess: bool = False


class AttributeArea(NamedTuple):
    """What was measured of an attribute.

    Attributes
    ----------
    name : str
    fraction : float or None
        Fraction of images that have it, among those whose label is known; None where no label is known.
    area : float or None
        Mean fraction of the crop that its mask covers, over the images that have it; None where none has it.
    empty : int
        Images that have it, but whose mask is empty.
    """

    name: str
    fraction: float | None
    area: float | None
    empty: int


@dataclass(frozen=True)
class ReportContent:
    """Everything that the page shows.

    Attributes
    ----------
    dataset : DatasetFile
    samples : mapping of LandmarkSource to sequence of ReportImage
        Some samples with their regions.
    rejects : mapping of RejectReason to sequence of ReportImage
        Some rejected images, without missing ones.
    missing : sequence of str
        Ids of some missing images.
    areas : sequence of AttributeArea
    measured : int
        Number of samples that `areas` were measured on.
    agreement : Agreement or None
        With the five points, if the run has some.
    worst : sequence of ReportImage
        Drawings of ``agreement.worst``.
    """

    dataset: DatasetFile
    samples: Mapping[LandmarkSource, Sequence[ReportImage]]
    rejects: Mapping[RejectReason, Sequence[ReportImage]]
    missing: Sequence[str]
    areas: Sequence[AttributeArea]
    measured: int
    agreement: Agreement | None
    worst: Sequence[ReportImage]


class LegendEntry(NamedTuple):
    """A color and its meaning; ``all`` regions together have no color of their own."""

    name: str
    color: Color | None


def render_page(content: ReportContent) -> str:
    """Return the page as HTML that loads nothing."""
    agreement = content.agreement
    informative = agreement is not None and agreement.overall is not None
    return _environment().get_template("page.html.j2").render(
        content=content,
        dataset=content.dataset,
        agreement=agreement,
        histogram=agreement.histogram if agreement is not None and informative else [],
        colors=region_colors(content.dataset.regions),
        landmark_color=LANDMARK_COLOR,
        point_color=POINT_COLOR,
        size=file_size(sum(shard.bytes for shard in content.dataset.shards)),
        recoverable=sum(content.dataset.rejects.get(reason, 0) for reason in HAND_LABEL_REASONS),
        listed=sum(map(len, content.rejects.values())) + len(content.missing),
        attribute_regions=_attribute_regions(content.dataset),
        options=list(_options(content.dataset)),
        landmark_sources=LANDMARK_SOURCES,
        weak_sources=WEAK_SOURCES,
        reject_reasons=REJECT_REASONS,
        missing_reason=MISSING,
        hint_problem=hint_problem(content.dataset),
        max_points_error=MAX_POINTS_ERROR,
        list_rejects=LIST_REJECTS,
        label_by_hand=LABEL_BY_HAND,
    )  # fmt: skip


def _environment() -> jinja2.Environment:
    """Return what renders the template: all values are escaped, an undefined one is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        display=display_name,
        counted=counted,
        percent=percent,
        of_total=fraction_of,
        shown_of=shown_of,
        data_uri=_data_uri,
    )
    return environment


def percent(fraction: float | None) -> str:
    """Return a fraction as text, an en dash for None.

    >>> percent(0.0512)
    '5.1%'
    """
    return "\N{EN DASH}" if fraction is None else f"{100 * fraction:.1f}%"


def fraction_of(part: int, whole: int) -> str:
    """Return a part of a whole in percent; only all is 100% and only none is 0%.

    >>> fraction_of(1, 3), fraction_of(99_999, 100_000), fraction_of(1, 1_000_000), fraction_of(5, 5)
    ('33.33%', '99.99%', '<0.01%', '100%')
    """
    if part == whole and whole:
        return "100%"
    if not part:
        return "0%"
    hundredths = math.floor(10_000 * part / whole)
    return f"{hundredths / 100:.2f}%" if hundredths else "<0.01%"


def shown_of(shown: int, total: int) -> str:
    """Return how many of all are shown.

    >>> shown_of(3, 3), shown_of(3, 1200)
    ('all 3', '3 of 1,200')
    """
    return f"all {total:,}" if shown == total and total > 1 else f"{shown:,} of {total:,}"


def file_size(size: int) -> str:
    """Return a number of bytes as text.

    >>> file_size(2_300_000), file_size(4_560_000_000)
    ('2.3 MB', '4.6 GB')
    """
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _attribute_regions(dataset: DatasetFile) -> dict[str, list[LegendEntry]]:
    """Return the regions of each attribute, the ten base regions as one entry where it has all of them."""
    colors = region_colors(dataset.regions)
    entries = {}
    for name, regions in dataset.attribute_table.attributes.items():
        has_all = set(REGION_NAMES) <= set(regions)
        single = [region for region in regions if not (has_all and region in REGION_NAMES)]
        entries[name] = [LegendEntry(ALL_REGIONS, None)] * has_all + [
            LegendEntry(region, colors[region]) for region in single
        ]
    return entries


def _options(dataset: DatasetFile) -> Iterator[tuple[str, str]]:
    """Yield name and value of each option that the run was made with."""
    for field in ("name", "url", "license", "citation"):
        if value := getattr(dataset.source, field):
            yield f"source {field}", value
    yield "images", dataset.images
    yield "crop", dataset.crop
    yield "refine", dataset.refine or "none"
    yield "seed", str(dataset.seed)
    yield "attribute table", dataset.attribute_table.name
    yield "image size", "{}x{}".format(*dataset.image_size)
    yield "mask size", "{}x{}".format(*dataset.mask_size)
    yield "format version", str(dataset.format_version)
    yield "attparse version", dataset.attparse_version
