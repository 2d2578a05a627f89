"""Model files of the detectors: where they are, and their hashes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pipeline import storage
from pipeline.errors import InputError, RunError
from pipeline.records import DetectorSettings

LANDMARKER_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
KNOWN_LANDMARKERS = {
    "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff": "float16, version 1",
}
"""sha256 of the Face Landmarker model files that the landmark map was fitted for."""

LANDMARKER_PARTS = ("face_detector.tflite", "face_landmarks_detector.tflite")
"""Members of a Face Landmarker model file, which is a zip file."""

BUILT_IN_MODEL = "modules/face_landmark/face_landmark_with_attention.tflite"
"""FaceMesh's model inside the mediapipe package; only some releases contain it."""
SEGMENTATION_MODEL = "modules/selfie_segmentation/selfie_segmentation.tflite"
"""The person segmentation model inside the mediapipe package; only some releases contain it."""
DLIB_MODEL = "models/shape_predictor_68_face_landmarks.dat"
"""dlib's 68-point model inside the package face_recognition_models."""


def is_in_mediapipe(model: str) -> bool:
    """Return whether the installed mediapipe contains a model."""
    folder = _package_folder("mediapipe")
    return folder is not None and (folder / model).is_file()


def _package_folder(package: str) -> Path | None:
    """Return the folder of an installed package without importing the package."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or not spec.submodule_search_locations else Path(spec.submodule_search_locations[0])


def landmarker_hash(path: str) -> str:
    """Return the sha256 of a Face Landmarker model file.

    Raises
    ------
    InputError
        If the file can't be read or is not such a model.
    """
    digest = model_hash(path)
    try:
        with storage.open_read(path) as stream, zipfile.ZipFile(stream) as bundle:
            complete = set(LANDMARKER_PARTS) <= set(bundle.namelist())
    except zipfile.BadZipFile:
        complete = False
    if not complete:
        raise InputError(f"{path}: not a model of MediaPipe's Face Landmarker; download it from {LANDMARKER_URL}")
    return digest


def model_hash(path: str) -> str:
    """Return the sha256 of a model file.

    Raises
    ------
    InputError
        If the file can't be read.
    """
    with storage.explained(path, "a model file"):
        return storage.sha256_of(path)


def check_model_files(detectors: DetectorSettings) -> None:
    """Check that this worker has the model files that the machine has which started the run.

    A path that exists on both may be of two files, whose landmarks differ.

    Raises
    ------
    InputError
        If a file can't be read.
    RunError
        If a file is another one.
    """
    paths = {"landmarker": detectors.landmarker, "dlib_model": detectors.dlib_model}
    for name, path in paths.items():
        expected = detectors.versions.get(name)
        if expected is None:
            continue
        file = dlib_model_path(path) if name == "dlib_model" else path
        if file is not None and (found := model_hash(file)) != expected:
            raise RunError(
                f"{file}: this worker has another model file, of sha256 {found[:12]}..., expected that of"
                f" {expected[:12]}..., as where the run was started"
            )


def dlib_model_path(path: str | None) -> str:
    """Return the given path, or that of the model in the package face_recognition_models.

    Raises
    ------
    InputError
        If none is given and the package is not installed.
    """
    if path is not None:
        return path
    folder = _package_folder("face_recognition_models")
    if folder is None:
        raise InputError(
            "--detectors dlib needs a model file: pass one with --dlib_model F.dat, or install the extra dlib,"
            " which contains one"
        )
    return str(folder / DLIB_MODEL)


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Provide a local path to a file, remote or not, for libraries that read only local files."""
    if not storage.is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "model")
        Path(copy).write_bytes(storage.read_bytes(path))
        yield copy
