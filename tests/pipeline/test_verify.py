"""Every kind of damage is named; a sound run has none."""

import dataclasses
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from pipeline.formats.samples import StoredSample, read_samples
from pipeline.verify import check_sample, verify
from tests.synthetic import annotated, rejected, write_output


@pytest.fixture
def run(tmp_path):
    """A run of two shards with three samples and one reject."""
    shards = {
        "train-000000": [annotated(image_id="a.jpg"), rejected(image_id="b.jpg"), annotated(image_id="c.jpg")],
        "test-000000": [annotated(image_id="d.jpg", labels=(0, 0, 0))],
    }
    write_output(tmp_path, shards)
    return tmp_path / "out"


def problems(run):
    return list(verify(str(run)))


def edit_dataset(run, change):
    document = json.loads((run / "dataset.json").read_text())
    change(document)
    (run / "dataset.json").write_text(json.dumps(document))


def test_a_sound_run_has_no_problems(run):
    assert problems(run) == []


@pytest.mark.parametrize("file", ["shards/train-000000.tar", "manifest/test-000000.parquet"])
def test_a_missing_file_is_named(run, file):
    (run / file).unlink()
    assert any(str(run / file) in problem and "missing" in problem for problem in problems(run))


@pytest.mark.parametrize("file", ["shards/train-000001.tar", "manifest/notes.txt"])
def test_a_file_too_many_is_named(run, file):
    (run / file).write_bytes(b"x")
    assert problems(run) == [f"{run / file}: not listed in dataset.json"]


@pytest.mark.parametrize("position", [0, 600, 5000, -1])
def test_one_flipped_bit_is_found(run, position):
    path = run / "shards" / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    found = problems(run)
    assert f"{path}: sha256 differs from the one in dataset.json" in found
    assert all(str(path) in problem or "manifest of train-000000" in problem for problem in found)


@pytest.mark.parametrize("length", [0, 100, 5000, -1])
def test_a_truncated_shard_is_found(run, length):
    path = run / "shards" / "train-000000.tar"
    content = path.read_bytes()[:length]
    path.write_bytes(content)
    assert any(problem.startswith(f"{path}: {len(content)} bytes, expected") for problem in problems(run))


@pytest.mark.parametrize("key", ["samples", "rejected"])
def test_wrong_totals_are_found(run, key):
    edit_dataset(run, lambda document: document.update({key: document[key] + 1}))
    (problem,) = problems(run)
    assert problem.startswith("dataset.json: ")
    assert key in problem


def test_a_manifest_of_another_shard_is_found(run):
    other = (run / "manifest" / "test-000000.parquet").read_bytes()
    (run / "manifest" / "train-000000.parquet").write_bytes(other)
    found = problems(run)
    assert any("manifest of train-000000: samples is 1, dataset.json says 2" in problem for problem in found)
    assert any("are not the samples of the tar file" in problem for problem in found)
    assert any("its rejected images are not 1" in problem for problem in found)


def test_a_damaged_manifest_is_found(run):
    path = run / "manifest" / "train-000000.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    assert "manifest of train-000000: missing or damaged" in problems(run)


@pytest.fixture
def sample(run):
    return next(iter(read_samples(str(run / "shards" / "train-000000.tar"))))


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def jpeg(size, mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jpeg": b"no image"}, "image can't be decoded"),
        ({"jpeg": jpeg((178, 217))}, "image of 178x217 RGB, expected 178x218 RGB"),
        ({"jpeg": jpeg((178, 218), "L")}, "image of 178x218 L, expected 178x218 RGB"),
        ({"png": b"no image"}, "masks are not a PNG"),
        ({"png": png(np.zeros((96, 75), np.uint8))}, "masks have shape (96, 75)"),
        ({"png": png(np.zeros((192, 76), np.uint8))}, "masks of 2 planes, expected 1 for 3 attributes"),
        ({"png": png(np.full((96, 76), 255, np.uint8))}, "mask of Big_Nose is not empty, though its label is 0"),
        ({"split": "test"}, "split 'test', expected 'train'"),
        ({"landmarks": [[0, 0]] * 67}, "landmarks of shape (67, 2), expected (68, 2)"),
        ({"labels": {"Bald": 1}}, "labels are not those of dataset.json"),
        ({"landmark_source": None}, "no 'landmark_source' in its json"),
    ],
)
def test_a_wrong_member_is_found(run, sample, change, message):
    dataset = json.loads((run / "dataset.json").read_text())
    description = {**sample.description, **{k: v for k, v in change.items() if k in sample.description}}
    spoilt = dataclasses.replace(
        sample,
        description={k: v for k, v in description.items() if v is not None},
        **{k: v for k, v in change.items() if k in ("jpeg", "png")},
    )
    assert list(check_sample(sample, dataset, "train")) == []
    (problem,) = check_sample(spoilt, dataset, "train")
    assert message in problem


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.jpg", b"")], "sample 'a' has no .masks.png"),
        ([("a.jpg", b""), ("a.json", b"{}")], "member 'a.json', expected one ending in .masks.png"),
        ([("a.jpg", b""), ("b.masks.png", b"")], "expected .masks.png of sample 'a'"),
        ([("a.jpg", b""), ("a.masks.png", b""), ("a.json", b"{")], "sample 'a': json is not valid JSON"),
        ([("a.pickle", b"")], "member 'a.pickle', expected one ending in .jpg"),
    ],
)
def test_a_strange_tar_file_is_named(run, members, message):
    path = run / "shards" / "train-000000.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert any(message in problem and str(path) in problem for problem in problems(run))


def test_samples_are_records(sample):
    assert isinstance(sample, StoredSample)
    assert sample.key == "a"
