"""Trainings that end between two writes, or run twice at once: the results are those of an uninterrupted one."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training_data import write_dataset
from training import checkpoint, loop, run_log, storage, train
from training.distributed import World
from training.run_log import best_epoch, last_is_best

pytestmark = pytest.mark.slow

OPTIONS = ("--device=cpu", "--channels=2,2,2,2,2", "--workers=0", "--batch_size=2", "--deterministic")
SHORT = (*OPTIONS, "--stage1_epochs=0", "--stage2_epochs=3", "--checkpoint_steps=1")
BEST = 2
"""The best epoch of three, the last but one: the one before it was the best, too, until then."""


class Killed(BaseException):
    """Takes the place of SIGKILL: no handler of errors notices it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_dataset(tmp_path_factory.mktemp("data") / "data", {"train-000000": 4, "val-000000": 2})


def set_up(patch: pytest.MonkeyPatch) -> None:
    """Decide which epochs are the best so far, and write the curves at once: matplotlib takes most of the time."""
    patch.setattr(loop, "last_is_best", lambda history: len(history) in (BEST - 1, BEST))
    patch.setattr(run_log, "draw_curves", lambda history, path: storage.write_text(path, str(len(history))))


@pytest.fixture(autouse=True)
def _set_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    set_up(monkeypatch)
    yield
    torch.use_deterministic_algorithms(False)


def run(data: str, output: Path, *options: str) -> int:
    return train.main([f"--data={data}", f"--output={output}", *(options or SHORT)])


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: record[name] for name in record if name not in ("seconds", "images_per_second")} for record in records
    ]


def assert_same(one: Any, other: Any) -> None:
    """Compare values with tensors among them, to the bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
    else:
        assert one == other


def assert_same_results(one: Path, other: Path) -> None:
    assert (one / "best.pt").read_bytes() == (other / "best.pt").read_bytes()
    states = [checkpoint.load(str(folder / "last.pt")) for folder in (one, other)]
    for state in states:
        state["history"] = without_times(state["history"])
    assert_same(*states)
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (one, other)]
    assert without_times([json.loads(line) for line in lines[0]]) == without_times(
        [json.loads(line) for line in lines[1]]
    )
    assert sorted(path.name for path in one.iterdir()) == ["best.pt", "curves.png", "last.pt", "metrics.jsonl"]


@pytest.fixture(scope="module")
def whole(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without a break, whose best epoch is not the last one."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        set_up(patch)
        assert run(data, folder) == 0
    return folder


def killing_replace(number: int) -> Callable[[str, str], None]:
    """Return an `os.replace` that ends the process at its n-th call, which does nothing but leave a temporary file."""
    replace, calls = os.replace, iter(range(1, 1000))

    def kill(source: str, target: str) -> None:
        if next(calls) == number:
            (Path(target).parent / f".{number:032x}.tmp").write_bytes(b"half a file")
            raise Killed
        replace(source, target)

    return kill


def test_a_kill_at_each_write_changes_no_result(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    """Before the checkpoints of each step and epoch, the best network, metrics and curves, each in turn."""
    for number in range(1, 100):
        output = tmp_path / str(number)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killing_replace(number))
            try:
                ended = run(data, output)
            except Killed:
                ended = -9
        if ended == 0:
            break
        assert run(data, output) == 0
        assert_same_results(output, whole)
    assert number == 3 * 2 * 2 + 2 + 2 + 1 + 1  # steps with two files each, the best one twice, two files and curves


def test_a_kill_between_last_and_best_is_repaired_at_once(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.RunCheckpoints, "save_best", kill)
        with pytest.raises(Killed):
            run(data, tmp_path / "run")
        assert not (tmp_path / "run" / "best.pt").exists()
        patch.undo()
        patch.setattr(loop.Training, "_run_stage", kill)
        with pytest.raises(Killed):
            run(data, tmp_path / "run")
    first_best = checkpoint.load(str(tmp_path / "run" / "best.pt"))["model"]
    assert_same(first_best, dict(checkpoint.load(str(tmp_path / "run" / "last.pt"))["model"]))
    assert run(data, tmp_path / "run") == 0
    assert_same_results(tmp_path / "run", whole)


@pytest.mark.parametrize("damage", ["lost", "of another epoch", "of another training"])
def test_the_best_network_comes_back_from_the_last_checkpoint(
    data: str, tmp_path: Path, whole: Path, damage: str
) -> None:
    assert run(data, tmp_path / "run") == 0
    best = tmp_path / "run" / "best.pt"
    if damage == "lost":
        best.unlink()
    else:
        best.write_bytes((whole / "last.pt").read_bytes() if damage == "of another epoch" else b"something else")
    assert run(data, tmp_path / "run") == 0
    assert_same_results(tmp_path / "run", whole)


def test_the_best_network_of_a_former_training_is_neither_kept_nor_lost(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "best.pt").write_bytes(b"of weeks")
    assert run(data, tmp_path) == 2
    assert capsys.readouterr().err == (
        f"attparse-train: {tmp_path}/best.pt: found without last.pt, which resuming needs; move it away, or use another"
        " --output\n"
    )
    assert os.listdir(tmp_path) == ["best.pt"]


def test_a_second_training_in_the_same_folder_is_refused(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert run(data, tmp_path) == 2
    finally:
        os.close(descriptor)
    error = capsys.readouterr().err
    assert error == f"attparse-train: {tmp_path}: another training is writing here; use another --output\n"
    assert os.listdir(tmp_path) == []


def test_what_killed_trainings_left_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    ours, others = (f".{'0f' * 16}.tmp", ".last.pt.x.tmp"), ("a.tmp", ".hidden", "best.pt", ".folder.tmp")
    for name in (*ours, *others[:3]):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / others[3]).mkdir()
    with storage.locked(str(tmp_path)):
        assert sorted(os.listdir(tmp_path)) == sorted(others)


def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with storage.locked(str(tmp_path / "run")):
        assert (tmp_path / "run").is_dir()
    error = capsys.readouterr().err
    assert (
        error == f"{tmp_path}/run: can't be locked (No locks available): make sure that no other training writes here\n"
    )


def test_a_folder_that_cannot_be_written_to_is_noticed_at_the_start(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert run(data, tmp_path / "file") == 2
    assert capsys.readouterr().err == f"attparse-train: {tmp_path}/file: File exists\n"


@pytest.mark.parametrize("cores", [1, 3, 64])
def test_another_number_of_cores_changes_no_result(
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: Path,
    capsys: pytest.CaptureFixture[str],
    cores: int,
) -> None:
    options = tuple(option for option in SHORT if not option.startswith("--workers"))
    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "available_cores", lambda: 2)
        patch.setattr(os, "replace", killing_replace(8))
        with pytest.raises(Killed):
            run(data, output, *options)
    monkeypatch.setattr(loop, "available_cores", lambda: cores)
    assert run(data, output, *options) == 0
    printed = capsys.readouterr().out
    assert "resumed from" in printed
    assert "note:" not in printed
    assert_same_results(output, whole)


def test_another_machine_goes_on_and_the_log_says_what_differs(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a training begun on a GPU: its channels were rounded up, and it rounds in another way."""
    with monkeypatch.context() as patch:
        patch.setattr(loop, "choose_padding", lambda *_: 8)
        patch.setattr(loop.Training, "_machine", lambda _: "NVIDIA H100, bf16, torch 2.13.0")
        patch.setattr(os, "replace", killing_replace(8))
        with pytest.raises(Killed):
            run(data, tmp_path / "run")
    assert run(data, tmp_path / "run") == 0
    assert (
        "note: the weights will not be bit-identical to those of an uninterrupted training: begun with"
        " NVIDIA H100, bf16, torch 2.13.0, continued with CPU with "
    ) in capsys.readouterr().out
    assert checkpoint.load(str(tmp_path / "run" / "best.pt"))["channels"] == [8] * 5


def test_ranks_without_a_common_folder_are_refused(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "ranks_differ", lambda _: True)
    assert run(data, tmp_path / "run") == 2
    assert "run: found different checkpoints, expected a folder of all machines\n" in capsys.readouterr().err


def test_only_the_first_rank_says_that_the_training_was_interrupted() -> None:
    training = loop.Training.__new__(loop.Training)
    training.world = World(rank=1, size=2)
    with pytest.raises(SystemExit) as caught:
        training._end_interrupted("step 1")
    assert caught.value.code == 1


def test_an_epoch_whose_loss_is_not_a_number_is_never_the_best() -> None:
    records = [{"stage": 2, "val_bce": value} for value in (float("nan"), 0.3, float("nan"), 0.2)]
    assert [last_is_best(records[: count + 1]) for count in range(4)] == [True, True, False, True]
    assert best_epoch(records[:3], "val_bce") == 1


def test_a_loss_that_is_not_finite_is_noticed_before_it_is_saved(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "STEPS_PER_CHECK", 1000)
    monkeypatch.setattr(loop.Training, "take_step", lambda *_: torch.tensor(float("nan")))
    assert run(data, tmp_path / "run") == 1
    assert "loss became NaN in epoch 0, step 1: try a smaller --lr" in capsys.readouterr().err
    assert not (tmp_path / "run" / "last.pt").exists()
