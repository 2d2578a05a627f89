"""Label files: one table of odd ones, each read to the same labels or refused with one line."""

from __future__ import annotations

import io

import numpy as np
import pytest

from regions.label_file import UNKNOWN, LabelTable, parse_labels
from regions.text_tables import TableFileError, text_lines
from tests.label_file_cases import READABLE, REFUSED, LabelFileCase


def parse(content: bytes) -> LabelTable:
    return parse_labels(text_lines(io.BytesIO(content)), "labels")


@pytest.mark.parametrize("case", READABLE, ids=lambda case: case.name)
def test_readable_label_files(case: LabelFileCase) -> None:
    labels = parse(case.content)
    assert labels.names == case.attributes
    assert labels.image_ids == list(case.image_ids)
    assert labels.values.dtype == np.int8
    assert labels.values.tolist() == [list(row) for row in case.values]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_label_files(case: LabelFileCase) -> None:
    with pytest.raises(TableFileError) as caught:
        parse(case.content)
    assert str(caught.value) == "labels" + case.error


def test_lines_need_no_line_ends() -> None:
    assert parse_labels(["2", "A B", "a.jpg 1 -1", "b.jpg -1 1", ""], "x").values.tolist() == [[1, 0], [0, 1]]
    assert parse_labels(["image_id,A", "a.jpg,1", "b.jpg,"], "x").values.tolist() == [[1], [UNKNOWN]]
