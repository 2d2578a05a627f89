"""Training: it learns, resumes to the bit, stops as asked, runs in several processes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from regions.messages import counted
from tests import training_data
from tests.training.forked import train_on_ranks, train_until_signal
from tests.training_data import ATTRIBUTES, THIN, members_of, write_dataset, write_dataset_file, write_tar
from training import checkpoint, loop, run_log, storage, train
from training.checkpoint import load_model
from training.dataset_json import read_dataset
from training.loader import Loader, LoaderSettings
from training.metrics import EpochSums, MapCounts
from training.model import AttParseNet
from training.transforms import prepare

pytestmark = pytest.mark.slow

SHARDS = {"train-000000": 8, "train-000001": 8, "val-000000": 6}
SHORT = ("--stage1_epochs=2", "--stage2_epochs=2", "--batch_size=4", "--deterministic")
AUGMENTED = ("--flip", "--smallest_crop=0.9", "--label_repair")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_dataset(tmp_path_factory.mktemp("train") / "data", SHARDS)


@pytest.fixture(autouse=True)
def _not_deterministic_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also write the curves at once: drawing them takes as long as a training; `uninterrupted` has drawn ones."""
    monkeypatch.setattr(run_log, "draw_curves", lambda history, path: storage.write_text(path, str(len(history))))
    yield
    torch.use_deterministic_algorithms(False)


def arguments(data: str, output: Path, *options: str) -> list[str]:
    return [f"--data={data}", f"--output={output}", *THIN, *options]


def run(data: str, output: Path, *options: str) -> int:
    return train.main(arguments(data, output, *options))


def history(folder: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path | str) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = checkpoint.load(str(Path(folder) / "last.pt"))["model"]
    return model


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope="module")
def uninterrupted(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without a break."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert run(data, folder, *SHORT) == 0
    return folder


HALVES = (np.s_[:48], np.s_[:, :38], np.s_[48:])
"""The part of the mask that each attribute fills: the upper half, the left half, the lower half."""


def halves_of(labels: Sequence[int]) -> npt.NDArray[np.uint8]:
    masks = np.zeros((3, 96, 76), dtype=np.uint8)
    for mask, half, label in zip(masks, HALVES, labels, strict=True):
        mask[half] = label
    return masks


def test_a_thin_network_overfits_sixteen_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_data, "masks_of", halves_of)
    data = write_dataset(tmp_path / "data", {"train-000000": 16, "val-000000": 8})
    run_folder = tmp_path / "run"
    options = ["--channels=8,8,8,8,8", "--batch_size=4", "--lr=0.01", "--mse_weight=1000"]
    options += ["--stage1_epochs=14", "--stage2_epochs=7"]
    assert run(data, run_folder, *options) == 0
    records = history(run_folder)
    stage1 = [record for record in records if record["stage"] == 1]
    stage2 = [record for record in records if record["stage"] == 2]
    assert stage1[-1]["train_mse"] < stage1[0]["train_mse"] / 10
    assert stage2[-1]["train_loss"] < records[0]["train_loss"] / 10
    trained = load_model(str(run_folder / "best.pt"), torch.device("cpu"))
    overlaps = MapCounts(3, torch.device("cpu"))
    (batch,) = Loader(read_dataset(data), LoaderSettings("train", 16)).batches(0)
    prepared = prepare(batch, torch.device("cpu"))
    assert prepared.masks is not None
    with torch.inference_mode():
        logits, maps = trained.model(prepared.images)
    assert torch.equal(logits > 0, prepared.labels == 1)
    overlaps.add(maps, prepared.masks)
    assert (overlaps.iou() > 0.9).all()


def test_two_stages_and_what_a_run_writes(uninterrupted: Path) -> None:
    records = history(uninterrupted)
    assert [record["stage"] for record in records] == [1, 1, 2, 2]
    assert all(record["train_loss"] == record["train_mse"] for record in records[:2])
    for record in records[2:]:
        assert record["train_loss"] == pytest.approx(record["train_mse"] + record["train_bce"])
        assert record["val_loss"] == pytest.approx(record["val_mse"] + record["val_bce"])
    written = sorted(path.name for path in uninterrupted.iterdir())
    assert written == ["best.pt", "curves.png", "last.pt", "metrics.jsonl"]


def test_stage_1_leaves_the_fully_connected_layer_alone(data: str, tmp_path: Path) -> None:
    assert run(data, tmp_path / "run", "--stage1_epochs=1", "--stage2_epochs=0", "--batch_size=4") == 0
    torch.manual_seed(0)
    start = AttParseNet(3, (4, 4, 4, 4, 4)).state_dict()
    trained = weights(tmp_path / "run")
    for name, value in start.items():
        assert torch.equal(trained[name], value) == name.startswith("classifier"), name


def test_the_same_options_give_the_same_weights_and_another_seed_others(
    data: str, tmp_path: Path, uninterrupted: Path
) -> None:
    assert run(data, tmp_path / "again", *SHORT) == 0
    assert_equal_weights(weights(tmp_path / "again"), weights(uninterrupted))
    assert run(data, tmp_path / "other", *SHORT, "--seed=1") == 0
    assert not torch.equal(
        weights(tmp_path / "other")["features.0.weight"], weights(uninterrupted)["features.0.weight"]
    )


@pytest.fixture(scope="module")
def augmented(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without a break, with all that is random in it."""
    folder = tmp_path_factory.mktemp("augmented") / "run"
    assert run(data, folder, *SHORT, *AUGMENTED) == 0
    return folder


@pytest.mark.parametrize(
    ("step", "whole"), [(5, "uninterrupted"), *((step, "augmented") for step in (2, 4, 5, 11, 16))]
)
def test_an_interrupted_training_resumes_to_the_bit(
    data: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: int,
    whole: str,
) -> None:
    options = AUGMENTED if whole == "augmented" else ()
    whole = request.getfixturevalue(whole)
    steps = iter(range(1, 1000))
    monkeypatch.setattr(loop, "any_rank", lambda asked: asked or next(steps) == step)
    assert run(data, tmp_path / "run", *SHORT, *options) == 1
    assert "interrupted in epoch" in capsys.readouterr().err
    assert run(data, tmp_path / "run", *SHORT, *options) == 0
    assert "resumed from" in capsys.readouterr().out
    assert_equal_weights(weights(tmp_path / "run"), weights(whole))
    for one, other in zip(history(tmp_path / "run"), history(whole), strict=True):
        for name, value in one.items():
            if name not in ("seconds", "images_per_second"):
                assert value == other[name], name


PAUSED_TRAINING = """
import os, sys, time
from pathlib import Path
from training import loop, train

stage, mark = int(sys.argv[1]), Path(sys.argv[2])
take_step = loop.Training.take_step
parent = os.getppid()

def pausing_step(self, network, batch, stage_of_step, step):
    if (stage_of_step, step) == (stage, 2):
        mark.touch()
        while not self.stop.received and os.getppid() == parent:
            time.sleep(0.01)
    return take_step(self, network, batch, stage_of_step, step)

loop.Training.take_step = pausing_step
sys.exit(train.main(sys.argv[3:]))
"""
"""A training that pauses after two steps of a stage's first epoch."""


@contextlib.contextmanager
def paused_torchrun(tmp_path: Path, data: str, stage: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a training with torchrun, and yield once it pauses."""
    script, mark = tmp_path / "paused_training.py", tmp_path / "mark"
    script.write_text(PAUSED_TRAINING)
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launch, str(script), str(stage), str(mark), *arguments(data, tmp_path / "run", *options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            while not mark.exists():
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("stage", "moment"), [(1, "step"), (2, "write")])
def test_a_killed_training_resumes_to_the_bit(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], uninterrupted: Path, stage: int, moment: str
) -> None:
    options = arguments(data, tmp_path / "run", *SHORT, "--checkpoint_steps=1")
    assert train_until_signal(options, stage, moment, signal.SIGKILL).code == -signal.SIGKILL
    state = checkpoint.load(str(tmp_path / "run" / "last.pt"))
    done = 2 if moment == "step" else 1
    assert (state["position"]["stage"], state["position"]["step"]) == (stage, done)
    assert run(data, tmp_path / "run", *SHORT) == 0
    epochs = "0 epochs" if stage == 1 else "2 epochs"
    assert f"last.pt: {epochs} and {counted(done, 'step')} are done" in capsys.readouterr().out
    assert_equal_weights(weights(tmp_path / "run"), weights(uninterrupted))


def test_sigterm_saves_a_checkpoint_and_explains_how_to_continue(
    data: str, tmp_path: Path, uninterrupted: Path
) -> None:
    options = arguments(data, tmp_path / "run", *SHORT, "--checkpoint_steps=1000")
    ended = train_until_signal(options, 1, "step", signal.SIGTERM)
    assert ended.code == 1
    assert "attparse-train: failed: interrupted in epoch 0, step 3; run the same command to continue" in ended.text
    assert "Traceback" not in ended.text
    assert checkpoint.load(str(tmp_path / "run" / "last.pt"))["position"]["step"] == 3
    assert run(data, tmp_path / "run", *SHORT) == 0
    assert_equal_weights(weights(tmp_path / "run"), weights(uninterrupted))


def test_a_finished_training_is_left_as_it_is(
    data: str, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = weights(uninterrupted)
    assert run(data, uninterrupted, *SHORT) == 0
    assert "4 epochs done" in capsys.readouterr().out
    assert_equal_weights(weights(uninterrupted), before)


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("--lr=0.1", "begun with another lr: 0.001 then, 0.1 now"),
        ("--seed=3", "begun with another seed: 0 then, 3 now"),
        ("--channels=4,4,4,4,5", "begun with another channels"),
        ("--pad_channels=2", "begun with another pad_channels: None then, 2 now"),
    ],
)
def test_other_options_are_refused_on_resume(
    data: str, uninterrupted: Path, capsys: pytest.CaptureFixture[str], option: str, what: str
) -> None:
    assert run(data, uninterrupted, *SHORT, option) == 2
    assert what in capsys.readouterr().err


def test_other_data_is_refused_on_resume(
    tmp_path: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_dataset(tmp_path / "other", {"train-000000": 9, "train-000001": 8, "val-000000": 6})
    assert run(other, uninterrupted, *SHORT) == 2
    assert "begun with another data (its shards); use another --output" in capsys.readouterr().err


def test_the_baseline_reads_no_masks_and_has_no_first_stage(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_dataset(tmp_path / "aligned", SHARDS, crop="none")
    assert run(folder, tmp_path / "run", "--baseline", "--stage2_epochs=1", "--batch_size=4") == 0
    assert "note" not in capsys.readouterr().out
    (record,) = history(tmp_path / "run")
    assert (record["stage"], record["train_mse"], record["val_mse"]) == (2, 0, 0)
    assert run(data, tmp_path / "face", "--baseline", "--stage2_epochs=1", "--batch_size=4") == 0
    assert "note: the paper's baseline is trained on --crop none data, this is --crop face" in capsys.readouterr().out


def test_a_stage_ends_early_when_the_losses_diverge(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    validated = iter([0.5, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1])
    trained = iter([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])

    def results(_: object, prefix: str) -> dict[str, float]:
        value = next(trained if prefix == "train" else validated)
        return {f"{prefix}_{name}": value for name in ("loss", "mse", "bce", "accuracy")}

    monkeypatch.setattr(EpochSums, "results", results)
    options = ["--stage1_epochs=0", "--stage2_epochs=8", "--early_stop=2", "--batch_size=4"]
    assert run(data, tmp_path / "run", *options) == 0
    assert len(history(tmp_path / "run")) == 4
    assert "stage 2 ends early: validation loss was lowest in its epoch 2" in capsys.readouterr().out


def test_the_best_network_is_that_of_the_lowest_validation_loss(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bce = iter([0.5, 0.3, 0.4])
    states = []
    results = EpochSums.results

    def note(self: Any, prefix: str) -> dict[str, float]:
        found = results(self, prefix)
        return {**found, "val_bce": next(bce)} if prefix == "val" else found

    save_last = checkpoint.RunCheckpoints.save_last

    def note_last(self: Any, model: AttParseNet, *rest: Any) -> None:
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        save_last(self, model, *rest)

    monkeypatch.setattr(EpochSums, "results", note)
    monkeypatch.setattr(checkpoint.RunCheckpoints, "save_last", note_last)
    assert run(data, tmp_path / "run", "--stage1_epochs=0", "--stage2_epochs=3", "--batch_size=4") == 0
    assert_equal_weights(checkpoint.load(str(tmp_path / "run" / "best.pt"))["model"], states[1])


def test_options_that_change_the_computation(data: str, tmp_path: Path) -> None:
    short = ("--stage1_epochs=1", "--stage2_epochs=1", "--batch_size=8")
    options = {"plain": [], "bare": ["--no_batch_norm"], "bf16": ["--precision=bf16"], "mse": ["--mse_weight=7"]}
    losses = {}
    for name, changed in options.items():
        assert run(data, tmp_path / name, *short, *changed) == 0
        losses[name] = [record["train_loss"] for record in history(tmp_path / name)]
        assert np.isfinite(losses[name]).all()
    assert losses["bf16"] == pytest.approx(losses["plain"], rel=0.05)
    assert losses["bf16"] != losses["plain"]
    assert not any("running_mean" in name for name in weights(tmp_path / "bare"))
    assert any("running_mean" in name for name in weights(tmp_path / "plain"))
    first, _ = history(tmp_path / "mse")
    assert first["train_loss"] == pytest.approx(7 * first["train_mse"])


def test_a_compiled_network_learns_the_same(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile really traces the network and its gradients; only the code generator is left out."""
    short = ("--stage1_epochs=1", "--stage2_epochs=1", "--batch_size=8")
    traced = []

    def backend(graph: Any, inputs: Any) -> Any:
        traced.append(graph)
        return aot_eager(graph, inputs)

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    try:
        assert run(data, tmp_path / "compiled", *short, "--compile") == 0
    finally:
        torch._dynamo.reset()
    assert len(traced) >= 2
    calls = [str(node.target) for graph in traced for node in graph.graph.nodes]
    assert any("conv2d" in call for call in calls)
    assert run(data, tmp_path / "plain", *short) == 0
    for one, other in zip(history(tmp_path / "compiled"), history(tmp_path / "plain"), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)


def test_unknown_labels_change_nothing_but_what_is_known_of_them(tmp_path: Path) -> None:
    """Where all labels of an attribute are unknown, the network never learns its map or its row of the classifier."""
    data = write_dataset(tmp_path / "data", {"train-000000": 8, "val-000000": 4})
    for name, first, count in (("train-000000", 0, 8), ("val-000000", 8, 4)):
        samples = {f"s{index:04}": members_of(index, unknown=("Blue",)) for index in range(first, first + count)}
        write_tar(tmp_path / "data" / "shards" / f"{name}.tar", samples)
    write_dataset_file(tmp_path / "data", {"train-000000": 8, "val-000000": 4})
    options = ["--stage1_epochs=1", "--stage2_epochs=1", "--batch_size=4", "--no_batch_norm", "--label_repair"]
    assert run(data, tmp_path / "run", *options) == 0
    for record in history(tmp_path / "run"):
        assert all(np.isfinite(value) for value in record.values())
    torch.manual_seed(0)
    start = AttParseNet(3, (4, 4, 4, 4, 4), batch_norm=False).state_dict()
    trained = weights(tmp_path / "run")
    for learned, name in ((True, "Red"), (False, "Blue")):
        row = ATTRIBUTES.index(name)
        assert torch.equal(trained["classifier.weight"][row], start["classifier.weight"][row]) != learned
        assert torch.equal(trained["classifier.bias"][row], start["classifier.bias"][row]) != learned
    assert torch.equal(
        load_model(str(tmp_path / "run" / "best.pt"), torch.device("cpu")).model.classifier.weight[2],
        start["classifier.weight"][2],
    )


def test_a_loss_that_is_not_finite_ends_the_training(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, tmp_path / "run", "--lr=1e30", "--no_batch_norm", "--batch_size=4") == 1
    assert "loss became" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--data=nowhere"], "nowhere: no dataset.json, expected the folder of a finished run"),
        (["--device=nothing"], "--device nothing: "),
        (["--batch_size=100"], "no batch of 100 each; use a smaller --batch_size"),
    ],
)
def test_unusable_arguments_are_reported_in_one_line(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], what: str
) -> None:
    assert run(data, tmp_path / "run", *options) == 2
    error = capsys.readouterr().err
    assert what in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "option",
    [
        "--lr=0",
        "--channels=1,2",
        "--smallest_crop=0",
        "--batch_size=0",
        "--early_stop=-1",
        "--seed=x",
        "--output=gs://bucket/run",
        "--pad_channels=0",
    ],
)
def test_bad_arguments_exit_with_2(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run(data, tmp_path / "run", option)
    assert caught.value.code == 2
    name, _, value = option.partition("=")
    assert re.search(f"argument {name}: .*{value}", capsys.readouterr().err)


def test_a_training_of_no_epochs_is_refused(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(data, tmp_path / "run", "--baseline", "--stage2_epochs=0")
    assert caught.value.code == 2
    assert "no epochs" in capsys.readouterr().err


def test_added_filters_of_padded_channels_stay_zero(data: str, tmp_path: Path, uninterrupted: Path) -> None:
    assert run(data, tmp_path / "padded", *SHORT, "--pad_channels=8") == 0
    padded = checkpoint.load(str(tmp_path / "padded" / "last.pt"))
    assert padded["channels"] == [8, 8, 8, 8, 8]
    for name, value in weights(uninterrupted).items():
        rest = padded["model"][name].clone()
        rest[tuple(slice(size) for size in value.shape)] = 0
        assert not rest.any(), name
    first, plain = history(tmp_path / "padded")[0], history(uninterrupted)[0]
    assert first["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-4)
    assert run(data, tmp_path / "padded", *SHORT) == 2


def test_without_a_validation_split_the_last_network_is_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", {"train-000000": 8})
    assert run(data, tmp_path / "run", "--stage1_epochs=0", "--stage2_epochs=2", "--batch_size=4") == 0
    best = checkpoint.load(str(tmp_path / "run" / "best.pt"))["model"]
    assert_equal_weights(best, weights(tmp_path / "run"))
    assert run(data, tmp_path / "other", "--early_stop=2", "--batch_size=4") == 2
    assert "no samples in split 'val', which --early_stop needs" in capsys.readouterr().err


def test_skipped_samples_are_counted_in_the_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data", {"train-000000": 8, "val-000000": 4})
    path = tmp_path / "data" / "shards" / "train-000000.tar"
    content = path.read_bytes()
    path.write_bytes(content[:600] + b"\0" * 400 + content[1000:])
    write_dataset_file(tmp_path / "data", {"train-000000": 8, "val-000000": 4})
    options = ["--stage1_epochs=1", "--stage2_epochs=0", "--batch_size=4"]
    assert run(data, tmp_path / "run", *options) == 2
    assert "train-000000.tar: sample 's0000': jpg" in capsys.readouterr().err
    assert run(data, tmp_path / "run", *options, "--skip_bad_samples") == 0
    assert [record["skipped_samples"] for record in history(tmp_path / "run")] == [1]
    assert "skipped 1 sample: " in capsys.readouterr().err


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[PathLike[bytes] | PathLike[str] | bytes | str], int], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'evil'}",)

    (tmp_path / "run").mkdir()
    torch.save({"version": 1, "model": Evil()}, tmp_path / "run" / "last.pt")
    assert run(data, tmp_path / "run", "--batch_size=4") == 2
    assert "not a checkpoint of attparse-train" in capsys.readouterr().err
    assert not (tmp_path / "evil").exists()


def test_two_processes_train_together_and_resume_to_the_bit(data: str, tmp_path: Path) -> None:
    short = (*SHORT, "--batch_size=2")
    whole, parts = tmp_path / "whole", tmp_path / "run"
    printed = train_on_ranks(arguments(data, whole, *short), tmp_path)
    assert printed.count("16 training images, 4 steps of 2 x 2") == 1
    assert [record["stage"] for record in history(whole)] == [1, 1, 2, 2]
    trained = load_model(str(whole / "last.pt"), torch.device("cpu"))
    (batch,) = Loader(read_dataset(data), LoaderSettings("val", 6)).batches(0)
    logits, _ = trained.model(prepare(batch, torch.device("cpu")).images)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.labels.float())
    assert history(whole)[-1]["val_bce"] == pytest.approx(float(bce), rel=1e-4)

    with paused_torchrun(tmp_path, data, 2, *short, "--checkpoint_steps=1") as process:
        process.terminate()
        error = process.communicate()[1]  # which ends only when no process of the job is left
        assert process.returncode != 0
        assert error.count("attparse-train: failed: interrupted in epoch 2, step 3; run the same command") == 1
    assert [record["stage"] for record in history(parts)] == [1, 1]
    assert "resumed from" in train_on_ranks(arguments(data, parts, *short), tmp_path)
    assert_equal_weights(weights(parts), weights(whole))
