"""Every parser of files that users or strangers hand in, as a function that takes the bytes of one file.

A target raises only what is not foreseen; it needs neither Beam nor torch.
"""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config import RunConfig
from pipeline.errors import ImageError, InputError, ShardError
from pipeline.formats.dataset_json import parse_dataset_file
from pipeline.formats.manifest import read_manifest_file
from pipeline.formats.samples import parse_description, read_samples
from pipeline.handlabel.index_file import INDEX_COLUMNS, INDEX_FILE, IndexRow, csv_bytes, read_index
from pipeline.handlabel.labelme_file import LabelError, annotated_landmarks, labelme_file
from pipeline.images import decode
from pipeline.inputs.dataset import read_dataset
from pipeline.release.release_json import read_release_file
from regions.attributes import TableError, parse_table
from tests.faces import face
from tests.faults.data import ATTRIBUTES, HEIGHT, WIDTH, Data
from tests.synthetic import SMALL_TABLE, jpeg_file
from training.cli_common import DataError
from training.dataset_json import Shard
from training.dataset_json import read_dataset as read_training_set
from training.face_images import decode as decode_face
from training.label_file import read_labels as read_training_labels
from training.shard_reader import decode as decode_sample
from training.shard_reader import packed_shape, read_shard

Parse = Callable[[bytes], None]
OPENFACE = ["face", "confidence", *(f"{axis}_{index}" for axis in "xy" for index in range(68))]


class Target(NamedTuple):
    """One parser.

    Attributes
    ----------
    open : callable
        From the data set and a folder to write to, to a function that parses the bytes of a file.
    seeds : callable
        From the data set to good files.
    """

    open: Callable[[Data, Path], Parse]
    seeds: Callable[[Data], list[bytes]]


@contextlib.contextmanager
def foreseen() -> Iterator[None]:
    """Let the errors pass that end in one line for the user, or in a reject."""
    with contextlib.suppress(DataError, ImageError, InputError, LabelError, ShardError, TableError):
        yield


def _input_file(option: str, name: str) -> Callable[[Data, Path], Parse]:
    """Return a target that reads the data set with one of its files replaced."""

    def make(data: Data, folder: Path) -> Parse:
        file = folder / name
        labels = str(file if option == "labels" else data.labels)
        value = (str(file),) if option == "landmarks" else str(file)
        options = {} if option == "labels" else {option: value}
        config = RunConfig(images=str(data.images), labels=labels, output=str(folder / "output"), **options)  # type: ignore[arg-type]

        def parse(content: bytes) -> None:
            file.write_bytes(content)
            with foreseen():
                read_dataset(config)

        return parse

    return make


def _in_file(name: str, read: Callable[[str], object], *, of_folder: bool = False) -> Callable[[Data, Path], Parse]:
    """Return a target that writes the bytes to a file and reads it, or its folder."""

    def make(_: Data, folder: Path) -> Parse:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)

        def parse(content: bytes) -> None:
            file.write_bytes(content)
            with foreseen():
                read(str(folder if of_folder else file))

        return parse

    return make


def _in_memory(read: Callable[[bytes], object]) -> Callable[[Data, Path], Parse]:
    def parse(content: bytes) -> None:
        with foreseen():
            read(content)

    return lambda _data, _folder: parse


def _parse_toml(content: bytes) -> None:
    with contextlib.suppress(UnicodeDecodeError):
        parse_table(content.decode(), "table.toml").region_bits()


def _decode_both(content: bytes) -> None:
    with contextlib.suppress(ImageError):
        decode(content)
    with contextlib.suppress(ValueError):
        decode_face(content)


def _read_shards(path: str) -> None:
    with contextlib.suppress(ShardError):
        list(read_samples(path))
    shard = Shard(path, 4, Path(path).stat().st_size, "0" * 64)
    image, masks = np.empty((218, 178, 3), dtype=np.uint8), np.empty(packed_shape(len(ATTRIBUTES)), dtype=np.uint8)
    for sample in read_shard(shard):
        with contextlib.suppress(DataError):
            decode_sample(sample, ATTRIBUTES, image, masks)


def _numbers(count: int) -> Callable[[Data], list[bytes]]:
    """Return seeds of a table with so many numbers per image, in both layouts."""

    def seeds(data: Data) -> list[bytes]:
        names = [line.split(",")[0] for line in data.labels.read_text().splitlines()[1:]][:4]
        values = [" ".join(str(40 + 3 * index) for index in range(count))] * len(names)
        rows = [f"{name} {value}" for name, value in zip(names, values, strict=True)]
        columns = [f"v{index}" for index in range(count)]
        text = "\n".join([str(len(rows)), f"image_id {' '.join(columns)}", *rows])
        table = "\n".join([f"image_id,{','.join(columns)}", *(row.replace(" ", ",") for row in rows)])
        return [text.encode(), table.encode()]

    return seeds


def _label_seeds(data: Data) -> list[bytes]:
    rows = [f"{index:06}.jpg {' '.join(['-1', '1', '-1'])}" for index in range(4)]
    return [data.labels.read_bytes(), "\n".join([str(len(rows)), " ".join(ATTRIBUTES), *rows]).encode()]


def _openface_seeds(_: Data) -> list[bytes]:
    points = face(x=100, y=120, eye_distance=30)
    row = ",".join(["0", "0.9", *(f"{value:.1f}" for value in points.T.ravel())])
    return [f"{', '.join(OPENFACE)}\n{row}\n".encode()]


def _pts_seeds(_: Data) -> list[bytes]:
    lines = [f"{x:.1f} {y:.1f}" for x, y in face(x=100, y=120, eye_distance=30)]
    return ["\n".join(["version: 1", "n_points: 68", "{", *lines, "}"]).encode(), "\n".join(lines).encode()]


def _labelme_seeds(_: Data) -> list[bytes]:
    return [labelme_file("a.jpg", face(x=100, y=120, eye_distance=30), (HEIGHT, WIDTH))]


def _of_run(*names: str) -> Callable[[Data], list[bytes]]:
    return lambda data: [(data.undisturbed_output("run") / name).read_bytes() for name in names]


def _description_seeds(data: Data) -> list[bytes]:
    with tarfile.open(data.undisturbed_output("run") / "shards" / "train-000000.tar") as tar:
        (first, *_) = [member for member in tar if member.name.endswith(".json")]
        stream = tar.extractfile(first)
        assert stream is not None
        return [stream.read()]


def _index_seeds(_: Data) -> list[bytes]:
    return [csv_bytes([INDEX_COLUMNS, IndexRow("a.jpg", "sub/a.jpg", "no_face", "0" * 64)])]


TARGETS: dict[str, Target] = {
    "labels": Target(_input_file("labels", "labels.csv"), _label_seeds),
    "training_labels": Target(_in_file("labels.csv", read_training_labels), _label_seeds),
    "partition": Target(_input_file("partition", "partition.txt"), lambda data: [data.partition.read_bytes()]),
    "boxes": Target(_input_file("bboxes", "boxes.txt"), _numbers(4)),
    "points": Target(_input_file("points", "points.txt"), _numbers(10)),
    "landmark_csv": Target(
        _input_file("landmarks", "landmarks.csv"),
        lambda data: [b"".join(data.landmarks.read_bytes().splitlines(keepends=True)[:4])],
    ),
    "openface": Target(_input_file("landmarks", "000000.csv"), _openface_seeds),
    "pts": Target(_input_file("landmarks", "000000.pts"), _pts_seeds),
    "labelme": Target(
        _in_memory(lambda content: annotated_landmarks(content, "a.jpg", (HEIGHT, WIDTH))), _labelme_seeds
    ),
    "index": Target(_in_file(INDEX_FILE, read_index, of_folder=True), _index_seeds),
    "attribute_table": Target(_in_memory(_parse_toml), lambda _: [SMALL_TABLE.encode()]),
    "dataset_json": Target(
        _in_memory(lambda content: parse_dataset_file(content, "dataset.json")), _of_run("dataset.json")
    ),
    "training_dataset_json": Target(
        _in_file("dataset.json", read_training_set, of_folder=True), _of_run("dataset.json")
    ),
    "release_json": Target(
        _in_file("release.json", read_release_file, of_folder=True),
        lambda data: [(data.undisturbed_output("release") / "release.json").read_bytes()],
    ),
    "sample_json": Target(_in_memory(lambda content: parse_description("a.tar", "a", content)), _description_seeds),
    "manifest": Target(_in_file("a.parquet", read_manifest_file), _of_run("manifest/train-000000.parquet")),
    "shard": Target(_in_file("train-000000.tar", _read_shards), _of_run("shards/train-000000.tar")),
    "image": Target(_in_memory(_decode_both), lambda _: [jpeg_file(height=40, width=32)]),
}
