"""The Face Landmarker of MediaPipe's Tasks API, where there is a model file (see tests/local_data.py)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import RunConfig

pytest.importorskip("skimage")

from pipeline.cli import main
from pipeline.detection import model_files
from pipeline.detection.landmark_map import FACE_MESH, LANDMARKER, load_mesh_map
from pipeline.detection.mediapipe_detectors import FaceLandmarker, FaceMesh
from pipeline.formats.manifest import read_manifest
from regions.landmarks import MIRROR
from tests.local_data import LANDMARKER_FILE, SKIP_WITHOUT_LANDMARKER
from tests.photograph import distance, photograph, portrait, shift_when_enlarged

LIMIT = 8


def needs_model(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs a model file."""
    marked: Callable[..., None] = pytest.mark.landmarker(SKIP_WITHOUT_LANDMARKER(test))
    return marked


@pytest.fixture(scope="module")
def landmarker() -> Iterator[FaceLandmarker]:
    detector = FaceLandmarker(LANDMARKER_FILE.read_bytes())
    yield detector
    detector.close()


def run_over(sample: RunConfig, output: Path, *more: str) -> int:
    """Run over the first images of the sample; return the exit code."""
    options = {"images": sample.images, "labels": sample.labels, "output": output, "limit": LIMIT}
    return main(["run", *(f"--{name}={value}" for name, value in options.items()), *more])


@needs_model
def test_it_agrees_with_the_face_mesh(landmarker: FaceLandmarker) -> None:
    mesh = FaceMesh()
    for pixels in (photograph(), portrait()):
        (found,) = landmarker.find(pixels)
        assert found.shape == (68, 2)
        assert distance(found, mesh.find(pixels)[0]) < 0.03
    assert landmarker._map is load_mesh_map(LANDMARKER)
    assert mesh._map is load_mesh_map(FACE_MESH)
    mesh.close()


@needs_model
def test_a_mirrored_image_has_mirrored_landmarks(landmarker: FaceLandmarker) -> None:
    (found,) = landmarker.find(portrait())
    (mirrored,) = landmarker.find(np.ascontiguousarray(portrait()[:, ::-1]))
    assert distance(mirrored[MIRROR] * (-1, 1) + (240, 0), found) < 0.02


@needs_model
def test_its_points_count_from_the_corner_of_the_first_pixel(landmarker: FaceLandmarker) -> None:
    assert np.abs(shift_when_enlarged(landmarker)).max() < 0.15


@needs_model
def test_an_image_without_a_face(landmarker: FaceLandmarker) -> None:
    assert landmarker.find(np.full((60, 80, 3), 130, dtype=np.uint8)) == []


@pytest.mark.slow
@needs_model
def test_a_run_with_a_model_file(sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = LANDMARKER_FILE.read_bytes()
    assert run_over(sample, tmp_path / "mesh") == 0
    assert run_over(sample, tmp_path / "out", f"--landmarker={LANDMARKER_FILE}") == 0
    digest = hashlib.sha256(content).hexdigest()
    known = digest in model_files.KNOWN_LANDMARKERS
    assert ("is not the model file that the landmark map was fitted for" in capsys.readouterr().err) is not known
    document = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert document["samples"] == LIMIT
    assert document["versions"]["landmarker"] == digest
    assert "landmarker" not in json.loads((tmp_path / "mesh" / "dataset.json").read_text())["versions"]
    former, rows = (read_manifest(str(tmp_path / name), "train-000000").to_pylist() for name in ("mesh", "out"))
    found, expected = (np.array([row["landmarks"] for row in run]).reshape(-1, 68, 2) for run in (rows, former))
    errors = [distance(*pair) for pair in zip(found, expected, strict=True)]
    assert min(errors) > 0 and np.median(errors) < 0.03 and max(errors) < 0.1  # the last image is blurred
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_a_file_that_is_no_model_is_refused_and_a_former_run_kept(
    sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, path = tmp_path / "out", tmp_path / "no_model.task"
    assert run_over(sample, output) == 0
    former = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    path.write_bytes(np.random.default_rng(0).bytes(3000))
    capsys.readouterr()
    for folder in (output, tmp_path / "new"):
        assert run_over(sample, folder, f"--landmarker={path}") == 2
        errors = capsys.readouterr().err
        assert errors.startswith(f"attparse: {path}: not a model") and errors.count("\n") == 1
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == former
    assert not (tmp_path / "new").exists()
