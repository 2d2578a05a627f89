"""From the options of a run to the settings of its detectors, with every library and model file checked."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Mapping
from types import MappingProxyType

from pipeline.config import RunConfig
from pipeline.detection.detectors import DETECTORS, DLIB, MEDIAPIPE
from pipeline.detection.model_files import (
    BUILT_IN_MODEL,
    KNOWN_LANDMARKERS,
    LANDMARKER_URL,
    SEGMENTATION_MODEL,
    dlib_model_path,
    is_in_mediapipe,
    landmarker_hash,
    model_hash,
)
from pipeline.errors import InputError
from pipeline.records import DetectorSettings

DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType({"dlib": ("dlib", "dlib-bin")})
"""Distributions that may contain a library, where their names differ from its own."""

log = logging.getLogger("attparse")


def detector_settings(config: RunConfig) -> DetectorSettings:
    """Check the detectors that a run asks for, and their model files.

    Raises
    ------
    InputError
        If a detector is not known or not installed, or its model file is missing or not a model.
    """
    names = _detector_names(config)
    versions: dict[str, str] = {}
    if MEDIAPIPE in names or config.refine is not None:
        versions["mediapipe"] = importlib.metadata.version("mediapipe")
    if config.refine is not None:
        _check_segmentation_model()
    if MEDIAPIPE in names:
        if config.landmarker is None:
            _check_built_in_model()
        else:
            versions["landmarker"] = landmarker_hash(config.landmarker)
            _warn_of_unknown_landmarker(config.landmarker, versions["landmarker"])
    if DLIB in names:
        versions["dlib"] = _dlib_version()
        versions["dlib_model"] = _dlib_model_hash(dlib_model_path(config.dlib_model))
    return DetectorSettings(names, config.landmarker, config.dlib_model, versions)


def _detector_names(config: RunConfig) -> tuple[str, ...]:
    """Return the detectors in the order of ``--detectors``; each model file must belong to one of them."""
    names = tuple(config.detectors.split(","))
    for name in names:
        if name not in DETECTORS or names.count(name) > 1:
            raise InputError(f"--detectors {config.detectors!r}, expected some of {', '.join(DETECTORS)}, once each")
    for option, detector in (("landmarker", MEDIAPIPE), ("dlib_model", DLIB)):
        if getattr(config, option) is not None and detector not in names:
            raise InputError(f"--{option} has no effect without {detector} among --detectors ({config.detectors})")
    return names


def _check_segmentation_model() -> None:
    if not is_in_mediapipe(SEGMENTATION_MODEL):
        version = importlib.metadata.version("mediapipe")
        raise InputError(
            f"--refine segmentation needs the model inside mediapipe 0.10.21, mediapipe {version} has none:"
            " install mediapipe 0.10.21 or leave out --refine"
        )


def _check_built_in_model() -> None:
    if not is_in_mediapipe(BUILT_IN_MODEL):
        version = importlib.metadata.version("mediapipe")
        raise InputError(
            f"mediapipe {version} has no built-in model: install mediapipe 0.10.21, or pass a model file with"
            f" --landmarker face_landmarker.task (download it from {LANDMARKER_URL})"
        )


def _warn_of_unknown_landmarker(path: str, digest: str) -> None:
    if digest not in KNOWN_LANDMARKERS:
        log.warning(
            "%s is not the model file that the landmark map was fitted for (sha256 %s...), so its landmarks may be less"
            " accurate; download the known one from %s",
            path, digest[:12], LANDMARKER_URL,
        )  # fmt: skip


def library_version(name: str) -> str | None:
    """Return the version of an installed library, None where it is not installed."""
    for distribution in DISTRIBUTIONS.get(name, (name,)):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return None


def _dlib_version() -> str:
    if importlib.util.find_spec("dlib") is None:
        raise InputError("--detectors dlib needs the extra dlib: pip install -c constraints.txt -e '.[dlib]'")
    version = library_version("dlib")
    if version is None:
        raise InputError("dlib has no version, expected the installed package dlib or dlib-bin")
    return version


def _dlib_model_hash(path: str) -> str:
    """Return the hash of a model file after opening the model."""
    from pipeline.detection import dlib_detector  # noqa: PLC0415 - an extra

    digest = model_hash(path)
    dlib_detector.DlibLandmarks(path).close()
    return digest
