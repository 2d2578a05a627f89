"""The loader: every sample once, equal steps, seeded order, clear errors; local files and URLs."""

from __future__ import annotations

import functools
import http.server
import io
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regions.label_file import UNKNOWN
from tests import training_data
from tests.training_data import labels_of, masks_of, write_dataset, write_dataset_file, write_tar
from training import loader
from training.cli_common import DataError
from training.dataset_json import check_shards, read_dataset
from training.distributed import SINGLE_PROCESS, World, world_of_torchrun
from training.loader import Loader, LoaderSettings
from training.shard_reader import decode
from training.transforms import unpack

SHARDS = {"train-000000": 7, "train-000001": 6, "train-000002": 6, "val-000000": 5}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return write_dataset(tmp_path / "data", SHARDS)


def load(folder: str, split: str = "train", world: World = SINGLE_PROCESS, **settings: Any) -> Loader:
    return Loader(read_dataset(folder), LoaderSettings(split, **{"batch_size": 4, **settings}), world)


def keys(loader: Loader, epoch: int = 0) -> list[str]:
    return [key for batch in loader.batches(epoch) for key in batch.keys]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_sample_comes_once_and_whole(folder: str, workers: int) -> None:
    batches = list(load(folder, workers=workers).batches(0))
    assert [len(batch.keys) for batch in batches] == [4, 4, 4, 4, 3]
    assert sorted(key for batch in batches for key in batch.keys) == [f"s{i:04}" for i in range(19)]
    for batch in batches:
        assert batch.packed_masks is not None
        assert batch.images.dtype == batch.packed_masks.dtype == torch.uint8
        assert batch.labels.dtype == torch.int8
        for key, image, packed, labels in zip(batch.keys, batch.images, batch.packed_masks, batch.labels, strict=True):
            index = int(key[1:])
            assert labels.tolist() == labels_of(index)
            np.testing.assert_array_equal(unpack(packed[None], 3)[0].numpy(), masks_of(labels_of(index)))
            assert np.abs(image.numpy().astype(int) - training_data.face_of(index)).mean() < 5


def test_the_first_image_is_rgb(folder: str) -> None:
    batch = next(load(folder, batch_size=2).batches(0))
    assert labels_of(1) == [1, 0, 0]
    row, col = (int((place + 8) * 218 / 96) for place in training_data.PLACES[0])
    red, green, blue = batch.images[1, row, col].tolist()
    assert red > 200
    assert max(green, blue) < 160


def test_a_sample_moves_at_most_160_kilobytes_to_the_device(tmp_path: Path) -> None:
    names = [f"attribute {number}" for number in range(40)]
    samples = {f"s{index:04}": training_data.members_of(index) for index in range(4)}
    png = io.BytesIO()
    Image.fromarray(np.full((480, 76), 0x5A, dtype=np.uint8)).save(png, "PNG")
    text = json.dumps({"labels": dict.fromkeys(names, 1)}).encode()
    for members in samples.values():
        members.update({"masks.png": png.getvalue(), "json": text})
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "train-000000.tar", samples)
    write_dataset_file(tmp_path, {"train-000000": 4}, attributes=names)
    (batch,) = load(str(tmp_path)).batches(0)
    assert batch.packed_masks is not None
    assert batch.packed_masks.shape == (4, 5, 96, 76)
    assert batch.packed_masks.eq(0x5A).all()
    moved = sum(part.nbytes for part in (batch.images, batch.packed_masks, batch.labels))
    assert 150_000 < moved / len(batch.keys) <= 160_000


def test_without_masks_none_are_read(folder: str) -> None:
    assert all(batch.packed_masks is None for batch in load(folder, masks=False).batches(0))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_the_samples_in_evaluation(folder: str, size: int, workers: int) -> None:
    seen: Counter[str] = Counter()
    for rank in range(size):
        seen.update(keys(load(folder, world=World(rank, size), workers=workers)))
    assert seen == Counter(f"s{i:04}" for i in range(19))


def test_more_ranks_than_shards_leave_some_without_samples_in_evaluation(folder: str) -> None:
    counts = []
    for rank in range(2):
        counts.append(len(keys(load(folder, split="val", world=World(rank, 2), workers=2))))
    assert counts == [5, 0]


@pytest.mark.parametrize("epoch", range(4))
@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_take_equal_steps_of_whole_batches_in_training(folder: str, epoch: int, workers: int) -> None:
    seen, steps = [], []
    for rank in range(2):
        loader = load(folder, world=World(rank, 2), training=True, workers=workers, batch_size=2)
        batches = list(loader.batches(epoch))
        steps.append(len(batches))
        assert len(batches) == loader.steps(epoch)
        assert {len(batch.keys) for batch in batches} == {2}
        seen += [key for batch in batches for key in batch.keys]
    assert len(set(steps)) == 1
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_depends_on_seed_and_epoch_alone(folder: str, workers: int) -> None:
    orders = {
        (seed, epoch): keys(load(folder, training=True, workers=workers, seed=seed), epoch)
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len({tuple(order) for order in orders.values()}) == 4
    assert keys(load(folder, training=True, workers=workers, seed=1), 1) == orders[1, 1]
    assert orders[0, 0] != sorted(orders[0, 0])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("streams", [16, 2])
def test_the_order_does_not_depend_on_the_number_of_threads(
    folder: str, monkeypatch: pytest.MonkeyPatch, training: bool, streams: int
) -> None:
    monkeypatch.setattr(loader, "STREAMS", streams)
    one, *others = (keys(load(folder, training=training, workers=workers, batch_size=2)) for workers in (0, 1, 2, 40))
    assert others == [one] * 3


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_later_start_gives_the_same_batches_and_decodes_no_others(
    folder: str, monkeypatch: pytest.MonkeyPatch, workers: int, size: int
) -> None:
    decoded = []

    def note(sample: dict[str, Any], *rest: Any) -> list[int]:
        decoded.append(sample["__key__"])
        return decode(sample, *rest)

    monkeypatch.setattr("training.batches.decode", note)
    own = load(folder, training=True, workers=workers, batch_size=size, buffer=3)
    whole = list(own.batches(1))
    assert len(whole) == own.steps(1)
    assert set(decoded) >= {key for batch in whole for key in batch.keys}
    for start in range(len(whole) + 1):
        decoded.clear()
        for found, expected in zip(own.batches(1, start), whole[start:], strict=True):
            assert found.keys == expected.keys
            assert found.packed_masks is not None and expected.packed_masks is not None
            assert torch.equal(found.images, expected.images)
            assert torch.equal(found.packed_masks, expected.packed_masks)
            assert torch.equal(found.labels, expected.labels)
        passed = {key for batch in whole[:start] for key in batch.keys}
        # Of several streams, the last and partial batches are decoded in any case: they are joined.
        assert len(passed & set(decoded)) <= 3 * (size - 1)


@pytest.mark.parametrize("skip_bad_samples", [False, True])
def test_a_later_start_finds_the_same_batches_where_samples_are_skipped(folder: str, skip_bad_samples: bool) -> None:
    if skip_bad_samples:
        spoil(folder, lambda samples: samples["s0009"].update(jpg=b""))
    settings: dict[str, Any] = {"training": True, "skip_bad_samples": skip_bad_samples, "workers": 2}
    whole = [batch.keys for batch in load(folder, **settings).batches(0)]
    assert [batch.keys for batch in load(folder, **settings).batches(0, 2)] == whole[2:]


def test_memory_is_reused_only_after_its_release(folder: str) -> None:
    own = load(folder, batch_size=4)
    batches = own.batches(0)
    first = next(batches)
    second = next(batches)
    assert first.memory is not second.memory
    own.release(first)
    third = next(batches)
    assert third.memory is first.memory
    assert third.images.data_ptr() == first.images.data_ptr()
    own.release(second)
    (*_, last) = batches
    assert len(last.keys) == 3


def test_unknown_labels_stay_unknown(folder: str) -> None:
    spoil(folder, lambda s: s["s0009"].update(json=b'{"labels": {"Red": 1, "Green": null, "Blue": 0}}'))
    (labels,) = [
        batch.labels[batch.keys.index("s0009")].tolist() for batch in load(folder).batches(0) if "s0009" in batch.keys
    ]
    assert labels == [1, UNKNOWN, 0]


def test_too_many_ranks_for_the_shards_are_refused(folder: str) -> None:
    with pytest.raises(DataError, match="3 train shards of at most 7 samples give 4 ranks no batch of 4 each"):
        load(folder, world=World(0, 4), training=True)


def spoil(folder: str, change: Callable[[dict[str, dict[str, bytes]]], object], *, name: str = "train-000001") -> None:
    """Change the samples of a shard, and make dataset.json fit."""
    first = {"train-000000": 0, "train-000001": 7}[name]
    samples = {f"s{i:04}": training_data.members_of(i) for i in range(first, first + SHARDS[name])}
    change(samples)
    write_tar(Path(folder) / "shards" / f"{name}.tar", samples)
    write_dataset_file(Path(folder), SHARDS)


def jpeg_of(height: int, width: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "JPEG")
    return stream.getvalue()


BAD_SAMPLES = [
    (lambda s: s["s0009"].update(jpg=b"no image"), "jpg cannot be decoded"),
    (lambda s: s["s0009"].update(jpg=b""), "jpg cannot be decoded"),
    (lambda s: s["s0009"].update(jpg=jpeg_of(218, 170)), "jpg of 218x170, expected 218x178"),
    (lambda s: s["s0009"].update(jpg=jpeg_of(250, 250)), "jpg cannot be decoded to 218x178"),
    (lambda s: s["s0009"].update(jpg=s["s0009"]["jpg"][:-2000]), "jpg cannot be decoded"),
    (lambda s: s["s0009"].update({"masks.png": s["s0009"]["jpg"]}), "masks.png of shape .* expected .96, 76. uint8"),
    (lambda s: s["s0009"].pop("masks.png"), "no masks.png"),
    (lambda s: s["s0009"].update(json=b"{"), "json cannot be parsed: "),
    (lambda s: s["s0009"].update(json=b"[]"), "json has no labels by name"),
    (lambda s: s["s0009"].update(json=b'{"labels": {"Red": 1}}'), "labels are not those of dataset.json"),
    (lambda s: s["s0009"].update(json=b'{"labels": {"Red": 1, "Green": 2, "Blue": 0}}'), "labels are not 0, 1 or null"),
    (
        lambda s: s["s0009"].update(json=b'{"labels": {"Red": 1, "Green": [], "Blue": 0}}'),
        "unhashable|not 0, 1 or null",
    ),
]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("change", "what"), BAD_SAMPLES)
def test_a_bad_sample_is_named(
    folder: str, change: Callable[[dict[str, dict[str, bytes]]], object], what: str, workers: int
) -> None:
    spoil(folder, change)
    with pytest.raises(DataError, match=rf"^\S+train-000001.tar: sample 's0009': {what}"):
        keys(load(folder, workers=workers))


@pytest.mark.parametrize(("change", "what"), BAD_SAMPLES)
def test_a_bad_sample_is_skipped_and_counted_if_asked(
    folder: str, change: Callable[[dict[str, dict[str, bytes]]], object], what: str
) -> None:
    spoil(folder, change)
    loader = load(folder, skip_bad_samples=True)
    assert sorted(keys(loader)) == [f"s{i:04}" for i in range(19) if i != 9]
    ((samples, reason),) = [(entry.samples, entry.reason) for entry in loader.skipped]
    assert samples == 1
    assert re.search(what, reason)


def test_a_shard_cut_short_is_named_or_what_it_lacks_is_counted(folder: str) -> None:
    path = Path(folder) / "shards" / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(DataError, match=r"train-000001.tar: (cannot be read past|found \d+ samples? .*, expected 6)"):
        keys(load(folder))
    loader = load(folder, skip_bad_samples=True)
    assert len(keys(loader)) + sum(entry.samples for entry in loader.skipped) == 19


def test_ranks_take_equal_steps_even_when_samples_are_skipped(folder: str) -> None:
    spoil(folder, lambda samples: [members.update(jpg=b"") for members in samples.values()])
    loader = load(folder, training=True, skip_bad_samples=True)
    assert len(list(loader.batches(0))) == loader.steps(0) == 4


def test_when_no_sample_can_be_read_training_ends_with_the_reason(folder: str) -> None:
    for name in ("train-000000", "train-000001"):
        spoil(folder, lambda samples: [members.update(jpg=b"") for members in samples.values()], name=name)
    loader = load(folder, training=True, skip_bad_samples=True, batch_size=7)
    with pytest.raises(
        DataError, match=r"no batch of 7 readable samples; the last one skipped: .*jpg cannot be decoded"
    ):
        list(loader.batches(0))


def test_no_member_is_unpickled(folder: str, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    payload = f"cos\nsystem\n(S'touch {evil}'\ntR.".encode()
    spoil(folder, lambda samples: samples["s0009"].update(pyd=payload, pickle=payload))
    assert len(keys(load(folder))) == 19
    assert not evil.exists()


ENTRY = {"name": "train-000000", "split": "train", "samples": 1, "bytes": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"format_version": 1}, "field 'format_version': found 1, expected 2"),
        ({"image_size": [64, 64]}, r"field 'image_size': found \[64, 64\], expected \[218, 178\]"),
        ({"mask_size": None}, r"field 'mask_size': found null, expected \[96, 76\]"),
        ({"attributes": ["A", "A"]}, r"field 'attributes': found \[\"A\", \"A\"\], expected different names"),
        ({"attributes": []}, r"field 'attributes': found \[\], expected different names, at least one"),
        ({"attributes": "A"}, "field 'attributes': found \"A\", expected a list of names"),
        ({"attributes": ["A", 1]}, r"field 'attributes': found \[\"A\", 1\], expected different names"),
        ({"crop": 7}, "field 'crop': found 7, expected 'face' or 'none'"),
        ({"shards": {}}, "field 'shards': found {}, expected a list of shards"),
        ({"shards": [5]}, "field 'shards', entry 1: found 5, expected an object"),
        ({"shards": [{}]}, "field 'name' of shard 1: found nothing, expected a name such as 'train-000000'"),
        (
            {"shards": [ENTRY | {"name": "../../etc/x"}]},
            "field 'name' of shard 1: found \"../../etc/x\", expected a name",
        ),
        (
            {"shards": [ENTRY | {"split": "x"}]},
            "field 'split' of shard 'train-000000': found \"x\", expected 'train', ",
        ),
        (
            {"shards": [ENTRY | {"samples": "8"}]},
            "field 'samples' of shard 'train-000000': found \"8\", expected a whole",
        ),
        (
            {"shards": [ENTRY | {"samples": True}]},
            "field 'samples' of shard 'train-000000': found true, expected a whole",
        ),
        ({"shards": [ENTRY | {"bytes": -1}]}, "field 'bytes' of shard 'train-000000': found -1, expected a whole"),
        ({"shards": [ENTRY | {"sha256": "x"}]}, "field 'sha256' of shard 'train-000000': found \"x\", expected 64 hex"),
    ],
)
def test_a_dataset_of_another_kind_is_refused(folder: str, change: dict[str, Any], what: str) -> None:
    write_dataset_file(Path(folder), SHARDS, **change)
    with pytest.raises(DataError, match=rf"dataset.json: {what}"):
        read_dataset(folder)


@pytest.mark.parametrize("field", ["format_version", "image_size", "mask_size", "attributes", "crop", "shards"])
def test_a_missing_field_of_the_dataset_is_named(folder: str, field: str) -> None:
    path = Path(folder) / "dataset.json"
    document = json.loads(path.read_text())
    del document[field]
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=rf"dataset.json: field '{field}': found nothing, expected "):
        read_dataset(folder)


@pytest.mark.parametrize("field", ["split", "samples", "bytes", "sha256"])
def test_a_missing_field_of_a_shard_is_named(folder: str, field: str) -> None:
    write_dataset_file(Path(folder), SHARDS, shards=[{name: ENTRY[name] for name in ENTRY if name != field}])
    with pytest.raises(DataError, match=rf"field '{field}' of shard 'train-000000': found nothing, expected "):
        read_dataset(folder)


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset.json, expected the folder of a finished run"):
        read_dataset(str(tmp_path))
    for text in ("{", "[]"):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(DataError, match=r"not valid JSON|not a JSON object"):
            read_dataset(str(tmp_path))


def test_a_split_without_samples_is_refused(folder: str) -> None:
    with pytest.raises(DataError, match="no samples in split 'test', expected one of: train, val"):
        load(folder, split="test")


def test_missing_and_damaged_shards_are_found_before_the_first_step(folder: str) -> None:
    shards = read_dataset(folder).shards_of("train")
    path = Path(shards[1].url)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\1")
    check_shards(shards, checksums=False)
    with pytest.raises(DataError, match=r"train-000001.tar: found another sha256, expected that in dataset.json"):
        check_shards(shards, checksums=True)
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"train-000001.tar: found {len(content) - 1} bytes, expected {len(content)}"):
        check_shards(shards, checksums=False)
    path.unlink()
    with pytest.raises(DataError, match=r"train-000001.tar: missing"):
        check_shards(shards, checksums=False)


class Files(http.server.SimpleHTTPRequestHandler):
    """A web server's, and as much of Cloud Storage's and S3's answers as reading needs."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        object_name = re.search(r"/b/bucket/o/([^?]+)", self.path)
        if not object_name:
            super().do_GET()
            return
        path = Path(self.directory, "bucket", object_name[1].replace("%2F", "/"))
        content = path.read_bytes() if path.exists() else None
        if content is not None and "alt=media" not in self.path:
            self.answer(200, json.dumps({"name": path.name, "bucket": "bucket", "size": str(len(content))}).encode())
        elif content is None:
            self.answer(404, b"{}")
        else:
            first = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-"))
            assert first
            last = int(first[2]) + 1 if first[2] else len(content)
            part = content[int(first[1]) : last]
            end = int(first[1]) + len(part) - 1
            self.answer(206, part, **{"Content-Range": f"bytes {first[1]}-{end}/{len(content)}"})

    def answer(self, status: int, content: bytes, **headers: object) -> None:
        self.send_response(status)
        kind = "application/json" if content[:1] == b"{" else "application/octet-stream"
        for name, value in {"Content-Length": len(content), "Content-Type": kind, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    write_dataset(tmp_path / "bucket" / "data", SHARDS)
    handler = functools.partial(Files, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        url = f"http://127.0.0.1:{running.server_port}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        yield f"{url}/bucket"
        running.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the clients: open connections, Python versions to come
@pytest.mark.parametrize("place", ["http", "gs", "s3"])
def test_shards_are_streamed_from_a_url(server: str, place: str) -> None:
    bucket = server if place == "http" else f"{place}://bucket"
    assert sorted(keys(load(f"{bucket}/data"))) == [f"s{i:04}" for i in range(19)]
    check_shards(read_dataset(f"{bucket}/data").shards_of("train"), checksums=True)
    with pytest.raises(DataError, match=rf"^{bucket}/nothing/dataset.json: "):
        read_dataset(f"{bucket}/nothing")


@pytest.mark.slow
def test_two_processes_of_torchrun_see_each_sample_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a process of its own for torchrun, which tells it its place in the environment."""
    ranks = []
    for rank in range(2):
        for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        loader = Loader(read_dataset(folder), LoaderSettings("train", 4, workers=2), world_of_torchrun())
        ranks.append([key for batch in loader.batches(0) for key in batch.keys])
    assert all(ranks)
    assert Counter(ranks[0] + ranks[1]) == Counter(f"s{i:04}" for i in range(19))
