"""Label files of many makers: what they hold, or why they are refused; the same for every reader."""

from __future__ import annotations

from dataclasses import dataclass

EXPECTED = "expected -1 or 1, 0 or 1, True or False, or nothing where it is unknown"
"""End of the message about a value that is no label."""


@dataclass(frozen=True)
class LabelFileCase:
    """A label file and what a reader makes of it.

    Attributes
    ----------
    name : str
    content : bytes
    image_ids : tuple of str
    values : tuple of tuple of int
        1 yes, 0 no, -1 unknown.
    error : str
        How the message goes on after the file's name, where the file is refused; else empty.
    attributes : tuple of str
    """

    name: str
    content: bytes
    image_ids: tuple[str, ...] = ("a.jpg", "b.jpg")
    values: tuple[tuple[int, ...], ...] = ((1, 0), (0, 1))
    error: str = ""
    attributes: tuple[str, ...] = ("A", "B")


Case = LabelFileCase

READABLE = [
    Case("CelebA", b"2\nA B\na.jpg 1 -1\nb.jpg -1 1\n"),
    Case("CelebA, padded", b"2\nA B \na.jpg  1 -1\nb.jpg -1  1\n"),
    Case("CelebA, image_id in the header", b"2\nimage_id A B\na.jpg 1 -1\nb.jpg -1 1\n"),
    Case("CelebA, CRLF", b"2\r\nA B\r\na.jpg 1 -1\r\nb.jpg -1 1\r\n"),
    Case("CelebA, byte order mark", b"\xef\xbb\xbf2\nA B\na.jpg 1 -1\nb.jpg -1 1\n"),
    Case("CelebA, empty lines at the end", b"2\nA B\na.jpg 1 -1\nb.jpg -1 1\n\n \n\r\n"),
    Case("CelebA, no line end at the end", b"2\nA B\na.jpg 1 -1\nb.jpg -1 1"),
    Case("CelebA, spaces in names", b"2\nA B\nmy a.jpg 1 -1\nAnn Lee/b.jpg -1 1\n", ("my a.jpg", "Ann Lee/b.jpg")),
    Case("CelebA, commas in names", b"2\nA B\na,1.jpg 1 -1\nb.jpg -1 1\n", ("a,1.jpg", "b.jpg")),
    Case("CelebA, 0/1", b"2\nA B\na.jpg 1 0\nb.jpg 0 1\n"),
    Case("CelebA, 0 beside -1", b"2\nA B\na.jpg 1 -1\nb.jpg 0 1\n", values=((1, 0), (-1, 1))),
    Case("CelebA, decimals", b"2\nA B\na.jpg 1.0 -1.0\nb.jpg 0.0 1\n", values=((1, 0), (-1, 1))),
    Case("CSV", b"image_id,A,B\na.jpg,1,-1\nb.jpg,-1,1\n"),
    Case("CSV, 0/1", b"image_id,A,B\na.jpg,1,0\nb.jpg,0,1\n"),
    Case("CSV, other name of the id column", b"filename,A,B\na.jpg,1,0\nb.jpg,0,1\n"),
    Case("CSV, CRLF, byte order mark", b"\xef\xbb\xbfimage_id,A,B\r\na.jpg,1,-1\r\nb.jpg,-1,1\r\n\r\n"),
    Case(
        "CSV, quoted", b'"image_id","A","B"\n"a, 1.jpg","1","-1"\n"b ""2"".jpg","-1","1"\n', ("a, 1.jpg", 'b "2".jpg')
    ),
    Case("CSV, spaces about cells", b"image_id, A, B\na.jpg, 1 ,-1\n b.jpg,-1, 1\n"),
    Case(
        "CSV, spaces in attribute names",
        b"image_id,5 o Clock,B\na.jpg,1,-1\nb.jpg,-1,1\n",
        attributes=("5 o Clock", "B"),
    ),
    Case("CSV, truth values", b"image_id,A,B\na.jpg,True,false\nb.jpg,FALSE,TRUE\n"),
    Case("CSV, truth values beside -1", b"image_id,A,B\na.jpg,True,False\nb.jpg,-1,0\n", values=((1, 0), (0, -1))),
    Case("CSV, decimals", b"image_id,A,B\na.jpg,1.0,0.0\nb.jpg,0.0,1.0\n"),
    Case("CSV, other spellings of numbers", b"image_id,A,B\na.jpg,+1,-1.\nb.jpg,-1.00, 1.000\n"),
    Case("CSV, the id column in capitals", b"Image_ID,A,B\na.jpg,1,0\nb.jpg,0,1\n"),
    Case("CSV, empty cells", b"image_id,A,B\na.jpg,1,\nb.jpg, ,0\n", values=((1, -1), (-1, 0))),
    Case("CSV, a single -1 makes every 0 unknown", b"image_id,A,B\na.jpg,0,0\nb.jpg,1,-1\n", values=((-1, -1), (1, 0))),
    Case("CSV, letters of other languages", "image_id,A,B\nä.jpg,1,0\n顔.jpg,0,1\n".encode(), ("ä.jpg", "顔.jpg")),
    Case(
        "CSV, line separators of Unicode in names",
        "image_id,A,B\na\u2028.jpg,1,0\nb.jpg,0,1\n".encode(),
        ("a\u2028.jpg", "b.jpg"),
    ),
]

REFUSED = [
    Case("empty", b"", error=":1: empty, expected CelebA's text layout or CSV"),
    Case(
        "no layout",
        b"A B\na.jpg 1 1\n",
        error=":1: 'A B', expected the number of rows (CelebA's layout) or a CSV header",
    ),
    Case(
        "CSV, no header",
        b"a.jpg,1,1\n",
        error=":1: first column is 'a.jpg',"
        " expected the image id: image_id, image_name, filename, file_name, image, name_id",
    ),
    Case("CelebA, no names", b"1\n", error=":2: empty, expected the names of the values"),
    Case("CelebA, too few rows", b"3\nA B\na.jpg 1 1\n", error=":1: 1 row in the file, expected 3 as in line 1"),
    Case(
        "CelebA, too many rows",
        b"1\nA B\na.jpg 1 1\nb.jpg 1 1\n",
        error=":1: 2 rows in the file, expected 1 as in line 1",
    ),
    Case("CelebA, too few values", b"1\nA B\na.jpg 1\n", error=":3: 1 value, expected an image id and 2 values"),
    Case("CelebA, too many values", b"1\nA B\na.jpg 1 1 1\n", error=":3: 3 values, expected an image id and 2 values"),
    Case(
        "CelebA, empty line between rows",
        b"2\nA B\na.jpg 1 1\n\nb.jpg 1 1\n",
        error=":4: 0 values, expected an image id and 2 values",
    ),
    Case("CelebA, no rows", b"0\nA B\n", error=":2: no rows after the header, expected one per image"),
    Case(
        "CelebA, duplicate image",
        b"2\nA B\na.jpg 1 1\na.jpg 1 1\n",
        error=":4: duplicate row for image 'a.jpg' (first seen in line 3)",
    ),
    Case("CelebA, duplicate attribute", b"1\nA A\na.jpg 1 1\n", error=":2: duplicate attribute name 'A'"),
    Case("CelebA, no label", b"1\nA B\na.jpg 1 2\n", error=f":3: attribute 'B' is '2', {EXPECTED}"),
    Case("CSV, too few columns", b"image_id,A,B\na.jpg,1\n", error=":2: 2 columns, expected 3 as in line 1"),
    Case(
        "CSV, too many columns",
        b"image_id,A,B\na.jpg,1,1\nb.jpg,1,1,1\n",
        error=":3: 4 columns, expected 3 as in line 1",
    ),
    Case(
        "CSV, empty line between rows",
        b"image_id,A,B\na.jpg,1,1\n\nb.jpg,1,1\n",
        error=":3: 0 columns, expected 3 as in line 1",
    ),
    Case("CSV, no rows", b"image_id,A,B\n", error=":1: no rows after the header, expected one per image"),
    Case(
        "CSV, duplicate image",
        b"image_id,A,B\na.jpg,1,1\nb.jpg,1,1\nb.jpg,1,1\n",
        error=":4: duplicate row for image 'b.jpg' (first seen in line 3)",
    ),
    Case("CSV, duplicate attribute", b"image_id,A,A\na.jpg,1,1\n", error=":1: duplicate attribute name 'A'"),
    Case(
        "CSV, attribute without a name",
        b"image_id,A,\na.jpg,1,1\n",
        error=":1: column 3 has no name, expected an attribute name",
    ),
    Case("CSV, no label", b"image_id,A,B\na.jpg,1,nan\n", error=f":2: attribute 'B' is 'nan', {EXPECTED}"),
    Case("CSV, ten is no label", b"image_id,A,B\na.jpg,1,10\n", error=f":2: attribute 'B' is '10', {EXPECTED}"),
    Case(
        "CSV, a fraction is no label", b"image_id,A,B\na.jpg,1,0.05\n", error=f":2: attribute 'B' is '0.05', {EXPECTED}"
    ),
    Case(
        "a group separator after the number of rows",
        b"2\x1d\nA B\na.jpg 1 1\nb.jpg 1 1\n",
        error=":1: '2\\x1d', expected the number of rows (CelebA's layout) or a CSV header",
    ),
    Case(
        "digits that are not ASCII",
        "\uff12\nA B\na.jpg 1 1\nb.jpg 1 1\n".encode(),
        error=":1: '\uff12', expected the number of rows (CelebA's layout) or a CSV header",
    ),
    Case(
        "a number of rows with 5,000 digits",
        b"9" * 5000 + b"\nA B\n",
        error=f":1: '{'9' * 60}', expected the number of rows (CelebA's layout) or a CSV header",
    ),
    Case(
        "an attribute name with a control character",
        b"image_id,A\x1b[2J,B\na.jpg,1,1\n",
        error=":1: attribute name 'A\\x1b[2J', expected printable characters",
    ),
    Case(
        "a line without end",
        b"image_id,A,B\n" + b"a" * 1_100_000,
        error=":2: line of more than 1,048,576 characters, expected a text table",
    ),
    Case(
        "nothing but NUL bytes",
        bytes(1_100_000),
        error=":1: line of more than 1,048,576 characters, expected a text table",
    ),
    Case(
        "CSV, a quote that takes in the rest of the file",
        b'image_id,A,B\n"a.jpg,1,1\n' + b"".join(b"%07d.jpg,1,1\n" % i for i in range(9000)),
        error=":2: not valid CSV: field larger than field limit (131072)",
    ),
    Case(
        "CSV, unterminated quote",
        b'image_id,A,B\nb.jpg,1,1\n"a.jpg,1,1\nc.jpg,1,1\n',
        error=":3: not valid CSV: unexpected end of data",
    ),
    Case("NUL", b"image_id,A,B\na.jpg,1,1\nb\0.jpg,1,1\n", error=":3: b'\\x00' after 'b', expected UTF-8 text"),
    Case("Latin-1", b"2\nA B\na.jpg 1 1\nfa\xe7ade.jpg 1 1\n", error=":4: b'\\xe7' after 'fa', expected UTF-8 text"),
    Case("UTF-16", "2\nA B\na.jpg 1 1\nb.jpg 1 1\n".encode("utf-16"), error=":1: b'\\xff', expected UTF-8 text"),
    Case("MATLAB file", b"MATLAB 5.0 \xff\xfe", error=":1: b'\\xff' after 'MATLAB 5.0 ', expected UTF-8 text"),
]

LABEL_FILE_CASES = READABLE + REFUSED
