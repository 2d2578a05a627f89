"""Every kind of damage is named; a sound run has none."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.formats.dataset_json import read_dataset_file
from pipeline.formats.manifest import manifest_schema
from pipeline.formats.samples import SampleDescription, StoredSample, read_samples
from pipeline.verify import sample_problems, verify
from tests.synthetic import Shards, annotated, rejected, write_output


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two shards with three samples and one reject."""
    shards: Shards = {
        "train-000000": [annotated(image_id="a.jpg"), rejected(image_id="b.jpg"), annotated(image_id="c.jpg")],
        "test-000000": [annotated(image_id="d.jpg", labels=(0, 0, 0))],
    }
    write_output(tmp_path, shards)
    return tmp_path / "out"


def problems(run: Path) -> list[str]:
    return list(verify(str(run)))


def edit_dataset(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((run / "dataset.json").read_text())
    change(document)
    (run / "dataset.json").write_text(json.dumps(document))


def test_a_sound_run_has_no_problems(run: Path) -> None:
    assert problems(run) == []


@pytest.mark.parametrize("file", ["shards/train-000000.tar", "manifest/test-000000.parquet"])
def test_a_missing_file_is_named(run: Path, file: str) -> None:
    (run / file).unlink()
    assert any(str(run / file) in problem and "missing" in problem for problem in problems(run))


@pytest.mark.parametrize("file", ["shards/train-000001.tar", "manifest/notes.txt"])
def test_a_file_too_many_is_named(run: Path, file: str) -> None:
    (run / file).write_bytes(b"x")
    assert problems(run) == [f"{run / file}: not listed in dataset.json"]


@pytest.mark.parametrize("position", [0, 600, 5000, -1])
def test_one_flipped_bit_is_found(run: Path, position: int) -> None:
    path = run / "shards" / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    found = problems(run)
    assert f"{path}: sha256 differs from the one in dataset.json" in found
    assert all("train-000000" in problem for problem in found)


@pytest.mark.parametrize("length", [0, 100, 5000, -1])
def test_a_truncated_shard_is_found(run: Path, length: int) -> None:
    path = run / "shards" / "train-000000.tar"
    content = path.read_bytes()[:length]
    path.write_bytes(content)
    assert any(problem.startswith(f"{path}: {len(content)} bytes, expected") for problem in problems(run))


@pytest.mark.parametrize("key", ["samples", "rejected"])
def test_wrong_totals_are_found(run: Path, key: str) -> None:
    total = json.loads((run / "dataset.json").read_text())[key]
    edit_dataset(run, lambda document: document.update({key: total + 1}))
    groups = {"samples": "landmark sources", "rejected": "reject reasons"}[key]
    expected = f"{total} over its shards, {total} over its splits, {total} over its {groups}"
    assert problems(run) == [f"dataset.json: {key} is {total + 1}, but the sum is {expected}"]


def test_a_wrong_count_of_a_shard_is_found(run: Path) -> None:
    edit_dataset(run, lambda document: document["shards"][0].update(samples=1))
    path = run / "shards" / "train-000000.tar"
    manifest = run / "manifest" / "train-000000.parquet"
    assert problems(run) == [
        "dataset.json: samples is 3, but the sum is 2 over its shards",
        f"{path}: 2 readable samples, expected 1 as in dataset.json",
        f"{manifest}: samples is 2, expected 1 as in dataset.json",
    ]


def test_a_manifest_of_another_shard_is_found(run: Path) -> None:
    other = (run / "manifest" / "test-000000.parquet").read_bytes()
    (run / "manifest" / "train-000000.parquet").write_bytes(other)
    found = problems(run)
    path = run / "manifest" / "train-000000.parquet"
    assert f"{path}: samples is 1, expected 2 as in dataset.json" in found
    assert f"{path}: its written images differ from the samples of the tar file" in found
    assert f"{path}: 0 rejected images, expected 1 as in dataset.json" in found


def test_a_damaged_manifest_is_found(run: Path) -> None:
    path = run / "manifest" / "train-000000.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    assert problems(run) == [f"{path}: damaged, expected a manifest of attparse"]


def with_column(name, values):
    """Return a change of a manifest: one column with other values, or without the column where there are none."""

    def change(table):
        index = table.schema.get_field_index(name)
        return table.remove_column(index) if values is None else table.set_column(index, name, values(table[name]))

    return change


def without_first(column):
    return pa.array([None, *column.to_pylist()[1:]], column.type)


def each(value):
    return lambda column: pa.array([value] * len(column), column.type)


MANIFEST_FAULTS = [
    *((with_column(name, None), f"no column {name!r}") for name in manifest_schema(()).names),
    *(
        (with_column(name, without_first), f"column {name!r} without a value in 1 row")
        for name in ("image_id", "key", "split", "shard", "status", "labels", "height", "width", "sha256")
    ),
    (with_column("height", lambda column: column.cast(pa.string())), "column 'height' of type string"),
    (with_column("labels", lambda column: column.combine_chunks().field(0)), "column 'labels' of type bool"),
    (with_column("status", each("lost")), "status 'lost'"),
    (with_column("reason", each("ugly")), "reason 'ugly'"),
    (with_column("landmark_source", each("oracle")), "landmark_source 'oracle'"),
    (with_column("split", each("dev")), "split 'dev'"),
    (with_column("crop", each([0, 0, 1])), "crop of 3 numbers"),
    (with_column("points", each([0.5])), "points of 1 number"),
    (with_column("reason", each("no_face")), "column 'reason' that disagrees with status"),
    (with_column("crop", each(None)), "column 'crop' that disagrees with status"),
]


@pytest.mark.parametrize(("change", "fault"), MANIFEST_FAULTS)
def test_a_manifest_with_a_wrong_column_is_one_problem(run, change, fault):
    path = run / "manifest" / "train-000000.parquet"
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)
    assert problems(run) == [f"{path}: {fault}, expected a manifest of attparse"]


@pytest.mark.parametrize("change", [with_column("height", None), with_column("status", without_first)])
def test_a_release_of_a_run_with_a_wrong_manifest_is_refused(run, tmp_path, capsys, change):
    path = run / "manifest" / "train-000000.parquet"
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)
    assert main(["release", str(run), f"--output={tmp_path / 'release'}"]) == 2
    assert f"{path}: " in capsys.readouterr().err.splitlines()[-1]


def test_a_manifest_of_other_attributes_is_found(run):
    path = run / "manifest" / "train-000000.parquet"
    table = pq.read_table(path)
    labels = pa.StructArray.from_arrays(table["labels"].combine_chunks().flatten(), ["Bald", "Big_Nose", "Old"])
    changed = table.set_column(table.schema.get_field_index("labels"), "labels", labels)
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    assert problems(run) == [f"{path}: its labels are not those of dataset.json"]


@pytest.fixture
def sample(run: Path) -> StoredSample:
    return next(iter(read_samples(str(run / "shards" / "train-000000.tar"))))


def png(pixels: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def jpeg(size: tuple[int, int], mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "JPEG")
    return stream.getvalue()


def with_size(content: bytes, width: int, height: int) -> bytes:
    """Return a JPEG file with another size in its header."""
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[place + 4 :]


HUGE_JPEG = with_size(jpeg((16, 16)), 65000, 65000)


def test_an_image_of_a_huge_size_is_found_whatever_the_limit(
    run: Path, sample: StoredSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = read_dataset_file(str(run))
    hostile = dataclasses.replace(sample, jpeg=HUGE_JPEG)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 27)
    (problem,) = sample_problems(hostile, dataset, "train")
    assert problem.startswith("image can't be decoded: Image size (4225000000 pixels) exceeds limit")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (problem,) = sample_problems(hostile, dataset, "train")
    assert problem == "image of 65000x65000 RGB, expected 178x218 RGB"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jpeg": b"no image"}, "image can't be decoded"),
        ({"jpeg": jpeg((178, 217))}, "image of 178x217 RGB, expected 178x218 RGB"),
        ({"jpeg": jpeg((178, 218), "L")}, "image of 178x218 L, expected 178x218 RGB"),
        ({"png": b"no image"}, "masks are not a PNG"),
        ({"png": png(np.zeros((96, 75), np.uint8))}, "masks have shape (96, 75)"),
        ({"png": png(np.zeros((192, 76), np.uint8))}, "masks of 2 bytes per pixel, expected 1 for 3 attributes"),
        ({"png": png(np.full((96, 76), 255, np.uint8))}, "mask of Big_Nose is not empty, but its label is 0"),
    ],
)
def test_a_wrong_member_is_found(run: Path, sample: StoredSample, change: dict[str, Any], message: str) -> None:
    dataset = read_dataset_file(str(run))
    assert list(sample_problems(sample, dataset, "train")) == []
    (problem,) = sample_problems(dataclasses.replace(sample, **change), dataset, "train")
    assert message in problem


def members_of(tar: tarfile.TarFile) -> list[tuple[str, bytes]]:
    """Return the files of a tar file by name."""
    return [(info.name, file.read()) for info in tar if (file := tar.extractfile(info)) is not None]


def rewrite_descriptions(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON members of the first shard, each a dict, and write the shard anew."""
    path = run / "shards" / "train-000000.tar"
    with tarfile.open(path) as tar:
        members = members_of(tar)
    with tarfile.open(path, "w") as tar:
        for name, original in members:
            document = json.loads(original) if name.endswith(".json") else None
            content = original if document is None else json.dumps(change(document) or document).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("field", SampleDescription.__struct_fields__)
def test_a_missing_field_of_a_sample_is_named(run: Path, field: str) -> None:
    rewrite_descriptions(run, lambda document: {name: value for name, value in document.items() if name != field})
    shard = run / "shards" / "train-000000.tar"
    assert f"{shard}: sample 'a': json: Object missing required field `{field}`" in problems(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 1}, "json: Expected `str`, got `int` - at `$.image_id`"),
        ({"split": "test"}, "split 'test', expected 'train'"),
        ({"split": "dev"}, "json: Invalid enum value 'dev' - at `$.split`"),
        ({"landmarks": [[0, 0]] * 67}, "json: Expected `array` of length >= 68 - at `$.landmarks`"),
        ({"landmarks": [[0, 0]] * 69}, "json: Expected `array` of length <= 68 - at `$.landmarks`"),
        ({"landmarks": [[0]] * 68}, "json: Expected `array` of length 2 - at `$.landmarks[0]`"),
        ({"crop": [0, 0, 1]}, "json: Expected `array` of length 4 - at `$.crop`"),
        ({"crop": [0, 0, 1, 0.5]}, "json: Expected `int`, got `float` - at `$.crop[3]`"),
        ({"crop": [0, 0, 0, 0]}, "json: crop is [0, 0, 0, 0], expected x0 < x1 and y0 < y1"),
        ({"crop": [5, 9, 7, 8]}, "json: crop is [5, 9, 7, 8], expected x0 < x1 and y0 < y1"),
        ({"crop": [0, 0, 2**31, 1]}, "json: crop has coordinate 2147483648, expected less than"),
        ({"landmarks": [[0, 0]] * 67 + [[0, -1e300]]}, "json: landmarks has coordinate -1e+300, expected less than"),
        ({"labels": {"Bald": 1}}, "labels are not those of dataset.json"),
        ({"labels": {"Young": 1, "Big_Nose": 0, "Bald": 1}}, "labels are not those of dataset.json"),
        ({"labels": {"Bald": 1, "Big_Nose": 2, "Young": 1}}, "json: Invalid enum value 2 - at `$.labels[...]`"),
        ({"labels": {"Bald": 1, "Big_Nose": True, "Young": 1}}, "json: Expected `int | null`, got `bool`"),
        ({"labels": {"Bald": 0, "Big_Nose": 0, "Young": 1}}, "mask of Bald is not empty, but its label is 0"),
        ({"labels": {"Bald": 1, "Big_Nose": 0, "Young": None}}, "mask of Young is not empty, but its label is unknown"),
        ({"landmark_source": "oracle"}, "json: Invalid enum value 'oracle' - at `$.landmark_source`"),
    ],
)
def test_a_wrong_field_of_a_sample_is_named(run: Path, change: dict[str, Any], message: str) -> None:
    rewrite_descriptions(run, lambda document: document.update(change))
    start = f"{run / 'shards' / 'train-000000.tar'}: sample 'a': {message}"
    assert any(problem.startswith(start) for problem in problems(run))


def test_an_unknown_label_with_an_empty_mask_is_sound(tmp_path: Path) -> None:
    write_output(tmp_path, {"train-000000": [annotated(image_id="a.jpg", labels=(1, -1, -1))]})
    assert problems(tmp_path / "out") == []
    (sample,) = read_samples(str(tmp_path / "out" / "shards" / "train-000000.tar"))
    assert sample.description.labels == {"Bald": 1, "Big_Nose": None, "Young": None}
    assert sample.description.label_values().tolist() == [1, -1, -1]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.jpg", b"")], "sample 'a' has no .masks.png"),
        ([("a.jpg", b""), ("a.json", b"{}")], "member 'a.json', expected one ending in .masks.png"),
        ([("a.jpg", b""), ("b.masks.png", b"")], "expected .masks.png of sample 'a'"),
        ([("a.jpg", b""), ("a.masks.png", b""), ("a.json", b"{")], "sample 'a': json: not valid JSON"),
        ([("a.pickle", b"")], "member 'a.pickle', expected one ending in .jpg"),
    ],
)
def test_a_strange_tar_file_is_named(run: Path, members: list[tuple[str, bytes]], message: str) -> None:
    path = run / "shards" / "train-000000.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert any(message in problem and str(path) in problem for problem in problems(run))


def test_samples_are_records(sample: StoredSample) -> None:
    assert isinstance(sample, StoredSample)
    assert sample.key == "a"
