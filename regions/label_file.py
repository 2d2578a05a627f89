"""Label files: one row of attribute labels per image, in CelebA's text layout or as CSV."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regions.text_tables import Row, Table, TableFileError, parse_text_table

UNKNOWN = -1
"""A label that the data set does not give; known ones are 1 (yes) and 0 (no)."""


@dataclass(frozen=True)
class LabelTable:
    """The labels of a data set.

    Attributes
    ----------
    names : tuple of str
        Attribute names, in the order of the file.
    image_ids : list of str
        In the order of the file; each once.
    values : ndarray (images, attributes) int8
        1 yes, 0 no, `UNKNOWN`.
    """

    names: tuple[str, ...]
    image_ids: list[str]
    values: npt.NDArray[np.int8]


_NO, _YES, _EMPTY, _MINUS, _ZERO = range(5)
"""What a cell holds. Only the whole file decides what a 0 means, so it is not a label yet."""
_MEANINGS = {"1": _YES, "-1": _MINUS, "0": _ZERO, "true": _YES, "false": _NO, "": _EMPTY}
_WHOLE_NUMBER = re.compile(r"(?:\+(?=[0-9]))?(-?[0-9])(?:\.0*)?")
"""A number of one digit, also with a plus or as a decimal number such as 1.0."""


class _CellCodes(dict[str, int]):
    """Code of each cell text; other spellings of a label are added when they appear."""

    def __missing__(self, text: str) -> int:
        folded = text.strip().lower()
        number = _WHOLE_NUMBER.fullmatch(folded)
        code = self[text] = _MEANINGS[number[1] if number else folded]
        return code


def parse_labels(lines: Iterable[str], source: str) -> LabelTable:
    r"""Parse a label file in CelebA's text layout or as CSV.

    Labels are -1/1, 0/1, True/False (in any case) or decimals such as 1.0. A file that has a -1
    anywhere uses -1/1, so its zeros are unknown labels; so are empty cells of a CSV file.

    Parameters
    ----------
    lines : iterable of str
        See `regions.text_tables.text_lines` and `regions.text_tables.parse_text_table`.
    source : str
        Name of the file, for messages.

    Raises
    ------
    TableFileError
        For a file in neither layout, a wrong number of rows or columns, a duplicate row or
        attribute, or a value that is not a label.

    Examples
    --------
    >>> parse_labels(["image_id,Bald,Young\n", "1.jpg,-1,1\n", "2.jpg,0,\n"], "labels.csv").values
    array([[ 0,  1],
           [-1, -1]], dtype=int8)
    """
    table = parse_text_table(lines, source)
    _check_names(table)
    codes_of = _CellCodes(_MEANINGS)
    codes = bytearray()
    image_ids: list[str] = []
    for row in table.rows:
        try:
            codes += bytes(map(codes_of.__getitem__, row.values))
        except KeyError:
            raise _not_a_label(table, row, codes_of) from None
        image_ids.append(row.image_id)
    if not image_ids:
        raise TableFileError(f"{source}:{table.header_line}: no rows after the header, expected one per image")
    zero = UNKNOWN if _MINUS in codes else 0
    labels = np.array([0, 1, UNKNOWN, 0, zero], dtype=np.int8).tobytes()
    values = np.frombuffer(codes.translate(labels.ljust(256)), dtype=np.int8)
    return LabelTable(tuple(table.columns), image_ids, values.reshape(len(image_ids), len(table.columns)))


def _check_names(table: Table) -> None:
    place = f"{table.source}:{table.header_line}"
    seen: set[str] = set()
    for index, name in enumerate(table.columns):
        if not name:
            raise TableFileError(f"{place}: column {index + 2} has no name, expected an attribute name")
        if not name.isprintable():
            raise TableFileError(f"{place}: attribute name {name[:60]!r}, expected printable characters")
        if name in seen:
            raise TableFileError(f"{place}: duplicate attribute name {name[:60]!r}")
        seen.add(name)


def _not_a_label(table: Table, row: Row, codes: Mapping[str, int]) -> TableFileError:
    name, text = next(cell for cell in zip(table.columns, row.values, strict=True) if cell[1] not in codes)
    return TableFileError(
        f"{table.source}:{row.line}: attribute {name!r} is {text[:60]!r},"
        " expected -1 or 1, 0 or 1, True or False, or nothing where it is unknown"
    )
