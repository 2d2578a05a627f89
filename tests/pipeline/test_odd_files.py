"""``attparse run`` with text files that are none, from the command line: exit code 2 and one line, at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.pipeline.test_dataset import POINT_NAMES
from tests.synthetic import SMALL_TABLE

OPTIONS = ("labels", "partition", "bboxes", "points", "landmarks", "attribute_table")
CONTENTS = {
    "labels": "image_id,Bald,Big_Nose,Young\na.jpg,1,0,1\n",
    "partition": "a.jpg 0\n",
    "bboxes": "image_id,x,y,width,height\na.jpg,1,2,3,4\n",
    "points": f"1\n{POINT_NAMES}\na.jpg 1 2 3 4 5 6 7 8 9 10\n",
    "landmarks": "image_name," + ",".join(f"{axis}_{i}" for axis in "xy" for i in range(68)) + "\na.jpg" + ",9" * 136,
    "attribute_table": SMALL_TABLE,
}


def error_of(tmp_path: Path, capsys: pytest.CaptureFixture[str], **files: str) -> str:
    """Return the message of a run over one image, of which some text files are others."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    paths = {option: str(tmp_path / option) for option in OPTIONS}
    for option, content in CONTENTS.items():
        Path(paths[option]).write_text(content)
    options = [f"--{option}={path}" for option, path in (paths | files).items()]
    output = tmp_path / "out"
    assert main(["run", f"--images={tmp_path / 'images'}", f"--output={output}", *options]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("attparse: ") and errors.count("\n") == 1
    assert not output.exists()
    return errors


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device")
def test_a_device_is_no_text_file(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(tmp_path, capsys, **{option: "/dev/zero"}).startswith("attparse: /dev/zero:")


@pytest.mark.parametrize("option", OPTIONS)
def test_a_huge_file_without_a_line_end_is_not_held(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as stream:
        stream.truncate(20 << 30)
    assert error_of(tmp_path, capsys, **{option: str(path)}).startswith(f"attparse: {path}:")


@pytest.mark.parametrize("content", ['"', "\ufeff2\x1d\n", "\x1f\u008b\u0008", "2\n\x85\n", "image_id\u2028,a\n1,1\n"])
@pytest.mark.parametrize("option", OPTIONS)
def test_odd_texts(option: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd").write_text(content)
    assert error_of(tmp_path, capsys, **{option: str(tmp_path / "odd")}).startswith(f"attparse: {tmp_path / 'odd'}:")
