"""Manifests that are damaged on purpose: a fault in verify, a shard to build again, one line elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.building.kept_crops import KeptCrops
from pipeline.cli import main
from pipeline.formats.manifest import completed_shard
from pipeline.formats.parquet_files import MAX_GROUP_ROWS, read_parquet
from pipeline.formats.parquet_footer import ParquetError, read_footer
from pipeline.handlabel.index_file import csv_bytes, read_index
from pipeline.inputs.former_run import read_former_landmarks
from pipeline.verify import verify
from tests.releases import error_line, files_of
from tests.synthetic import annotated, jpeg_file, rejected, write_output

Change: TypeAlias = Callable[[Path], object]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one shard, with an image that can be annotated by hand."""
    write_output(tmp_path, {"train-000000": [annotated(image_id="a.jpg"), rejected(image_id="b.jpg", detail="x")]})
    (tmp_path / "images" / "b.jpg").write_bytes(jpeg_file())
    return tmp_path / "out"


def with_texts(name: str, first: bytes) -> Change:
    """Return a change of the first cell of a column of texts, which need not be UTF-8."""

    def change(path: Path) -> None:
        table = pq.read_table(path)
        values = [first, *(text and text.encode() for text in table[name].to_pylist()[1:])]
        changed = pa.array(values, pa.binary()).view(pa.string())
        pq.write_table(table.set_column(table.schema.get_field_index(name), name, changed), path)

    return change


def repeated(count: int, text: str) -> Change:
    """Return a change that makes a file of some hundred bytes with many rows of the same text."""

    def change(path: Path) -> None:
        metadata = pq.read_metadata(path).metadata
        columns = {
            name: pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([text]))
            for name in ("image_id", "status", "key")
        }
        table = pa.table(columns).replace_schema_metadata({"attparse.shard": metadata[b"attparse.shard"]})
        pq.write_table(table, path, row_group_size=count, store_schema=False, compression="zstd")

    return change


def without_numbers(path: Path) -> None:
    table = pq.read_table(path)
    values = pa.array([[float("nan")] * 136] * len(table), table.schema.field("landmarks").type)
    pq.write_table(table.set_column(table.schema.get_field_index("landmarks"), "landmarks", values), path)


def other_bytes(change: Callable[[bytes], bytes]) -> Change:
    return lambda path: path.write_bytes(change(path.read_bytes()))


HOSTILE: dict[str, Change] = {
    "an id that is not UTF-8": with_texts("image_id", b"\xff\xfe.jpg"),
    "a key that is half a letter": with_texts("key", b"\xc3"),
    "a detail with a surrogate": with_texts("detail", b"\xed\xa0\x80"),
    "landmarks that are not numbers": without_numbers,
    "an attribute that is not UTF-8": other_bytes(lambda content: content.replace(b"Bald", b"B\xffld")),
    "a million rows": repeated(1_000_000, "written"),
    "10 GB of text": repeated(MAX_GROUP_ROWS, "x" * 1_000_000),
    "no Parquet": other_bytes(lambda _: b"PAR1PAR1"),
    "half of it": other_bytes(lambda content: content[: len(content) // 2]),
}


@pytest.fixture(params=HOSTILE)
def hostile(run: Path, request: pytest.FixtureRequest) -> Path:
    HOSTILE[request.param](run / "manifest" / "train-000000.parquet")
    return run


def test_verify_names_a_hostile_manifest(hostile: Path) -> None:
    path = hostile / "manifest" / "train-000000.parquet"
    faults = list(verify(str(hostile)))
    assert faults
    assert all(fault.startswith(f"{path}: ") and "\n" not in fault for fault in faults)


def test_a_resume_builds_the_shard_of_a_hostile_manifest_again(tmp_path: Path) -> None:
    write_output(tmp_path, {"train-000000": [annotated(image_id="a.jpg"), rejected(image_id="b.jpg", detail="x")]})
    run = tmp_path / "out"
    path = run / "manifest" / "train-000000.parquet"
    intact = path.read_bytes()

    def summary() -> object:
        return completed_shard(str(run), "train-000000", "f", str(run / "shards" / "train-000000.tar"))

    for change in HOSTILE.values():
        path.write_bytes(intact)
        assert summary() is not None
        change(path)
        assert summary() is None


def test_a_resume_never_takes_the_manifest_of_another_shard(run: Path) -> None:
    path = run / "manifest" / "train-000000.parquet"
    path.rename(run / "manifest" / "train-000001.parquet")
    tar = (run / "shards" / "train-000000.tar").rename(run / "shards" / "train-000001.tar")
    assert completed_shard(str(run), "train-000001", "f", str(tar)) is None


@pytest.mark.parametrize("command", ["report", "preview", "handlabel", "release", "former run"])
@pytest.mark.parametrize("kind", ["an id that is not UTF-8", "a million rows", "10 GB of text"])
def test_a_hostile_manifest_is_one_line_in_every_command(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, kind: str
) -> None:
    hostile = run
    HOSTILE[kind](run / "manifest" / "train-000000.parquet")
    arguments: dict[str, list[object]] = {
        "report": ["report", hostile],
        "preview": ["preview", hostile, f"--output={tmp_path / 'p.png'}"],
        "handlabel": ["handlabel", "export", hostile, f"--output={tmp_path / 'todo'}"],
        "release": ["release", hostile, f"--output={tmp_path / 'rel'}"],
        "former run": [
            "run", f"--images={tmp_path / 'images'}", f"--labels={tmp_path / 'labels.csv'}",
            f"--landmarks={hostile}", f"--output={tmp_path / 'new'}",
        ],
    }  # fmt: skip
    (tmp_path / "labels.csv").write_text("image_id,Bald\nb.jpg,1\n")
    assert "train-000000" in error_line(capsys, *arguments[command])


def test_an_id_that_leads_out_of_the_folder_is_not_released(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_texts("image_id", b"../a.jpg")(run / "manifest" / "train-000000.parquet")
    line = error_line(capsys, "release", run, f"--output={tmp_path / 'rel'}")
    assert "train-000000.parquet: image_id '../a.jpg', expected a plain path" in line
    assert not files_of(tmp_path / "rel")


def test_the_landmarks_of_a_sound_run_are_read_all_the_same(run: Path) -> None:
    ((image_id, _),) = read_former_landmarks(str(run), ["manifest/train-000000.parquet"])
    assert image_id == "a.jpg"
    assert main(["verify", str(run)]) == 0


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[0.5] * 1000]), "'points.list.element' has 1000 values in 1 row"),
        (pa.array([["a", "b"]]), "texts within lists"),
    ],
)
def test_long_lists_and_lists_of_texts_are_not_read(tmp_path: Path, column: pa.Array, message: str) -> None:
    pq.write_table(pa.table({"points": column}), tmp_path / "a.parquet")
    with (tmp_path / "a.parquet").open("rb") as stream, pytest.raises(ParquetError, match=message):
        read_parquet(stream)


@pytest.mark.parametrize("text", ["=1+1", "-b.jpg", "@x", "+1 2", "\tx", "'=1", "''-a", "-3.5", "plain"])
def test_ids_that_look_like_formulas_survive_the_index(tmp_path: Path, text: str) -> None:
    header = ["file", "image_id", "reason", "sha256"]
    (tmp_path / "images.csv").write_bytes(csv_bytes([header, ["a.jpg", text, "no_face", "0"]]))
    (row,) = read_index(str(tmp_path))
    assert row.image_id == text
    cell = (tmp_path / "images.csv").read_text().splitlines()[1].split(",")[1]
    assert cell == "-3.5" or cell[0] not in "=+-@\t"


def test_no_byte_of_a_manifest_can_end_the_process(run: Path) -> None:
    content = (run / "manifest" / "train-000000.parquet").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=rng.integers(1, 9)):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(ParquetError):
            read_parquet(pa.BufferReader(bytes(damaged)))


def test_the_footer_states_what_pyarrow_reads(run: Path) -> None:
    path = run / "manifest" / "train-000000.parquet"
    metadata = pq.read_metadata(path)
    with path.open("rb") as stream:
        footer = read_footer(stream)
    assert [group.rows for group in footer] == [metadata.row_group(0).num_rows]
    for index, column in enumerate(footer[0].columns):
        chunk = metadata.row_group(0).column(index)
        assert ".".join(column.path) == chunk.path_in_schema
        assert (column.values, column.uncompressed_bytes) == (chunk.num_values, chunk.total_uncompressed_size)
        assert column.is_text == (chunk.physical_type == "BYTE_ARRAY")


@pytest.mark.parametrize("jpeg", [b"%!PS-Adobe-3.0", b"", jpeg_file(height=218, width=179), b"\xff\xd8" + bytes(99)])
def test_what_is_no_crop_is_never_taken_from_a_former_run(tmp_path: Path, jpeg: bytes) -> None:
    good, bad = annotated(image_id="a.jpg"), dataclasses.replace(annotated(image_id="c.jpg"), jpeg=jpeg)
    write_output(tmp_path, {"train-000000": [good, bad]})
    kept = KeptCrops(str(tmp_path / "out"), "train-000000")
    crop = kept.take("a.jpg")
    assert crop is not None and crop.jpeg == good.jpeg
    assert kept.take("c.jpg") is None
    kept.close()
