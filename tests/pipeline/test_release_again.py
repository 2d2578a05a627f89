"""A release that was killed is made again in the same folder; the files of others are left alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest

from pipeline import storage
from pipeline.cli import main
from pipeline.config import SourceDataset
from pipeline.formats.dataset_json import write_dataset_file
from pipeline.release.release import UNFINISHED
from regions.attributes import parse_table
from tests.releases import error_line, files_of
from tests.synthetic import Shards, annotated, rejected, write_output

WRITES = 12
"""Files that a release of two shards writes, the mark of an unfinished one included."""


class Killed(BaseException):
    """Ends a release as a signal does: nothing is tidied up."""


def write_run(folder: Path) -> Path:
    shards: Shards = {
        "train-000000": [annotated(image_id="a.jpg"), rejected(image_id="b.jpg")],
        "test-000000": [annotated(image_id="c.jpg")],
    }
    write_output(folder, shards)
    return folder / "out"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and its undisturbed release ``whole``."""
    folder = tmp_path_factory.mktemp("released")
    assert release(write_run(folder), folder / "whole") == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_of(folder)}


def release(run: Path, output: Path, *options: str) -> int:
    return main(["release", str(run), f"--output={output}", *options])


def killed_release(run: Path, output: Path, write: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Make a release that is killed while it writes a file; return how many files it began to write."""
    begun = 0
    create = storage.create

    @contextlib.contextmanager
    def killing(path: str) -> Iterator[BinaryIO]:
        nonlocal begun
        begun += 1
        if begun == write:
            folder, _, name = path.rpartition("/")
            Path(folder, f".{name}.0.tmp").write_bytes(b"half")
            monkeypatch.setattr(storage, "delete", lambda _: None)
            raise Killed
        with create(path) as stream:
            yield stream

    monkeypatch.setattr(storage, "create", killing)
    with contextlib.suppress(Killed):
        assert release(run, output) == 0
    monkeypatch.undo()
    return begun


@pytest.mark.parametrize("write", range(1, WRITES + 1))
def test_a_release_killed_at_any_write_is_made_again_to_the_same_bytes(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    run, whole = released / "out", contents(released / "whole")
    assert killed_release(run, tmp_path / "rel", write, monkeypatch) == write
    assert contents(tmp_path / "rel") != whole
    assert release(run, tmp_path / "rel") == 0
    assert contents(tmp_path / "rel") == whole


def test_a_release_writes_as_many_files_as_are_tried(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed_release(run, tmp_path / "rel", WRITES + 1, monkeypatch) == WRITES


def test_an_unfinished_release_goes_on_with_the_same_options_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_release(run, tmp_path / "rel", WRITES - 1, monkeypatch)
    before = contents(tmp_path / "rel")
    for other in (["--without_labels"], ["--resolution=source"], ["--creator=me"]):
        line = error_line(capsys, "release", run, f"--output={tmp_path / 'rel'}", *other)
        assert "the unfinished release of another run, or with other options" in line
    document = json.loads((run / "dataset.json").read_text())
    (run / "dataset.json").write_text(json.dumps({**document, "seed": 9}))
    assert "another run" in error_line(capsys, "release", run, f"--output={tmp_path / 'rel'}")
    assert contents(tmp_path / "rel") == before


@pytest.mark.parametrize("name", ["notes.txt", "masks/val-000007.tar", "README.md/x"])
def test_files_of_others_in_an_unfinished_release_are_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    killed_release(run, tmp_path / "rel", 5, monkeypatch)
    (tmp_path / "rel" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "rel" / name).write_text("x")
    line = error_line(capsys, "release", run, f"--output={tmp_path / 'rel'}")
    assert f"{name} is there, which is not part of the release" in line
    assert (tmp_path / "rel" / name).read_text() == "x"


def test_a_finished_release_and_a_folder_that_has_a_readme_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(run, tmp_path / "rel") == 0
    assert not (tmp_path / "rel" / UNFINISHED).exists()
    assert "not empty" in error_line(capsys, "release", run, f"--output={tmp_path / 'rel'}")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "README.md").write_text("mine")
    assert "not empty, README.md is there" in error_line(capsys, "release", run, f"--output={tmp_path / 'own'}")


NAMES = ("\U0001f600 Smile", "a|b`c$d<e>\nf", "=1+1")
SOURCE = SourceDataset(
    name='Evil\n---\n# x: "y" <script>|*b*\U0001f600', url="javascript:alert(1)", license="```\n# x", citation="```\n$x"
)


def test_the_text_of_others_is_text_in_every_file(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    lines = [f"{json.dumps(name, ensure_ascii=False)} = ['nose']" for name in NAMES]
    text = "\n".join(['name = "t|`x`"', "[attributes]", *lines, "[regions]", '"r|<b>\\n*x*" = [1, 2, 3]'])
    table = parse_table(text, "t.toml")
    bad_detail = rejected(image_id="-b.jpg", detail="=cmd|' /C calc'!A0")
    sample = annotated(image_id="a.jpg", labels=[1, 1, 0], table=table)
    _, dataset = write_output(tmp_path, {"train-000000": [sample, bad_detail]}, table=table)
    write_dataset_file(str(tmp_path / "out"), msgspec.structs.replace(dataset, source=SOURCE))
    assert release(tmp_path / "out", tmp_path / "rel") == 0
    assert main(["verify", str(tmp_path / "rel")]) == 0
    card = (tmp_path / "rel" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["pretty_name"].endswith(f"({SOURCE.name})")
    body = card.split("---\n", 2)[2]
    assert 'Evil --- # x: "y" \\<script\\>\\|\\*b\\*\U0001f600' in body
    assert "r\\|\\<b\\> \\*x\\*" in body and "`` t|`x` ``" in body and "apply: \\`\\`\\` # x" in body
    assert "\n````\n```\n$x\n" in body
    assert (tmp_path / "rel" / "rejects.csv").read_text().splitlines()[1].startswith("'-b.jpg,train,")
    assert ",'=cmd|' /C calc'!A0," in (tmp_path / "rel" / "rejects.csv").read_text()
    croissant = json.loads((tmp_path / "rel" / "croissant.json").read_text())
    assert SOURCE.name is not None and SOURCE.name in croissant["description"]


def test_a_region_with_the_name_of_a_column_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = parse_table('name = "t"\n[attributes]\nA = ["key"]\n[regions]\nkey = [1, 2, 3]', "t.toml")
    write_output(tmp_path, {"train-000000": [annotated(labels=[1], table=table)]}, table=table)
    line = error_line(capsys, "release", tmp_path / "out", f"--output={tmp_path / 'rel'}")
    assert "region 'key' has the name of a column of landmarks.parquet" in line
