"""Data sets of strangers: each fault of dataset.json or a tar file is one line, and no name leads out of the folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training_data import ATTRIBUTES, members_of, write_dataset, write_dataset_file
from training import dataset_json, train
from training.cli_common import DataError
from training.dataset_json import MAX_COUNT, Shard, read_dataset
from training.shard_reader import decode, group_by_key, read_shard

NAMES = [
    "../x.tar",
    "../../etc/x",
    "/etc/passwd",
    "train-000000/../../x",
    "train-000000\0",
    "train-000000\n",
    "http://example.org/train-000000",
    "file:///etc/passwd",
    "train-00000\u0661",
    "c:\\x",
    "~/train-000000",
    "train-000000.tar",
    "dev-000000",
    "",
]
BROKEN = {
    "deep lists": b"[" * 100_000,
    "a deep field": b'{"format_version": 2, "image_size": ' + b'{"a":' * 100_000,
    "a nested value": b'{"format_version": ' + b"[" * 900 + b"]" * 900 + b"}",
    "not UTF-8": b'{"format_version": "\xff\xfe"}',
    "a number of 5000 digits": b'{"format_version": ' + b"9" * 5000 + b"}",
    "a field twice": b'{"format_version": 1, "format_version": 2}',
    "NaN": b'{"format_version": NaN}',
    "nothing": b"",
    "NUL": bytes(1000),
    "a text": b'"dataset"',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(write_dataset(tmp_path / "data", {"train-000000": 3, "test-000000": 1}))


def shard_of(folder: Path, samples: int) -> Shard:
    path = folder / "shards" / "train-000000.tar"
    return Shard(str(path), samples, path.stat().st_size, "0" * 64)


def entry(**changes: Any) -> dict[str, Any]:
    known = {"name": "train-000000", "split": "train", "samples": 3, "bytes": 10, "sha256": "0" * 64}
    return {**known, **changes}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_shard_is_named_by_its_split_and_a_number(folder: Path, name: str) -> None:
    write_dataset_file(folder, {}, shards=[entry(name=name)])
    with pytest.raises(DataError, match=r"dataset\.json: field 'name' of shard 1: found .*, expected a name such as"):
        read_dataset(str(folder))


def test_a_shard_is_listed_once(folder: Path) -> None:
    write_dataset_file(folder, {}, shards=[entry(), entry(split="test")])
    with pytest.raises(DataError, match=r"field 'name' of shard 2: found \"train-000000\", expected each shard once"):
        read_dataset(str(folder))


@pytest.mark.parametrize("field", ["samples", "bytes"])
@pytest.mark.parametrize("value", [MAX_COUNT + 1, 10**400, 1e308, float("inf"), float("nan"), -1, True, "3", None])
def test_counts_are_whole_numbers_of_a_possible_size(folder: Path, field: str, value: object) -> None:
    write_dataset_file(folder, {}, shards=[entry(**{field: value})])
    with pytest.raises(DataError, match=rf"field '{field}' of shard 'train-000000': found .*, expected a whole number"):
        read_dataset(str(folder))


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_json_that_is_no_dataset_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (folder / "dataset.json").write_bytes(content)
    assert train.main([f"--data={folder}", f"--output={folder / 'run'}", "--device=cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"attparse-train: {folder}/dataset.json: ")
    assert len(line) < 1000
    assert not (folder / "run" / "last.pt").exists()


def test_a_dataset_json_of_gigabytes_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_json, "MAX_JSON_BYTES", 100)
    with pytest.raises(DataError, match=r"dataset\.json: found \d+ bytes, expected at most 100"):
        read_dataset(str(folder))


@pytest.mark.parametrize("label", ["true", "false", "1.0", '"1"', "2", "-1", "[]"])
def test_a_label_is_0_or_1_or_null(label: str) -> None:
    sample = {**members_of(1), "__key__": "a", "__url__": "s.tar"}
    labels = f'{{"labels": {{"Red": {label}, "Green": 0, "Blue": null}}}}'
    image, masks = np.empty((218, 178, 3), np.uint8), np.empty((0, 96, 76), np.uint8)
    with pytest.raises(DataError, match=r"^s\.tar: sample 'a': labels are not 0, 1 or null"):
        decode({**sample, "json": labels.encode()}, ATTRIBUTES, image, masks)
    assert decode({**sample, "json": labels.replace(label, "1", 1).encode()}, ATTRIBUTES, image, masks) == [1, 0, -1]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"[" * 100_000, "json cannot be parsed"),
        (b'{"labels": ' + b"9" * 5000, "json cannot be parsed"),
        (b"\xff", "json cannot be parsed"),
        (b"[]", "json has no labels by name"),
        (b'{"labels": 3}', "json has no labels by name"),
        (b'{"labels": ["Red", "Green", "Blue"]}', "json has no labels by name"),
        (b"{}", "json has no labels by name"),
    ],
)
def test_a_description_of_another_kind_is_one_line(content: bytes, what: str) -> None:
    sample = {**members_of(1), "__key__": "a", "__url__": "s.tar", "json": content}
    with pytest.raises(DataError, match=rf"^s\.tar: sample 'a': {what}[^\n]*\Z"):
        decode(sample, ATTRIBUTES, np.empty((218, 178, 3), np.uint8), np.empty((0, 96, 76), np.uint8))


@pytest.mark.parametrize("name", ["../../x.jpg", "/etc/x.jpg", "\x1b[31m\n.jpg", ".jpg", "c:\\x.jpg", "a.__url__"])
def test_names_of_members_are_keys_and_not_paths(folder: Path, name: str) -> None:
    (folder / "shards" / "test-000000.tar").write_bytes(tar_with(name))
    write_dataset_file(folder, {"train-000000": 3, "test-000000": 1})
    (read,) = read_shard(read_dataset(str(folder)).shards_of("test")[0])
    assert read["__url__"] == f"{folder}/shards/test-000000.tar"
    with pytest.raises(DataError, match=r"test-000000\.tar: sample '[^\n\x1b]*': no jpg|cannot be decoded") as caught:
        decode(read, ATTRIBUTES, np.empty((218, 178, 3), np.uint8), np.empty((0, 96, 76), np.uint8))
    assert len(str(caught.value).splitlines()) == 1


def tar_with(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
        tar.addfile(info)
    return stream.getvalue()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, b"x", b"L", b"S"]
)
def test_a_member_that_is_no_plain_file_is_refused(folder: Path, kind: bytes) -> None:
    (folder / "shards" / "train-000000.tar").write_bytes(tar_with("a.jpg", kind))
    with pytest.raises(
        DataError, match=r"train-000000\.tar: cannot be read past the start: member 'a\.jpg/?' is not a"
    ):
        list(read_shard(shard_of(folder, 1)))


def test_samples_of_the_same_key_are_refused() -> None:
    members = [("a.jpg", b""), ("b.jpg", b""), ("a.json", b"")]
    with pytest.raises(ValueError, match=r"sample 'a' appears twice"):
        list(group_by_key(members))
