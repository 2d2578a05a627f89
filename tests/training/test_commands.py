"""The command lines: they start fast, print their version, and have one default for each option."""

from __future__ import annotations

import importlib
import importlib.metadata
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any

import pytest

from regions.messages import counted
from training.cli_common import run_command
from training.config import EvaluateConfig, ExportConfig, PredictConfig, TrainConfig

COMMANDS = {"train": TrainConfig, "evaluate": EvaluateConfig, "predict": PredictConfig, "export": ExportConfig}
HEAVY = ("torch", "webdataset", "matplotlib", "onnx", "onnxruntime", "sklearn", "cv2", "numpy", "PIL")


def main_of(name: str) -> Callable[[Sequence[str]], int]:
    main: Callable[[Sequence[str]], int] = importlib.import_module(f"training.{name}").main
    return main


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_no_library(name: str) -> None:
    code = f"""
import sys
from training.{name} import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
print(*sorted(set(sys.modules) & {set(HEAVY)!r}), "were imported")
"""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.startswith("usage: ")
    assert printed.splitlines()[-1] == "were imported"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_version_is_that_of_the_distribution(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main_of(name)(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.split() == [f"attparse-{name}", importlib.metadata.version("attparse")]


@pytest.mark.parametrize(("name", "config"), COMMANDS.items())
def test_each_option_has_the_default_of_its_field(name: str, config: type[Any]) -> None:
    parser = importlib.import_module(f"training.{name}").make_parser()
    defaults = {field.name: None if field.default is MISSING else field.default for field in fields(config)}
    actions = [action for action in parser._actions if action.dest not in ("help", "version")]
    assert {action.dest for action in actions} == set(defaults)
    for action in actions:
        assert parser.get_default(action.dest) == defaults[action.dest], action.dest
    assert all(action.help for action in actions)


def test_counts_have_their_noun_in_the_right_number() -> None:
    counts = [counted(count, "image") for count in (0, 1, 2, 12345)]
    assert counts == ["0 images", "1 image", "2 images", "12,345 images"]


REQUIRED = {
    "train": ("--data=D", "--output=O"),
    "evaluate": ("--checkpoint=C", "--output=O", "--data=D"),
    "predict": ("--checkpoint=C", "face.jpg"),
    "export": ("--checkpoint=C", "--output=O"),
}
COUNTS = ("", "-1", "x", "1.5", "nan", str(2**70), "9" * 5000, "1_0", "\u0660x", "1\n2")
RATES = ("", "0", "-1", "nan", "inf", "1e999", "x", "1,5")
BAD_OPTIONS = [
    *(("train", f"--{name}", value) for name in ("stage1_epochs", "workers", "early_stop") for value in COUNTS),
    *(("train", f"--{name}", value) for name in ("batch_size", "pad_channels", "checkpoint_steps") for value in COUNTS),
    *(("train", "--seed", value) for value in (*COUNTS, str(2**63))),
    *(("train", f"--{name}", value) for name in ("lr", "mse_weight", "smallest_crop") for value in RATES),
    *(
        ("train", "--channels", value)
        for value in ("", "0", "0,0,0,0,0", "8,8,8,8", "8,8,8,8,-8", "9,9,9,9,1000000000")
    ),
    *((name, "--output", value) for name in COMMANDS for value in ("", " ", "gs://bucket/run")),
    *(("evaluate", f"--{name}", value) for name in ("batch_size", "workers") for value in ("-1", str(2**70), "x")),
    *((name, "--checkpoint", "") for name in ("evaluate", "predict", "export")),
    *((name, "--data", "") for name in ("train", "evaluate")),
    *(("evaluate", f"--{name}", "") for name in ("images", "labels")),
    ("train", "--batch_size", "0"),
    ("evaluate", "--batch_size", "0"),
    ("train", "--pad_channels", "257"),
    ("train", "--epochs", "0"),
    ("train", "--threads", "-1"),
]


@pytest.mark.parametrize(("name", "option", "value"), BAD_OPTIONS)
def test_a_bad_option_is_one_line(name: str, option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main_of(name)([*REQUIRED[name], f"{option}={value}"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"attparse-{name}: error: ")
    assert option in line
    assert "found" in line or "unrecognized" in line
    assert "_" not in line.partition(option)[2].replace("1_0", "")
    assert len(line) < 300


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_every_signal_to_stop_is_one_line_and_exit_code_1(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    assert run_command("attparse-evaluate", lambda: signal.raise_signal(number)) == 1
    assert capsys.readouterr().err == "attparse-evaluate: interrupted\n"
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_command("attparse-evaluate", lambda: signal.raise_signal(signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_lack_of_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise MemoryError

    assert run_command("attparse-train", work) == 1
    error = capsys.readouterr().err
    assert error == "attparse-train: failed: out of memory; try a smaller --batch_size or smaller --channels\n"
