"""On a machine that lacks a shared library of the system, help works and commands end with one line."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.errors import RunError
from regions.system_libraries import library_problem
from training.cli_common import run_command

ROOT = Path(__file__).resolve().parent.parent
NO_SUCH_FILE = "cannot open shared object file: No such file or directory"
RUN_ALL = """
import importlib
for name, *arguments in {commands!r}:
    try:
        code = importlib.import_module(name).main(arguments)
    except SystemExit as end:
        code = end.code
    print("code", code)
"""
HELP = [
    ("pipeline.cli", "--help"),
    ("pipeline.cli", "run", "--help"),
    *((f"training.{name}", "--help") for name in ("train", "evaluate", "predict", "export")),
]
WORK = [
    ("pipeline.cli", "demo", "--output=to"),
    ("pipeline.cli", "verify", "nothing"),
    ("pipeline.cli", "preview", "nothing", "--output=to.png"),
    ("training.train", "--data=nothing", "--output=to"),
    ("training.evaluate", "--checkpoint=nothing", "--data=nothing", "--output=to"),
    ("training.predict", "--checkpoint=nothing", "nothing.jpg"),
    ("training.export", "--checkpoint=nothing", "--output=to.onnx"),
]


def run_without_opencv(commands: Sequence[Sequence[str]], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text(f"raise ImportError('libGL.so.1: {NO_SUCH_FILE}')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    script = RUN_ALL.format(commands=list(commands))
    return subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )


def test_help_needs_no_library_of_the_system(tmp_path: Path) -> None:
    done = run_without_opencv(HELP, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("code 0\n") == done.stdout.count("usage: ") == len(HELP)


@pytest.mark.slow
def test_without_libgl_each_command_prints_the_package_in_one_line(tmp_path: Path) -> None:
    done = run_without_opencv(WORK, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["code 1"] * len(WORK)
    lines = done.stderr.splitlines()
    assert len(lines) == len(WORK), done.stderr
    for (command, *_), line in zip(WORK, lines, strict=True):
        name = "attparse" if command == "pipeline.cli" else command.replace("training.", "attparse-")
        assert line.startswith(
            f"{name}: failed: libGL.so.1 is missing; install it: apt-get install libgl1 libglib2.0-0"
        )
        assert "mesa-libGL" in line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ImportError(f"libgthread-2.0.so.0: {NO_SUCH_FILE}"), "libgthread-2.0.so.0 is missing; install it: apt-get"),
        (ImportError(f"libGLESv2.so.2: {NO_SUCH_FILE}"), "apt-get install libgles2"),
        (ImportError(f"advice\n * Original error was: /opt/libz.so.1: {NO_SUCH_FILE}\n"), "libz.so.1 is missing"),
        (ImportError(f"libother.so: {NO_SUCH_FILE}"), "libother.so is missing; install the package of the system"),
        (OSError(f"libgomp.so.1: {NO_SUCH_FILE}"), "apt-get install libgomp1"),
        (ImportError("Error loading shared library libGL.so.1: No such file (needed by /x.so)"), "libGL.so.1 is miss"),
        (
            ImportError("dlopen(/x/cv2.so, 2): Library not loaded: @rpath/libQt.dylib\n  tried"),
            "libQt.dylib is missing",
        ),
        (ImportError("/lib/libstdc++.so.6: version `GLIBCXX_3.4.29' not found"), "cannot be loaded: /lib/libstdc++"),
    ],
    ids=str,
)
def test_a_library_that_is_missing_is_named(error: ImportError | OSError, expected: str) -> None:
    problem = library_problem(error)
    assert problem is not None
    assert expected in problem
    assert len(problem.splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'x.so'", name="x"),
        ImportError("cannot import name 'a' from 'b' (/x/b.cpython-311.so)"),
        FileNotFoundError(2, "No such file", "x.so"),
        OSError("a disk that is full"),
    ],
    ids=repr,
)
def test_other_errors_are_not_taken_for_a_missing_library(error: ImportError | OSError) -> None:
    assert library_problem(error) is None


def test_without_an_extra_the_trainer_prints_how_to_install_it(capsys: pytest.CaptureFixture[str]) -> None:
    def work(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    assert run_command("attparse-train", lambda: work("torch")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("attparse-train: failed: torch is not installed; it comes with the extra training: pip ")
    with pytest.raises(ModuleNotFoundError):
        run_command("attparse-train", lambda: work("training.nothing"))


class WithoutEgl:
    """Lets ``import mediapipe`` fail as it does where libEGL is missing."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "mediapipe":
            raise ImportError(f"libEGL.so.1: {NO_SUCH_FILE}")
        return None


def test_what_mediapipe_lacks_ends_a_run_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mediapipe", "pipeline.detection.mediapipe_detectors"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [WithoutEgl(), *sys.meta_path])
    with pytest.raises(RunError, match=r"^mediapipe cannot be imported: libEGL\.so\.1 is missing; .* libegl1 "):
        importlib.import_module("pipeline.detection.mediapipe_detectors")
