"""The detectors of a run and their model files: where they lie, and that they are what they should be."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pipeline import storage
from pipeline.config import RunConfig
from pipeline.errors import InputError, RunError
from pipeline.records import DetectorSettings

MEDIAPIPE, DLIB = "mediapipe", "dlib"
DETECTORS = (MEDIAPIPE, DLIB)

LANDMARKER_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
KNOWN_LANDMARKERS = {
    "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff": "float16, version 1",
}
"""sha256 of the model files of MediaPipe's Face Landmarker that the landmark map was fitted for."""

LANDMARKER_PARTS = ("face_detector.tflite", "face_landmarks_detector.tflite")
"""What is in a model file, which is a zip file."""

BUILT_IN_MODEL = "modules/face_landmark/face_landmark_with_attention.tflite"
"""Where mediapipe has FaceMesh's model, if it has."""
SEGMENTATION_MODEL = "modules/selfie_segmentation/selfie_segmentation.tflite"
"""Where mediapipe has the model that tells people from the background, if it has."""
DLIB_MODEL = "models/shape_predictor_68_face_landmarks.dat"
"""Where face_recognition_models has dlib's 68-point model."""

log = logging.getLogger("attparse")


def detector_settings(config: RunConfig) -> DetectorSettings:
    """Check the detectors that a run asks for, and their model files.

    Raises
    ------
    InputError
        If a detector is not known or not installed, or its model file is missing or no model.
    """
    names = tuple(config.detectors.split(","))
    for name in names:
        if name not in DETECTORS or names.count(name) > 1:
            raise InputError(f"--detectors {config.detectors!r}, expected some of {', '.join(DETECTORS)}, once each")
    for option, detector in (("landmarker", MEDIAPIPE), ("dlib_model", DLIB)):
        if getattr(config, option) is not None and detector not in names:
            raise InputError(f"--{option} is of no use without {detector} among --detectors ({config.detectors})")
    versions: dict[str, str] = {}
    if MEDIAPIPE in names or config.refine is not None:
        versions["mediapipe"] = importlib.metadata.version("mediapipe")
    if config.refine is not None:
        _check_segmentation_model()
    if MEDIAPIPE in names:
        if config.landmarker is None:
            _check_built_in_model()
        else:
            versions["landmarker"] = _landmarker_hash(config.landmarker)
    if DLIB in names:
        versions["dlib"] = _dlib_version()
        versions["dlib_model"] = _dlib_model_hash(dlib_model_path(config.dlib_model))
    return DetectorSettings(names, config.landmarker, config.dlib_model, versions)


def _check_segmentation_model() -> None:
    if not _in_mediapipe(SEGMENTATION_MODEL):
        version = importlib.metadata.version("mediapipe")
        raise InputError(
            f"--refine segmentation needs the model inside mediapipe 0.10.21, mediapipe {version} has none:"
            " install mediapipe 0.10.21 or leave --refine out"
        )


def _in_mediapipe(file: str) -> bool:
    folder = _package_folder("mediapipe")
    return folder is not None and (folder / file).is_file()


def _check_built_in_model() -> None:
    if not _in_mediapipe(BUILT_IN_MODEL):
        version = importlib.metadata.version("mediapipe")
        raise InputError(
            f"mediapipe {version} has no built-in model: install mediapipe 0.10.21, or give one with"
            f" --landmarker face_landmarker.task, which is to be had from {LANDMARKER_URL}"
        )


def _package_folder(package: str) -> Path | None:
    """Return the folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or not spec.submodule_search_locations else Path(spec.submodule_search_locations[0])


def _landmarker_hash(path: str) -> str:
    digest = _file_hash(path)
    try:
        with storage.open_read(path) as stream, zipfile.ZipFile(stream) as bundle:
            complete = set(LANDMARKER_PARTS) <= set(bundle.namelist())
    except zipfile.BadZipFile:
        complete = False
    if not complete:
        raise InputError(f"{path}: not a model of MediaPipe's Face Landmarker; it is to be had from {LANDMARKER_URL}")
    if digest not in KNOWN_LANDMARKERS:
        log.warning(
            "%s is not the model file that the landmark map was fitted for (sha256 %s...): its landmarks may be less"
            " accurate; the known one is %s",
            path, digest[:12], LANDMARKER_URL,
        )  # fmt: skip
    return digest


def _file_hash(path: str) -> str:
    with storage.explained(path, "a model file"):
        return storage.sha256_of(path)


def _dlib_version() -> str:
    if importlib.util.find_spec("dlib") is None:
        raise InputError("--detectors dlib needs the extra dlib: pip install -c constraints.txt '.[dlib]'")
    for distribution in ("dlib", "dlib-bin"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    raise InputError("dlib has no version, expected an installed package dlib or dlib-bin")


def _dlib_model_hash(path: str) -> str:
    from pipeline.detection import dlib_detector  # noqa: PLC0415 - an extra

    digest = _file_hash(path)
    dlib_detector.DlibLandmarks(path)
    return digest


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
        raise InputError("--detectors dlib needs a model file: --dlib_model F.dat, or the extra dlib, which has one")
    return str(folder / DLIB_MODEL)


def check_installed(settings: DetectorSettings) -> None:
    """Check that a worker has the libraries that the run was planned for.

    Raises
    ------
    RunError
        If it has another version of mediapipe.
    """
    expected = settings.versions.get(MEDIAPIPE)
    if expected is not None and (installed := importlib.metadata.version(MEDIAPIPE)) != expected:
        raise RunError(f"this worker has mediapipe {installed}, expected {expected}, as where the run was started")


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Give a local path to a file, remote or not, for libraries that read nothing else."""
    if not storage.is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "model")
        Path(copy).write_bytes(storage.read_bytes(path))
        yield copy
