"""Evaluation, prediction and export, each through its command."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from tests.training_data import ATTRIBUTES, face_of, labels_of, members_of, write_dataset, write_dataset_file, write_tar
from training import checkpoint, evaluate, export, onnx_export, predict
from training.checkpoint import describe_model, load_model
from training.dataset_json import Dataset
from training.face_images import read_face
from training.loader import Loader, LoaderSettings
from training.model import AttParseNet
from training.transforms import normalize

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SHARDS = {"train-000000": 4, "test-000000": 9, "test-000001": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_dataset(tmp_path_factory.mktemp("evaluate") / "data", SHARDS)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that finds the colored squares by construction: its maps are how bright they are."""
    path = tmp_path_factory.mktemp("network") / "perfect" / "best.pt"
    model = AttParseNet(3, (3, 3, 3, 3, 3), batch_norm=False)
    with torch.no_grad():
        for layer in [layer for layer in model.features if isinstance(layer, torch.nn.Conv2d)]:
            layer.weight.zero_()
            assert layer.bias is not None
            layer.bias.zero_()
            middle = layer.kernel_size[0] // 2
            for channel in range(3):
                layer.weight[channel, channel, middle, middle] = 1
        model.features[-1].get_parameter("bias").fill_(-0.1)
        model.classifier.weight.zero_()
        for attribute in range(3):
            model.classifier.weight.view(3, 3, -1)[attribute, attribute] = 1
        model.classifier.bias.fill_(550)  # between -730 of a dark map and -370 of one with a square
    checkpoint.save(str(path), describe_model(model, ATTRIBUTES))
    return str(path)


def results(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def run(network: str, output: Path, *options: str) -> int:
    return evaluate.main([f"--checkpoint={network}", f"--output={output}", "--workers=0", "--device=cpu", *options])


def test_a_network_that_finds_all_attributes_has_perfect_measures(
    data: str, network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(network, tmp_path, f"--data={data}", "--masks", "--batch_size=4") == 0
    (result,) = results(tmp_path).values()
    assert result["samples"] == 17
    assert result["mean"]["accuracy"] == result["mean"]["average_precision"] == 1
    assert result["mean"]["iou"] > 0.3
    assert result["attributes"]["Red"]["positive"] == sum(labels_of(i)[0] for i in range(4, 21))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["attribute"] for row in rows] == [*ATTRIBUTES, "mean"]
    assert all(float(row["accuracy"]) == 1 for row in rows)
    for name in ("accuracy", "balanced_accuracy", "localization_perfect"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 200
    assert "perfect: 17 samples; mean accuracy 1.0000" in capsys.readouterr().out


def test_unknown_labels_of_shards_are_not_counted(network: str, tmp_path: Path) -> None:
    (tmp_path / "data" / "shards").mkdir(parents=True)
    samples = {f"s{index}": members_of(index, ("Green",) if index < 3 else ()) for index in range(8)}
    write_tar(tmp_path / "data" / "shards" / "test-000000.tar", samples)
    write_dataset_file(tmp_path / "data", {"test-000000": 8})
    assert run(network, tmp_path / "to", f"--data={tmp_path / 'data'}", "--masks") == 0
    (result,) = results(tmp_path / "to").values()
    assert (result["samples"], result["unknown_labels"]) == (8, 3)
    assert {name: values["known"] for name, values in result["attributes"].items()} == {"Red": 8, "Green": 5, "Blue": 8}
    assert result["attributes"]["Green"]["positive"] == sum(labels_of(index)[1] for index in range(3, 8))
    assert result["mean"]["accuracy"] == 1


def test_a_16_bit_image_is_read_as_the_pipeline_reads_it(network: str, tmp_path: Path) -> None:
    gray = face_of(1)[:, :, 0]
    Image.fromarray(gray.astype(np.uint16) << 8).save(tmp_path / "16.png")
    Image.fromarray(gray).save(tmp_path / "8.png")
    np.testing.assert_array_equal(read_face(str(tmp_path / "16.png")), read_face(str(tmp_path / "8.png")))


def test_masks_are_read_only_on_request(
    data: str, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = []
    init = Loader.__init__

    def note(self: Loader, dataset: Dataset, of_loader: LoaderSettings) -> None:
        settings.append(of_loader)
        init(self, dataset, of_loader)

    monkeypatch.setattr(Loader, "__init__", note)
    assert run(network, tmp_path, f"--data={data}") == 0
    assert [s.masks for s in settings] == [False]
    assert "iou" not in results(tmp_path)["perfect"]["mean"]


def test_two_checkpoints_are_compared_each_on_its_own_data(data: str, network: str, tmp_path: Path) -> None:
    other = tmp_path / "blind" / "best.pt"
    torch.manual_seed(0)
    checkpoint.save(str(other), describe_model(AttParseNet(3, (2, 2, 2, 2, 2)), ATTRIBUTES))
    small = write_dataset(tmp_path / "small", {"test-000000": 5}, crop="none")
    assert run(network, tmp_path / "to", f"--checkpoint={other}", f"--data={data}", f"--data={small}") == 0
    found = results(tmp_path / "to")
    assert {name: result["samples"] for name, result in found.items()} == {"perfect": 17, "blind": 5}
    assert found["blind"]["mean"]["accuracy"] < 1
    assert (tmp_path / "to" / "localization_blind.png").exists()


def test_a_folder_of_images_with_a_label_file(network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As LFWA and UMD-AED come: folders, attributes in other words and order, some missing, some labels unknown."""
    (tmp_path / "images" / "Ann_Lee").mkdir(parents=True)
    lines = ["image_id,blue,Unheard of,RED"]
    for index in range(8):
        red, _, blue = labels_of(index)
        Image.fromarray(face_of(index)).resize((250, 250)).save(tmp_path / "images" / "Ann_Lee" / f"{index}.png")
        lines.append(f"Ann_Lee/{index}.png,{blue},1,{'' if index == 3 else red}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    arguments = [f"--images={tmp_path / 'images'}", f"--labels={tmp_path / 'labels.csv'}"]
    assert run(network, tmp_path / "to", *arguments, "--batch_size=3") == 0
    (result,) = results(tmp_path / "to").values()
    assert (result["samples"], result["unknown_labels"], result["left_out"]) == (8, 1, ["Green"])
    assert {name: values["known"] for name, values in result["attributes"].items()} == {"Red": 7, "Blue": 8}
    assert result["mean"]["accuracy"] == 1
    assert "left out, since" in capsys.readouterr().out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images 1 to 5 and their labels: 2 is cut short, 4 is missing, 5 is no image."""
    folder = tmp_path_factory.mktemp("images")
    lines = ["image_id,Red,Green,Blue"]
    for index in range(1, 6):
        Image.fromarray(face_of(index)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{','.join(map(str, labels_of(index)))}")
    content = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(content[: len(content) // 2])
    (folder / "4.png").unlink()
    (folder / "5.png").write_bytes(b"<html>")
    (folder / "labels.csv").write_text("\n".join(lines))
    for name, index in (("cut", 2), ("missing", 4)):
        (folder / f"{name}.csv").write_text("\n".join([lines[0], lines[1], lines[index]]))
    return folder


def test_images_that_cannot_be_read_are_skipped_and_counted_if_asked(
    network: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"--images={folder}", f"--labels={folder / 'labels.csv'}", "--batch_size=2"]
    assert run(network, tmp_path, *arguments, "--skip_bad_samples") == 0
    (result,) = results(tmp_path).values()
    assert (result["samples"], result["skipped_samples"]) == (2, 3)
    assert {name: values["known"] for name, values in result["attributes"].items()} == dict.fromkeys(ATTRIBUTES, 2)
    assert result["mean"]["accuracy"] == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert line.startswith(f"perfect: skipped 3 samples: {folder / '2.png'}: found a damaged PNG file")
    assert line.endswith("(and 2 more)")


@pytest.mark.parametrize(
    ("labels", "what"), [("cut", "2.png: found a damaged PNG file"), ("missing", "4.png: no such image")]
)
def test_an_image_that_cannot_be_read_ends_the_evaluation_with_its_name(
    network: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: str, what: str
) -> None:
    assert run(network, tmp_path / "to", f"--images={folder}", f"--labels={folder / labels}.csv") == 2
    assert f"attparse-evaluate: {folder}/{what}" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "to").exists()


def test_a_folder_without_a_readable_image_is_refused(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.csv").write_text("image_id,Red\na.png,1\n")
    arguments = [f"--images={tmp_path}", f"--labels={tmp_path / 'labels.csv'}", "--skip_bad_samples"]
    assert run(network, tmp_path / "to", *arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "no sample could be read; skipped 1 sample: " in error
    assert "a.png: no such image" in error


def test_a_damaged_sample_of_a_shard_is_skipped_and_counted_if_asked(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "shards").mkdir(parents=True)
    samples = {f"s{index}": members_of(index) for index in range(4)}
    samples["s2"]["jpg"] = samples["s2"]["jpg"][:99]
    write_tar(tmp_path / "data" / "shards" / "test-000000.tar", samples)
    write_dataset_file(tmp_path / "data", {"test-000000": 4})
    data = f"--data={tmp_path / 'data'}"
    assert run(network, tmp_path / "to", data) == 2
    assert "test-000000.tar: sample 's2': jpg cannot be decoded" in capsys.readouterr().err.splitlines()[-1]
    assert run(network, tmp_path / "to", data, "--skip_bad_samples") == 0
    (result,) = results(tmp_path / "to").values()
    assert (result["samples"], result["skipped_samples"]) == (3, 1)
    assert "perfect: skipped 1 sample: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ([], "expected either --data, or --images and --labels"),
        (["--images=x"], "expected either --data, or --images and --labels"),
        (["--data=x", "--images=x", "--labels=x"], "expected either"),
        (["--data=x", "--data=y"], "2 --data for 1 --checkpoint, expected one or as many"),
        (["--images=x", "--labels=x", "--masks"], "--masks: --images come without masks"),
        (["--images=x", "--labels=nothing.csv"], "nothing.csv: No such file"),
        (["--data=nowhere"], "nowhere: no dataset.json"),
        (["--data=DATA", "--split=val"], "no samples in split 'val', expected one of: train, test"),
        (["--data=DATA", "--checkpoint=DATA"], "a folder, expected a checkpoint such as"),
        (["--data=DATA", "--checkpoint=DATA/dataset.json"], "not a checkpoint of attparse-train"),
        (["--data=DATA", "--device=cuda:77"], "--device cuda:77: "),
    ],
)
def test_unusable_arguments_are_reported_in_one_line(
    data: str, network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], what: str
) -> None:
    assert run(network, tmp_path / "to", *[option.replace("DATA", data) for option in options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert what in error
    assert error.startswith("attparse-evaluate: ")
    assert not (tmp_path / "to" / "metrics.json").exists()


def test_attributes_that_have_nothing_in_common_are_refused(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.csv").write_text("image_id,Hat\na.png,1\n")
    Image.fromarray(face_of(1)).save(tmp_path / "a.png")
    assert run(network, tmp_path / "to", f"--images={tmp_path}", f"--labels={tmp_path / 'labels.csv'}") == 2
    assert "has none of the checkpoint's attributes" in capsys.readouterr().err


def test_prediction_prints_attributes_and_draws_where_they_are(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in (1, 6):
        Image.fromarray(face_of(index)).save(tmp_path / f"face{index}.png")
    paths = [str(tmp_path / f"face{index}.png") for index in (1, 6)]
    assert predict.main([*paths, f"--checkpoint={network}", f"--output={tmp_path / 'to'}", "--device=cpu"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line.split()[0] for line in lines[: lines.index(paths[1])]][1:-1] == ["Red"]
    assert sorted(line.split()[0] for line in lines[lines.index(paths[1]) + 1 : -1]) == ["Blue", "Green"]
    assert (tmp_path / "to" / "face1.localization.png").stat().st_size > 1000
    assert predict.main([paths[0], f"--checkpoint={network}", f"--output={tmp_path}", "--all"]) == 0
    assert sum(line.startswith("  ") for line in capsys.readouterr().out.splitlines()) == 4


def test_unreadable_images_and_clashing_names_are_refused(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    for images, what in (
        (["bad.jpg"], "bad.jpg: found a file of 8 bytes that is not an image, expected JPEG, PNG"),
        (["none.jpg"], "none.jpg: No such file"),
        (["bad.jpg", "sub/bad.png"], "another image has the same name"),
    ):
        paths = [str(tmp_path / image) for image in images]
        assert predict.main([*paths, f"--checkpoint={network}", f"--output={tmp_path}"]) == 2
        assert what in capsys.readouterr().err


def test_images_beside_one_that_cannot_be_read_are_predicted(
    network: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(folder / f"{index}.png") for index in (1, 2, 3, 4)]
    assert predict.main([*paths, f"--checkpoint={network}", f"--output={tmp_path}", "--device=cpu"]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith(f"attparse-predict: 2 of 4 images cannot be read: {paths[1]}: found a damaged PNG file")
    assert f"; {paths[3]}: No such file" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.localization.png", "3.localization.png"]
    assert [line for line in printed.out.splitlines() if line in paths] == [paths[0], paths[2]]


def test_onnxruntime_leaves_no_identifier_of_the_machine(tmp_path: Path) -> None:
    """Its telemetry begins at the import, with one in the home folder."""
    code = "import sys; from training.onnx_export import open_session; open_session(open(sys.argv[1], 'rb').read())"
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    same = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [same])
    model = onnx.helper.make_model(graph, ir_version=9, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, str(tmp_path / "relu.onnx"))
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    command = [sys.executable, "-c", code, str(tmp_path / "relu.onnx")]
    subprocess.run(command, check=True, env={**environment, "HOME": str(home)}, cwd=ROOT)
    assert not list(home.rglob("*onnxruntime*"))


def test_sessions_of_onnxruntime_are_opened_in_one_place() -> None:
    paths = [
        path
        for folder in ("pipeline", "training", "tests", "tools", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(paths) > 100
    found = [path.name for path in paths if re.search(r"^ *(import|from) onnxruntime", path.read_text(), re.MULTILINE)]
    assert found == ["onnx_export.py"]


def test_onnx_computes_the_same_from_pixels_for_any_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    path = tmp_path / "best.pt"
    checkpoint.save(str(path), describe_model(AttParseNet(3, (4, 4, 4, 4, 4)), ATTRIBUTES))
    target = tmp_path / "to" / "net.onnx"
    assert export.main([f"--checkpoint={path}", f"--output={target}"]) == 0
    assert "onnxruntime differs from torch by at most" in capsys.readouterr().out
    session = onnx_export.open_session(target.read_bytes())
    assert json.loads(session.get_modelmeta().custom_metadata_map["attributes"]) == list(ATTRIBUTES)
    pixels = np.stack([face_of(index) for index in range(5)])
    probabilities, maps = session.run(None, {"pixels": pixels})
    trained = load_model(str(path), torch.device("cpu"))
    with torch.inference_mode():
        logits, ours = trained.model(normalize(torch.from_numpy(pixels)))
    np.testing.assert_allclose(probabilities, logits.sigmoid(), atol=1e-4)
    np.testing.assert_allclose(maps, ours, atol=1e-4)


def test_an_export_that_computes_something_else_is_not_written(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_export, "TOLERANCE", 0)
    assert export.main([f"--checkpoint={network}", f"--output={tmp_path / 'net.onnx'}"]) == 1
    assert "onnxruntime differs from torch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
