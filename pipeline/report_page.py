"""The page of report.html: one self-contained file, made from what `pipeline.report` has chosen."""

from __future__ import annotations

import base64
import importlib.resources
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

from pipeline.detect import FACE_DETECTOR, FIVE_POINTS, GIVEN, HINTED_BOX, RUNGS, WEAK_RUNGS, WHOLE_PICTURE
from pipeline.drawing import Colour, display_name, region_colours
from regions.polygons import REGION_NAMES

RUNG_MEANING = {
    GIVEN: "The landmarks that were handed in with --landmarks.",
    HINTED_BOX: "MediaPipe FaceMesh on the data set's face box, or on a box about its five points.",
    WHOLE_PICTURE: "FaceMesh on the whole picture.",
    FACE_DETECTOR: "MediaPipe's full-range face detector first, then FaceMesh on the faces it found.",
    FIVE_POINTS: "The mean face laid on the data set's five points: place, size and tilt are right,"
    " the expression and a turn of the head are not.",
}
REASON_MEANING = {
    "missing": "The label file has a row, but the image folder has no such file. --skip_missing leaves such rows out.",
    "unlabelled": "The file is in the image folder, but the label file has no row for it.",
    "unsafe_id": "The image id in the label file is no plain path below the image folder.",
    "unreadable": "The file could not be read: no permission, or a fault of the disk or network.",
    "empty": "The file has 0 bytes.",
    "not_an_image": "The content is no JPEG, PNG, WebP, BMP or TIFF, whatever the file's name says.",
    "too_large": "The picture has more pixels than are decoded.",
    "corrupt": "The file starts like a picture, but can't be decoded to its end.",
    "no_face": "No detector found a face. Landmarks made by hand can be handed in with --landmarks.",
    "wrong_face": "Faces were found, but none with a plausible shape that agrees with the face box or the five points.",
}
LIST_REJECTS = """import pyarrow.parquet as pq
table = pq.read_table("manifest", columns=["image_id", "reason", "detail"], filters=[("status", "=", "rejected")])
print(*zip(*table.to_pydict().values()), sep="\\n")"""

NO_NETWORK = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
NAVIGATION = ("coverage", "rejects", "samples", "masks", "attributes", "versions")


class Shown(NamedTuple):
    """One image on the page.

    Attributes
    ----------
    image_id, note : str
    jpeg : bytes or None
        The picture, where there is one.
    """

    image_id: str
    note: str
    jpeg: bytes | None


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
    overlays : mapping of str to list of Shown
        By rung.
    rejects : mapping of str to list of Shown
        By reason, without missing ones.
    missing : list of str
        Ids of some missing images.
    areas : list of AttributeArea
    measured : int
        Samples that `areas` were measured on.
    """

    document: dict[str, Any]
    images: str
    overlays: Mapping[str, Sequence[Shown]]
    rejects: Mapping[str, Sequence[Shown]]
    missing: Sequence[str]
    areas: Sequence[AttributeArea]
    measured: int


def render_page(content: ReportContent) -> str:
    """Return the page as HTML that loads nothing."""
    style = importlib.resources.files("pipeline").joinpath("report.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{name}">{name.capitalize()}</a>' for name in NAVIGATION)
    sections = [
        _headline(content.document),
        _coverage(content.document),
        _rejects(content),
        _samples(content),
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


def percent(part: int, whole: int) -> str:
    """Return a share as text; 100 % and 0 % are said only of all and none.

    >>> percent(1, 3), percent(99_999, 100_000), percent(1, 1_000_000), percent(5, 5)
    ('33.33 %', '99.99 %', '<0.01 %', '100 %')
    """
    if part == whole and whole:
        return "100 %"
    if not part:
        return "0 %"
    hundredths = math.floor(10_000 * part / whole)
    return f"{hundredths / 100:.2f} %" if hundredths else "<0.01 %"


def _section(name: str, title: str, *parts: str) -> str:
    return f'<section id="{name}">\n<h2>{title}</h2>\n' + "\n".join(part for part in parts if part) + "\n</section>"


def _plural(count: int, singular: str, plural: str | None = None) -> str:
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> str:
    """Return a table of texts, which are escaped."""
    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    kind = ' class="numbers"' if numbers else ""
    return f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _headline(document: Mapping[str, Any]) -> str:
    written, rejected = document["samples"], document["rejected"]
    megabytes = sum(shard["bytes"] for shard in document["shards"]) / 1e6
    cards = [
        ("images in", f"{written + rejected:,}"),
        ("written", f"{written:,}"),
        ("rejected", f"{rejected:,}"),
        ("coverage", percent(written, written + rejected)),
        ("shards", f"{len(document['shards']):,}"),
        ("size", f"{megabytes / 1000:,.1f} GB" if megabytes >= 1000 else f"{megabytes:,.1f} MB"),
    ]
    grid = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in cards)
    skipped = document["skipped_missing"]
    note = f"<p>{_plural(skipped, 'label row')} without an image left out (--skip_missing).</p>" if skipped else ""
    splits = _table(
        ["split", "shards", "written", "rejected", "coverage"],
        [
            [
                name,
                *(f"{split[column]:,}" for column in ("shards", "samples", "rejected")),
                percent(split["samples"], split["samples"] + split["rejected"]),
            ]
            for name, split in document["splits"].items()
        ],
        numbers=True,
    )
    equation = f"{written + rejected:,} images in = {written:,} written + {rejected:,} rejected"
    head = f'<p class="equation">{equation}</p><div class="cards">{grid}</div>'
    return f'<section id="numbers">\n{head}{note}{splits}</section>'


def _bar(name: str, meaning: str, count: int, total: int, kind: str = "", badge: str = "") -> str:
    return (
        f'<div class="bar {kind}"><div class="name">{escape(display_name(name))}{badge}</div>'
        f'<div class="track"><i style="width:{100 * count / max(total, 1):.3f}%"></i></div>'
        f'<div class="count">{count:,} <small>{percent(count, total)}</small></div>'
        f"<p>{escape(meaning)}</p></div>"
    )


def _coverage(document: Mapping[str, Any]) -> str:
    total = document["samples"] + document["rejected"]
    counts = document["rungs"]
    bars = [
        _bar(
            rung,
            RUNG_MEANING.get(rung, ""),
            counts.get(rung, 0),
            total,
            "weak" if rung in WEAK_RUNGS else "",
            '<em class="badge">weak</em>' if rung in WEAK_RUNGS else "",
        )
        for rung in (*RUNGS, *(name for name in counts if name not in RUNGS))
    ]
    bars.append(_bar("rejected", "No rung gave usable landmarks, or the image could not be used at all.",
                     document["rejected"], total, "bad"))  # fmt: skip
    intro = (
        "<p>Ways to find a face are tried in this order until one gives landmarks that pass the checks:"
        " a plausible shape, large enough, in agreement with the face box or the five points.</p>"
    )
    return _section("coverage", "Coverage by rung", intro, '<div class="bars">' + "".join(bars) + "</div>")


def _rejects(content: ReportContent) -> str:
    counts: Mapping[str, int] = content.document["rejects"]
    total = content.document["rejected"]
    if not total:
        return _section("rejects", "Rejects", "<p>None: every image was written.</p>")
    bars = "".join(_bar(reason, REASON_MEANING.get(reason, ""), n, total, "bad") for reason, n in counts.items())
    groups = [
        f"<h3>{escape(display_name(reason))} <small>{_of(len(shown), counts.get(reason, 0))}</small></h3>"
        f"{_pictures_or_list(shown)}"
        for reason, shown in content.rejects.items()
        if shown
    ]
    if content.missing:
        ids = "".join(f"<li>{escape(image_id)}</li>" for image_id in content.missing)
        groups.append(
            f"<h3>missing <small>{_of(len(content.missing), counts.get('missing', 0))}</small></h3>"
            f'<ul class="ids">{ids}</ul>'
        )
    listed = sum(map(len, content.rejects.values())) + len(content.missing)
    more = f"{total - listed:,} more are in the manifest. " if total > listed else ""
    how = (
        f"<p>{more}To list all {total:,} with their reasons, in the folder of this report:</p>"
        f"<pre>{escape(LIST_REJECTS)}</pre>"
    )
    return _section("rejects", "Rejects", f'<div class="bars">{bars}</div>', *groups, how)


def _of(shown: int, total: int) -> str:
    return f"all {total:,}" if shown == total and total > 1 else f"{shown:,} of {total:,}"


def _pictures_or_list(shown: Sequence[Shown]) -> str:
    """Return rejected images as a grid, or as a compact list where none of them has a picture."""
    if any(image.jpeg for image in shown):
        return f'<div class="grid small">{"".join(map(_figure, shown))}</div>'
    lines = (f"<li><b>{escape(image.image_id)}</b> <span>{escape(image.note)}</span></li>" for image in shown)
    return f'<ul class="ids notes">{"".join(lines)}</ul>'


def _figure(image: Shown) -> str:
    """Return a picture with its caption."""
    name = escape(image.image_id)
    if image.jpeg is None:
        picture = "<div class='none'>can't be shown</div>"
    else:
        data = base64.b64encode(image.jpeg).decode("ascii")
        picture = f'<img src="data:image/jpeg;base64,{data}" alt="{name}">'
    return f"<figure>{picture}<figcaption><b>{name}</b><span>{escape(image.note)}</span></figcaption></figure>"


def _samples(content: ReportContent) -> str:
    counts: Mapping[str, int] = content.document["rungs"]
    groups = []
    for rung, shown in content.overlays.items():
        badge = '<em class="badge">weak</em>' if rung in WEAK_RUNGS else ""
        figures = "".join(map(_figure, shown))
        groups.append(
            f"<h3>{escape(display_name(rung))}{badge} <small>{_of(len(shown), counts[rung])}</small></h3>"
            f'<div class="grid">{figures}</div>'
        )
    colours = region_colours(content.document["regions"])
    legend = "".join(_chip(name, colours[name]) for name in content.document["regions"])
    if not groups:
        groups = ["<p>None: every image was rejected.</p>"]
    return _section(
        "samples",
        "Samples",
        "<p>Each way to find landmarks is shown about equally often, however rare it is.</p>",
        f'<p class="legend">{legend}</p>',
        *groups,
    )


def _chip(name: str, colour: Colour) -> str:
    return f'<span class="chip"><i style="background:rgb{colour}"></i>{escape(display_name(name))}</span>'


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
        f"<p>Measured on {_plural(content.measured, 'sample')} out of {content.document['samples']:,}.</p>"
        '<p class="legend"><span class="chip"><i class="soft"></i>share of images that have the attribute</span>'
        '<span class="chip"><i></i>mean share of the crop that its mask covers in them'
        f" (full width: {100 * largest:.1f} %)</span></p>"
    )
    if any(area.empty for area in content.areas):
        intro += (
            "<p>“Empty” counts images that have the attribute while its regions lie outside of the picture"
            " or cover no pixel.</p>"
        )
    return _section("masks", "Mask area per attribute", intro, f'<div class="pairs">{"".join(rows)}</div>')


def _attributes(document: Mapping[str, Any]) -> str:
    table = document["attribute_table"]
    colours = region_colours(document["regions"])
    rows = []
    for name, regions in table["attributes"].items():
        if set(REGION_NAMES) <= set(regions):
            chips = ['<span class="chip all"><i></i>all ten</span>']
            chips += [_chip(region, colours[region]) for region in regions if region not in REGION_NAMES]
        else:
            chips = [_chip(region, colours[region]) for region in regions]
        rows.append(f"<div><b>{escape(display_name(name))}</b><span>{''.join(chips)}</span></div>")
    intro = f"<p>Where each attribute is seen, by the attribute table “{escape(table['name'])}”.</p>"
    return _section("attributes", "Regions of each attribute", intro, f'<div class="regions">{"".join(rows)}</div>')


def _versions(content: ReportContent) -> str:
    document = content.document
    options = [
        ("images", content.images),
        ("crop", document["crop"]),
        ("seed", str(document["seed"])),
        ("attribute table", document["attribute_table"]["name"]),
        ("image size", "{}x{}".format(*document["image_size"])),
        ("mask size", "{}x{}".format(*document["mask_size"])),
        ("format version", str(document["format_version"])),
    ]
    versions = [(display_name(name), str(version)) for name, version in document["versions"].items()]
    return _section(
        "versions",
        "Versions and options",
        f'<div class="columns">{_table(["option", "value"], options)}{_table(["part", "version"], versions)}</div>',
    )
