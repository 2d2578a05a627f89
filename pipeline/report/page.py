"""The page of report.html: one self-contained file, made from what `pipeline.report.content` has chosen."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from pipeline.drawing.overlays import display_name, region_colors
from pipeline.formats.dataset_json import DatasetFile
from pipeline.report.agreement import Agreement, error_figures
from pipeline.report.agreement_section import agreement_section, in_percent
from pipeline.report.parts import ReportImage, bar, cards, chip, figure, html_table, percent, plural, section, shown_of
from pipeline.vocabulary import (
    HAND_LABEL_REASONS,
    LANDMARK_SOURCES,
    REJECT_REASONS,
    WEAK_SOURCES,
    LandmarkSource,
    RejectReason,
)
from regions.polygons import REGION_NAMES

LIST_REJECTS = """import pyarrow.parquet as pq
table = pq.read_table("manifest", columns=["image_id", "reason", "detail"], filters=[("status", "=", "rejected")])
print(*zip(*table.to_pydict().values()), sep="\\n")"""

GUESS = (
    "<p>Dots on an image are a guess at the 68 landmarks: some that failed the checks, or the mean face laid on the"
    " data set's face box.</p>"
)
LABEL_BY_HAND = """attparse handlabel export OUT --to DIR
attparse handlabel import DIR --to landmarks.csv"""

NO_NETWORK = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
NAVIGATION = ("coverage", "rejects", "samples", "agreement", "masks", "attributes", "versions")


class AttributeArea(NamedTuple):
    """What was measured of an attribute.

    Attributes
    ----------
    name : str
    share : float
        Share of images that have it.
    area : float or None
        Mean share of the crop that its mask covers, over the images that have it.
    empty : int
        Images that have it, but whose mask is empty.
    """

    name: str
    share: float
    area: float | None
    empty: int


@dataclass(frozen=True)
class ReportContent:
    """All that the page shows.

    Attributes
    ----------
    document : dict
        Content of dataset.json.
    images : str
        The image folder.
    overlays : mapping of str to list of ReportImage
        By landmark_source.
    rejects : mapping of str to list of ReportImage
        By reason, without missing ones.
    missing : list of str
        Ids of some missing images.
    areas : list of AttributeArea
    measured : int
        Samples that `areas` were measured on.
    agreement : Agreement or None
        With the five points, if the run has some.
    worst : list of ReportImage
        Drawings of ``agreement.worst``.
    """

    document: DatasetFile
    images: str
    overlays: Mapping[LandmarkSource, Sequence[ReportImage]]
    rejects: Mapping[RejectReason, Sequence[ReportImage]]
    missing: Sequence[str]
    areas: Sequence[AttributeArea]
    measured: int
    agreement: Agreement | None
    worst: Sequence[ReportImage]


def render_page(content: ReportContent) -> str:
    """Return the page as HTML that loads nothing."""
    style = importlib.resources.files("pipeline.report").joinpath("report.css").read_text(encoding="utf-8")
    left_out = "agreement" if content.agreement is None else ""
    links = "".join(f'<a href="#{name}">{name.capitalize()}</a>' for name in NAVIGATION if name != left_out)
    sections = [
        _headline(content),
        _coverage(content.document),
        _rejects(content),
        _samples(content),
        _agreement(content),
        _masks(content),
        _attributes(content.document),
        _versions(content),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{NO_NETWORK}">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>attparse report</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header><h1>attparse report</h1><nav>{links}</nav></header>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _headline(content: ReportContent) -> str:
    document = content.document
    written, rejected = document.samples, document.rejected
    megabytes = sum(shard.bytes for shard in document.shards) / 1e6
    values = [
        ("images in", f"{written + rejected:,}"),
        ("written", f"{written:,}"),
        ("rejected", f"{rejected:,}"),
        ("coverage", percent(written, written + rejected)),
        ("shards", f"{len(document.shards):,}"),
        ("size", f"{megabytes / 1000:,.1f} GB" if megabytes >= 1000 else f"{megabytes:,.1f} MB"),
    ]
    if content.agreement is not None and len(content.agreement.meaningful):
        values.append(("error against five points", in_percent(error_figures(content.agreement.meaningful).mean)))
    skipped = document.skipped_missing
    note = f"<p>{plural(skipped, 'label row')} without an image left out (--skip_missing).</p>" if skipped else ""
    splits = html_table(
        ["split", "shards", "written", "rejected", "coverage"],
        [
            [
                name,
                *(f"{getattr(split, column):,}" for column in ("shards", "samples", "rejected")),
                percent(split.samples, split.samples + split.rejected),
            ]
            for name, split in document.splits.items()
        ],
        numbers=True,
    )
    equation = f"{written + rejected:,} images in = {written:,} written + {rejected:,} rejected"
    head = f'<p class="equation">{equation}</p>'
    return f'<section id="numbers">\n{head}{cards(values)}{note}{splits}</section>'


def _coverage(document: DatasetFile) -> str:
    total = document.samples + document.rejected
    counts = document.landmark_sources
    bars = [
        bar(
            landmark_source,
            LANDMARK_SOURCES[landmark_source],
            counts.get(landmark_source, 0),
            total,
            "weak" if landmark_source in WEAK_SOURCES else "",
            '<em class="badge">weak</em>' if landmark_source in WEAK_SOURCES else "",
        )
        for landmark_source in (*LANDMARK_SOURCES, *(name for name in counts if name not in LANDMARK_SOURCES))
    ]
    bars.append(bar("rejected", "No landmark_source gave usable landmarks, or the image could not be used at all.",
                     document.rejected, total, "bad"))  # fmt: skip
    intro = (
        "<p>Ways to find a face are tried in this order until one gives landmarks that pass the checks:"
        " a plausible shape, large enough, in agreement with the face box or the five points.</p>"
    )
    return section("coverage", "Coverage by landmark_source", intro, '<div class="bars">' + "".join(bars) + "</div>")


def _rejects(content: ReportContent) -> str:
    counts = content.document.rejects
    total = content.document.rejected
    if not total:
        return section("rejects", "Rejects", "<p>None: every image was written.</p>")
    bars = "".join(bar(reason, REJECT_REASONS[reason], n, total, "bad") for reason, n in counts.items())
    groups = [
        f"<h3>{escape(display_name(reason))} <small>{shown_of(len(shown), counts.get(reason, 0))}</small></h3>"
        f"{_images_or_list(shown)}"
        for reason, shown in content.rejects.items()
        if shown
    ]
    if content.missing:
        ids = "".join(f"<li>{escape(image_id)}</li>" for image_id in content.missing)
        groups.append(
            f"<h3>missing <small>{shown_of(len(content.missing), counts.get('missing', 0))}</small></h3>"
            f'<ul class="ids">{ids}</ul>'
        )
    if any(image.guess for shown in content.rejects.values() for image in shown):
        groups.insert(0, GUESS)
    listed = sum(map(len, content.rejects.values())) + len(content.missing)
    more = f"{total - listed:,} more are in the manifest. " if total > listed else ""
    how = (
        f"<p>{more}To list all {total:,} with their reasons, in the folder of this report:</p>"
        f"<pre>{escape(LIST_REJECTS)}</pre>"
    )
    return section("rejects", "Rejects", f'<div class="bars">{bars}</div>', *groups, how, _label_by_hand(counts))


def _label_by_hand(rejects: Mapping[RejectReason, int]) -> str:
    """Tell how to save the rejects that only lack landmarks, if there are any."""
    count = sum(rejects.get(reason, 0) for reason in HAND_LABEL_REASONS)
    if not count:
        return ""
    them = "this one" if count == 1 else "these"
    return (
        f"<p>{plural(count, 'image')} without a usable face can be saved by placing landmarks by hand. The first"
        f" command copies {them} from the run OUT to a folder DIR for labelme, the second one gathers what was placed;"
        " then run again with <code>--landmarks landmarks.csv</code>:</p>"
        f"<pre>{escape(LABEL_BY_HAND)}</pre>"
    )


def _images_or_list(shown: Sequence[ReportImage]) -> str:
    """Return rejected images as a grid, or as a compact list where none of them has an image."""
    if any(image.jpeg for image in shown):
        return f'<div class="grid small">{"".join(map(figure, shown))}</div>'
    lines = (f"<li><b>{escape(image.image_id)}</b> <span>{escape(image.note)}</span></li>" for image in shown)
    return f'<ul class="ids notes">{"".join(lines)}</ul>'


def _samples(content: ReportContent) -> str:
    counts = content.document.landmark_sources
    groups = []
    for landmark_source, shown in content.overlays.items():
        badge = '<em class="badge">weak</em>' if landmark_source in WEAK_SOURCES else ""
        figures = "".join(map(figure, shown))
        total = shown_of(len(shown), counts[landmark_source])
        groups.append(
            f"<h3>{escape(display_name(landmark_source))}{badge} <small>{total}</small></h3>"
            f'<div class="grid">{figures}</div>'
        )
    colors = region_colors(content.document.regions)
    legend = "".join(chip(name, colors[name]) for name in content.document.regions)
    if not groups:
        groups = ["<p>None: every image was rejected.</p>"]
    return section(
        "samples",
        "Samples",
        "<p>Each way to find landmarks is shown about equally often, however rare it is.</p>",
        f'<p class="legend">{legend}</p>',
        *groups,
    )


def _agreement(content: ReportContent) -> str:
    if content.agreement is None:
        return ""
    return agreement_section(content.agreement, content.document.samples, content.worst)


def _masks(content: ReportContent) -> str:
    largest = max((area.area or 0.0 for area in content.areas), default=0.0)
    rows = []
    for area in content.areas:
        size = "&ndash;" if area.area is None else f"{100 * area.area:.1f} %"
        empty = f' <small class="alert">{area.empty} empty</small>' if area.empty else ""
        rows.append(
            f'<div class="pair"><div class="name">{escape(display_name(area.name))}{empty}</div>'
            f'<div class="track soft"><i style="width:{100 * area.share:.2f}%"></i></div>'
            f'<div class="count">{100 * area.share:.1f} %</div>'
            f'<div class="track"><i style="width:{100 * (area.area or 0) / (largest or 1):.2f}%"></i></div>'
            f'<div class="count">{size}</div></div>'
        )
    intro = (
        f"<p>Measured on {plural(content.measured, 'sample')} out of {content.document.samples:,}.</p>"
        '<p class="legend"><span class="chip"><i class="soft"></i>share of images that have the attribute</span>'
        '<span class="chip"><i></i>mean share of the crop that its mask covers in them'
        f" (full width: {100 * largest:.1f} %)</span></p>"
    )
    if any(area.empty for area in content.areas):
        intro += (
            "<p>“Empty” counts images that have the attribute while its regions lie outside of the image"
            " or cover no pixel.</p>"
        )
    return section("masks", "Mask area per attribute", intro, f'<div class="pairs">{"".join(rows)}</div>')


def _attributes(document: DatasetFile) -> str:
    table = document.attribute_table
    colors = region_colors(document.regions)
    rows = []
    for name, regions in table.attributes.items():
        if set(REGION_NAMES) <= set(regions):
            chips = ['<span class="chip all"><i></i>all ten</span>']
            chips += [chip(region, colors[region]) for region in regions if region not in REGION_NAMES]
        else:
            chips = [chip(region, colors[region]) for region in regions]
        rows.append(f"<div><b>{escape(display_name(name))}</b><span>{''.join(chips)}</span></div>")
    intro = f"<p>Where each attribute is seen, by the attribute table “{escape(table.name)}”.</p>"
    return section("attributes", "Regions of each attribute", intro, f'<div class="regions">{"".join(rows)}</div>')


def _versions(content: ReportContent) -> str:
    document = content.document
    options = [
        ("images", content.images),
        ("crop", document.crop),
        ("refine", document.refine or "none"),
        ("seed", str(document.seed)),
        ("attribute table", document.attribute_table.name),
        ("image size", "{}x{}".format(*document.image_size)),
        ("mask size", "{}x{}".format(*document.mask_size)),
        ("format version", str(document.format_version)),
    ]
    versions = [(display_name(name), str(version)) for name, version in document.versions.items()]
    tables = html_table(["option", "value"], options) + html_table(["part", "version"], versions)
    return section("versions", "Versions and options", f'<div class="columns">{tables}</div>')
