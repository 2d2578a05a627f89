"""Reading tables: both layouts, and a message with file, line, found and expected for every bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.inputs import text_tables
from regions.text_tables import Row, Table

TEXT = "2\nA B\na.jpg 1 -1\nb.jpg -1 1\n"
ROWS = [(3, "a.jpg", ["1", "-1"]), (4, "b.jpg", ["-1", "1"])]


def read(
    tmp_path: Path, content: bytes | str | str, num_values: int | int | None | None = None
) -> tuple[Table, list[Row]]:
    path = tmp_path / "table.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = text_tables.read_table(str(path), num_values)
    return table, list(table.rows)


def error_of(tmp_path: Path, content: bytes | str, num_values: int | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(tmp_path, content, num_values)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "table.txt"))
    assert "\n" not in message
    return message.removeprefix(str(tmp_path / "table.txt"))


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        TEXT.rstrip("\n"),
        TEXT + "\n\n  \n",
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\r\n") + "\r\n",
        "\ufeff" + TEXT,
        TEXT.replace("\nA B", "\nimage_id A B"),
        TEXT.replace(" ", "   "),
        TEXT.replace(" ", "\t"),
    ],
    ids=["lf", "no last newline", "blank end", "crlf", "crlf blank end", "bom", "id column", "wide", "tabs"],
)
def test_text_layout(tmp_path: Path, content: str) -> None:
    table, rows = read(tmp_path, content)
    assert table.columns == ["A", "B"]
    assert rows == ROWS


@pytest.mark.parametrize(
    "image_id", ["my photo.jpg", "a b c.png", "sub/a b.jpg", "ünï códe.jpg", "顔.jpg", "a,b.jpg", "1.jpg"]
)
def test_ids_of_the_text_layout(tmp_path: Path, image_id: str) -> None:
    _, rows = read(tmp_path, f"1\nA B\n{image_id} 1 -1\n")
    assert rows == [(3, image_id, ["1", "-1"])]


def test_text_without_header(tmp_path: Path) -> None:
    table, rows = read(tmp_path, "a.jpg 0\nb c.jpg 2\n", num_values=1)
    assert table.columns == []
    assert rows == [(1, "a.jpg", ["0"]), (2, "b c.jpg", ["2"])]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("id_column", text_tables.ID_COLUMNS)
def test_csv(tmp_path: Path, id_column: str, start: str, end: str) -> None:
    lines = [f"{id_column}, A ,B", "a.jpg,1,-1", '"x, y.jpg",-1,1', ""]
    table, rows = read(tmp_path, start + end.join(lines) + end)
    assert table.columns == ["A", "B"]
    assert rows == [(2, "a.jpg", ["1", "-1"]), (3, "x, y.jpg", ["-1", "1"])]


def test_csv_cell_over_two_lines(tmp_path: Path) -> None:
    _, rows = read(tmp_path, 'image_id,A\n"a\nb.jpg",1\nc.jpg,1\n')
    assert [(row.image_id, row.values) for row in rows] == [("a\nb.jpg", ["1"]), ("c.jpg", ["1"])]
    assert rows[1].line == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ":1: empty, expected CelebA's text layout or CSV"),
        ("\n\n", ":1: empty, expected CelebA's text layout or CSV"),
        ("\n" + TEXT, ":1: empty, expected CelebA's text layout or CSV"),
        ("2\n", ":2: empty, expected the names of the values"),
        ("2\n\na.jpg 1 1\n", ":2: empty, expected the names of the values"),
        ("2\nimage_id\n", ":2: empty, expected the names of the values"),
        ("2\nA B\n", ":1: 0 rows in the file, expected 2 as in line 1"),
        ("3\nA B\na.jpg 1 -1\nb.jpg -1 1\n", ":1: 2 rows in the file, expected 3 as in line 1"),
        ("1\nA B\na.jpg 1 -1\nb.jpg -1 1\n", ":1: 2 rows in the file, expected 1 as in line 1"),
        ("2\nA B\na.jpg 1 -1\nb.jpg -1\n", ":4: 1 value, expected an image id and 2 values"),
        ("1\nA B\na.jpg 1 -1 1\n", ":3: 3 values, expected an image id and 2 values"),
        ("1\nA B\na.jpg\t1\t-1\t1\n", ":3: 3 values, expected an image id and 2 values"),
        ("1\nA B\n1 1 -1 1\n", ":3: 3 values, expected an image id and 2 values"),
        ("2\nA B\na.jpg 1 -1\n\nb.jpg -1 1\n", ":4: 0 values, expected an image id and 2 values"),
        (
            "image_id A B\na.jpg 1 1\n",
            ":1: 'image_id A B', expected the number of rows (CelebA's layout) or a CSV header",
        ),
        ("\u00b2\nA\na.jpg 1\n", ":1: '\u00b2', expected the number of rows (CelebA's layout) or a CSV header"),
        ("id;A;B\n", ":1: 'id;A;B', expected the number of rows (CelebA's layout) or a CSV header"),
        ("a.jpg,1\n", ":1: first column is 'a.jpg', expected the image id: image_id, image_name,"),
        ("image_id,A,B\na.jpg,1\n", ":2: 2 columns, expected 3 as in line 1"),
        ("image_id,A,B\na.jpg,1,1\nb.jpg,1,1,1\n", ":3: 4 columns, expected 3 as in line 1"),
        ("image_id,A\na.jpg,1\n\nb.jpg,1\n", ":3: 0 columns, expected 2 as in line 1"),
        ('image_id,A\n"a.jpg,1\n', ":2: not valid CSV: unexpected end of data"),
        ('image_id,A\na.jpg,"1"1\n', ":2: not valid CSV: "),
        ('image_id,"A\n', ":1: not valid CSV: "),
        ("image_id," + "A" * 200_000 + "\n", ":1: not valid CSV: field larger than field limit"),
    ],
)
def test_bad_tables(tmp_path: Path, content: str, message: str) -> None:
    assert error_of(tmp_path, content).startswith(message)


@pytest.mark.parametrize("content", ["a.jpg\n", "a.jpg 0 1\n"])
def test_bad_text_without_header(tmp_path: Path, content: str) -> None:
    assert ", expected an image id and 1 value" in error_of(tmp_path, content, num_values=1)


def test_the_line_that_is_not_utf8_is_named_far_into_a_file(tmp_path: Path) -> None:
    rows = [b"%06d.jpg 1" % i for i in range(5000)]
    rows[4321] = "fa\u00e7ade.jpg 1".encode("latin-1")
    message = error_of(tmp_path, b"5000\nA\n" + b"\n".join(rows))
    assert message == ":4324: b'\\xe7' after 'fa', expected UTF-8 text"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    assert error_of(tmp_path, TEXT.encode(encoding)).endswith("expected UTF-8 text")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.txt: No such file or directory"):
        text_tables.read_table(str(tmp_path / "absent.txt"))
    with pytest.raises(InputError, match="Is a directory"):
        text_tables.read_table(str(tmp_path))


def test_numbers(tmp_path: Path) -> None:
    table, rows = read(tmp_path, "image_id,x,y\na.jpg,1.5,-2\n")
    assert text_tables.numbers(table, rows[0]) == [1.5, -2.0]
    assert text_tables.numbers(table, rows[0], [1]) == [-2.0]


@pytest.mark.parametrize(
    "value", ["", "x", "1,5", "0x10", "1_000", "\uff11\uff12", "nan", "inf", "-inf", "1e39", "1e400", "-2e9"]
)
def test_what_is_no_number(tmp_path: Path, value: str) -> None:
    table, rows = read(tmp_path, f'image_id,x,y\na.jpg,1,"{value}"\n')
    with pytest.raises(InputError) as caught:
        text_tables.numbers(table, rows[0])
    assert str(caught.value).startswith(f"{table.source}:2: {value!r}, expected a number")
