"""The section of report.html on how well the landmarks agree with the five points."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.drawing.overlays import LANDMARK_COLOR, POINT_COLOR, display_name
from pipeline.records import FloatRows
from pipeline.report.agreement import Agreement, error_figures, error_histogram
from pipeline.report.parts import ReportImage, cards, chip, figure, html_table, plural, section
from pipeline.vocabulary import LANDMARK_SOURCES, WEAK_SOURCES
from regions.quality import MAX_POINTS_ERROR

BIN = 0.01
"""Width of a bar of the histogram, in eye distances."""
MIN_BARS, MAX_BARS = 10, 31
LABELLED_BARS = 5
"""Every so many bars, the lower end of the bar is told."""

MEANING = (
    "<p>The mean distance between the five points that the data set gives (eye centers, nose tip, mouth corners) and"
    " the same points of the 68 landmarks, in % of the eye distance. That is the eye distance as it would be seen from"
    " the front, so that a turned head does not count more.</p>"
    "<p>The data set's points are placed by hand and defined slightly differently, so some percent remain even for"
    f" perfect landmarks. Landmarks that are more than {100 * MAX_POINTS_ERROR:.0f} % off are rejected, unless they"
    " were handed in.</p>"
)


def in_percent(error: float) -> str:
    """Return a share of the eye distance as text.

    >>> in_percent(0.0512)
    '5.1 %'
    """
    return f"{100 * error:.1f} %"


def agreement_section(agreement: Agreement, samples: int, worst: Sequence[ReportImage]) -> str:
    """Return the section.

    Parameters
    ----------
    agreement : Agreement
    samples : int
        Samples of the run, those without given points included.
    worst : sequence of ReportImage
        Drawings of ``agreement.worst``, in that order.
    """
    errors = agreement.meaningful
    parts = [MEANING, _which(agreement, samples)]
    if len(errors):
        count, mean, median, percentile_95, largest = error_figures(errors)
        values = {"mean": mean, "median": median, "95th percentile": percentile_95, "largest": largest}
        parts.append(cards([("samples", f"{count:,}"), *((name, in_percent(value)) for name, value in values.items())]))
    parts.append(_by_source(agreement))
    if len(errors):
        parts.append(_histogram(errors))
        legend = chip("five points of the data set", POINT_COLOR, "cross") + chip("68 landmarks", LANDMARK_COLOR, "dot")
        images = "".join(map(figure, worst))
        parts.append(f'<h3>Largest errors</h3><p class="legend">{legend}</p><div class="grid">{images}</div>')
    return section("agreement", "Agreement with the five points", *parts)


def _which(agreement: Agreement, samples: int) -> str:
    """Tell which samples were measured, and which were left out."""
    compared = sum(map(len, agreement.errors.values()))
    weak = compared - len(agreement.meaningful)
    measured = f"all {samples:,} samples" if compared == samples else f"{compared:,} of {samples:,} samples"
    text = f"The data set gives five points for {measured}."
    if weak:
        names = " and ".join(display_name(landmark_source) for landmark_source in WEAK_SOURCES)
        text += (
            f" The {weak:,} of the weak source “{names}” are in the table only: their landmarks are fitted to those"
            " very points, so their error is not informative."
        )
    return f"<p>{text}</p>"


def _by_source(agreement: Agreement) -> str:
    landmark_sources = [source for source in LANDMARK_SOURCES if source in agreement.errors]
    rows = []
    for landmark_source in landmark_sources:
        count, mean, _, percentile_95, largest = error_figures(agreement.errors[landmark_source])
        name = display_name(landmark_source) + (" (weak)" if landmark_source in WEAK_SOURCES else "")
        rows.append([name, f"{count:,}", *map(in_percent, (mean, percentile_95, largest))])
    return html_table(["landmark_source", "samples", "mean", "95th percentile", "largest"], rows, numbers=True)


def _histogram(errors: FloatRows) -> str:
    """Return upright bars, one for each percent; the last one may hold all larger errors."""
    number = min(max(math.ceil(float(errors.max()) / BIN), MIN_BARS), MAX_BARS)
    counts = error_histogram(errors, BIN, number).tolist()
    bars = []
    for index, count in enumerate(counts):
        low = f"{100 * index * BIN:.0f}"
        span = f"{low} % and more" if index == MAX_BARS - 1 else f"{low} to {100 * (index + 1) * BIN:.0f} %"
        label = f"<small>{low} %</small>" if index % LABELLED_BARS == 0 else ""
        height = f"{100 * count / max(counts):.2f}%"
        bars.append(f'<div title="{span}: {plural(count, "sample")}"><i style="height:{height}"></i>{label}</div>')
    return f'<h3>Distribution</h3><div class="histogram">{"".join(bars)}</div>'
