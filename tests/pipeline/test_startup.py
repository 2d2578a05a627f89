"""What a local run does not import, and that nothing is missing where it is needed later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.building import progress, runner
from pipeline.building.runner import PROCESSES, THREADS, beam_options
from pipeline.imports import absent, postponed

HEAVY = (
    "google.cloud.storage",
    "google.api_core",
    "boto3",
    "pandas",
    "pymongo",
    "IPython",
    "matplotlib",
    "sounddevice",
)


def output_of(program: str) -> list[str]:
    """Return the words that a program in a fresh interpreter prints last."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.slow
def test_a_local_run_imports_nothing_of_the_cloud(tmp_path: Path) -> None:
    """Up to its first image: Beam, the graph and the detectors are there, and what they can do without is not."""
    program = f"""
import sys
from pipeline.cli import main
code = main(["run", "--images={tmp_path}", "--labels={tmp_path}/none.txt", "--output={tmp_path}/out"])
import pipeline.detection.mediapipe_detectors
print(code, "apache_beam" in sys.modules, *[name for name in {HEAVY!r} if name in sys.modules])
"""
    assert output_of(program) == ["2", "True"]


@pytest.mark.slow
def test_a_local_beam_becomes_whole_when_a_remote_path_is_used() -> None:
    pytest.importorskip("google.cloud.storage")
    program = """
from pipeline.beam_imports import import_local_beam, import_whole_beam
import_local_beam()
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
kinds = set(PipelineOptions.__subclasses__())
import_whole_beam()
from apache_beam.runners.dataflow.internal import apiclient
found = type(FileSystems.get_filesystem("gs://bucket/name")).__name__
print(found, apiclient.dataflow.Job.__name__, kinds == set(PipelineOptions.__subclasses__()))
"""
    assert output_of(program) == ["GCSFileSystem", "Job", "True"]


@pytest.mark.slow
def test_mediapipe_is_complete_when_its_other_modules_are_used() -> None:
    program = """
import sys
from pipeline.detection.mediapipe_detectors import mediapipe
before = "matplotlib" in sys.modules
mediapipe.solutions.drawing_utils.plot_landmarks
from mediapipe.tasks.python import vision
print(before, "matplotlib" in sys.modules, vision.FaceLandmarker.__name__)
"""
    assert output_of(program) == ["False", "True", "FaceLandmarker"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package whose code, and that of its module, appends to ``sys.ran``."""
    folder = tmp_path / "some_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("import sys\nsys.ran.append('package')\nvalue = 1\n")
    (folder / "module.py").write_text("import sys\nsys.ran.append('module')\nfrom some_package import value\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "ran", [], raising=False)
    for name in ("some_package", "some_package.module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder.name


def test_a_postponed_module_runs_once_at_its_first_use(package: str) -> None:
    with postponed(package, f"{package}.module"):
        module = __import__(f"{package}.module").module
    assert sys.ran == []  # type: ignore[attr-defined]
    assert module.value == 1
    assert sys.ran == ["module", "package"]  # type: ignore[attr-defined]
    assert module.value == sys.modules[package].value
    assert sys.ran == ["module", "package"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = module.other


def test_an_absent_module_is_there_after_the_block(package: str) -> None:
    with absent(package), pytest.raises(ModuleNotFoundError, match=package):
        __import__(package)
    assert __import__(package).value == 1


@pytest.mark.parametrize(
    ("flags", "cores", "forks", "mode"),
    [
        ([], 2, True, PROCESSES),
        ([], 2, False, THREADS),
        ([], 1, True, THREADS),
        ([], 8, False, PROCESSES),
        (["--direct_num_workers=1"], 8, True, THREADS),
        (["--direct_num_workers", "2"], 1, True, PROCESSES),
        (["--direct_running_mode=multi_threading"], 8, True, THREADS),
    ],
)
def test_several_workers_are_processes_where_these_start_fast(
    flags: list[str], cores: int, forks: bool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "can_fork", lambda: forks)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert beam_options(flags).get_all_options()["direct_running_mode"] == mode


def test_forks_move_the_bar_of_their_launcher(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_counts_of_this_process", [])
    counts = [progress.shared_counts() for _ in range(2)]
    with progress.show({"train-000000": 5}, "out", in_process=False):
        progress.count_in(counts[0])
        for written in (True, True, False):
            progress.image_done(written=written)
        counts[1] += (2, 0)  # what the other fork does
    assert [array.tolist() for array in counts] == [[3, 1], [2, 0]]
    last = capsys.readouterr().err.split("\r")[-1]
    assert "5/5" in last
    assert "rejected=1" in last
