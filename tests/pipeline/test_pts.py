""".pts files: with and without header, where they count from, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.inputs.pts import parse_pts
from tests.faces import face
from tests.landmark_files import NOT_NUMBERS, pts_file

FACE = face()


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\n\n"], ids=["lf", "crlf", "spaces", "blank lines"])
@pytest.mark.parametrize(
    "header",
    [
        ("version: 1", "n_points:  68"),
        ("version: 1", "n_points: 68"),
        ("version: 1", "npoints: 68"),
        ("version:1", "n_points:68"),
        (),
        None,
    ],
)
def test_each_layout(header: tuple[str, ...] | None, end: str) -> None:
    points = parse_pts(pts_file(FACE, header=header, end=end), "a.pts")
    assert points is not None
    np.testing.assert_allclose(points, FACE, atol=1e-5)


def test_the_middle_of_the_first_pixel_is_1() -> None:
    points = parse_pts("\n".join(f"{1 + i} 1.0" for i in range(68)), "a.pts")
    assert points is not None and points.shape == (68, 2)
    assert points[:3].tolist() == [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5]]


def with_line(number: int, line: str) -> str:
    """Return a .pts file with a header, in which one line reads differently."""
    lines = pts_file(FACE).splitlines()
    lines[number - 1] = line
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: 0 points, expected 68"),
        (" \n\n", ":1: 0 points, expected 68"),
        ("version: 1\nn_points: 68\n{\n}\n", ":4: 0 points, expected 68"),
        (pts_file(FACE[:67]), ":71: 67 points, expected 68"),
        (pts_file(FACE[:67], header=None), ":67: 67 points, expected 68"),
        (pts_file(np.vstack([FACE, FACE[:1]])), ":73: 69 points, expected 68"),
        (with_line(2, "n_points: 49"), ":2: '49' points, expected 68"),
        (with_line(2, "npoints: many"), ":2: 'many' points, expected 68"),
        (with_line(1, "#version"), ":1: '#version', expected 'version: 1', 'n_points: 68' or '{'"),
        (with_line(3, ""), ":1: 'version:', expected a number"),
        (with_line(72, "pose:"), ":72: 'pose:', expected '}' as the last line"),
        (with_line(72, ""), ":71: '193.693600 307.307600', expected '}' as the last line"),
        (pts_file(FACE) + "pose:\n", ":73: 'pose:', expected '}' as the last line"),
        (pts_file(FACE) + pts_file(FACE), ":72: '}', expected x and y"),
        ("{", ":1: '{', expected '}' as the last line"),
        (with_line(9, "100.5"), ":9: '100.5', expected x and y"),
        (with_line(9, "1 2 3"), ":9: '1 2 3', expected x and y"),
        (with_line(9, "100.5 abc"), ":9: 'abc', expected a number"),
        (with_line(9, "100,5 3"), ":9: '100,5', expected a number"),
        (with_line(9, "nan 3e9"), ":9: '3e9', expected a number of at most 1e+09"),
        (with_line(9, "nan"), ":9: 'nan', expected x and y"),
        (with_line(9, "3 1e10"), ":9: '1e10', expected a number of at most 1e+09"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_pts(text, "a.pts")
    assert str(caught.value) == "a.pts" + message


@pytest.mark.parametrize("value", [value for value in NOT_NUMBERS if value])
def test_a_point_without_a_number_leaves_the_face_unknown(value: str) -> None:
    assert parse_pts(with_line(9, f"{value} 3"), "a.pts") is None


PIECES = ["{", "}", "n_points: 68", "n_points: 1", "1 2", "1", "", "nan 1"]


@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES)).map("\n".join))
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"^a:\d+: .*$"):
        parse_pts(text, "a")
