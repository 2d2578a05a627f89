"""The command lines: they start fast, print their version, and have one default for each option."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any

import pytest

from regions.messages import counted
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
