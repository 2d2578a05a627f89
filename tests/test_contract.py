"""What the pipeline writes is what training reads: the only test that knows both."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from PIL.Image import Exif

from pipeline import cli, images
from pipeline.config import RunConfig
from pipeline.errors import ImageError, InputError, ShardError
from pipeline.formats.dataset_json import read_dataset_file
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import decode_packed_masks, parse_description, read_samples
from pipeline.inputs import dataset as pipeline_labels
from pipeline.vocabulary import SPLITS
from regions.label_file import UNKNOWN
from regions.masks import unpack_masks
from tests.label_file_cases import LABEL_FILE_CASES, LabelFileCase
from tests.synthetic import annotated, rejected, write_output
from tests.training_data import THIN
from training import dataset_json, evaluate, face_images, train
from training import label_file as training_labels
from training.cli_common import DataError
from training.loader import Loader, LoaderSettings
from training.shard_reader import decode, read_shard
from training.transforms import prepare

pytest.importorskip("skimage")


@pytest.fixture
def demo(finished_demo: Path) -> str:
    return str(finished_demo)


@pytest.mark.slow
def test_every_sample_arrives_as_it_was_written(demo: str) -> None:
    dataset = dataset_json.read_dataset(demo)
    for split, shards in dataset.shards.items():
        dataset_json.check_shards(shards, checksums=True)
        written = {s.key: s for shard in shards for s in read_samples(shard.url)}
        for batch in Loader(dataset, LoaderSettings(split, 4)).batches(0):
            pixels, masks, labels, _ = prepare(batch, torch.device("cpu"))
            assert pixels.shape[1:] == (3, 218, 178)
            assert masks is not None
            for key, found, label in zip(batch.keys, masks, labels, strict=True):
                sample = written.pop(key)
                assert label.tolist() == sample.description.label_values().tolist()
                np.testing.assert_array_equal(found.numpy(), unpack_masks(decode_packed_masks(sample.png), 40))
        assert not written


def test_both_readers_of_dataset_json_find_the_same(demo: str) -> None:
    written = read_dataset_file(demo)
    read = dataset_json.read_dataset(demo)
    assert read.attributes == written.attributes
    assert read.crop == written.crop
    found = [
        (RunFolder(demo).shard(entry.name), entry.samples, entry.bytes, entry.sha256, entry.split)
        for entry in written.shards
    ]
    of_training = [(s.url, s.samples, s.bytes, s.sha256, split) for split, own in read.shards.items() for s in own]
    assert sorted(of_training) == sorted(found)
    assert (written.format_version, *written.image_size, *written.mask_size) == (
        dataset_json.FORMAT_VERSION,
        *dataset_json.IMAGE_SIZE,
        *dataset_json.MASK_SIZE,
    )


def test_sizes_and_version_are_those_of_the_pipeline(demo: str) -> None:
    document = json.loads(Path(demo, "dataset.json").read_text())
    assert (document["format_version"], *document["image_size"]) == (
        dataset_json.FORMAT_VERSION,
        *dataset_json.IMAGE_SIZE,
    )
    assert tuple(document["mask_size"]) == dataset_json.MASK_SIZE


@pytest.mark.slow
def test_a_network_is_trained_and_evaluated_on_the_built_in_sample(
    demo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = [f"--data={demo}", "--batch_size=4"]
    stages = ["--stage1_epochs=1", "--stage2_epochs=1"]
    assert train.main([*options, f"--output={run}", *THIN, *stages]) == 0
    checkpoint = f"--checkpoint={run / 'best.pt'}"
    to = tmp_path / "evaluation"
    assert evaluate.main([*options, checkpoint, f"--output={to}", "--split=train", "--masks", "--workers=0"]) == 0
    assert json.loads((to / "metrics.json").read_text())["run"]["mean"]["iou"] is not None
    assert "mean accuracy" in capsys.readouterr().out


def test_an_image_is_resized_as_the_pipeline_does_without_a_crop(sample: RunConfig, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    arguments = ["run", f"--images={sample.images}", f"--labels={sample.labels}", f"--output={output}", "--crop=none"]
    assert cli.main([*arguments, "--limit=2", "--min_coverage=0"]) in (0, 3)
    dataset = dataset_json.read_dataset(output)
    split = next(name for name, shards in dataset.shards.items() if any(shard.samples for shard in shards))
    (batch,) = Loader(dataset, LoaderSettings(split, 8)).batches(0)
    names = {path.stem.replace(" ", "_"): path for path in Path(sample.images).rglob("*.*")}
    for key, image in zip(batch.keys, batch.images.numpy(), strict=True):
        difference = np.abs(face_images.read_face(str(names[key])).astype(int) - image)
        assert difference.mean() < 3  # what JPEG of quality 95 loses


def encoded(image: Image.Image, kind: str, **options: Exif | int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif_of(orientation: int) -> Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def image_files() -> dict[str, bytes]:
    """Return image files of all kinds, by what is special about them."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (60, 44, 3), dtype=np.uint8))
    gray16 = Image.fromarray(rng.integers(0, 1 << 16, (60, 44), dtype=np.uint16))
    palette = rgb.quantize(16)
    with_alpha = rgb.copy()
    with_alpha.putalpha(Image.fromarray(rng.integers(0, 256, (60, 44), dtype=np.uint8)))
    files = {
        "RGB JPEG": encoded(rgb, "JPEG"),
        "gray JPEG": encoded(rgb.convert("L"), "JPEG"),
        "CMYK JPEG": encoded(rgb.convert("CMYK"), "JPEG"),
        "16-bit gray PNG": encoded(gray16, "PNG"),
        "16-bit gray TIFF": encoded(gray16, "TIFF"),
        "palette": encoded(palette, "PNG"),
        "palette with transparency": encoded(palette, "PNG", transparency=3),
        "1-bit": encoded(rgb.convert("1"), "PNG"),
        "gray and alpha": encoded(with_alpha.convert("LA"), "PNG"),
        "RGBA": encoded(with_alpha, "PNG"),
        "RGBA WebP": encoded(with_alpha, "WEBP", lossless=True),
        "BMP": encoded(rgb, "BMP"),
        "float TIFF": encoded(Image.fromarray(rng.normal(100, 90, (60, 44)).astype(np.float32)), "TIFF"),
        "orientation out of range": encoded(rgb, "JPEG", exif=exif_of(9)),
        "large JPEG": encoded(rgb.resize((3600, 2500)), "JPEG", exif=exif_of(6)),
        "large PNG": encoded(rgb.resize((3600, 2500), Image.Resampling.NEAREST), "PNG", compress_level=1),
    }
    for orientation in range(1, 9):
        files[f"orientation {orientation}"] = encoded(rgb, "JPEG", exif=exif_of(orientation))
        files[f"TIFF of orientation {orientation}"] = encoded(rgb, "TIFF", exif=exif_of(orientation))
    return files


IMAGE_FILES = image_files()


@pytest.mark.parametrize("kind", IMAGE_FILES)
def test_both_packages_decode_an_image_alike(kind: str) -> None:
    of_pipeline = images.decode(IMAGE_FILES[kind]).pixels
    of_training = face_images.decode(IMAGE_FILES[kind])
    assert of_training.dtype == np.uint8
    assert np.ptp(of_training) > 50
    np.testing.assert_array_equal(of_training, of_pipeline)


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG file whose header announces a size."""
    content = bytearray(encoded(Image.new("L", (1, 1)), "PNG"))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "0 bytes that is not an image"),
        (b"no image", "8 bytes that is not an image"),
        (encoded(Image.new("RGB", (40, 40)), "GIF"), "not an image, expected JPEG, PNG, WebP, BMP or TIFF"),
        (encoded(Image.new("RGB", (40, 40)), "PPM"), "not an image, expected JPEG, PNG, WebP, BMP or TIFF"),
        (IMAGE_FILES["RGB JPEG"][:-400], "damaged JPEG"),
        (IMAGE_FILES["RGBA"][:-400], "damaged PNG"),
        (png_of_size(8000, 8000), "PNG of 8000x8000 pixels, expected at most 34 million"),
    ],
)
def test_both_packages_refuse_the_same_files(content: bytes, what: str) -> None:
    with pytest.raises(ImageError):
        images.decode(content)
    with pytest.raises(ValueError, match=what):
        face_images.decode(content)


def test_both_packages_have_the_same_limits() -> None:
    shared = ("inspect_file", "check_size", "reduction_of", "exif_is_usable", "without_metadata")
    for name in (*shared, "FORMATS", "REDUCIBLE_MODES", "EXIF_TRANSPOSES"):
        assert getattr(face_images, name) == getattr(images, name), name


@pytest.mark.parametrize("case", LABEL_FILE_CASES, ids=lambda case: case.name)
def test_both_readers_of_label_files_agree(tmp_path: Path, case: LabelFileCase) -> None:
    path = tmp_path / "labels"
    path.write_bytes(case.content)
    if case.error:
        with pytest.raises(InputError) as of_pipeline:
            pipeline_labels.read_labels(str(path))
        with pytest.raises(DataError) as of_training:
            training_labels.read_labels(str(path))
        assert str(of_pipeline.value) == str(of_training.value) == f"{path}{case.error}"
        return
    for table in (pipeline_labels.read_labels(str(path)), training_labels.read_labels(str(path))):
        assert table.names == case.attributes
        assert table.image_ids == list(case.image_ids)
        assert table.values.tolist() == [list(row) for row in case.values]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose labels are known and unknown, in three splits, one of them without samples."""
    labels = {"a.jpg": (1, -1, 0), "b.jpg": (-1, -1, -1), "c.jpg": (0, 1, 1)}
    samples = [annotated(image_id=name, labels=values) for name, values in labels.items()]
    write_output(
        tmp_path,
        {
            "train-000000": samples[:2],
            "train-000001": [*samples[2:], rejected(image_id="d.jpg")],
            "val-000000": [annotated(image_id="e.jpg")],
            "test-000000": [rejected(image_id="f.jpg")],
        },
    )
    return tmp_path / "out"


def test_both_readers_of_dataset_json_agree(run: Path) -> None:
    ours, theirs = read_dataset_file(str(run)), dataset_json.read_dataset(str(run))
    assert theirs.folder == str(run)
    assert theirs.attributes == ours.attributes
    assert theirs.crop == ours.crop
    assert ours.image_size == dataset_json.IMAGE_SIZE
    assert ours.mask_size == dataset_json.MASK_SIZE
    assert ours.format_version == dataset_json.FORMAT_VERSION
    assert tuple(theirs.shards) == tuple(ours.splits) == SPLITS == dataset_json.SPLITS
    for split, shards in theirs.shards.items():
        assert [(shard.url, shard.samples, shard.bytes, shard.sha256) for shard in shards] == [
            (RunFolder(str(run)).shard(shard.name), shard.samples, shard.bytes, shard.sha256)
            for shard in ours.shards
            if shard.split == split
        ]


SHARED_FIELDS = ["format_version", "attributes", "image_size", "mask_size", "crop", "shards"]
SHARED_SHARD_FIELDS = ["name", "split", "samples", "bytes", "sha256"]
HOSTILE_NAMES = ["../../x", "/etc/passwd", "gs://bucket/x", "a/b", "train-000000\n", ""]
WRONG = [
    *(([name], value) for name in SHARED_FIELDS for value in (None, True)),
    *((["shards", 1, name], value) for name in SHARED_SHARD_FIELDS for value in (None, True)),
    (["attributes"], []),
    (["attributes"], ["Bald", "Bald", "Young"]),
    (["attributes", 1], 7),
    (["image_size"], [178, 218, 3]),
    (["shards", 1, "samples"], -1),
    (["shards", 1, "bytes"], -1),
    (["shards", 1, "bytes"], 0.5),
    (["shards", 1, "split"], "dev"),
    (["shards", 1, "sha256"], "0" * 63),
    (["crop"], "eyes"),
    (["shards", 1, "name"], "train-000000"),
    *(
        (["shards", 1, "name"], name)
        for name in ("../../x", "/etc/passwd", "gs://bucket/x", "a/b", "train-000000\n", "")
    ),
]


@pytest.mark.parametrize(("place", "value"), WRONG, ids=str)
def test_both_readers_of_dataset_json_name_the_same_wrong_field(
    run: Path, place: list[str | int], value: bool | float | int | list[int] | list[str] | str | None
) -> None:
    path = run / "dataset.json"
    document = json.loads(path.read_text())
    fields = document
    for step in place[:-1]:
        fields = fields[step]
    if value is None:
        del fields[place[-1]]
    else:
        fields[place[-1]] = value
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as of_pipeline:
        read_dataset_file(str(run))
    with pytest.raises(DataError) as of_training:
        dataset_json.read_dataset(str(run))
    name = [step for step in place if isinstance(step, str)][-1]
    for message in (str(of_pipeline.value), str(of_training.value)):
        assert message.startswith(f"{path}: ")
        assert name in message.removeprefix(f"{path}: ")
        assert "\n" not in message


@pytest.mark.parametrize("label", ["true", "false", "1.0", "2", '"1"'])
def test_both_packages_take_no_other_labels(run: Path, label: str) -> None:
    dataset = dataset_json.read_dataset(str(run))
    sample = next(read_shard(dataset.shards["train"][0]))
    description = json.loads(sample["json"])
    description["labels"][dataset.attributes[1]] = "LABEL"
    text = json.dumps(description).replace('"LABEL"', label).encode()
    no_masks = np.empty((0, 96, 76), np.uint8)
    with pytest.raises(ShardError, match="labels"):
        parse_description("s.tar", "a", text)
    with pytest.raises(DataError, match=r"labels are not 0, 1 or null"):
        decode({**sample, "json": text}, dataset.attributes, np.empty((218, 178, 3), np.uint8), no_masks)


def test_unknown_labels_arrive_as_unknown(run: Path) -> None:
    dataset = dataset_json.read_dataset(str(run))
    written = {sample.key: sample for shard in dataset.shards["train"] for sample in read_samples(shard.url)}
    (batch,) = Loader(dataset, LoaderSettings("train", 8)).batches(0)
    prepared = prepare(batch, torch.device("cpu"))
    assert sorted(batch.keys) == sorted(written) == ["a", "b", "c"]
    assert prepared.known is not None and prepared.masks is not None
    for key, labels, known, masks in zip(batch.keys, prepared.labels, prepared.known, prepared.masks, strict=True):
        values = written[key].description.label_values()
        assert labels.tolist() == values.tolist()
        assert known.tolist() == (values != UNKNOWN).tolist()
        assert not masks.numpy()[values != 1].any()
