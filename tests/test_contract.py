"""What the pipeline writes is what training reads: the only test that knows both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import cli
from pipeline.formats.samples import decode_packed_masks, read_samples
from regions.masks import unpack_masks
from tests.training_data import THIN
from training import dataset_json, evaluate, face_images, train
from training.loader import Loader, LoaderSettings
from training.transforms import prepare

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contract") / "demo"
    assert cli.main(["demo", f"--output={folder}"]) == 0
    return str(folder)


def test_every_sample_arrives_as_it_was_written(demo):
    dataset = dataset_json.read_dataset(demo)
    for split, shards in dataset.shards.items():
        dataset_json.check_shards(shards, checksums=True)
        written = {s.key: s for shard in shards for s in read_samples(shard.url)}
        for batch in Loader(dataset, LoaderSettings(split, 4)).batches(0):
            images, masks, labels, _ = prepare(batch, torch.device("cpu"))
            assert images.shape[1:] == (3, 218, 178)
            for key, found, label in zip(batch.keys, masks, labels, strict=True):
                sample = written.pop(key)
                assert label.tolist() == list(sample.description.labels.values())
                np.testing.assert_array_equal(found.numpy(), unpack_masks(decode_packed_masks(sample.png), 40))
        assert not written


def test_sizes_and_version_are_those_of_the_pipeline(demo):
    document = json.loads(Path(demo, "dataset.json").read_text())
    assert (document["format_version"], *document["image_size"]) == (
        dataset_json.FORMAT_VERSION,
        *dataset_json.IMAGE_SIZE,
    )
    assert tuple(document["mask_size"]) == dataset_json.MASK_SIZE


def test_a_network_is_trained_and_evaluated_on_the_built_in_sample(demo, tmp_path, capsys):
    run = tmp_path / "run"
    options = [f"--data={demo}", "--batch_size=4"]
    stages = ["--stage1_epochs=1", "--stage2_epochs=1"]
    assert train.main([*options, f"--output={run}", *THIN, *stages]) == 0
    checkpoint = f"--checkpoint={run / 'best.pt'}"
    to = tmp_path / "evaluation"
    assert evaluate.main([*options, checkpoint, f"--output={to}", "--split=train", "--masks", "--workers=0"]) == 0
    assert json.loads((to / "metrics.json").read_text())["run"]["mean"]["iou"] is not None
    assert "mean accuracy" in capsys.readouterr().out


def test_an_image_is_resized_as_the_pipeline_does_without_a_crop(sample, tmp_path):
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
