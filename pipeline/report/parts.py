"""Pieces of HTML that the sections of report.html are made of."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from pipeline.drawing.overlays import Color, display_name


class ReportImage(NamedTuple):
    """One image on the page.

    Attributes
    ----------
    image_id, note : str
    jpeg : bytes or None
        The image, where there is one.
    guess : bool
        Whether landmarks that are only a guess are drawn on it.
    """

    image_id: str
    note: str
    jpeg: bytes | None
    guess: bool = False


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


def plural(count: int, singular: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "sample"), plural(2000, "sample")
    ('1 sample', '2,000 samples')
    """
    return f"{count:,} {singular if count == 1 else singular + 's'}"


def shown_of(shown: int, total: int) -> str:
    """Tell how many of all are shown.

    >>> shown_of(3, 3), shown_of(3, 1200)
    ('all 3', '3 of 1,200')
    """
    return f"all {total:,}" if shown == total and total > 1 else f"{shown:,} of {total:,}"


def section(name: str, title: str, *parts: str) -> str:
    """Return a section of the page; all but its name and title are HTML."""
    return f'<section id="{name}">\n<h2>{title}</h2>\n' + "\n".join(part for part in parts if part) + "\n</section>"


def cards(values: Sequence[tuple[str, str]]) -> str:
    """Return figures, each with its name below it, from pairs of name and figure."""
    grid = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in values)
    return f'<div class="cards">{grid}</div>'


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> str:
    """Return a table of texts, which are escaped."""
    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    kind = ' class="numbers"' if numbers else ""
    return f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def bar(name: str, meaning: str, count: int, total: int, kind: str = "", badge: str = "") -> str:
    """Return a count as a bar with its name and meaning; `kind` is a class of the style sheet, `badge` is HTML."""
    return (
        f'<div class="bar {kind}"><div class="name">{escape(display_name(name))}{badge}</div>'
        f'<div class="track"><i style="width:{100 * count / max(total, 1):.3f}%"></i></div>'
        f'<div class="count">{count:,} <small>{percent(count, total)}</small></div>'
        f"<p>{escape(meaning)}</p></div>"
    )


def chip(name: str, color: Color, shape: str = "") -> str:
    """Return an entry of a legend; `shape` is a class of the style sheet."""
    kind = f' class="{shape}"' if shape else ""
    return f'<span class="chip"><i{kind} style="color:rgb{color}"></i>{escape(display_name(name))}</span>'


def figure(image: ReportImage) -> str:
    """Return an image with its caption."""
    name = escape(image.image_id)
    if image.jpeg is None:
        shown = "<div class='none'>can't be shown</div>"
    else:
        data = base64.b64encode(image.jpeg).decode("ascii")
        shown = f'<img src="data:image/jpeg;base64,{data}" alt="{name}">'
    return f"<figure>{shown}<figcaption><b>{name}</b><span>{escape(image.note)}</span></figcaption></figure>"
