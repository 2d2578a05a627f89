"""The table of measurements: one row each, a ratio beside every number that has something to compare with."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

HEADER = ("what", "ours", "other", "unit", "ratio")
NOTHING = "-"


class Row(NamedTuple):
    """One measurement.

    Attributes
    ----------
    what : str
        What is measured, and after "against" what it is compared with.
    ours : float
    other : float or None
        None where there is nothing to compare with.
    unit : str
    ratio : float or None
        `ours` over `other`.
    """

    what: str
    ours: float
    other: float | None
    unit: str
    ratio: float | None


def row(what: str, unit: str, ours: float, other: float | None = None) -> Row:
    """Return the row of one measurement."""
    return Row(what, ours, other, unit, None if other is None else ours / other)


def median_row(what: str, unit: str, rounds: Iterable[tuple[float, float]]) -> Row:
    """Return the row of alternating runs, as medians; the ratio is the median of the ratios of the rounds.

    Parameters
    ----------
    what, unit : str
    rounds : iterable of (float, float)
        Ours and the other, measured one after the other.
    """
    pairs = list(rounds)
    ours, others = zip(*pairs, strict=True)
    ratio = statistics.median(mine / other for mine, other in pairs)
    return Row(what, statistics.median(ours), statistics.median(others), unit, ratio)


def row_cells(line: Row) -> tuple[str, ...]:
    """Return the cells of a row, as text."""
    return line.what, number(line.ours), number(line.other), line.unit, number(line.ratio)


def number(value: float | None) -> str:
    """Return a number with three significant digits, or more before the decimal point.

    >>> number(0.1234), number(12.34), number(12345.6), number(None)
    ('0.123', '12.3', '12,346', '-')
    """
    if value is None:
        return NOTHING
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{decimals}f}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown: the first column aligned left, the others right."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ("-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])))
    return "\n".join(
        f"| {' | '.join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])])} |" for cells in lines
    )


def machine() -> str:
    """Return the processor, the number of cores and the version of Python."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _processor() -> str:
    """Return the name of the processor, which Linux alone writes into a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
