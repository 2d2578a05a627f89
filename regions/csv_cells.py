"""Cells of CSV files that spreadsheets would take for formulas, as text."""

from __future__ import annotations

import re

FORMULA = re.compile("'*[=+\\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def defused(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: with an apostrophe before it where it begins like one.

    Numbers stay as they are. `original` is the way back.

    >>> defused("=1+1"), defused("-3.5"), defused("a=b"), defused("'=1")
    ("'=1+1", '-3.5', 'a=b', "''=1")
    """
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def original(cell: str) -> str:
    """Return the text of a cell that `defused` returned.

    >>> original("'=1+1"), original("-3.5"), original("'quoted'"), original("''=1")
    ('=1+1', '-3.5', "'quoted'", "'=1")
    """
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
