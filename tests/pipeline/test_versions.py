"""The versions that decide bytes: one list, and workers that differ are refused."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.building.annotate import open_annotator
from pipeline.building.settings import BuildSettings
from pipeline.building.stopwatch import Stopwatch
from pipeline.building.versions import (
    CROP_STAGES,
    SAMPLE_STAGES,
    STAGES_OF_VERSION,
    check_versions,
    installed_version,
    names_of,
    versions,
)
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.errors import RunError
from pipeline.records import DetectorSettings
from regions.attributes import load_packaged_table

DETECTORS = DetectorSettings(versions={"mediapipe": importlib.metadata.version("mediapipe"), "landmarker": "abc"})
OF_A_MACHINE = [name for name in versions(DETECTORS) if name not in ("detectors", "landmarker")]


def test_every_version_is_in_the_list() -> None:
    assert set(versions(DETECTORS)) <= set(STAGES_OF_VERSION)


def test_the_versions_of_crops_and_of_samples() -> None:
    crops = {"format", "crop", "images", "encoding", "numpy", "opencv-contrib-python", "pillow", "simplejpeg"}
    assert set(names_of(CROP_STAGES)) == crops
    assert set(names_of(SAMPLE_STAGES)) == crops | {"rules", "masks"}


def test_the_machine_that_started_the_run_is_accepted() -> None:
    check_versions(versions(DETECTORS))


@pytest.mark.parametrize("name", OF_A_MACHINE)
def test_a_worker_that_differs_is_refused(name: str) -> None:
    expected = {**versions(DETECTORS), name: "0.1"}
    own = installed_version(name)
    with pytest.raises(RunError, match=f"^this worker has {name} {own}, expected 0.1, as where the run was started$"):
        check_versions(expected)


def test_a_worker_without_a_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_pillow(name: str) -> str:
        if name == "pillow":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    expected = versions(DETECTORS)
    monkeypatch.setattr(importlib.metadata, "version", without_pillow)
    with pytest.raises(RunError, match="this worker has no pillow, expected"):
        check_versions(expected)


def test_only_the_stages_that_a_worker_runs_count() -> None:
    expected = {**versions(DETECTORS), "mediapipe": "0.1", "detection": 99, "masks": 99}
    check_versions(expected, CROP_STAGES)
    with pytest.raises(RunError, match="masks"):
        check_versions(expected, SAMPLE_STAGES)


def test_an_annotator_is_not_opened_with_other_versions() -> None:
    table = load_packaged_table("celeba")
    expected = {**versions(DETECTORS), "numpy": "1.0"}
    settings = BuildSettings("images", "out", table, "face", 0, 0, DETECTORS, expected)
    with pytest.raises(RunError, match="this worker has numpy"):
        open_annotator(settings, Stopwatch())


def test_a_run_whose_workers_differ_fails_in_one_line(
    sample: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.building import run

    monkeypatch.setattr(run, "versions", lambda detectors: {**versions(detectors), "numpy": "1.0"})
    assert main(["run", f"--images={sample.images}", f"--labels={sample.labels}", f"--output={tmp_path / 'out'}"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("attparse: failed")]
    own = importlib.metadata.version("numpy")
    assert line == f"attparse: failed: this worker has numpy {own}, expected 1.0, as where the run was started"
    assert not list((tmp_path / "out" / "shards").iterdir())


def test_the_versions_travel_in_the_settings_alone() -> None:
    """A worker's check needs nothing of the launcher: it runs in a fresh process, from the pickle."""
    code = (
        "import sys, pickle, importlib.metadata as m\n"
        "from pipeline.building.versions import check_versions\n"
        "check_versions(pickle.load(sys.stdin.buffer))\n"
        "print('equal')"
    )
    import pickle

    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(versions(DETECTORS)), capture_output=True, check=True
    )
    assert done.stdout == b"equal\n"
