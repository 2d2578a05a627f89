"""What a former run left, whole or spoiled: a shard is done only where its manifest and its tar file agree."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.formats.manifest import SUMMARY_KEY, completed_shard
from tests.synthetic import annotated, rejected, write_output

NAME = "train-000000"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_output(folder, {NAME: [annotated(), rejected()]})
    return folder / "out"


def _summary(content: bytes) -> Callable[[Path], None]:
    """Return what gives a manifest another summary."""

    def change(path: Path) -> None:
        table = pq.ParquetFile(path, pre_buffer=False).read(use_threads=False)
        pq.write_table(table.replace_schema_metadata({SUMMARY_KEY: content}), path)

    return change


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(target: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return change


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


DAMAGES = {
    "gone": Path.unlink,
    "empty, as after a power failure": lambda path: path.write_bytes(b""),
    "zeros, as after a power failure": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "cut": _cut,
    "a pipe": _fifo,
    "a folder": _folder,
    "a link to nothing": _link("nowhere"),
    "a link to itself": lambda path: _link(path.name)(path),
    "a device": _link("/dev/zero"),
}
SUMMARIES = {
    "no JSON": b"{",
    "no UTF-8": b'{"name": "\xff"}',
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "other types": b'{"name": 3}',
    "missing fields": b'{"name": "train-000000"}',
}


def test_a_whole_shard_is_done(whole: Path) -> None:
    tar = str(whole / "shards" / f"{NAME}.tar")
    summary = completed_shard(str(whole), NAME, "f", tar)
    assert summary is not None
    assert (summary.samples, summary.rejected) == (1, 1)
    assert completed_shard(str(whole), NAME, "of other options", tar) is None


@pytest.mark.parametrize("file", [f"shards/{NAME}.tar", f"manifest/{NAME}.parquet"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_spoiled_file_is_not_trusted(whole: Path, tmp_path: Path, file: str, damage: str) -> None:
    output = Path(shutil.copytree(whole, tmp_path / "out"))
    DAMAGES[damage](output / file)
    assert completed_shard(str(output), NAME, "f", str(output / "shards" / f"{NAME}.tar")) is None


@pytest.mark.parametrize("content", SUMMARIES.values(), ids=SUMMARIES)
def test_a_spoiled_summary_is_not_trusted(whole: Path, tmp_path: Path, content: bytes) -> None:
    output = Path(shutil.copytree(whole, tmp_path / "out"))
    _summary(content)(output / "manifest" / f"{NAME}.parquet")
    assert completed_shard(str(output), NAME, "f", str(output / "shards" / f"{NAME}.tar")) is None
